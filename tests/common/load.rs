//! Load: many posters and many subscribers.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::websocket::{CLOSE, PING, PONG, TEXT, frame, frame_head};
use super::{Client, WebSocket};

/// Enough for a thread that follows a feed, and small enough for hundreds of threads.
const STACK_BYTES: usize = 256 * 1024;

/// Waits for the other tests of this binary that load the machine, and keeps them waiting until it is dropped: what
/// each measures would be the load of the others. Tests that mostly wait run beside them.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Posts orders for A1 with the amount 1 as fast as the server takes them: requests are pipelined on each connection.
pub fn pipeline_orders(addr: SocketAddr, connections: usize, each: usize) {
    const DEPTH: usize = 50;
    const ORDER: &str = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 12\r\n\r\n{\"amount\":1}";
    assert!(each.is_multiple_of(DEPTH));
    thread::scope(|scope| {
        for _ in 0..connections {
            spawn(scope, || {
                let mut client = Client::connect(addr);
                let requests = ORDER.repeat(DEPTH);
                for _ in 0..each / DEPTH {
                    client.write(&requests);
                    for _ in 0..DEPTH {
                        assert_eq!(client.reply().body, b"{\"ok\":true}");
                    }
                }
            });
        }
    });
}

/// A scoped thread with a small stack.
pub fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).expect("a thread can be started")
}

/// The product and the total of a feed's message; `None` unless it has exactly the form `{"id":"A1","total":13}`.
pub fn parse_total(message: &[u8]) -> Option<(&str, i64)> {
    let message = std::str::from_utf8(message).ok()?;
    let message = message.strip_prefix("{\"id\":\"")?.strip_suffix('}')?;
    let (id, total) = message.split_once("\",\"total\":")?;
    let number: i64 = total.parse().ok()?;
    // Only the canonical form of a number: no plus sign, no leading zero, no minus zero.
    (number.to_string() == total).then_some((id, number))
}

/// Passes every text to `each` until that returns false. Pings are answered. The deadline is for all of it.
pub fn follow(subscriber: WebSocket, deadline: Duration, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<WebSocket> {
    let end = Instant::now() + deadline;
    let (mut stream, mut buffer) = subscriber.into_parts();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let mut used = 0;
        while let Some((opcode, head, length)) = frame_head(&buffer[used..])? {
            let start = used + head;
            let Some(payload) = buffer.get(start..start + length) else {
                break;
            };
            let goes_on = match opcode {
                TEXT => each(payload),
                PING => {
                    io::Write::write_all(&mut stream, &frame(PONG, true, payload))?;
                    true
                }
                CLOSE => return Err(ErrorKind::ConnectionAborted.into()),
                _ => return Err(ErrorKind::InvalidData.into()),
            };
            used = start + length;
            if !goes_on {
                let rest = buffer.split_off(used);
                return Ok(WebSocket::from_parts(stream, rest));
            }
        }
        buffer.drain(..used);
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match super::read(&stream, &mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => buffer.extend_from_slice(&chunk[..length]),
        }
    }
}
