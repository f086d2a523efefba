//! The command line of the load generator.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::scale::{PARTS, Size};
use crate::server::{Contender, DURABLE_PEERS, PEERS};

pub const HELP: &str = "\
cargo bench --bench load -- [WORK]… [OPTION]…

WORK      all (the default): post | deliver | paced | search | memory | connects | back | start; not among all:
          growth: CPU a delivery of an ordercast by subscribers, orders a second and fan-out threads
          limits: the cost of sends without a server on this machine
          scale:  an ordercast with a million orders, or as many as the options say
          peers:  all work, on ordercast and every peer in turn, three rounds

--quick               shorter runs and fewer of them, in under a minute
--server NAME         ordercast (the default) | bun | axum | nchan | ws | fastify; may be repeated; edge: an ordercast
                      that follows another one, at which orders are posted; for post: bun-sqlite | axum-sqlite |
                      fastify-sqlite, which keep each order on the disk
--edges N             so many edges of that one, with all subscribers at the first (default: 1)
--command LINE        a server that prints 'listening on http://ADDRESS'; {catalog} stands for a catalogue file,
                      {room} for a folder that it may use; may be repeated
--rounds N            rounds, each on all servers in turn; the table gives medians
--json FILE           where to write every figure (default: load.json in the target folder's tmp)
--markdown FILE       where to write the table of medians
--data-root FOLDER    where ordercast keeps its data (default: the target folder's tmp)
--subscribers N,…     for deliver, paced, search, memory, connects and back
--rates N,…           orders a second for deliver and paced; max is as fast as possible
--posters N,…         connections that post
--keys                for post: each order has a random key of its own; without it the default has rows of both
--kept-keys N         for post with --keys: so many other keys are kept already; for scale: so many of the orders have one
--fanout-threads N,…  for growth: with 1,000 subscribers, and these alone unless --subscribers is given too
--svg FILE            for growth: where to draw it, beside a CSV file of the figures, of which only those that are
                      measured change; with --rounds 0 it is drawn again
--orders N            for scale, also --products N and --categories N
--parts NAME,…        for scale: start | post | snapshot | log | resume | tools (default: all)
--room FOLDER         for scale: keeps the data there, and uses what is there (default: made anew, and removed)
--every MS            the interval of the feed for paced (default: 100)
--seconds S           length of each measured run
--scrape              read /metrics once a second during each run of post, deliver, paced and search
--limit MS            the highest p99 that search allows
--max-resident KB     memory fails when an idle subscriber takes more resident memory of the server
";

/// What to measure, and how.
#[derive(Default)]
pub struct Options {
    pub works: Vec<String>,
    pub peers: bool,
    pub bare_sends: bool,
    pub help: bool,
    pub quick: bool,
    pub contenders: Vec<Contender>,
    pub rounds: Option<u32>,
    pub json: Option<PathBuf>,
    pub markdown: Option<PathBuf>,
    pub subscribers: Option<Vec<usize>>,
    pub rates: Option<Vec<Option<f64>>>,
    pub posters: Option<Vec<usize>>,
    pub fanout_threads: Option<Vec<usize>>,
    pub svg: Option<PathBuf>,
    pub keys: bool,
    pub kept_keys: Option<usize>,
    pub size: Size,
    /// Of the work `scale`; empty for all.
    pub parts: Vec<String>,
    pub room: Option<PathBuf>,
    /// Milliseconds between two messages of a product.
    pub every: Option<u64>,
    pub seconds: Option<Duration>,
    pub scrape: bool,
    pub p99_limit: Option<Duration>,
    /// Resident KB of an idle subscriber.
    pub max_resident: Option<f64>,
}

/// All work.
pub const WORKS: [&str; 8] = ["post", "deliver", "paced", "search", "memory", "connects", "back", "start"];

/// The work that is done only if it is named.
const SCALE: &str = "scale";

impl Options {
    /// Reads the arguments of the process.
    pub fn parse() -> Result<Self, lexopt::Error> {
        let mut options = Self::default();
        let mut names = Vec::new();
        let (mut data_root, mut edges) = (None, 1);
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("quick") => options.quick = true,
                Long("server") => names.push(parser.value()?.string()?),
                Long("command") => {
                    let line = parser.value()?.string()?;
                    options.contenders.push(Contender::command_line(&line));
                }
                Long("rounds") => options.rounds = Some(parser.value()?.parse()?),
                Long("json") => options.json = Some(parser.value()?.into()),
                Long("markdown") => options.markdown = Some(parser.value()?.into()),
                Long("every") => options.every = Some(parser.value()?.parse()?),
                Long("edges") => edges = parser.value()?.parse()?,
                Long("data-root") => data_root = Some(parser.value()?.into()),
                Long("subscribers") => options.subscribers = Some(list(&mut parser, count)?),
                Long("rates") => options.rates = Some(list(&mut parser, rate)?),
                Long("posters") => options.posters = Some(list(&mut parser, count)?),
                Long("seconds") => options.seconds = Some(duration(&mut parser, 1.0)?),
                Long("fanout-threads") => options.fanout_threads = Some(list(&mut parser, count)?),
                Long("svg") => options.svg = Some(parser.value()?.into()),
                Long("keys") => options.keys = true,
                Long("kept-keys") => options.kept_keys = Some(parser.value()?.parse()?),
                Long("orders") => options.size.orders = parser.value()?.parse()?,
                Long("products") => options.size.products = parser.value()?.parse()?,
                Long("categories") => options.size.categories = parser.value()?.parse()?,
                Long("parts") => options.parts = list(&mut parser, part)?,
                Long("room") => options.room = Some(parser.value()?.into()),
                Long("scrape") => options.scrape = true,
                Long("limit") => options.p99_limit = Some(duration(&mut parser, 1e-3)?),
                Long("max-resident") => options.max_resident = Some(parser.value()?.parse()?),
                Long("help") | Short('h') => options.help = true,
                // Cargo passes this to every benchmark.
                Long("bench") => {}
                Value(work) => options.work(&work.string()?)?,
                _ => return Err(argument.unexpected()),
            }
        }
        if options.peers {
            names = ["ordercast"].iter().chain(&PEERS).chain(&DURABLE_PEERS).map(ToString::to_string).collect();
        } else if names.is_empty() && options.contenders.is_empty() {
            names.push("ordercast".into());
        }
        for name in names {
            options.contenders.push(match name.as_str() {
                "ordercast" => Contender::ordercast(data_root.clone()),
                "edge" => Contender::edges(Contender::ordercast(data_root.clone()), edges),
                peer => Contender::peer(peer).ok_or(format!("there is no server '{peer}'"))?,
            });
        }
        if options.works.is_empty() && !options.bare_sends {
            options.works = WORKS.map(String::from).to_vec();
        }
        if options.peers {
            // No peer has intervals, and peers choose their own ports and forget their totals.
            options.works.retain(|work| work != "paced" && work != "back");
        }
        let has = |name: &str| options.works.iter().any(|work| work == name);
        if options.kept_keys.is_some() && !options.keys && !has(SCALE) {
            return Err("--kept-keys needs --keys, or the work 'scale'".into());
        }
        options.size.keys = options.kept_keys.unwrap_or(options.size.keys).min(options.size.orders);
        if !(1..=options.size.products).contains(&options.size.categories) {
            return Err("each category has a product at least".into());
        }
        if (has("growth") || has(SCALE)) && options.contenders.iter().any(Contender::is_peer) {
            return Err("the works 'growth' and 'scale' are for ordercast alone".into());
        }
        if options.svg.is_some() && !has("growth") {
            return Err("--svg needs the work 'growth'".into());
        }
        if options.svg.is_some() && options.contenders.len() > 1 {
            return Err("--svg draws one server".into());
        }
        if options.max_resident.is_some() && !has("memory") {
            return Err("--max-resident needs the work 'memory'".into());
        }
        Ok(options)
    }

    fn work(&mut self, work: &str) -> Result<(), lexopt::Error> {
        match work {
            "all" => self.works.extend(WORKS.map(String::from)),
            "peers" => self.peers = true,
            "limits" => self.bare_sends = true,
            _ if work == "growth" || work == SCALE || WORKS.contains(&work) => self.works.push(work.into()),
            _ => return Err(format!("there is no work '{work}'").into()),
        }
        Ok(())
    }
}

fn list<T>(parser: &mut lexopt::Parser, item: fn(&str) -> Option<T>) -> Result<Vec<T>, lexopt::Error> {
    let text = parser.value()?.string()?;
    let items: Option<Vec<T>> = text.split(',').map(item).collect();
    items.ok_or_else(|| format!("'{text}' is not a list of these, or not of positive numbers").into())
}

fn count(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| *count > 0)
}

fn part(text: &str) -> Option<String> {
    PARTS.contains(&text).then(|| text.into())
}

fn rate(text: &str) -> Option<Option<f64>> {
    if text == "max" {
        return Some(None);
    }
    text.parse().ok().filter(|rate| *rate > 0.0).map(Some)
}

fn duration(parser: &mut lexopt::Parser, unit: f64) -> Result<Duration, lexopt::Error> {
    let number: f64 = parser.value()?.parse()?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string().into())
}
