//! The ledger: one thread that owns the totals, and the handle that asks it for changes. Owns the order of all orders,
//! the group commit, and the rule that nothing is answered or published before it is on disk. Knows the store and the
//! fan-out's handle; knows nothing of connections or formats.

mod health;
mod pending;
mod rejection;
mod reply;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded, select};

use crate::live::fanout::{FanoutHandle, Publication};
use crate::log;
use crate::store::{Change, KeyUse, Store, now_ms};
use crate::tally::catalog::{CategoryIndex, Details, Product, ProductIndex, SharedCatalog};
use crate::tally::order::{Amount, Key, Total};

pub use health::{Health, State};
use pending::Pending;
pub use rejection::Rejection;
pub use reply::Waiter;
use reply::{Reply, Slot};

/// The most orders that one commit carries, and requests that are looked at before it: past this many the cost of the sync
/// is spread thinly enough, and the first of them should not wait for the last.
const MAX_BATCH: usize = 1_024;
/// The most requests that wait for the ledger; beyond it a connection waits to hand its own over.
const QUEUE: usize = 1_024;
/// How long somebody waits for the ledger while the store hangs: 30 s, the patience of most HTTP clients. What becomes of
/// the order is not known then.
pub const LEDGER_DEADLINE: Duration = Duration::from_secs(30);
/// How long the end waits for room in the queue: half a second.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
/// How often failing commits are logged: once a minute, since orders too large for what is left could come between others.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How often a store that refuses is tried without an order: twice a second.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// The ledger thread's stack: SQLite is the deepest that runs on it.
const STACK_BYTES: usize = 512 * 1024;

/// One order, as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What is ordered.
    pub product: ProductIndex,
    /// How many.
    pub amount: Amount,
    /// What the client calls it: a second order of this name is not counted.
    pub key: Option<Key>,
}

/// How a request to the ledger ended. `Ok` means that it is on disk.
pub type Outcome = Result<(), Rejection>;

enum Request {
    Order { order: Order, reply: Reply },
    Batch { orders: Vec<Order>, key: Option<Key>, reply: Reply },
    AddProduct { category: CategoryIndex, details: Details, reply: Reply },
    Stop,
}

/// Asks the ledger for changes; cheap to clone.
#[derive(Clone)]
pub struct LedgerHandle {
    requests: Sender<Request>,
    health: Arc<Health>,
}

impl LedgerHandle {
    /// Adds the amount to the product's total and waits until that is on disk.
    ///
    /// # Errors
    /// [`Rejection`] when it was not counted.
    pub fn order(&self, order: Order) -> Outcome {
        self.ask(|reply| Request::Order { order, reply })
    }

    /// Adds the amount to the product's total without waiting for it: `waiter` is told the outcome, once.
    pub fn submit(&self, order: Order, waiter: Arc<dyn Waiter>) {
        self.send(Request::Order { order, reply: Reply::new(waiter) });
    }

    /// Counts all of these orders or none, and waits until they are on disk. `key` names them together.
    ///
    /// # Errors
    /// [`Rejection`] when they were not counted.
    pub fn batch(&self, orders: Vec<Order>, key: Option<Key>) -> Outcome {
        self.ask(|reply| Request::Batch { orders, key, reply })
    }

    /// Adds a product to the category, with the next free id and a total of 0, and waits until it is on disk and in
    /// the shared catalogue.
    ///
    /// # Errors
    /// [`Rejection`] when it was not added.
    pub fn add_product(&self, category: CategoryIndex, details: Details) -> Outcome {
        self.ask(|reply| Request::AddProduct { category, details, reply })
    }

    /// Asks the ledger to write no more once everything that waits is answered. Later requests are refused.
    pub fn stop(&self) {
        // Not for ever: the store may hang, with the queue full.
        let _ = self.requests.send_timeout(Request::Stop, STOP_PATIENCE);
    }

    /// Whether orders can be taken.
    #[must_use]
    pub fn health(&self) -> State {
        self.health.state()
    }

    fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Outcome {
        let slot = Arc::<Slot>::default();
        self.send(request(Reply::new(slot.clone())));
        slot.take(LEDGER_DEADLINE)
    }

    fn send(&self, request: Request) {
        if self.health.state() == State::Hangs {
            return request.refuse(Rejection::StoreHangs);
        }
        match self.requests.send_timeout(request, LEDGER_DEADLINE) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(request)) => request.refuse(Rejection::StoreHangs),
            // The ledger has panicked: dropping the request answers it.
            Err(SendTimeoutError::Disconnected(request)) => drop(request),
        }
    }
}

impl Request {
    fn refuse(self, rejection: Rejection) {
        match self {
            Self::Order { reply, .. } | Self::Batch { reply, .. } | Self::AddProduct { reply, .. } => {
                reply.send(Err(rejection));
            }
            Self::Stop => {}
        }
    }
}

struct Ledger<S> {
    store: S,
    totals: Vec<Total>,
    last_seq: u64,
    catalog: SharedCatalog,
    fanout: FanoutHandle,
    requests: Receiver<Request>,
    health: Arc<Health>,
    /// The commit in the making.
    pending: Pending,
    publications: Vec<Publication>,
    failure_is_logged: bool,
    last_logged: Option<Instant>,
}

