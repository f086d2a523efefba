//! How a subscriber joins the stream: for the first time, after it has lagged, or after it was away. Owns what it is
//! sent instead of the orders that it missed; how a lag begins is decided by [`Subscriber`].
//!
//! What a subscriber missed is encoded for it alone, as much as its socket takes at a time. So a slow one holds no
//! memory for it, however large the catalogue is, and gets totals as they are when its socket has room.

use std::num::NonZero;
use std::sync::Arc;

use super::place::{Place, address};
use super::subscription::feed_number;
use super::{Fanout, finish};
use crate::json;
use crate::live::history::{Orders, REPLAY_PAGE, ReplayPage};
use crate::live::subscriber::{SNAPSHOT, Subscriber};
use crate::tally::order::Publication;

/// The most totals of one page. The shortest takes 22 bytes, so a page is full before.
const PAGE_TOTALS: usize = 1_024;

impl Fanout {
    /// Sends a lagging subscriber a snapshot, the latest total of each product that it missed, or every order if it has
    /// positions, until it lags no more or its socket is full.
    pub(super) fn catch_up(&mut self, subscriber: &Arc<Subscriber>) {
        let Some(at) = self.places.get(&address(subscriber)).map(Place::group) else { return };
        while let Some(missed) = subscriber.owed_from() {
            if missed == SNAPSHOT && self.groups[at].is_of_edges() {
                // It asks for all totals by another way, which has hidden products too.
                return finish(subscriber, self.groups[at].format(), json::POSITION_UNKNOWN);
            } else if self.is_owed_notice(subscriber) {
                self.send_notices(subscriber);
            } else if missed == SNAPSHOT {
                self.send_snapshot(subscriber, at);
            } else if !self.groups[at].has_every_order() {
                self.send_latest(subscriber, at, missed);
            } else if missed > self.last_seq_of(at) {
                subscriber.resume();
            } else if let Some(publications) = self.recent.page(missed - 1, REPLAY_PAGE) {
                self.send_orders(subscriber, at, &publications);
            } else {
                return self.ask_for_page(subscriber, missed);
            }
        }
        self.finish_if_due(subscriber, at);
    }

    /// Sends a subscriber a page of the log. Then it lags from the order after the page on.
    pub(super) fn take_page(&mut self, page: ReplayPage) {
        let ReplayPage { subscriber, after, orders } = page;
        let Some(place) = self.places.get_mut(&address(&subscriber)) else { return };
        let at = place.group();
        if place.page_from == NonZero::new(after + 1) {
            place.page_from = None;
        }
        // It may have moved to another feed, or have been sent the same page before.
        if !self.groups[at].has_every_order() || subscriber.owed_from() != Some(after + 1) {
            return;
        }
        match orders {
            Orders::Read(mut publications) => {
                // Without orders that have not been published yet: the stream sends them later.
                publications.truncate(publications.partition_point(|one| one.seq <= self.last_seq));
                if publications.iter().any(|one| one.product.0 as usize >= self.products.len()) {
                    self.load_products();
                }
                self.send_orders(&subscriber, at, &publications);
            }
            Orders::Lost => self.lag_from(&subscriber, SNAPSHOT),
            // What orders come from is away, and current totals are better than none. A server that follows waits.
            Orders::Unreadable if self.is_stale && !self.groups[at].is_of_edges() => {
                self.lag_from(&subscriber, SNAPSHOT);
            }
            // Its client resumes later, from its last position.
            Orders::Unreadable => finish(&subscriber, self.groups[at].format(), json::LOG_UNREADABLE),
        }
        self.catch_up(&subscriber);
    }

    /// Asks for a page of the log, unless it is on its way. The subscriber goes on lagging until it has come; each
    /// message that it sends meanwhile leads here again.
    fn ask_for_page(&mut self, subscriber: &Arc<Subscriber>, missed: u64) {
        let Some(place) = self.places.get_mut(&address(subscriber)) else { return };
        let page_from = NonZero::new(missed);
        if std::mem::replace(&mut place.page_from, page_from) != page_from
            && self.history.replay(subscriber, missed - 1).is_err()
        {
            let at = place.group();
            finish(subscriber, self.groups[at].format(), json::LOG_UNREADABLE);
        }
    }

    /// Sends as many of these orders as the socket takes.
    fn send_orders(&mut self, subscriber: &Arc<Subscriber>, at: usize, publications: &[Publication]) {
        let Some(last) = publications.last() else {
            // The log no longer has any of them.
            let _ = subscriber.lag_from(SNAPSHOT);
            return;
        };
        self.page.clear();
        for Publication { product, total, seq } in publications {
            if let Some(product) = self.products.get(product.0 as usize)
                && self.groups[at].contains(product)
            {
                self.groups[at].push(&mut self.page, *seq, product, *total, Some(*seq));
            }
        }
        let taken = subscriber.offer_missed(&self.page.bytes, &self.page.ends, &mut self.sent);
        let _ = subscriber.lag_from(self.page.numbers.get(taken).copied().unwrap_or(last.seq + 1));
    }

