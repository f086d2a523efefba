//! How an outcome reaches its requester.
//!
//! A request to the ledger carries a [`Reply`], which reports one [`Outcome`], exactly once, even when the request is
//! dropped unseen. A requester that waits uses [`Reply::channel`]. The HTTP service passes its connection's [`Deferred`],
//! and a function that writes the answer there, so that the connection's thread need not wait.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Rejection;
use crate::http::deferred::Deferred;

/// How a request to the ledger ended. `Ok` means that it is on disk.
pub type Outcome = Result<(), Rejection>;

/// Reports the outcome of one request.
pub struct Reply {
    recipient: Option<Recipient>,
    /// Whether its changes are in a commit: if it is dropped after that, they may have been counted.
    is_in_commit: bool,
}

/// An enum and not a closure: a request of a connection allocates nothing for its reply.
enum Recipient {
    Connection(Arc<Deferred>, fn(&Deferred, Outcome)),
    Requester(Sender<Outcome>),
}

impl Reply {
    /// A reply that calls `answer` on the ledger thread, which must not be held up.
    pub fn deferred(deferred: Arc<Deferred>, answer: fn(&Deferred, Outcome)) -> Self {
        Self::to(Recipient::Connection(deferred, answer))
    }

    /// A reply for a requester that waits. The channel is made for one request, so that an outcome that comes too late
    /// is never taken for that of the next one.
    pub(super) fn channel() -> (Self, Receiver<Outcome>) {
        let (sender, outcome) = bounded(1);
        (Self::to(Recipient::Requester(sender)), outcome)
    }

    fn to(recipient: Recipient) -> Self {
        Self { recipient: Some(recipient), is_in_commit: false }
    }

    pub(super) fn enter_commit(&mut self) {
        self.is_in_commit = true;
    }

    pub(super) fn send(mut self, outcome: Outcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        match self.recipient.take() {
            Some(Recipient::Connection(deferred, answer)) => answer(&deferred, outcome),
            // The requester may have given up.
            Some(Recipient::Requester(sender)) => drop(sender.send(outcome)),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.report(Err(if self.is_in_commit { Rejection::Unknown } else { Rejection::Stopping }));
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
}
