//! The engine for a store that this server alone writes. Owns the totals and the current period, counts in memory, and
//! undoes that when the store cannot keep it.

mod pending;

use std::sync::{Arc, PoisonError};

use crate::ledger::catalog_changes::CatalogChange;
use crate::ledger::engine::{Committed, Counted, Engine, Update};
use crate::ledger::monitor::Monitor;
use crate::ledger::rejection::Rejection;
use crate::ledger::reply::Outcome;
use crate::ledger::request::{Order, Request, digest};
use crate::log::Throttle;
use crate::store::{Change, Figures, KeyUse, Rest, Store, now_ms};
use crate::tally::catalog::{CatalogError, SharedCatalog};
use crate::tally::order::{Key, Publication, Total};
use crate::tally::period::{CurrentPeriod, Report};

use pending::Pending;

/// Counts in memory, and has a [`Store`] keep it.
pub struct LocalEngine<S> {
    store: S,
    totals: Vec<Total>,
    /// Whether each product is hidden: a copy of what the catalogue says, which needs no lock.
    hidden: Vec<bool>,
    last_seq: u64,
    period: Arc<CurrentPeriod>,
    /// Changed by the ledger's thread only.
    catalog: SharedCatalog,
    pending: Pending,
    keys_throttle: Throttle,
}

/// Orders that were not rejected.
#[derive(Clone, Copy)]
struct Accepted {
    /// Whether all of them are on disk already, and not in the next commit.
    are_on_disk: bool,
    /// The number of those that are not counted again, because their key is known.
    repeats: u64,
}

impl<S: Store> LocalEngine<S> {
    /// An engine on what the store held when it was opened: the total of each product, the number of the last order, the
    /// current period, and the catalogue.
    pub fn new(
        store: S,
        totals: Vec<Total>,
        last_seq: u64,
        period: Arc<CurrentPeriod>,
        catalog: SharedCatalog,
    ) -> Self {
        let hidden = {
            let catalog = catalog.read().unwrap_or_else(PoisonError::into_inner);
            catalog.products().iter().map(|product| product.is_hidden).collect()
        };
        let (pending, keys_throttle) = (Pending::default(), Throttle::default());
        Self { store, totals, hidden, last_seq, period, catalog, pending, keys_throttle }
    }

    /// Counts one order in memory and adds it to the next commit, unless its key is known.
    fn count_order(
        &mut self,
        Order { product, amount, key }: Order,
        monitor: &mut Monitor,
    ) -> Result<Accepted, Rejection> {
        if let Some(key) = &key
            && let Some((used, are_on_disk)) = self.find_key(key, monitor)?
        {
            let is_repeat = used == KeyUse::Order(product, amount);
            return is_repeat.then_some(Accepted { are_on_disk, repeats: 1 }).ok_or(Rejection::KeyReused);
        }
        if self.hidden[product.0 as usize] {
            return Err(Rejection::Hidden);
        }
        if key.is_some() {
            self.check_room_for_key(monitor)?;
        }
        let current = &mut self.totals[product.0 as usize];
        let total = current.plus(amount).ok_or(Rejection::TotalOutOfRange)?;
        *current = total;
        self.last_seq += 1;
        self.pending.push(Change::Order { seq: self.last_seq, at_ms: now_ms(), product, amount, total, key });
        Ok(Accepted { are_on_disk: false, repeats: 0 })
    }

    /// Counts all of these orders or none.
    fn count_batch(
        &mut self,
        orders: Vec<Order>,
        key: Option<Key>,
        monitor: &mut Monitor,
    ) -> Result<Accepted, Rejection> {
        let digest = digest(&orders);
        if let Some(key) = &key
            && let Some((used, are_on_disk)) = self.find_key(key, monitor)?
        {
            let repeats = orders.len() as u64;
            let is_repeat = used == KeyUse::Batch(digest);
            return is_repeat.then_some(Accepted { are_on_disk, repeats }).ok_or(Rejection::KeyReused);
        }
        // A key with two uses would hide one of them.
        if key.is_some()
            && let Some(place) = orders.iter().position(|order| order.key == key)
        {
            return Err(Rejection::InBatch(place, Box::new(Rejection::KeyReused)));
        }
        let begun = self.pending.changes.len();
        let mut all = Accepted { are_on_disk: true, repeats: 0 };
        for (place, order) in orders.into_iter().enumerate() {
            match self.count_order(order, monitor) {
                Ok(Accepted { are_on_disk, repeats }) => {
                    all.are_on_disk &= are_on_disk;
                    all.repeats += repeats;
                }
                Err(rejection) => {
                    self.undo(begun);
                    return Err(Rejection::InBatch(place, Box::new(rejection)));
                }
            }
        }
        if let Some(key) = key {
            if let Err(rejection) = self.check_room_for_key(monitor) {
                self.undo(begun);
                return Err(rejection);
            }
            self.pending.push(Change::BatchKey { key, digest });
            all.are_on_disk = false;
        }
        Ok(all)
    }

    /// The use of a key, and whether it is on disk yet.
    fn find_key(&mut self, key: &Key, monitor: &mut Monitor) -> Result<Option<(KeyUse, bool)>, Rejection> {
        if let Some(used) = self.pending.find_key(key) {
            return Ok(Some((used, false)));
        }
        let used = monitor.read(|| self.store.find_key(key))?;
        Ok(used.map(|used| (used, true)))
    }

