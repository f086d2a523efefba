//! The pieces of work: the load of each, and the figures taken.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::bare_sends;
use crate::bare_syncs;
use crate::connect::{self, Until};
use crate::figures::{self, Measurement, megabytes, milliseconds};
use crate::growth;
use crate::histogram::Histogram;
use crate::keys;
use crate::load::Load;
use crate::options::Options;
use crate::procfs;
use crate::report::Row;
use crate::run::{self, Outcome};
use crate::scale::{self, Size};
use crate::search;
use crate::server::{Contender, Server};

/// Time between the last request and reading a server's memory, for work that it does afterwards.
const REST: Duration = Duration::from_millis(500);
/// The interval of the web app's feeds, in milliseconds.
const EVERY: u64 = 100;
/// Orders a second beside it: enough for several of each product in an interval.
const PACED_RATE: f64 = 5_000.0;
/// Products in the catalogue where their number does not matter, as in the built-in catalogue.
const FEW_PRODUCTS: usize = 2;

/// How long the bare sends beside a delivery run are measured, at most.
const BARE_SENDS: Duration = Duration::from_secs(2);
/// The same of each kind of write to the disk beside one poster.
const BARE_SYNCS: Duration = Duration::from_secs(1);

/// One piece of work.
pub enum Work {
    /// With `keys`, each order has a random key of its own, and `kept_keys` others are kept already.
    Post {
        posters: usize,
        keys: bool,
        kept_keys: usize,
    },
    /// With `every`, the feed has that interval in milliseconds.
    Deliver {
        subscribers: usize,
        rate: Option<f64>,
        every: Option<u64>,
    },
    /// As `Deliver`, for the drawing, without bare sends.
    Growth(growth::Cell),
    Search {
        subscribers: usize,
        limit: Duration,
    },
    Memory {
        counts: Vec<usize>,
    },
    Connects {
        count: usize,
    },
    Back {
        count: usize,
    },
    Start {
        times: usize,
    },
    Scale {
        size: Size,
    },
}

/// The work that the options ask for.
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
                let (keys, kept_keys) = (options.keys, options.kept_keys.unwrap_or(0));
                works.extend(posters.into_iter().map(|posters| Work::Post { posters, keys, kept_keys }));
                // No peer has keys.
                if options.posters.is_none() && !keys && !quick && !options.peers {
                    works.extend([16, 64].map(|posters| Work::Post { posters, keys: true, kept_keys }));
                }
            }
            "deliver" => {
                let paced = [Some(50.0), Some(200.0), Some(2_000.0), None];
                let short = [Some(200.0), None];
                let default = if quick { short.to_vec() } else { paced.to_vec() };
                let rates = options.rates.clone().unwrap_or(default);
                for subscribers in subscribers(&[100, 1_000], &[1_000]) {
                    works.extend(rates.iter().map(|rate| Work::Deliver { subscribers, rate: *rate, every: None }));
                }
            }
            "paced" => {
                let rates = options.rates.clone().unwrap_or_else(|| vec![Some(PACED_RATE)]);
                // What the orders alone cost.
                works.extend(rates.iter().map(|rate| Work::Deliver { subscribers: 0, rate: *rate, every: None }));
                for subscribers in subscribers(&[1_000], &[1_000]) {
                    let both = |rate: &Option<f64>| {
                        [None, Some(options.every.unwrap_or(EVERY))].map(|every| Work::Deliver {
                            subscribers,
                            rate: *rate,
                            every,
                        })
                    };
                    works.extend(rates.iter().flat_map(both));
                }
            }
            "growth" => works.extend(growth::cells(options).into_iter().map(Work::Growth)),
            "search" => works.extend(subscribers(&[100, 1_000], &[1_000]).into_iter().map(|subscribers| {
                let few = Duration::from_millis(10);
                let many = Duration::from_millis(50);
                let default = if subscribers > 100 { many } else { few };
                Work::Search { subscribers, limit: options.p99_limit.unwrap_or(default) }
            })),
            "memory" => {
                works.push(Work::Memory { counts: subscribers(&[1_000, 5_000, 10_000], &[1_000]) });
            }
            "connects" => {
                works.extend(subscribers(&[5_000], &[2_000]).into_iter().map(|count| Work::Connects { count }))
            }
            "back" => works.extend(subscribers(&[5_000], &[2_000]).into_iter().map(|count| Work::Back { count })),
            "scale" => works.push(Work::Scale { size: options.size.clone() }),
            _ => works.push(Work::Start { times: if quick { 3 } else { 11 } }),
        }
    }
    works
}

