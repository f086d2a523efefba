//! How much was ordered of a product in the last minute.

/// The span of a rate, in seconds, with a bucket for each.
const SECONDS: usize = 60;

/// The amounts of the last 60 seconds.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// A bucket for each second; fractions only of what was spread by [`Window::set`].
    buckets: [f64; SECONDS],
    /// The second of the newest bucket.
    newest: u64,
}

impl Window {
    /// Nothing, at this second.
    pub(super) fn new(second: u64) -> Self {
        Self { buckets: [0.0; SECONDS], newest: second }
    }

    /// Counts an amount in this second.
    pub(super) fn add(&mut self, second: u64, amount: i64) {
        self.move_to(second);
        self.buckets[self.newest as usize % SECONDS] += amount as f64;
    }

    /// Replaces everything by what a server knows: the amount of the present minute, of which so many seconds are over,
    /// and that of the minute before, whose share in the last 60 seconds is estimated by its mean.
    pub(super) fn set(&mut self, second: u64, present: i64, before: i64, seconds_over: u64) {
        let over = (seconds_over as usize).clamp(1, SECONDS);
        self.newest = second;
        for age in 0..SECONDS {
            let share = if age < over { present as f64 / over as f64 } else { before as f64 / SECONDS as f64 };
            self.buckets[(second as usize + SECONDS - age) % SECONDS] = share;
        }
    }

    /// The sum over the 60 seconds up to this one.
    pub(super) fn per_minute(&mut self, second: u64) -> i64 {
        self.move_to(second);
        self.buckets.iter().sum::<f64>().round() as i64
    }

    fn move_to(&mut self, second: u64) {
        while self.newest < second {
            // After a minute all buckets are empty.
            self.newest = (self.newest + 1).max(second.saturating_sub(SECONDS as u64));
            self.buckets[self.newest as usize % SECONDS] = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_counts_for_a_minute() {
        let mut window = Window::new(7);
        window.add(7, 10);
        window.add(9, -3);
        assert_eq!((window.per_minute(9), window.per_minute(66)), (7, 7));
        assert_eq!((window.per_minute(67), window.per_minute(69)), (-3, 0));
        window.add(1_000_000, 5);
        assert_eq!(window.per_minute(1_000_000), 5);
        // A second that is over already counts as the newest.
        window.add(7, 1);
        assert_eq!(window.per_minute(1_000_000), 6);
    }

    #[test]
    fn what_a_server_knows_replaces_it_and_fades() {
        let mut window = Window::new(100);
        window.add(100, 999);
        window.set(100, 30, 120, 15);
        // 45 of the 60 seconds before are within the last minute.
        assert_eq!(window.per_minute(100), 30 + 90);
        assert_eq!(window.per_minute(100 + 45), 30);
        assert_eq!(window.per_minute(100 + 60), 0);
        window.set(200, 30, 120, 0);
        window.set(200, 30, 120, 600);
        assert_eq!(window.per_minute(200), 30);
    }
}