    /// Rejects a new key when no more may be stored.
    fn check_room_for_key(&mut self, monitor: &mut Monitor) -> Result<(), Rejection> {
        if monitor.read(|| self.store.has_room_for_key(self.pending.key_count()))? {
            return Ok(());
        }
        if self.keys_throttle.allows() {
            log::warn!("orders with new keys are rejected: as many keys are stored as --max-keys allows");
        }
        Err(Rejection::KeysFull)
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

    /// Makes a change that is on disk in the shared catalogue.
    fn show(&mut self, change: Change) -> Result<Option<Update>, CatalogError> {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(match change {
            Change::Product(product, total) => {
                let product = catalog.add_product(product.category, &product.id, product.details)?;
                self.totals.push(total);
                self.hidden.push(false);
                self.last_seq += 1;
                Update::Product(Publication { product, total, seq: self.last_seq })
            }
            Change::ChangedProduct { product, after, .. } => {
                catalog.change_product(product, after.details, after.is_hidden)?;
                self.hidden[product.0 as usize] = after.is_hidden;
                Update::Catalog(after.category)
            }
            Change::Category(category) => {
                let index = catalog.add_category(&category.name, &category.prefix)?;
                catalog.set_title(index, &category.title)?;
                Update::Catalog(index)
            }
            Change::Title { category, after, .. } => {
                catalog.set_title(category, &after)?;
                Update::Catalog(category)
            }
            // The others change nothing in it.
            _ => return Ok(None),
        }))
    }
}

impl<S: Store> Engine for LocalEngine<S> {
    fn count(&mut self, request: Request, monitor: &mut Monitor) -> Result<Counted, Rejection> {
        let Accepted { are_on_disk, repeats } = match request {
            Request::Order(order) => self.count_order(order, monitor)?,
            Request::Batch { orders, key } => self.count_batch(orders, key, monitor)?,
        };
        if are_on_disk {
            return Ok(Counted::OnDisk { repeats });
        }
        self.pending.repeats += repeats;
        Ok(Counted::InCommit)
    }

    fn pending(&self) -> usize {
        self.pending.changes.len()
    }

    fn commit(
        &mut self,
        _: &mut [Outcome],
        updates: &mut Vec<Update>,
        monitor: &mut Monitor,
    ) -> Result<Committed, Rejection> {
        let repeats = std::mem::take(&mut self.pending.repeats);
        if let Err(rejection) = write(&mut self.store, &self.pending.changes, monitor) {
            self.undo(0);
            return Err(rejection);
        }
        let before = updates.len();
        updates.extend(self.pending.changes.iter().filter_map(|change| match change {
            Change::Order { seq, at_ms, product, amount, total, .. } => {
                let publication = Publication { product: *product, total: *total, seq: *seq };
                Some(Update::Order { publication, at_ms: *at_ms, amount: *amount })
            }
            _ => None,
        }));
        self.pending.clear();
        Ok(Committed { orders: (updates.len() - before) as u64, repeats })
    }

    fn change_catalog(&mut self, change: CatalogChange, updates: &mut Vec<Update>, monitor: &mut Monitor) -> Outcome {
        let planned = change.plan(&self.catalog.read().unwrap_or_else(PoisonError::into_inner), self.last_seq)?;
        let Some(mut changes) = planned else { return self.inspect(monitor) };
        write(&mut self.store, &changes, monitor)?;
        updates.extend(self.show(changes.swap_remove(0))?);
        Ok(())
    }

    fn close_period(
        &mut self,
        number: u64,
        updates: &mut Vec<Update>,
        monitor: &mut Monitor,
    ) -> Result<Report, Rejection> {
        let current = self.period.period;
        if number != current.number {
            // A repeat, which takes this for a confirmation, gets it only while the file is where the next start looks.
            self.inspect(monitor)?;
            return Err(Rejection::NotCurrentPeriod { number, current: current.number });
        }
        let next = current.next(now_ms(), self.last_seq);
        write(&mut self.store, &[Change::Period(next)], monitor)?;
        let report = Report { closed_ms: Some(next.opened_ms), ..self.period.report(&self.totals) };
        self.period = Arc::new(CurrentPeriod { period: next, openings: self.totals.clone() });
        updates.push(Update::Period(self.period.clone()));
        Ok(report)
    }

    fn probe(&mut self, monitor: &mut Monitor) -> Outcome {
        monitor.probe(|| self.store.commit(&[]))
    }

    fn inspect(&mut self, monitor: &mut Monitor) -> Outcome {
        monitor.inspect(|| self.store.inspect())
    }

    fn rest(&mut self) -> Rest {
        self.store.rest()
    }

    fn measure(&mut self) -> Figures {
        self.store.measure()
    }

    fn close(&mut self) {
        self.store.close();
    }
}

fn write(store: &mut impl Store, changes: &[Change], monitor: &mut Monitor) -> Outcome {
    monitor.commit(|| store.commit(changes))?;
    monitor.synced(store.sync_time());
    Ok(())
}
