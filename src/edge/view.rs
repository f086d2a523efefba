//! What is known here of the server that is followed, and how it is brought up to date. Owns what is published here when.

use std::collections::VecDeque;
use std::sync::PoisonError;

use crate::live::fanout::{FanoutHandle, Replacement};
use crate::tally::catalog::{Catalog, CategoryIndex, SharedCatalog};
use crate::tally::edge::EdgeStart;
use crate::tally::order::{Publication, Total};
use crate::tally::position::RunList;

/// The feed of all products, as positions name it.
const ALL: u32 = 0;

/// What is known.
pub struct View {
    fanout: FanoutHandle,
    catalog: SharedCatalog,
    runs: RunList,
    /// The number of the last order.
    seq: u64,
    /// The total of each product.
    totals: Vec<Total>,
    openings: Vec<Total>,
    opened_after: u64,
    shown_after: Option<u64>,
    /// Periods that begin after an order that has not come yet, with their openings, or without if those are the totals.
    next_periods: VecDeque<(u64, Option<Vec<Total>>)>,
    /// Whether anything is known that can be gone on from.
    has_begun: bool,
}

/// How a view was brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It goes on behind its last order.
    GoesOn,
    /// It has begun.
    Begun,
    /// The other server does not know what was known here, so everything was replaced.
    Replaced,
}

impl View {
    /// Nothing is known.
    #[must_use]
    pub fn new(fanout: FanoutHandle, catalog: SharedCatalog) -> Self {
        Self {
            fanout,
            catalog,
            runs: RunList::default(),
            seq: 0,
            totals: Vec::new(),
            openings: Vec::new(),
            opened_after: 0,
            shown_after: None,
            next_periods: VecDeque::new(),
            has_begun: false,
        }
    }

    /// Whether anything is known.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.runs.last_id().is_some()
    }

    /// The number of the last order.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The position behind the last order.
    #[must_use]
    pub fn position(&self) -> String {
        self.runs.prefix(ALL).at(self.seq)
    }

    /// The number of the order behind which this position is.
    #[must_use]
    pub fn seq_of(&self, position: &str) -> Option<u64> {
        self.runs.seq(ALL, position)
    }

    /// What is known cannot be gone on from.
    pub fn forget(&mut self) {
        self.has_begun = false;
    }

    /// Brings everything but orders up to date, and orders too if they cannot be followed from the last one on.
    pub fn join(&mut self, catalog: Catalog, start: EdgeStart) -> Joined {
        let is_known = start.runs.seq(ALL, &self.position()) == Some(self.seq) && self.seq <= start.last_seq;
        if self.has_begun && is_known && self.extends(&catalog) {
            self.go_on(catalog, start);
            return Joined::GoesOn;
        }
        let is_first = !self.has_begun();
        let keeps_categories = self.keeps_categories(&catalog);
        self.replace_catalog(catalog);
        let EdgeStart { totals, openings, opened_after, opened_before, last_seq, shown_after, runs, .. } = start;
        (self.runs, self.seq, self.openings) = (runs.clone(), last_seq, openings.clone());
        (self.opened_after, self.shown_after) = (opened_after, shown_after);
        (self.totals, self.has_begun) = (totals.clone(), true);
        self.next_periods.clear();
        self.fanout.replace(Replacement {
            totals,
            openings,
            opened_after,
            opened_before,
            last_seq,
            shown_after,
            runs,
            keeps_categories,
        });
        if is_first { Joined::Begun } else { Joined::Replaced }
    }

    /// Publishes an order, which follows the last one. Returns whether its product is known.
    #[must_use]
    pub fn publish(&mut self, id: &str, total: Total) -> bool {
        let found = self.catalog.read().unwrap_or_else(PoisonError::into_inner).find_product(id);
        let Some(product) = found else { return false };
        self.seq += 1;
        let place = product.0 as usize;
        self.totals.resize(self.totals.len().max(place + 1), Total::default());
        self.totals[place] = total;
        self.fanout.publish(&[Publication { product, total, seq: self.seq }]);
        self.fanout.wake();
        self.open_periods();
        true
    }

    /// Opens the periods that are due.
    fn open_periods(&mut self) {
        while self.next_periods.front().is_some_and(|(after, _)| *after <= self.seq)
            && let Some((after, openings)) = self.next_periods.pop_front()
        {
            (self.opened_after, self.openings) = (after, openings.unwrap_or_else(|| self.totals.clone()));
            self.fanout.publish_period(self.openings.as_slice().into(), after);
        }
    }

    /// Whether this catalogue has everything that is known at the same place.
    fn extends(&self, catalog: &Catalog) -> bool {
        if !self.keeps_categories(catalog) {
            return false;
        }
        let known = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let (known, products) = (known.products(), catalog.products());
        known.len() <= products.len() && known.iter().zip(products).all(|(one, other)| one.id == other.id)
    }

    /// Whether this catalogue has every category that is known at the same place.
    fn keeps_categories(&self, catalog: &Catalog) -> bool {
        let known = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let (known, categories) = (known.categories(), catalog.categories());
        known.len() <= categories.len() && known.iter().zip(categories).all(|(one, other)| one.name == other.name)
    }

    fn go_on(&mut self, catalog: Catalog, start: EdgeStart) {
        if start.runs != self.runs {
            self.runs = start.runs.clone();
            self.fanout.set_runs(start.runs);
        }
        for category in self.replace_catalog(catalog) {
            self.fanout.publish_catalog(category);
        }
        if let Some(seq) = start.shown_after.filter(|_| start.shown_after > self.shown_after) {
            // A client that comes from the other server may have a position before it, and not the product.
            self.shown_after = Some(seq);
            self.fanout.publish_shown_after(seq);
        }
        // What was added since a period was opened has an opening only if it was added with a total, before a start.
        if start.opened_after != self.opened_after || !are_same(&start.openings, &self.openings) {
            let known = self.opened_after;
            let missed =
                start.opened_before.into_iter().filter(|after| (known + 1..start.opened_after).contains(after));
            // Only behind the last order the totals are those of its opening.
            self.next_periods = missed.filter(|after| *after >= self.seq).map(|after| (after, None)).collect();
            self.next_periods.push_back((start.opened_after, Some(start.openings)));
            self.open_periods();
        }
    }

    /// Replaces the shared catalogue. Returns the categories that have changed.
    fn replace_catalog(&self, mut catalog: Catalog) -> Vec<CategoryIndex> {
        let mut known = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = |index: &usize| {
            let (one, other) = (known.categories().get(*index), &catalog.categories()[*index]);
            one.is_none_or(|one| {
                let products = one.products.iter().map(|at| known.product(*at));
                one.title != other.title || !products.eq(other.products.iter().map(|at| catalog.product(*at)))
            })
        };
        let changed: Vec<usize> = (0..catalog.categories().len()).filter(has_changed).collect();
        if !changed.is_empty() || catalog.categories().len() < known.categories().len() {
            catalog.replaces(&known);
            *known = catalog;
        }
        changed.into_iter().map(|index| CategoryIndex(index as u32)).collect()
    }
}

/// Whether these openings are the same, where missing ones are 0.
fn are_same(one: &[Total], other: &[Total]) -> bool {
    let padded = |totals: &[Total], place| totals.get(place).copied().unwrap_or_default();
    (0..one.len().max(other.len())).all(|place| padded(one, place) == padded(other, place))
}
