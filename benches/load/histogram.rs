//! A histogram of latencies: constant memory, no allocation per sample, values within 1.6 %.

use std::time::Duration;

/// Buckets per power of two: 64 keep the error under 1/64 of the value.
const SUB_BUCKETS: usize = 64;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// One linear range below `SUB_BUCKETS` nanoseconds, then one range per power of two of a u64.
const BUCKETS: usize = SUB_BUCKETS * (64 - SUB_BITS as usize + 1);

/// Counts of durations in nanoseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts a sample of `nanos` nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// The value that `share` (0 to 1) of the samples do not exceed; `None` without samples.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_nanos(upper_bound(index).min(self.max)));
            }
        }
        Some(Duration::from_nanos(self.max))
    }

    /// The largest sample; `None` without samples.
    pub fn max(&self) -> Option<Duration> {
        (self.total > 0).then(|| Duration::from_nanos(self.max))
    }

    /// The number of samples.
    pub fn count(&self) -> u64 {
        self.total
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < SUB_BUCKETS as u64 {
        return nanos as usize;
    }
    let shift = 63 - nanos.leading_zeros() - SUB_BITS;
    let within = (nanos >> shift) as usize - SUB_BUCKETS;
    (shift as usize + 1) * SUB_BUCKETS + within
}

fn upper_bound(index: usize) -> u64 {
    if index < SUB_BUCKETS {
        return index as u64;
    }
    let shift = index / SUB_BUCKETS - 1;
    let within = (index % SUB_BUCKETS + SUB_BUCKETS) as u64;
    (within << shift) + ((1 << shift) - 1)
}
