//! One HTTP connection: bounded reads with deadlines, and the orderly close. Owns the current request; knows nothing
//! of what requests mean.

use std::cell::OnceCell;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tiny_http::Method;

use super::chunked::Chunked;
use super::counters::Counters;
use super::deferred::{Deferred, Progress};
use super::input::{Input, READ_BYTES};
use super::problem::Problem;
use super::repeated::Repeated;
use super::request::{BodyLength, Head, MAX_HEAD_BYTES, Request};
use super::response::Answer;
use super::socket::{is_timeout, write_all};

/// How long a client may take to send a head, from its first byte (for the first request: from the connection): 10 s.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take to send a body: 10 s.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// How often a connection whose client is silent checks whether a deferred answer has left: 1 s.
const ANSWER_TICK: Duration = Duration::from_secs(1);
/// How long a connection may stay open between two requests: 75 s, the custom of nginx.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(75);
/// How long input is read and dropped before a connection is closed: 2 s. Closing with unread input resets the
/// connection, and the reset can discard the answer (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// How much input is dropped before a connection is closed, in bytes. Not a limit when the server stops: a client that
/// pipelines does not know yet that its requests are not read any more.
const LINGER_BYTES: usize = 1024 * 1024;

/// Why no request could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The client is gone, or was silent for too long between requests: close without an answer.
    Gone,
    /// Answer this with [`Connection::reject`], which closes the connection.
    Rejected(Problem),
    /// The deferred answer to the last request has not come. Give this one with [`Connection::reject`].
    Overdue(Answer),
}

impl From<Problem> for ReadError {
    fn from(problem: Problem) -> Self {
        Self::Rejected(problem)
    }
}

/// What [`Connection::read_now`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Nothing new.
    Nothing,
    /// A whole request, and nothing after it. Its body has been read, and its answer can be deferred.
    Request,
    /// Anything else: the connection's own thread reads on.
    Other,
}

/// One HTTP connection.
#[derive(Debug)]
pub struct Connection {
    stream: Arc<TcpStream>,
    /// Whether this thread waits for a request. A server that stops wakes it then by shutting down the read side, and at
    /// no other time: on a connection without read and write side Linux answers further input with a reset.
    is_waiting: Arc<AtomicBool>,
    counters: Arc<Counters>,
    /// What has been received, from the current request's head on.
    input: Input,
    served_any: bool,
    /// Made with the first answer that is deferred.
    deferred: OnceCell<Arc<Deferred>>,
    head: Option<Head>,
    repeated: Repeated,
    chunked_body: Vec<u8>,
    /// Whether the current request's body has been read, or there is none.
    body_done: bool,
}

