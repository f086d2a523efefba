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
        if was_failing && reason == self.last {
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
