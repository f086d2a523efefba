//! The ledger: one thread that owns the totals. Owns the order of all orders, the group commit, and the rule that
//! nothing is answered or published before it is on disk. Knows the store and the fan-out's handle; knows nothing of
//! connections or formats.

mod catalog_changes;
mod counters;
mod failure_log;
mod figures;
mod handle;
mod health;
mod pending;
mod rejection;
mod reply;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::live::fanout::FanoutHandle;
use crate::live::rates::Rates;
use crate::log::Throttle;
use crate::store::{Change, Figures, KeyUse, Store, StoreError, now_ms};
use crate::tally::catalog::SharedCatalog;
use crate::tally::order::{Key, Publication, Total};
use crate::tally::period::{CurrentPeriod, Report, SharedPeriod};

pub use catalog_changes::CatalogChange;
pub use counters::Counters;
pub use handle::{LEDGER_DEADLINE, LedgerHandle, Order};
pub use health::Readiness;
pub use rejection::Rejection;
pub use reply::{Outcome, Reply};

use failure_log::FailureLog;
use handle::Job;
use health::{HANGING_AFTER, Health};
use pending::Pending;

/// The most orders that one commit carries, and the most jobs that are looked at before it: more would save little of
/// the sync's cost, and the first of them should not wait for the last.
const MAX_BATCH: usize = 1_024;
/// Jobs that wait for the ledger, at most; further connections wait to hand theirs over.
const QUEUE: usize = 1_024;
/// How often a store that fails is tried without an order: twice a second.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How long after the last commit the store is put in order: 1 s.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How often the store is inspected while no orders come: every 30 s.
const INSPECT_EVERY: Duration = Duration::from_secs(30);
/// The thread's stack; SQLite goes deepest on it.
const STACK_BYTES: usize = 512 * 1024;

struct Ledger<S> {
    store: S,
    totals: Vec<Total>,
    /// Whether each product is hidden: a copy of what the catalogue says, which needs no lock.
    hidden: Vec<bool>,
    last_seq: u64,
    /// Replaced by this thread only.
    period: SharedPeriod,
    catalog: SharedCatalog,
    fanout: FanoutHandle,
    rates: Arc<Rates>,
    jobs: Receiver<Job>,
    health: Arc<Health>,
    counters: Arc<Counters>,
    /// The next commit.
    pending: Pending,
    publications: Vec<Publication>,
    /// When the store is put in order; `None` when it is.
    rest_at: Option<Instant>,
    /// When the store was last inspected.
    inspected: Instant,
    /// When a commit or a probe was last tried.
    tried: Instant,
    /// What the store last measured, and when.
    measured: Option<(Instant, Figures)>,
    failures: FailureLog,
    hang_throttle: Throttle,
    keys_throttle: Throttle,
}

/// What the store held when it was opened.
pub struct Start {
    /// The total of each product.
    pub totals: Vec<Total>,
    /// The current period.
    pub period: CurrentPeriod,
    /// The sequence number of the last order.
    pub last_seq: u64,
}

/// Starts the ledger thread on what the store held when it was opened. It closes the store with [`LedgerHandle::stop`],
/// and ends when the last handle is dropped. `sentinel` is dropped when it ends, also by a panic.
///
/// # Errors
/// When the system refuses another thread.
pub fn start(
    store: impl Store + 'static,
    start: Start,
    catalog: SharedCatalog,
    fanout: FanoutHandle,
    rates: Arc<Rates>,
    sentinel: impl Send + 'static,
) -> io::Result<(LedgerHandle, JoinHandle<()>)> {
    let (sender, jobs) = bounded(QUEUE);
    let (health, counters) = (Arc::<Health>::default(), Arc::<Counters>::default());
    let Start { totals, period, last_seq } = start;
    let period = Arc::new(RwLock::new(Arc::new(period)));
    let handle = LedgerHandle {
        jobs: sender,
        health: health.clone(),
        counters: counters.clone(),
        period: period.clone(),
        figures: Arc::default(),
    };
    let hidden = {
        let catalog = catalog.read().unwrap_or_else(PoisonError::into_inner);
        catalog.products().iter().map(|product| product.is_hidden).collect()
    };
    let mut ledger = Ledger {
        store,
        totals,
        hidden,
        last_seq,
        period,
        catalog,
        fanout,
        rates,
        jobs,
        health,
        counters,
        pending: Pending::default(),
        publications: Vec::new(),
        // What the last server left, or a new file's catalogue, is in the write-ahead log.
        rest_at: Some(Instant::now() + REST_AFTER),
        inspected: Instant::now(),
        tried: Instant::now(),
        measured: None,
        failures: FailureLog::default(),
        hang_throttle: Throttle::default(),
        keys_throttle: Throttle::default(),
    };
    let thread = thread::Builder::new().name("ledger".into()).stack_size(STACK_BYTES).spawn(move || {
        let _sentinel = sentinel;
        let closed = ledger.run();
        let Ledger { mut store, jobs, health, .. } = ledger;
        health.during(|| store.close());
        drop(store);
        drop(closed);
        // Dropping a job rejects it. Left in the channel it would keep its requester waiting.
        jobs.iter().for_each(drop);
    })?;
    Ok((handle, thread))
}

