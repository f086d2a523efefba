//! Reads and writes on sockets that the standard library does not have.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// How long a client may take to accept an answer: 10 s.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Head and body of up to this many bytes are joined, so that they leave with one call and in one packet.
const JOINED_BYTES: usize = 16 * 1024;
/// The send buffer of every connection, in bytes; Linux doubles it for its own bookkeeping, to 128 KiB. Without it the
/// kernel holds megabytes for a client that does not read (`net.ipv4.tcp_wmem`). Small, so that a slow subscriber is
/// noticed early and gets the latest totals instead of old ones.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes in the send buffer that the kernel has not sent yet, because the client's own buffer is full: 8 KiB, some 250
/// totals (`TCP_NOTSENT_LOWAT`).
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 8 * 1024;

/// Bounds what the kernel holds for clients that do not read. Accepted connections inherit it from their listener.
pub fn bound_send_buffers(listener: &TcpListener) {
    let socket = SockRef::from(listener);
    // Without the bounds the server works, and the kernel uses its own.
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(ANSWER_DEADLINE));
}

/// Sets how long sent bytes may stay unacknowledged, or a full client may take nothing, before the kernel drops the
/// connection (`TCP_USER_TIMEOUT`). It counts after the close too. Until it is set, it is [`ANSWER_DEADLINE`].
pub fn set_ack_deadline(stream: &TcpStream, deadline: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(deadline));
}

/// Makes the close of this socket a reset: the kernel discards at once what the client has not taken.
pub fn reset_on_close(stream: &TcpStream) {
    // The socket of a connection that has ended already refuses this, and holds nothing.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Sends without blocking, although the socket is in blocking mode for its reader. Returns the number of bytes sent.
///
/// # Errors
/// `WouldBlock` when the send buffer is full; otherwise the system's error.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    // A closed connection causes an error and no SIGPIPE, which would end a program that has not ignored it.
    // By libc, where the tests of faults and power cuts record what clients have been told.
    SockRef::from(stream).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// Receives what has come, without blocking, although the socket is in blocking mode. Returns the number of bytes, 0 at
/// the end.
///
/// # Errors
/// `WouldBlock` when nothing has come; otherwise the system's error.
pub fn receive_now(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, buffer, rustix::net::RecvFlags::DONTWAIT)?.0)
}

/// Whether the error is the socket's timeout, for which systems use one of two kinds.
#[must_use]
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Writes to a connection's stream, which may be in blocking mode, within a deadline. After an error the close is a
/// reset.
///
/// # Errors
/// When the client does not read them within [`ANSWER_DEADLINE`].
pub fn write_all(stream: &TcpStream, parts: &[&[u8]]) -> io::Result<()> {
    let begun = Instant::now();
    let written = if let [part] = parts {
        write_part(stream, part, begun)
    } else if parts.iter().map(|part| part.len()).sum::<usize>() <= JOINED_BYTES {
        write_part(stream, &parts.concat(), begun)
    } else {
        // A long body is shared by several answers, so it is not copied.
        parts.iter().try_for_each(|part| write_part(stream, part, begun))
    };
    written.inspect_err(|_| reset_on_close(stream))
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
