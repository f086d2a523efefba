//! The fan-out thread: relays each committed order to every subscriber. Owns the lists of subscribers, and its own copy
//! of the totals, from which every snapshot is made; knows nothing of connections and HTTP.
//!
//! Subscribing is one step of this thread: it sends the snapshot and lists the subscriber between two publications.
//! Therefore no order is missing between the snapshot and the stream, and none comes twice. A lagging subscriber joins
//! the stream again in the same way: it gets the latest total of each product that it missed.
//!
//! A subscriber that gets positions is owed every order. Those that it missed, by lagging or by being away, come from
//! the recent orders here or, page by page, from the log; until they have been sent it counts as lagging. One that was
//! away for too long gets a snapshot instead.

mod catch_up;
mod group;
mod handle;
mod recent;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, bounded};

use crate::json::{self, FeedEnd};
use crate::live::history::History;
use crate::live::subscriber::{Drained, SNAPSHOT, Subscriber};
use crate::tally::catalog::{CategoryIndex, ProductIndex, SharedCatalog};
use crate::tally::order::{Publication, Total};
use crate::tally::position::RunList;

pub use handle::FanoutHandle;

use catch_up::Snapshot;
use group::{Group, Page, ProductState};
use handle::{Event, Shared};
use recent::Recent;
use waiting::Waiting;

/// Events (subscribe, leave, read) that may wait; beyond it the connections that send them wait.
const QUEUE: usize = 1_024;
/// The thread's stack.
const STACK_BYTES: usize = 256 * 1024;
/// Lines of the log that are read for a subscriber that resumes: 10,000, some 5 ms of the history thread. One that is
/// further behind gets a snapshot, which is shorter and exact at once.
const MAX_REPLAY: u64 = 10_000;

/// What a subscriber follows: one category, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// The products of one category.
    Category(CategoryIndex),
    /// Every product.
    All,
}

/// The form in which a subscriber gets its totals.
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

/// The number of [`Feed::All`] among the feeds; the categories follow.
const ALL: usize = 0;

fn feed_number(feed: Feed) -> usize {
    match feed {
        Feed::All => ALL,
        Feed::Category(index) => ALL + 1 + index.0 as usize,
    }
}

fn group_index(Subscription { feed, format }: Subscription) -> usize {
    feed_number(feed) * FORMATS.len() + format as usize
}

fn plain_group(feed: Feed) -> usize {
    group_index(Subscription { feed, format: Format::Plain })
}

/// Where a subscriber is listed.
#[derive(Debug)]
struct Place {
    group: usize,
    index: usize,
    /// The sequence number from which a page of the log is on its way.
    page_from: Option<u64>,
    /// The snapshot that it has been sent in part.
    snapshot: Option<Box<Snapshot>>,
}

/// The key of a listed subscriber. Its list holds the subscriber, so no other one has the same address.
fn address(subscriber: &Arc<Subscriber>) -> usize {
    Arc::as_ptr(subscriber).addr()
}

struct Fanout {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    catalog: SharedCatalog,
    products: Vec<ProductState>,
    /// The number of each product's last publication here, 0 before the first. Apart from `products`, so that a search
    /// through a large catalogue reads little memory.
    changed: Vec<u64>,
    /// The number of the last publication here; they are counted from the start of the server.
    changes: u64,
    recent: Recent,
    /// The sequence number of the last publication.
    last_seq: u64,
    history: History,
    runs: Arc<RunList>,
    /// One for each format of [`Feed::All`], then of each category.
    groups: Vec<Group>,
    places: HashMap<usize, Place>,
    /// Totals that were skipped for subscribers that have left.
    skipped: u64,
    is_finishing: bool,
    batch: Vec<Waiting>,
    /// What is being encoded for one subscriber; here so that its memory is used again.
    page: Page,
}

/// What the store held when it was opened.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The total of each product.
    pub totals: &'a [Total],
    /// The sequence number of the last order.
    pub last_seq: u64,
    /// The runs whose positions are valid.
    pub runs: &'a RunList,
}

