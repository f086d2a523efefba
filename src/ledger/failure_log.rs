//! The log lines about orders that are rejected because of the disk.

use std::collections::HashMap;

use crate::log::Throttle;

/// Reasons that are remembered: more than a disk has. When there are more, all are forgotten.
const MAX_REASONS: usize = 32;

/// Logs why orders are rejected: each reason when it begins, and at most once a minute.
#[derive(Default)]
pub(super) struct FailureLog {
    reasons: HashMap<String, Throttle>,
    last: String,
    /// Whether there is a line about the present failure.
    is_logged: bool,
}

impl FailureLog {
    /// Orders are rejected for this reason; `was_failing` says whether they were before.
    pub(super) fn log(&mut self, reason: String, was_failing: bool) {
        // A failure that began within a minute of one for the same reason is logged when the minute is over.
        if was_failing && self.is_logged && reason == self.last {
            return;
        }
        if self.reasons.len() >= MAX_REASONS {
            self.reasons.clear();
        }
        if self.reasons.entry(reason.clone()).or_default().allows() {
            log::error!("orders are rejected: {reason}");
            self.is_logged = true;
        }
        self.last = reason;
    }

    /// Orders are accepted again.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_logged) {
            log::info!("orders are accepted again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is a line about the present failure after each step: a reason, or `None` for the end.
    fn logged(steps: &[Option<&str>]) -> Vec<bool> {
        let (mut log, mut is_failing) = (FailureLog::default(), false);
        let mut step = |step: Option<&str>| {
            match step {
                Some(reason) => log.log(reason.to_owned(), is_failing),
                None => log.end(),
            }
            is_failing = step.is_some();
            log.is_logged
        };
        steps.iter().copied().map(&mut step).collect()
    }

    #[test]
    fn each_reason_is_logged_when_it_begins_and_not_again_within_a_minute() {
        assert_eq!(logged(&[Some("full"), Some("full"), Some("moved"), None]), [true, true, true, false]);
        assert_eq!(logged(&[Some("full"), None, Some("full"), Some("moved")]), [true, false, false, true]);
    }

    #[test]
    fn the_memory_of_reasons_is_bounded() {
        let mut log = FailureLog::default();
        (0..10 * MAX_REASONS).for_each(|number| log.log(number.to_string(), true));
        assert!(log.reasons.len() <= MAX_REASONS);
    }
}
