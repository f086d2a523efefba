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
//! - `blocked`: the socket took no more; only the laggard thread drains, until the channel is empty again.
//! - `lagging`: the channel was full; the fan-out thread puts nothing in until it has been told [`Drained::CaughtUp`].
//! - `closed`: nothing is sent any more.
//!
//! That nothing follows last words needs no flag to be seen in time: they stay in the outbox when they have been sent,
//! and whoever drains next throws away what waits. `finished` only saves the work.
//!
//! `model.rs` explores all of this with loom, and notices each fence and each look when it is missing.

#[cfg(all(test, loom))]
mod model;

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::laggards::Laggards;
use crate::net::send_now;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Receiver, Sender, bounded, fence};

/// Buffers that a subscriber's channel holds; few in the model, where it has to be full soon.
const CHANNEL_BUFFERS: usize = if cfg!(all(test, loom)) { 3 } else { 64 };
/// Buffers of the channel that are kept for the session's own words (pongs, answers, close), which must not be crowded
/// out by totals.
const RESERVED_BUFFERS: usize = if cfg!(all(test, loom)) { 1 } else { 8 };
/// Bytes that may wait in a subscriber's channel beside the one that is being sent: 8 KiB, some 250 totals.
/// More would only make the subscriber see older ones.
const CHANNEL_BYTES: usize = if cfg!(all(test, loom)) { 8 } else { 8 * 1024 };
/// How long a socket may accept nothing before its session is closed: 10 s.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Ready-made bytes for the wire, shared by all subscribers that get them.
#[derive(Debug)]
pub struct Buffer {
    /// Whole frames or events, in the subscriber's format.
    pub bytes: Vec<u8>,
    /// How many totals they carry.
    pub totals: u64,
    /// How many more totals were left out, because a later one of the same product is among them.
    pub merged: u64,
    /// The number of the first publication in it, which a subscriber that has no room for it is caught up from; 0 for
    /// a snapshot. What is counted is up to whoever makes buffers.
    pub first: u64,
}

/// Stands in [`Buffer::first`] of last words, after which nothing is sent. No publication has this number.
const LAST_WORDS: u64 = u64::MAX;
/// Where a lag begins that has missed nothing yet: after every publication.
const NOTHING_MISSED: u64 = u64::MAX;

impl Buffer {
    /// Bytes without totals: a session's own words.
    #[must_use]
    pub fn words(bytes: Vec<u8>) -> Self {
        Self { bytes, totals: 0, merged: 0, first: 0 }
    }

    fn last_words(bytes: Vec<u8>) -> Self {
        Self { first: LAST_WORDS, ..Self::words(bytes) }
    }
}

/// What a drain ended with, as far as the caller has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Nothing to do: all was sent, or somebody else goes on.
    Done,
    /// The socket took no more, and the laggard thread has been told to go on.
    Blocked,
    /// A lagging subscriber has nothing left to send: it is due the totals that it missed.
    CaughtUp,
}

/// The socket's side: what is being sent. Only its lock's holder sends.
#[derive(Debug)]
struct Outbox {
    /// Last words stay here when they have been sent, so that nobody finds the outbox free again.
    current: Option<Arc<Buffer>>,
    /// How much of `current` the socket has taken.
    sent: usize,
    /// When the socket last took something; `None` while it is not blocked.
    blocked_since: Option<Instant>,
}

impl Outbox {
    /// Whether the last words have been sent.
    fn has_ended(&self) -> bool {
        self.current.as_ref().is_some_and(|buffer| buffer.first == LAST_WORDS && self.sent == buffer.bytes.len())
    }
}

enum Sent {
    All,
    Blocked,
    Failed,
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

impl Watch<TcpStream> for Laggards {
    fn watch(&self, subscriber: Arc<Subscriber>) {
        Laggards::watch(self, subscriber);
    }
}

/// The channel, which is made when the first buffer has to wait: most subscribers keep up, and without it an idle one
/// takes 1.7 KB less. One that is not there is an empty one. Whoever makes it does so before it drains, so whoever is to see
/// its buffer sees the channel too.
#[derive(Debug, Default)]
struct Channel(OnceLock<ChannelEnds>);

type ChannelEnds = (Sender<Arc<Buffer>>, Receiver<Arc<Buffer>>);

impl Channel {
    fn made(&self) -> &Sender<Arc<Buffer>> {
        let (sender, _) = self.0.get_or_init(|| bounded(CHANNEL_BUFFERS));
        sender
    }

