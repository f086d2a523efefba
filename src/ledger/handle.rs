//! Handle to the ledger thread.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::catalog_changes::CatalogChange;
use super::counters::Counters;
use super::figures::LastFigures;
use super::health::{Health, Readiness};
use super::job::Job;
use super::queue::{Added, Entrance};
use super::rejection::Rejection;
use super::reply::{Outcome, Reply};
use super::request::{Order, Request};
use crate::http::ready_sockets::ReadySockets;
use crate::store::{Figures, StoreError};
use crate::tally::order::Key;
use crate::tally::period::{CurrentPeriod, Report, SharedPeriod};

/// How long a requester waits for the ledger while the store hangs: 30 s, the usual timeout of HTTP clients. The
/// outcome is unknown then.
pub const LEDGER_DEADLINE: Duration = Duration::from_secs(30);

/// How long [`LedgerHandle::readiness`] waits for the ledger: 1 s, less than the usual timeout of those who ask.
const INSPECTION_DEADLINE: Duration = Duration::from_secs(1);

/// Asks the ledger for changes; cheap to clone.
#[derive(Clone)]
pub struct LedgerHandle {
    pub(super) jobs: Entrance,
    pub(super) health: Arc<Health>,
    pub(super) counters: Arc<Counters>,
    pub(super) period: SharedPeriod,
    pub(super) figures: Arc<LastFigures>,
}

impl LedgerHandle {
    /// Handle to no ledger, for a server that follows another one: every request is rejected as if it were stopping.
    #[must_use]
    pub fn none() -> Self {
        Self {
            jobs: Entrance::none(),
            health: Arc::default(),
            counters: Arc::default(),
            period: SharedPeriod::default(),
            figures: Arc::default(),
        }
    }

    /// Adds the amount to the product's total and waits until that is on disk.
    ///
    /// # Errors
    /// [`Rejection`] when it was not counted.
    pub fn order(&self, order: Order) -> Outcome {
        self.ask(|reply| Job::Count { request: Request::Order(order), reply })
    }

    /// Adds the amount to the product's total without waiting: `reply` gets the outcome.
    pub fn submit(&self, order: Order, reply: Reply) {
        self.send(Job::Count { request: Request::Order(order), reply }, Instant::now() + LEDGER_DEADLINE);
    }

    /// The same on the ledger thread itself, for what it has read from one of its sockets.
    pub fn submit_here(&self, order: Order, reply: Reply) {
        self.jobs.add_here(Job::Count { request: Request::Order(order), reply });
    }

    /// The sockets that the ledger thread watches. `None` without a ledger.
    #[must_use]
    pub fn ready_sockets(&self) -> Option<&Arc<ReadySockets>> {
        self.jobs.sockets()
    }

    /// Counts all of these orders or none, and waits until they are on disk. `key` names them together.
    ///
    /// # Errors
    /// [`Rejection`] when they were not counted.
    pub fn batch(&self, orders: Vec<Order>, key: Option<Key>) -> Outcome {
        self.ask(|reply| Job::Count { request: Request::Batch { orders, key }, reply })
    }

    /// Changes products or categories, and waits until that is on disk and in the shared catalogue.
    ///
    /// # Errors
    /// [`Rejection`] when nothing was changed.
    pub fn change_catalog(&self, change: CatalogChange) -> Outcome {
        self.ask(|reply| Job::Catalog { change, reply })
    }

    /// Closes this period, if it is the current one, opens the next, and waits until that is on disk. Returns the report
    /// of the closed one.
    ///
    /// # Errors
    /// [`Rejection`] when it was not closed.
    pub fn close_period(&self, number: u64) -> Result<Report, Rejection> {
        let (report_sender, report) = bounded(1);
        self.ask(|reply| Job::ClosePeriod { number, report: report_sender, reply })?;
        report.try_recv().map_err(|_| Rejection::Unknown)
    }

    /// The current period. An order that is published after this call may belong to a later one.
    #[must_use]
    pub fn current_period(&self) -> Arc<CurrentPeriod> {
        self.period.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers everything that waits, publishes it, and closes the store; waits for that until `deadline`. Later
    /// requests are rejected.
    pub fn stop(&self, deadline: Instant) {
        let (closed_sender, closed) = bounded(0);
        // Not without a limit: the store may hang while the queue is full.
        if matches!(self.jobs.add(Job::Stop(closed_sender), deadline), Added::Yes) {
            let _ = closed.recv_deadline(deadline);
        }
    }

    /// Whether orders can be taken. Has the data file's place inspected before, unless the ledger is busy for long.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.health.readiness() == Readiness::Ready {
            let deadline = Instant::now() + INSPECTION_DEADLINE;
            let (inspected_sender, inspected) = bounded(0);
            if matches!(self.jobs.add(Job::Inspect(inspected_sender), deadline), Added::Yes) {
                let _ = inspected.recv_deadline(deadline);
            }
        }
        self.health.readiness()
    }

    /// What the ledger has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is known of orders that can be taken, without asking the ledger.
    #[must_use]
    pub fn last_readiness(&self) -> Readiness {
        self.health.readiness()
    }

    /// What the store holds, or what it last held if the ledger does not answer within 100 ms. The ledger does not wait for
    /// the caller.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures.get(|sender| self.jobs.try_add(Job::Measure(sender)))
    }

    /// Whether the ledger thread answers by `deadline`. While it waits for the store it counts as answering, however
    /// long that takes: [`Self::readiness`] tells of a disk that hangs.
    #[must_use]
    pub fn answers(&self, deadline: Instant) -> bool {
        let (sender, answer) = bounded(1);
        let result = match self.jobs.add(Job::Ping(sender), deadline) {
            Added::Yes => answer.recv_deadline(deadline),
            Added::Full(_) => Err(RecvTimeoutError::Timeout),
            Added::Closed => Err(RecvTimeoutError::Disconnected),
        };
        match result {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => self.health.is_in_store(),
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Lets the ledger follow what other servers have committed, unless it does so anyway after what it has to do.
    #[cfg(feature = "postgres")]
    pub fn wake(&self) {
        self.jobs.try_add(Job::Ping(bounded(1).0));
    }

    /// Notes whether the database can be reached. While it cannot, orders are rejected without being tried.
    #[cfg(feature = "postgres")]
    pub fn set_away(&self, is_away: bool) {
        self.health.set_away(is_away);
    }

    /// From now on no order is taken, because of this error of the store.
    pub fn end_orders(&self, error: &StoreError) {
        self.health.end_orders(error.into());
    }

    fn ask(&self, job: impl FnOnce(Reply) -> Job) -> Outcome {
        let (reply, outcome) = Reply::channel();
        let deadline = Instant::now() + LEDGER_DEADLINE;
        self.send(job(reply), deadline);
        outcome.recv_deadline(deadline).unwrap_or(Err(Rejection::Unknown))
    }

    /// Hands a job over by the deadline, or rejects it.
    fn send(&self, job: Job, deadline: Instant) {
        let hindrance = if self.health.is_away() {
            Some(Rejection::StoreAway)
        } else {
            self.health.is_hanging().then_some(Rejection::StoreHangs)
        };
        if let Some(rejection) = hindrance {
            self.counters.reject(&rejection);
            return job.reject(rejection);
        }
        if let Added::Full(job) = self.jobs.add(job, deadline) {
            self.counters.reject(&Rejection::StoreHangs);
            job.reject(Rejection::StoreHangs);
        }
    }
}
