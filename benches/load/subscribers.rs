//! The subscribers: every feed on one event-loop thread, every total checked against what was posted.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::connect::Feed;
use crate::frames::{self, Frame, MAX_FRAME};
use crate::histogram::Histogram;
use crate::sent::Sent;

/// Bytes taken per read: one read empties any feed that is not far behind.
const READ_BYTES: usize = 64 * 1024;
/// Feeds reported by one poll.
const EVENTS: usize = 1024;
/// How soon the end of posting is noticed while nothing arrives.
const POLL_EVERY: Duration = Duration::from_millis(5);
/// How long after the last answer the last totals may take before they count as missing.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// What the reader tells while it runs.
#[derive(Default)]
pub struct Progress {
    /// Every subscriber has its whole snapshot.
    pub ready: AtomicBool,
    /// Totals read so far.
    pub delivered: AtomicU64,
}

/// What the subscribers saw.
#[derive(Default)]
pub struct Seen {
    /// From sending the POST to reading its total, for the orders that count.
    pub latency: Histogram,
    /// Totals read that were new to their subscriber.
    pub delivered: u64,
    /// Orders whose own total a subscriber never saw, because a later one came first.
    pub skipped: u64,
    /// Totals below an earlier one, which must never happen.
    pub backwards: u64,
    /// Totals that no order sent can have made.
    pub invented: u64,
    /// Frames that are not what the feed promises.
    pub broken: u64,
    /// Feeds that the server ended.
    pub lost: u64,
    /// Subscriber and product pairs whose last total was not the right one.
    pub missing: u64,
    /// From the last answer to the last total's reading.
    pub settled: Duration,
}

/// Where a subscriber stands before its first total.
const UNSEEN: u32 = u32::MAX;

struct Subscriber {
    stream: TcpStream,
    /// The part of a frame that the last read ended with.
    carry: [u8; MAX_FRAME],
    carried: usize,
    open: bool,
}

