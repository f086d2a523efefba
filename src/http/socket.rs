//! Socket calls that the standard library does not have.

use std::io;
use std::net::TcpStream;

use socket2::SockRef;

/// Sends without blocking, although the socket is in blocking mode for its reader. Returns the number of bytes sent.
///
/// # Errors
/// `WouldBlock` when the send buffer is full; otherwise the system's error.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    // The standard library ignores SIGPIPE, so a closed connection causes an error and not a signal.
    SockRef::from(stream).send_with_flags(bytes, libc::MSG_DONTWAIT)
}

/// Whether the error is the socket's timeout, for which systems use one of two kinds.
#[must_use]
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
