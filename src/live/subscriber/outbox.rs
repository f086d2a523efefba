//! The way from a subscriber's channel to its socket. Owns that only the holder of one lock sends, and that nothing stays
//! behind when it lets go; the head of [`super`] tells why. What is sent, and when, is up to others.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Instant;

use super::buffer::{Buffer, LAST_WORDS};
use super::{Drained, Subscriber, WRITE_DEADLINE, Watch, Wire};
use crate::live::subscriber::sync::{MutexGuard, fence};

/// The socket's side: what is being sent. Only its lock's holder sends.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Last words stay here when they have been sent, so that nobody finds the outbox free again.
    current: Option<Arc<Buffer>>,
    /// How much of `current` the socket has taken.
    sent: usize,
    /// When the socket last took something; `None` while it is not blocked.
    blocked_since: Option<Instant>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { current: None, sent: 0, blocked_since: None }
    }

    /// Whether the last words have been sent.
    fn has_ended(&self) -> bool {
        self.current.as_ref().is_some_and(|buffer| buffer.first == LAST_WORDS && self.sent == buffer.bytes.len())
    }
}

/// How far sending got.
enum Sent {
    All,
    Blocked,
    Failed,
}

impl<W: Wire, L: Watch<W>> Subscriber<W, L> {
    /// The common case, in which nothing waits and nobody else sends: the buffer goes straight to the socket. `None`:
    /// this is not that case, and the buffer must go through the channel. Saves the cache misses of the channel's own
    /// memory, which cost more than everything else that is done here for one of many subscribers.
    pub(super) fn pass(self: &Arc<Self>, buffer: &Arc<Buffer>) -> Option<Drained> {
        if self.channel.bytes() != 0 || self.blocked.load(Ordering::Relaxed) {
            return None;
        }
        let mut outbox = self.outbox.try_lock().ok()?;
        // Asked again under the lock: who held it may have been blocked, or left something behind.
        if outbox.current.is_some() || self.channel.bytes() != 0 || self.blocked.load(Ordering::Relaxed) {
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
    pub(super) fn drain(self: &Arc<Self>) -> Drained {
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
    pub(super) fn drain_holding(self: &Arc<Self>, mut outbox: MutexGuard<'_, Outbox>) -> Option<Drained> {
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
                self.slow_sockets.watch(self.clone());
                Some(Drained::Blocked)
            }
        }
    }

    /// After the lock was let go: whether something came in meanwhile (`None`: drain once more).
    fn look_again(&self) -> Option<Drained> {
        fence(Ordering::SeqCst);
        if !self.channel.is_empty() {
            None
        } else if self.lagging.load(Ordering::Relaxed) {
            Some(Drained::CaughtUp)
        } else {
            Some(Drained::Done)
        }
    }

    /// Sends what waits, for the slow-socket thread, when the socket is ready again. `Drained::Blocked`: it is still full;
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
                // Blocked once more: it has been handed to the slow-socket thread anew.
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
                while self.channel.take().is_some() {}
                return Sent::All;
            }
            let buffer = match &outbox.current {
                Some(buffer) => buffer,
                None if self.channel.is_empty() => return Sent::All,
                None => match self.channel.take() {
                    Some(buffer) => {
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
