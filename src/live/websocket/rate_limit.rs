//! A limit on how much may come in a second.

use std::time::Instant;

/// A token bucket that fills within a second.
pub(super) struct RateLimit {
    per_second: u32,
    left: f64,
    filled_at: Instant,
}

impl RateLimit {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, left: f64::from(per_second), filled_at: Instant::now() }
    }

    /// Takes this much out of the bucket, if it has so much.
    pub(super) fn allows(&mut self, amount: u32) -> bool {
        let now = Instant::now();
        let refill = now.duration_since(self.filled_at).as_secs_f64() * f64::from(self.per_second);
        self.left = (self.left + refill).min(f64::from(self.per_second));
        self.filled_at = now;
        let allows = self.left >= f64::from(amount);
        if allows {
            self.left -= f64::from(amount);
        }
        allows
    }
}
