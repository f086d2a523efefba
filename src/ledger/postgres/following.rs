//! What the ledger is asked to follow, and how far it has: shared by its thread and the one that watches the database.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the requests to follow what was committed. Each is answered by a look at the database that began after it.
#[derive(Debug, Default)]
pub struct Following {
    asked: AtomicU64,
    begun: AtomicU64,
    done: AtomicU64,
}

impl Following {
    /// Asks to follow. Returns the number of this request, and whether the ledger has to be woken: an earlier one that is
    /// not looked at yet has done that.
    pub fn ask(&self) -> (u64, bool) {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        (number, self.begun.load(Ordering::Acquire) + 1 == number)
    }

    /// Whether the request with this number was answered.
    #[must_use]
    pub fn has_done(&self, number: u64) -> bool {
        self.done.load(Ordering::Acquire) >= number
    }

    /// Begins to follow: the number of the last request, if it is not answered.
    pub(super) fn begin(&self) -> Option<u64> {
        let number = self.asked.load(Ordering::Acquire);
        if number == self.done.load(Ordering::Acquire) {
            return None;
        }
        self.begun.store(number, Ordering::Release);
        Some(number)
    }

    /// All requests up to this one are answered.
    pub(super) fn finish(&self, number: u64) {
        self.done.store(number, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_while_another_is_answered_is_answered_after_it() {
        let following = Following::default();
        assert_eq!(following.begin(), None);
        assert_eq!((following.ask(), following.ask()), ((1, true), (2, false)));
        assert_eq!(following.begin(), Some(2));
        assert_eq!(following.ask(), (3, true));
        following.finish(2);
        assert!(following.has_done(2) && !following.has_done(3));
        // One that fails is tried again.
        assert_eq!((following.begin(), following.begin()), (Some(3), Some(3)));
        following.finish(3);
        assert_eq!(following.begin(), None);
    }
}
