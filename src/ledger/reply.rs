//! How an outcome reaches its requester.
//!
//! A request to the ledger carries a [`Reply`]: the duty to report one [`Outcome`], once. It is fulfilled even when the
//! request is dropped unseen. A requester that waits uses [`Reply::channel`]; the HTTP service passes a closure that
//! writes the answer to the connection (`http::deferred::Deferred`), so that the connection's thread need not wait.

use crossbeam_channel::{Receiver, bounded};

use super::Rejection;

/// How a request to the ledger ended. `Ok` means that it is on disk.
pub type Outcome = Result<(), Rejection>;

/// The duty to report the outcome of one request.
pub struct Reply {
    report: Option<Box<dyn FnOnce(Outcome) + Send>>,
    /// Whether its changes are in a commit: if it is dropped after that, they may have been counted.
    is_in_commit: bool,
}

impl Reply {
    /// A reply that calls `report`, on the ledger thread, which must not be held up.
    pub fn new(report: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self { report: Some(Box::new(report)), is_in_commit: false }
    }

    /// A reply for a requester that waits. The channel is made for one request, so that an outcome that comes too late
    /// is never taken for that of the next one.
    pub(super) fn channel() -> (Self, Receiver<Outcome>) {
        let (sender, outcome) = bounded(1);
        let report = move |outcome| {
            // The requester may have given up.
            let _ = sender.send(outcome);
        };
        (Self::new(report), outcome)
    }

    pub(super) fn enter_commit(&mut self) {
        self.is_in_commit = true;
    }

    pub(super) fn send(mut self, outcome: Outcome) {
        if let Some(report) = self.report.take() {
            report(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(Err(if self.is_in_commit { Rejection::Unknown } else { Rejection::Stopping }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_dropped_is_answered() {
        let (reply, outcome) = Reply::channel();
        drop(reply);
        assert_eq!(outcome.recv(), Ok(Err(Rejection::Stopping)));
        let (mut reply, outcome) = Reply::channel();
        reply.enter_commit();
        drop(reply);
        assert_eq!(outcome.recv(), Ok(Err(Rejection::Unknown)));
    }

    #[test]
    fn an_outcome_for_a_requester_that_has_given_up_is_dropped() {
        let (reply, outcome) = Reply::channel();
        drop(outcome);
        reply.send(Ok(()));
    }
}