/// A ledger that runs.
pub struct Running {
    /// What asks it for changes.
    pub handle: LedgerHandle,
    /// Its thread, which ends when the last handle is gone.
    pub thread: JoinHandle<()>,
    /// How it ends.
    pub end: End,
}

/// The end of a ledger, in two steps: others may read the store's log until the second.
pub struct End {
    /// Disconnected once [`LedgerHandle::stop`] is done.
    stopped: Receiver<()>,
    /// Lets the thread close the store when it is dropped.
    release: Sender<()>,
    /// Disconnected once the store is closed.
    closed: Receiver<()>,
}

impl End {
    /// Waits until [`LedgerHandle::stop`] is done: everything is answered, and nothing is written any more.
    pub fn wait_until_stopped(&self, deadline: Instant) {
        let _ = self.stopped.recv_deadline(deadline);
    }

    /// Closes the store of a ledger that has stopped, and waits until that is done.
    pub fn close_store(self, deadline: Instant) {
        let Self { release, closed, .. } = self;
        drop(release);
        let _ = closed.recv_deadline(deadline);
    }
}

/// Starts the ledger thread on what the store held when it was opened, and returns its handle.
///
/// # Errors
/// When the system refuses another thread.
pub fn start(
    store: impl Store + 'static,
    totals: Vec<Total>,
    last_seq: u64,
    catalog: SharedCatalog,
    fanout: FanoutHandle,
) -> io::Result<Running> {
    let (sender, requests) = bounded(QUEUE);
    let health = Arc::<Health>::default();
    let handle = LedgerHandle { requests: sender, health: health.clone() };
    let (pending, publications) = (Pending::default(), Vec::new());
    let mut ledger = Ledger {
        store,
        totals,
        last_seq,
        catalog,
        fanout,
        requests,
        health,
        pending,
        publications,
        failure_is_logged: false,
        last_logged: None,
    };
    let (stopped_sender, stopped) = bounded::<()>(0);
    let (release, released) = bounded::<()>(0);
    let (closed_sender, closed) = bounded::<()>(0);
    let thread = thread::Builder::new().name("ledger".into()).stack_size(STACK_BYTES).spawn(move || {
        ledger.run();
        let Ledger { store, requests, .. } = ledger;
        drop(stopped_sender);
        // What comes later is refused by being dropped; a channel alone would keep it, and its sender waiting.
        let mut is_asked = true;
        while is_asked {
            is_asked = select! {
                recv(requests) -> request => request.is_ok(),
                recv(released) -> _ => false,
            };
        }
        drop(store);
        drop(closed_sender);
        requests.iter().for_each(drop);
    })?;
    Ok(Running { handle, thread, end: End { stopped, release, closed } })
}

/// Whether an order is new, or known by its key.
enum Counted {
    New,
    /// It was counted before, in this commit.
    InThisCommit,
    /// It was counted before, and is on disk.
    OnDisk,
}

