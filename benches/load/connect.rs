//! Opens connections: plain ones for posters, WebSockets for subscribers, many at a time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::answer::head_length;

/// Concurrent handshakes: enough to keep any server busy, fewer than any accept backlog.
const CONCURRENCY: usize = 64;
/// After this time without a completed handshake the server counts as stuck.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Connections from one source address before the next is used, far below the ephemeral port range.
const PER_SOURCE: u32 = 4096;
/// The key of the example in RFC 6455, section 1.3, and its accept value.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Connections opened so far. Each group of `PER_SOURCE` has its own loopback address, and so its own ports.
static OPENED: AtomicU32 = AtomicU32::new(0);

/// A WebSocket and the bytes received after the head of its handshake.
pub struct Feed {
    pub stream: TcpStream,
    pub early: Vec<u8>,
}

/// What a handshake waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The head with status 101.
    Upgraded,
    /// The head and the first message.
    FirstMessage,
}

/// Adds the stream to the poll, for reading, under the token `index`.
pub fn watch(poll: &Poll, stream: &TcpStream, index: usize) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(index), Interest::READABLE)
}

/// A connection to `server`, with a receive buffer of so many bytes where a number is given.
pub fn plain(server: SocketAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let group = OPENED.fetch_add(1, Ordering::Relaxed) / PER_SOURCE;
    let source = Ipv4Addr::new(127, 1, (group % 250) as u8, 1);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        // Before connecting, because the first window offered depends on it.
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&server.into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// `count` subscriptions to `path`, so many handshakes at a time.
pub fn subscribe_at_once(
    server: SocketAddr,
    path: &str,
    count: usize,
    at_once: usize,
    until: Until,
) -> Result<Vec<Feed>, String> {
    subscribe_with(server, path, count, at_once, None, until)
}

/// `count` subscriptions to `path`.
pub fn subscribe(
    server: SocketAddr,
    path: &str,
    count: usize,
    receive_buffer: Option<usize>,
    until: Until,
) -> Result<Vec<Feed>, String> {
    subscribe_with(server, path, count, CONCURRENCY, receive_buffer, until)
}

fn subscribe_with(
    server: SocketAddr,
    path: &str,
    count: usize,
    at_once: usize,
    receive_buffer: Option<usize>,
    until: Until,
) -> Result<Vec<Feed>, String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let open = || -> io::Result<Handshake> {
        let mut stream = plain(server, receive_buffer)?;
        stream.write_all(request.as_bytes())?;
        Ok(Handshake { stream, read: Vec::new(), head: None })
    };
    handshakes(count, at_once, until, open).map_err(|error| format!("subscribing to {path}: {error}"))
}

struct Handshake {
    stream: TcpStream,
    read: Vec<u8>,
    /// Length of the head, once it is complete.
    head: Option<usize>,
}

fn handshakes(
    count: usize,
    at_once: usize,
    until: Until,
    open: impl Fn() -> io::Result<Handshake>,
) -> io::Result<Vec<Feed>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(at_once);
    let mut slots: Vec<Option<Handshake>> = (0..at_once).map(|_| None).collect();
    let mut feeds = Vec::with_capacity(count);
    let mut opened = 0;
    let mut last_progress = Instant::now();
    while feeds.len() < count {
        for (index, slot) in slots.iter_mut().enumerate() {
            if slot.is_none() && opened < count {
                let handshake = open()?;
                watch(&poll, &handshake.stream, index)?;
                *slot = Some(handshake);
                opened += 1;
            }
        }
        poll.poll(&mut events, Some(HANDSHAKE_DEADLINE))?;
        for event in &events {
            let slot = &mut slots[event.token().0];
            let Some(handshake) = slot else { continue };
            handshake.read_some()?;
            if !handshake.done(until)? {
                continue;
            }
            if let Some(Handshake { stream, mut read, head }) = slot.take() {
                poll.registry().deregister(&mut SourceFd(&stream.as_raw_fd()))?;
                feeds.push(Feed { stream, early: read.split_off(head.unwrap_or(0)) });
                last_progress = Instant::now();
            }
        }
        if last_progress.elapsed() > HANDSHAKE_DEADLINE {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(feeds)
}

impl Handshake {
    fn read_some(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.read.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn done(&mut self, until: Until) -> io::Result<bool> {
        if self.head.is_none() {
            let Some(length) = head_length(&self.read) else {
                return Ok(false);
            };
            let head = &self.read[..length];
            let accepted = head.windows(ACCEPT.len()).any(|window| window == ACCEPT);
            if !head.starts_with(b"HTTP/1.1 101") || !accepted {
                let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
                return Err(io::Error::other(format!("not upgraded: {}", String::from_utf8_lossy(line))));
            }
            self.head = Some(length);
        }
        let early = &self.read[self.head.unwrap_or(0)..];
        Ok(until == Until::Upgraded || matches!(early, [_, length, rest @ ..] if rest.len() >= usize::from(*length)))
    }
}
