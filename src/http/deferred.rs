//! An answer that another thread writes. The connection's own thread goes back to reading at once and is not woken for
//! the answer, which saves a change of threads a request. Owns the rule that answers leave in the order of requests.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::net::send_now;

#[derive(Debug)]
enum State {
    /// No answer is due.
    Idle,
    /// Another thread has been asked for one.
    Due,
    /// The socket did not take all of it: this is left.
    Left(Vec<u8>),
    /// Nobody waits for it any more.
    Abandoned,
}

/// At most one answer of one connection at a time. See the module's head.
#[derive(Debug)]
pub struct Deferred {
    stream: Arc<TcpStream>,
    state: Mutex<State>,
    settled: Condvar,
}

impl Deferred {
    /// No answer is due on this connection yet.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, state: Mutex::new(State::Idle), settled: Condvar::new() }
    }

    /// Begins to wait for an answer. Called by the connection's thread, which writes nothing itself until
    /// [`Self::settle`] has returned.
    pub fn begin(&self) {
        *self.state() = State::Due;
    }

    /// Writes the answer, never blocking. Called by the other thread. What the socket does not take, which needs a
    /// client that sends requests and reads no answers, is left to the connection's thread.
    pub fn send(&self, answer: &[u8]) {
        let mut state = self.state();
        if matches!(*state, State::Abandoned) {
            return;
        }
        let sent = send_now(&self.stream, answer).unwrap_or(0);
        *state = if sent == answer.len() {
            State::Idle
        } else {
            // Wakes the connection's thread, which waits for a request.
            let _ = self.stream.shutdown(Shutdown::Read);
            State::Left(answer[sent..].to_vec())
        };
        drop(state);
        self.settled.notify_one();
    }

    /// Waits until no answer is due, up to `patience`. Returns what has to be written still, after which the connection
    /// must end; that is `unknown` when the answer has not come, which then is never written.
    #[must_use]
    pub fn settle(&self, patience: Duration, unknown: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            match std::mem::replace(&mut *state, State::Idle) {
                State::Idle => return None,
                State::Left(answer) => return Some(answer),
                State::Due | State::Abandoned => {
                    let left = patience.saturating_sub(begun.elapsed());
                    if left.is_zero() {
                        *state = State::Abandoned;
                        return Some(unknown());
                    }
                    *state = State::Due;
                    state = self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
