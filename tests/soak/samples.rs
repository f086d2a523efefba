//! What is measured every second, and its table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::Server;
use crate::histogram::Histogram;
use crate::procfs;
use crate::shared::Shared;
use std::sync::atomic::Ordering;

/// Between two samples.
pub const EVERY: Duration = Duration::from_secs(1);

/// A quantity. Its place in `COLUMNS` is its place in a sample.
pub struct Column {
    pub name: &'static str,
    pub unit: &'static str,
}

const fn column(name: &'static str, unit: &'static str) -> Column {
    Column { name, unit }
}

pub const RESIDENT: usize = 0;
pub const ANONYMOUS: usize = 1;
pub const TCP: usize = 2;
pub const DESCRIPTORS: usize = 3;
pub const THREADS: usize = 4;
pub const POST_P50: usize = 5;
pub const POST_P99: usize = 6;
pub const DELIVERY_P50: usize = 7;
pub const DELIVERY_P99: usize = 8;
pub const ORDERS: usize = 9;
pub const DELIVERIES: usize = 10;
pub const DATA: usize = 11;
pub const WAL: usize = 12;

pub const COLUMNS: [Column; 13] = [
    column("resident", "MB"),
    column("anonymous", "MB"),
    column("TCP buffers", "MB"),
    column("descriptors", ""),
    column("threads", ""),
    column("POST p50", "ms"),
    column("POST p99", "ms"),
    column("delivery p50", "ms"),
    column("delivery p99", "ms"),
    column("orders", "/s"),
    column("deliveries", "/s"),
    column("data file", "MB"),
    column("-wal file", "MB"),
];

/// The samples of a run. A quantity that had no value in a second is not a number.
#[derive(Default)]
pub struct Samples {
    /// Seconds since the begin of the steady load.
    pub at: Vec<f64>,
    pub values: [Vec<f64>; COLUMNS.len()],
}

impl Samples {
    /// As a table for other programs.
    pub fn csv(&self) -> String {
        let mut text = String::from("seconds");
        for column in &COLUMNS {
            let unit = if column.unit.is_empty() { String::new() } else { format!(" ({})", column.unit) };
            let _ = write!(text, ",{}{unit}", column.name);
        }
        text.push('\n');
        for (row, at) in self.at.iter().enumerate() {
            let _ = write!(text, "{at:.2}");
            for values in &self.values {
                let value = values[row];
                let _ = if value.is_nan() { write!(text, ",") } else { write!(text, ",{value:.4}") };
            }
            text.push('\n');
        }
        text
    }

    /// Takes a sample every second until `end`, or until the run stops.
    pub fn collect(shared: &Shared, server: &Server, end: Instant) -> Samples {
        let begun = Instant::now();
        let mut samples = Samples::default();
        let (orders, deliveries) = counters(shared);
        let mut last = Counters { at: begun, orders, deliveries };
        // What was collected before belongs to no sample.
        let _ = (take(&shared.posts), take(&shared.deliveries));
        let mut next = begun;
        loop {
            next += EVERY;
            if next > end || !shared.pause(next.saturating_duration_since(Instant::now())) {
                return samples;
            }
            samples.take_one(shared, server, begun, &mut last);
        }
    }

    fn take_one(&mut self, shared: &Shared, server: &Server, begun: Instant, last: &mut Counters) {
        let now = Instant::now();
        let elapsed = (now - last.at).as_secs_f64();
        let (orders, deliveries) = counters(shared);
        let (posts, delivered) = (take(&shared.posts), take(&shared.deliveries));
        let quantile =
            |histogram: &Histogram, share| histogram.quantile(share).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3);
        let memory = Memory::of(server.pid());
        let data = server.data().join("ordercast.sqlite3");
        let sample = [
            (RESIDENT, memory.resident),
            (ANONYMOUS, memory.anonymous),
            (TCP, procfs::tcp_memory() as f64 / 1e6),
            (DESCRIPTORS, server.descriptors() as f64),
            (THREADS, memory.threads),
            (POST_P50, quantile(&posts, 0.5)),
            (POST_P99, quantile(&posts, 0.99)),
            (DELIVERY_P50, quantile(&delivered, 0.5)),
            (DELIVERY_P99, quantile(&delivered, 0.99)),
            (ORDERS, (orders - last.orders) as f64 / elapsed),
            (DELIVERIES, (deliveries - last.deliveries) as f64 / elapsed),
            (DATA, megabytes_of(&data)),
            (WAL, megabytes_of(&data.with_extension("sqlite3-wal"))),
        ];
        self.at.push((now - begun).as_secs_f64());
        for (column, value) in sample {
            self.values[column].push(value);
        }
        *last = Counters { at: now, orders, deliveries };
    }
}

struct Counters {
    at: Instant,
    orders: u64,
    deliveries: u64,
}

fn counters(shared: &Shared) -> (u64, u64) {
    (shared.answered().iter().sum(), shared.counts.deliveries.load(Ordering::Relaxed))
}

fn take(histogram: &Mutex<Histogram>) -> Histogram {
    std::mem::take(&mut histogram.lock().unwrap_or_else(PoisonError::into_inner))
}

fn megabytes_of(path: &Path) -> f64 {
    fs::metadata(path).map_or(0.0, |metadata| metadata.len() as f64 / 1e6)
}

/// What /proc/PID/status says. The kernel keeps these numbers anyway, while smaps_rollup walks all page tables.
struct Memory {
    /// MB in memory, and the part of it that no file backs: heap and stacks.
    resident: f64,
    anonymous: f64,
    threads: f64,
}

impl Memory {
    fn of(pid: u32) -> Memory {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
        };
        Memory {
            resident: number("VmRSS:") * 1024.0 / 1e6,
            anonymous: number("RssAnon:") * 1024.0 / 1e6,
            threads: number("Threads:"),
        }
    }
}
