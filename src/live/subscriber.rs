//! One subscriber: a bounded queue of shared buffers, and the socket that they go to. Owns the order of what is sent,
//! and when a subscriber lags; knows neither categories nor what the bytes mean.
//!
//! Everything happens under one lock, which is held only during non-blocking sends.
//! Between two uses of the lock, the queue is empty unless the socket is full; while it is full, the slow-socket thread
//! drains it.
//!
//! When the queue has no room for totals, they are skipped and the subscriber lags: it gets no further totals until the
//! queue is empty. Then the fan-out thread, told by [`Drained::MustCatchUp`], sends what was missed, as much as the
//! socket takes at a time: of what is encoded for one subscriber alone, at most one message waits in memory.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::socket::{reset_on_close, send_now};

/// How long a socket may accept nothing before its session is closed: 10 s.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Buffers that wait behind the one that is being sent, at most.
const QUEUE_BUFFERS: usize = 64;
/// Buffers of the queue that totals leave free for the session's own messages: pongs, answers, the close frame.
const RESERVED_BUFFERS: usize = 8;
/// Bytes of totals that wait behind the buffer that is being sent, at most: 8 KiB, some 250 totals. A longer queue
/// would only make the subscriber see older totals.
const QUEUE_BYTES: usize = 8 * 1024;

/// The number from which a subscriber is owed a snapshot; publications count from 1.
pub const SNAPSHOT: u64 = 0;

/// Bytes that are ready for the wire, shared by all subscribers that get them.
#[derive(Debug, Default)]
pub struct Buffer {
    /// Whole frames or events, in the subscriber's format.
    pub bytes: Vec<u8>,
    /// The number of totals in them.
    pub totals: u64,
    /// The number of totals that were left out because a later one of the same product is among them.
    pub merged: u64,
    /// The number of the first publication in them, from which a subscriber without room for it is caught up. The
    /// fan-out thread defines the numbers.
    pub first: u64,
    /// Whether they were not offered when they were published, and so concern a subscriber that has lagged since a later
    /// publication too.
    pub is_held_back: bool,
}

/// What a thread has sent to subscribers: plain numbers, which it adds up over many of them before it publishes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Totals and notices that were sent or queued.
    pub messages: u64,
    /// Bytes that sockets have taken.
    pub bytes: u64,
    /// Totals that were not sent because a later one of the same product is.
    pub skipped: u64,
}

/// How an attempt to send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// There is nothing to do.
    Done,
    /// The socket is full; the slow-socket thread goes on.
    Blocked,
    /// The queue of a lagging subscriber is empty: the fan-out thread must send what it missed.
    MustCatchUp,
}

/// Takes over subscribers whose socket is full, and calls [`Subscriber::drain_blocked`] when it has room again.
pub trait Watcher: Send + Sync {
    /// Takes over the subscriber.
    fn watch(&self, subscriber: Arc<Subscriber>);
}

/// A subscriber; shared by its session, the fan-out thread and the slow-socket thread.
pub struct Subscriber {
    stream: Arc<TcpStream>,
    watcher: Arc<dyn Watcher>,
    outbox: Mutex<Outbox>,
    /// Notified when the queue gets shorter or the subscriber is closed.
    room: Condvar,
    /// The number of the fan-out thread that has it.
    fanout_thread: AtomicU8,
}

#[derive(Debug, Default)]
struct Outbox {
    /// The first buffer is being sent; it is there only while the socket is full.
    queue: VecDeque<Arc<Buffer>>,
    /// Bytes of the first buffer that the socket has taken.
    sent: usize,
    /// Bytes of the buffers behind the first.
    waiting_bytes: usize,
    /// When the socket last took something, while it is full.
    blocked_since: Option<Instant>,
    /// While it lags: the number of the first publication that it is owed, or [`SNAPSHOT`].
    missed_from: Option<u64>,
    /// The close frame is queued or sent: nothing follows it.
    is_finished: bool,
    is_closed: bool,
    /// Bytes that [`Subscriber::drain_blocked`] has sent.
    late_bytes: u64,
}

impl Outbox {
    /// Queues a buffer of which the socket has taken `sent` bytes, if it is the first.
    fn push(&mut self, buffer: Arc<Buffer>, sent: usize) {
        if self.queue.is_empty() {
            self.sent = sent;
        } else {
            self.waiting_bytes += buffer.bytes.len();
        }
        self.queue.push_back(buffer);
    }

    fn pop(&mut self) {
        self.queue.pop_front();
        self.sent = 0;
        match self.queue.front() {
            Some(first) => self.waiting_bytes -= first.bytes.len(),
            // An idle subscriber keeps no memory for a queue.
            None => self.queue = VecDeque::new(),
        }
    }

