//! The ledger: one thread that owns the totals, and the handle that asks it for changes. Owns the order of all orders,
//! the group commit, and the rule that nothing is answered or published before it is on disk. Knows the store and the
//! fan-out's handle; knows nothing of connections or formats.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::catalog::{Catalog, CatalogError, CategoryIndex, Details, Product, ProductIndex};
use crate::fanout::{FanoutHandle, Publication};
use crate::log;
use crate::order::{Amount, MAX_TOTAL, Total};
use crate::store::{Change, Store, StoreError};

/// The most orders that one commit carries: past this many the cost of the sync is spread thinly enough, and the
/// first of them should not wait for the last.
const MAX_BATCH: usize = 1_024;
/// The most requests that wait for the ledger; beyond it a connection waits to hand its own over.
const QUEUE: usize = 1_024;
/// The ledger thread's stack: SQLite is the deepest that runs on it.
const STACK_BYTES: usize = 512 * 1024;

/// The catalogue as the connections see it: the ledger adds to it once a product is on disk.
pub type SharedCatalog = Arc<RwLock<Catalog>>;

/// Why a change was not made. Nothing of it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The total would leave ±(2^53 − 1): order less.
    TotalOutOfRange,
    /// The catalogue holds as many products as it may, or does not take this one.
    NotInCatalog(CatalogError),
    /// No space is left for the data: try again when the operator has made room.
    StoreFull,
    /// The disk refused: try again.
    StoreRefused,
    /// The server is shutting down: try again when it is back.
    Stopping,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TotalOutOfRange => {
                write!(f, "the total would leave the range from -{MAX_TOTAL} to {MAX_TOTAL}; order less")
            }
            Self::NotInCatalog(error) => error.fmt(f),
            Self::StoreFull => write!(f, "no space is left for the data; nothing was counted, try again later"),
            Self::StoreRefused => write!(f, "the data file could not be written; nothing was counted, try again"),
            Self::Stopping => write!(f, "the server is shutting down; nothing was counted, try again"),
        }
    }
}

impl std::error::Error for Refusal {}

/// How a request to the ledger ended. `Ok` means that it is on disk.
pub type Outcome = Result<(), Refusal>;

/// Where one requester waits for one outcome at a time. It is made once a connection and used for all its requests.
#[derive(Debug, Default)]
pub struct Slot {
    outcome: Mutex<Option<Outcome>>,
    arrived: Condvar,
}

/// Somebody who is told the outcome of one request at a time.
pub trait Waiter: Send + Sync {
    /// Takes the outcome. Called by the ledger thread, which must not be held up.
    fn tell(&self, outcome: Outcome);
}

impl Waiter for Slot {
    fn tell(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.arrived.notify_one();
    }
}