    fn take(&self) -> Option<Arc<Buffer>> {
        let (_, receiver) = self.0.get()?;
        receiver.try_recv().ok()
    }

    fn len(&self) -> usize {
        self.0.get().map_or(0, |(_, receiver)| receiver.len())
    }

    fn is_empty(&self) -> bool {
        self.0.get().is_none_or(|(_, receiver)| receiver.is_empty())
    }
}

/// See the module's head. Generic only for the model: the server has one kind.
#[derive(Debug)]
pub struct Subscriber<W = TcpStream, L = Laggards> {
    stream: Arc<W>,
    channel: Channel,
    queued_bytes: AtomicUsize,
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
    laggards: L,
}

impl<W: Wire, L: Watch<W>> Subscriber<W, L> {
    /// A subscriber that sends to `stream`, which stays in blocking mode for its reader.
    #[must_use]
    pub fn new(stream: Arc<W>, laggards: L) -> Arc<Self> {
        let channel = Channel::default();
        if cfg!(all(test, loom)) {
            // The model takes no turn between a look for the channel and a look at it: it finds one that is empty.
            channel.made();
        }
        Arc::new(Self {
            stream,
            channel,
            queued_bytes: AtomicUsize::new(0),
            outbox: Mutex::new(Outbox { current: None, sent: 0, blocked_since: None }),
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
            laggards,
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
        let queued = !lags && self.has_room(buffer.bytes.len()) && self.put(buffer);
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
        let length = words.bytes.len();
        self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        if self.channel.made().send_timeout(words, WRITE_DEADLINE).is_err() {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
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
            if self.put(&last) {
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
    /// closed. Returns whether the socket has taken all; when it is full the laggard thread goes on.
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

    /// The socket, for the laggard thread's poll.
    #[must_use]
    pub fn stream(&self) -> &W {
        &self.stream
    }

    /// Whether the channel holds nothing. The bytes are counted before a buffer is put in, so no count means no buffer;
    /// asking the channel itself is left for the rare case, because its memory is far away.
    fn is_empty(&self) -> bool {
        self.queued_bytes.load(Ordering::Relaxed) == 0 || self.channel.is_empty()
    }

    fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.channel.len();
        // An empty channel takes a buffer of any size: a snapshot may be larger than the bound. It is the channel that
        // is asked, and not the count: the count may be of words whose place is still empty, and the offer would be
        // refused, and its lag be over at once, again and again until they are put in.
        waiting == 0
            || (waiting < CHANNEL_BUFFERS - RESERVED_BUFFERS
                && self.queued_bytes.load(Ordering::Relaxed) + bytes <= CHANNEL_BYTES)
    }

    /// Puts a buffer in, if there is a place for it. A place that [`Self::has_room`] has seen may be gone: meanwhile the
    /// session's words may have taken it and the reserve.
    #[must_use]
    fn put(&self, buffer: &Arc<Buffer>) -> bool {
        let length = buffer.bytes.len();
        self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let put = self.channel.made().try_send(buffer.clone()).is_ok();
        if !put {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        put
    }

    /// The common case, in which nothing waits and nobody else sends: the buffer goes straight to the socket. `None`:
    /// this is not that case, and the buffer must go through the channel. Saves the cache misses of the channel's own
    /// memory, which cost more than everything else that is done here for one of many subscribers.
    fn pass(self: &Arc<Self>, buffer: &Arc<Buffer>) -> Option<Drained> {
        if self.queued_bytes.load(Ordering::Relaxed) != 0 || self.blocked.load(Ordering::Relaxed) {
            return None;
        }
        let mut outbox = self.outbox.try_lock().ok()?;
        // Asked again under the lock: who held it may have been blocked, or left something behind.
        if outbox.current.is_some()
            || self.queued_bytes.load(Ordering::Relaxed) != 0
            || self.blocked.load(Ordering::Relaxed)
        {
            return None;
        }
        if buffer.merged > 0 {
            self.skipped.fetch_add(buffer.merged, Ordering::Relaxed);
        }
        let sent = self.stream.send_now(&buffer.bytes).unwrap_or(0);
        if sent < buffer.bytes.len() {
            outbox.current = Some(buffer.clone());
            outbox.sent = sent;
        }
        Some(self.drain_holding(outbox).unwrap_or_else(|| self.drain()))
    }

    /// Sends what waits unless somebody else does or the socket is blocked.
    fn drain(self: &Arc<Self>) -> Drained {
        loop {
            // Between the put (or the mark) before and the look at the lock and the flag now: see the module's head.
            fence(Ordering::SeqCst);
            if self.blocked.load(Ordering::Relaxed) || self.is_closed() {
                return Drained::Done;
            }
            let outbox = match self.outbox.try_lock() {
                Ok(outbox) => outbox,
                Err(TryLockError::WouldBlock) => return Drained::Done,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            };
            if self.blocked.load(Ordering::Relaxed) {
                return Drained::Done;
            }
            if let Some(drained) = self.drain_holding(outbox) {
                return drained;
            }
        }
    }

    /// Sends what waits and lets go of the lock. `None`: something has come in meanwhile, so drain once more.
    fn drain_holding(self: &Arc<Self>, mut outbox: MutexGuard<'_, Outbox>) -> Option<Drained> {
        match self.send_all(&mut outbox) {
            Sent::All => {
                drop(outbox);
                self.look_again()
            }
            Sent::Failed => {
                self.close();
                Some(Drained::Done)
            }
            Sent::Blocked => {
                outbox.blocked_since = Some(Instant::now());
                self.blocked.store(true, Ordering::Relaxed);
                drop(outbox);
                self.laggards.watch(self.clone());
                Some(Drained::Blocked)
            }
        }
    }

    /// After the lock was let go: whether something came in meanwhile (`None`: drain once more).
    fn look_again(&self) -> Option<Drained> {
        fence(Ordering::SeqCst);
        if !self.is_empty() {
            None
        } else if self.lagging.load(Ordering::Relaxed) {
            Some(Drained::CaughtUp)
        } else {
            Some(Drained::Done)
        }
    }

    /// Sends what waits, for the laggard thread, when the socket is ready again. `Drained::Blocked`: it is still full;
    /// otherwise the subscriber is free again, after `before_free` has run.
    pub fn drain_blocked(self: &Arc<Self>, before_free: impl FnOnce()) -> Drained {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = if self.is_closed() { Sent::Failed } else { self.send_all(&mut outbox) };
        match sent {
            Sent::Blocked => return Drained::Blocked,
            Sent::Failed => {
                self.close();
                before_free();
                return Drained::Done;
            }
            Sent::All => {
                outbox.blocked_since = None;
                before_free();
                self.blocked.store(false, Ordering::Relaxed);
            }
        }
        drop(outbox);
        match self.look_again() {
            Some(drained) => drained,
            None => match self.drain() {
                Drained::CaughtUp => Drained::CaughtUp,
                // Blocked once more: it has been handed to the laggard thread anew.
                Drained::Blocked | Drained::Done => Drained::Done,
            },
        }
    }

    /// Whether the socket has accepted nothing for [`WRITE_DEADLINE`].
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        let outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.blocked_since.is_some_and(|since| now.saturating_duration_since(since) >= WRITE_DEADLINE)
    }

    fn send_all(&self, outbox: &mut Outbox) -> Sent {
        loop {
            if outbox.has_ended() {
                // Whoever was late to see `finished`: what it has put in is not sent.
                while let Some(late) = self.channel.take() {
                    self.queued_bytes.fetch_sub(late.bytes.len(), Ordering::Relaxed);
                }
                return Sent::All;
            }
            let buffer = match &outbox.current {
                Some(buffer) => buffer,
                None if self.is_empty() => return Sent::All,
                None => match self.channel.take() {
                    Some(buffer) => {
                        self.queued_bytes.fetch_sub(buffer.bytes.len(), Ordering::Relaxed);
                        outbox.sent = 0;
                        outbox.current.insert(buffer)
                    }
                    None => return Sent::All,
                },
            };
            match self.stream.send_now(&buffer.bytes[outbox.sent..]) {
                Ok(taken) => {
                    outbox.sent += taken;
                    if outbox.sent == buffer.bytes.len() && buffer.first != LAST_WORDS {
                        outbox.current = None;
                    }
                    if let Some(since) = &mut outbox.blocked_since {
                        *since = Instant::now();
                        self.taken.fetch_add(taken as u64, Ordering::Relaxed);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Sent::Failed,
            }
        }
    }
}
