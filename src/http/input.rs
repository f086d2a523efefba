//! What a connection has received and not used yet. Owns the buffer and its bounds, and the read timeout of the socket;
//! knows nothing of requests.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

/// How much is read at once: an order with a browser's headers fits.
pub(super) const READ_BYTES: usize = 2 * 1024;
/// The buffer is shrunk to this many bytes when it is empty.
const KEPT_BYTES: usize = 4 * READ_BYTES;

/// The bytes that have been received on one socket and not used.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The first `used` of them have been used.
    bytes: Vec<u8>,
    used: usize,
    /// The read timeout of the socket, so that it is only set when it changes.
    timeout: Option<Duration>,
}

impl Input {
    /// What has not been used.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Drops so many bytes, or all there are.
    pub(super) fn use_up(&mut self, count: usize) {
        self.used += count;
        if self.used >= self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
            self.used = 0;
        }
    }

    /// Drops so many bytes behind the first `start`, of which there must be as many.
    pub(super) fn cut(&mut self, start: usize, count: usize) {
        let start = self.used + start;
        self.bytes.drain(start..start + count);
    }

    /// Takes what is behind the first `start` bytes.
    pub(super) fn take_behind(&mut self, start: usize) -> Vec<u8> {
        self.bytes.split_off((self.used + start).min(self.bytes.len()))
    }

    /// Drops everything, and keeps the room.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.used = 0;
    }

    /// Waits for more, up to `timeout`. Returns the number of bytes.
    ///
    /// # Errors
    /// When none has come in time, at the end of the input, and the system's.
    pub(super) fn receive(&mut self, stream: &TcpStream, timeout: Duration) -> io::Result<usize> {
        if timeout.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.timeout != Some(timeout) {
            stream.set_read_timeout(Some(timeout))?;
            self.timeout = Some(timeout);
        }
        self.read(stream)
    }

    /// Reads once, at most [`READ_BYTES`]. Returns the number of bytes.
    ///
    /// # Errors
    /// At the end of the input, and the system's.
    pub(super) fn read(&mut self, mut stream: &TcpStream) -> io::Result<usize> {
        self.bytes.drain(..self.used);
        self.used = 0;
        let filled = self.bytes.len();
        // No more at once: what a client sends ahead would make the buffer grow without a bound.
        self.bytes.resize(filled + READ_BYTES, 0);
        let read = loop {
            match stream.read(&mut self.bytes[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.bytes.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