impl Slot {
    fn take(&self) -> Outcome {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            outcome = self.arrived.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The duty to answer one requester. It is fulfilled even when the request is dropped unseen.
struct Reply(Option<Arc<dyn Waiter>>);

impl Reply {
    fn send(mut self, outcome: Outcome) {
        if let Some(waiter) = self.0.take() {
            waiter.tell(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(waiter) = self.0.take() {
            waiter.tell(Err(Refusal::Stopping));
        }
    }
}

enum Request {
    Order { product: ProductIndex, amount: Amount, reply: Reply },
    AddProduct { category: CategoryIndex, details: Details, reply: Reply },
    Stop,
}

/// Asks the ledger for changes; cheap to clone.
#[derive(Clone)]
pub struct LedgerHandle {
    requests: Sender<Request>,
}

impl LedgerHandle {
    /// Adds `amount` to the product's total and waits until that is on disk. The caller's `slot` carries the answer.
    ///
    /// # Errors
    /// [`Refusal`] when it was not counted.
    pub fn order(&self, product: ProductIndex, amount: Amount, slot: &Arc<Slot>) -> Outcome {
        self.ask(slot, |reply| Request::Order { product, amount, reply })
    }

    /// Adds `amount` to the product's total without waiting: `waiter` is told the outcome, once.
    pub fn submit(&self, product: ProductIndex, amount: Amount, waiter: Arc<dyn Waiter>) {
        // If the ledger has panicked, dropping the request answers it.
        let _ = self.requests.send(Request::Order { product, amount, reply: Reply(Some(waiter)) });
    }

    /// Adds a product to the category, with the next free id and a total of 0, and waits until it is on disk and in
    /// the shared catalogue.
    ///
    /// # Errors
    /// [`Refusal`] when it was not added.
    pub fn add_product(&self, category: CategoryIndex, details: Details, slot: &Arc<Slot>) -> Outcome {
        self.ask(slot, |reply| Request::AddProduct { category, details, reply })
    }

    /// Asks the ledger to close the store once everything that waits is answered. Later requests are refused.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
    }

    fn ask(&self, slot: &Arc<Slot>, request: impl FnOnce(Reply) -> Request) -> Outcome {
        // If the ledger has panicked, dropping the request answers it.
        let waiter: Arc<dyn Waiter> = slot.clone();
        let _ = self.requests.send(request(Reply(Some(waiter))));
        slot.take()
    }
}

struct Ledger<S> {
    store: S,
    totals: Vec<Total>,
    last_seq: u64,
    catalog: SharedCatalog,
    fanout: FanoutHandle,
    requests: Receiver<Request>,
    /// Whether the last commit failed: only the first failure and the recovery are logged.
    failing: bool,
}

/// A ledger that runs.
pub struct Running {
    /// What asks it for changes.
    pub handle: LedgerHandle,
    /// Its thread, which ends when the last handle is gone.
    pub thread: JoinHandle<()>,
    /// Disconnected once [`LedgerHandle::stop`] is done: everything is answered, and the store is closed.
    pub closed: Receiver<()>,
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
    let mut ledger = Ledger { store, totals, last_seq, catalog, fanout, requests, failing: false };
    let (closed_sender, closed) = bounded(0);
    let thread = thread::Builder::new().name("ledger".into()).stack_size(STACK_BYTES).spawn(move || {
        ledger.run();
        let Ledger { store, requests, .. } = ledger;
        drop(store);
        drop(closed_sender);
        // What comes later is refused by being dropped; a channel alone would keep it, and its sender waiting.
        requests.iter().for_each(drop);
    })?;
    Ok(Running { handle: LedgerHandle { requests: sender }, thread, closed })
}

impl<S: Store> Ledger<S> {
    fn run(&mut self) {
        let mut changes = Vec::with_capacity(MAX_BATCH);
        let mut replies = Vec::with_capacity(MAX_BATCH);
        let mut publications = Vec::with_capacity(MAX_BATCH);
        while let Ok(first) = self.requests.recv() {
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request {
                    Request::Stop => {
                        self.commit(&mut changes, &mut replies, &mut publications);
                        return;
                    }
                    Request::AddProduct { category, details, reply } => {
                        // A product ends the batch, so that its id follows all that are in the catalogue.
                        self.commit(&mut changes, &mut replies, &mut publications);
                        reply.send(self.add_product(category, details));
                    }
                    Request::Order { product, amount, reply } => {
                        self.apply(product, amount, reply, &mut changes, &mut replies);
                    }
                }
                if changes.len() < MAX_BATCH {
                    next = self.requests.try_recv().ok();
                }
            }
            self.commit(&mut changes, &mut replies, &mut publications);
        }
    }

    /// Counts one order in memory and puts it in the batch, or refuses it at once.
    fn apply(
        &mut self,
        product: ProductIndex,
        amount: Amount,
        reply: Reply,
        changes: &mut Vec<Change>,
        replies: &mut Vec<Reply>,
    ) {
        let current = &mut self.totals[product.0 as usize];
        let Some(total) = current.plus(amount) else {
            reply.send(Err(Refusal::TotalOutOfRange));
            return;
        };
        *current = total;
        self.last_seq += 1;
        changes.push(Change::Order { seq: self.last_seq, at_ms: now_ms(), product, amount, total });
        replies.push(reply);
    }

    /// Commits the batch of orders; then publishes and answers it, or takes it back.
    fn commit(&mut self, changes: &mut Vec<Change>, replies: &mut Vec<Reply>, publications: &mut Vec<Publication>) {
        if changes.is_empty() {
            return;
        }
        match self.write(changes) {
            Ok(()) => {
                publications.extend(changes.iter().filter_map(|change| match change {
                    Change::Order { product, total, .. } => Some(Publication { product: *product, total: *total }),
                    Change::Product(..) | Change::Category(_) => None,
                }));
                // Published before answered: whoever has an answer finds the order in every later snapshot.
                self.fanout.publish(publications);
                publications.clear();
                replies.drain(..).for_each(|reply| reply.send(Ok(())));
            }
            Err(refusal) => {
                for change in changes.iter().rev() {
                    if let Change::Order { product, amount, total, .. } = change {
                        let before = Total::new(total.get() - amount.get());
                        self.totals[product.0 as usize] = before.expect("the total before an order is a total");
                        self.last_seq -= 1;
                    }
                }
                replies.drain(..).for_each(|reply| reply.send(Err(refusal.clone())));
            }
        }
        changes.clear();
    }

    /// Adds one product, in a commit of its own.
    fn add_product(&mut self, category: CategoryIndex, details: Details) -> Outcome {
        let product = {
            let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
            let id = catalog.next_id(category);
            // Asked before the commit, so that the disk never holds what memory would refuse.
            catalog.check_product(&id, &details).map_err(Refusal::NotInCatalog)?;
            Product { id, category, details }
        };
        self.write(&[Change::Product(product.clone(), Total::default())])?;
        let index = {
            let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
            catalog.add_product(category, &product.id, product.details).map_err(Refusal::NotInCatalog)?
        };
        self.totals.push(Total::default());
        self.fanout.publish(&[Publication { product: index, total: Total::default() }]);
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> Outcome {
        let result = self.store.commit(changes);
        match &result {
            Ok(()) if self.failing => log::line("commits succeed again"),
            Err(error) if !self.failing => log::line(&format!("a commit failed, orders are refused: {error}")),
            _ => {}
        }
        self.failing = result.is_err();
        result.map_err(|error| match error {
            StoreError::Full(_) => Refusal::StoreFull,
            _ => Refusal::StoreRefused,
        })
    }
}

/// Milliseconds since 1970 (UTC); 0 on a clock set before that.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
