//! The fan-out thread: relays each committed order to every subscriber's channel. Owns the list of subscribers and its
//! own view of the totals, from which every snapshot is made; knows nothing of connections and HTTP.
//!
//! Subscribing is one step of this thread: it queues the snapshot and lists the subscriber between two publications.
//! That is the whole reason why no order falls between the snapshot and the stream, and none is seen twice. A lagging
//! subscriber joins the stream again in the same way: it is given the latest total of each product that it missed.
//!
//! A subscriber that is told positions is due every order. What it has missed, by lagging or by being away, it gets from
//! the recent orders here or, page by page, from the log; until then it counts as lagging.

mod group;
mod recency;
mod recent;
#[cfg(test)]
mod tests;
mod waiting;

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::catalog::{CategoryIndex, ProductIndex};
use crate::history::{History, REPLAY_PAGE};
use crate::ledger::SharedCatalog;
use crate::log;
use crate::order::Total;
use crate::position::Lineage;
use crate::store::log::Step;
use crate::subscriber::{Buffer, Drained, Subscriber};
use crate::wire;

use group::{Group, View};
use recency::Recency;
use recent::Recent;
use waiting::{Waiting, merge};

/// Publications that may wait for the fan-out thread. Beyond it those that wait are merged into the latest total of
/// each product, so that a thread that falls behind sends fewer totals instead of older ones.
const MAX_WAITING: usize = 4_096;
/// Requests (subscribe, leave, read) that may wait; beyond it the asking connections wait their turn.
const QUEUE: usize = 1_024;
/// The thread's stack.
const STACK_BYTES: usize = 256 * 1024;

/// One committed order, or new product, on its way out: the product's total after it. In commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// What was ordered.
    pub product: ProductIndex,
    /// Its total since.
    pub total: Total,
    /// The number of its line in the log.
    pub seq: u64,
}

/// What a subscriber follows: one category, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// The products of one category.
    Category(CategoryIndex),
    /// Every product.
    All,
}

/// In which form a subscriber gets its totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// WebSocket messages `{"id","total"}`.
    Plain,
    /// WebSocket messages `{"id","total","position"}`.
    Positioned,
    /// Server-sent events, whose ids are positions.
    Events,
}

/// Every format, in the order of their groups.
const FORMATS: [Format; 3] = [Format::Plain, Format::Positioned, Format::Events];

/// What a subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Which totals.
    pub feed: Feed,
    /// In which form.
    pub format: Format,
}

/// Orders from the log for a subscriber that is due them.
pub struct Page {
    /// Who asked.
    pub subscriber: Arc<Subscriber>,
    /// The number of the order behind which they begin.
    pub after: u64,
    /// The orders; `None` when they are no longer there, or cannot be read.
    pub steps: Option<Vec<Step>>,
}

enum Event {
    /// Publications wait in the shared list.
    Published,
    Subscribe(Arc<Subscriber>, Subscription, Option<u64>),
    Move(Arc<Subscriber>, Subscription),
    Page(Page),
    Leave(Arc<Subscriber>),
    CaughtUp(Arc<Subscriber>),
    Totals(Feed, Sender<Arc<[u8]>>),
    Finish,
    Stop,
}

struct Shared {
    waiting: Mutex<Vec<Waiting>>,
    /// The number of the last order that was published.
    published: AtomicU64,
    /// Whether a [`Event::Published`] is on its way, so that one is enough for many.
    announced: AtomicBool,
    /// Whether anybody is subscribed: otherwise publications can wait for the next event, and no thread is woken.
    wanted: AtomicBool,
}

/// Speaks to the fan-out thread; cheap to clone.
#[derive(Clone)]
pub struct FanoutHandle {
    shared: Arc<Shared>,
    events: Sender<Event>,
    lineage: Arc<Lineage>,
}

