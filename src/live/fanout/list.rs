//! Who subscribes to what: the feeds, the groups in them, and the place of each subscriber.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::group::{Group, ProductState};
use super::place::{Place, Status, address};
use super::subscription::{Counts, Feed, Subscription, feed_number};
use super::{Fanout, json};
use crate::live::subscriber::{SNAPSHOT, Subscriber};
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::Total;

/// Lines of the log that are read for a subscriber that resumes: 10,000, some 5 ms of the history thread. One that is
/// further behind gets a snapshot, which is shorter and exact at once.
const MAX_REPLAY: u64 = 10_000;

/// What the groups of one feed share.
#[derive(Debug)]
pub(super) struct FeedState {
    /// Its groups with subscribers. There are at most as many as there are combinations of a format and options.
    pub(super) groups: Vec<usize>,
    /// The sequence number of its last order; a later one as long as it had no order in this run.
    pub(super) last_seq: u64,
    /// The sequence number of the last order before a product was shown again. A client with a position up to it may
    /// not know the product's total.
    pub(super) shown_after: Option<u64>,
    /// The number of the last change of the catalogue that concerns it.
    pub(super) catalog_changed: u64,
    /// The current totals as a JSON array, until one changes; then the counts of the current period.
    arrays: [Option<Arc<[u8]>>; 2],
}

impl FeedState {
    /// A feed without orders after `last_seq`, of which a product may have been shown again after `shown_after`.
    fn new(last_seq: u64, shown_after: Option<u64>) -> Self {
        Self { groups: Vec::new(), last_seq, shown_after, catalog_changed: 0, arrays: [None, None] }
    }

    /// Notes an order with this sequence number.
    pub(super) fn note(&mut self, seq: u64) {
        self.last_seq = seq;
        self.drop_arrays();
    }

    /// The totals, or what they count, have changed.
    pub(super) fn drop_arrays(&mut self) {
        self.arrays = [None, None];
    }

    /// The feed's current totals as a JSON array.
    pub(super) fn array(&mut self, feed: Feed, counts: Counts, products: &[ProductState]) -> Arc<[u8]> {
        let array = &mut self.arrays[counts as usize];
        if let Some(array) = array {
            return array.clone();
        }
        let products = products.iter().filter(|product| product.is_in(feed));
        let totals = products.map(|product| (product.prefix.as_slice(), product.count(counts, product.total)));
        array.insert(json::totals_array(totals).into()).clone()
    }
}

impl Fanout {
    /// Reads the catalogue if this feed's category is new: a client may know it before the ledger has told of it.
    pub(super) fn load_feed(&mut self, feed: Feed) {
        if feed_number(feed) >= self.feeds.len() {
            self.load_products();
        }
    }

    /// Lists a subscriber and sends it what it missed after the position `since`, or a snapshot.
    pub(super) fn subscribe(&mut self, subscriber: &Arc<Subscriber>, subscription: Subscription, since: Option<&str>) {
        self.load_feed(subscription.feed);
        let status = if subscription.options.notices.status { Status::Owed } else { Status::Unwanted };
        if status == Status::Owed && self.status_subscribers == 0 {
            self.set_status_timer();
        }
        let at = self.list(subscriber, subscription, status);
        let after = since.and_then(|position| self.runs.seq(subscription.feed_in_positions(), position));
        let owed_from = after.and_then(|after| self.owed_after(subscription, after)).unwrap_or(SNAPSHOT);
        self.lag_from(subscriber, owed_from);
        self.finish_if_due(subscriber, at);
    }

    /// Lists a subscriber elsewhere and sends it a snapshot.
    pub(super) fn move_to(&mut self, subscriber: &Arc<Subscriber>, subscription: Subscription) {
        self.load_feed(subscription.feed);
        // One that is not listed any more has ended.
        let Some(Place { status, .. }) = self.unlist(subscriber) else { return };
        let at = self.list(subscriber, subscription, status);
        self.lag_from(subscriber, SNAPSHOT);
        self.finish_if_due(subscriber, at);
    }

    /// Lists a subscriber. Returns the index of its group.
    fn list(&mut self, subscriber: &Arc<Subscriber>, subscription: Subscription, status: Status) -> usize {
        if self.places.is_empty() {
            self.thread().wanted.store(true, Ordering::Release);
            // Publications from before the store have not been announced.
            self.relay(false);
        }
        let at = self.group_for(subscription);
        let place = Place {
            group: at as u32,
            index: self.groups[at].subscribers.len() as u32,
            page_from: None,
            snapshot: None,
            catalog_told: if subscription.options.notices.catalog { self.catalog_changes } else { u64::MAX },
            status,
            news: if subscription.options.is_edge { Status::Owed } else { Status::Unwanted },
        };
        self.places.insert(address(subscriber), place);
        self.groups[at].subscribers.push(subscriber.clone());
        self.status_subscribers += usize::from(status != Status::Unwanted);
        self.shared.counters.list(subscription.format);
        at
    }

