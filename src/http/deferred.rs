//! An answer that another thread writes. The connection's own thread goes back to reading at once and is not woken for
//! the answer, which saves a change of threads a request. Owns the rule that answers leave in the order of requests.

use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::socket::send_now;

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

/// How far the last answer is.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// It has left.
    Done,
    /// This much of it is left to be written, before anything else.
    Left(Vec<u8>),
    /// It has not come.
    Due,
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
        *state = if sent == answer.len() { State::Idle } else { State::Left(answer[sent..].to_vec()) };
        drop(state);
        self.settled.notify_one();
    }

    /// Waits until the answer has come, up to `patience`.
    #[must_use]
    pub fn settle(&self, patience: Duration) -> Settled {
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            match std::mem::replace(&mut *state, State::Idle) {
                State::Idle => return Settled::Done,
                State::Left(rest) => return Settled::Left(rest),
                due @ (State::Due | State::Abandoned) => *state = due,
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Settled::Due;
            }
            state = self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits no longer: an answer that has not come by now is never written. Returns whether that is so.
    #[must_use]
    pub fn abandon(&self) -> bool {
        let mut state = self.state();
        if matches!(*state, State::Due) {
            *state = State::Abandoned;
        }
        matches!(*state, State::Abandoned)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn connection() -> (TcpStream, Arc<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, Arc::new(listener.accept().unwrap().0))
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_left_and_the_connection_goes_on() {
        let (mut client, server) = connection();
        let mut written = 0;
        while let Ok(sent) = send_now(&server, &[b'-'; 4_096]) {
            written += sent;
        }
        let deferred = Deferred::new(server.clone());
        deferred.begin();
        deferred.send(b"the answer");
        let Settled::Left(rest) = deferred.settle(Duration::ZERO) else { panic!("nothing is left") };
        assert!(!rest.is_empty() && b"the answer".ends_with(&rest));
        assert_eq!(deferred.settle(Duration::ZERO), Settled::Done);
        // Requests still come in, and nothing that was sent is lost.
        client.write_all(b"next").unwrap();
        let mut heard = [0; 4];
        (&*server).read_exact(&mut heard).unwrap();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        (&*server).write_all(&rest).unwrap();
        drop((deferred, server));
        let all = reader.join().unwrap();
        assert_eq!(all.len(), written + b"the answer".len());
        assert!(all.ends_with(b"the answer"));
    }

    #[test]
    fn an_answer_that_comes_after_it_was_given_up_is_not_written() {
        let (mut client, server) = connection();
        let deferred = Deferred::new(server.clone());
        deferred.begin();
        assert_eq!(deferred.settle(Duration::ZERO), Settled::Due);
        assert!(deferred.abandon());
        deferred.send(b"late");
        drop((deferred, server));
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"");
        let (_client, server) = connection();
        let deferred = Deferred::new(server);
        deferred.begin();
        deferred.send(b"in time");
        assert!(!deferred.abandon());
    }
}
