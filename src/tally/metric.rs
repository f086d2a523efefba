//! Counters, gauges and histograms: written by the threads that do the work, read by any thread at any time. Each access
//! is one relaxed operation, so what is read of several of them is of no single moment.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces its value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to its value.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Subtracts from its value, which is at least as large.
    pub fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values of each size occurred.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bounds of all buckets but the last, which has none; in ascending order.
    bounds: &'static [u64],
    buckets: Box<[Counter]>,
    sum: Counter,
}

/// What a histogram has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Each bound with the number of values up to it.
    pub buckets: Vec<(u64, u64)>,
    /// The number of all values.
    pub count: u64,
    /// Their sum, which may lack the latest of them.
    pub sum: u64,
}

impl Histogram {
    /// An empty histogram with these upper bounds, in ascending order.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { bounds, buckets, sum: Counter::default() }
    }

    /// Records one value.
    pub fn record(&self, value: u64) {
        self.buckets[self.bounds.partition_point(|bound| *bound < value)].add(1);
        self.sum.add(value);
    }

    /// What it has recorded. The count is that of the buckets, also while values are recorded.
    #[must_use]
    pub fn read(&self) -> Recorded {
        let mut count = 0;
        let mut counts = self.buckets.iter().map(|bucket| {
            count += bucket.get();
            count
        });
        let buckets = self.bounds.iter().copied().zip(&mut counts).collect();
        // The last one, which has no bound.
        let all = counts.next().unwrap_or_default();
        Recorded { buckets, count: all, sum: self.sum.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1_000] {
            histogram.record(value);
        }
        assert_eq!(histogram.read(), Recorded { buckets: vec![(10, 2), (20, 4)], count: 6, sum: 1_062 });
    }

    #[test]
    fn a_histogram_without_values_has_all_of_its_buckets() {
        let empty = Histogram::new(&[1, 2, 4]).read();
        assert_eq!(empty, Recorded { buckets: vec![(1, 0), (2, 0), (4, 0)], count: 0, sum: 0 });
    }
}
