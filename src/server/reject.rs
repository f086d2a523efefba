//! Turning connections away without a thread of their own: the answer 503 at once, and the close a moment later, so
//! that the reset which unread input causes does not eat the answer. Owns a short ring of such connections.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::http::socket::send_now;

/// Connections that wait for their close; when one more comes, the oldest is closed.
const RING: usize = 16;
/// How long one waits: 1 s, longer than any answer takes to arrive.
pub const WAIT: Duration = Duration::from_secs(1);
/// Input that is read from one before it is closed.
const DROP_BYTES: usize = 16 * 1024;

/// See the module's head.
#[derive(Debug, Default)]
pub struct RejectedConnections {
    waiting: VecDeque<(Instant, TcpStream)>,
}

impl RejectedConnections {
    /// Sends the ready-made answer, never blocking, and keeps the connection for a moment.
    pub fn send(&mut self, stream: TcpStream, answer: &[u8]) {
        self.tidy();
        // A fresh socket's buffer has room for a short answer; if not, this client goes without.
        let _ = send_now(&stream, answer);
        let _ = stream.shutdown(Shutdown::Write);
        if self.waiting.len() == RING
            && let Some((_, oldest)) = self.waiting.pop_front()
        {
            close(&oldest);
        }
        self.waiting.push_back((Instant::now(), stream));
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Closes those whose time is over.
    pub fn tidy(&mut self) {
        while self.waiting.front().is_some_and(|(since, _)| since.elapsed() >= WAIT) {
            if let Some((_, stream)) = self.waiting.pop_front() {
                close(&stream);
            }
        }
    }
}

/// Reads what has come in, so that the close is an orderly one if nothing more follows.
fn close(stream: &TcpStream) {
    let mut bytes = [0; 1024];
    let mut stream = stream;
    let mut left = DROP_BYTES;
    if stream.set_nonblocking(true).is_ok() {
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    }
}
