//! The log lines about orders that are rejected because of the store.

use crate::log::Failures;

/// Logs why orders are rejected.
#[derive(Default)]
pub(super) struct FailureLog(Failures);

impl FailureLog {
    /// Orders are rejected for this reason; `was_failing` says whether they were before.
    pub(super) fn log(&mut self, reason: &str, was_failing: bool) {
        if self.0.must_log(reason, was_failing) {
            log::error!("orders are rejected: {reason}");
        }
    }

    /// Orders are accepted again.
    pub(super) fn end(&mut self) {
        if self.0.end() {
            log::info!("orders are accepted again");
        }
    }
}
