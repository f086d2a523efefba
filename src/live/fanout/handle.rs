//! Handle to the fan-out thread. Owns the list of what waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};

use super::counters::Counters;
use super::subscription::{Counts, Feed, Subscription};
use super::waiting::{Marker, Replacement, Waiting, WaitingList};
use crate::live::history::{self, ReplayPage};
use crate::live::subscriber::Subscriber;
use crate::store::now_ms;
use crate::tally::catalog::{CategoryIndex, ProductIndex};
use crate::tally::node::NodeStart;
use crate::tally::order::{Publication, Total};
use crate::tally::position::RunList;

/// Publications and markers that may wait for the fan-out thread. More are merged into the latest total of each product,
/// so that a thread that falls behind sends fewer totals instead of older ones.
const MAX_WAITING: usize = 4_096;

/// How long a subscriber waits for a server that has not followed up to its position: 1 s. Then it gets what there is.
const AHEAD_DEADLINE: Duration = Duration::from_secs(1);
/// The first pause between two looks; each is twice as long as the one before.
const AHEAD_TICK: Duration = Duration::from_millis(2);

/// What the fan-out thread has to do.
pub(super) enum Event {
    /// Something waits in the shared list.
    Published,
    /// With the position from which it resumes.
    Subscribe(Arc<Subscriber>, Subscription, Option<Box<str>>),
    Move(Arc<Subscriber>, Subscription),
    ReplayPage(ReplayPage),
    Leave(Arc<Subscriber>),
    CatchUp(Arc<Subscriber>),
    Totals(Feed, Counts, Sender<Arc<[u8]>>),
    ProductTotals(Feed, Sender<Vec<(ProductIndex, Total)>>),
    AllTotals(Sender<Vec<Total>>),
    /// Whether totals are stale.
    Stale(bool),
    NodeStart(Sender<NodeStart>),
    /// Answered at once.
    Ping(Sender<()>),
    Finish,
    Stop,
}

/// What the handles share with the thread.
pub(super) struct Shared {
    pub(super) waiting: Mutex<WaitingList>,
    /// The sequence number of the last order that was published.
    pub(super) published: AtomicU64,
    /// Whether orders are published that other servers have taken, so that a client may have seen more than this one.
    pub(super) follows: AtomicBool,
    /// Whether an [`Event::Published`] is queued: one announces all publications that wait.
    pub(super) announced: AtomicBool,
    /// Whether there are subscribers. If not, publications and changes of the catalogue do not wake the thread.
    pub(super) wanted: AtomicBool,
    pub(super) counters: Counters,
    /// The number of the last change of the catalogue or period that was published. They are counted from the time of the
    /// start in microseconds, so that another start has other numbers.
    pub(super) news: AtomicU64,
    /// Whether totals may be older than what is stored.
    is_stale: AtomicBool,
}

impl Shared {
    pub(super) fn new(last_seq: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            published: AtomicU64::new(last_seq),
            follows: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            counters: Counters::default(),
            news: AtomicU64::new(now_ms() * 1_000),
            is_stale: AtomicBool::new(false),
        }
    }
}

/// Handle to the fan-out thread; cheap to clone.
#[derive(Clone)]
pub struct FanoutHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) events: Sender<Event>,
}

