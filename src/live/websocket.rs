//! One WebSocket session after its handshake (RFC 6455). Owns the heartbeat, the flood limit and the close codes. A
//! [`SessionHandler`] decides what messages mean. Totals do not come by here: the fan-out thread sends them through the
//! [`Subscriber`] straight to the socket. A session has a thread only while its client sends: between two turns it is idle.

mod rate_limit;
mod transport;

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::http::service;
use crate::http::socket::{is_timeout, set_ack_deadline};
use crate::live::frame_check::Violation;
use crate::live::subscriber::{Subscriber, WRITE_DEADLINE, Watcher};

use rate_limit::RateLimit;
use transport::Transport;

/// The longest inbound message, in bytes: 16 KiB, a hundred times a command.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Inbound messages a second, and at once, before a session is closed for flooding.
pub const MESSAGES_PER_SECOND: u32 = 20;
/// How long a client may be silent before it is pinged: 25 s, below the usual 30 s and 60 s timeouts of proxies.
pub const PING_AFTER: Duration = Duration::from_secs(25);
/// How long a pinged client may be silent before it counts as dead: 10 s.
pub const PONG_WITHIN: Duration = Duration::from_secs(10);
/// How long a session keeps its thread for the next message after one that it has acted on: 1 s.
const NEXT_MESSAGE: Duration = Duration::from_secs(1);
/// How long a session waits for the peer's close frame, or for its end of the connection: 2 s.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How often an ended session checks whether a slow client has taken everything: 50 ms.
const LINGER_TICK: Duration = Duration::from_millis(50);
/// tungstenite's read buffer, which lives as long as the session: 256 bytes, since commands are short and rare. Its
/// default is 128 KiB.
const READ_BUFFER_BYTES: usize = 256;

/// What a client may send. The default is what the product allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest message, in bytes.
    pub message_bytes: usize,
    /// Messages a second, and at once; `None` for no limit. The bytes of as many messages of the greatest length are
    /// allowed a second too, which also limits frames that never become a message.
    pub messages_per_second: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: MAX_MESSAGE_BYTES, messages_per_second: Some(MESSAGES_PER_SECOND) }
    }
}

/// The code and reason of a close frame.
#[derive(Debug)]
pub struct CloseReason(pub CloseCode, pub &'static str);

/// What a session is about: what its client gets, and what the client's messages mean.
pub trait SessionHandler: Send + 'static {
    /// The subscriber may be written to from now on.
    fn begin(&mut self, subscriber: &Arc<Subscriber>);

    /// Whether the session may go on; asked before input is read, and when the client has long been silent.
    ///
    /// # Errors
    /// The close that ends it.
    fn check(&self) -> Result<(), CloseReason>;

    /// Acts on a message, text or binary. Returns the answer.
    ///
    /// # Errors
    /// The close that ends the session.
    fn on_message(&mut self, subscriber: &Arc<Subscriber>, message: Message) -> Result<Option<Message>, CloseReason>;

    /// The queue of a lagging subscriber is empty.
    fn request_catch_up(&self, subscriber: &Arc<Subscriber>);

    /// Nothing more may be sent to the subscriber. Called at least once.
    fn end(&self, subscriber: &Arc<Subscriber>);
}

/// Begins a session, and runs its first turn. The handshake has been answered; `early` is what the client has sent after
/// it. `None` when the session has ended.
pub fn open<H: SessionHandler>(
    stream: Arc<TcpStream>,
    early: Vec<u8>,
    watcher: Arc<dyn Watcher>,
    limits: Limits,
    mut handler: H,
) -> Option<Box<dyn service::Session>> {
    set_ack_deadline(&stream, PING_AFTER + PONG_WITHIN);
    let subscriber = Subscriber::new(stream.clone(), watcher);
    handler.begin(&subscriber);
    let session = Session::boxed(Transport::boxed(stream, early, subscriber, limits, handler), limits);
    service::Session::run(session, false)
}