impl FanoutHandle {
    /// Hands committed orders on. Never waits for a subscriber.
    pub fn publish(&self, publications: &[Publication]) {
        let crowded;
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(publications.iter().map(|publication| Waiting { publication: *publication, merged: 0 }));
            if let Some(last) = publications.last() {
                self.shared.published.store(last.seq, Ordering::Release);
            }
            if waiting.len() > MAX_WAITING {
                merge(&mut waiting);
            }
            crowded = waiting.len() > MAX_WAITING / 2;
        }
        let wanted = crowded || self.shared.wanted.load(Ordering::Acquire);
        if wanted && !self.shared.announced.swap(true, Ordering::AcqRel) {
            // A full queue needs no announcement: the thread looks at the list before every event.
            if let Err(TrySendError::Full(_)) = self.events.try_send(Event::Published) {
                self.shared.announced.store(false, Ordering::Release);
            }
        }
    }

    /// The number of the last order that every later snapshot has. What is in the log behind it is on disk, and not yet seen
    /// by anybody.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// Lists the subscriber, after it has been given the feed's current totals; or, if `since` is a position of this feed
    /// and the orders behind it are still known, those orders.
    pub fn subscribe(&self, subscriber: Arc<Subscriber>, subscription: Subscription, since: Option<&str>) {
        let after = since.and_then(|position| self.lineage.seq(number(subscription.feed), position));
        let _ = self.events.send(Event::Subscribe(subscriber, subscription, after));
    }

    /// Moves the subscriber to another feed, whose current totals it is given first.
    pub fn move_to(&self, subscriber: Arc<Subscriber>, subscription: Subscription) {
        let _ = self.events.send(Event::Move(subscriber, subscription));
    }

    /// Brings orders from the log.
    pub fn page(&self, page: Page) {
        let _ = self.events.send(Event::Page(page));
    }

    /// Takes the subscriber off the list.
    pub fn leave(&self, subscriber: Arc<Subscriber>) {
        let _ = self.events.send(Event::Leave(subscriber));
    }

    /// Tells that a lagging subscriber has sent all it had.
    pub fn caught_up(&self, subscriber: Arc<Subscriber>) {
        let _ = self.events.send(Event::CaughtUp(subscriber));
    }

    /// The feed's current totals as a JSON array. Contains every order that was answered before the call; `None` while
    /// the server stops.
    #[must_use]
    pub fn totals(&self, feed: Feed) -> Option<Arc<[u8]>> {
        let (sender, totals) = bounded(1);
        self.events.send(Event::Totals(feed, sender)).ok()?;
        totals.recv().ok()
    }

    /// Gives every subscriber its last totals and then the close frame; later subscribers get it at once.
    pub fn finish(&self) {
        let _ = self.events.send(Event::Finish);
    }

    /// Ends the relaying and closes whoever is still subscribed. The thread goes on refusing until the last handle is gone.
    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }
}

struct Fanout {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    catalog: SharedCatalog,
    products: Vec<View>,
    recency: Recency,
    recent: Recent,
    /// The number of the last order that came by.
    last_seq: u64,
    history: History,
    lineage: Arc<Lineage>,
    /// One for each format of [`Feed::All`], then of each category.
    groups: Vec<Group>,
    /// How many subscribers there are in all groups.
    listed: usize,
    /// Totals that subscribers who have left had skipped.
    skipped: u64,
    finishing: bool,
    taken: Vec<Waiting>,
}

/// The number of [`Feed::All`] among the feeds; the categories follow.
const ALL: usize = 0;

fn number(feed: Feed) -> usize {
    match feed {
        Feed::All => ALL,
        Feed::Category(index) => ALL + 1 + index.0 as usize,
    }
}

/// The place of a subscription's group.
fn place(Subscription { feed, format }: Subscription) -> usize {
    number(feed) * FORMATS.len() + format as usize
}

/// What the data folder held when it was opened.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The total of each product.
    pub totals: &'a [Total],
    /// The number of the last order.
    pub last_seq: u64,
    /// What positions are of.
    pub lineage: &'a Lineage,
}

