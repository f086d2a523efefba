//! The fan-out threads: relay each committed order to every subscriber. Each owns the lists of its share of the
//! subscribers, and its own copy of the totals, from which every snapshot is made; knows nothing of connections and HTTP.
//!
//! All of them are given the same publications and changes in the same order, in one step, before an order is answered.
//! So it does not matter to a client which one it gets. They share nothing else, and do not wait for each other.
//!
//! Subscribing is one step of this thread: it sends the snapshot and lists the subscriber between two publications.
//! Therefore no order is missing between the snapshot and the stream, and none comes twice. A lagging subscriber joins
//! the stream again in the same way: it gets the latest total of each product that it missed.
//!
//! A subscriber that gets positions is owed every order. Those that it missed, by lagging or by being away, come from
//! the recent orders here or, page by page, from the log; until they have been sent it counts as lagging. One that was
//! away for too long gets a snapshot instead. One that gets at most one message a product in an interval is owed the
//! latest total of each product only, with positions too.

mod catch_up;
mod counters;
mod edge;
mod group;
mod handle;
mod list;
mod markers;
mod notices;
mod pace;
mod place;
mod recent;
mod relay;
mod rest;
mod round;
mod subscription;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::config::MAX_FANOUT_THREADS;
use crate::json::{self, FeedEnd};
use crate::live::history::History;
use crate::live::subscriber::{Sent, Subscriber};
use crate::tally::catalog::{ProductIndex, SharedCatalog};
use crate::tally::order::Total;
use crate::tally::position::RunList;

pub use edge::MAX_OPENINGS;
pub use handle::FanoutHandle;
pub use subscription::{
    Counts, Feed, Format, Interval, MAX_INTERVAL_MS, MIN_INTERVAL_MS, Notices, Options, Subscription,
};
#[cfg(any(test, feature = "client", feature = "postgres"))]
pub use waiting::Replacement;

use group::{Group, Page, ProductState};
use handle::{Event, Shared, ThreadState};
use list::FeedState;
use place::Place;
use recent::Recent;
use subscription::feed_number;
use waiting::WaitingList;

/// Events (subscribe, leave, read) that may wait; beyond it the connections that send them wait.
const QUEUE: usize = 1_024;
/// The most threads unless more are asked for: 8. By then the network carries less than they send.
const MAX_DEFAULT_THREADS: usize = 8;
/// A thread's stack.
const STACK_BYTES: usize = 256 * 1024;

struct Fanout {
    /// Its number among the fan-out threads.
    number: usize,
    shared: Arc<Shared>,
    events: Receiver<Event>,
    catalog: SharedCatalog,
    products: Vec<ProductState>,
    /// The number of each product's last publication here, 0 before the first. Apart from `products`, so that a search
    /// through a large catalogue reads little memory. A product that is shown again counts as published.
    changed: Vec<u64>,
    /// The sequence number of each product's last order here, 0 before the first.
    ordered: Vec<u64>,
    /// The number of the last publication here; they are counted from the start of the server.
    changes: u64,
    recent: Recent,
    /// The sequence number of the last publication.
    last_seq: u64,
    /// The sequence number of the last order before the start.
    started_after: u64,
    /// The sequence number of the last entry of the log before the current period.
    opened_after: u64,
    /// The same of periods before it, oldest first, as far as they are known.
    opened_before: VecDeque<u64>,
    /// [`Start::shown_after`]: of which feed the product is, is not known any more.
    shown_after: Option<u64>,
    history: History,
    runs: RunList,
    /// [`Feed::All`], then one for each category.
    feeds: Vec<FeedState>,
    /// Those with subscribers, and vacant ones, which the next new groups replace.
    groups: Vec<Group>,
    vacant: Vec<usize>,
    /// The groups whose subscribers get at most one message a product in an interval.
    paced: Vec<usize>,
    /// Until when orders do not wake this thread, if they do not.
    rests_until: Option<u64>,
    places: HashMap<usize, Place>,
    /// Since when the times of this thread are counted, in microseconds.
    begun: Instant,
    /// The number of subscribers that want to know the status.
    status_subscribers: usize,
    /// When they get it next.
    status_at: u64,
    /// The number of the last change of the catalogue; they are counted from the start of the server.
    catalog_changes: u64,
    /// The number of the last change of the catalogue or period that has been applied.
    news: u64,
    /// Whether subscribers may have to be caught up after this round, because of the catalogue or a new period.
    has_news: bool,
    /// Whether totals may be older than what is stored.
    is_stale: bool,
    /// What was sent since the counters were last written.
    sent: Sent,
    /// The turns that subscribers have had.
    turns: u64,
    is_finishing: bool,
    batch: WaitingList,
    /// An event that came while rounds were sent.
    next_event: Option<Event>,
    /// What is being encoded for one subscriber; here so that its memory is used again.
    page: Page,
}