/// Why a session ends.
#[derive(Debug)]
enum End {
    /// This side begins the closing handshake (RFC 6455, section 7.1.2).
    Close(CloseReason),
    /// The client broke the protocol: what follows in its stream has lost its meaning (RFC 6455, section 7.1.7).
    Fail(CloseCode, String),
    /// The client's close frame has been answered.
    Closed,
    /// The client is gone, or silent for too long.
    Gone,
}

impl From<CloseReason> for End {
    fn from(reason: CloseReason) -> Self {
        Self::Close(reason)
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Protocol => Self::Fail(CloseCode::Protocol, "protocol error".to_owned()),
            Violation::Utf8 => Self::Fail(CloseCode::Invalid, "text must be UTF-8".to_owned()),
        }
    }
}

struct Session<H: SessionHandler> {
    /// The transport is on the heap, so that nothing moves it on the stack.
    socket: WebSocket<Box<Transport<H>>>,
    limits: Limits,
    message_rate: Option<RateLimit>,
    /// [`Subscriber::late_bytes`] when the client was pinged, until it answers.
    pinged: Option<u64>,
    /// When the client was pinged or has been seen to read.
    pinged_at: Option<Instant>,
}

impl<H: SessionHandler> service::Session for Session<H> {
    fn stream(&self) -> &TcpStream {
        &self.socket.get_ref().stream
    }

    fn due(&self) -> Instant {
        let heard = self.socket.get_ref().heard;
        match (self.pinged, self.pinged_at) {
            (Some(_), Some(pinged_at)) => heard.max(pinged_at) + PONG_WITHIN,
            _ => heard + PING_AFTER,
        }
    }

    fn run(mut self: Box<Self>, is_shared: bool) -> Option<Box<dyn service::Session>> {
        match self.turn(is_shared) {
            Ok(()) => Some(self),
            Err(end) => {
                self.end(end, is_shared);
                None
            }
        }
    }
}

impl<H: SessionHandler> Drop for Session<H> {
    fn drop(&mut self) {
        let Transport { subscriber, handler, .. } = self.socket.get_ref().as_ref();
        subscriber.close();
        handler.end(subscriber);
    }
}

