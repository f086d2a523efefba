//! One subscriber: its bounded channel of shared buffers, and the outbox that brings them to the socket. Owns who may
//! write when, and when a subscriber lags; knows nothing of categories or of what the bytes mean.
//!
//! Totals for a subscriber that keeps up go straight from the fan-out thread to the socket; the channel is where they
//! wait when something else is being sent or the socket is full.
//!
//! Whoever has something to say drains: a thread that has put a buffer in tries the outbox's lock, and on success
//! sends all that waits, never blocking. A failed try is safe, because the holder looks at the channel once more after
//! letting go. Three flags make that exact, each written before a `SeqCst` fence and read after one, so that of two
//! threads at least one sees what the other did:
//!
//! - `blocked`: the socket took no more; only the slow-socket thread drains, until the channel is empty again.
//! - `lagging`: the channel was full; the fan-out thread puts nothing in until it has been told [`Drained::CaughtUp`].
//! - `closed`: nothing is sent any more.
//!
//! That nothing follows last words needs no flag to be seen in time: they stay in the outbox when they have been sent,
//! and whoever drains next throws away what waits. `finished` only saves the work.
//!
//! `model.rs` explores all of this with loom, and notices each fence and each look when it is missing.

mod buffer;
mod channel;
#[cfg(all(test, loom))]
mod model;
mod outbox;
mod sync;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::http::socket::send_now;
use crate::live::slow_sockets::SlowSockets;
use crate::live::subscriber::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex};

pub use buffer::Buffer;

use channel::Channel;
use outbox::Outbox;

/// How long a socket may accept nothing before its session is closed: 10 s.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Where a lag begins that has missed nothing yet: after every publication.
const NOTHING_MISSED: u64 = u64::MAX;

/// What a drain ended with, as far as the caller has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Nothing to do: all was sent, or somebody else goes on.
    Done,
    /// The socket took no more, and the slow-socket thread has been told to go on.
    Blocked,
    /// A lagging subscriber has nothing left to send: it is due the totals that it missed.
    CaughtUp,
}

/// Where a subscriber's bytes go: a socket, and in the model something that has little room and remembers all.
pub trait Wire {
    /// Takes what there is room for, without blocking.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room now; otherwise what the system says.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends both directions, so that nothing more is taken and a reader wakes up.
    fn shut(&self);
}