    /// Whether totals of so many bytes may wait. A single buffer may have any size, which the fan-out thread bounds.
    fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.queue.len().saturating_sub(1);
        waiting == 0 || (waiting < QUEUE_BUFFERS - RESERVED_BUFFERS && self.waiting_bytes + bytes <= QUEUE_BYTES)
    }

    fn drained(&self) -> Drained {
        if !self.queue.is_empty() {
            Drained::Blocked
        } else if self.missed_from.is_some() && !self.is_closed && !self.is_finished {
            Drained::MustCatchUp
        } else {
            Drained::Done
        }
    }
}

impl Subscriber {
    /// A subscriber that sends to `stream`, which stays in blocking mode for its reader.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>, watcher: Arc<dyn Watcher>) -> Arc<Self> {
        Arc::new(Self {
            stream,
            watcher,
            outbox: Mutex::default(),
            room: Condvar::new(),
            fanout_thread: AtomicU8::new(0),
        })
    }

    /// The number of the fan-out thread that has it.
    #[must_use]
    pub fn fanout_thread(&self) -> usize {
        self.fanout_thread.load(Ordering::Relaxed).into()
    }

    /// Gives it to the fan-out thread with this number, before that one is told of it.
    pub fn set_fanout_thread(&self, number: usize) {
        self.fanout_thread.store(number as u8, Ordering::Relaxed);
    }

    /// Reads what the next send needs into the processor's caches. The loads of several subscribers overlap, and those of
    /// one send after another would each wait for the memory.
    pub fn touch(&self) {
        std::hint::black_box((self.stream.as_raw_fd(), self.outbox.is_poisoned()));
    }

    /// Sends totals, queues them, or skips them when there is no room; never blocks. Adds to `sent` what became of them.
    /// For the fan-out thread.
    pub fn offer(self: &Arc<Self>, buffer: &Arc<Buffer>, sent: &mut Sent) {
        let mut outbox = self.outbox();
        if outbox.is_closed || outbox.is_finished {
            return;
        }
        if let Some(missed_from) = &mut outbox.missed_from {
            if buffer.is_held_back {
                *missed_from = buffer.first.min(*missed_from);
            }
            sent.skipped += buffer.totals + buffer.merged;
            return;
        }
        sent.skipped += buffer.merged;
        if outbox.queue.is_empty() {
            sent.messages += buffer.totals;
            // It does not lag, so there is nothing to be caught up.
            let _ = self.send_first(&mut outbox, &buffer.bytes, &mut sent.bytes, || buffer.clone());
        } else if outbox.has_room(buffer.bytes.len()) {
            sent.messages += buffer.totals;
            outbox.push(buffer.clone(), 0);
        } else {
            sent.skipped += buffer.totals;
            outbox.missed_from = Some(buffer.first);
        }
    }

    /// Sends a lagging subscriber some of what it missed: messages that end at `ends`. Returns the number of those that
    /// the socket took, the last of them perhaps in part; the caller encodes the others anew when it has room again.
    /// Adds them to `sent`. For the fan-out thread.
    #[must_use]
    pub fn offer_missed(self: &Arc<Self>, bytes: &[u8], ends: &[usize], sent: &mut Sent) -> usize {
        let mut outbox = self.outbox();
        if outbox.is_closed || outbox.is_finished {
            return ends.len();
        }
        if !outbox.queue.is_empty() {
            return 0;
        }
        let Ok(taken) = send_all(&self.stream, bytes) else {
            self.close_holding(&mut outbox);
            return ends.len();
        };
        let messages = if taken == bytes.len() {
            ends.len()
        } else {
            let cut = ends.partition_point(|end| *end <= taken);
            let rest = bytes[taken..ends[cut]].to_vec();
            self.block(&mut outbox, Arc::new(Buffer { bytes: rest, ..Buffer::default() }), 0);
            cut + 1
        };
        sent.messages += messages as u64;
        sent.bytes += taken as u64;
        messages
    }

    /// Sends the session's own message, or queues it. Blocks while the queue is full, up to `patience`.
    ///
    /// # Errors
    /// `BrokenPipe` when the queue stayed full for so long, or the subscriber is closed: no timeout, which a session would
    /// take for a silent client.
    pub fn send(self: &Arc<Self>, bytes: Vec<u8>, patience: Duration) -> io::Result<Drained> {
        let begun = Instant::now();
        let mut outbox = self.outbox();
        while outbox.queue.len() > QUEUE_BUFFERS && !outbox.is_closed && !outbox.is_finished {
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            outbox = self.room.wait_timeout(outbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if outbox.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(self.send_or_queue(&mut outbox, bytes))
    }

    /// Sends or queues a close frame, or the last bytes of an event stream. Nothing follows them.
    pub fn finish(self: &Arc<Self>, bytes: Vec<u8>) -> Drained {
        let mut outbox = self.outbox();
        let drained = self.send_or_queue(&mut outbox, bytes);
        outbox.is_finished = true;
        drained
    }

    fn send_or_queue(self: &Arc<Self>, outbox: &mut Outbox, bytes: Vec<u8>) -> Drained {
        if outbox.is_closed || outbox.is_finished {
            return Drained::Done;
        }
        if outbox.queue.is_empty() {
            let buffer = || Arc::new(Buffer { bytes: bytes.clone(), ..Buffer::default() });
            return self.send_first(outbox, &bytes, &mut 0, buffer);
        }
        outbox.push(Arc::new(Buffer { bytes, ..Buffer::default() }), 0);
        Drained::Done
    }

    /// Sends to a socket that is not full, and adds to `sent_bytes` what it takes. The rest is queued as `buffer`, and the
    /// watcher takes over.
    fn send_first(
        self: &Arc<Self>,
        outbox: &mut Outbox,
        bytes: &[u8],
        sent_bytes: &mut u64,
        buffer: impl FnOnce() -> Arc<Buffer>,
    ) -> Drained {
        match send_all(&self.stream, bytes) {
            Ok(sent) => {
                *sent_bytes += sent as u64;
                if sent < bytes.len() {
                    self.block(outbox, buffer(), sent);
                }
            }
            Err(_) => self.close_holding(outbox),
        }
        outbox.drained()
    }

    /// Queues the buffer of which the socket, which is full now, has taken `sent` bytes. The watcher takes over.
    fn block(self: &Arc<Self>, outbox: &mut Outbox, buffer: Arc<Buffer>, sent: usize) {
        outbox.push(buffer, sent);
        outbox.blocked_since = Some(Instant::now());
        self.watcher.watch(self.clone());
    }

    /// Sends what waits, when a full socket has room again, and adds to `sent_bytes` what it takes: for the slow-socket
    /// thread. Unless it returns [`Drained::Blocked`], the subscriber is handed over anew when its socket is full once more.
    pub fn drain_blocked(&self, sent_bytes: &mut u64) -> Drained {
        let mut outbox = self.outbox();
        while let Some(buffer) = outbox.queue.front().cloned() {
            match send_all(&self.stream, &buffer.bytes[outbox.sent..]) {
                Ok(sent) => {
                    if sent > 0 {
                        outbox.blocked_since = Some(Instant::now());
                        outbox.late_bytes += sent as u64;
                        *sent_bytes += sent as u64;
                    }
                    outbox.sent += sent;
                    if outbox.sent < buffer.bytes.len() {
                        break;
                    }
                    outbox.pop();
                }
                Err(_) => self.close_holding(&mut outbox),
            }
        }
        if outbox.queue.is_empty() {
            outbox.blocked_since = None;
        }
        self.room.notify_all();
        outbox.drained()
    }

    /// The number of the first publication that it is owed, if it must be caught up now. For the fan-out thread.
    #[must_use]
    pub fn owed_from(&self) -> Option<u64> {
        let outbox = self.outbox();
        outbox.missed_from.filter(|_| outbox.drained() == Drained::MustCatchUp)
    }

    /// Makes it lag: it is owed everything from this publication on, or a [`SNAPSHOT`]. For the fan-out thread.
    pub fn lag_from(&self, number: u64) -> Drained {
        let mut outbox = self.outbox();
        outbox.missed_from = Some(number);
        outbox.drained()
    }

    /// Ends the lag; the next [`Self::offer`] is sent again. For the fan-out thread, which then offers what was missed.
    pub fn resume(&self) {
        self.outbox().missed_from = None;
    }

    /// Whether it has missed totals and has not been sent them since.
    #[must_use]
    pub fn is_lagging(&self) -> bool {
        self.outbox().missed_from.is_some()
    }

    /// Ends the subscriber: nothing more is sent, its reader wakes up, and the peer sees the end. If its socket has not
    /// taken everything, the end is a reset.
    pub fn close(&self) {
        self.close_holding(&mut self.outbox());
    }

    /// As [`Self::close`], but always with a reset: the kernel discards what the peer has not taken.
    pub fn reset(&self) {
        reset_on_close(&self.stream);
        self.close();
    }

    fn close_holding(&self, outbox: &mut Outbox) {
        if !outbox.queue.is_empty() {
            reset_on_close(&self.stream);
        }
        outbox.is_closed = true;
        (outbox.queue, outbox.sent, outbox.waiting_bytes) = (VecDeque::new(), 0, 0);
        self.room.notify_all();
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether [`Self::close`] was called or the socket failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.outbox().is_closed
    }

    /// Whether the socket has taken everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let outbox = self.outbox();
        outbox.queue.is_empty() && !outbox.is_closed
    }

    /// Whether a full socket has taken nothing for [`WRITE_DEADLINE`].
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.outbox().blocked_since.is_some_and(|since| now.saturating_duration_since(since) >= WRITE_DEADLINE)
    }

    /// Bytes that [`Subscriber::drain_blocked`] has sent. A change shows that the peer reads.
    #[must_use]
    pub fn late_bytes(&self) -> u64 {
        self.outbox().late_bytes
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends as much as the socket takes without blocking. Returns the number of bytes.
fn send_all(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match send_now(stream, &bytes[sent..]) {
            Ok(taken) => sent += taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