impl<H: SessionHandler> Session<H> {
    fn boxed(transport: Box<Transport<H>>, limits: Limits) -> Box<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.message_bytes));
        let socket = WebSocket::from_raw_socket(transport, Role::Server, Some(config));
        Box::new(Self {
            socket,
            limits,
            message_rate: limits.messages_per_second.map(RateLimit::new),
            pinged: None,
            pinged_at: None,
        })
    }

    /// Reads and answers messages until the client is silent, and pings it if it has been silent for long.
    fn turn(&mut self, is_shared: bool) -> Result<(), End> {
        let write_patience = if is_shared { Duration::ZERO } else { WRITE_DEADLINE };
        let transport = self.socket.get_mut();
        (transport.patience, transport.write_patience) = (Duration::ZERO, write_patience);
        loop {
            match self.socket.read() {
                Ok(message) => self.take(message, is_shared)?,
                Err(Error::Io(error)) if is_timeout(&error) && self.socket.get_ref().stop.is_none() => break,
                Err(error) => return Err(self.end_after(&error)),
            }
        }
        if service::Session::due(self) <= Instant::now() { self.ping() } else { Ok(()) }
    }

    fn take(&mut self, message: Message, is_shared: bool) -> Result<(), End> {
        self.pinged = None;
        if self.message_rate.as_mut().is_some_and(|rate| !rate.allows(1)) {
            return Err(CloseReason(CloseCode::Policy, "too many messages; slow down").into());
        }
        match message {
            Message::Text(_) | Message::Binary(_) => {
                if !is_shared {
                    self.socket.get_mut().patience = NEXT_MESSAGE;
                }
                self.answer(message)
            }
            // tungstenite answers pings and closes by itself, with the next read.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
        }
    }

    fn answer(&mut self, message: Message) -> Result<(), End> {
        let Transport { handler, subscriber, .. } = self.socket.get_mut().as_mut();
        handler.check()?;
        match handler.on_message(subscriber, message)? {
            Some(answer) => self.socket.send(answer).map_err(|_| End::Gone),
            None => Ok(()),
        }
    }

    /// The end of the session after this error of a read.
    fn end_after(&mut self, error: &Error) -> End {
        if let Some(end) = self.socket.get_mut().stop.take() {
            return end;
        }
        match error {
            Error::ConnectionClosed => End::Closed,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
            Error::Protocol(_) => Violation::Protocol.into(),
            Error::Utf8(_) => Violation::Utf8.into(),
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                let reason = format!("a message may have {} KiB", self.limits.message_bytes / 1024);
                End::Fail(CloseCode::Size, reason)
            }
            _ => End::Gone,
        }
    }

    /// Pings a silent client; ends the session of one that has been pinged.
    fn ping(&mut self) -> Result<(), End> {
        let Transport { handler, subscriber, .. } = self.socket.get_ref().as_ref();
        handler.check()?;
        let late_bytes = subscriber.late_bytes();
        self.pinged_at = Some(Instant::now());
        match self.pinged.replace(late_bytes) {
            None => self.socket.send(Message::Ping(tungstenite::Bytes::new())).map_err(|_| End::Gone),
            // The ping waits behind totals that the client is reading slowly.
            Some(before) if before != late_bytes => Ok(()),
            Some(_) => Err(End::Gone),
        }
    }

    #[inline(never)]
    fn end(&mut self, end: End, is_shared: bool) {
        match end {
            End::Close(CloseReason(code, reason)) => {
                if self.socket.close(Some(CloseFrame { code, reason: reason.into() })).is_ok() && !is_shared {
                    self.await_close();
                }
            }
            End::Fail(code, reason) => {
                if self.socket.close(Some(CloseFrame { code, reason: reason.into() })).is_ok() && !is_shared {
                    self.linger();
                }
            }
            End::Closed if !is_shared => self.linger(),
            End::Closed | End::Gone => {}
        }
    }

    /// Waits for the peer's close frame (RFC 6455, section 7.1.2).
    fn await_close(&mut self) {
        let deadline = Instant::now() + CLOSE_WAIT;
        self.socket.get_mut().deadline = Some(deadline);
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(Error::Protocol(error)) if error != ProtocolError::ResetWithoutClosingHandshake => {
                    return self.await_end(deadline);
                }
                Err(Error::Io(error)) if is_timeout(&error) => return self.socket.get_ref().subscriber.reset(),
                Err(_) => return,
            }
        }
    }

    /// Ends the connection once the client has taken everything, the close frame last (RFC 6455, section 5.5.1). A slow
    /// client has as long as for any write.
    fn linger(&mut self) {
        let give_up = Instant::now() + WRITE_DEADLINE;
        while !self.socket.get_ref().subscriber.is_drained() {
            // The slow-socket thread goes on sending.
            let now = Instant::now();
            if now >= give_up || self.socket.get_ref().subscriber.is_closed() {
                return;
            }
            self.discard_input(now + LINGER_TICK);
            thread::sleep((now + LINGER_TICK).saturating_duration_since(Instant::now()));
        }
        let _ = self.socket.get_ref().stream.shutdown(Shutdown::Write);
        self.await_end(Instant::now() + CLOSE_WAIT);
    }

    /// Waits for the peer's end of the connection. Without it the close is a reset: the peer does not read, and the kernel
    /// would keep what it has not taken.
    fn await_end(&mut self, deadline: Instant) {
        if !self.discard_input(deadline) {
            self.socket.get_ref().subscriber.reset();
        }
    }

    /// Reads and drops what still comes: closing a socket with unread input resets the connection, and a reset can
    /// discard the close frame. Returns whether the peer has ended the connection.
    fn discard_input(&mut self, deadline: Instant) -> bool {
        let mut bytes = [0; READ_BUFFER_BYTES];
        let transport = self.socket.get_mut();
        transport.deadline = Some(deadline);
        loop {
            match transport.read(&mut bytes) {
                Ok(1..) => {}
                Err(error) if is_timeout(&error) => return false,
                _ => return true,
            }
        }
    }
}