/// Starts the fan-out thread, and returns its handle.
///
/// # Errors
/// When the system refuses another thread.
pub fn start(
    catalog: SharedCatalog,
    start: &Start<'_>,
    history: History,
) -> io::Result<(FanoutHandle, JoinHandle<()>)> {
    let Start { totals, last_seq, lineage } = *start;
    let lineage = Arc::new(lineage.clone());
    let (sender, events) = bounded(QUEUE);
    let shared = Arc::new(Shared {
        waiting: Mutex::new(Vec::new()),
        published: AtomicU64::new(last_seq),
        announced: AtomicBool::new(false),
        wanted: AtomicBool::new(false),
    });
    let mut fanout = Fanout {
        shared: shared.clone(),
        events,
        catalog,
        products: Vec::new(),
        recency: Recency::default(),
        recent: Recent::new(last_seq),
        last_seq,
        history,
        lineage: lineage.clone(),
        groups: Vec::new(),
        listed: 0,
        skipped: 0,
        finishing: false,
        taken: Vec::new(),
    };
    fanout.learn_products();
    for (view, total) in fanout.products.iter_mut().zip(totals) {
        view.total = *total;
    }
    let thread = thread::Builder::new().name("fanout".into()).stack_size(STACK_BYTES).spawn(move || {
        fanout.run();
        fanout.report_skipped();
        let Fanout { events, groups, history, .. } = fanout;
        drop((groups, history));
        // What comes later is refused by being dropped; a channel alone would keep it, and its sender waiting.
        events.iter().for_each(drop);
    })?;
    Ok((FanoutHandle { shared, events: sender, lineage }, thread))
}

impl Fanout {
    fn run(&mut self) {
        while let Ok(event) = self.events.recv() {
            // Before every event, so that what was answered before the event was sent is part of what it sees.
            self.relay();
            match event {
                Event::Published => {}
                Event::Subscribe(subscriber, subscription, after) => self.subscribe(&subscriber, subscription, after),
                Event::Move(subscriber, subscription) => {
                    self.unlist(&subscriber);
                    self.subscribe(&subscriber, subscription, None);
                }
                Event::Page(page) => self.take_page(&page),
                Event::Leave(subscriber) => self.unlist(&subscriber),
                Event::CaughtUp(subscriber) => self.catch_up(&subscriber),
                Event::Totals(feed, sender) => {
                    let _ = sender.send(self.totals_json(feed));
                }
                Event::Finish => self.finish(),
                Event::Stop => {
                    let listed = self.groups.iter().flat_map(|group| &group.subscribers);
                    return listed.for_each(|subscriber| subscriber.close());
                }
            }
        }
    }

