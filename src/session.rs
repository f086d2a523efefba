//! One live feed's life: what the client says over its WebSocket, and when the session ends. Owns the heartbeat, the
//! flood limit and the close codes; the only user of tungstenite's protocol. Totals pass it by: they go from the
//! fan-out thread through the [`Subscriber`] straight to the socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::fanout::{FanoutHandle, Feed};
use crate::laggards::Laggards;
use crate::ledger::{LedgerHandle, SharedCatalog, Slot};
use crate::net::is_timeout;
use crate::subscriber::{Drained, Subscriber};
use crate::wire::{self, CLOSE_FRAME, Command, CommandError};

/// The longest inbound message, in bytes: 16 KiB, a hundred times a command.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Inbound messages a second, and at once, before a session is closed for flooding.
pub const MESSAGES_PER_SECOND: u32 = 20;
/// Inbound bytes a second, and at once, before a session is closed for flooding: as much as the messages may have. Frames
/// that never become a message count here.
const BYTES_PER_SECOND: u32 = MESSAGES_PER_SECOND * (MAX_MESSAGE_BYTES as u32 + 16);
/// How long a client may be silent before it is pinged: 25 s, below the usual 30 s and 60 s timeouts of proxies.
pub const PING_AFTER: Duration = Duration::from_secs(25);
/// How long a pinged client may be silent before it counts as dead: 10 s.
pub const PONG_WITHIN: Duration = Duration::from_secs(10);
/// How long a session waits for the other side to close after it has closed itself: 2 s.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// What the kernel may hold of what a client has not taken, in bytes; Linux doubles the number for its own books, to
/// 128 KiB. Small, so that a slow client is noticed early and given the latest totals instead of old ones.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What the kernel may hold that it has not even sent yet, because the client's own buffer is full: 8 KiB, some two
/// hundred and fifty totals (`TCP_NOTSENT_LOWAT`).
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 8 * 1024;
/// tungstenite's read buffer, which lives as long as the session: 512 bytes, since commands are short and rare. Its
/// default is 128 KiB.
const READ_BUFFER_BYTES: usize = 512;

/// What sessions work on.
pub struct Sessions {
    /// What can be ordered.
    pub catalog: SharedCatalog,
    /// Where orders are written.
    pub ledger: LedgerHandle,
    /// Where totals come from.
    pub fanout: FanoutHandle,
    /// Who helps when a socket is full.
    pub laggards: Laggards,
}

