//! The two things about sockets that the standard library does not have. Imports nothing of ours.

use std::io;
use std::net::TcpStream;

use socket2::SockRef;

/// One send that does not block, although the socket is in blocking mode for its reader.
///
/// # Errors
/// `WouldBlock` when the socket takes nothing now; otherwise what the system says.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    // The standard library ignores SIGPIPE, so a peer that is gone is an error here and no signal.
    SockRef::from(stream).send_with_flags(bytes, libc::MSG_DONTWAIT)
}

/// Whether a read or write ran into the socket's timeout: systems call it by two names.
#[must_use]
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