impl<S: Store> Ledger<S> {
    fn run(&mut self) {
        loop {
            let mut next = match self.next() {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => {
                    // Nobody orders, but somebody may ask whether orders could be taken.
                    let _ = self.write(&[]);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut looked_at = 0;
            while let Some(request) = next.take() {
                looked_at += 1;
                match request {
                    Request::Stop => return self.commit(),
                    Request::AddProduct { category, details, reply } => {
                        // A product ends the batch, so that its id follows all that are in the catalogue.
                        self.commit();
                        reply.send(self.add_product(category, details));
                    }
                    Request::Order { order, reply } => {
                        let counted = self.count(order);
                        self.answer_when_due(counted, reply);
                    }
                    Request::Batch { orders, key, reply } => {
                        let counted = self.count_batch(orders, key);
                        self.answer_when_due(counted, reply);
                    }
                }
                // Both, since a repeated order adds no change.
                if self.pending.changes.len().max(looked_at) < MAX_BATCH {
                    next = self.requests.try_recv().ok();
                }
            }
            self.commit();
        }
    }

    fn next(&self) -> Result<Request, RecvTimeoutError> {
        match self.health.state() {
            State::Ready => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            _ => self.requests.recv_timeout(PROBE_EVERY),
        }
    }

    fn answer_when_due(&mut self, counted: Result<Counted, Rejection>, reply: Reply) {
        match counted {
            Ok(Counted::New | Counted::InThisCommit) => self.pending.push_counted(reply),
            Ok(Counted::OnDisk) => reply.send(Ok(())),
            // It may tell of orders that are not on disk yet, and stands only if they come to stand.
            Err(rejection) if !self.pending.changes.is_empty() => self.pending.push_refused(reply, rejection),
            Err(rejection) => reply.send(Err(rejection)),
        }
    }

    /// Counts one order in memory and puts it in the commit, unless its key is known.
    fn count(&mut self, Order { product, amount, key }: Order) -> Result<Counted, Rejection> {
        if let Some(key) = &key
            && let Some((used, counted)) = self.find_key(key)?
        {
            return if used == KeyUse::Order(product, amount) { Ok(counted) } else { Err(Rejection::KeyReused) };
        }
        let current = &mut self.totals[product.0 as usize];
        let total = current.plus(amount).ok_or(Rejection::TotalOutOfRange)?;
        *current = total;
        self.last_seq += 1;
        self.pending.push(Change::Order { seq: self.last_seq, at_ms: now_ms(), product, amount, total, key });
        Ok(Counted::New)
    }

    /// Counts all of these orders or none.
    fn count_batch(&mut self, orders: Vec<Order>, key: Option<Key>) -> Result<Counted, Rejection> {
        let digest = pending::digest(&orders);
        if let Some(key) = &key
            && let Some((used, counted)) = self.find_key(key)?
        {
            return if used == KeyUse::Batch(digest) { Ok(counted) } else { Err(Rejection::KeyReused) };
        }
        // One name for two things would let the later use hide the earlier.
        if key.is_some()
            && let Some(place) = orders.iter().position(|order| order.key == key)
        {
            return Err(Rejection::InBatch(place, Box::new(Rejection::KeyReused)));
        }
        let begun = self.pending.changes.len();
        let mut all = Counted::OnDisk;
        for (place, order) in orders.into_iter().enumerate() {
            match (self.count(order), &all) {
                (Ok(Counted::OnDisk), _) | (Ok(Counted::InThisCommit), Counted::New) => {}
                (Ok(counted), _) => all = counted,
                (Err(rejection), _) => {
                    self.undo(begun);
                    return Err(Rejection::InBatch(place, Box::new(rejection)));
                }
            }
        }
        if let Some(key) = key {
            self.pending.push(Change::BatchKey { key, digest });
            all = Counted::New;
        }
        Ok(all)
    }

    /// What the key was used for, and whether that is on disk yet.
    fn find_key(&mut self, key: &Key) -> Result<Option<(KeyUse, Counted)>, Rejection> {
        if let Some(used) = self.pending.find_key(key) {
            return Ok(Some((used, Counted::InThisCommit)));
        }
        match self.store.find_key(key) {
            Ok(used) => Ok(used.map(|used| (used, Counted::OnDisk))),
            Err(error) => Err(Rejection::from(&error)),
        }
    }

    /// Takes the changes from this place on back out of the commit and of the totals.
    fn undo(&mut self, from: usize) {
        for change in self.pending.take_back(from) {
            if let Change::Order { product, amount, total, .. } = change {
                let before = Total::new(total.get() - amount.get());
                self.totals[product.0 as usize] = before.expect("the total before an order is a total");
                self.last_seq -= 1;
            }
        }
    }

    /// Commits what is pending; then publishes and answers it, or takes it back.
    fn commit(&mut self) {
        if self.pending.changes.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let outcome = self.write(&pending.changes);
        if outcome.is_ok() {
            let orders = pending.changes.iter().filter_map(|change| match change {
                Change::Order { product, total, seq, .. } => {
                    Some(Publication { product: *product, total: *total, seq: *seq })
                }
                Change::Product(..) | Change::Category(_) | Change::BatchKey { .. } => None,
            });
            self.publications.extend(orders);
            // Published before answered: whoever has an answer finds the order in every later snapshot.
            self.fanout.publish(&self.publications);
            self.publications.clear();
            pending.settle();
        }
        self.pending = pending;
        if outcome.is_err() {
            self.undo(0);
        }
        self.pending.answer(&outcome);
    }

    /// Adds one product, in a commit of its own. It is a line of the log too, so that who follows the log, or resumes a feed,
    /// hears of it.
    fn add_product(&mut self, category: CategoryIndex, details: Details) -> Outcome {
        let product = {
            let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
            let id = catalog.next_id(category);
            // Asked before the commit, so that the disk never holds what memory would refuse.
            catalog.check_product(&id, &details).map_err(Rejection::NotInCatalog)?;
            Product { id, category, details }
        };
        let (total, seq) = (Total::default(), self.last_seq + 1);
        let line = Change::first_line(ProductIndex(self.totals.len() as u32), total, seq, now_ms());
        self.write(&[Change::Product(product.clone(), total), line])?;
        let product = {
            let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
            catalog.add_product(category, &product.id, product.details).map_err(Rejection::NotInCatalog)?
        };
        self.totals.push(total);
        self.last_seq = seq;
        self.fanout.publish(&[Publication { product, total, seq }]);
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> Outcome {
        self.health.begin();
        let result = self.store.commit(changes);
        let was_failing = self.health.end(&result);
        match &result {
            Ok(()) if was_failing && self.failure_is_logged => {
                log::line("commits succeed again");
                self.failure_is_logged = false;
            }
            Err(error) if !was_failing && self.last_logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) => {
                log::line(&format!("a commit failed, orders are refused: {error:#}"));
                (self.failure_is_logged, self.last_logged) = (true, Some(Instant::now()));
            }
            _ => {}
        }
        result.map_err(|error| Rejection::from(&error))
    }
}