/// Starts the fan-out thread. It closes every subscriber with [`FanoutHandle::stop`], and ends when the last handle is
/// dropped.
///
/// # Errors
/// When the system refuses another thread.
pub fn start(
    catalog: SharedCatalog,
    start: &Start<'_>,
    history: History,
) -> io::Result<(FanoutHandle, JoinHandle<()>)> {
    let Start { totals, last_seq, runs } = *start;
    let runs = Arc::new(runs.clone());
    let (sender, events) = bounded(QUEUE);
    let shared = Arc::new(Shared::new(last_seq));
    let mut fanout = Fanout {
        shared: shared.clone(),
        events,
        catalog,
        products: Vec::new(),
        changed: Vec::new(),
        changes: 0,
        recent: Recent::new(last_seq),
        last_seq,
        history,
        runs: runs.clone(),
        groups: Vec::new(),
        places: HashMap::new(),
        skipped: 0,
        is_finishing: false,
        batch: Vec::new(),
        page: Page::default(),
    };
    fanout.load_products();
    for (product, total) in fanout.products.iter_mut().zip(totals) {
        product.total = *total;
    }
    let thread = thread::Builder::new().name("fanout".into()).stack_size(STACK_BYTES).spawn(move || {
        fanout.run();
        fanout.log_skipped();
        let Fanout { events, groups, history, .. } = fanout;
        drop((groups, history));
        // Left in the channel, an event would keep its sender waiting.
        events.iter().for_each(drop);
    })?;
    Ok((FanoutHandle { shared, events: sender, runs }, thread))
}

impl Fanout {
    fn run(&mut self) {
        while let Ok(event) = self.events.recv() {
            // Before every event, so that it sees every order that was answered before it was sent.
            self.relay();
            match event {
                Event::Published => {}
                Event::Subscribe(subscriber, subscription, after) => self.subscribe(&subscriber, subscription, after),
                Event::Move(subscriber, subscription) => {
                    self.unlist(&subscriber);
                    self.subscribe(&subscriber, subscription, None);
                }
                Event::ReplayPage(page) => self.take_page(page),
                Event::Leave(subscriber) => self.unlist(&subscriber),
                Event::CatchUp(subscriber) => self.catch_up(&subscriber),
                Event::Totals(feed, sender) => {
                    let _ = sender.send(self.groups[plain_group(feed)].array(&self.products));
                }
                Event::ProductTotals(feed, sender) => {
                    let products = self.products.iter().enumerate();
                    let products = products.filter(|(_, product)| self.groups[plain_group(feed)].contains(product));
                    let totals = products.map(|(index, product)| (ProductIndex(index as u32), product.total));
                    let _ = sender.send(totals.collect());
                }
                Event::AllTotals(sender) => {
                    let _ = sender.send(self.products.iter().map(|product| product.total).collect());
                }
                Event::Finish => self.finish_all(),
                Event::Stop => {
                    let listed = self.groups.iter().flat_map(|group| &group.subscribers);
                    return listed.for_each(|subscriber| subscriber.reset());
                }
            }
        }
    }

