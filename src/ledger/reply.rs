//! Who is told an outcome, and the duty to tell it. Owns that everybody who asks is answered, whatever becomes of the
//! request.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Outcome, Rejection};

/// Somebody who is told outcomes.
pub trait Waiter: Send + Sync {
    /// Takes the outcome of a request. Called by the ledger thread, which must not be held up.
    fn tell(&self, outcome: Outcome);
}

/// Where one requester waits for the outcome of one request. Made anew for each: an outcome that comes after its requester has
/// given up must not be taken for that of the next request.
#[derive(Debug, Default)]
pub(super) struct Slot {
    outcome: Mutex<Option<Outcome>>,
    arrived: Condvar,
}

impl Waiter for Slot {
    fn tell(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.arrived.notify_one();
    }
}

impl Slot {
    /// Waits for the outcome; when the deadline has passed it is [`Rejection::Unknown`].
    pub(super) fn take(&self, deadline: Duration) -> Outcome {
        let begun = Instant::now();
        let mut place = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = place.take() {
                return outcome;
            }
            let left = deadline.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Rejection::Unknown);
            }
            place = self.arrived.wait_timeout(place, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The duty to answer one requester. It is fulfilled even when the request is dropped unseen.
pub(super) struct Reply {
    waiter: Option<Arc<dyn Waiter>>,
    /// Whether its commit has begun: what is dropped after that may have been counted.
    begun: bool,
}

impl Reply {
    pub(super) fn new(waiter: Arc<dyn Waiter>) -> Self {
        Self { waiter: Some(waiter), begun: false }
    }

    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    pub(super) fn send(mut self, outcome: Outcome) {
        if let Some(waiter) = self.waiter.take() {
            waiter.tell(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.tell(Err(if self.begun { Rejection::Unknown } else { Rejection::Stopping }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_dropped_is_answered() {
        let slot = Arc::new(Slot::default());
        let mut reply = Reply::new(slot.clone());
        drop(Reply::new(slot.clone()));
        assert_eq!(slot.take(Duration::ZERO), Err(Rejection::Stopping));
        reply.begin();
        drop(reply);
        assert_eq!(slot.take(Duration::ZERO), Err(Rejection::Unknown));
    }
}
