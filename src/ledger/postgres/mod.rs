//! The engine for a database that several servers share. It decides nothing by what it has in memory: the database counts,
//! and what it has committed, for this server or another, is followed in one order.

// PostgreSQL is a name, not code.
#![allow(clippy::doc_markdown)]

mod following;
mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalog_changes::CatalogChange;
use super::engine::{Committed, Counted, Engine, Update};
use super::monitor::Monitor;
use super::rejection::Rejection;
use super::reply::Outcome;
use super::request::{Order, Request, digest};
use crate::log::Throttle;
use crate::store::postgres::{Batch, Commit, EVERYTHING, Node, Page, Refusal, Verdict};
use crate::store::{Change, Figures, Rest, StoreError, now_ms};
use crate::tally::period::Report;

pub use following::Following;
pub use view::View;

/// After how many orders some of what need not be kept is deleted, while orders come all the time: half of what one call
/// deletes.
const PRUNE_AFTER: u64 = 2_048;

/// How long a commit gathers requests that comes after orders of other servers: a quarter of the time of the commit before
/// it, and at most 5 ms.
const GATHERED_PART: u32 = 4;
const LONGEST_GATHERING: Duration = Duration::from_millis(5);

/// How many pages are followed at a time, of which nothing is shown before: twice what a server may be behind. If others
/// commit faster than that is read, everything is loaded.
const MOST_PAGES: usize = 20;

/// Counts in a database.
pub struct PostgresEngine {
    node: Node,
    view: View,
    batch: Batch,
    following: Arc<Following>,
    gathers_until: Option<Instant>,
    /// Orders since something was last deleted.
    unpruned: u64,
    keys_throttle: Throttle,
}

/// Something that a database decides after it has been followed up to the present.
type Plan<'a> = dyn FnMut(&View) -> Result<Option<Vec<Change>>, Rejection> + 'a;

impl PostgresEngine {
    /// An engine at this place of the database, with what was loaded there. `following` is asked by whoever hears that
    /// another server has committed something, before it wakes the ledger.
    pub fn new(node: Node, view: View, following: Arc<Following>) -> Self {
        let (batch, keys_throttle) = (Batch::default(), Throttle::default());
        Self { node, view, batch, following, gathers_until: None, unpruned: 0, keys_throttle }
    }

    /// Shows what was committed, and what the page leaves out; loads everything where it does not continue what is known.
    fn show(&mut self, mut page: Page, updates: &mut Vec<Update>) -> Result<(), StoreError> {
        for _ in 0..MOST_PAGES {
            let has_more = page.has_more;
            if self.view.apply(page, updates).is_err() {
                break;
            }
            if !has_more {
                return Ok(());
            }
            page = self.node.page(self.view.place())?;
        }
        updates.push(self.view.replace(self.node.load()?));
        Ok(())
    }

    fn catch_up(&mut self, updates: &mut Vec<Update>) -> Result<(), StoreError> {
        let page = self.node.page(self.view.place())?;
        self.show(page, updates)
    }

    /// Begins a change with a view of everything that was committed before.
    fn begin_change(&mut self, updates: &mut Vec<Update>) -> Result<(), StoreError> {
        for _ in 0..2 {
            let page = self.node.begin_change(self.view.place())?;
            if page.has_more {
                // Nobody waits for this server to follow.
                self.node.abandon_change();
                self.show(page, updates)?;
            } else if self.view.apply(page, updates).is_ok() {
                return Ok(());
            } else {
                self.node.abandon_change();
                updates.push(self.view.replace(self.node.load()?));
            }
        }
        Err(StoreError::Away("another primary takes over".into()))
    }

    /// Plans a change by what is stored now, and commits it before anybody else commits something.
    fn change(&mut self, plan: &mut Plan<'_>, updates: &mut Vec<Update>, monitor: &mut Monitor) -> Outcome {
        monitor.commit(|| {
            self.begin_change(updates)?;
            match plan(&self.view) {
                Ok(Some(changes)) => {
                    self.node.finish_change(&changes)?;
                    // Its own change comes back like those of others.
                    self.catch_up(updates).map_err(StoreError::in_the_middle)?;
                    Ok(Ok(()))
                }
                unchanged => {
                    self.node.abandon_change();
                    Ok(unchanged.map(drop))
                }
            }
        })?
    }

    fn rejection(&mut self, refusal: Refusal) -> Rejection {
        match refusal {
            Refusal::KeyReused => Rejection::KeyReused,
            Refusal::Hidden => Rejection::Hidden,
            Refusal::TotalOutOfRange => Rejection::TotalOutOfRange,
            Refusal::KeysFull => {
                if self.keys_throttle.allows() {
                    log::warn!("orders with new keys are rejected: as many keys are stored as may be");
                }
                Rejection::KeysFull
            }
        }
    }
}

