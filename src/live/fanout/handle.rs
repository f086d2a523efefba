//! Handle to the fan-out threads. Owns the lists of what waits for them, and which subscribers each one has.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
use crate::tally::edge::EdgeStart;
use crate::tally::order::{Publication, Total};
use crate::tally::position::RunList;

/// Publications and markers that may wait for a fan-out thread. More are merged into the latest total of each product,
/// so that a thread that falls behind sends fewer totals instead of older ones.
const MAX_WAITING: usize = 4_096;

/// How long a subscriber waits for a server that has not followed up to its position: 1 s. Then it gets what there is.
const AHEAD_DEADLINE: Duration = Duration::from_secs(1);
/// The first pause between two looks; each is twice as long as the one before.
const AHEAD_TICK: Duration = Duration::from_millis(2);

/// What a fan-out thread has to do.
pub(super) enum Event {
    /// Something waits in its list.
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
    EdgeStart(Sender<EdgeStart>),
    /// Answered at once.
    Ping(Sender<()>),
    Finish,
    Stop,
}

/// What the handles share with the threads.
pub(super) struct Shared {
    /// What waits, for each thread. One lock, so that all of them have the same in the same order, at the same time.
    pub(super) waiting: Mutex<Box<[WaitingList]>>,
    /// What is known of each thread.
    pub(super) threads: Box<[ThreadState]>,
    /// The number of threads that have not ended.
    pub(super) running: AtomicUsize,
    /// The sequence number of the last order that was published.
    pub(super) published: AtomicU64,
    /// Whether orders are published that other servers have taken, so that a client may have seen more than this one.
    pub(super) follows: AtomicBool,
    pub(super) counters: Counters,
    /// The number of the last change of the catalogue or period that was published. They are counted from the time of the
    /// start in microseconds, so that another start has other numbers.
    pub(super) news: AtomicU64,
    /// Whether totals may be older than what is stored.
    is_stale: AtomicBool,
}

/// What is known of one fan-out thread.
#[derive(Default)]
pub(super) struct ThreadState {
    /// Whether an [`Event::Published`] is queued: one announces all publications that wait. Also while none is needed, since
    /// the thread looks for them soon.
    pub(super) announced: AtomicBool,
    /// Whether it has subscribers. If not, publications and changes of the catalogue do not wake it.
    pub(super) wanted: AtomicBool,
    /// The subscribers that were given to it and have not left.
    subscribers: AtomicUsize,
}

impl Shared {
    pub(super) fn new(threads: usize, last_seq: u64) -> Self {
        Self {
            waiting: Mutex::new((0..threads).map(|_| WaitingList::default()).collect()),
            threads: (0..threads).map(|_| ThreadState::default()).collect(),
            running: AtomicUsize::new(threads),
            published: AtomicU64::new(last_seq),
            follows: AtomicBool::new(false),
            counters: Counters::default(),
            news: AtomicU64::new(now_ms() * 1_000),
            is_stale: AtomicBool::new(false),
        }
    }
}

/// Handle to the fan-out threads; cheap to clone. Each subscriber is that of one thread as long as it lives.
#[derive(Clone)]
pub struct FanoutHandle {
    pub(super) shared: Arc<Shared>,
    /// To each thread.
    pub(super) events: Arc<[Sender<Event>]>,
}

