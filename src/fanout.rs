//! The fan-out thread: relays each committed order to every subscriber's channel. Owns the list of subscribers and its
//! own view of the totals, from which every snapshot is made; knows nothing of connections and HTTP.
//!
//! Subscribing is one step of this thread: it queues the snapshot and lists the subscriber between two publications.
//! That is the whole reason why no order falls between the snapshot and the stream, and none is seen twice. A lagging
//! subscriber joins the stream again in the same way: it is given the latest total of each product that it missed.

mod recency;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::catalog::{CategoryIndex, ProductIndex};
use crate::ledger::SharedCatalog;
use crate::log;
use crate::order::Total;
use crate::subscriber::{Buffer, Drained, Subscriber};
use crate::wire;

use recency::Recency;

/// Publications that may wait for the fan-out thread. Beyond it those that wait are merged into the latest total of
/// each product, so that a thread that falls behind sends fewer totals instead of older ones.
const MAX_WAITING: usize = 4_096;
/// Requests (subscribe, leave, read) that may wait; beyond it the asking connections wait their turn.
const QUEUE: usize = 1_024;
/// The thread's stack.
const STACK_BYTES: usize = 256 * 1024;

/// One committed order on its way out: the product's total after it. In commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// What was ordered.
    pub product: ProductIndex,
    /// Its total since.
    pub total: Total,
}

/// What a subscriber follows: one category, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// The products of one category.
    Category(CategoryIndex),
    /// Every product.
    All,
}

/// A waiting publication, and how many earlier ones of its product it stands for.
struct Waiting {
    publication: Publication,
    merged: u64,
}

enum Event {
    /// Publications wait in the shared list.
    Published,
    Subscribe(Arc<Subscriber>, Feed),
    Move(Arc<Subscriber>, Feed),
    Leave(Arc<Subscriber>),
    CaughtUp(Arc<Subscriber>),
    Totals(Feed, Sender<Arc<[u8]>>),
    Finish,
    Stop,
}

struct Shared {
    waiting: Mutex<Vec<Waiting>>,
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
}

impl FanoutHandle {
    /// Hands committed orders on. Never waits for a subscriber.
    pub fn publish(&self, publications: &[Publication]) {
        let crowded;
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(publications.iter().map(|publication| Waiting { publication: *publication, merged: 0 }));
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

    /// Lists the subscriber, after it has been given the feed's current totals.
    pub fn subscribe(&self, subscriber: Arc<Subscriber>, feed: Feed) {
        let _ = self.events.send(Event::Subscribe(subscriber, feed));
    }

    /// Moves the subscriber to another feed, whose current totals it is given first.
    pub fn move_to(&self, subscriber: Arc<Subscriber>, feed: Feed) {
        let _ = self.events.send(Event::Move(subscriber, feed));
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

    /// Ends the relaying. The thread goes on refusing until the last handle is gone.
    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }
}

/// Keeps the last publication of each product, in the order of those last ones.
fn merge(waiting: &mut Vec<Waiting>) {
    let mut merged_later = std::collections::HashMap::new();
    let mut kept: Vec<Waiting> = Vec::new();
    for Waiting { publication, merged } in waiting.drain(..).rev() {
        match merged_later.get(&publication.product) {
            Some(&at) => {
                let last: &mut Waiting = &mut kept[at];
                last.merged += merged + 1;
            }
            None => {
                merged_later.insert(publication.product, kept.len());
                kept.push(Waiting { publication, merged });
            }
        }
    }
    kept.reverse();
    *waiting = kept;
}

/// A feed's subscribers and what is ready to be sent to them.
#[derive(Default)]
struct Group {
    subscribers: Vec<Arc<Subscriber>>,
    /// Frames of the round in the making.
    frames: Vec<u8>,
    totals: u64,
    merged: u64,
    /// The snapshot, until a total changes.
    snapshot: Option<Arc<Buffer>>,
    /// The same as a JSON array.
    array: Option<Arc<[u8]>>,
}

/// A product as this thread sees it.
struct View {
    category: CategoryIndex,
    /// `{"id":"A1","total":`, ready for the number.
    opening: Vec<u8>,
    total: Total,
}

struct Fanout {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    catalog: SharedCatalog,
    products: Vec<View>,
    recency: Recency,
    /// The one of [`Feed::All`] at [`ALL`], then one per category.
    groups: Vec<Group>,
    /// How many subscribers there are in all groups.
    listed: usize,
    /// Totals that subscribers who have left had skipped.
    skipped: u64,
    finishing: bool,
    taken: Vec<Waiting>,
}

/// The place of [`Feed::All`] among the groups; the categories follow.
const ALL: usize = 0;

fn place(feed: Feed) -> usize {
    match feed {
        Feed::All => ALL,
        Feed::Category(index) => ALL + 1 + index.0 as usize,
    }
}

/// Starts the fan-out thread on these totals, and returns its handle.
///
/// # Errors
/// When the system refuses another thread.
pub fn start(catalog: SharedCatalog, totals: &[Total]) -> io::Result<(FanoutHandle, JoinHandle<()>)> {
    let (sender, events) = bounded(QUEUE);
    let shared = Arc::new(Shared {
        waiting: Mutex::new(Vec::new()),
        announced: AtomicBool::new(false),
        wanted: AtomicBool::new(false),
    });
    let mut fanout = Fanout {
        shared: shared.clone(),
        events,
        catalog,
        products: Vec::new(),
        recency: Recency::default(),
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
        let Fanout { events, groups, .. } = fanout;
        drop(groups);
        // What comes later is refused by being dropped; a channel alone would keep it, and its sender waiting.
        events.iter().for_each(drop);
    })?;
    Ok((FanoutHandle { shared, events: sender }, thread))
}