/// What the store held when it was opened.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The total of each product.
    pub totals: &'a [Total],
    /// The total of each product when the current period was opened.
    pub openings: &'a [Total],
    /// The sequence number of the last entry of the log before that.
    pub opened_after: u64,
    /// The same of periods before it, oldest first, as far as they are known.
    pub opened_before: &'a [u64],
    /// The sequence number of the last order.
    pub last_seq: u64,
    /// The sequence number of the last order before a product was last shown again, in an earlier run.
    pub shown_after: Option<u64>,
    /// The runs whose positions are valid.
    pub runs: &'a RunList,
}

/// The number of threads: `given`, or one on up to three cores, where the ledger and the connections need the others, and
/// else one for each two cores, at most [`MAX_DEFAULT_THREADS`].
#[must_use]
pub fn threads(given: Option<usize>) -> usize {
    let by_cores = || thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).min(MAX_DEFAULT_THREADS));
    given.unwrap_or_else(by_cores).clamp(1, MAX_FANOUT_THREADS)
}

/// Starts a fan-out thread for each of the sentinels, at least one. They close every subscriber with
/// [`FanoutHandle::stop`], and end when the last handle is dropped. A sentinel is dropped when its thread ends, also by a
/// panic.
///
/// # Errors
/// When the system refuses another thread.
pub fn start<S: Send + 'static>(
    catalog: &SharedCatalog,
    start: &Start<'_>,
    history: &History,
    sentinels: impl IntoIterator<Item = S>,
) -> io::Result<(FanoutHandle, Vec<JoinHandle<()>>)> {
    let sentinels: Vec<S> = sentinels.into_iter().collect();
    let (fanouts, handle) = prepare(catalog, start, history, sentinels.len());
    let threads = fanouts.into_iter().zip(sentinels).map(|(mut fanout, sentinel)| {
        thread::Builder::new().name("fanout".into()).stack_size(STACK_BYTES).spawn(move || {
            let _sentinel = sentinel;
            fanout.run();
            fanout.log_skipped();
            let Fanout { events, groups, history, .. } = fanout;
            drop((groups, history));
            // Left in the channel, an event would keep its sender waiting.
            events.iter().for_each(drop);
        })
    });
    Ok((handle, threads.collect::<io::Result<_>>()?))
}

fn prepare(
    catalog: &SharedCatalog,
    start: &Start<'_>,
    history: &History,
    threads: usize,
) -> (Vec<Fanout>, FanoutHandle) {
    let shared = Arc::new(Shared::new(threads, start.last_seq));
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| bounded(QUEUE)).unzip();
    let fanouts = receivers
        .into_iter()
        .enumerate()
        .map(|(number, events)| Fanout::new((number, shared.clone()), events, catalog.clone(), start, history.clone()));
    (fanouts.collect(), FanoutHandle { shared: shared.clone(), events: senders.into() })
}

impl Fanout {
    fn new(
        (number, shared): (usize, Arc<Shared>),
        events: Receiver<Event>,
        catalog: SharedCatalog,
        start: &Start<'_>,
        history: History,
    ) -> Self {
        let Start { totals, openings, opened_after, opened_before, last_seq, shown_after, runs } = *start;
        let news = shared.news.load(Ordering::Acquire);
        let mut fanout = Self {
            number,
            shared,
            events,
            catalog,
            products: Vec::new(),
            changed: Vec::new(),
            ordered: Vec::new(),
            changes: 0,
            recent: Recent::new(last_seq),
            last_seq,
            started_after: last_seq,
            shown_after,
            opened_after,
            opened_before: opened_before.iter().copied().collect(),
            history,
            runs: runs.clone(),
            feeds: Vec::new(),
            groups: Vec::new(),
            vacant: Vec::new(),
            paced: Vec::new(),
            rests_until: None,
            places: HashMap::new(),
            begun: Instant::now(),
            status_subscribers: 0,
            status_at: 0,
            catalog_changes: 0,
            news,
            has_news: false,
            is_stale: false,
            sent: Sent::default(),
            turns: 0,
            is_finishing: false,
            batch: WaitingList::default(),
            next_event: None,
            page: Page::default(),
        };
        fanout.load_products();
        for (product, total) in fanout.products.iter_mut().zip(totals) {
            product.total = *total;
        }
        fanout.set_openings(openings);
        fanout
    }

