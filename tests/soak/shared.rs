//! What the threads of a soak share: the orders of every product, the phase, the rates, the counts, the faults.
//!
//! Each poster has a product of its own, its lane, and orders one piece at a time. So the lane's n-th order raises its
//! total to n, and a total tells which order made it and when that was sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;

/// Sending times that a lane keeps: a subscriber that is further behind is not measured.
const TIMES: usize = 16 * 1024;
/// Faults that are kept in words; further ones are counted.
const MAX_FAULTS: usize = 20;
/// The longest that a thread that pauses takes to notice the end.
const NOTICE: Duration = Duration::from_millis(50);

/// How the orders of a lane are posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One a request, without a key.
    Plain,
    /// One a request, under a key, some of them repeated.
    Keyed,
    /// An array, the whole of it under a key.
    Batch,
    /// One a line, each under a key.
    KeyedBatch,
    /// `add-order` over a WebSocket.
    Socket,
    /// By clients that are killed before the answer; it is not known which orders count.
    Killed,
    /// The same under keys, repeated until they are answered.
    KilledKeyed,
}

/// Lanes by kind, and the category of their products.
pub const KINDS: [(Kind, usize, &str); 7] = [
    (Kind::Plain, 16, "counter"),
    (Kind::Keyed, 8, "tills"),
    (Kind::Batch, 3, "offline"),
    (Kind::KeyedBatch, 1, "offline"),
    (Kind::Socket, 1, "tills"),
    (Kind::Killed, 1, "tills"),
    (Kind::KilledKeyed, 1, "tills"),
];
/// A category whose products change, and are not ordered.
pub const QUIET: &str = "quiet";
/// Ids of lanes are this letter and a number from 1.
const LANE: char = 'S';

pub struct Lane {
    pub kind: Kind,
    pub category: &'static str,
    /// Orders sent that may count.
    pub sent: AtomicU64,
    /// Orders that were answered as counted.
    pub answered: AtomicU64,
    /// When the n-th order was sent, in nanoseconds since the epoch, at the place n modulo `TIMES`.
    times: Box<[AtomicU64]>,
}

/// What happened, for the summary.
#[derive(Default)]
pub struct Counts {
    pub repeats: AtomicU64,
    pub rejected: AtomicU64,
    pub deliveries: AtomicU64,
    pub resumes: AtomicU64,
    pub lives: AtomicU64,
    pub kills: AtomicU64,
    pub bad_requests: AtomicU64,
    pub reloads: AtomicU64,
    pub backups: AtomicU64,
    pub closes: AtomicU64,
    pub product_changes: AtomicU64,
    pub reads: AtomicU64,
    pub slow_ends: AtomicU64,
    pub log_lines: AtomicU64,
}

/// Counts one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The present value.
pub fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub struct Shared {
    pub epoch: Instant,
    pub lanes: Vec<Lane>,
    pub counts: Counts,
    /// From sending a single order to its answer, since the last sample.
    pub posts: Mutex<Histogram>,
    /// From sending an order to reading its total, since the last sample.
    pub deliveries: Mutex<Histogram>,
    /// Nanoseconds between two requests of a lane of each kind; 0 for as fast as possible.
    intervals: [AtomicU64; KINDS.len()],
    stopped: AtomicBool,
    finals: OnceLock<Vec<u64>>,
    faults: Mutex<(Vec<String>, u64)>,
}

impl Shared {
    pub fn new() -> Shared {
        let lane = |kind, category| Lane {
            kind,
            category,
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            times: (0..TIMES).map(|_| AtomicU64::new(0)).collect(),
        };
        let lanes = KINDS.iter().flat_map(|(kind, lanes, category)| (0..*lanes).map(move |_| lane(*kind, *category)));
        Shared {
            epoch: Instant::now(),
            lanes: lanes.collect(),
            counts: Counts::default(),
            posts: Mutex::default(),
            deliveries: Mutex::default(),
            intervals: Default::default(),
            stopped: AtomicBool::new(false),
            finals: OnceLock::new(),
            faults: Mutex::default(),
        }
    }