impl Fanout {
    fn run(&mut self) {
        while let Ok(event) = self.events.recv() {
            // Before every event, so that what was answered before the event was sent is part of what it sees.
            self.relay();
            match event {
                Event::Published => {}
                Event::Subscribe(subscriber, feed) => self.subscribe(&subscriber, feed),
                Event::Move(subscriber, feed) => {
                    self.unlist(&subscriber);
                    self.subscribe(&subscriber, feed);
                }
                Event::Leave(subscriber) => self.unlist(&subscriber),
                Event::CaughtUp(subscriber) => self.catch_up(&subscriber),
                Event::Totals(feed, sender) => {
                    let _ = sender.send(self.totals_json(feed));
                }
                Event::Finish => self.finish(),
                Event::Stop => return,
            }
        }
    }

    /// Takes every waiting publication, encodes them once per feed, and offers the bytes to each subscriber.
    fn relay(&mut self) {
        self.shared.announced.store(false, Ordering::Release);
        let first = self.recency.next_number();
        let mut taken = std::mem::take(&mut self.taken);
        std::mem::swap(&mut taken, &mut self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for Waiting { publication: Publication { product, total }, merged } in taken.drain(..) {
            if product.0 as usize >= self.products.len() {
                self.learn_products();
            }
            let view = &mut self.products[product.0 as usize];
            view.total = total;
            self.recency.touch(product);
            for at in [ALL, place(Feed::Category(view.category))] {
                let group = &mut self.groups[at];
                (group.snapshot, group.array) = (None, None);
                if !group.subscribers.is_empty() {
                    wire::push_total_frame(&mut group.frames, &view.opening, total);
                    group.totals += 1;
                    group.merged += merged;
                }
            }
        }
        self.taken = taken;
        for at in 0..self.groups.len() {
            if !self.groups[at].frames.is_empty() {
                self.send_round(at, first);
            }
        }
    }

    fn send_round(&mut self, at: usize, first: u64) {
        let group = &mut self.groups[at];
        let frames = std::mem::take(&mut group.frames);
        // The next round is probably as large as this one.
        group.frames.reserve(frames.len());
        let (totals, merged) = (std::mem::take(&mut group.totals), std::mem::take(&mut group.merged));
        let round = Arc::new(Buffer { bytes: frames, totals, merged, first });
        let mut place = 0;
        while let Some(subscriber) = self.groups[at].subscribers.get(place) {
            if subscriber.is_closed() {
                let subscriber = subscriber.clone();
                self.unlist(&subscriber);
                continue;
            }
            if subscriber.offer(&round) == Drained::CaughtUp {
                let subscriber = subscriber.clone();
                self.catch_up(&subscriber);
            }
            place += 1;
        }
    }

    fn subscribe(&mut self, subscriber: &Arc<Subscriber>, feed: Feed) {
        if self.listed == 0 {
            self.shared.wanted.store(true, Ordering::Release);
            // Once more: what was published before the store has not been announced.
            self.relay();
        }
        self.listed += 1;
        let at = place(feed);
        subscriber.listed_in.store(at, Ordering::Relaxed);
        subscriber.listed_at.store(self.groups[at].subscribers.len(), Ordering::Relaxed);
        self.groups[at].subscribers.push(subscriber.clone());
        self.offer_snapshot(subscriber, at);
        if self.finishing {
            finish_one(subscriber);
        }
    }

    fn unlist(&mut self, subscriber: &Arc<Subscriber>) {
        let at = subscriber.listed_in.swap(usize::MAX, Ordering::Relaxed);
        let Some(group) = self.groups.get_mut(at) else { return };
        self.skipped += subscriber.take_skipped();
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

    /// Gives a subscriber that has missed totals the latest of each product that it missed.
    fn catch_up(&mut self, subscriber: &Arc<Subscriber>) {
        let at = subscriber.listed_in.load(Ordering::Relaxed);
        if at >= self.groups.len() {
            return;
        }
        // More than once only if somebody else empties the channel just after the offer has found it full.
        while let Some(missed) = subscriber.resume() {
            let offered = if missed == 0 { self.snapshot(at) } else { self.missed(at, missed) };
            if offered.is_none_or(|buffer| subscriber.offer(&buffer) != Drained::CaughtUp) {
                break;
            }
        }
        if self.finishing {
            finish_one(subscriber);
        }
    }

    fn offer_snapshot(&mut self, subscriber: &Arc<Subscriber>, at: usize) {
        if let Some(snapshot) = self.snapshot(at)
            && subscriber.offer(&snapshot) == Drained::CaughtUp
        {
            self.catch_up(subscriber);
        }
    }

    /// The latest total of each product of the feed that has changed since, in the order of those changes.
    fn missed(&self, at: usize, since: u64) -> Option<Arc<Buffer>> {
        let mut buffer = Buffer { bytes: Vec::new(), totals: 0, merged: 0, first: since };
        for index in self.recency.since(since) {
            let view = &self.products[index.0 as usize];
            if is_part(view, at) {
                wire::push_total_frame(&mut buffer.bytes, &view.opening, view.total);
                buffer.totals += 1;
            }
        }
        (buffer.totals > 0).then(|| Arc::new(buffer))
    }

    /// The current totals of a feed as ready-made frames; `None` when it has no products.
    fn snapshot(&mut self, at: usize) -> Option<Arc<Buffer>> {
        let group = &mut self.groups[at];
        if group.snapshot.is_none() {
            let mut bytes = Vec::new();
            let mut totals = 0;
            for view in self.products.iter().filter(|view| is_part(view, at)) {
                wire::push_total_frame(&mut bytes, &view.opening, view.total);
                totals += 1;
            }
            bytes.shrink_to_fit();
            group.snapshot = (totals > 0).then(|| Arc::new(Buffer { bytes, totals, merged: 0, first: 0 }));
        }
        group.snapshot.clone()
    }

    fn totals_json(&mut self, feed: Feed) -> Arc<[u8]> {
        let parts = self.products.iter().filter(|view| is_part(view, place(feed)));
        let array = || wire::totals_array(parts.map(|view| (view.opening.as_slice(), view.total))).into();
        self.groups[place(feed)].array.get_or_insert_with(array).clone()
    }

    fn finish(&mut self) {
        self.finishing = true;
        for subscriber in self.groups.iter().flat_map(|group| &group.subscribers) {
            finish_one(subscriber);
        }
    }

    /// Tells the operator, once, whether some readers were too slow for every total.
    fn report_skipped(&self) {
        let listed = self.groups.iter().flat_map(|group| &group.subscribers);
        let skipped = self.skipped + listed.map(|subscriber| subscriber.take_skipped()).sum::<u64>();
        if skipped > 0 {
            log::line(&format!("subscribers skipped {skipped} totals, each because a later one followed too closely"));
        }
    }

    /// Reads what the ledger has added to the catalogue.
    fn learn_products(&mut self) {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        self.groups.resize_with(ALL + 1 + catalog.categories().len(), Group::default);
        for product in &catalog.products()[self.products.len()..] {
            let opening = wire::total_opening(&product.id);
            self.recency.add();
            self.products.push(View { category: product.category, opening, total: Total::default() });
        }
    }
}

/// Says goodbye, but to a lagging subscriber only after its last totals.
fn finish_one(subscriber: &Arc<Subscriber>) {
    if !subscriber.is_lagging() {
        let goodbye = Arc::new(Buffer::words(wire::going_away_frame()));
        let _ = subscriber.finish(&goodbye);
    }
}

fn is_part(view: &View, at: usize) -> bool {
    at == ALL || at == place(Feed::Category(view.category))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(product: u32, total: i64) -> Waiting {
        let publication = Publication { product: ProductIndex(product), total: Total::new(total).unwrap() };
        Waiting { publication, merged: 0 }
    }

    #[test]
    fn merging_keeps_the_latest_total_of_each_product_and_counts_the_rest() {
        let mut list = vec![waiting(0, 1), waiting(1, 5), waiting(0, 2), waiting(2, 9), waiting(0, 3)];
        merge(&mut list);
        let seen: Vec<_> = list
            .iter()
            .map(|Waiting { publication, merged }| (publication.product.0, publication.total.get(), *merged))
            .collect();
        assert_eq!(seen, [(1, 5, 0), (2, 9, 0), (0, 3, 2)]);
        list.push(waiting(0, 4));
        merge(&mut list);
        assert_eq!(list.last().map(|last| (last.publication.total.get(), last.merged)), Some((4, 3)));
    }
}
