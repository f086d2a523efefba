//! One WebSocket's life behind its handshake: what is heard, and when the session ends. Owns the heartbeat, the flood
//! limit and the close codes; the only user of tungstenite's protocol. What is talked about is a [`Conversation`]'s affair,
//! and totals pass by: they go from the fan-out thread through the [`Subscriber`] straight to the socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::http::socket::is_timeout;
use crate::json::CLOSE_FRAME;
use crate::live::frame_check::{FrameCheck, Violation};
use crate::live::slow_sockets::SlowSockets;
use crate::live::subscriber::{Drained, Subscriber, WRITE_DEADLINE};

/// The longest inbound message, in bytes: 16 KiB, a hundred times a command.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Inbound messages a second, and at once, before a session is closed for flooding.
pub const MESSAGES_PER_SECOND: u32 = 20;
/// What a message's frame headers may add to it, in bytes, when inbound bytes are counted.
const MESSAGE_OVERHEAD_BYTES: usize = 16;
/// How long a client may be silent before it is pinged: 25 s, below the usual 30 s and 60 s timeouts of proxies.
pub const PING_AFTER: Duration = Duration::from_secs(25);
/// How long a pinged client may be silent before it counts as dead: 10 s.
pub const PONG_WITHIN: Duration = Duration::from_secs(10);
/// How long a session waits for the other side to close after it has closed itself: 2 s.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How often a session that has ended looks whether its slow client has taken all of it: 50 ms.
const PART_TICK: Duration = Duration::from_millis(50);
/// What the kernel may hold of what a client has not taken, in bytes; Linux doubles the number for its own books, to
/// 128 KiB. Small, so that a slow client is noticed early and given the latest totals instead of old ones.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What the kernel may hold that it has not even sent yet, because the client's own buffer is full: 8 KiB, some two
/// hundred and fifty totals (`TCP_NOTSENT_LOWAT`).
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 8 * 1024;
/// tungstenite's read buffer, which lives as long as the session: 256 bytes, since commands are short and rare. Its
/// default is 128 KiB.
const READ_BUFFER_BYTES: usize = 256;

/// What a client may send. The default is what the product allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest message, in bytes.
    pub message_bytes: usize,
    /// Messages a second, and at once; `None` for no limit. As many bytes a second as these messages may have are
    /// allowed too: frames that never become a message count there.
    pub messages_per_second: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: MAX_MESSAGE_BYTES, messages_per_second: Some(MESSAGES_PER_SECOND) }
    }
}

