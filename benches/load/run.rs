//! One run under load: posters and subscribers against a server, whose CPU and memory are sampled meanwhile.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::connect::{self, Until};
use crate::load::Load;
use crate::posters::{self, Plan, Posted};
use crate::procfs;
use crate::scrape::Scrapes;
use crate::sent::Sent;
use crate::server::Server;
use crate::subscribers::{Progress, Reader, Seen};

/// The time between two samples of memory. Sampling costs little CPU compared with any server.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// How long the snapshots of all subscribers may take.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(10);
/// Orders a second that no server reaches: sizes the table of sending times in runs without a rate.
const MAX_UNPACED: f64 = 250_000.0;
/// How many times its even share of that table a poster may use.
const UNEVENNESS: f64 = 3.0;
/// The smallest table, in orders a poster, for very short or slow runs.
const MIN_CAPACITY: usize = 1024;

/// The result of a run.
pub struct Outcome {
    pub posted: Posted,
    pub seen: Seen,
    pub memory: Memory,
    /// CPU seconds of the server, of the one that it follows, of this generator and of all other processes while orders
    /// counted.
    pub server_cpu: f64,
    pub followed_cpu: Option<f64>,
    pub generator_cpu: f64,
    pub others_cpu: f64,
    /// Totals read in the same time.
    pub deliveries: u64,
    /// Length of that time.
    pub window: Duration,
    pub faults: Vec<String>,
}

/// Bytes of the server, and of the TCP buffers of the whole machine above their level before the run. Figures of the
/// end are taken while every subscriber is still connected.
#[derive(Default)]
pub struct Memory {
    pub resident_max: u64,
    pub resident_end: u64,
    pub tcp_max: u64,
    pub tcp_end: u64,
    /// Threads of the server at the end.
    pub threads: u64,
}

/// CPU seconds and deliveries up to one moment.
struct Counters {
    at: Instant,
    /// Of each thread: at few orders a second a clock tick would be too coarse. Connections and their threads stay
    /// meanwhile.
    server_cpu: HashMap<u32, u64>,
    followed_cpu: Option<f64>,
    generator_cpu: f64,
    busy: f64,
    deliveries: u64,
}

/// Runs `load`; an error means that nothing could be measured.
pub fn run(server: &mut Server, load: &Load) -> Result<Outcome, String> {
    let every = load.every.map(|every| format!("?every={every}")).unwrap_or_default();
    let path = server.feed_path() + &every;
    let tcp_before = procfs::tcp_memory();
    let feeds = connect::subscribe(server.address, &path, load.subscribers, load.receive_buffer, Until::Upgraded)
        .map_err(|error| error + &server.log_tail())?;
    let sent = Sent::new(&server.totals, load.posters, capacity(load));
    let progress = Progress::default();
    let snapshot = server.contender.keeps_totals();
    let mut reader = Reader::new(feeds, &sent, &progress, snapshot).map_err(|error| format!("reading: {error}"))?;

    let watched = thread::scope(|scope| {
        let reading = scope.spawn(|| reader.run());
        let waiting = Instant::now();
        while !progress.ready.load(Ordering::Acquire) && waiting.elapsed() < SNAPSHOT_DEADLINE {
            thread::sleep(Duration::from_millis(1));
        }
        if !progress.ready.load(Ordering::Acquire) {
            sent.finish();
            return Err("the snapshots are not complete".into());
        }
        let now = sent.now();
        let from = now + load.warm_up.as_nanos() as u64;
        sent.measure_from(from);
        let plan = Plan {
            posters: load.posters,
            rate: load.rate,
            until: from + load.measured.as_nanos() as u64,
            expected: server.contender.expected(),
            keys: load.keys,
        };
        let (address, posts) = (server.orders_address(), &sent);
        let posting = scope.spawn(move || posters::post(address, &plan, posts));
        let sampled = sample(server, &progress, load);
        let posted = posting.join();
        // Also after an error, or the reader would never end.
        sent.finish();
        let posted = posted.map_err(|_| "the posters panicked")??;
        let read = reading.join().map_err(|_| "the reader panicked")?;
        read.map_err(|error| format!("reading: {error}"))?;
        let (memory, begin, end) = sampled.map_err(|error| format!("/metrics: {error}"))?;
        Ok::<_, String>((posted, memory, begin, end))
    });
    let (posted, mut memory, begin, end) = watched.map_err(|error| error + &server.log_tail())?;
    memory.resident_end = procfs::resident(server.pids());
    memory.threads = procfs::threads(server.pids());
    memory.tcp_end = procfs::tcp_memory().saturating_sub(tcp_before);
    memory.tcp_max = memory.tcp_max.saturating_sub(tcp_before);
    let seen = reader.into_seen();
    server.totals = sent.totals();
    let mut faults = seen.faults();
    if snapshot {
        faults.extend(late_snapshot(server)?);
    }
    let server_cpu = procfs::cpu_between(&begin.server_cpu, &end.server_cpu);
    let followed_cpu = end.followed_cpu.zip(begin.followed_cpu).map(|(end, begin)| end - begin);
    let generator_cpu = end.generator_cpu - begin.generator_cpu;
    Ok(Outcome {
        posted,
        seen,
        memory,
        server_cpu,
        followed_cpu,
        generator_cpu,
        others_cpu: (end.busy - begin.busy - server_cpu - followed_cpu.unwrap_or(0.0) - generator_cpu).max(0.0),
        deliveries: end.deliveries - begin.deliveries,
        window: end.at - begin.at,
        faults,
    })
}

