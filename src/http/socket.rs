//! Reads and writes on sockets that the standard library does not have.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// How long a client may take to accept an answer: 10 s.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Head and body of up to this many bytes are joined, so that they leave with one call and in one packet.
const JOINED_BYTES: usize = 16 * 1024;

/// Sends without blocking, although the socket is in blocking mode for its reader. Returns the number of bytes sent.
///
/// # Errors
/// `WouldBlock` when the send buffer is full; otherwise the system's error.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    // A closed connection causes an error and no SIGPIPE, which would end a program that has not ignored it.
    SockRef::from(stream).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// Whether the error is the socket's timeout, for which systems use one of two kinds.
#[must_use]
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Writes to a connection's stream, which may be in blocking mode, within a deadline.
///
/// # Errors
/// When the client does not read them within [`ANSWER_DEADLINE`].
pub fn write_all(stream: &TcpStream, parts: &[&[u8]]) -> io::Result<()> {
    let begun = Instant::now();
    if let [part] = parts {
        return write_part(stream, part, begun);
    }
    if parts.iter().map(|part| part.len()).sum::<usize>() <= JOINED_BYTES {
        return write_part(stream, &parts.concat(), begun);
    }
    // A long body is shared by several answers, so it is not copied.
    parts.iter().try_for_each(|part| write_part(stream, part, begun))
}

fn write_part(stream: &TcpStream, mut bytes: &[u8], begun: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        // The timeout is only set when it is needed: the socket almost always takes an answer at once.
        let sent = match send_now(stream, bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = ANSWER_DEADLINE.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                stream.set_write_timeout(Some(left))?;
                (&mut &*stream).write(bytes)
            }
            sent => sent,
        };
        match sent {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
