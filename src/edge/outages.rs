//! When the other server is tried again after an outage, and which outages are logged.

use std::time::{Duration, Instant};

use crate::log::Throttle;

/// The first pause before it is tried again: 100 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest: 2 s. Only a server that was live for longer is tried again after the first one, so that one which fails
/// right after it was live is not tried ten times a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The outages of the other server.
#[derive(Debug)]
pub struct Outages {
    pause: Duration,
    /// Since when feeds are live.
    live_since: Option<Instant>,
    /// Whether feeds were ever live.
    has_been_live: bool,
    /// Whether there is a line about the present outage.
    is_logged: bool,
    throttle: Throttle,
    replaced: Throttle,
}

impl Outages {
    /// An outage without a line: feeds have not been live yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pause: FIRST_PAUSE,
            live_since: None,
            has_been_live: false,
            is_logged: false,
            throttle: Throttle::default(),
            replaced: Throttle::default(),
        }
    }

    /// Feeds are live. Returns whether to log that.
    #[must_use]
    pub fn end(&mut self, now: Instant) -> bool {
        let is_first = !std::mem::replace(&mut self.has_been_live, true);
        self.live_since.get_or_insert(now);
        std::mem::take(&mut self.is_logged) || is_first
    }

    /// Feeds are stale. Returns whether to log that. An outage that begins within a minute of one that was logged is logged
    /// when the minute is over.
    #[must_use]
    pub fn begin(&mut self, now: Instant) -> bool {
        if let Some(since) = self.live_since.take()
            && now - since > LONGEST_PAUSE
        {
            self.pause = FIRST_PAUSE;
        }
        let logs = !self.is_logged && self.throttle.allows();
        self.is_logged |= logs;
        logs
    }

    /// The pause before the server is tried again.
    #[must_use]
    pub fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Whether to log that everything was replaced.
    #[must_use]
    pub fn logs_replacement(&mut self) -> bool {
        self.replaced.allows()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pause after each time of being live, in milliseconds.
    fn pauses(outages: &mut Outages, live_ms: &[u64]) -> Vec<u64> {
        let now = Instant::now();
        let mut pause = |live_ms: &u64| {
            let _ = outages.end(now);
            let _ = outages.begin(now + Duration::from_millis(*live_ms));
            u64::try_from(outages.pause().as_millis()).unwrap()
        };
        live_ms.iter().map(&mut pause).collect()
    }

    #[test]
    fn only_a_server_that_was_live_for_longer_than_the_longest_pause_is_tried_again_at_once() {
        let mut outages = Outages::new();
        assert_eq!(pauses(&mut outages, &[1, 1, 1, 500, 2_000, 1, 1]), [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(pauses(&mut outages, &[2_001, 1, 2_001]), [100, 200, 100]);
    }

    #[test]
    fn outages_are_logged_once_a_minute_and_their_ends_only_with_them() {
        let (mut outages, now) = (Outages::new(), Instant::now());
        assert!(outages.end(now), "the first time");
        assert!(outages.begin(now) && !outages.begin(now) && outages.end(now) && !outages.end(now));
        for _ in 0..3 {
            assert!(!outages.begin(now) && !outages.end(now), "within the minute");
        }
        assert!(!outages.begin(now));
        outages.throttle = Throttle::default();
        assert!(outages.begin(now) && outages.end(now), "the minute is over");
    }

    #[test]
    fn a_server_that_is_away_from_the_start_is_logged_once() {
        let (mut outages, now) = (Outages::new(), Instant::now());
        assert!(outages.begin(now) && !outages.begin(now) && outages.end(now));
    }
}