impl FanoutHandle {
    /// Hands over committed orders, which every later snapshot has, and every call that waits for one. Never waits for a
    /// subscriber. They are sent once [`Self::wake`] is called.
    pub fn publish<'a>(&self, publications: impl IntoIterator<Item = &'a Publication, IntoIter: Clone>) {
        let publications = publications.into_iter();
        self.list(|lists| {
            for waiting in &mut *lists {
                waiting.publications.extend(publications.clone().map(|one| Waiting { publication: *one, merged: 0 }));
            }
            if let Some(Waiting { publication, .. }) = lists[0].publications.last() {
                self.shared.published.store(publication.seq, Ordering::Release);
            }
        });
    }

    /// Tells that products of this category were changed in the shared catalogue, or that it is new.
    pub fn publish_catalog(&self, category: CategoryIndex) {
        self.mark(&Marker::Catalog(category));
        self.wake();
    }

    /// Tells that a period was opened after the entry of the log with this sequence number, with these totals.
    pub fn publish_period(&self, openings: Arc<[Total]>, opened_after: u64) {
        self.mark(&Marker::Period(openings, opened_after));
        // Also without subscribers: each has as many totals as there are products, and thousands of them could wait.
        self.announce_all();
    }

    /// Replaces everything that was published: what others have stored went back behind it. Every subscriber gets a
    /// snapshot, and positions behind the last order of `runs` are unknown.
    #[cfg_attr(
        not(any(test, feature = "client", feature = "postgres")),
        expect(dead_code, reason = "for servers that follow others")
    )]
    pub fn replace(&self, replacement: Replacement) {
        let replacement = Arc::new(replacement);
        self.list(|lists| {
            self.shared.published.store(replacement.last_seq, Ordering::Release);
            for waiting in lists {
                waiting.publications.clear();
                waiting.markers.clear();
                waiting.mark(Marker::Replaced(replacement.clone()));
            }
            self.shared.news.fetch_add(1, Ordering::AcqRel);
        });
        self.announce_all();
    }

    /// Tells whether totals may be older than what is stored, until the next call.
    #[cfg_attr(
        not(any(test, feature = "client", feature = "postgres")),
        expect(dead_code, reason = "for servers that follow others")
    )]
    pub fn set_stale(&self, is_stale: bool) {
        if self.shared.is_stale.swap(is_stale, Ordering::AcqRel) != is_stale {
            self.send_all(|| Event::Stale(is_stale));
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

    /// Wakes the threads that have subscribers for what was published.
    pub fn wake(&self) {
        for (number, thread) in self.shared.threads.iter().enumerate() {
            if thread.wanted.load(Ordering::Acquire) {
                self.announce(number);
            }
        }
    }

    /// Tells that a product was shown again on another server after the order with this sequence number.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "for servers that follow others"))]
    pub fn publish_shown_after(&self, seq: u64) {
        self.mark(&Marker::ShownAfter(seq));
        self.wake();
    }

    fn mark(&self, marker: &Marker) {
        self.list(|lists| {
            for waiting in lists {
                waiting.mark(marker.clone());
            }
            self.shared.news.fetch_add(1, Ordering::AcqRel);
        });
    }

    fn list(&self, add: impl FnOnce(&mut [WaitingList])) {
        let mut crowded = false;
        {
            let mut lists = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            add(&mut lists);
            for waiting in &mut *lists {
                if waiting.len() > MAX_WAITING {
                    waiting.merge();
                }
                crowded |= waiting.len() > MAX_WAITING / 2;
            }
        }
        if crowded {
            self.announce_all();
        }
    }

    fn announce_all(&self) {
        (0..self.events.len()).for_each(|number| self.announce(number));
    }

    /// Wakes a thread, unless that is under way.
    fn announce(&self, number: usize) {
        let announced = &self.shared.threads[number].announced;
        if !announced.swap(true, Ordering::AcqRel) {
            // A full queue needs no announcement: the thread looks at its list before every event.
            if let Err(TrySendError::Full(_)) = self.events[number].try_send(Event::Published) {
                announced.store(false, Ordering::Release);
            }
        }
    }

    fn send_all(&self, event: impl Fn() -> Event) {
        for events in &*self.events {
            let _ = events.send(event());
        }
    }

    /// Sends to the thread that has the subscriber.
    fn send(&self, subscriber: Arc<Subscriber>, event: impl FnOnce(Arc<Subscriber>) -> Event) {
        let _ = self.events[subscriber.fanout_thread()].send(event(subscriber));
    }

    /// Asks the first thread, which has the same totals as the others.
    fn ask<T>(&self, event: impl FnOnce(Sender<T>) -> Event) -> Option<T> {
        let (sender, answer) = bounded(1);
        self.events[0].send(event(sender)).ok()?;
        answer.recv().ok()
    }

    /// Sends the subscriber the feed's current totals, or, if `since` is a position of this feed from which every order
    /// is still known, those orders; then lists it. Once for each subscriber.
    pub fn subscribe(&self, subscriber: Arc<Subscriber>, subscription: Subscription, since: Option<&str>) {
        // Of those with the fewest the last: the first one answers reads too.
        let counts = self.shared.threads.iter().map(|thread| thread.subscribers.load(Ordering::Relaxed)).enumerate();
        let number = counts.rev().min_by_key(|(_, count)| *count).map_or(0, |(number, _)| number);
        self.shared.threads[number].subscribers.fetch_add(1, Ordering::Relaxed);
        subscriber.set_fanout_thread(number);
        self.send(subscriber, |subscriber| Event::Subscribe(subscriber, subscription, since.map(Box::from)));
    }

    /// Moves the subscriber to another feed, and sends it that feed's current totals first.
    pub fn move_to(&self, subscriber: Arc<Subscriber>, subscription: Subscription) {
        self.send(subscriber, |subscriber| Event::Move(subscriber, subscription));
    }

    /// Takes the subscriber off the list. Once for each that has subscribed.
    pub fn leave(&self, subscriber: Arc<Subscriber>) {
        self.shared.threads[subscriber.fanout_thread()].subscribers.fetch_sub(1, Ordering::Relaxed);
        self.send(subscriber, Event::Leave);
    }

    /// Asks to catch up a lagging subscriber, whose queue is empty.
    pub fn request_catch_up(&self, subscriber: Arc<Subscriber>) {
        self.send(subscriber, Event::CatchUp);
    }

    /// The feed's current totals, or counts of the current period, as a JSON array. Contains every order that was
    /// answered before the call; `None` when the server is stopping.
    #[must_use]
    pub fn totals(&self, feed: Feed, counts: Counts) -> Option<Arc<[u8]>> {
        self.ask(|sender| Event::Totals(feed, counts, sender))
    }

    /// The feed's current totals by product, in the order of the catalogue, as exact as [`Self::totals`].
    #[must_use]
    pub fn product_totals(&self, feed: Feed) -> Option<Vec<(ProductIndex, Total)>> {
        self.ask(|sender| Event::ProductTotals(feed, sender))
    }

    /// The current total of every product, hidden ones too, by its index; as exact as [`Self::totals`].
    #[must_use]
    pub fn all_totals(&self) -> Option<Vec<Total>> {
        self.ask(Event::AllTotals)
    }

    /// What another server needs that follows this one; as exact as [`Self::totals`].
    #[must_use]
    pub fn edge_start(&self) -> Option<EdgeStart> {
        self.ask(Event::EdgeStart)
    }

    /// Positions are those of these runs from now on; the orders are the same.
    #[cfg_attr(not(any(test, feature = "client")), expect(dead_code, reason = "for servers that follow others"))]
    pub fn set_runs(&self, runs: RunList) {
        self.mark(&Marker::Runs(Box::new(runs)));
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

    /// What the threads have sent, and to how many subscribers.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Whether every fan-out thread answers by `deadline`.
    #[must_use]
    pub fn answers(&self, deadline: Instant) -> bool {
        let (sender, answers) = bounded(self.events.len());
        (self.events.iter()).all(|events| events.send_deadline(Event::Ping(sender.clone()), deadline).is_ok())
            && (0..self.events.len()).all(|_| answers.recv_deadline(deadline).is_ok())
    }

    /// The sequence number of the last order that was published.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// Sends every subscriber its last totals and then the close frame; later subscribers get it at once.
    pub fn finish(&self) {
        self.send_all(|| Event::Finish);
    }

    /// Resets every subscriber that is left, and relays nothing more.
    pub fn stop(&self) {
        self.send_all(|| Event::Stop);
    }
}

impl history::PageSink for FanoutHandle {
    fn take_page(&self, page: ReplayPage) {
        let _ = self.events[page.subscriber.fanout_thread()].send(Event::ReplayPage(page));
    }

    fn published(&self) -> u64 {
        self.last_seq()
    }
}