impl FanoutHandle {
    /// Hands over committed orders, which every later snapshot has, and every call that waits for one. Never waits for a
    /// subscriber. They are sent once [`Self::wake`] is called.
    pub fn publish<'a>(&self, publications: impl IntoIterator<Item = &'a Publication>) {
        self.list(|waiting| {
            let publications = publications.into_iter().map(|one| Waiting { publication: *one, merged: 0 });
            waiting.publications.extend(publications);
            if let Some(Waiting { publication, .. }) = waiting.publications.last() {
                self.shared.published.store(publication.seq, Ordering::Release);
            }
        });
    }

    /// Tells that products of this category were changed in the shared catalogue, or that it is new.
    pub fn publish_catalog(&self, category: CategoryIndex) {
        self.mark(Marker::Catalog(category));
        self.wake();
    }

    /// Tells that a period was opened after the entry of the log with this sequence number, with these totals.
    pub fn publish_period(&self, openings: Arc<[Total]>, opened_after: u64) {
        self.mark(Marker::Period(openings, opened_after));
        // Also without subscribers: each has as many totals as there are products, and thousands of them could wait.
        self.announce();
    }

    /// Replaces everything that was published: what others have stored went back behind it. Every subscriber gets a
    /// snapshot, and positions behind the last order of `runs` are unknown.
    #[cfg_attr(
        not(any(test, feature = "client", feature = "postgres")),
        expect(dead_code, reason = "for servers that follow others")
    )]
    pub fn replace(&self, replacement: Replacement) {
        self.list(|waiting| {
            self.shared.published.store(replacement.last_seq, Ordering::Release);
            waiting.publications.clear();
            waiting.markers.clear();
            waiting.mark(Marker::Replaced(Box::new(replacement)));
            self.shared.news.fetch_add(1, Ordering::AcqRel);
        });
        self.announce();
    }

    /// Tells whether totals may be older than what is stored, until the next call.
    #[cfg_attr(
        not(any(test, feature = "client", feature = "postgres")),
        expect(dead_code, reason = "for servers that follow others")
    )]
    pub fn set_stale(&self, is_stale: bool) {
        if self.shared.is_stale.swap(is_stale, Ordering::AcqRel) != is_stale {
            let _ = self.events.send(Event::Stale(is_stale));
        }
    }

    /// From now on clients may have seen orders that this server has not followed yet.
    #[cfg_attr(
        not(any(test, feature = "client", feature = "postgres")),
        expect(dead_code, reason = "for servers that follow others")
    )]
    pub fn follow_others(&self) {
        self.shared.follows.store(true, Ordering::Relaxed);
    }

    /// Waits until what a client saw elsewhere up to this position is published here, but no longer than 1 s: a snapshot
    /// would show it totals that are older than those it has.
    #[inline(never)]
    pub fn await_position(&self, position: &str) {
        let seq = position.rsplit('.').next().and_then(|digits| digits.parse::<u64>().ok());
        let Some(seq) = seq.filter(|_| self.shared.follows.load(Ordering::Relaxed)) else { return };
        let deadline = Instant::now() + AHEAD_DEADLINE;
        let mut pause = AHEAD_TICK;
        while self.shared.published.load(Ordering::Acquire) < seq && Instant::now() < deadline {
            thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
            pause *= 2;
        }
    }

    /// Wakes the thread for what was published, if there are subscribers.
    pub fn wake(&self) {
        if self.shared.wanted.load(Ordering::Acquire) {
            self.announce();
        }
    }

    /// Tells that a product was shown again on another server after the order with this sequence number.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "for servers that follow others"))]
    pub fn publish_shown_after(&self, seq: u64) {
        self.mark(Marker::ShownAfter(seq));
        self.wake();
    }

    fn mark(&self, marker: Marker) {
        self.list(|waiting| {
            waiting.mark(marker);
            self.shared.news.fetch_add(1, Ordering::AcqRel);
        });
    }

    fn list(&self, add: impl FnOnce(&mut WaitingList)) {
        let crowded;
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            add(&mut waiting);
            if waiting.len() > MAX_WAITING {
                waiting.merge();
            }
            crowded = waiting.len() > MAX_WAITING / 2;
        }
        if crowded {
            self.announce();
        }
    }

    /// Wakes the thread, unless that is under way.
    fn announce(&self) {
        if !self.shared.announced.swap(true, Ordering::AcqRel) {
            // A full queue needs no announcement: the thread looks at the list before every event.
            if let Err(TrySendError::Full(_)) = self.events.try_send(Event::Published) {
                self.shared.announced.store(false, Ordering::Release);
            }
        }
    }

    /// Sends the subscriber the feed's current totals, or, if `since` is a position of this feed from which every order
    /// is still known, those orders; then lists it.
    pub fn subscribe(&self, subscriber: Arc<Subscriber>, subscription: Subscription, since: Option<&str>) {
        let _ = self.events.send(Event::Subscribe(subscriber, subscription, since.map(Box::from)));
    }

    /// Moves the subscriber to another feed, and sends it that feed's current totals first.
    pub fn move_to(&self, subscriber: Arc<Subscriber>, subscription: Subscription) {
        let _ = self.events.send(Event::Move(subscriber, subscription));
    }

    /// Takes the subscriber off the list.
    pub fn leave(&self, subscriber: Arc<Subscriber>) {
        let _ = self.events.send(Event::Leave(subscriber));
    }

    /// Asks to catch up a lagging subscriber, whose queue is empty.
    pub fn request_catch_up(&self, subscriber: Arc<Subscriber>) {
        let _ = self.events.send(Event::CatchUp(subscriber));
    }

    /// The feed's current totals, or counts of the current period, as a JSON array. Contains every order that was
    /// answered before the call; `None` when the server is stopping.
    #[must_use]
    pub fn totals(&self, feed: Feed, counts: Counts) -> Option<Arc<[u8]>> {
        let (sender, totals) = bounded(1);
        self.events.send(Event::Totals(feed, counts, sender)).ok()?;
        totals.recv().ok()
    }

    /// The feed's current totals by product, in the order of the catalogue, as exact as [`Self::totals`].
    #[must_use]
    pub fn product_totals(&self, feed: Feed) -> Option<Vec<(ProductIndex, Total)>> {
        let (sender, totals) = bounded(1);
        self.events.send(Event::ProductTotals(feed, sender)).ok()?;
        totals.recv().ok()
    }

    /// The current total of every product, hidden ones too, by its index; as exact as [`Self::totals`].
    #[must_use]
    pub fn all_totals(&self) -> Option<Vec<Total>> {
        let (sender, totals) = bounded(1);
        self.events.send(Event::AllTotals(sender)).ok()?;
        totals.recv().ok()
    }

    /// What another server needs that follows this one; as exact as [`Self::totals`].
    #[must_use]
    pub fn node_start(&self) -> Option<NodeStart> {
        let (sender, start) = bounded(1);
        self.events.send(Event::NodeStart(sender)).ok()?;
        start.recv().ok()
    }

    /// Positions are those of these runs from now on; the orders are the same.
    #[cfg_attr(not(any(test, feature = "client")), expect(dead_code, reason = "for servers that follow others"))]
    pub fn set_runs(&self, runs: RunList) {
        self.mark(Marker::Runs(Box::new(runs)));
        self.wake();
    }

    /// Whether totals may be older than what is stored.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.shared.is_stale.load(Ordering::Acquire)
    }

    /// The number of the last change of the catalogue or period that was published.
    #[must_use]
    pub fn news(&self) -> u64 {
        self.shared.news.load(Ordering::Acquire)
    }

    /// What the thread has sent, and to how many subscribers.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Whether the fan-out thread answers by `deadline`.
    #[must_use]
    pub fn answers(&self, deadline: Instant) -> bool {
        let (sender, answer) = bounded(1);
        self.events.send_deadline(Event::Ping(sender), deadline).is_ok() && answer.recv_deadline(deadline).is_ok()
    }

    /// The sequence number of the last order that was published.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// Sends every subscriber its last totals and then the close frame; later subscribers get it at once.
    pub fn finish(&self) {
        let _ = self.events.send(Event::Finish);
    }

    /// Resets every subscriber that is left, and relays nothing more.
    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }
}

impl history::PageSink for FanoutHandle {
    fn take_page(&self, page: ReplayPage) {
        let _ = self.events.send(Event::ReplayPage(page));
    }

    fn published(&self) -> u64 {
        self.last_seq()
    }
}
