//! The soak: a mixed load at half of the peak rate, every disturbance at once, samples every second, and at the end
//! exactness, slopes and a plot. It has a binary of its own, because it takes the whole machine.
//!
//! `ORDERCAST_SOAK_MINUTES` is how long (`make soak`); an ordinary test run does some seconds, which show that it works
//! and that every sum is exact, and are too short to judge slopes.

#[path = "../common/mod.rs"]
mod common;

// Parts of the load generator.
#[path = "../../benches/load/chart.rs"]
mod chart;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../benches/load/figures.rs"]
mod figures;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../benches/load/report.rs"]
mod figures_of_load;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../benches/load/histogram.rs"]
mod histogram;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../benches/load/procfs.rs"]
mod procfs;

mod audit;
mod disturbances;
mod plan;
mod plot;
mod posters;
mod report;
mod samples;
mod shared;
mod subscribers;
mod trend;

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use common::load::spawn;
use common::{DEADLINE, Random, Server, TempDir, seed, wait_until};
use plan::{BATCH, KEEP_ORDERS, MAX_KEYED_RATE, Plan};
use samples::Samples;
use shared::{Counts, KINDS, Kind, Shared, StopOnPanic, value};

/// Subscribers that stay, that come and go, that read slowly, and that wait for orders of products that nobody orders.
const STAYING: usize = 16;
const COMING: usize = 16;
const SLOW: usize = 4;
const QUIET: usize = 100;
/// How long the server may take to end after SIGTERM: it promises five seconds.
const END: Duration = Duration::from_secs(10);

/// Posting as fast as possible for some time: the orders a second of each kind of lane.
fn measure_peak(shared: &Shared, length: Duration) -> [f64; KINDS.len()] {
    let (begun, before) = (Instant::now(), shared.answered());
    shared.pause(length);
    let (elapsed, after) = (begun.elapsed().as_secs_f64(), shared.answered());
    std::array::from_fn(|kind| (after[kind] - before[kind]) as f64 / elapsed)
}

/// Sets the intervals of all lanes, so that together they post `rate` orders a second, in the proportions of the peak.
/// Lanes with a key for each order get their bounded rate, the others the rest.
fn slow_down(shared: &Shared, peaks: &[f64; KINDS.len()], rate: f64) {
    let sum_of = |kinds: &[Kind]| kinds.iter().map(|kind| peaks[*kind as usize]).sum::<f64>().max(1.0);
    let (keyed, plain) = ([Kind::Keyed, Kind::KeyedBatch], [Kind::Plain, Kind::Batch]);
    let whole = sum_of(&keyed) + sum_of(&plain);
    let keyed_rate = (rate * sum_of(&keyed) / whole).min(MAX_KEYED_RATE);
    for (kinds, rate) in [(keyed, keyed_rate), (plain, rate - keyed_rate)] {
        for kind in kinds {
            let (_, lanes, _) = KINDS[kind as usize];
            let orders = if matches!(kind, Kind::Batch | Kind::KeyedBatch) { BATCH } else { 1 };
            let share = (peaks[kind as usize] / sum_of(&kinds)).max(0.01);
            shared.set_interval(kind, Duration::from_secs_f64((lanes * orders) as f64 / (rate * share)));
        }
    }
}

/// A thread whose panic ends the run.
fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    spawn(scope, move || {
        let _stop = StopOnPanic(shared);
        work()
    })
}