    fn run(&mut self) {
        loop {
            // Without a timer, which each order would set anew, unless something is due.
            let received = match (self.next_event.take(), self.next_due()) {
                (Some(event), _) => Ok(event),
                (None, None) => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                (None, Some(due)) => self.events.recv_deadline(self.begun + Duration::from_micros(due)),
            };
            if matches!(received, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            let changes = self.changes;
            // Before every event, so that it sees every order that was answered before it was sent.
            self.relay(matches!(received, Ok(Event::Published)));
            self.send_status_if_due();
            match received {
                Ok(Event::Stop) => {
                    let listed = self.groups.iter().flat_map(|group| &group.subscribers);
                    return listed.for_each(|subscriber| subscriber.reset());
                }
                Ok(event) => self.act(event),
                Err(_) => {}
            }
            self.rest(self.changes != changes);
            self.shared.counters.publish(&mut self.sent);
        }
    }

    /// Does what a handle asks for, except for the end.
    fn act(&mut self, event: Event) {
        match event {
            Event::Published | Event::Stop => {}
            Event::Subscribe(subscriber, subscription, since) => {
                self.subscribe(&subscriber, subscription, since.as_deref());
            }
            Event::Move(subscriber, subscription) => self.move_to(&subscriber, subscription),
            Event::ReplayPage(page) => self.take_page(page),
            Event::Leave(subscriber) => drop(self.unlist(&subscriber)),
            Event::CatchUp(subscriber) => self.catch_up(&subscriber),
            Event::Totals(feed, counts, sender) => {
                self.load_feed(feed);
                let _ = sender.send(self.feeds[feed_number(feed)].array(feed, counts, &self.products));
            }
            Event::ProductTotals(feed, sender) => {
                self.load_feed(feed);
                let products = self.products.iter().enumerate().filter(|(_, product)| product.is_in(feed));
                let totals = products.map(|(index, product)| (ProductIndex(index as u32), product.total));
                let _ = sender.send(totals.collect());
            }
            Event::AllTotals(sender) => {
                let _ = sender.send(self.products.iter().map(|product| product.total).collect());
            }
            Event::Stale(is_stale) => self.set_stale(is_stale),
            Event::EdgeStart(sender) => drop(sender.send(self.edge_start())),
            // The requester may have given up.
            Event::Ping(sender) => drop(sender.send(())),
            Event::Finish => self.finish_all(),
        }
    }

    /// What the handles know of this thread.
    fn thread(&self) -> &ThreadState {
        &self.shared.threads[self.number]
    }

    /// Microseconds since the start of this thread.
    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// When something has to be sent although nothing happens.
    fn next_due(&self) -> Option<u64> {
        let status = (self.status_subscribers > 0).then_some(self.status_at);
        self.paced.iter().filter_map(|at| self.groups[*at].due_at()).chain(status).chain(self.rests_until).min()
    }

    fn finish_all(&mut self) {
        self.is_finishing = true;
        // What waits in paced feeds is due within the longest interval, and nothing follows.
        self.add_all_due(self.now() + u64::from(MAX_INTERVAL_MS) * 1_000);
        self.send_rounds(false);
        for group in &self.groups {
            for subscriber in &group.subscribers {
                finish(subscriber, group.format(), json::SHUTDOWN);
            }
        }
    }

    fn finish_if_due(&self, subscriber: &Arc<Subscriber>, at: usize) {
        if self.is_finishing {
            finish(subscriber, self.groups[at].format(), json::SHUTDOWN);
        }
    }

    /// Logs, once when all threads end, whether some subscribers were too slow for every total.
    fn log_skipped(&mut self) {
        self.shared.counters.publish(&mut self.sent);
        let is_last = self.shared.running.fetch_sub(1, Ordering::AcqRel) == 1;
        let skipped = self.shared.counters.skipped.get();
        if is_last && skipped > 0 {
            log::info!("subscribers skipped {skipped} totals, each because a later one followed too closely");
        }
    }
}

/// Ends a subscriber's stream; a lagging one's only after its last totals, unless it has positions, with which it can
/// resume.
fn finish(subscriber: &Arc<Subscriber>, format: Format, end: FeedEnd) {
    if subscriber.is_lagging() {
        if format == Format::Plain {
            return;
        }
        subscriber.resume();
    }
    let _ = subscriber.finish(match format {
        Format::Plain | Format::Positioned => end.close_frame(),
        Format::Events => end.event(),
    });
    if format == Format::Events {
        // The client of an event stream does not answer, so the session's thread is woken like this.
        let _ = subscriber.stream().shutdown(Shutdown::Read);
    }
}