/// Reads all `feeds` until posting has finished and every subscriber is exact, or out of time.
pub struct Reader<'a> {
    sent: &'a Sent,
    progress: &'a Progress,
    products: usize,
    snapshot: bool,
    subscribers: Vec<Subscriber>,
    /// Orders that each subscriber knows of, per product; subscribers one after the other.
    known: Vec<u32>,
    /// Snapshot totals still to come.
    unseen: usize,
    seen: Seen,
    last_progress: u64,
    poll: Poll,
    buffer: Vec<u8>,
    pong: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// Takes over `feeds`; with `snapshot`, each must begin with the total of every product.
    pub fn new(feeds: Vec<Feed>, sent: &'a Sent, progress: &'a Progress, snapshot: bool) -> io::Result<Self> {
        let products = sent.products();
        let pairs = feeds.len() * products;
        let mut reader = Self {
            sent,
            progress,
            products,
            snapshot,
            subscribers: Vec::with_capacity(feeds.len()),
            known: vec![if snapshot { UNSEEN } else { 0 }; pairs],
            unseen: if snapshot { pairs } else { 0 },
            seen: Seen::default(),
            last_progress: 0,
            poll: Poll::new()?,
            buffer: vec![0; MAX_FRAME + READ_BYTES],
            pong: Vec::new(),
        };
        for (index, feed) in feeds.into_iter().enumerate() {
            let fd = feed.stream.as_raw_fd();
            let token = Token(index);
            reader.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
            reader.subscribers.push(Subscriber { stream: feed.stream, carry: [0; MAX_FRAME], carried: 0, open: true });
            let mut buffer = feed.early;
            let length = buffer.len();
            reader.take(index, &mut buffer, length);
        }
        Ok(reader)
    }

    /// The event loop; the feeds stay open when it returns.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.poll.poll(&mut events, Some(POLL_EVERY))?;
            for event in &events {
                self.read(event.token().0);
            }
            self.progress.delivered.store(self.seen.delivered, Ordering::Relaxed);
            if self.unseen == 0 {
                self.progress.ready.store(true, Ordering::Release);
            }
            let Some(last_answer) = self.sent.finished_at() else { continue };
            self.seen.missing = self.count_missing();
            let deadline = last_answer + DRAIN_DEADLINE.as_nanos() as u64;
            if self.seen.missing == 0 || self.sent.now() > deadline {
                let settled = self.last_progress.saturating_sub(last_answer);
                self.seen.settled = Duration::from_nanos(settled);
                return Ok(());
            }
        }
    }

    /// What was seen; closes the feeds.
    pub fn into_seen(self) -> Seen {
        self.seen
    }

    fn read(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let subscriber = &mut self.subscribers[index];
            if !subscriber.open {
                break;
            }
            let carried = subscriber.carried;
            buffer[..carried].copy_from_slice(&subscriber.carry[..carried]);
            match subscriber.stream.read(&mut buffer[carried..]) {
                Ok(0) => self.lose(index),
                Ok(count) => {
                    let full = carried + count == buffer.len();
                    self.take(index, &mut buffer, carried + count);
                    // A short read has emptied the socket: what comes later is a new event.
                    if !full {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.lose(index),
            }
        }
        self.buffer = buffer;
    }

    /// Parses the first `length` bytes of `buffer` and keeps what is left of a frame.
    fn take(&mut self, index: usize, buffer: &mut [u8], length: usize) {
        let now = self.sent.now();
        let mut rest = &buffer[..length];
        loop {
            match frames::parse(rest) {
                Frame::Total { product, total, size } => {
                    rest = &rest[size..];
                    self.total(index, product, total, now);
                }
                Frame::Ping { payload, size } => {
                    frames::pong(payload, &mut self.pong);
                    rest = &rest[size..];
                    if self.subscribers[index].stream.write_all(&self.pong).is_err() {
                        return self.lose(index);
                    }
                }
                Frame::Pong { size } => rest = &rest[size..],
                Frame::Partial => break,
                Frame::Close => return self.lose(index),
                Frame::Broken => {
                    self.seen.broken += 1;
                    return self.lose(index);
                }
            }
        }
        let subscriber = &mut self.subscribers[index];
        subscriber.carry[..rest.len()].copy_from_slice(rest);
        subscriber.carried = rest.len();
    }

    fn total(&mut self, index: usize, product: usize, total: u64, now: u64) {
        let Some(order) = self.sent.orders_in(product, total) else {
            // A relay without snapshots repeats its newest messages to each new subscriber.
            self.seen.backwards += u64::from(self.snapshot);
            return;
        };
        let known = &mut self.known[index * self.products + product];
        if *known == UNSEEN {
            // The snapshot: nothing has been posted before every subscriber has it.
            self.unseen -= 1;
            self.seen.invented += u64::from(order != 0);
            *known = order as u32;
            return;
        }
        let before = u64::from(*known);
        if order <= before {
            // To say the same again is harmless.
            self.seen.backwards += u64::from(order < before);
            return;
        }
        let Some(sent_at) = self.sent.sent_at(product, order) else {
            self.seen.invented += 1;
            return;
        };
        *known = order as u32;
        self.seen.skipped += order - before - 1;
        self.seen.delivered += 1;
        self.last_progress = now;
        if self.sent.counts(sent_at) {
            self.seen.latency.record(now.saturating_sub(sent_at));
        }
    }

    fn lose(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        if subscriber.open {
            subscriber.open = false;
            self.seen.lost += 1;
        }
    }

    fn count_missing(&self) -> u64 {
        let last: Vec<u64> = (0..self.products).map(|product| self.sent.accepted_orders(product)).collect();
        let wrong =
            |known: &[u32]| known.iter().zip(&last).filter(|(known, last)| u64::from(**known) != **last).count();
        self.known.chunks_exact(self.products).map(wrong).sum::<usize>() as u64
    }
}

impl Seen {
    /// What was wrong, in words; skipped totals are not: the feed promises the latest, not each.
    pub fn faults(&self) -> Vec<String> {
        [
            (self.backwards, "totals went down"),
            (self.invented, "totals that no order made"),
            (self.broken, "broken frames"),
            (self.lost, "feeds ended by the server"),
            (self.missing, "last totals missing or wrong"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}
