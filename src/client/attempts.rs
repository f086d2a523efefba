//! When to try again: after a pause that grows, until the time is over.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// The first pause: 100 ms, in which a server that is being restarted often comes back.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: 3 s, so that a command goes on soon after the server is back.
const LONGEST: Duration = Duration::from_secs(3);
/// The longest pause that a server may ask for: a minute.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// What the last attempt may take at least, on a machine that is not busy: 200 ms.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(200);

/// Attempts to get one answer.
#[derive(Debug, Clone)]
pub(super) struct Attempts {
    /// When the command gives up; `None` for never.
    end: Option<Instant>,
    pause: Duration,
}

impl Attempts {
    /// Attempts from now on, within this time.
    pub(super) fn within(timeout: Option<Duration>) -> Self {
        // A time beyond what an Instant holds counts as none.
        Self { end: timeout.and_then(|timeout| Instant::now().checked_add(timeout)), pause: FIRST }
    }

    /// Whether the time is over.
    pub(super) fn are_over(&self) -> bool {
        self.time_left(Duration::MAX).is_zero()
    }

    /// How long the next attempt may take: at most `longest`.
    pub(super) fn time_left(&self, longest: Duration) -> Duration {
        self.end.map_or(longest, |end| end.saturating_duration_since(Instant::now()).min(longest))
    }

    /// The pause before the next attempt: the one that the server asked for, at least the first, or else one that doubles
    /// each time, less up to half of it at random, so that many clients of one server do not come back at once. `None`
    /// when the time is over.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let pause = asked.map_or_else(|| self.pause.mul_f64(1.0 - random() / 2.0), |it| it.clamp(FIRST, LONGEST_ASKED));
        self.pause = (self.pause * 2).min(LONGEST);
        let latest = self.time_left(Duration::MAX).checked_sub(SHORTEST_ATTEMPT)?;
        Some(pause.min(latest))
    }
}

/// A number from 0 to 1. Each [`RandomState`] has keys of its own.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    bits as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_those_that_are_asked_for_are_kept() {
        let mut attempts = Attempts::within(None);
        for expected in [100, 200, 400, 800, 1600, 3000, 3000] {
            let pause = attempts.pause(None).unwrap();
            let expected = Duration::from_millis(expected);
            assert!(pause <= expected && pause >= expected / 2, "{pause:?} for {expected:?}");
        }
        assert_eq!(attempts.pause(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(attempts.pause(Some(Duration::from_secs(7_000))), Some(LONGEST_ASKED));
        assert_eq!(attempts.pause(Some(Duration::ZERO)), Some(FIRST));
    }

    #[test]
    fn no_attempt_begins_or_lasts_beyond_the_end() {
        let mut attempts = Attempts::within(Some(Duration::from_secs(2)));
        assert!(attempts.time_left(Duration::from_secs(45)) <= Duration::from_secs(2));
        assert!(attempts.pause(Some(Duration::from_secs(7))).unwrap() <= Duration::from_millis(1800));
        assert_eq!(Attempts::within(Some(Duration::ZERO)).pause(None), None);
        assert_eq!(Attempts::within(Some(Duration::MAX)).pause(Some(FIRST)), Some(FIRST));
    }
}
