//! The ledger: one thread that hands orders to an engine and answers them. Owns the order of all orders, the group
//! commit, and the rule that nothing is answered or published before it is on disk. Knows the fan-out's handle; knows
//! nothing of connections or formats, nor where orders are kept: that is the [`Engine`]'s.

mod catalog_changes;
mod counters;
mod engine;
mod failure_log;
mod figures;
mod handle;
mod health;
mod job;
mod local;
mod monitor;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod rejection;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{RecvTimeoutError, Sender};

use crate::live::fanout::FanoutHandle;
use crate::live::rates::Rates;
use crate::store::Figures;
use crate::tally::period::{CurrentPeriod, SharedPeriod};

pub use catalog_changes::CatalogChange;
pub use counters::Counters;
pub use engine::Engine;
pub use handle::{LEDGER_DEADLINE, LedgerHandle};
pub use health::Readiness;
pub use local::LocalEngine;
#[cfg(feature = "postgres")]
pub use postgres::{Following, PostgresEngine, View};
pub use rejection::{FORBIDDEN, Rejection};
pub use reply::{Outcome, Reply};
pub use request::{Order, Request};

use engine::{Committed, Counted, Update};
use health::Health;
use job::Job;
use monitor::Monitor;
use queue::Queue;

/// The most orders that one commit carries, and the most jobs that are looked at before it: more would save little of
/// the sync's cost, and the first of them should not wait for the last.
const MAX_BATCH: usize = 1_024;
/// The thread's stack; SQLite goes deepest on it.
const STACK_BYTES: usize = 512 * 1024;

struct Ledger<E> {
    engine: E,
    monitor: Monitor,
    /// Replaced by this thread only.
    period: SharedPeriod,
    fanout: FanoutHandle,
    rates: Arc<Rates>,
    jobs: Queue,
    counters: Arc<Counters>,
    /// The replies that wait for the next commit, and the outcome of each if it succeeds.
    replies: Vec<Reply>,
    outcomes: Vec<Outcome>,
    /// The requests that may soon wait for the next commit: as many as the last one answered, and those that came meanwhile.
    expected: usize,
    /// What has to be published.
    updates: Vec<Update>,
    /// What the store last measured, and when.
    measured: Option<(Instant, Figures)>,
}

/// Starts the ledger thread on an engine that has just been opened, with the current period. It closes the engine with
/// [`LedgerHandle::stop`], and ends when the last handle is dropped. `sentinel` is dropped when it ends, also by a panic.
///
/// # Errors
/// When the system refuses another thread.
pub fn start(
    engine: impl Engine + 'static,
    period: Arc<CurrentPeriod>,
    fanout: FanoutHandle,
    rates: Arc<Rates>,
    sentinel: impl Send + 'static,
) -> io::Result<(LedgerHandle, JoinHandle<()>)> {
    let (entrance, jobs) = Queue::new(engine.is_quick())?;
    let (health, counters) = (Arc::<Health>::default(), Arc::<Counters>::default());
    let period = Arc::new(RwLock::new(period));
    let handle = LedgerHandle {
        jobs: entrance,
        health: health.clone(),
        counters: counters.clone(),
        period: period.clone(),
        figures: Arc::default(),
    };
    let mut ledger = Ledger {
        engine,
        monitor: Monitor::new(health, counters.clone()),
        period,
        fanout,
        rates,
        jobs,
        counters,
        replies: Vec::new(),
        outcomes: Vec::new(),
        expected: 0,
        updates: Vec::new(),
        measured: None,
    };
    let thread = thread::Builder::new().name("ledger".into()).stack_size(STACK_BYTES).spawn(move || {
        let _sentinel = sentinel;
        let closed = ledger.run();
        let Ledger { mut engine, monitor, jobs, .. } = ledger;
        monitor.health.during(|| engine.close());
        drop(engine);
        drop(closed);
        jobs.reject_all();
    })?;
    Ok((handle, thread))
}