    /// Takes every waiting publication, encodes them once per group, and offers the bytes to each subscriber.
    fn relay(&mut self) {
        self.shared.announced.store(false, Ordering::Release);
        let first_seq = self.last_seq + 1;
        let mut batch = std::mem::take(&mut self.batch);
        std::mem::swap(&mut batch, &mut self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // Some orders are missing then, and subscribers that are owed every order get them from the log.
        let has_gaps = batch.iter().any(|waiting| waiting.merged > 0);
        for Waiting { publication, merged } in batch.drain(..) {
            let Publication { product, total, seq } = publication;
            let index = product.0 as usize;
            if index >= self.products.len() {
                self.load_products();
            }
            self.changes += 1;
            self.changed[index] = self.changes;
            let product = &mut self.products[index];
            product.total = total;
            if seq > self.last_seq {
                self.last_seq = seq;
                self.recent.push(publication);
            }
            for feed in [ALL, feed_number(Feed::Category(product.category))] {
                let first = feed * FORMATS.len();
                for at in first..first + FORMATS.len() {
                    if self.groups[at].add(&self.products[index], self.changes, seq, merged, has_gaps) {
                        self.send_round(at);
                    }
                }
            }
        }
        self.batch = batch;
        if has_gaps {
            self.recent = Recent::new(self.last_seq);
            self.lag_all_with_positions(first_seq);
        }
        (0..self.groups.len()).for_each(|at| self.send_round(at));
    }

    fn send_round(&mut self, at: usize) {
        let Some(round) = self.groups[at].take_round().map(Arc::new) else { return };
        let mut index = 0;
        while let Some(subscriber) = self.groups[at].subscribers.get(index) {
            if subscriber.offer(&round) == Drained::MustCatchUp {
                let subscriber = subscriber.clone();
                self.catch_up(&subscriber);
            }
            index += 1;
        }
    }

    /// Makes every subscriber with positions lag from this sequence number on.
    fn lag_all_with_positions(&mut self, first_seq: u64) {
        let groups = self.groups.iter().filter(|group| group.has_positions());
        let current = groups.flat_map(|group| &group.subscribers).filter(|subscriber| !subscriber.is_lagging());
        for subscriber in current.cloned().collect::<Vec<_>>() {
            self.lag_from(&subscriber, first_seq);
        }
    }

    /// Makes a subscriber lag, and catches it up if nothing else waits for it.
    fn lag_from(&mut self, subscriber: &Arc<Subscriber>, number: u64) {
        if subscriber.lag_from(number) == Drained::MustCatchUp {
            self.catch_up(subscriber);
        }
    }

    fn subscribe(&mut self, subscriber: &Arc<Subscriber>, subscription: Subscription, after: Option<u64>) {
        if self.places.is_empty() {
            self.shared.wanted.store(true, Ordering::Release);
            // Publications from before the store have not been announced.
            self.relay();
        }
        let at = group_index(subscription);
        let place = Place { group: at, index: self.groups[at].subscribers.len(), page_from: None, snapshot: None };
        self.places.insert(address(subscriber), place);
        self.groups[at].subscribers.push(subscriber.clone());
        match after {
            // It is owed what it missed while it was away, like one that lags.
            Some(after) if after <= self.last_seq && self.groups[at].last_seq().saturating_sub(after) <= MAX_REPLAY => {
                self.lag_from(subscriber, after + 1);
            }
            _ => self.lag_from(subscriber, SNAPSHOT),
        }
        self.finish_if_due(subscriber, at);
    }

    fn unlist(&mut self, subscriber: &Arc<Subscriber>) {
        let Some(Place { group, index, .. }) = self.places.remove(&address(subscriber)) else { return };
        if self.places.is_empty() {
            self.shared.wanted.store(false, Ordering::Release);
        }
        let group = &mut self.groups[group];
        let skipped = subscriber.take_skipped();
        // Subscribers that are owed every order get from the log what was skipped.
        self.skipped += if group.has_positions() { 0 } else { skipped };
        group.subscribers.swap_remove(index);
        if let Some(moved) = group.subscribers.get(index)
            && let Some(place) = self.places.get_mut(&address(moved))
        {
            place.index = index;
        }
    }

    fn finish_all(&mut self) {
        self.is_finishing = true;
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

    /// Logs, once, whether some subscribers were too slow for every total.
    fn log_skipped(&self) {
        let listed = self.groups.iter().filter(|group| !group.has_positions()).flat_map(|group| &group.subscribers);
        let skipped = self.skipped + listed.map(|subscriber| subscriber.take_skipped()).sum::<u64>();
        if skipped > 0 {
            log::info!("subscribers skipped {skipped} totals, each because a later one followed too closely");
        }
    }

    /// Reads the categories and products that the ledger has added to the catalogue.
    fn load_products(&mut self) {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let categories = (0..catalog.categories().len() as u32).map(|index| Feed::Category(CategoryIndex(index)));
        for feed in std::iter::once(Feed::All).chain(categories).skip(self.groups.len() / FORMATS.len()) {
            let groups = FORMATS.map(|format| Group::new(Subscription { feed, format }, &self.runs, self.last_seq));
            self.groups.extend(groups);
        }
        for product in &catalog.products()[self.products.len()..] {
            let opening = json::total_prefix(&product.id);
            self.products.push(ProductState { category: product.category, opening, total: Total::default() });
        }
        self.changed.resize(self.products.len(), 0);
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
