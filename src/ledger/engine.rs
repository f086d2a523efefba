//! The trait of what counts orders and keeps them, below the ledger's thread. Owns what the two tell each other; knows
//! neither replies nor subscribers.

use std::sync::Arc;
use std::time::Instant;

use super::catalog_changes::CatalogChange;
use super::monitor::Monitor;
use super::rejection::Rejection;
use super::reply::Outcome;
use super::request::Request;
#[cfg(feature = "postgres")]
use crate::live::fanout::Replacement;
use crate::store::{Figures, Rest};
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::{Amount, Publication};
use crate::tally::period::{CurrentPeriod, Report};

/// Counts orders and keeps them, in commits. The ledger's thread alone calls it, and publishes the updates that a call
/// adds, in their order, before it answers. An engine asks its store through the [`Monitor`], so that a store that
/// hangs or fails is noticed.
pub trait Engine: Send {
    /// Counts a request with the next commit, unless its keys are known.
    ///
    /// # Errors
    /// [`Rejection`] when it is not counted. If a commit is pending, the reason may be an order in it.
    fn count(&mut self, request: Request, monitor: &mut Monitor) -> Result<Counted, Rejection>;

    /// The number of changes in the next commit.
    fn pending(&self) -> usize;

    /// Commits what is pending, whole or not at all. `outcomes` are those of the requests that wait for it, in their
    /// order, if it succeeds; an engine that learns some of them with the commit replaces these.
    ///
    /// # Errors
    /// [`Rejection`] of all of it. After [`Rejection::Unknown`] it may be kept, after any other one it is not.
    fn commit(
        &mut self,
        outcomes: &mut [Outcome],
        updates: &mut Vec<Update>,
        monitor: &mut Monitor,
    ) -> Result<Committed, Rejection>;

    /// Whether a commit takes so short a time that the ledger thread may read requests between two of them.
    fn is_quick(&self) -> bool {
        true
    }

    /// Until when the next commit may wait for requests of the clients that the last one has answered, if it is better to
    /// wait: on a store where it would stand behind another server's commit.
    fn gathers_until(&self) -> Option<Instant> {
        None
    }

    /// Changes products or categories, in a commit of its own and in the shared catalogue. Nothing is pending.
    ///
    /// # Errors
    /// [`Rejection`] when nothing was changed.
    fn change_catalog(&mut self, change: CatalogChange, updates: &mut Vec<Update>, monitor: &mut Monitor) -> Outcome;

    /// Closes the period with this number, if it is the current one, and opens the next, in a commit of its own. Nothing
    /// is pending. Returns the report of the closed one.
    ///
    /// # Errors
    /// [`Rejection`] when it was not closed.
    fn close_period(
        &mut self,
        number: u64,
        updates: &mut Vec<Update>,
        monitor: &mut Monitor,
    ) -> Result<Report, Rejection>;

    /// Adds what other servers have committed to a shared store, if the engine was told that there is something. Called
    /// after every round of jobs, of which a ping alone makes one, and after everything that is done without a job.
    fn follow(&mut self, _updates: &mut Vec<Update>, _monitor: &mut Monitor) {}

    /// Finds out whether a commit would succeed.
    ///
    /// # Errors
    /// [`Rejection`] of orders until one succeeds.
    fn probe(&mut self, monitor: &mut Monitor) -> Outcome;

    /// Finds out whether what was committed is still where the next start will look for it.
    ///
    /// # Errors
    /// [`Rejection`] when it is not.
    fn inspect(&mut self, monitor: &mut Monitor) -> Outcome;

    /// Puts the store in order while no orders come, for some milliseconds.
    fn rest(&mut self) -> Rest;

    /// How much the store holds.
    fn measure(&mut self) -> Figures;

    /// Ends in order. Nothing is called after it.
    fn close(&mut self);
}

/// From when on a request counts that was not rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Once the next commit has succeeded.
    InCommit,
    /// It is on disk already, under its keys.
    OnDisk {
        /// The number of its orders, which are not counted again.
        repeats: u64,
    },
}

/// What a commit has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The number of its orders.
    pub orders: u64,
    /// The number of orders that were not counted again, because their key was known.
    pub repeats: u64,
}

/// What was committed, by this server or another on the same store: subscribers have to know it.
#[derive(Debug, Clone)]
pub enum Update {
    /// An order.
    Order {
        /// Its product, the total after it, and its number: one more than that of the order or product before it.
        publication: Publication,
        /// Its time, in milliseconds since 1970 (UTC).
        at_ms: u64,
        /// Its amount.
        amount: Amount,
    },
    /// A new product, with its starting total, which is no order. The shared catalogue has it.
    Product(Publication),
    /// Products of this category were changed in the shared catalogue, or the category is new there.
    Catalog(CategoryIndex),
    /// This period was opened, after all that comes before.
    Period(Arc<CurrentPeriod>),
    /// Everything is different: what is stored went back, or too much was committed to follow it one by one. The shared
    /// catalogue has been replaced.
    #[cfg(feature = "postgres")]
    Replaced(Arc<CurrentPeriod>, Box<Replacement>),
}