/// Orders of one poster in the table of sending times.
fn capacity(load: &Load) -> usize {
    let seconds = (load.warm_up + load.measured).as_secs_f64();
    let orders = load.rate.unwrap_or(MAX_UNPACED) * seconds;
    MIN_CAPACITY + (orders * UNEVENNESS / load.posters as f64) as usize
}

/// Samples until posting ends; the counters are those at the beginning and the end of the measured time.
fn sample(server: &Server, progress: &Progress, load: &Load) -> io::Result<(Memory, Counters, Counters)> {
    let own = [std::process::id()];
    let counters = || Counters {
        at: Instant::now(),
        server_cpu: procfs::cpu_of_threads(server.pids()),
        followed_cpu: server.followed_pids().map(procfs::cpu),
        generator_cpu: procfs::cpu(&own),
        busy: procfs::busy(),
        deliveries: progress.delivered.load(Ordering::Relaxed),
    };
    let mut memory = Memory::default();
    let mut scrapes = load.scrape.then(|| Scrapes::new(server.address));
    let mut watch = |span: Duration| -> io::Result<()> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            scrapes.as_mut().map_or(Ok(()), Scrapes::scrape_if_due)?;
            memory.resident_max = memory.resident_max.max(procfs::resident(server.pids()));
            memory.tcp_max = memory.tcp_max.max(procfs::tcp_memory());
            thread::sleep(SAMPLE_EVERY.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    };
    watch(load.warm_up)?;
    let begin = counters();
    watch(load.measured)?;
    let end = counters();
    Ok((memory, begin, end))
}

/// A subscriber that connects after the run must get exactly the totals of the orders accepted; else the fault.
fn late_snapshot(server: &Server) -> Result<Option<String>, String> {
    let faults = snapshots(server, 1)?;
    Ok((!faults.is_empty()).then(|| format!("snapshot after the run: {}", faults.join(", "))))
}

/// So many subscribers of all products connect at once, and each must get exactly the totals of the orders accepted; else
/// the faults.
pub fn snapshots(server: &Server, count: usize) -> Result<Vec<String>, String> {
    snapshots_of(server.address, &server.feed_path(), &server.totals, count)
}

/// The same of a feed that has these totals.
pub fn snapshots_of(server: SocketAddr, path: &str, totals: &[u64], count: usize) -> Result<Vec<String>, String> {
    let feeds = connect::subscribe_at_once(server, path, count, count, Until::Upgraded)?;
    let sent = Sent::new(totals, 0, 0);
    sent.finish();
    let progress = Progress::default();
    let fail = |error| format!("reading: {error}");
    let mut late = Reader::new(feeds, &sent, &progress, true).map_err(fail)?;
    late.run().map_err(fail)?;
    Ok(late.into_seen().faults())
}
