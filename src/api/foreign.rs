//! Log lines about requests that were rejected for their `Host` or `Origin`: the first one at once, then a sum a minute.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::log::Throttle;

/// The longest host or origin that is repeated, in bytes: a scheme, the longest host name, and a port.
pub(super) const MAX_REPEATED_BYTES: usize = 270;

/// The rejected requests of both kinds.
#[derive(Debug, Default)]
pub struct ForeignRequests {
    pub(super) hosts: Rejected,
    pub(super) origins: Rejected,
}

impl ForeignRequests {
    /// Logs the sums that are due. Returns when the next one is.
    pub fn log_sums(&self) -> Option<Instant> {
        let next = [self.hosts.log("Host", "--allow-host"), self.origins.log("Origin", "--allow-origin")];
        next.into_iter().flatten().min()
    }
}

/// Rejected requests of one kind.
#[derive(Debug, Default)]
pub(super) struct Rejected(Mutex<Unlogged>);

#[derive(Debug, Default)]
struct Unlogged {
    throttle: Throttle,
    count: u64,
    /// The latest value.
    last: String,
}

impl Rejected {
    /// Counts a request that was rejected for this value.
    pub(super) fn add(&self, value: &str) {
        let mut unlogged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unlogged.count += 1;
        unlogged.last = match value.len() {
            0..=MAX_REPEATED_BYTES => format!("{value:?}"),
            bytes => format!("of {bytes} bytes"),
        };
    }

    /// Logs how many requests have been rejected since the last line, unless it is too early. Returns when it is not.
    pub(super) fn log(&self, line: &str, flag: &str) -> Option<Instant> {
        let mut unlogged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unlogged.count > 0 && unlogged.throttle.allows() {
            log::warn!("{}", unlogged.text(line, flag));
            unlogged.count = 0;
        }
        if unlogged.count > 0 { unlogged.throttle.allows_at() } else { None }
    }
}

impl Unlogged {
    fn text(&self, line: &str, flag: &str) -> String {
        let Self { count, last, .. } = self;
        match count {
            1 => format!("a request was rejected for its {line} {last}; {flag} adds one"),
            _ => format!("{count} requests were rejected for their {line}, the last one {last}; {flag} adds one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_is_due_at_once_and_later_ones_as_a_sum() {
        let rejected = Rejected::default();
        let state = || rejected.0.lock().unwrap();
        rejected.add("http://evil.example");
        assert_eq!(
            state().text("Origin", "--allow-origin"),
            "a request was rejected for its Origin \"http://evil.example\"; --allow-origin adds one"
        );
        assert_eq!(rejected.log("Origin", "--allow-origin"), None);
        assert_eq!(state().count, 0);
        for _ in 0..2 {
            rejected.add("http://\"\u{1b}[2J");
            assert!(rejected.log("Origin", "--allow-origin").is_some_and(|due| due > Instant::now()));
        }
        assert_eq!(state().count, 2, "within the minute they are counted only");
        let text = state().text("Origin", "--allow-origin");
        assert!(
            text.starts_with("2 requests were rejected for their Origin, the last one \"http://\\\"\\u{1b}[2J\""),
            "{text}"
        );
        state().throttle = Throttle::default();
        assert_eq!(rejected.log("Origin", "--allow-origin"), None);
        assert_eq!(state().count, 0);
        rejected.add(&"x".repeat(10_000));
        assert!(state().text("Host", "--allow-host").contains("of 10000 bytes"));
    }
}