    /// From where a subscriber that has seen everything up to this sequence number is owed what it missed; `None` when
    /// it needs a snapshot. It is owed that like one that lags.
    fn owed_after(&self, subscription: Subscription, after: u64) -> Option<u64> {
        let feed = &self.feeds[feed_number(subscription.feed)];
        let is_before_opening = subscription.options.counts == Counts::Period && after <= self.opened_after;
        // A server that follows this one has the totals of hidden products too.
        let may_lack_shown = !subscription.options.is_edge && feed.shown_after.is_some_and(|shown| after <= shown);
        if after > self.last_seq || is_before_opening || may_lack_shown {
            return None;
        }
        if subscription.options.every.is_none() {
            return (feed.last_seq.saturating_sub(after) <= MAX_REPLAY).then_some(after + 1);
        }
        // The orders of earlier runs are not known by product.
        if after < self.started_after {
            return None;
        }
        let products = self.ordered.iter().zip(&self.changed).zip(&self.products);
        let missed = products.filter(|((seq, _), product)| **seq > after && product.is_in(subscription.feed));
        Some(missed.map(|((_, number), _)| *number).min().unwrap_or(self.changes + 1))
    }

    /// Takes a subscriber off its list. Returns its place.
    pub(super) fn unlist(&mut self, subscriber: &Arc<Subscriber>) -> Option<Place> {
        let place = self.places.remove(&address(subscriber))?;
        if self.places.is_empty() {
            self.thread().wanted.store(false, Ordering::Release);
        }
        self.status_subscribers -= usize::from(place.status != Status::Unwanted);
        let (at, index) = (place.group(), place.index as usize);
        let group = &mut self.groups[at];
        self.shared.counters.unlist(group.format());
        group.subscribers.swap_remove(index);
        if let Some(moved) = group.subscribers.get(index)
            && let Some(place) = self.places.get_mut(&address(moved))
        {
            place.index = index as u32;
        }
        if group.subscribers.is_empty() {
            self.remove_group(at);
        }
        Some(place)
    }

    /// The index of the group with these totals, which is added if there is none.
    fn group_for(&mut self, subscription: Subscription) -> usize {
        let feed = feed_number(subscription.feed);
        let is_same = |at: &&usize| self.groups[**at].subscription().shares_totals_with(subscription);
        if let Some(at) = self.feeds[feed].groups.iter().find(is_same) {
            return *at;
        }
        let group = Group::new(subscription, &self.runs);
        let at = match self.vacant.pop() {
            Some(at) => {
                self.groups[at] = group;
                at
            }
            None => {
                self.groups.push(group);
                self.groups.len() - 1
            }
        };
        self.feeds[feed].groups.push(at);
        if subscription.options.every.is_some() {
            self.paced.push(at);
        }
        at
    }

    /// Removes a group without subscribers and frees its memory.
    fn remove_group(&mut self, at: usize) {
        let subscription = self.groups[at].subscription();
        self.feeds[feed_number(subscription.feed)].groups.retain(|other| *other != at);
        self.paced.retain(|other| *other != at);
        self.groups[at].clear();
        self.vacant.push(at);
    }

    /// Reads the categories and products that the ledger has added to the catalogue.
    pub(super) fn load_products(&mut self) {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        // Never shorter: there may be subscribers of a category of a former catalogue.
        let feeds = self.feeds.len().max(catalog.categories().len() + 1);
        self.feeds.resize_with(feeds, || FeedState::new(self.last_seq, self.shown_after));
        let known = self.products.len();
        for product in &catalog.products()[known..] {
            let of_category = &catalog.category(product.category).products;
            let index = self.products.len() as u32;
            self.products.push(ProductState {
                category: product.category,
                // The products of a category are in the order of the catalogue.
                number: of_category.partition_point(|other| other.0 < index) as u32,
                prefix: json::total_prefix(&product.id),
                total: Total::default(),
                opening: Total::default(),
                is_hidden: product.is_hidden,
            });
        }
        drop(catalog);
        self.changed.resize(self.products.len(), 0);
        self.ordered.resize(self.products.len(), 0);
        let added: Vec<CategoryIndex> = self.products[known..].iter().map(|product| product.category).collect();
        for category in added {
            self.note_catalog_change(category);
        }
    }
}
