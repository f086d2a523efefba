//! What the ledger has done. Its thread writes the counters, a few for each commit; rejections are counted one by one.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::rejection::{REASONS, Rejection};
use super::reply::Outcome;
use crate::tally::metric::{Counter, Histogram};

/// Bounds of the buckets of times, in nanoseconds: 100 µs, which a commit takes in memory, to 10 s, when the disk hangs.
const TIMES_NS: [u64; 16] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Bounds of the buckets of orders in a commit; [`MAX_BATCH`](super) is the last.
const SIZES: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// What the ledger has done since it was started.
#[derive(Debug)]
pub struct Counters {
    /// Orders that were counted.
    pub orders: Counter,
    /// Orders that were not counted again, because their key was known.
    pub repeats: Counter,
    rejections: [Counter; REASONS.len()],
    /// Commits, and probes of a store that fails, which failed.
    pub failed_commits: Counter,
    /// The time of each commit, in nanoseconds.
    pub commit_times: Histogram,
    /// The time of each commit's last step, in nanoseconds: writing the log, and the sync.
    pub sync_times: Histogram,
    /// The number of orders in each commit that had some.
    pub commit_orders: Histogram,
    /// When the store last wrote and synced something, by [`now_ms`]; 0 before that.
    committed_ms: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            orders: Counter::default(),
            repeats: Counter::default(),
            rejections: Default::default(),
            failed_commits: Counter::default(),
            commit_times: Histogram::new(&TIMES_NS),
            sync_times: Histogram::new(&TIMES_NS),
            commit_orders: Histogram::new(&SIZES),
            committed_ms: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// The number of rejections for each reason, by its name.
    pub fn rejections(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(self.rejections.iter().map(Counter::get))
    }

    /// The time since the store last wrote and synced something; `None` before that.
    #[must_use]
    pub fn since_commit(&self) -> Option<Duration> {
        let committed_ms = self.committed_ms.load(Ordering::Relaxed);
        (committed_ms > 0).then(|| Duration::from_millis(now_ms().saturating_sub(committed_ms)))
    }

    /// Counts a rejection.
    pub(super) fn reject(&self, rejection: &Rejection) {
        self.rejections[rejection.reason()].add(1);
    }

    /// Counts the rejection, if the outcome of a request is one.
    pub(super) fn note(&self, outcome: &Outcome) {
        if let Err(rejection) = outcome {
            self.reject(rejection);
        }
    }

    /// Counts the orders that a commit has counted, and those that were not counted again.
    pub(super) fn counted(&self, orders: u64, repeats: u64) {
        if orders > 0 {
            self.orders.add(orders);
            self.commit_orders.record(orders);
        }
        if repeats > 0 {
            self.repeats.add(repeats);
        }
    }

    /// Counts a try to write, of a commit or a probe.
    pub(super) fn tried(&self, is_ok: bool) {
        if is_ok {
            self.committed_ms.store(now_ms(), Ordering::Relaxed);
        } else {
            self.failed_commits.add(1);
        }
    }

    /// Counts a commit that took this long.
    pub(super) fn committed(&self, time: Duration) {
        self.commit_times.record(nanoseconds(time));
    }

    /// Counts the sync of a commit, which took this long.
    pub(super) fn synced(&self, time: Duration) {
        self.sync_times.record(nanoseconds(time));
    }
}

/// Milliseconds on a monotonic clock, from 1 on.
pub(super) fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64 + 1
}

/// Nanoseconds, up to 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_are_counted_by_reason_and_those_of_a_batch_by_that_of_its_order() {
        let counters = Counters::default();
        counters.reject(&Rejection::KeyReused);
        counters.reject(&Rejection::InBatch(3, Box::new(Rejection::KeyReused)));
        counters.reject(&Rejection::StoreUnusable("damaged".to_owned()));
        let counted: Vec<_> = counters.rejections().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("key_reused", 2), ("store_unusable", 1)]);
    }

    #[test]
    fn the_time_since_the_last_commit_begins_with_the_first() {
        let counters = Counters::default();
        assert_eq!(counters.since_commit(), None);
        counters.tried(false);
        assert_eq!((counters.since_commit(), counters.failed_commits.get()), (None, 1));
        counters.tried(true);
        assert!(counters.since_commit().is_some_and(|since| since < Duration::from_secs(10)));
    }
}