/// Does one piece of work on a new server.
pub fn perform(work: &Work, contender: &Contender, options: &Options, round: u32) -> Vec<Row> {
    let row = |work: String, result: Result<Measurement, String>| {
        let failed = |error| Measurement { figures: Vec::new(), faults: vec![error] };
        Row { server: contender.name.clone(), round, work, measurement: result.unwrap_or_else(failed) }
    };
    match work {
        Work::Post { posters, keys, kept_keys } => {
            let kept = if *kept_keys > 0 { format!(", {kept_keys} kept") } else { String::new() };
            let with_keys = if *keys { format!(", with keys{kept}") } else { String::new() };
            let load = Load { keys: *keys, ..Load::of_posters(*posters, options) };
            vec![row(format!("POST, {posters} posters{with_keys}"), post(contender, &load, *kept_keys))]
        }
        Work::Deliver { subscribers, rate, every } => {
            let orders = rate.map_or("flat out".into(), |rate| format!("{rate} orders/s"));
            let interval = every.map(|every| format!(", every={every}")).unwrap_or_default();
            let load = Load { every: *every, ..Load::with_subscribers(*subscribers, *rate, options) };
            vec![row(format!("{subscribers} subscribers, {orders}{interval}"), deliver(contender, &load, true))]
        }
        Work::Growth(cell) => {
            let orders = cell.rate.map_or("flat out".into(), |rate| format!("{rate} orders/s"));
            let threads = cell.threads.map(|threads| format!(", {threads} fan-out threads")).unwrap_or_default();
            let load = Load::of_growth(cell.subscribers, cell.rate, options);
            let contender = contender.with_fanout_threads(cell.threads);
            let name = format!("{} subscribers, {orders}{threads}", cell.subscribers);
            vec![row(name, deliver(&contender, &load, false))]
        }
        Work::Search { subscribers, limit } => {
            let name = format!("{subscribers} subscribers, p99 under {} ms", limit.as_millis());
            vec![row(name, search::highest_rate(contender, *subscribers, *limit, options))]
        }
        Work::Memory { counts } => match memory(contender, counts, options.max_resident) {
            Ok(all) => (all.into_iter())
                .map(|(count, measurement)| row(format!("{count} idle subscribers"), Ok(measurement)))
                .collect(),
            Err(error) => vec![row("idle subscribers".into(), Err(error))],
        },
        Work::Connects { count } => {
            vec![row(format!("{count} connects"), connects(contender, *count))]
        }
        Work::Back { count } => vec![row(format!("{count} boards back after a restart"), back(contender, *count))],
        Work::Scale { size } => match scale::measure(contender, size, options) {
            Ok(all) => all.into_iter().map(|(work, measurement)| row(work, Ok(measurement))).collect(),
            Err(error) => vec![row(format!("{size}"), Err(error))],
        },
        Work::Start { times } => vec![row("start".into(), start(contender, *times))],
    }
}

fn post(contender: &Contender, load: &Load, kept_keys: usize) -> Result<Measurement, String> {
    let mut server = Server::start(contender, load.posters)?;
    keys::fill(&mut server, kept_keys, kept_keys)?;
    let outcome = run::run(&mut server, load)?;
    let latency = &outcome.posted.latency;
    let seconds = load.measured.as_secs_f64();
    let orders = latency.count().max(1) as f64;
    let mut measurement = Measurement { figures: Vec::new(), faults: outcome.faults };
    measurement.push(&figures::ORDERS, latency.count() as f64 / seconds);
    measurement.quantiles(latency, &[(&figures::POST_P50, 0.5), (&figures::POST_P99, 0.99)]);
    measurement.push(&figures::CPU_PER_ORDER, outcome.server_cpu * 1e6 / orders);
    measurement.push(&figures::GENERATOR_CPU, outcome.generator_cpu * 100.0 / seconds);
    measurement.push(&figures::OTHERS_CPU, outcome.others_cpu * 100.0 / seconds);
    measurement.push(&figures::REJECTED, outcome.posted.rejected as f64);
    if let (1, false, Some(p50)) = (load.posters, load.keys, latency.quantile(0.5)) {
        // Where its data was, and when it does not write any more.
        let room = server.stop().ok_or("the server has no folder")?;
        beside_bare_syncs(&mut measurement, p50, room.path(), load.measured.min(BARE_SYNCS))?;
    }
    Ok(measurement)
}