    /// Sends as much as the socket takes of the latest total of each product that has changed since, except for those
    /// that are due later. With positions, a client can resume from the last message.
    fn send_latest(&mut self, subscriber: &Arc<Subscriber>, at: usize, missed: u64) {
        if missed > self.changes {
            return subscriber.resume();
        }
        self.page.clear();
        let is_whole = self.encode_changes(at, |fanout, index, number| {
            number >= missed && !fanout.groups[at].is_waiting(&fanout.products[index], index)
        });
        if is_whole && self.groups[at].has_positions() {
            self.add_position(at, self.groups[at].sent_up_to(self.last_seq));
        }
        let taken = subscriber.offer_missed(&self.page.bytes, &self.page.ends, &mut self.sent);
        if is_whole && taken == self.page.numbers.len() {
            subscriber.resume();
        } else if let Some(last) = self.page.numbers[..taken].last() {
            let _ = subscriber.lag_from(self.changed[*last as usize] + 1);
        }
    }

    /// Sends as much of a snapshot as the socket takes. Only its last message bears a position, that of the last order:
    /// a client that is cut off before it has not seen all totals, and cannot resume from there.
    fn send_snapshot(&mut self, subscriber: &Arc<Subscriber>, at: usize) {
        let Some(place) = self.places.get_mut(&address(subscriber)) else { return };
        let mut snapshot = place.snapshot.take().unwrap_or_default();
        self.page.clear();
        let mut is_last = self.encode_part(at, snapshot.next());
        let is_part = !self.page.numbers.is_empty();
        if !is_part {
            is_last = self.encode_changes(at, |_, index, number| snapshot.lacks(index, number));
        } else if is_last {
            let mut changed = self.changed.iter().enumerate();
            is_last = !changed.any(|(index, number)| self.is_in(at, index) && snapshot.lacks(index, *number));
        }
        if is_last {
            self.add_position(at, self.last_seq);
        }
        let taken = subscriber.offer_missed(&self.page.bytes, &self.page.ends, &mut self.sent);
        if is_last && taken == self.page.numbers.len() {
            return subscriber.resume();
        }
        match self.page.numbers[..taken].last().map(|last| *last as usize) {
            Some(last) if is_part => snapshot.push(last + 1, self.changes),
            Some(last) => snapshot.changed_from = self.changed[last] + 1,
            None => {}
        }
        if let Some(place) = self.places.get_mut(&address(subscriber)) {
            place.snapshot = Some(snapshot);
        }
    }

    /// Fills the page with the totals of the feed's products from this index on. Returns whether it has all of them.
    fn encode_part(&mut self, at: usize, from: usize) -> bool {
        for (index, product) in self.products.iter().enumerate().skip(from) {
            if self.groups[at].contains(product) {
                if self.page.is_full() {
                    return false;
                }
                self.groups[at].push(&mut self.page, index as u64, product, product.total, None);
            }
        }
        true
    }

    /// Fills the page with the latest total of each product of the feed whose last change, by product and number, the
    /// subscriber has missed, in the order of those changes. Returns whether it has all of them.
    fn encode_changes(&mut self, at: usize, is_missed: impl Fn(&Self, usize, u64) -> bool) -> bool {
        let changed = self.changed.iter().enumerate();
        let missed = changed.filter(|(index, number)| self.is_in(at, *index) && is_missed(self, *index, **number));
        let mut missed: Vec<(u64, usize)> = missed.map(|(index, number)| (*number, index)).collect();
        if missed.len() > PAGE_TOTALS {
            missed.select_nth_unstable(PAGE_TOTALS);
            missed.truncate(PAGE_TOTALS);
        }
        missed.sort_unstable();
        for (_, index) in missed {
            if self.page.is_full() {
                return false;
            }
            let product = &self.products[index];
            self.groups[at].push(&mut self.page, index as u64, product, product.total, None);
        }
        true
    }

    /// Adds to the page's last message the position after the order with this sequence number.
    fn add_position(&mut self, at: usize, seq: u64) {
        if let Some(index) = self.page.pop() {
            let product = &self.products[index as usize];
            self.groups[at].push(&mut self.page, index, product, product.total, Some(seq));
        }
    }

    /// The sequence number of the last order of this group's feed, or a later one.
    fn last_seq_of(&self, at: usize) -> u64 {
        self.feeds[feed_number(self.groups[at].subscription().feed)].last_seq
    }

    /// Whether the product with this index is part of the feed of this group.
    fn is_in(&self, at: usize, index: usize) -> bool {
        self.groups[at].contains(&self.products[index])
    }
}
