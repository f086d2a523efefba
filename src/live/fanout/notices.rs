//! What subscribers are told beside totals: the status from time to time, and changes of the catalogue. Both are owed: a
//! subscriber whose socket is full lags, and gets them before what it missed of the totals.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::place::{Status, address};
use super::subscription::{ALL, Feed, feed_number};
use super::{Fanout, json};
use crate::live::subscriber::Subscriber;
use crate::tally::catalog::CategoryIndex;

/// How often subscribers are told the status, in microseconds: every 15 s, so that a page knows within half a minute
/// whether a quiet feed is stuck.
const STATUS_EVERY: u64 = Duration::from_secs(15).as_micros() as u64;

/// The number of news in a page of notices, where 0 is the status and others are changes of the catalogue.
const NEWS: u64 = u64::MAX;

impl Fanout {
    /// Every subscriber is told the status an interval from now.
    pub(super) fn set_status_timer(&mut self) {
        self.status_at = self.now() + STATUS_EVERY;
    }

    /// Tells the status to those who want it, when it is time. This thread does it, so its silence shows that no total
    /// would come either.
    pub(super) fn send_status_if_due(&mut self) {
        if self.status_subscribers == 0 || self.now() < self.status_at {
            return;
        }
        self.tell_status();
    }

    /// Notes whether new totals are heard of, and tells those who want to know the status when that changes.
    pub(super) fn set_stale(&mut self, is_stale: bool) {
        if std::mem::replace(&mut self.is_stale, is_stale) != is_stale && self.status_subscribers > 0 {
            self.tell_status();
        }
    }

    fn tell_status(&mut self) {
        self.set_status_timer();
        let told = self.places.values_mut().filter(|place| place.status == Status::Told);
        told.for_each(|place| place.status = Status::Owed);
        self.catch_up_all();
    }

    /// Notes that products of this category were changed, or that it is new.
    pub(super) fn note_catalog_change(&mut self, category: CategoryIndex) {
        self.catalog_changes += 1;
        for feed in [ALL, feed_number(Feed::Category(category))] {
            self.feeds[feed].catalog_changed = self.catalog_changes;
        }
        self.has_news = true;
    }

    /// Catches up every subscriber that lags, and those that are owed a notice. Every round must have been sent before.
    pub(super) fn catch_up_all(&mut self) {
        for at in 0..self.groups.len() {
            // Behind everything that was sent, so that it has missed nothing.
            let next = if self.groups[at].has_every_order() { self.last_seq } else { self.changes } + 1;
            let mut index = 0;
            while let Some(subscriber) = self.groups[at].subscribers.get(index).cloned() {
                let is_lagging = subscriber.is_lagging();
                if is_lagging || self.is_owed_notice(&subscriber) {
                    if !is_lagging {
                        let _ = subscriber.lag_from(next);
                    }
                    self.catch_up(&subscriber);
                }
                index += 1;
            }
        }
    }

    /// Whether a subscriber must be told something beside totals.
    pub(super) fn is_owed_notice(&self, subscriber: &Arc<Subscriber>) -> bool {
        self.places.get(&address(subscriber)).is_some_and(|place| {
            let feed = feed_number(self.groups[place.group()].subscription().feed);
            place.status == Status::Owed
                || place.news == Status::Owed
                || self.feeds[feed].catalog_changed > place.catalog_told
        })
    }

    /// Sends as much as the socket takes of the notices that a subscriber is owed.
    pub(super) fn send_notices(&mut self, subscriber: &Arc<Subscriber>) {
        let Some(place) = self.places.get_mut(&address(subscriber)) else { return };
        let group = &self.groups[place.group()];
        self.page.clear();
        if place.status == Status::Owed {
            let status = if self.is_stale { json::STATUS_STALE } else { json::STATUS_LIVE };
            group.push_notice(&mut self.page, 0, "status", status);
        }
        if place.news == Status::Owed {
            group.push_notice(&mut self.page, NEWS, "news", &json::news_notice(self.news));
        }
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let categories = catalog.categories().iter().zip(&self.feeds[ALL + 1..]).enumerate();
        let mut changed: Vec<_> = (categories.filter(|(_, (_, feed))| feed.catalog_changed > place.catalog_told))
            .filter(|(index, _)| match group.subscription().feed {
                Feed::All => true,
                Feed::Category(category) => category.0 as usize == *index,
            })
            .map(|(_, (category, feed))| (feed.catalog_changed, &category.name))
            .collect();
        changed.sort_unstable();
        for (number, name) in changed {
            if self.page.is_full() {
                break;
            }
            group.push_notice(&mut self.page, number, "catalog", &json::catalog_notice(name));
        }
        drop(catalog);
        let taken = subscriber.offer_missed(&self.page.bytes, &self.page.ends, &mut self.sent);
        for number in &self.page.numbers[..taken] {
            match number {
                0 => place.status = Status::Told,
                &NEWS => place.news = Status::Told,
                number => place.catalog_told = *number,
            }
        }
    }
}