    /// Takes every waiting publication, encodes them once per feed and format, and offers the bytes to each subscriber.
    fn relay(&mut self) {
        self.shared.announced.store(false, Ordering::Release);
        let (first, first_seq) = (self.recency.next_number(), self.last_seq + 1);
        let mut taken = std::mem::take(&mut self.taken);
        std::mem::swap(&mut taken, &mut self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // Then some orders are not here, and who is due every order gets them from the log.
        let has_gaps = taken.iter().any(|waiting| waiting.merged > 0);
        for Waiting { publication: Publication { product, total, seq }, merged } in taken.drain(..) {
            if product.0 as usize >= self.products.len() {
                self.learn_products();
            }
            let view = &mut self.products[product.0 as usize];
            view.total = total;
            self.recency.touch(product);
            if seq > self.last_seq {
                self.last_seq = seq;
                self.recent.push(Step { seq, product, total });
            }
            for feed in [ALL, number(Feed::Category(view.category))] {
                let place = feed * FORMATS.len();
                for group in &mut self.groups[place..place + FORMATS.len()] {
                    group.add(view, seq, merged, has_gaps);
                }
            }
        }
        self.taken = taken;
        if has_gaps {
            self.recent.restart(self.last_seq);
            self.groups_with_positions_lag(first_seq);
        }
        for at in 0..self.groups.len() {
            let numbered = if self.groups[at].has_positions() { first_seq } else { first };
            if let Some(round) = self.groups[at].take_round(numbered) {
                self.send_round(at, &Arc::new(round));
            }
        }
    }

    fn send_round(&mut self, at: usize, round: &Arc<Buffer>) {
        let mut place = 0;
        while let Some(subscriber) = self.groups[at].subscribers.get(place) {
            if subscriber.is_closed() {
                let subscriber = subscriber.clone();
                self.unlist(&subscriber);
                continue;
            }
            if subscriber.offer(round) == Drained::CaughtUp {
                let subscriber = subscriber.clone();
                self.catch_up(&subscriber);
            }
            place += 1;
        }
    }

    /// Whoever is due every order has not been given those from this number on.
    fn groups_with_positions_lag(&mut self, first_seq: u64) {
        let groups = self.groups.iter().filter(|group| group.has_positions());
        let current = groups.flat_map(|group| &group.subscribers).filter(|subscriber| !subscriber.is_lagging());
        for subscriber in current.cloned().collect::<Vec<_>>() {
            if subscriber.lag_from(first_seq) == Drained::CaughtUp {
                self.catch_up(&subscriber);
            }
        }
    }

    fn subscribe(&mut self, subscriber: &Arc<Subscriber>, subscription: Subscription, after: Option<u64>) {
        if self.listed == 0 {
            self.shared.wanted.store(true, Ordering::Release);
            // Once more: what was published before the store has not been announced.
            self.relay();
        }
        self.listed += 1;
        let at = place(subscription);
        subscriber.listed_in.store(at, Ordering::Relaxed);
        subscriber.listed_at.store(self.groups[at].subscribers.len(), Ordering::Relaxed);
        self.groups[at].subscribers.push(subscriber.clone());
        match after {
            // It is due what it has missed while it was away, like one that lags.
            Some(after) if after <= self.last_seq => {
                if subscriber.lag_from(after + 1) == Drained::CaughtUp {
                    self.catch_up(subscriber);
                }
            }
            _ => self.offer_snapshot(subscriber, at),
        }
        if self.finishing {
            finish_one(subscriber, self.groups[at].format());
        }
    }

    fn unlist(&mut self, subscriber: &Arc<Subscriber>) {
        let at = subscriber.listed_in.swap(usize::MAX, Ordering::Relaxed);
        let Some(group) = self.groups.get_mut(at) else { return };
        let skipped = subscriber.take_skipped();
        // Who is due every order gets from the log what it was not sent.
        self.skipped += if group.has_positions() { 0 } else { skipped };
        self.listed -= 1;
        if self.listed == 0 {
            self.shared.wanted.store(false, Ordering::Release);
        }
        let place = subscriber.listed_at.load(Ordering::Relaxed);
        group.subscribers.swap_remove(place);
        if let Some(moved) = group.subscribers.get(place) {
            moved.listed_at.store(place, Ordering::Relaxed);
        }
    }

    /// Gives a subscriber that has missed totals the latest of each product that it missed, or every order.
    fn catch_up(&mut self, subscriber: &Arc<Subscriber>) {
        let at = subscriber.listed_in.load(Ordering::Relaxed);
        if at >= self.groups.len() {
            return;
        }
        // More than once only if somebody else empties the channel just after the offer has found it full.
        while let Some(missed) = subscriber.missed() {
            let offered = if missed == 0 {
                self.snapshot(at)
            } else if !self.groups[at].has_positions() {
                self.latest_since(at, missed)
            } else if let Some(steps) = self.recent.since(missed - 1) {
                let page: Vec<Step> = steps.take(REPLAY_PAGE).copied().collect();
                if page.last().is_some_and(|last| last.seq < self.last_seq) {
                    if self.offer_page(subscriber, at, missed - 1, &page) == Drained::CaughtUp {
                        continue;
                    }
                    return;
                }
                self.groups[at].encode(page.iter(), &self.products, missed).map(Arc::new)
            } else {
                // It goes on lagging until the page has come; whatever it says meanwhile makes it catch up again.
                if subscriber.page_from.swap(missed, Ordering::Relaxed) != missed {
                    self.history.replay(subscriber.clone(), missed - 1);
                }
                return;
            };
            let _ = subscriber.resume();
            if offered.is_none_or(|buffer| subscriber.offer(&buffer) != Drained::CaughtUp) {
                break;
            }
        }
        if self.finishing {
            finish_one(subscriber, self.groups[at].format());
        }
    }

    /// Gives a subscriber a page of what it has missed. Then it lags from the end of the page on.
    fn take_page(&mut self, page: &Page) {
        let Page { subscriber, after, steps } = page;
        if subscriber.page_from.load(Ordering::Relaxed) == after + 1 {
            subscriber.page_from.store(0, Ordering::Relaxed);
        }
        let at = subscriber.listed_in.load(Ordering::Relaxed);
        // It may have moved, or have been given the same page before.
        if at >= self.groups.len() || !self.groups[at].has_positions() || subscriber.missed() != Some(after + 1) {
            return;
        }
        // What is in the log but has not come by will come by.
        let steps = steps.as_deref().unwrap_or_default();
        let steps = &steps[..steps.partition_point(|step| step.seq <= self.last_seq)];
        if steps.is_empty() {
            let _ = subscriber.resume();
            self.offer_snapshot(subscriber, at);
            if self.finishing {
                finish_one(subscriber, self.groups[at].format());
            }
            return;
        }
        if steps.iter().any(|step| step.product.0 as usize >= self.products.len()) {
            self.learn_products();
        }
        if self.offer_page(subscriber, at, *after, steps) == Drained::CaughtUp {
            self.catch_up(subscriber);
        }
    }

    /// Gives a lagging subscriber these orders, which begin behind the one with number `after`. Then it lags from their end
    /// on; or, when they found no room, from where it did: it is due them again.
    fn offer_page(&self, subscriber: &Arc<Subscriber>, at: usize, after: u64, steps: &[Step]) -> Drained {
        let Some(last) = steps.last() else { return Drained::Done };
        let buffer = self.groups[at].encode(steps.iter(), &self.products, after + 1);
        let _ = subscriber.resume();
        let drained = buffer.map_or(Drained::Done, |buffer| subscriber.offer(&Arc::new(buffer)));
        if subscriber.is_lagging() { drained } else { subscriber.lag_from(last.seq + 1) }
    }

    fn offer_snapshot(&mut self, subscriber: &Arc<Subscriber>, at: usize) {
        if let Some(snapshot) = self.snapshot(at)
            && subscriber.offer(&snapshot) == Drained::CaughtUp
        {
            self.catch_up(subscriber);
        }
    }

    /// The latest total of each product of the feed that has changed since, in the order of those changes.
    fn latest_since(&self, at: usize, since: u64) -> Option<Arc<Buffer>> {
        let group = &self.groups[at];
        let mut buffer = Buffer { bytes: Vec::new(), totals: 0, merged: 0, first: since };
        for index in self.recency.since(since) {
            let view = &self.products[index.0 as usize];
            if group.takes(view) {
                wire::push_total_frame(&mut buffer.bytes, &view.opening, view.total);
                buffer.totals += 1;
            }
        }
        (buffer.totals > 0).then(|| Arc::new(buffer))
    }

    /// The current totals of a feed, ready to be sent; `None` when it has no products.
    fn snapshot(&mut self, at: usize) -> Option<Arc<Buffer>> {
        self.groups[at].snapshot(&self.products, self.last_seq)
    }

    fn totals_json(&mut self, feed: Feed) -> Arc<[u8]> {
        self.groups[place(Subscription { feed, format: Format::Plain })].array(&self.products)
    }

    fn finish(&mut self) {
        self.finishing = true;
        for group in &self.groups {
            for subscriber in &group.subscribers {
                finish_one(subscriber, group.format());
            }
        }
    }

    /// Tells the operator, once, whether some readers were too slow for every total.
    fn report_skipped(&self) {
        let listed = self.groups.iter().filter(|group| !group.has_positions()).flat_map(|group| &group.subscribers);
        let skipped = self.skipped + listed.map(|subscriber| subscriber.take_skipped()).sum::<u64>();
        if skipped > 0 {
            log::line(&format!("subscribers skipped {skipped} totals, each because a later one followed too closely"));
        }
    }

    /// Reads what the ledger has added to the catalogue.
    fn learn_products(&mut self) {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let categories = (0..catalog.categories().len() as u32).map(|index| Feed::Category(CategoryIndex(index)));
        for feed in std::iter::once(Feed::All).chain(categories).skip(self.groups.len() / FORMATS.len()) {
            let groups = FORMATS.map(|format| Group::new(Subscription { feed, format }, &self.lineage));
            self.groups.extend(groups);
        }
        for product in &catalog.products()[self.products.len()..] {
            let opening = wire::total_opening(&product.id);
            self.recency.add();
            self.products.push(View { category: product.category, opening, total: Total::default() });
        }
    }
}

/// Says goodbye, but to a lagging subscriber only after its last totals.
fn finish_one(subscriber: &Arc<Subscriber>, format: Format) {
    if subscriber.is_lagging() {
        return;
    }
    let goodbye = match format {
        Format::Plain | Format::Positioned => wire::going_away_frame(),
        Format::Events => wire::GOODBYE_EVENT.to_vec(),
    };
    let _ = subscriber.finish(&Arc::new(Buffer::words(goodbye)));
    if format == Format::Events {
        // A client that only listens does not answer, so its session's thread is woken like this.
        let _ = subscriber.stream().shutdown(Shutdown::Read);
    }
}
