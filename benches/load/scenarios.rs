//! The pieces of work: what each puts on a server, and which figures it takes.

use std::thread;
use std::time::{Duration, Instant};

use crate::connect::{self, Until};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::procfs;
use crate::report::{self, Figure, Row};
use crate::run::{self, Load, Outcome};
use crate::server::{Contender, Server};

/// Connections that post in paced runs: so many that answers of some ten milliseconds do not slow the pace.
const MAX_POSTERS: usize = 64;
/// Orders a second per connection at which fewer of them do.
const RATE_PER_POSTER: f64 = 10.0;
/// Connections that post as fast as possible while subscribers read.
const UNPACED_POSTERS: usize = 16;
/// The receive buffer of subscribers in unpaced runs: the kernel's own would hide megabytes of lag.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// Time for a server to come to rest before memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// Products in the catalogue where their number does not matter, as in the built-in one.
const FEW_PRODUCTS: usize = 2;

/// One piece of work.
pub enum Work {
    Post { posters: usize },
    Deliver { subscribers: usize, rate: Option<f64> },
    Search { subscribers: usize, limit: Duration },
    Memory { sizes: Vec<usize> },
    Connects { count: usize },
    Start { times: usize },
}

/// The pieces that the options ask for.
pub fn works(options: &Options) -> Vec<Work> {
    let quick = options.quick;
    let pick = |full: &[usize], short: &[usize]| if quick { short.to_vec() } else { full.to_vec() };
    let subscribers =
        |full: &[usize], short: &[usize]| options.subscribers.clone().unwrap_or_else(|| pick(full, short));
    let mut works = Vec::new();
    for name in &options.works {
        match name.as_str() {
            "post" => {
                let posters = options.posters.clone().unwrap_or_else(|| pick(&[1, 16, 64], &[1, 64]));
                works.extend(posters.into_iter().map(|posters| Work::Post { posters }));
            }
            "deliver" => {
                let paced = [Some(50.0), Some(200.0), Some(2_000.0), None];
                let short = [Some(200.0), None];
                let default = if quick { short.to_vec() } else { paced.to_vec() };
                let rates = options.rates.clone().unwrap_or(default);
                for subscribers in subscribers(&[100, 1_000], &[1_000]) {
                    works.extend(rates.iter().map(|rate| Work::Deliver { subscribers, rate: *rate }));
                }
            }
            "search" => works.extend(subscribers(&[100, 1_000], &[1_000]).into_iter().map(|subscribers| {
                let few = Duration::from_millis(10);
                let many = Duration::from_millis(50);
                let default = if subscribers > 100 { many } else { few };
                Work::Search { subscribers, limit: options.limit.unwrap_or(default) }
            })),
            "memory" => {
                works.push(Work::Memory { sizes: subscribers(&[1_000, 5_000, 10_000], &[1_000]) });
            }
            "connects" => {
                works.extend(subscribers(&[5_000], &[2_000]).into_iter().map(|count| Work::Connects { count }))
            }
            _ => works.push(Work::Start { times: if quick { 3 } else { 11 } }),
        }
    }
    works
}

/// Does one piece of work on a server of its own.
pub fn perform(work: &Work, contender: &Contender, options: &Options, round: u32) -> Vec<Row> {
    let row = |work: String, result: Result<Figures, String>| {
        let (figures, faults) = match result {
            Ok(Figures { figures, faults }) => (figures, faults),
            Err(error) => (Vec::new(), vec![error]),
        };
        Row { server: contender.name.clone(), round, work, figures, faults }
    };
    match work {
        Work::Post { posters } => {
            vec![row(format!("POST, {posters} posters"), post(contender, *posters, options))]
        }
        Work::Deliver { subscribers, rate } => {
            let pace = rate.map_or("flat out".into(), |rate| format!("{rate} orders/s"));
            let result = deliver(contender, *subscribers, *rate, options);
            vec![row(format!("{subscribers} subscribers, {pace}"), result)]
        }
        Work::Search { subscribers, limit } => {
            let name = format!("{subscribers} subscribers, p99 under {} ms", limit.as_millis());
            vec![row(name, crate::search::highest_rate(contender, *subscribers, *limit, options))]
        }
        Work::Memory { sizes } => match memory(contender, sizes) {
            Ok(all) => {
                all.into_iter().map(|(size, figures)| row(format!("{size} idle subscribers"), Ok(figures))).collect()
            }
            Err(error) => vec![row("idle subscribers".into(), Err(error))],
        },
        Work::Connects { count } => {
            vec![row(format!("{count} connects"), connects(contender, *count))]
        }
        Work::Start { times } => vec![row("start".into(), start(contender, *times))],
    }
}

