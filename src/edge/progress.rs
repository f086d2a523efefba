//! How far this server has followed the other one. Requests that were passed on wait for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How far this server has followed.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the other server's feed has ever been opened.
    has_begun: bool,
    /// The number of the last order.
    seq: u64,
    /// The number of the last change of the catalogue or period.
    news: u64,
    /// How many threads wait.
    waiting: usize,
}

impl Progress {
    /// Everything up to the order with this number is known.
    pub fn set_seq(&self, seq: u64) {
        self.set(|state| state.seq = seq);
    }

    /// Everything up to this change is known, and to this order.
    pub fn set_both(&self, seq: u64, news: u64) {
        self.set(|state| (state.seq, state.news) = (seq, news));
    }

    /// The other server's feed has been opened.
    pub fn begin(&self) {
        self.set(|state| state.has_begun = true);
    }

    fn set(&self, set: impl FnOnce(&mut State)) {
        let mut state = self.state();
        set(&mut state);
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until this order and this change are known, but not beyond `deadline`. Returns whether they are.
    pub fn wait_for(&self, seq: u64, news: u64, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.seq >= seq && state.news >= news)
    }

    /// Waits until the other server's feed has been opened, but not beyond `deadline`. Returns whether it is.
    pub fn wait_for_begin(&self, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.has_begun)
    }

    fn wait(&self, deadline: Instant, is_done: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state();
        state.waiting += 1;
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(state, left, |state| !is_done(state));
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        is_done(&state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_waits_until_both_numbers_are_reached_or_the_time_is_over() {
        let progress = Arc::<Progress>::default();
        let now = Instant::now();
        assert!(!progress.wait_for_begin(now) && !progress.wait_for(1, 0, now));
        let waiting = progress.clone();
        let thread = thread::spawn(move || waiting.wait_for(7, 2, now + Duration::from_secs(60)));
        progress.set_both(5, 2);
        assert!(!progress.wait_for_begin(now));
        progress.begin();
        assert!(progress.wait_for_begin(now) && !progress.wait_for(7, 2, now) && !progress.wait_for(5, 3, now));
        progress.set_seq(7);
        assert!(thread.join().unwrap());
    }
}