/// Whether an order is new, or known by its key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    New,
    /// It is already part of the next commit.
    InThisCommit,
    /// It is on disk already.
    OnDisk,
}

impl<S: Store> Ledger<S> {
    /// Runs until it is stopped; returns what reports that the store is closed.
    fn run(&mut self) -> Option<Sender<()>> {
        // Lists this run in the file; and a store that cannot be written is not ready from the start.
        let _ = self.write(&[]);
        loop {
            let mut next = match self.next() {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.idle();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            let mut looked_at = 0;
            let mut inspection = None;
            while let Some(job) = next.take() {
                looked_at += 1;
                match job {
                    Job::Stop(closed) => {
                        self.commit();
                        return Some(closed);
                    }
                    Job::Catalog { change, reply } => {
                        // It ends the current commit, so that it comes after all orders before it.
                        self.commit();
                        inspection = None;
                        let outcome = self.change_catalog(change);
                        self.reply(reply, outcome);
                    }
                    Job::ClosePeriod { number, report, reply } => {
                        // After the orders that were counted before it.
                        self.commit();
                        inspection = None;
                        // A requester that has given up takes no report.
                        let outcome = self.close_period(number).map(|closed| drop(report.send(closed)));
                        self.reply(reply, outcome);
                    }
                    Job::Order { order, reply } => {
                        let counted = self.count(order).map(|counted| (counted, u64::from(counted != Counted::New)));
                        self.reply_when_committed(counted, reply, &mut inspection);
                    }
                    Job::Batch { orders, key, reply } => {
                        let counted = self.count_batch(orders, key);
                        self.reply_when_committed(counted, reply, &mut inspection);
                    }
                    // The requester may have given up.
                    Job::Ping(sender) => drop(sender.send(())),
                    Job::Inspect(inspected) => {
                        let _ = self.inspect();
                        drop(inspected);
                    }
                    Job::Measure(figures) => drop(figures.send(self.measure())),
                }
                // Both, since a repeated order adds no change.
                if self.pending.changes.len().max(looked_at) < MAX_BATCH {
                    next = self.jobs.try_recv().ok();
                }
            }
            self.commit();
        }
    }

    /// The next job, or a timeout when [`Self::idle`] is due.
    fn next(&self) -> Result<Job, RecvTimeoutError> {
        if self.health.ended().is_some() {
            return self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        let due = if self.health.is_failing() {
            // Not after the last job: jobs that are no orders come all the time.
            self.tried + PROBE_EVERY
        } else {
            self.rest_at.unwrap_or(self.inspected + INSPECT_EVERY)
        };
        self.jobs.recv_deadline(due)
    }

    /// What is done while no orders come.
    fn idle(&mut self) {
        if self.health.is_failing() {
            // Finds out whether orders can be taken again.
            let _ = self.write(&[]);
            return;
        }
        if self.rest_at.is_some() {
            let is_at_rest = self.health.during(|| self.store.rest());
            self.rest_at = (!is_at_rest).then(|| Instant::now() + REST_AFTER);
        }
        let _ = self.inspect();
    }

    /// `counted` has the number of orders that were not counted again; `inspection` is the result of an inspection since
    /// the last commit.
    fn reply_when_committed(
        &mut self,
        counted: Result<(Counted, u64), Rejection>,
        reply: Reply,
        inspection: &mut Option<Outcome>,
    ) {
        match counted {
            Ok((Counted::New | Counted::InThisCommit, repeats)) => {
                self.pending.repeats += repeats;
                self.pending.push_counted(reply);
            }
            Ok((Counted::OnDisk, repeats)) => {
                let outcome = inspection.get_or_insert_with(|| self.inspect()).clone();
                if outcome.is_ok() {
                    self.counters.repeats.add(repeats);
                }
                self.reply(reply, outcome);
            }
            // The reason may be an order that is not on disk yet; the rejection holds only if that one is committed.
            Err(rejection) if !self.pending.changes.is_empty() => self.pending.push_rejected(reply, rejection),
            Err(rejection) => self.reply(reply, Err(rejection)),
        }
    }

    /// Sends a reply, and counts it if it is a rejection.
    fn reply(&self, reply: Reply, outcome: Outcome) {
        self.counters.note(&outcome);
        reply.send(outcome);
    }

    /// Counts one order in memory and adds it to the next commit, unless its key is known.
    fn count(&mut self, Order { product, amount, key }: Order) -> Result<Counted, Rejection> {
        if let Some(key) = &key
            && let Some((used, counted)) = self.find_key(key)?
        {
            return if used == KeyUse::Order(product, amount) { Ok(counted) } else { Err(Rejection::KeyReused) };
        }
        if self.hidden[product.0 as usize] {
            return Err(Rejection::Hidden);
        }
        if key.is_some() {
            self.check_room_for_key()?;
        }
        let current = &mut self.totals[product.0 as usize];
        let total = current.plus(amount).ok_or(Rejection::TotalOutOfRange)?;
        *current = total;
        self.last_seq += 1;
        self.pending.push(Change::Order { seq: self.last_seq, at_ms: now_ms(), product, amount, total, key });
        Ok(Counted::New)
    }

    /// Counts all of these orders or none. Returns also how many of them were not counted again.
    fn count_batch(&mut self, orders: Vec<Order>, key: Option<Key>) -> Result<(Counted, u64), Rejection> {
        let digest = pending::digest(&orders);
        if let Some(key) = &key
            && let Some((used, counted)) = self.find_key(key)?
        {
            let repeats = orders.len() as u64;
            return if used == KeyUse::Batch(digest) { Ok((counted, repeats)) } else { Err(Rejection::KeyReused) };
        }
        // A key with two uses would hide one of them.
        if key.is_some()
            && let Some(place) = orders.iter().position(|order| order.key == key)
        {
            return Err(Rejection::InBatch(place, Box::new(Rejection::KeyReused)));
        }
        let begun = self.pending.changes.len();
        let (mut all, mut repeats) = (Counted::OnDisk, 0);
        for (place, order) in orders.into_iter().enumerate() {
            let counted = self.count(order);
            repeats += u64::from(matches!(counted, Ok(Counted::OnDisk | Counted::InThisCommit)));
            match (counted, &all) {
                (Ok(Counted::OnDisk), _) | (Ok(Counted::InThisCommit), Counted::New) => {}
                (Ok(counted), _) => all = counted,
                (Err(rejection), _) => {
                    self.undo(begun);
                    return Err(Rejection::InBatch(place, Box::new(rejection)));
                }
            }
        }
        if let Some(key) = key {
            if let Err(rejection) = self.check_room_for_key() {
                self.undo(begun);
                return Err(rejection);
            }
            self.pending.push(Change::BatchKey { key, digest });
            all = Counted::New;
        }
        Ok((all, repeats))
    }

    /// The use of a key, and whether it is on disk yet.
    fn find_key(&mut self, key: &Key) -> Result<Option<(KeyUse, Counted)>, Rejection> {
        if let Some(used) = self.pending.find_key(key) {
            return Ok(Some((used, Counted::InThisCommit)));
        }
        match self.health.during(|| self.store.find_key(key)) {
            Ok(used) => Ok(used.map(|used| (used, Counted::OnDisk))),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Rejects a new key when no more may be stored.
    fn check_room_for_key(&mut self) -> Result<(), Rejection> {
        match self.health.during(|| self.store.has_room_for_key(self.pending.key_count())) {
            Ok(true) => Ok(()),
            Ok(false) => {
                if self.keys_throttle.allows() {
                    log::warn!("orders with new keys are rejected: as many keys are stored as --max-keys allows");
                }
                Err(Rejection::KeysFull)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Removes the changes from this index on from the next commit and from the totals.
    fn undo(&mut self, from: usize) {
        for change in self.pending.take_back(from) {
            if let Change::Order { product, amount, total, .. } = change {
                let before = Total::new(total.get() - amount.get());
                self.totals[product.0 as usize] = before.expect("the total before an order is a total");
                self.last_seq -= 1;
            }
        }
    }

    /// Commits what is pending; then publishes and answers it, or undoes it.
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
                _ => None,
            });
            self.publications.extend(orders);
            // Before publishing, so that the rates have every order that the log and the feeds show.
            self.rates.count(pending.changes.iter().filter_map(|change| match change {
                Change::Order { product, at_ms, amount, .. } => Some((*product, *at_ms, *amount)),
                _ => None,
            }));
            // Published before answered, so that a client with an answer finds the order in every later snapshot.
            self.fanout.publish(&self.publications);
            self.counters.counted(self.publications.len() as u64, pending.repeats);
            self.publications.clear();
            pending.clear_changes();
        }
        self.pending = pending;
        self.pending.repeats = 0;
        if outcome.is_err() {
            self.undo(0);
        }
        self.pending.answer(&outcome, &self.counters);
        // After answering: where all cores are busy the woken thread takes this one's, for as long as a round lasts.
        self.fanout.wake();
    }

    /// Closes the current period and opens the next, in a commit of its own. Returns the report of the closed one.
    fn close_period(&mut self, number: u64) -> Result<Report, Rejection> {
        let current = self.period.read().unwrap_or_else(PoisonError::into_inner).clone();
        let next = current.period.next(now_ms(), self.last_seq);
        if number != current.period.number {
            // A repeat, which takes this for a confirmation, gets it only while the file is where the next start looks.
            self.inspect()?;
            return Err(Rejection::NotCurrentPeriod { number, current: current.period.number });
        }
        self.write(&[Change::Period(next)])?;
        let opened = Arc::new(CurrentPeriod { period: next, openings: self.totals.clone() });
        // Replaced before anything later is published, so that totals with orders of the next period are never taken
        // for those of the closed one.
        *self.period.write().unwrap_or_else(PoisonError::into_inner) = opened.clone();
        self.fanout.publish_period(opened.openings.as_slice().into(), next.opened_after);
        Ok(Report { closed_ms: Some(next.opened_ms), ..current.report(&self.totals) })
    }

    fn write(&mut self, changes: &[Change]) -> Outcome {
        self.tried = Instant::now();
        let outcome = self.ask_store(|store| store.commit(changes));
        self.counters.tried(&outcome, (!changes.is_empty()).then(|| (self.tried.elapsed(), self.store.sync_time())));
        self.rest_at = Some(Instant::now() + REST_AFTER);
        if outcome.is_ok() && self.health.recover() {
            self.failures.end();
        }
        outcome
    }

    /// Has the store inspected. That it succeeds does not end a failure: it writes nothing, so the disk may be full still.
    fn inspect(&mut self) -> Outcome {
        self.inspected = Instant::now();
        self.ask_store(Store::inspect)
    }

    fn ask_store(&mut self, ask: impl FnOnce(&mut S) -> Result<(), StoreError>) -> Outcome {
        if let Some(reason) = self.health.ended() {
            return Err(reason.clone());
        }
        let begun = Instant::now();
        self.health.begin();
        let result = self.health.during(|| ask(&mut self.store));
        self.health.returned();
        if begun.elapsed() >= HANGING_AFTER && self.hang_throttle.allows() {
            log::warn!("the disk took {:.1} s to answer; orders had to wait for it", begun.elapsed().as_secs_f32());
        }
        result.map_err(|error| self.failed(&error))
    }

    /// Notes and logs an error of the store. After damage no order is taken any more.
    fn failed(&mut self, error: &StoreError) -> Rejection {
        let rejection = Rejection::from(error);
        let was_failing = self.health.fail(rejection.clone());
        if matches!(error, StoreError::Damaged(_)) {
            self.health.end_orders(rejection.clone());
        }
        self.failures.log(format!("{error:#}"), was_failing);
        rejection
    }
}