/// Figures, and what was wrong while they were taken.
#[derive(Default)]
pub struct Figures {
    pub figures: Vec<(&'static Figure, f64)>,
    pub faults: Vec<String>,
}

impl Figures {
    /// Adds one.
    pub fn push(&mut self, figure: &'static Figure, value: f64) {
        self.figures.push((figure, value));
    }

    /// Adds those shares of the samples, in milliseconds, if there are any.
    pub fn quantiles(&mut self, histogram: &Histogram, wanted: &[(&'static Figure, f64)]) {
        for (figure, share) in wanted {
            if let Some(value) = histogram.quantile(*share) {
                self.push(figure, milliseconds(value));
            }
        }
    }

    /// The figures of a run with subscribers.
    fn of_delivery(outcome: Outcome) -> Self {
        let mut figures = Self { figures: Vec::new(), faults: outcome.faults };
        let seconds = outcome.window.as_secs_f64();
        let deliveries = outcome.deliveries as f64;
        figures.push(&report::DELIVERIES, deliveries / seconds);
        let latency = &outcome.seen.latency;
        figures.quantiles(latency, &[(&report::DELIVERY_P50, 0.5), (&report::DELIVERY_P99, 0.99)]);
        if let Some(max) = latency.max() {
            figures.push(&report::DELIVERY_MAX, milliseconds(max));
        }
        let posted = &outcome.posted;
        figures.push(&report::ACCEPTED, posted.latency.count() as f64 / seconds);
        figures.quantiles(&posted.latency, &[(&report::POST_P50, 0.5), (&report::POST_P99, 0.99)]);
        figures.push(&report::REFUSED, posted.refused as f64);
        if outcome.deliveries > 0 {
            figures.push(&report::CPU_PER_MILLION, outcome.server_cpu * 1e6 / deliveries);
        }
        figures.push(&report::GENERATOR_CPU, outcome.generator_cpu * 100.0 / seconds);
        figures.push(&report::OTHERS_CPU, outcome.others_cpu * 100.0 / seconds);
        let seen = &outcome.seen;
        let all = (seen.delivered + seen.skipped).max(1) as f64;
        figures.push(&report::SKIPPED, seen.skipped as f64 * 100.0 / all);
        figures.push(&report::SETTLED, milliseconds(seen.settled));
        let memory = &outcome.memory;
        figures.push(&report::RESIDENT_MAX, megabytes(memory.resident_max));
        figures.push(&report::RESIDENT_END, megabytes(memory.resident_end));
        figures.push(&report::TCP_MAX, megabytes(memory.tcp_max));
        figures.push(&report::TCP_END, megabytes(memory.tcp_end));
        figures.push(&report::THREADS, memory.threads as f64);
        figures
    }
}

fn post(contender: &Contender, posters: usize, options: &Options) -> Result<Figures, String> {
    let mut server = Server::start(contender, posters)?;
    let load = Load {
        subscribers: 0,
        posters,
        pace: None,
        warm_up: warm_up(options),
        measured: measured(options),
        receive_buffer: None,
    };
    let outcome = run::run(&mut server, &load)?;
    let mut figures = Figures { figures: Vec::new(), faults: outcome.faults };
    let latency = &outcome.posted.latency;
    let seconds = load.measured.as_secs_f64();
    figures.push(&report::ORDERS, latency.count() as f64 / seconds);
    figures.quantiles(latency, &[(&report::POST_P50, 0.5), (&report::POST_P99, 0.99)]);
    let orders = latency.count().max(1) as f64;
    figures.push(&report::CPU_PER_ORDER, outcome.server_cpu * 1e6 / orders);
    figures.push(&report::GENERATOR_CPU, outcome.generator_cpu * 100.0 / seconds);
    figures.push(&report::OTHERS_CPU, outcome.others_cpu * 100.0 / seconds);
    figures.push(&report::REFUSED, outcome.posted.refused as f64);
    Ok(figures)
}

fn deliver(contender: &Contender, subscribers: usize, rate: Option<f64>, options: &Options) -> Result<Figures, String> {
    let load = paced(subscribers, rate, options);
    let mut server = Server::start(contender, load.posters)?;
    run::run(&mut server, &load).map(Figures::of_delivery)
}

/// The load of a run with subscribers at `rate`.
pub fn paced(subscribers: usize, rate: Option<f64>, options: &Options) -> Load {
    let given = options.posters.as_ref().and_then(|posters| posters.first());
    let default = match rate {
        Some(rate) => ((rate / RATE_PER_POSTER) as usize).clamp(4, MAX_POSTERS),
        None => UNPACED_POSTERS,
    };
    Load {
        subscribers,
        posters: given.copied().unwrap_or(default),
        pace: rate,
        warm_up: warm_up(options),
        measured: measured(options),
        receive_buffer: rate.is_none().then_some(RECEIVE_BUFFER),
    }
}

fn memory(contender: &Contender, sizes: &[usize]) -> Result<Vec<(usize, Figures)>, String> {
    let server = Server::start(contender, FEW_PRODUCTS)?;
    thread::sleep(SETTLE);
    let before = procfs::resident(server.pids());
    let kernel_before = procfs::kernel();
    let mut feeds = Vec::new();
    let mut all = Vec::new();
    for size in sizes {
        let more = size.saturating_sub(feeds.len());
        let path = server.feed_path();
        feeds.extend(connect::subscribe(server.address, &path, more, None, Until::Upgraded)?);
        thread::sleep(SETTLE);
        let resident = procfs::resident(server.pids());
        let kernel = procfs::kernel();
        let each = |now: u64, then: u64| (now as f64 - then as f64) / 1024.0 / *size as f64;
        let mut figures = Figures::default();
        figures.push(&report::RESIDENT_EACH, each(resident, before));
        figures.push(&report::STACKS_EACH, each(kernel.stacks, kernel_before.stacks));
        figures.push(&report::PAGE_TABLES_EACH, each(kernel.page_tables, kernel_before.page_tables));
        figures.push(&report::SLAB_EACH, each(kernel.slab, kernel_before.slab));
        figures.push(&report::TCP_END, megabytes(kernel.tcp));
        figures.push(&report::THREADS, procfs::threads(server.pids()) as f64);
        all.push((*size, figures));
    }
    Ok(all)
}

fn connects(contender: &Contender, count: usize) -> Result<Figures, String> {
    let mut server = Server::start(contender, FEW_PRODUCTS)?;
    let path = server.feed_path();
    if !contender.tallies() {
        // A relay has something to say to a new subscriber only when something has been posted.
        let once = Duration::from_millis(10);
        let load = Load { subscribers: 0, posters: 1, measured: once, ..paced(0, None, &Options::default()) };
        run::run(&mut server, &load)?;
    }
    let cpu = procfs::cpu(server.pids());
    let began = Instant::now();
    let feeds = connect::subscribe(server.address, &path, count, None, Until::FirstMessage)?;
    let elapsed = began.elapsed().as_secs_f64();
    let mut figures = Figures::default();
    figures.push(&report::CONNECTS, feeds.len() as f64 / elapsed);
    figures.push(&report::CPU_PER_CONNECT, (procfs::cpu(server.pids()) - cpu) * 1e6 / count as f64);
    drop(feeds);
    // The server must have survived all of them leaving at once.
    connect::subscribe(server.address, &path, 1, None, Until::FirstMessage)?;
    Ok(figures)
}

fn start(contender: &Contender, times: usize) -> Result<Figures, String> {
    let first = Server::start(contender, FEW_PRODUCTS)?;
    let first_start = first.start;
    let mut room = first.stop();
    let mut starts = Histogram::default();
    let mut resident = 0;
    for _ in 0..times {
        let Some(used) = room else { break };
        let server = Server::start_in(contender, used)?;
        starts.record(server.start.as_nanos() as u64);
        thread::sleep(SETTLE / 5);
        resident = procfs::resident(server.pids());
        room = server.stop();
    }
    let mut figures = Figures::default();
    figures.quantiles(&starts, &[(&report::START, 0.5)]);
    figures.push(&report::FIRST_START, milliseconds(first_start));
    figures.push(&report::IDLE, megabytes(resident));
    if let Some(bytes) = contender.footprint() {
        figures.push(&report::FOOTPRINT, megabytes(bytes));
    }
    Ok(figures)
}

fn warm_up(options: &Options) -> Duration {
    Duration::from_millis(if options.quick { 300 } else { 1_000 })
}

fn measured(options: &Options) -> Duration {
    let default = Duration::from_secs(if options.quick { 1 } else { 4 });
    options.seconds.unwrap_or(default)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
