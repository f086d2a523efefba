//! Messages over a socket, each step within a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::backend::{Header, Message};
use rustls::{ClientConnection, StreamOwned};

use super::error::{PgError, Reason};

/// The largest message that is taken from a server. The pages of the log, the largest messages, are far below it.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// A server that ends a session takes its last message at once, or not at all.
const END_TIME: Duration = Duration::from_millis(100);

/// The kernel's clock of timeouts: zero would stand for no timeout.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Local(UnixStream),
}

/// A second handle of a socket.
#[derive(Debug)]
pub(super) struct Line(Kind);

impl Line {
    /// Ends the connection: whoever waits for the socket gets an error.
    pub(super) fn end(&self) {
        // It may have ended.
        let _ = match &self.0 {
            Kind::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Kind::Local(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// A socket whose reads and writes end at its deadline, with [`ErrorKind::TimedOut`].
#[derive(Debug)]
pub(super) struct Socket {
    kind: Kind,
    deadline: Instant,
}

impl Socket {
    pub(super) fn tcp(address: SocketAddr, deadline: Instant) -> io::Result<Socket> {
        let stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
        // A message is written whole: waiting for more only delays it.
        stream.set_nodelay(true)?;
        Ok(Socket { kind: Kind::Tcp(stream), deadline })
    }

    /// Connecting to a Unix socket waits only while the server's queue of connections is full.
    pub(super) fn local(path: &std::path::Path, deadline: Instant) -> io::Result<Socket> {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_write_timeout(Some(left(deadline)?))?;
        socket.connect(&socket2::SockAddr::unix(path)?)?;
        Ok(Socket { kind: Kind::Local(socket.into()), deadline })
    }

    /// A second handle, which takes a descriptor; `None` if there is none.
    fn line(&self) -> Option<Line> {
        let kind = match &self.kind {
            Kind::Tcp(stream) => stream.try_clone().map(Kind::Tcp),
            Kind::Local(stream) => stream.try_clone().map(Kind::Local),
        };
        kind.ok().map(Line)
    }

    /// Whether it is a Unix socket.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.kind, Kind::Local(_))
    }

    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
}

/// The time up to the deadline.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left.max(SHORTEST_TIMEOUT)) }
}

/// Tries again what was interrupted, and names a timeout of the kernel as one.
fn within_deadline(deadline: Instant, mut step: impl FnMut(Duration) -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match step(left(deadline)?) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            done => return done,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        within_deadline(self.deadline, |left| match &mut self.kind {
            Kind::Tcp(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(bytes)),
            Kind::Local(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(bytes)),
        })
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        within_deadline(self.deadline, |left| match &mut self.kind {
            Kind::Tcp(stream) => stream.set_write_timeout(Some(left)).and_then(|()| stream.write(bytes)),
            Kind::Local(stream) => stream.set_write_timeout(Some(left)).and_then(|()| stream.write(bytes)),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket with or without TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Stream {
    fn set_deadline(&mut self, deadline: Instant) {
        match self {
            Stream::Plain(socket) => socket.set_deadline(deadline),
            Stream::Tls(stream) => stream.sock.set_deadline(deadline),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(bytes),
            Stream::Tls(stream) => stream.read(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// Messages to and from a server. After an error it is not used again.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    received: BytesMut,
    chunk: Box<[u8]>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Wire {
        Wire { stream, received: BytesMut::new(), chunk: vec![0; READ_BYTES].into_boxed_slice() }
    }

    /// What ends the connection from another thread.
    pub(super) fn line(&self) -> Option<Line> {
        match &self.stream {
            Stream::Plain(socket) => socket.line(),
            Stream::Tls(stream) => stream.sock.line(),
        }
    }

    /// Writes whole messages.
    pub(super) fn send(&mut self, messages: &[u8], deadline: Instant) -> Result<(), PgError> {
        self.stream.set_deadline(deadline);
        // How much of it was sent is not known: TLS and the kernel have buffers.
        self.stream.write_all(messages).map_err(|error| failed(&error, "writing to the server"))
    }

    /// The next message; `None` at the deadline.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Option<Message>, PgError> {
        self.stream.set_deadline(deadline);
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(away(Reason::Connection("the server has ended the connection".to_owned()))),
                Ok(count) => self.received.extend_from_slice(&self.chunk[..count]),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(failed(&error, "reading from the server")),
            }
        }
    }

    /// Takes a whole message from what was received. A length that a server claims allocates nothing.
    fn parse(&mut self) -> Result<Option<Message>, PgError> {
        let wrong = |error: io::Error| PgError::Unexpected(format!("not a message of PostgreSQL: {error}"));
        let Some(header) = Header::parse(&self.received).map_err(wrong)? else { return Ok(None) };
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE_BYTES {
            return Err(PgError::Unexpected(format!("a message of {length} bytes; the limit is {MAX_MESSAGE_BYTES}")));
        }
        // The length counts itself, but not the letter before it.
        if self.received.len() <= length { Ok(None) } else { Message::parse(&mut self.received).map_err(wrong) }
    }

    /// Tells the server that the session ends.
    pub(super) fn end(&mut self) {
        let mut message = BytesMut::new();
        postgres_protocol::message::frontend::terminate(&mut message);
        let _ = self.send(&message, Instant::now() + END_TIME);
    }
}

/// The connection failed when a part of the call may have been sent.
fn failed(error: &io::Error, what: &str) -> PgError {
    away(match error.kind() {
        ErrorKind::TimedOut => Reason::Deadline,
        _ => Reason::Connection(format!("{what}: {error}")),
    })
}

pub(super) fn away(reason: Reason) -> PgError {
    PgError::Away { reason, may_have_run: true }
}
