//! Rejection of connections without a thread of their own: 503 at once, and the close a moment later. A socket that is
//! closed with unread input sends a reset, which can discard the answer.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::http::socket::send_now;

/// The most connections that wait to be closed. When there is one more, the oldest is closed.
const MAX_WAITING: usize = 16;
/// How long a connection stays open after the answer: 1 s, longer than an answer takes to arrive.
pub const CLOSE_DELAY: Duration = Duration::from_secs(1);
/// The most input that is read and discarded before a connection is closed, in bytes.
const MAX_DISCARDED_BYTES: usize = 16 * 1024;

/// Rejected connections that wait to be closed.
#[derive(Debug, Default)]
pub struct RejectedConnections {
    waiting: VecDeque<(Instant, TcpStream)>,
}

impl RejectedConnections {
    /// Sends the answer without blocking, and closes the connection after [`CLOSE_DELAY`].
    pub fn reject(&mut self, stream: TcpStream, answer: &[u8]) {
        self.close_expired();
        // The send buffer of a new socket has room for a short answer. If it has not, the client gets no answer.
        let _ = send_now(&stream, answer);
        let _ = stream.shutdown(Shutdown::Write);
        if self.waiting.len() == MAX_WAITING
            && let Some((_, oldest)) = self.waiting.pop_front()
        {
            close(&oldest);
        }
        self.waiting.push_back((Instant::now(), stream));
    }

    /// Whether no connection waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Closes the connections whose delay is over.
    pub fn close_expired(&mut self) {
        while self.waiting.front().is_some_and(|(since, _)| since.elapsed() >= CLOSE_DELAY) {
            if let Some((_, stream)) = self.waiting.pop_front() {
                close(&stream);
            }
        }
    }
}

/// Reads and discards the input, so that the close causes no reset unless more input follows.
fn close(stream: &TcpStream) {
    let mut bytes = [0; 1024];
    let mut stream = stream;
    let mut left = MAX_DISCARDED_BYTES;
    if stream.set_nonblocking(true).is_ok() {
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    }
}