/// A close that this side begins.
#[derive(Debug)]
pub struct Goodbye(pub CloseCode, pub &'static str);

/// What a session is about: what its client is told without asking, and what becomes of what the client says.
pub trait Conversation {
    /// The subscriber may be written to from now on.
    fn begin(&mut self, subscriber: &Arc<Subscriber>);

    /// Whether the session may go on; asked whenever the client has said something, and when it has long been silent.
    ///
    /// # Errors
    /// The close that ends it.
    fn check(&self) -> Result<(), Goodbye>;

    /// Does what a message, text or binary, asks for. Returns what to say.
    ///
    /// # Errors
    /// The close that ends the session.
    fn hear(&mut self, subscriber: &Arc<Subscriber>, message: Message) -> Result<Option<Message>, Goodbye>;

    /// The subscriber lagged, and has sent all it had.
    fn caught_up(&self, subscriber: &Arc<Subscriber>);

    /// Nothing more may be sent to the subscriber. Called at least once.
    fn end(&self, subscriber: &Arc<Subscriber>);
}

/// Bounds what the kernel holds of what a client has not taken.
pub(crate) fn bound_buffers(stream: &TcpStream) {
    // Without the small buffers the session works all the same, only its lag is seen later.
    let _ = SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}

/// Runs one session on this thread until it ends. The handshake has been answered; `early` is what the client has sent
/// behind it.
#[inline(never)]
pub fn run<C: Conversation>(
    stream: Arc<TcpStream>,
    early: Vec<u8>,
    slow_sockets: &SlowSockets,
    limits: Limits,
    conversation: C,
) {
    bound_buffers(&stream);
    let subscriber = Subscriber::new(stream.clone(), slow_sockets.clone());
    let mut session = Session::boxed(stream, early, subscriber.clone(), limits, conversation);
    session.socket.get_mut().conversation.begin(&subscriber);
    session.talk();
    let _ = subscriber.flush();
    subscriber.close();
    session.socket.get_ref().conversation.end(&subscriber);
}

struct Session<C: Conversation> {
    socket: WebSocket<Wire<C>>,
    limits: Limits,
    allowance: Option<Allowance>,
}

impl<C: Conversation> Session<C> {
    /// On the heap, and not inlined: the caller's frame, which lives as long as the session, stays small.
    #[inline(never)]
    fn boxed(
        stream: Arc<TcpStream>,
        early: Vec<u8>,
        subscriber: Arc<Subscriber>,
        limits: Limits,
        conversation: C,
    ) -> Box<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.message_bytes));
        let message_bytes = (limits.message_bytes + MESSAGE_OVERHEAD_BYTES) as u32;
        let allowance =
            limits.messages_per_second.map(|messages| Allowance::new(messages.saturating_mul(message_bytes)));
        let wire = Wire {
            stream,
            early,
            frame_check: FrameCheck::default(),
            violation: None,
            subscriber,
            conversation,
            deadline: None,
            allowance,
        };
        let socket = WebSocket::from_raw_socket(wire, Role::Server, Some(config));
        Box::new(Self { socket, limits, allowance: limits.messages_per_second.map(Allowance::new) })
    }

    fn talk(&mut self) {
        // What had been taken of the client's totals when it was pinged.
        let mut pinged: Option<u64> = None;
        self.set_timeout(PING_AFTER);
        loop {
            let heard = self.socket.read();
            if pinged.is_some() && !matches!(&heard, Err(Error::Io(_))) {
                pinged = None;
                self.set_timeout(PING_AFTER);
            }
            let goodbye = match heard {
                Ok(_) if self.is_flooded() => Goodbye(CloseCode::Policy, "too many messages; slow down"),
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => match self.answer(message) {
                    Ok(()) => continue,
                    Err(Some(goodbye)) => goodbye,
                    Err(None) => return,
                },
                // tungstenite answers pings and closes by itself, with the next read.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => continue,
                Err(Error::Io(error)) if is_timeout(&error) => {
                    if let Err(goodbye) = self.socket.get_ref().conversation.check() {
                        return self.close(goodbye);
                    }
                    let taken = self.socket.get_ref().subscriber.taken();
                    match pinged.replace(taken) {
                        None => {
                            self.set_timeout(PONG_WITHIN);
                            match self.socket.send(Message::Ping(tungstenite::Bytes::new())) {
                                Ok(()) => continue,
                                Err(_) => return,
                            }
                        }
                        // The ping waits behind totals that the client is slowly taking: it lives.
                        Some(before) if before != taken => continue,
                        Some(_) => return,
                    }
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::QuotaExceeded => {
                    Goodbye(CloseCode::Policy, "too many frames; slow down")
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                    match self.socket.get_ref().conversation.check() {
                        Ok(()) => continue,
                        Err(goodbye) => goodbye,
                    }
                }
                Err(Error::Io(_)) if self.violation() == Some(Violation::Protocol) => {
                    return self.fail(CloseCode::Protocol, "protocol error");
                }
                Err(Error::Io(_)) if self.violation() == Some(Violation::Utf8) => {
                    return self.fail(CloseCode::Invalid, "text must be UTF-8");
                }
                // The client has said goodbye, and its farewell has been returned.
                Err(Error::ConnectionClosed) => return self.part(),
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return,
                Err(Error::Protocol(_)) => return self.fail(CloseCode::Protocol, "protocol error"),
                Err(Error::Utf8(_)) => return self.fail(CloseCode::Invalid, "text must be UTF-8"),
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                    return self.fail_size();
                }
                Err(_) => return,
            };
            return self.close(goodbye);
        }
    }

    // These three are not inlined: their frames would be part of the one that waits for the client.

    /// Does what a message asks for, and answers. An error ends the session, with a close frame if there is one to send.
    #[inline(never)]
    fn answer(&mut self, message: Message) -> Result<(), Option<Goodbye>> {
        let Wire { conversation, subscriber, .. } = self.socket.get_mut();
        conversation.check()?;
        match conversation.hear(subscriber, message)? {
            Some(answer) => self.socket.send(answer).map_err(|_| None),
            None => Ok(()),
        }
    }

    fn is_flooded(&mut self) -> bool {
        self.allowance.as_mut().is_some_and(|allowance| !allowance.take(1))
    }

    #[inline(never)]
    fn fail_size(&mut self) {
        let reason = format!("a message may have {} KiB", self.limits.message_bytes / 1024);
        self.fail(CloseCode::Size, &reason);
    }

    /// Begins the closing handshake and waits for the other side's part of it (RFC 6455, section 7.1.2).
    #[inline(never)]
    fn close(&mut self, Goodbye(code, reason): Goodbye) {
        if self.socket.close(Some(CloseFrame { code, reason: reason.into() })).is_err() {
            return;
        }
        let deadline = Instant::now() + CLOSE_WAIT;
        self.socket.get_mut().deadline = Some(deadline);
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(Error::Protocol(error)) if error != ProtocolError::ResetWithoutClosingHandshake => {
                    return self.drop_input(deadline);
                }
                Err(_) => return,
            }
        }
    }

    /// Fails the connection (RFC 6455, section 7.1.7): what follows in the stream has lost its meaning.
    #[inline(never)]
    fn fail(&mut self, code: CloseCode, reason: &str) {
        if self.socket.close(Some(CloseFrame { code, reason: reason.to_owned().into() })).is_ok() {
            self.part();
        }
    }

    /// Ends the connection once the client has been sent all that was said to it, the close frame at last (RFC 6455,
    /// section 5.5.1). A slow client is given as long as any write.
    #[inline(never)]
    fn part(&mut self) {
        let give_up = Instant::now() + WRITE_DEADLINE;
        while !self.socket.get_ref().subscriber.flush() {
            // The slow-socket thread sends on.
            let now = Instant::now();
            if now >= give_up || self.socket.get_ref().subscriber.is_closed() {
                return;
            }
            self.drop_input(now + PART_TICK);
            thread::sleep((now + PART_TICK).saturating_duration_since(Instant::now()));
        }
        let _ = self.socket.get_ref().stream.shutdown(Shutdown::Write);
        self.drop_input(Instant::now() + CLOSE_WAIT);
    }

    fn violation(&self) -> Option<Violation> {
        self.socket.get_ref().violation
    }

    /// Reads what still comes and forgets it: closing a socket with unread input would reset it, and the reset would
    /// eat the close frame.
    fn drop_input(&mut self, deadline: Instant) {
        let mut bytes = [0; READ_BUFFER_BYTES];
        let wire = self.socket.get_mut();
        wire.deadline = Some(deadline);
        while matches!(wire.read(&mut bytes), Ok(1..)) {}
    }

    /// Sets how long a read may wait.
    fn set_timeout(&self, timeout: Duration) {
        // A socket that refuses this is gone, which the next read will tell.
        let _ = self.socket.get_ref().stream.set_read_timeout(Some(timeout));
    }
}

