//! The fan-out thread: relays each committed order to every subscriber's channel. Owns the list of subscribers and its
//! own view of the totals, from which every snapshot is made; knows nothing of connections and HTTP.
//!
//! Subscribing is one step of this thread: it queues the snapshot and lists the subscriber between two publications.
//! That is the whole reason why no order falls between the snapshot and the stream, and none is seen twice. A lagging
//! subscriber joins the stream again in the same way: it is given the latest total of each product that it missed.
//!
//! A subscriber that is told positions is due every order. What it has missed, by lagging or by being away, it gets from
//! the recent orders here or, page by page, from the log; until then it counts as lagging.

mod catch_up;
mod group;
mod handle;
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

use crossbeam_channel::{Receiver, bounded};

use crate::json;
use crate::live::history::History;
use crate::live::subscriber::{Buffer, Drained, Subscriber};
use crate::log;
use crate::store::order_log::Step;
use crate::tally::catalog::{CategoryIndex, ProductIndex, SharedCatalog};
use crate::tally::order::Total;
use crate::tally::position::RunList;

pub use handle::FanoutHandle;

use group::{Group, View};
use handle::{Event, Shared};
use recency::Recency;
use recent::Recent;
use waiting::Waiting;

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
    runs: Arc<RunList>,
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
    pub runs: &'a RunList,
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
    let Start { totals, last_seq, runs } = *start;
    let runs = Arc::new(runs.clone());
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
        runs: runs.clone(),
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
    Ok((FanoutHandle { shared, events: sender, runs }, thread))
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
            let groups = FORMATS.map(|format| Group::new(Subscription { feed, format }, &self.runs));
            self.groups.extend(groups);
        }
        for product in &catalog.products()[self.products.len()..] {
            let opening = json::total_prefix(&product.id);
            self.recency.add();
            self.products.push(View { category: product.category, opening, total: Total::default() });
        }
    }
}

/// Says goodbye, but to a lagging subscriber only after its last totals. Whoever is told positions can come back for what it
/// is due.
fn finish_one(subscriber: &Arc<Subscriber>, format: Format) {
    if subscriber.is_lagging() {
        if format == Format::Plain {
            return;
        }
        let _ = subscriber.resume();
    }
    let goodbye = match format {
        Format::Plain | Format::Positioned => json::going_away_frame(),
        Format::Events => json::SHUTDOWN_EVENT.to_vec(),
    };
    let _ = subscriber.finish(&Arc::new(Buffer::words(goodbye)));
    if format == Format::Events {
        // A client that only listens does not answer, so its session's thread is woken like this.
        let _ = subscriber.stream().shutdown(Shutdown::Read);
    }
}