/// What the same bytes take on the same disk without a server.
fn beside_bare_syncs(
    measurement: &mut Measurement,
    p50: Duration,
    folder: &Path,
    measured: Duration,
) -> Result<(), String> {
    let bare = bare_syncs::measure(folder, measured).map_err(|error| format!("bare writes: {error}"))?;
    measurement.quantiles(&bare.append, &[(&figures::APPEND_P50, 0.5), (&figures::APPEND_P99, 0.99)]);
    measurement.quantiles(&bare.write_over, &[(&figures::WRITE_OVER_P50, 0.5), (&figures::WRITE_OVER_P99, 0.99)]);
    for (figure, times) in [(&figures::BESIDE_APPEND, &bare.append), (&figures::BESIDE_WRITE_OVER, &bare.write_over)] {
        if let Some(bare) = times.quantile(0.5) {
            measurement.push(figure, p50.as_secs_f64() / bare.as_secs_f64());
        }
    }
    Ok(())
}

/// With `bare`, beside as many sends without a server.
fn deliver(contender: &Contender, load: &Load, bare: bool) -> Result<Measurement, String> {
    let mut server = Server::start(contender, load.posters)?;
    let Outcome {
        posted,
        seen,
        memory,
        window,
        deliveries,
        faults,
        server_cpu,
        followed_cpu,
        generator_cpu,
        others_cpu,
    } = run::run(&mut server, load)?;
    let seconds = window.as_secs_f64();
    let mut measurement = Measurement { figures: Vec::new(), faults };
    measurement.push(&figures::DELIVERIES, deliveries as f64 / seconds);
    measurement.quantiles(&seen.latency, &[(&figures::DELIVERY_P50, 0.5), (&figures::DELIVERY_P99, 0.99)]);
    if let Some(max) = seen.latency.max() {
        measurement.push(&figures::DELIVERY_MAX, milliseconds(max));
    }
    measurement.push(&figures::ACCEPTED, posted.latency.count() as f64 / seconds);
    measurement.quantiles(&posted.latency, &[(&figures::POST_P50, 0.5), (&figures::POST_P99, 0.99)]);
    measurement.push(&figures::REJECTED, posted.rejected as f64);
    if deliveries > 0 {
        let per_million = server_cpu * 1e6 / deliveries as f64;
        measurement.push(&figures::CPU_PER_MILLION, per_million);
        if let (Some(rate), None, true) = (load.rate, load.every, bare) {
            let bare = bare_sends::paced(load.subscribers, rate, load.measured.min(BARE_SENDS));
            let bare = bare.map_err(|error| format!("bare sends: {error}"))?;
            measurement.push(&figures::BARE_PER_MILLION, bare);
            measurement.push(&figures::BESIDE_BARE, per_million / bare);
        }
    }
    measurement.push(&figures::SERVER_CPU, server_cpu * 100.0 / seconds);
    if let Some(cpu) = followed_cpu {
        measurement.push(&figures::FOLLOWED_CPU, cpu * 100.0 / seconds);
    }
    measurement.push(&figures::GENERATOR_CPU, generator_cpu * 100.0 / seconds);
    measurement.push(&figures::OTHERS_CPU, others_cpu * 100.0 / seconds);
    let totals = (seen.delivered + seen.skipped).max(1) as f64;
    measurement.push(&figures::SKIPPED, seen.skipped as f64 * 100.0 / totals);
    measurement.push(&figures::EXACT_AFTER, milliseconds(seen.exact_after));
    measurement.push(&figures::RESIDENT_MAX, megabytes(memory.resident_max));
    measurement.push(&figures::RESIDENT_END, megabytes(memory.resident_end));
    measurement.push(&figures::TCP_MAX, megabytes(memory.tcp_max));
    measurement.push(&figures::TCP_END, megabytes(memory.tcp_end));
    measurement.push(&figures::THREADS, memory.threads as f64);
    Ok(measurement)
}