impl Wire for TcpStream {
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        send_now(self, bytes)
    }

    fn shut(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// Who drains a subscriber whose wire is full, by [`Subscriber::drain_blocked`].
pub trait Watch<W>: Sized {
    /// Takes over.
    fn watch(&self, subscriber: Arc<Subscriber<W, Self>>);
}

impl Watch<TcpStream> for SlowSockets {
    fn watch(&self, subscriber: Arc<Subscriber>) {
        SlowSockets::watch(self, subscriber);
    }
}

/// See the module's head. Generic only for the model: the server has one kind.
#[derive(Debug)]
pub struct Subscriber<W = TcpStream, L = SlowSockets> {
    stream: Arc<W>,
    channel: Channel,
    outbox: Mutex<Outbox>,
    blocked: AtomicBool,
    lagging: AtomicBool,
    closed: AtomicBool,
    /// The last words are queued: whatever the session says later is dropped.
    finished: AtomicBool,
    skipped: AtomicU64,
    /// The first publication that it missed, while it lags; only the fan-out thread reads and writes it.
    missed_from: AtomicU64,
    /// Bytes that a full socket has taken in the end: a sign of life.
    taken: AtomicU64,
    /// The number from which a page of the log is under way for it, 0 if none is; only the fan-out thread reads and writes
    /// this and the next two.
    pub(crate) page_from: AtomicU64,
    /// Where the fan-out thread lists it.
    pub(crate) listed_in: AtomicUsize,
    /// The place in that list.
    pub(crate) listed_at: AtomicUsize,
    slow_sockets: L,
}

impl<W: Wire, L: Watch<W>> Subscriber<W, L> {
    /// A subscriber that sends to `stream`, which stays in blocking mode for its reader.
    #[must_use]
    pub fn new(stream: Arc<W>, slow_sockets: L) -> Arc<Self> {
        Arc::new(Self {
            stream,
            channel: Channel::new(),
            outbox: Mutex::new(Outbox::new()),
            blocked: AtomicBool::new(false),
            lagging: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
            missed_from: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            page_from: AtomicU64::new(0),
            listed_in: AtomicUsize::new(usize::MAX),
            listed_at: AtomicUsize::new(0),
            slow_sockets,
        })
    }

    /// Puts totals in and drains, without ever blocking: for the fan-out thread. When the channel is full the totals
    /// are skipped and the subscriber lags.
    pub fn offer(self: &Arc<Self>, buffer: &Arc<Buffer>) -> Drained {
        if self.is_closed() || self.finished.load(Ordering::Relaxed) {
            return Drained::Done;
        }
        let lags = self.lagging.load(Ordering::Relaxed);
        if !lags && let Some(drained) = self.pass(buffer) {
            return drained;
        }
        let queued = !lags && self.channel.has_room(buffer.bytes.len()) && self.channel.put(buffer);
        let skipped = if queued { buffer.merged } else { buffer.totals + buffer.merged };
        if skipped > 0 {
            self.skipped.fetch_add(skipped, Ordering::Relaxed);
        }
        if lags {
            if buffer.first == 0 {
                // A snapshot that it missed, because it has moved: it is due all of it, not what changed since. It may have
                // waited for a page of the log, with nothing left to send whose end would tell that it has caught up.
                self.missed_from.store(0, Ordering::Relaxed);
                return self.drain();
            }
            return Drained::Done;
        }
        if !queued {
            self.missed_from.store(buffer.first, Ordering::Relaxed);
            self.lagging.store(true, Ordering::Relaxed);
        }
        self.drain()
    }

    /// Ends the lag, if there is one: the next [`Self::offer`] is queued again. For the fan-out thread, which then offers
    /// what was missed. Returns the [`Buffer::first`] of the first totals that were.
    pub fn resume(&self) -> Option<u64> {
        self.lagging.swap(false, Ordering::Relaxed).then(|| self.missed_from.load(Ordering::Relaxed))
    }

    /// The [`Buffer::first`] of the first totals that it has missed, if it lags. For the fan-out thread.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        self.is_lagging().then(|| self.missed_from.load(Ordering::Relaxed))
    }

    /// Makes it lag: from this number on it is due what it has missed. For the fan-out thread.
    pub fn lag_from(self: &Arc<Self>, number: u64) -> Drained {
        self.missed_from.store(number, Ordering::Relaxed);
        self.lagging.store(true, Ordering::Relaxed);
        self.drain()
    }

    /// Sends the session's own bytes, or puts them in and drains. Blocks while the channel is full, up to
    /// [`WRITE_DEADLINE`].
    ///
    /// # Errors
    /// `TimedOut` when the socket took nothing for so long; `BrokenPipe` when the subscriber is closed.
    pub fn say(self: &Arc<Self>, bytes: Vec<u8>) -> io::Result<Drained> {
        if self.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.finished.load(Ordering::Relaxed) {
            return Ok(Drained::Done);
        }
        let words = Arc::new(Buffer::words(bytes));
        match self.pass(&words) {
            Some(drained) => Ok(drained),
            None => self.send_words(words),
        }
    }

    fn send_words(self: &Arc<Self>, words: Arc<Buffer>) -> io::Result<Drained> {
        if !self.channel.put_within(words, WRITE_DEADLINE) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(self.drain())
    }

    /// Puts the session's last bytes in, a close frame, and drains. Nothing follows them.
    ///
    /// # Errors
    /// As [`Self::say`].
    pub fn say_last(self: &Arc<Self>, bytes: Vec<u8>) -> io::Result<()> {
        if self.finished.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.send_words(Arc::new(Buffer::last_words(bytes))).map(|_| ())
    }

    /// Puts the last bytes in (a close frame) and drains: for the fan-out thread. Nothing follows them. When the channel
    /// is full the subscriber lags, with no total missed; who catches it up then calls this again.
    pub fn finish(self: &Arc<Self>, buffer: &Arc<Buffer>) -> Drained {
        let last = Arc::new(Buffer::last_words(buffer.bytes.clone()));
        loop {
            if self.is_closed() || self.finished.load(Ordering::Relaxed) {
                return Drained::Done;
            }
            if self.channel.put(&last) {
                self.finished.store(true, Ordering::Relaxed);
                return self.drain();
            }
            self.missed_from.store(NOTHING_MISSED, Ordering::Relaxed);
            self.lagging.store(true, Ordering::Relaxed);
            let drained = self.drain();
            if drained != Drained::CaughtUp {
                return drained;
            }
            // Emptied meanwhile.
            self.resume();
        }
    }

    /// Ends the subscriber: nothing more is sent, the reader wakes up, and the other side sees the end.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.stream.shut();
    }

    /// Whether [`Self::close`] was called or the socket failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Sends what waits, waiting for whoever sends just now: for the session's last words, after which the socket is
    /// closed. Returns whether the socket has taken all; when it is full the slow-socket thread goes on.
    #[must_use]
    pub fn flush(self: &Arc<Self>) -> bool {
        loop {
            let outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
            if self.blocked.load(Ordering::Relaxed) || self.is_closed() {
                return false;
            }
            match self.drain_holding(outbox) {
                // Somebody has put something in, found the lock taken, and left it to this thread.
                None => {}
                Some(Drained::Blocked) => return false,
                // Who says its last words, or closes, is due no totals any more.
                Some(Drained::Done | Drained::CaughtUp) => return !self.is_closed(),
            }
        }
    }

    /// Whether it has missed totals and has not been given the latest since.
    #[must_use]
    pub fn is_lagging(&self) -> bool {
        self.lagging.load(Ordering::Relaxed)
    }

    /// How many totals it has not been sent, because a later one of the same product followed too closely; counts anew
    /// from here.
    #[must_use]
    pub fn take_skipped(&self) -> u64 {
        self.skipped.swap(0, Ordering::Relaxed)
    }

    /// How many bytes its socket has taken after it had been full: what changes here is a sign of life.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The socket, for the slow-socket thread's poll.
    #[must_use]
    pub fn stream(&self) -> &W {
        &self.stream
    }
}