/// tungstenite's way to the network: reads come from the socket, writes go through the subscriber, so that no frame
/// gets in between the parts of another.
struct Wire<C> {
    stream: Arc<TcpStream>,
    /// What the client has sent behind its handshake and was not read yet.
    early: Vec<u8>,
    frame_check: FrameCheck,
    /// What the client has done wrong, behind all that has been read here.
    violation: Option<Violation>,
    subscriber: Arc<Subscriber>,
    conversation: C,
    /// When reading ends for good, however much still comes; `None` while the session is open.
    deadline: Option<Instant>,
    allowance: Option<Allowance>,
}

impl<C> Wire<C> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.early[..length]);
            self.early.drain(..length);
            if self.early.is_empty() {
                // Its room would stay with the session for as long as it lives.
                self.early = Vec::new();
            }
            return Ok(length);
        }
        loop {
            if let Some(deadline) = self.deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.stream.set_read_timeout(Some(left))?;
            }
            match (&*self.stream).read(buffer) {
                // A read with a timeout is interrupted when a stopped process goes on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl<C: Conversation> Read for Wire<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.deadline.is_some() {
            // It is closing: what still comes is dropped, whatever it is.
            return self.receive(buffer);
        }
        if self.violation.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Here and not with the messages alone: pings, and frames that never become a message, keep a session from
        // being silent, and would keep one open that may not go on. Before the bytes are taken, so that none are lost
        // if it may go on again.
        if self.conversation.check().is_err() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let read = self.receive(buffer)?;
        if self.allowance.as_mut().is_some_and(|allowance| !allowance.take(read as u32)) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let Err((right, violation)) = self.frame_check.check(&buffer[..read]) else { return Ok(read) };
        self.violation = Some(violation);
        // What is right is heard first.
        if right > 0 { Ok(right) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl<C: Conversation> Write for Wire<C> {
    /// Takes all: tungstenite hands over whole frames, because its own write buffer is switched off.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.first() == Some(&CLOSE_FRAME) {
            // No total may follow a close frame (RFC 6455, section 5.5.1).
            self.subscriber.say_last(bytes.to_vec())?;
            self.conversation.end(&self.subscriber);
        } else if self.subscriber.say(bytes.to_vec())? == Drained::CaughtUp {
            self.conversation.caught_up(&self.subscriber);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A flood limit: a bucket that fills within a second.
struct Allowance {
    a_second: u32,
    left: f64,
    filled_at: Instant,
}

impl Allowance {
    fn new(a_second: u32) -> Self {
        Self { a_second, left: f64::from(a_second), filled_at: Instant::now() }
    }

    fn take(&mut self, amount: u32) -> bool {
        let now = Instant::now();
        let refill = now.duration_since(self.filled_at).as_secs_f64() * f64::from(self.a_second);
        self.left = (self.left + refill).min(f64::from(self.a_second));
        self.filled_at = now;
        let allowed = self.left >= f64::from(amount);
        if allowed {
            self.left -= f64::from(amount);
        }
        allowed
    }
}