/// Opens subscribers up to each of `counts`. Resident memory above `max_resident` KB a subscriber is a fault, and so is
/// a figure that is not positive: then nothing was measured.
fn memory(
    contender: &Contender,
    counts: &[usize],
    max_resident: Option<f64>,
) -> Result<Vec<(usize, Measurement)>, String> {
    let server = Server::start(contender, FEW_PRODUCTS)?;
    thread::sleep(REST);
    let resident_before = procfs::resident(server.pids());
    let kernel_before = procfs::kernel_memory();
    let mut feeds = Vec::new();
    let mut all = Vec::new();
    for count in counts {
        let more = count.saturating_sub(feeds.len());
        let path = server.feed_path();
        feeds.extend(connect::subscribe(server.address, &path, more, None, Until::Upgraded)?);
        thread::sleep(REST);
        let kernel = procfs::kernel_memory();
        let each = |now: u64, before: u64| (now as f64 - before as f64) / 1024.0 / *count as f64;
        let resident = each(procfs::resident(server.pids()), resident_before);
        let mut measurement = Measurement::default();
        measurement.push(&figures::RESIDENT_EACH, resident);
        measurement.push(&figures::STACKS_EACH, each(kernel.stacks, kernel_before.stacks));
        measurement.push(&figures::PAGE_TABLES_EACH, each(kernel.page_tables, kernel_before.page_tables));
        measurement.push(&figures::SLAB_EACH, each(kernel.slab, kernel_before.slab));
        measurement.push(&figures::TCP_END, megabytes(kernel.tcp));
        measurement.push(&figures::THREADS, procfs::threads(server.pids()) as f64);
        if let Some(max) = max_resident.filter(|max| !(f64::MIN_POSITIVE..=*max).contains(&resident)) {
            measurement.faults.push(format!("resident {resident:.2} KB a subscriber, at most {max} KB are allowed"));
        }
        all.push((*count, measurement));
    }
    Ok(all)
}

fn connects(contender: &Contender, count: usize) -> Result<Measurement, String> {
    let mut server = Server::start(contender, FEW_PRODUCTS)?;
    let path = server.feed_path();
    if !contender.keeps_totals() {
        // A relay has no first message for a new subscriber before something has been posted.
        let load = Load { measured: Duration::from_millis(10), ..Load::of_posters(1, &Options::default()) };
        run::run(&mut server, &load)?;
    }
    let cpu = procfs::cpu(server.pids());
    let began = Instant::now();
    let feeds = connect::subscribe(server.address, &path, count, None, Until::FirstMessage)?;
    let elapsed = began.elapsed().as_secs_f64();
    let mut measurement = Measurement::default();
    measurement.push(&figures::CONNECTS, feeds.len() as f64 / elapsed);
    measurement.push(&figures::CPU_PER_CONNECT, (procfs::cpu(server.pids()) - cpu) * 1e6 / count as f64);
    drop(feeds);
    // The server must still accept subscribers after all of these have closed at once.
    connect::subscribe(server.address, &path, 1, None, Until::FirstMessage)?;
    Ok(measurement)
}

/// Subscribers of a server that is stopped and started again connect anew, all at once.
fn back(contender: &Contender, count: usize) -> Result<Measurement, String> {
    let mut server = Server::start(contender, FEW_PRODUCTS)?;
    let load = Load { measured: Duration::from_millis(100), ..Load::of_posters(FEW_PRODUCTS, &Options::default()) };
    let mut faults = run::run(&mut server, &load)?.faults;
    let before = connect::subscribe(server.address, &server.feed_path(), count, None, Until::FirstMessage)?;
    let totals = std::mem::take(&mut server.totals);
    let (address, room) = (server.address, server.stop().ok_or("the server has no folder")?);
    drop(before);
    let began = Instant::now();
    let mut server = Server::start_in(contender, room.listening_on(address))?;
    server.totals = totals;
    let cpu = procfs::cpu(server.pids());
    faults.extend(run::snapshots(&server, count)?);
    let mut measurement = Measurement { figures: Vec::new(), faults };
    measurement.push(&figures::BACK, milliseconds(began.elapsed()));
    measurement.push(&figures::CPU_PER_CONNECT, (procfs::cpu(server.pids()) - cpu) * 1e6 / count as f64);
    Ok(measurement)
}

fn start(contender: &Contender, times: usize) -> Result<Measurement, String> {
    let first = Server::start(contender, FEW_PRODUCTS)?;
    let first_start = first.start;
    let mut room = first.stop();
    let mut starts = Histogram::default();
    let mut resident = 0;
    for _ in 0..times {
        let Some(used) = room else { break };
        let server = Server::start_in(contender, used)?;
        starts.record(server.start.as_nanos() as u64);
        thread::sleep(REST / 5);
        resident = procfs::resident(server.pids());
        room = server.stop();
    }
    let mut measurement = Measurement::default();
    measurement.quantiles(&starts, &[(&figures::START, 0.5)]);
    measurement.push(&figures::FIRST_START, milliseconds(first_start));
    measurement.push(&figures::IDLE, megabytes(resident));
    if let Some(bytes) = contender.footprint() {
        measurement.push(&figures::FOOTPRINT, megabytes(bytes));
    }
    Ok(measurement)
}