#[test]
fn every_order_counts_once_and_memory_and_latency_are_flat_under_everything_at_once() {
    let plan = Plan::from_environment();
    let (seed, shared, folder) = (seed(), Shared::new(), TempDir::new());
    disturbances::write_tokens(folder.path(), 0);
    let mut server = Server::builder()
        .catalog(&shared.catalog())
        .arg("--keep-orders")
        .arg(KEEP_ORDERS)
        .arg("--keep-keys")
        .arg("1")
        .arg("--token-file")
        .arg(folder.path().join("tokens"))
        .start();
    let random = |stream| Random::new(seed, stream);
    let (addr, data) = (server.addr(), server.data());

    let (shared, running) = (&shared, &server);
    let (samples, peaks, totals) = thread::scope(|scope| {
        let mut readers = Vec::new();
        readers.extend((0..STAYING).map(|it| start(scope, shared, move || subscribers::stay(shared, addr, it))));
        readers.extend((0..COMING).map(|it| {
            start(scope, shared, move || subscribers::come_and_go(shared, addr, it, random(100 + it as u64)))
        }));
        readers.extend((0..SLOW).map(|it| start(scope, shared, move || subscribers::read_slowly(shared, addr, it))));
        let log = start(scope, shared, move || audit::follow_log(shared, addr));
        let mut workers = vec![
            start(scope, shared, move || subscribers::wait_quietly(shared, addr, QUIET)),
            start(scope, shared, move || subscribers::read_nothing(shared, addr)),
        ];
        workers.extend((0..shared.lanes.len()).filter_map(|index| {
            let is_posted = !matches!(shared.lanes[index].kind, Kind::Killed | Kind::KilledKeyed);
            is_posted.then(|| start(scope, shared, move || posters::post(shared, addr, index, random(index as u64))))
        }));

        let peaks = measure_peak(shared, plan.peak);
        let peak: f64 = peaks.iter().sum();
        println!("peak: {peak:.0} orders/s");
        slow_down(shared, &peaks, peak * plan.share);

        let (tokens, data) = (folder.path(), data.as_path());
        let (close_every, backup_every) = (plan.close_every, plan.backup_every);
        workers.extend([
            start(scope, shared, move || disturbances::kill_clients(shared, addr, random(200))),
            start(scope, shared, move || disturbances::send_bad_requests(shared, addr, random(201))),
            start(scope, shared, move || disturbances::change_products(shared, addr, random(202))),
            start(scope, shared, move || disturbances::reload(shared, running, tokens, close_every)),
            start(scope, shared, move || disturbances::back_up_often(shared, data, backup_every)),
            start(scope, shared, move || disturbances::read_everything(shared, addr)),
        ]);
        let closer = start(scope, shared, move || disturbances::close_periods(shared, addr, close_every));
        let samples = Samples::collect(shared, running, Instant::now() + plan.steady);
        shared.stop();
        // A panic of a thread is a fault already; the others still have to end.
        workers.into_iter().for_each(|worker| drop(worker.join()));
        let closed = closer.join().unwrap_or_default();
        // An order of a client that was killed last may still be on its way.
        let mut totals = audit::totals(shared, addr);
        wait_until(DEADLINE, "the totals do not change any more", || {
            thread::sleep(Duration::from_millis(200));
            let before = std::mem::replace(&mut totals, audit::totals(shared, addr));
            before == totals
        });
        shared.set_finals(totals.clone());
        readers.into_iter().for_each(|reader| drop(reader.join()));
        audit::compare_answers(shared, &totals);
        audit::compare_sums(shared, "the log", &log.join().unwrap_or_default(), &totals);
        audit::compare_sums(shared, "the reports", &audit::sum_reports(shared, addr, &closed), &totals);
        audit::compare_sums(shared, "a backup", &audit::restored_totals(shared, running), &totals);
        (samples, peaks, totals)
    });
    server.signal("TERM");
    assert_eq!(server.wait(END).code(), Some(0));
    assert!(totals.iter().all(|total| *total > 0), "every lane has orders: {totals:?}");

    let Counts { repeats, lives, resumes, kills, bad_requests, .. } = &shared.counts;
    let Counts { reloads, backups, closes, product_changes, reads, .. } = &shared.counts;
    let disturbances =
        [repeats, lives, resumes, kills, bad_requests, reloads, backups, closes, product_changes, reads].map(value);
    assert!(disturbances.iter().all(|count| *count > 0), "each disturbance happened: {disturbances:?}");
    let connections = STAYING + COMING + SLOW + QUIET;
    let mut report = report::report(&plan, shared, &samples, &peaks, connections);
    let (faults, number) = shared.faults();
    let exact = "\nexact: answers, totals, log, reports of periods, a restored backup and every subscriber agree\n";
    report.text += &if number == 0 { exact.to_owned() } else { format!("\n{number} FAULTS: {faults:#?}\n") };
    let title = "Memory, latency and rates under everything at once";
    let svg = plot::svg(&samples, title, &report::notes(&plan, peaks.iter().sum()), plan.warm_up.as_secs_f64());
    println!("\n{}", report.text);
    for (name, text) in [("soak.svg", &svg), ("samples.csv", &samples.csv()), ("summary.md", &report.text)] {
        println!("{}", plan.write(name, text).display());
    }
    assert_eq!(number, 0, "{faults:#?}\nthe server's log:\n{}", server.log());
    assert!(report.growing.is_empty(), "{:?}", report.growing);
}