impl<E: Engine> Ledger<E> {
    /// Runs until it is stopped; returns what reports that the store is closed.
    fn run(&mut self) -> Option<Sender<()>> {
        // Lists this run in the file; and a store that cannot be written is not ready from the start.
        let _ = self.engine.probe(&mut self.monitor);
        loop {
            // Jobs that wait bring a commit, which follows too.
            if self.jobs.is_empty() {
                self.follow();
            }
            let mut next = match self.jobs.next(self.monitor.due()) {
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
                        let outcome = self.engine.change_catalog(change, &mut self.updates, &mut self.monitor);
                        self.publish_and_reply(reply, outcome);
                    }
                    Job::ClosePeriod { number, report, reply } => {
                        // After the orders that were counted before it.
                        self.commit();
                        inspection = None;
                        let closed = self.engine.close_period(number, &mut self.updates, &mut self.monitor);
                        // A requester that has given up takes no report.
                        self.publish_and_reply(reply, closed.map(|closed| drop(report.send(closed))));
                    }
                    Job::Count { request, reply } => self.count(request, reply, &mut inspection),
                    // The requester may have given up.
                    Job::Ping(sender) => drop(sender.send(())),
                    Job::Inspect(inspected) => {
                        let _ = self.engine.inspect(&mut self.monitor);
                        drop(inspected);
                    }
                    Job::Measure(figures) => drop(figures.send(self.measure())),
                }
                // Both, since a repeated order adds no change.
                if self.engine.pending().max(looked_at) < MAX_BATCH {
                    next = self.jobs.try_next().or_else(|| self.gather());
                }
            }
            self.commit();
        }
    }

    /// Waits for another job, while more requests are expected for the next commit and the engine would rather have them.
    fn gather(&mut self) -> Option<Job> {
        if self.replies.is_empty() || self.replies.len() >= self.expected {
            return None;
        }
        self.jobs.next(Some(self.engine.gathers_until()?)).ok()
    }

    /// What is done while no orders come.
    fn idle(&mut self) {
        if self.monitor.health.is_failing() {
            // Finds out whether orders can be taken again.
            let _ = self.engine.probe(&mut self.monitor);
            return;
        }
        self.monitor.rest(|| self.engine.rest());
        let _ = self.engine.inspect(&mut self.monitor);
    }

    /// Counts a request with the next commit, or answers it. `inspection` is the result of an inspection since the last
    /// commit.
    fn count(&mut self, request: Request, mut reply: Reply, inspection: &mut Option<Outcome>) {
        match self.engine.count(request, &mut self.monitor) {
            Ok(Counted::InCommit) => {
                reply.enter_commit();
                self.reply_when_committed(reply, Ok(()));
            }
            Ok(Counted::OnDisk { repeats }) => {
                let outcome = inspection.get_or_insert_with(|| self.engine.inspect(&mut self.monitor)).clone();
                if outcome.is_ok() {
                    self.counters.repeats.add(repeats);
                }
                self.reply(reply, outcome);
            }
            // The reason may be an order that is not on disk yet; the rejection holds only if that one is committed.
            Err(rejection) if self.engine.pending() > 0 => self.reply_when_committed(reply, Err(rejection)),
            Err(rejection) => self.reply(reply, Err(rejection)),
        }
    }

    /// Keeps a reply, with its outcome if the next commit succeeds.
    fn reply_when_committed(&mut self, reply: Reply, outcome: Outcome) {
        self.replies.push(reply);
        self.outcomes.push(outcome);
    }

    /// Sends a reply, and counts it if it is a rejection.
    fn reply(&self, reply: Reply, outcome: Outcome) {
        self.counters.note(&outcome);
        reply.send(outcome);
    }

    /// Publishes what a request has changed, if anything, then replies.
    fn publish_and_reply(&mut self, reply: Reply, outcome: Outcome) {
        let has_changed = !self.updates.is_empty();
        self.publish();
        self.reply(reply, outcome);
        if has_changed {
            self.fanout.wake();
        }
    }

    /// Publishes what other servers have committed.
    fn follow(&mut self) {
        self.engine.follow(&mut self.updates, &mut self.monitor);
        if !self.updates.is_empty() {
            self.publish();
            self.fanout.wake();
        }
    }

    /// Commits what is pending, publishes it and answers it.
    fn commit(&mut self) {
        if self.engine.pending() == 0 {
            return;
        }
        let committed = self.engine.commit(&mut self.outcomes, &mut self.updates, &mut self.monitor);
        // Published before answered, so that a client with an answer finds the order in every later snapshot.
        self.publish();
        if let Ok(Committed { orders, repeats }) = committed {
            self.counters.counted(orders, repeats);
        }
        self.expected = self.replies.len() + self.jobs.len();
        for (reply, due) in self.replies.drain(..).zip(self.outcomes.drain(..)) {
            let outcome = match (&committed, due) {
                (Ok(_), due) => due,
                // It was not part of the commit, so it is certain that it was not counted.
                (Err(Rejection::Unknown), Err(_)) => Err(Rejection::StoreRefused),
                (Err(rejection), _) => Err(rejection.clone()),
            };
            self.counters.note(&outcome);
            reply.send(outcome);
        }
        // After answering: where all cores are busy the woken thread takes this one's, for as long as a round lasts.
        self.fanout.wake();
    }

    /// Publishes the updates of the last call, in their order.
    fn publish(&mut self) {
        let are_orders =
            |one: &Update, next: &Update| matches!((one, next), (Update::Order { .. }, Update::Order { .. }));
        for updates in self.updates.chunk_by(are_orders) {
            match &updates[0] {
                Update::Order { .. } => {
                    let orders = updates.iter().filter_map(|update| match update {
                        Update::Order { publication, at_ms, amount } => Some((publication, *at_ms, *amount)),
                        _ => None,
                    });
                    // Before publishing, so that the rates have every order that the log and the feeds show.
                    self.rates.count(orders.clone().map(|(one, at_ms, amount)| (one.product, at_ms, amount)));
                    self.fanout.publish(orders.map(|(publication, ..)| publication));
                }
                // The fan-out thread reads the new product with it.
                Update::Product(publication) => self.fanout.publish([publication]),
                Update::Catalog(category) => self.fanout.publish_catalog(*category),
                Update::Period(opened) => {
                    // Replaced before anything later is published, so that totals with orders of the next period are
                    // never taken for those of the closed one.
                    *self.period.write().unwrap_or_else(PoisonError::into_inner) = opened.clone();
                    self.fanout.publish_period(opened.openings.as_slice().into(), opened.period.opened_after);
                }
                #[cfg(feature = "postgres")]
                Update::Replaced(current, replacement) => {
                    *self.period.write().unwrap_or_else(PoisonError::into_inner) = current.clone();
                    self.fanout.replace((**replacement).clone());
                }
            }
        }
        self.updates.clear();
    }
}