impl Engine for PostgresEngine {
    fn count(&mut self, request: Request, _: &mut Monitor) -> Result<Counted, Rejection> {
        match request {
            Request::Order(Order { product, amount, key }) => self.batch.push_order(product, amount, key),
            Request::Batch { orders, key } => {
                let digest = digest(&orders);
                let orders = orders.into_iter().map(|Order { product, amount, key }| (product, amount, key));
                self.batch.push_batch(orders, key, digest);
            }
        }
        Ok(Counted::InCommit)
    }

    fn pending(&self) -> usize {
        // A batch may be without orders.
        self.batch.orders().max(self.batch.sizes().len())
    }

    fn commit(
        &mut self,
        outcomes: &mut [Outcome],
        updates: &mut Vec<Update>,
        monitor: &mut Monitor,
    ) -> Result<Committed, Rejection> {
        let batch = std::mem::take(&mut self.batch);
        // A commit shows everything that was committed before it too.
        let asked = self.following.begin();
        let (begun, known) = (Instant::now(), self.view.place().seq);
        let verdicts = monitor.commit(|| {
            let Commit { verdicts, page } = self.node.commit(&batch, self.view.place())?;
            self.show(page, updates).map_err(StoreError::in_the_middle)?;
            Ok(verdicts)
        })?;
        if let Some((number, _)) = asked {
            self.following.finish(number);
        }
        let mut committed = Committed { orders: 0, repeats: 0 };
        for ((verdict, size), outcome) in verdicts.into_iter().zip(batch.sizes()).zip(outcomes) {
            match verdict {
                Verdict::Counted(repeats) => {
                    committed.orders += size.saturating_sub(repeats);
                    committed.repeats += repeats;
                }
                Verdict::Refused(refusal, None) => *outcome = Err(self.rejection(refusal)),
                Verdict::Refused(refusal, Some(place)) => {
                    *outcome = Err(Rejection::InBatch(place, Box::new(self.rejection(refusal))));
                }
            }
        }
        // Others commit too: a commit that begins now stands behind theirs, and what comes after it has to wait for it.
        let is_shared = self.view.place().seq.saturating_sub(known) > committed.orders;
        self.gathers_until = is_shared.then(|| Instant::now() + LONGEST_GATHERING.min(begun.elapsed() / GATHERED_PART));
        self.unpruned += committed.orders;
        if self.unpruned >= PRUNE_AFTER {
            self.unpruned = 0;
            // The next call tries again.
            let _ = self.node.prune();
        }
        Ok(committed)
    }

    fn is_quick(&self) -> bool {
        false
    }

    fn gathers_until(&self) -> Option<Instant> {
        self.gathers_until
    }

    fn change_catalog(&mut self, change: CatalogChange, updates: &mut Vec<Update>, monitor: &mut Monitor) -> Outcome {
        let mut plan = |view: &View| change.clone().plan(&view.catalog(), view.place().seq);
        self.change(&mut plan, updates, monitor)
    }

    fn close_period(
        &mut self,
        number: u64,
        updates: &mut Vec<Update>,
        monitor: &mut Monitor,
    ) -> Result<Report, Rejection> {
        let mut report = None;
        let mut plan = |view: &View| {
            let current = view.period().period;
            if number != current.number {
                return Err(Rejection::NotCurrentPeriod { number, current: current.number });
            }
            let next = current.next(now_ms(), view.place().seq);
            report = Some(Report { closed_ms: Some(next.opened_ms), ..view.report() });
            Ok(Some(vec![Change::Period(next)]))
        };
        self.change(&mut plan, updates, monitor)?;
        report.ok_or(Rejection::Unknown)
    }

    fn follow(&mut self, updates: &mut Vec<Update>, monitor: &mut Monitor) {
        if let Some((number, wanted)) = self.following.begin()
            && (self.view.has(wanted) || monitor.inspect(|| self.catch_up(updates)).is_ok())
        {
            self.following.finish(number);
        }
    }

    fn probe(&mut self, monitor: &mut Monitor) -> Outcome {
        self.following.ask(EVERYTHING);
        monitor.probe(|| self.node.probe())
    }

    fn inspect(&mut self, monitor: &mut Monitor) -> Outcome {
        // What was committed is where every server finds it.
        monitor.inspect(|| Ok(()))
    }

    fn rest(&mut self) -> Rest {
        if self.node.prune().unwrap_or(true) { Rest::Done } else { Rest::Later }
    }

    fn measure(&mut self) -> Figures {
        self.node.measure()
    }

    fn close(&mut self) {
        self.node.close();
    }
}
