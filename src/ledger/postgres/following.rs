//! What the ledger is asked to follow, and how far it has: shared by its thread and the one that watches the database.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::postgres::Place;

/// Counts the requests to follow what was committed. Each is answered by a look at the database that began after it, or
/// without one by a server that has followed up to its place.
#[derive(Debug, Default)]
pub struct Following(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    asked: u64,
    begun: u64,
    done: u64,
    /// The furthest place of the requests that are not answered.
    wanted: Place,
}

impl Following {
    /// Asks to follow up to this place. Returns the number of this request, and whether the ledger has to be woken: an
    /// earlier one that is not looked at yet has done that.
    pub fn ask(&self, place: Place) -> (u64, bool) {
        let mut state = self.state();
        state.asked += 1;
        state.wanted = Place { seq: state.wanted.seq.max(place.seq), news: state.wanted.news.max(place.news) };
        (state.asked, state.begun + 1 == state.asked)
    }

    /// Whether the request with this number was answered.
    #[must_use]
    pub fn has_done(&self, number: u64) -> bool {
        self.state().done >= number
    }

    /// Begins to follow: the number of the last request, if it is not answered, and up to where.
    pub(super) fn begin(&self) -> Option<(u64, Place)> {
        let mut state = self.state();
        if state.asked == state.done {
            return None;
        }
        state.begun = state.asked;
        Some((state.asked, state.wanted))
    }

    /// All requests up to this one are answered.
    pub(super) fn finish(&self, number: u64) {
        let mut state = self.state();
        state.done = number;
        if state.asked == number {
            state.wanted = Place::default();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_while_another_is_answered_is_answered_after_it() {
        let following = Following::default();
        let place = |seq| Place { seq, news: 1 };
        assert_eq!(following.begin(), None);
        assert_eq!((following.ask(place(7)), following.ask(place(5))), ((1, true), (2, false)));
        assert_eq!(following.begin(), Some((2, place(7))));
        assert_eq!(following.ask(place(6)), (3, true));
        following.finish(2);
        assert!(following.has_done(2) && !following.has_done(3));
        // One that fails is tried again.
        assert_eq!((following.begin(), following.begin()), (Some((3, place(7))), Some((3, place(7)))));
        following.finish(3);
        assert_eq!((following.begin(), following.ask(place(8))), (None, (4, true)));
        assert_eq!(following.begin(), Some((4, place(8))));
    }
}
