//! An answer that another thread writes. The connection's own thread reads on at once and is not woken for the answer,
//! which saves a thread switch a request. Owns the rule that answers leave in the order of the requests.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::response::Answer;
use super::socket::{send_now, write_all};

/// At most one answer of one connection at a time.
#[derive(Debug)]
pub struct Deferred {
    stream: Arc<TcpStream>,
    counters: Arc<Counters>,
    state: Mutex<State>,
    sent: Condvar,
}

#[derive(Debug)]
enum State {
    /// No answer is due.
    Idle,
    /// An answer is due by this time; without it, this one is given. And whether the connection's thread waits for it.
    Due(Instant, fn() -> Answer, bool),
    /// The part of the answer that the socket did not take.
    Rest(Vec<u8>),
    /// An answer that comes now is not written.
    Abandoned,
}

/// The state of a deferred answer, as its connection sees it.
#[derive(Debug)]
pub(super) enum Progress {
    /// It has left, or none is due.
    Sent,
    /// It has not come yet.
    Due,
    /// It has not come in time and will not be written. Give this answer instead, and end the connection.
    Overdue(Answer),
}

impl Deferred {
    /// No answer is due on this connection yet.
    #[must_use]
    pub(super) fn new(stream: Arc<TcpStream>, counters: Arc<Counters>) -> Self {
        Self { stream, counters, state: Mutex::new(State::Idle), sent: Condvar::new() }
    }

    /// Begins to wait for an answer. The connection's thread writes nothing until [`Self::wait`] has returned
    /// [`Progress::Sent`].
    pub(super) fn begin(&self, patience: Duration, overdue: fn() -> Answer) {
        *self.state() = State::Due(Instant::now() + patience, overdue, false);
    }

    /// Writes the answer with this status, never blocking. What the socket does not take, because the client sends requests and reads no
    /// answers, is left to the connection's thread.
    pub fn send(&self, status: u16, answer: &[u8]) {
        let mut state = self.state();
        if matches!(*state, State::Abandoned) {
            return;
        }
        self.counters.answered_deferred(status);
        let sent = send_now(&self.stream, answer).unwrap_or(0);
        let is_awaited = matches!(*state, State::Due(.., true));
        *state = if sent == answer.len() { State::Idle } else { State::Rest(answer[sent..].to_vec()) };
        drop(state);
        // Almost never: it would be a system call for each answer.
        if is_awaited {
            self.sent.notify_one();
        }
    }

    /// Whether no answer is due, and the last one has left.
    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.state(), State::Idle)
    }

    /// Waits until the answer has left, up to `patience` if that is given, and never beyond the time when it is
    /// overdue.
    ///
    /// # Errors
    /// When the client does not take the rest of the answer.
    pub(super) fn wait(&self, patience: Option<Duration>) -> io::Result<Progress> {
        let give_up = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state();
        loop {
            match &mut *state {
                State::Idle | State::Abandoned => return Ok(Progress::Sent),
                State::Rest(rest) => {
                    let rest = std::mem::take(rest);
                    *state = State::Idle;
                    drop(state);
                    return write_all(&self.stream, &[&rest]).map(|()| Progress::Sent);
                }
                State::Due(due, overdue, is_awaited) => {
                    let now = Instant::now();
                    if now >= *due {
                        let overdue = *overdue;
                        *state = State::Abandoned;
                        return Ok(Progress::Overdue(overdue()));
                    }
                    if give_up.is_some_and(|give_up| now >= give_up) {
                        return Ok(Progress::Due);
                    }
                    *is_awaited = true;
                    let until = give_up.map_or(*due, |give_up| give_up.min(*due));
                    state = self.sent.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
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

    fn overdue() -> Answer {
        Answer::empty(500)
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_left_and_the_connection_goes_on() {
        let (mut client, server) = connection();
        let mut written = 0;
        while let Ok(sent) = send_now(&server, &[b'-'; 4_096]) {
            written += sent;
        }
        let deferred = Deferred::new(server.clone(), Arc::default());
        deferred.begin(Duration::from_secs(60), overdue);
        deferred.send(200, b"the answer");
        assert!(matches!(&*deferred.state(), State::Rest(rest) if b"the answer".ends_with(rest)));
        // Requests still come in.
        client.write_all(b"next").unwrap();
        let mut received = [0; 4];
        (&*server).read_exact(&mut received).unwrap();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        assert!(matches!(deferred.wait(Some(Duration::ZERO)), Ok(Progress::Sent)));
        drop((deferred, server));
        let all = reader.join().unwrap();
        assert_eq!(all.len(), written + b"the answer".len());
        assert!(all.ends_with(b"the answer"));
    }

    #[test]
    fn an_answer_that_comes_after_it_was_overdue_is_not_written() {
        let (mut client, server) = connection();
        let deferred = Deferred::new(server.clone(), Arc::default());
        deferred.begin(Duration::from_millis(50), overdue);
        assert!(matches!(deferred.wait(Some(Duration::ZERO)), Ok(Progress::Due)));
        let Ok(Progress::Overdue(answer)) = deferred.wait(None) else { panic!("it is overdue") };
        assert_eq!(answer.status(), 500);
        deferred.send(200, b"late");
        drop((deferred, server));
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"");
    }

    #[test]
    fn an_answer_in_time_is_written_by_the_thread_that_has_it() {
        let (mut client, server) = connection();
        let deferred = Arc::new(Deferred::new(server, Arc::default()));
        deferred.begin(Duration::from_secs(60), overdue);
        let other = deferred.clone();
        let answering = thread::spawn(move || other.send(200, b"in time"));
        assert!(matches!(deferred.wait(None), Ok(Progress::Sent)));
        answering.join().unwrap();
        drop(deferred);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"in time");
    }
}