    /// Nanoseconds since the epoch, never 0.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64 + 1
    }

    /// The catalogue: the lanes by category, and some products that are never ordered.
    pub fn catalog(&self) -> String {
        let mut categories = serde_json::Map::new();
        let mut add = |category: &str, prefix: &str, id: String| {
            let empty = || serde_json::json!({ "prefix": prefix, "products": [] });
            let entry = categories.entry(category).or_insert_with(empty);
            let product = serde_json::json!({ "id": id, "name": format!("Product {id}"), "rrp": "9.99" });
            entry["products"].as_array_mut().expect("an array").push(product);
        };
        for (index, lane) in self.lanes.iter().enumerate() {
            add(lane.category, &lane.category[..1], lane_id(index));
        }
        (1..=5).for_each(|number| add(QUIET, "Q", format!("Q{number}")));
        serde_json::Value::Object(categories).to_string()
    }

    /// The lane of a product; `None` for one that is not ordered.
    pub fn lane_of(&self, id: &str) -> Option<usize> {
        let number: usize = id.strip_prefix(LANE)?.parse().ok()?;
        number.checked_sub(1).filter(|index| *index < self.lanes.len())
    }

    /// Whether orders are posted and disturbances go on.
    pub fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    /// Ends posting and disturbances.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Pauses; false when the run has ended.
    pub fn pause(&self, length: Duration) -> bool {
        let end = Instant::now() + length;
        while self.is_running() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(NOTICE));
        }
        false
    }

    /// Between two requests of a lane; zero for as fast as possible.
    pub fn interval(&self, kind: Kind) -> Duration {
        Duration::from_nanos(self.intervals[kind as usize].load(Ordering::Relaxed))
    }

    pub fn set_interval(&self, kind: Kind, interval: Duration) {
        self.intervals[kind as usize].store(interval.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The last total of each lane, once nothing is posted any more.
    pub fn finals(&self) -> Option<&[u64]> {
        self.finals.get().map(Vec::as_slice)
    }

    pub fn set_finals(&self, totals: Vec<u64>) {
        self.finals.set(totals).expect("they are set once");
    }

    /// Orders answered so far, by kind of their lane.
    pub fn answered(&self) -> [u64; KINDS.len()] {
        let mut answered = [0; KINDS.len()];
        for lane in &self.lanes {
            answered[lane.kind as usize] += lane.answered.load(Ordering::Relaxed);
        }
        answered
    }

    /// Records something that must not happen.
    pub fn fault(&self, what: impl Into<String>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.1 += 1;
        if faults.0.len() < MAX_FAULTS {
            faults.0.push(what.into());
        }
    }

    /// The first faults in words, and the number of all.
    pub fn faults(&self) -> (Vec<String>, u64) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Lane {
    /// Records that the next `orders` orders are sent now.
    pub fn sending(&self, orders: u64, now: u64) {
        let sent = self.sent.load(Ordering::Relaxed);
        for number in sent + 1..=sent + orders {
            self.times[number as usize % TIMES].store(now, Ordering::Relaxed);
        }
        self.sent.store(sent + orders, Ordering::Release);
    }

    /// Records that the last `orders` orders were answered as not counted.
    pub fn rejected(&self, orders: u64) {
        self.sent.fetch_sub(orders, Ordering::Release);
    }

    /// When the n-th order was sent. `None` if that is too long ago, or is not known in this lane.
    pub fn sent_at(&self, number: u64) -> Option<u64> {
        if matches!(self.kind, Kind::Killed | Kind::KilledKeyed) || number == 0 {
            return None;
        }
        let at = self.times[number as usize % TIMES].load(Ordering::Relaxed);
        // Read after the time, so that a time that was overwritten meanwhile is noticed.
        (self.sent.load(Ordering::Acquire) < number + TIMES as u64 - crate::plan::BATCH as u64).then_some(at)
    }
}

/// The id of a lane's product.
pub fn lane_id(index: usize) -> String {
    format!("{LANE}{}", index + 1)
}

/// Stops the run when its thread panics, so that the failure shows at once.
pub struct StopOnPanic<'a>(pub &'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fault("a thread panicked");
            self.0.stop();
        }
    }
}