impl Connection {
    /// A connection from which nothing has been read. The stream stays in blocking mode. `is_waiting` is set while the
    /// connection's thread waits for a request; `counters` counts the answers.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>, is_waiting: Arc<AtomicBool>, counters: Arc<Counters>) -> Self {
        Self {
            stream,
            is_waiting,
            counters,
            input: Input::default(),
            served_any: false,
            deferred: OnceCell::new(),
            head: None,
            repeated: Repeated::default(),
            chunked_body: Vec::new(),
            body_done: true,
        }
    }

    /// Takes everything that it has; one on the same stream, from which nothing has been read, is left.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let left = Self::new(self.stream.clone(), self.is_waiting.clone(), self.counters.clone());
        std::mem::replace(self, left)
    }

    /// Waits for input of the next request, or for the end, up to `patience`. Returns whether it has come.
    fn receives_within(&mut self, patience: Duration) -> bool {
        self.forget_request();
        // The next read returns the end or the error again.
        !self.input.unread().is_empty() || !self.read_more(patience).is_err_and(|error| is_timeout(&error))
    }

    /// Waits for the next request's head, for its first byte up to [`KEEP_ALIVE_IDLE`]. When it returns, a deferred
    /// answer to the last request has left.
    ///
    /// # Errors
    /// [`ReadError`] says whether there is something to answer.
    pub fn read_head(&mut self) -> Result<Request<'_>, ReadError> {
        let idle = self.wait_after_deferring()?;
        let read = self.parse_head(idle);
        // Nothing is decided, written, or closed before the deferred answer has left.
        if let Some(deferred) = self.deferred.get() {
            match deferred.wait(None) {
                Ok(Progress::Sent | Progress::Due) => {}
                Ok(Progress::Overdue(answer)) => {
                    // The next request's head, if there is one, is not the one that is answered.
                    self.head = None;
                    return Err(ReadError::Overdue(answer));
                }
                Err(_) => return Err(ReadError::Gone),
            }
        }
        read?;
        let head = self.head.as_ref().ok_or(ReadError::Gone)?;
        Ok(head.request(self.input.unread()))
    }

    /// Puts the stream into non-blocking mode for [`Self::read_now`], or back.
    ///
    /// # Errors
    /// The system's.
    pub fn set_lent(&self, is_lent: bool) -> io::Result<()> {
        self.stream.set_nonblocking(is_lent)?;
        self.is_waiting.store(is_lent, Ordering::SeqCst);
        Ok(())
    }

    /// Takes what has been received, without waiting, for a thread that reads the requests of several connections.
    pub fn read_now(&mut self) -> Received {
        if self.deferred.get().is_some_and(|deferred| !deferred.is_idle()) {
            return Received::Other;
        }
        self.forget_request();
        match self.input.read(&self.stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            // All that was asked for: there may be more, of which the caller is not told again.
            Err(_) | Ok(READ_BYTES..) => return Received::Other,
            Ok(_) => {}
        }
        // Errors are found, and answered, by the thread that reads on.
        let Ok(Some(head)) = self.repeated.parse(self.input.unread()) else { return Received::Other };
        let is_whole = match head.body {
            BodyLength::Absent => true,
            BodyLength::Known(length) => self.input.unread().len() >= head.length + length,
            BodyLength::Chunked => false,
        };
        if !is_whole {
            return Received::Other;
        }
        (self.body_done, self.head) = (true, Some(head));
        if self.can_defer() {
            return Received::Request;
        }
        self.put_back();
        Received::Other
    }

    /// Leaves the request that [`Self::read_now`] has found to be read again.
    pub fn put_back(&mut self) {
        self.head = None;
    }

    /// The request that [`Self::read_now`] has found.
    #[must_use]
    pub fn request(&self) -> Option<Request<'_>> {
        self.head.as_ref().map(|head| head.request(self.input.unread()))
    }

    /// The connection's stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// Waits for the next request while the deferred answer to the last one may be due. Returns how long the client may
    /// be silent after that.
    fn wait_after_deferring(&mut self) -> Result<Duration, ReadError> {
        let Some(deferred) = self.deferred.get().cloned() else { return Ok(KEEP_ALIVE_IDLE) };
        let begun = Instant::now();
        // Almost always the next request comes first, or the answer has left by the first tick.
        while !self.receives_within(ANSWER_TICK) {
            match deferred.wait(Some(Duration::ZERO)) {
                Ok(Progress::Due) => {}
                Ok(Progress::Sent) => return Ok(KEEP_ALIVE_IDLE.saturating_sub(begun.elapsed())),
                Ok(Progress::Overdue(answer)) => return Err(ReadError::Overdue(answer)),
                // A client that reads late sends nothing while it waits for the rest.
                Err(_) => return Err(ReadError::Gone),
            }
        }
        Ok(KEEP_ALIVE_IDLE)
    }

    /// Reads and parses the next head.
    fn parse_head(&mut self, idle: Duration) -> Result<(), ReadError> {
        self.forget_request();
        // The deadline of the first head begins with the connection, that of later ones with their first byte.
        let mut begun = (!self.served_any || !self.input.unread().is_empty()).then(Instant::now);
        let mut searched = 0;
        loop {
            // A head can only be complete, or invalid, where a line ends.
            let complete =
                self.input.unread()[searched..].contains(&b'\n') || self.input.unread().len() >= MAX_HEAD_BYTES;
            if complete && let Some(head) = self.repeated.parse(self.input.unread())? {
                self.body_done = matches!(head.body, BodyLength::Absent | BodyLength::Known(0));
                self.served_any = true;
                self.head = Some(head);
                return Ok(());
            }
            searched = self.input.unread().len();
            let left = match begun {
                None => idle,
                Some(begun) => HEAD_DEADLINE.saturating_sub(begun.elapsed()),
            };
            match self.read_more(left) {
                Ok(_) => begun = begun.or_else(|| Some(Instant::now())),
                Err(error) if is_timeout(&error) && !self.input.unread().is_empty() => {
                    return Err(Problem::new(408, "the request head took too long; send it within 10 s").into());
                }
                Err(_) => return Err(ReadError::Gone),
            }
        }
    }

    /// The current request's body, once [`Self::read_body`] has read it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match &self.head {
            Some(Head { length, body: BodyLength::Known(body), .. }) if self.body_done => {
                &self.input.unread()[*length..length + body]
            }
            Some(Head { body: BodyLength::Chunked, .. }) => &self.chunked_body,
            _ => &[],
        }
    }

    /// Reads the current request's body. Sends `100 Continue` to a client that waits for it.
    ///
    /// # Errors
    /// [`ReadError`] says whether there is something to answer.
    pub fn read_body(&mut self) -> Result<(), ReadError> {
        let Some(head) = &self.head else { return Ok(()) };
        let (start, body, expects_continue) = (head.length, head.body, head.expects_continue);
        let begun = Instant::now();
        let left = || BODY_DEADLINE.saturating_sub(begun.elapsed());
        let mut told = !expects_continue;
        let mut read_more = |connection: &mut Self| -> Result<(), ReadError> {
            if !std::mem::replace(&mut told, true) {
                write_all(&connection.stream, &[b"HTTP/1.1 100 Continue\r\n\r\n"]).map_err(|_| ReadError::Gone)?;
            }
            match connection.read_more(left()) {
                Ok(_) => Ok(()),
                Err(error) if is_timeout(&error) => {
                    Err(Problem::new(408, "the request body took too long; send it within 10 s").into())
                }
                Err(_) => Err(ReadError::Gone),
            }
        };
        match body {
            BodyLength::Absent => Ok(()),
            BodyLength::Known(length) => {
                while self.input.unread().len() < start + length {
                    read_more(self)?;
                }
                self.body_done = true;
                Ok(())
            }
            BodyLength::Chunked => {
                let mut chunked = Chunked::default();
                loop {
                    let used = chunked.feed(&self.input.unread()[start..])?;
                    self.input.cut(start, used);
                    if let Some(body) = chunked.finish() {
                        self.chunked_body = body;
                        self.body_done = true;
                        return Ok(());
                    }
                    read_more(self)?;
                }
            }
        }
    }

    /// Writes the answer to the current request. The connection stays open if `keep` is set, the client wants it, and
    /// the body has been read; otherwise it is closed so that the answer arrives. Returns whether it stays open.
    ///
    /// # Errors
    /// When the client does not take the answer.
    pub fn answer(&mut self, answer: &Answer, keep: bool) -> io::Result<bool> {
        let is_head = self.head.as_ref().is_some_and(|head| head.method == Method::Head);
        let version = tiny_http::HTTPVersion(1, 1);
        let (client_keeps, is_old) = match &self.head {
            Some(head) => (head.keep_alive, head.version < version),
            None => (false, false),
        };
        self.skip_buffered_body();
        let goes_on = keep && client_keeps && self.body_done;
        let connection = match (goes_on, is_old) {
            (false, _) => Some("close"),
            (true, true) => Some("keep-alive"),
            (true, false) => None,
        };
        let head = answer.head(version, connection);
        self.counters.answered(answer.status());
        if is_head || answer.status() == 304 {
            write_all(&self.stream, &[&head])?;
        } else {
            write_all(&self.stream, &[&head, answer.body().bytes()])?;
        }
        if !goes_on {
            let server_stops = client_keeps && self.body_done;
            self.close(if server_stops { usize::MAX } else { LINGER_BYTES });
        }
        Ok(goes_on)
    }

    /// Whether the head has been read and the body has not.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        self.head.is_some() && !self.body_done
    }

    /// Whether the current request's answer can be written by another thread while this one reads on: the connection
    /// stays open, and nothing has been received after the request.
    #[must_use]
    pub fn can_defer(&self) -> bool {
        let goes_on = |head: &Head| head.keep_alive && head.version >= tiny_http::HTTPVersion(1, 1);
        self.head.as_ref().is_some_and(goes_on) && self.body_done && self.unread_ends()
    }

    /// Where another thread can write the current request's answer.
    #[must_use]
    pub fn deferred(&self) -> &Arc<Deferred> {
        self.deferred.get_or_init(|| Arc::new(Deferred::new(self.stream.clone(), self.counters.clone())))
    }

    /// Gives the answer to a [`ReadError`], and closes.
    pub fn reject(&mut self, answer: &Answer) {
        // The head of a rejected request does not say reliably where its body ends.
        self.body_done = false;
        let _ = self.answer(answer, false);
    }

    /// Takes the stream, and what has been received after the current request's head, for an upgrade.
    #[must_use]
    pub fn take_parts(&mut self) -> (Arc<TcpStream>, Vec<u8>) {
        let start = self.head.as_ref().map_or(0, |head| head.length);
        (self.stream.clone(), self.input.take_behind(start))
    }

    /// Drops the answered request from the input.
    fn forget_request(&mut self) {
        if let Some(head) = self.head.take() {
            self.input.use_up(length_in_input(&head));
            self.repeated.put_back(head);
        }
        self.chunked_body = Vec::new();
    }

    /// An unwanted body that has been received already need not end the connection.
    fn skip_buffered_body(&mut self) {
        if let (false, Some(Head { length, body: BodyLength::Known(body), .. })) = (self.body_done, &self.head) {
            self.body_done = self.input.unread().len() >= length + body;
        }
    }

    /// Waits for more of a request.
    fn read_more(&mut self, timeout: Duration) -> io::Result<usize> {
        self.is_waiting.store(true, Ordering::SeqCst);
        let read = self.input.receive(&self.stream, timeout);
        self.is_waiting.store(false, Ordering::SeqCst);
        read
    }

    /// Ends the connection: shuts down the write side, then drops input, up to `limit` bytes, until the client has closed
    /// its side.
    fn close(&mut self, limit: usize) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        // Also when nothing has been received after the request: input can be in the kernel, or on its way.
        let begun = Instant::now();
        let mut heard = 0;
        while heard < limit {
            self.input.clear();
            match self.input.receive(&self.stream, LINGER.saturating_sub(begun.elapsed())) {
                Ok(read) => heard += read,
                Err(_) => return,
            }
        }
    }

    /// Whether nothing has been received after the current request.
    fn unread_ends(&self) -> bool {
        self.input.unread().len() <= self.head.as_ref().map_or(0, length_in_input)
    }
}

/// The bytes of a request in the input: of its head, and of its body unless that is cut out as it is read.
fn length_in_input(head: &Head) -> usize {
    match head.body {
        BodyLength::Known(length) => head.length + length,
        BodyLength::Absent | BodyLength::Chunked => head.length,
    }
}

#[cfg(test)]
mod tests;
