//! What the fan-out does when the catalogue was changed or a period was opened.
//!
//! Both happen between two publications. What was published before is sent before; what a subscriber is sent instead of
//! an order, a snapshot or a notice, follows at the end of the round, when all totals are current.

use std::sync::PoisonError;

use super::Fanout;
use super::group::{Change, Group};
use super::list::FeedState;
use super::place::{Status, address};
use super::recent::Recent;
use super::subscription::{ALL, Feed, feed_number};
use super::waiting::{Marker, Replacement};
use crate::live::subscriber::SNAPSHOT;
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::Total;

impl Fanout {
    pub(super) fn apply(&mut self, marker: Marker, now: u64) {
        self.send_rounds(false);
        match marker {
            Marker::Catalog(category) => self.reload(category, now),
            Marker::Period(openings, opened_after) => self.open_period(&openings, opened_after),
            Marker::Replaced(replacement) => self.replace(&replacement),
            Marker::Runs(runs) => self.set_runs(*runs),
            Marker::ShownAfter(seq) => self.note_shown(seq),
        }
        self.tell_edges();
        self.has_news = true;
    }

    /// A product may have been shown again after any order up to this one: who has not seen a later one gets a snapshot.
    fn note_shown(&mut self, seq: u64) {
        self.shown_after = self.shown_after.max(Some(seq));
        self.feeds.iter_mut().for_each(|feed| feed.shown_after = feed.shown_after.max(Some(seq)));
    }

    /// Owes news to the servers that follow this one. Each lags from here on, so that it gets them before any later
    /// order.
    fn tell_edges(&mut self) {
        let next = self.last_seq + 1;
        for group in self.groups.iter().filter(|group| group.is_of_edges()) {
            for subscriber in &group.subscribers {
                if let Some(place) = self.places.get_mut(&address(subscriber)) {
                    place.news = Status::Owed;
                }
                if !subscriber.is_lagging() {
                    let _ = subscriber.lag_from(next);
                }
            }
        }
    }

    /// Reads the products of this category again. The totals of those that are shown again are sent at once.
    fn reload(&mut self, category: CategoryIndex, now: u64) {
        self.load_products();
        let mut shown = Vec::new();
        {
            let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
            let products = catalog.categories().get(category.0 as usize).map(|category| &category.products);
            for index in products.into_iter().flatten() {
                let is_hidden = catalog.product(*index).is_hidden;
                // One that was added meanwhile is read with its publication.
                let Some(product) = self.products.get_mut(index.0 as usize) else { continue };
                if std::mem::replace(&mut product.is_hidden, is_hidden) && !is_hidden {
                    shown.push(index.0);
                }
            }
        }
        self.note_catalog_change(category);
        let feeds = [ALL, feed_number(Feed::Category(category))];
        for feed in feeds {
            self.feeds[feed].drop_arrays();
        }
        for index in shown {
            self.changes += 1;
            self.changed[index as usize] = self.changes;
            // It belongs behind all orders: a position that covers it is one after them.
            let seq = self.last_seq + 1;
            let change = Change { index, number: self.changes, seq, merged: 0, has_gaps: false, now };
            for feed in feeds {
                self.feeds[feed].shown_after = Some(self.last_seq);
                for place in 0..self.feeds[feed].groups.len() {
                    let at = self.feeds[feed].groups[place];
                    // A server that follows this one has the total, and finds it shown.
                    if !self.groups[at].is_of_edges() {
                        self.groups[at].add_shown(&self.products[index as usize], &change);
                        self.send_round(at, false);
                    }
                }
            }
        }
    }

    /// Counts from these totals on. Every subscriber that counts the period gets a snapshot, whatever it was owed before.
    fn open_period(&mut self, openings: &[Total], opened_after: u64) {
        self.load_products();
        self.set_openings(openings);
        self.note_opening(opened_after);
        self.feeds.iter_mut().for_each(FeedState::drop_arrays);
        self.owe_snapshots(Group::is_of_period);
    }

    /// Begins again with other totals and runs.
    fn replace(&mut self, replacement: &Replacement) {
        let Replacement { totals, openings, opened_before, runs, .. } = replacement;
        self.products.clear();
        self.changed.clear();
        self.ordered.clear();
        self.load_products();
        for (product, total) in self.products.iter_mut().zip(totals) {
            product.total = *total;
        }
        self.set_openings(openings);
        let last_seq = replacement.last_seq;
        (self.last_seq, self.started_after, self.opened_after) = (last_seq, last_seq, replacement.opened_after);
        self.shown_after = replacement.shown_after;
        self.opened_before = opened_before.iter().copied().collect();
        self.recent = Recent::new(last_seq);
        self.runs = runs.clone();
        for feed in &mut self.feeds {
            (feed.last_seq, feed.shown_after) = (last_seq, self.shown_after);
            feed.drop_arrays();
        }
        self.groups.iter_mut().for_each(|group| group.begin_again(&self.runs));
        if !replacement.keeps_categories {
            self.groups.iter().flat_map(|group| &group.subscribers).for_each(|subscriber| subscriber.reset());
        }
        self.owe_snapshots(|_| true);
    }

    /// Every subscriber of these groups is owed a snapshot, and nothing that it was owed before.
    fn owe_snapshots(&mut self, of: impl Fn(&Group) -> bool) {
        for subscriber in self.groups.iter().filter(|group| of(group)).flat_map(|group| &group.subscribers) {
            if let Some(place) = self.places.get_mut(&address(subscriber)) {
                (place.snapshot, place.page_from) = (None, None);
            }
            let _ = subscriber.lag_from(SNAPSHOT);
        }
    }

    pub(super) fn set_openings(&mut self, openings: &[Total]) {
        for (product, opening) in self.products.iter_mut().zip(openings) {
            product.opening = *opening;
        }
    }
}
