//! The subscribers: all feeds on one event loop, every total checked against the orders posted.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mio::{Events, Poll};

use crate::connect::{self, Feed};
use crate::frames::{self, Frame, MAX_FRAME};
use crate::histogram::Histogram;
use crate::sent::Sent;

/// Bytes of one read: enough to empty any feed that is not far behind.
const READ_BYTES: usize = 64 * 1024;
/// The most feeds that one poll reports.
const EVENTS: usize = 1024;
/// The longest poll, and so the delay in noticing the end of posting.
const POLL_EVERY: Duration = Duration::from_millis(5);
/// Totals that have not been read this long after the last answer count as missing.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// The state of a running reader, for other threads.
#[derive(Default)]
pub struct Progress {
    /// Every subscriber has its complete snapshot.
    pub ready: AtomicBool,
    /// Totals read so far.
    pub delivered: AtomicU64,
}

/// The result of reading.
#[derive(Default)]
pub struct Seen {
    /// From sending an order to reading its total, of the orders that count.
    pub latency: Histogram,
    /// Totals read that raised what the subscriber knew.
    pub delivered: u64,
    /// Intermediate totals that a subscriber did not get.
    pub skipped: u64,
    /// Totals below an earlier total of the same product.
    pub decreased: u64,
    /// Totals that the orders sent cannot have made.
    pub impossible: u64,
    /// Frames that a feed must not contain.
    pub broken: u64,
    /// Feeds that the server closed.
    pub lost: u64,
    /// Pairs of subscriber and product whose last total was wrong.
    pub missing: u64,
    /// From the last answer to reading the last total.
    pub exact_after: Duration,
}

/// `Reader::known` of a product before its snapshot.
const UNSEEN: u32 = u32::MAX;

struct Subscriber {
    stream: TcpStream,
    /// The incomplete frame at the end of the last read.
    carry: [u8; MAX_FRAME],
    carried: usize,
    open: bool,
}

/// Reads all feeds until posting has ended and every subscriber has the last totals, or the deadline has passed.
pub struct Reader<'a> {
    sent: &'a Sent,
    progress: &'a Progress,
    products: usize,
    snapshot: bool,
    subscribers: Vec<Subscriber>,
    /// Orders in the last total of each subscriber and product: all products of the first subscriber, then of the
    /// second.
    known: Vec<u32>,
    /// Totals of snapshots that are still missing.
    unseen: usize,
    seen: Seen,
    last_progress: u64,
    poll: Poll,
    buffer: Vec<u8>,
    pong: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// With `snapshot`, each feed must begin with the totals of all products.
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
            connect::watch(&reader.poll, &feed.stream, index)?;
            reader.subscribers.push(Subscriber { stream: feed.stream, carry: [0; MAX_FRAME], carried: 0, open: true });
            reader.take(index, &feed.early);
        }
        Ok(reader)
    }

    /// Runs the event loop. The feeds are still open when it returns.
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
                self.seen.exact_after = Duration::from_nanos(self.last_progress.saturating_sub(last_answer));
                return Ok(());
            }
        }
    }

    /// Closes the feeds.
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
                    self.take(index, &buffer[..carried + count]);
                    // A short read has emptied the socket; later bytes raise a new event.
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

    /// Parses `bytes`, and keeps an incomplete frame at their end.
    fn take(&mut self, index: usize, bytes: &[u8]) {
        let now = self.sent.now();
        let mut rest = bytes;
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
            // A relay has no snapshots, and sends each new subscriber its latest messages, which are older.
            self.seen.decreased += u64::from(self.snapshot);
            return;
        };
        let known = &mut self.known[index * self.products + product];
        if *known == UNSEEN {
            // The snapshot: posting starts when every subscriber has it.
            self.unseen -= 1;
            self.seen.impossible += u64::from(order != 0);
            *known = order as u32;
            return;
        }
        let before = u64::from(*known);
        if order <= before {
            // The same total again is no fault.
            self.seen.decreased += u64::from(order < before);
            return;
        }
        let Some(sent_at) = self.sent.sent_at(product, order) else {
            self.seen.impossible += 1;
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
    /// Faults in words. Skipped totals are none: a feed promises the latest total, not every one.
    pub fn faults(&self) -> Vec<String> {
        [
            (self.decreased, "totals decreased"),
            (self.impossible, "totals that no order made"),
            (self.broken, "broken frames"),
            (self.lost, "feeds closed by the server"),
            (self.missing, "last totals missing or wrong"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}