/// A close that this side begins.
struct Goodbye(CloseCode, &'static str);

impl Sessions {
    /// Runs one session on this thread until it ends. The handshake has been answered; `early` is what the client has
    /// sent behind it.
    #[inline(never)]
    pub fn run(&self, stream: Arc<TcpStream>, early: Vec<u8>, feed: Feed, slot: &Arc<Slot>) {
        // Without the small buffer the session works all the same, only its lag is seen later.
        let _ = SockRef::from(&*stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = SockRef::from(&*stream).set_tcp_notsent_lowat(UNSENT_BYTES);
        let subscriber = Subscriber::new(stream.clone(), self.laggards.clone());
        self.fanout.subscribe(subscriber.clone(), feed);
        let mut session = Session::boxed(self, stream, early, subscriber.clone(), slot);
        session.talk();
        let _ = subscriber.flush();
        subscriber.close();
        self.fanout.leave(subscriber);
    }
}

struct Session<'a> {
    shared: &'a Sessions,
    socket: WebSocket<Wire>,
    slot: &'a Arc<Slot>,
    allowance: Allowance,
}

impl<'a> Session<'a> {
    /// On the heap, and not inlined: the caller's frame, which lives as long as the session, stays small.
    #[inline(never)]
    fn boxed(
        shared: &'a Sessions,
        stream: Arc<TcpStream>,
        early: Vec<u8>,
        subscriber: Arc<Subscriber>,
        slot: &'a Arc<Slot>,
    ) -> Box<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let fanout = shared.fanout.clone();
        let wire = Wire { stream, subscriber, fanout, deadline: None, allowance: Allowance::new(BYTES_PER_SECOND) };
        let socket = WebSocket::from_partially_read(wire, early, Role::Server, Some(config));
        Box::new(Self { shared, socket, slot, allowance: Allowance::new(MESSAGES_PER_SECOND) })
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
                Ok(_) if !self.allowance.take(1) => Goodbye(CloseCode::Policy, "too many messages; slow down"),
                Ok(Message::Text(text)) => match self.obey(&text) {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                Ok(Message::Binary(_)) => Goodbye(CloseCode::Unsupported, "send text messages only"),
                // tungstenite answers pings and closes by itself, with the next read.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => continue,
                Err(Error::Io(error)) if is_timeout(&error) => {
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
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return,
                Err(Error::Protocol(_)) => return self.fail(CloseCode::Protocol, "protocol error"),
                Err(Error::Utf8(_)) => return self.fail(CloseCode::Invalid, "text must be UTF-8"),
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                    return self.fail(CloseCode::Size, "a message may have 16 KiB");
                }
                Err(_) => return,
            };
            return self.close(goodbye);
        }
    }

    // These three are not inlined: their frames would be part of the one that waits for the client.

    /// Does what a message asks for. An error ends the session.
    #[inline(never)]
    fn obey(&mut self, message: &str) -> Result<(), Error> {
        let answer = match wire::parse_command(message) {
            Ok(Command::UpdateCategory(name)) => {
                let found = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner).find_category(&name);
                match found {
                    Some(index) => {
                        let subscriber = self.socket.get_ref().subscriber.clone();
                        self.shared.fanout.move_to(subscriber, Feed::Category(index));
                        // The snapshot is the answer.
                        return Ok(());
                    }
                    None => wire::error_message("there is no such category; GET /categories lists them", None),
                }
            }
            Ok(Command::AddOrder { id, amount, key }) => {
                let found = self.shared.catalog.read().unwrap_or_else(PoisonError::into_inner).find_product(&id);
                match found.map(|index| self.shared.ledger.order(index, amount, self.slot)) {
                    Some(Ok(())) => wire::order_taken(key.as_deref()),
                    Some(Err(refusal)) => wire::error_message(&refusal.to_string(), key.as_deref()),
                    None => wire::error_message("there is no such product; GET /{category} lists them", key.as_deref()),
                }
            }
            Err(CommandError { why, key }) => wire::error_message(&why, key.as_deref()),
        };
        self.socket.send(Message::text(answer))
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
    fn fail(&mut self, code: CloseCode, reason: &'static str) {
        if self.socket.close(Some(CloseFrame { code, reason: reason.into() })).is_err() {
            return;
        }
        let wire = self.socket.get_ref();
        if wire.subscriber.flush() {
            let _ = wire.stream.shutdown(Shutdown::Write);
        }
        self.drop_input(Instant::now() + CLOSE_WAIT);
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
struct Wire {
    stream: Arc<TcpStream>,
    subscriber: Arc<Subscriber>,
    fanout: FanoutHandle,
    /// When reading ends for good, however much still comes; `None` while the session is open.
    deadline: Option<Instant>,
    allowance: Allowance,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
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
                read => break read?,
            }
        };
        if self.deadline.is_none() && !self.allowance.take(read as u32) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(read)
    }
}

impl Write for Wire {
    /// Takes all: tungstenite hands over whole frames, because its own write buffer is switched off.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.first() == Some(&CLOSE_FRAME) {
            // No total may follow a close frame (RFC 6455, section 5.5.1).
            self.subscriber.say_last(bytes.to_vec())?;
            self.fanout.leave(self.subscriber.clone());
        } else if self.subscriber.say(bytes.to_vec())? == Drained::CaughtUp {
            self.fanout.caught_up(self.subscriber.clone());
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
