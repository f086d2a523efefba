//! How orders get to the subscribers: taken from what waits, encoded once per group, and sent to each subscriber in turn.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::Fanout;
use super::group::Change;
use super::handle::Event;
use super::recent::Recent;
use super::rest::pause_after;
use super::subscription::{ALL, Feed, feed_number};
use super::waiting::Waiting;
use crate::live::subscriber::{Drained, Sent, Subscriber};
use crate::tally::order::Publication;

/// Orders that are added to the rounds at a time, at most: 128. If more wait, none is added, and all are taken when the
/// rounds have been sent.
const MAX_ADDED: usize = 128;

impl Fanout {
    /// Takes everything that waits, encodes each new total once per group, and offers the bytes to each subscriber. If
    /// `adds`, orders that come meanwhile are sent as well, until something else is to be done.
    pub(super) fn relay(&mut self, adds: bool) {
        self.thread().announced.store(false, Ordering::Release);
        let first_seq = self.last_seq + 1;
        let mut batch = std::mem::take(&mut self.batch);
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut batch, &mut waiting[self.number]);
            // Before they are applied: what is told of one has all of them.
            self.news = self.shared.news.load(Ordering::Acquire);
        }
        // Some orders are missing then, and subscribers that are owed every order get them from the log.
        let has_gaps = batch.has_gaps();
        let now = if self.paced.is_empty() { 0 } else { self.now() };
        let mut markers = batch.markers.drain(..).peekable();
        for (place, waiting) in batch.publications.drain(..).enumerate() {
            while let Some((_, marker)) = markers.next_if(|(before, _)| *before <= place) {
                self.apply(marker, now);
            }
            if self.add(waiting, has_gaps, now) {
                self.send_full_rounds();
            }
        }
        markers.for_each(|(_, marker)| self.apply(marker, now));
        self.batch = batch;
        if has_gaps {
            self.recent = Recent::new(self.last_seq);
            self.lag_all_with_every_order(first_seq);
        }
        self.add_all_due(now);
        self.send_rounds(adds && !self.has_news);
        if std::mem::take(&mut self.has_news) {
            self.catch_up_all();
        }
    }

    /// Applies a publication, and adds it to the rounds of all groups that get it. Returns whether one of them has to be
    /// sent before the next one is added.
    fn add(&mut self, Waiting { publication, merged }: Waiting, has_gaps: bool, now: u64) -> bool {
        let Publication { product, total, seq } = publication;
        let index = product.0 as usize;
        if index >= self.products.len() {
            self.load_products();
        }
        self.changes += 1;
        self.changed[index] = self.changes;
        self.ordered[index] = seq;
        let product = &mut self.products[index];
        product.total = total;
        if seq > self.last_seq {
            self.last_seq = seq;
            self.recent.push(publication);
        }
        let change = Change { index: index as u32, number: self.changes, seq, merged, has_gaps, now };
        let mut is_full = false;
        for feed in [ALL, feed_number(Feed::Category(product.category))] {
            self.feeds[feed].note(seq);
            for at in &self.feeds[feed].groups {
                is_full |= self.groups[*at].add(&self.products[index], &change);
            }
        }
        is_full
    }

    /// Adds the orders that have come to the rounds that are being sent, unless something else is to be done first.
    /// Returns whether more may be added.
    fn add_to_rounds(&mut self) -> bool {
        self.events.try_recv().map_or(true, |event| self.add_at(event))
    }

    /// The same at this event.
    pub(super) fn add_at(&mut self, event: Event) -> bool {
        if !matches!(event, Event::Published) || self.next_due().is_some_and(|due| due <= self.now()) {
            self.next_event = Some(event);
            return false;
        }
        let mut batch = std::mem::take(&mut self.batch);
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let list = &mut waiting[self.number];
            if list.len() <= MAX_ADDED && list.is_plain() {
                self.thread().announced.store(false, Ordering::Release);
                std::mem::swap(&mut batch, list);
            } else {
                self.next_event = Some(event);
            }
        }
        let now = if self.paced.is_empty() { 0 } else { self.now() };
        let mut is_full = self.next_event.is_some();
        for waiting in batch.publications.drain(..) {
            is_full |= self.add(waiting, false, now);
        }
        self.batch = batch;
        // A new product is news too.
        !is_full && !self.has_news
    }

    /// Adds the totals that are due to the rounds.
    pub(super) fn add_all_due(&mut self, now: u64) {
        for place in 0..self.paced.len() {
            self.add_due(self.paced[place], now);
        }
    }

    /// Adds the totals that are due to the round of this group.
    fn add_due(&mut self, at: usize, now: u64) {
        while let Some(index) = self.groups[at].next_due(now) {
            let product = &self.products[index];
            // It may have been hidden meanwhile.
            if self.groups[at].contains(product) && self.groups[at].add_due(product, self.changed[index], self.last_seq)
            {
                self.send_round(at, false);
            }
        }
    }

    /// Sends the rounds to which nothing may be added before. Nobody has been sent any of them.
    fn send_full_rounds(&mut self) {
        for at in 0..self.groups.len() {
            if self.groups[at].is_full() {
                self.send_round(at, false);
            }
        }
    }

    /// Sends all rounds to their ends. If `adds`, orders that come meanwhile are part of them, until something else is to
    /// be done.
    pub(super) fn send_rounds(&mut self, mut adds: bool) {
        loop {
            let (changes, turns, messages) = (self.changes, self.turns, self.sent.messages);
            let begun = Instant::now();
            for at in 0..self.groups.len() {
                adds = self.send_round(at, adds);
            }
            if self.changes == changes {
                return;
            }
            let (turns, messages) = (self.turns - turns, self.sent.messages - messages);
            self.shared.counters.publish(&mut self.sent);
            if adds && let Some(time) = pause_after(begun.elapsed(), turns, messages) {
                adds = self.pause(time);
            }
        }
    }

    /// Gives each subscriber of this group one turn. Then all have everything that was added before the first of these
    /// turns. Returns whether more may be added.
    pub(super) fn send_round(&mut self, at: usize, mut adds: bool) -> bool {
        // Local, so that the loop over all subscribers adds to registers.
        let mut sent = Sent::default();
        let count = self.groups[at].subscribers.len();
        let mut turns = 0;
        while turns < count
            && let Some((buffer, indices)) = self.groups[at].round.take_turns(count)
        {
            turns += indices.len();
            let subscribers = &self.groups[at].subscribers[indices];
            for subscriber in subscribers {
                subscriber.touch();
            }
            for subscriber in subscribers {
                subscriber.offer(&buffer, &mut sent);
            }
            adds = adds && self.add_to_rounds();
        }
        self.turns += turns as u64;
        self.sent.messages += sent.messages;
        self.sent.bytes += sent.bytes;
        // Subscribers that are owed every order get from the log what was skipped.
        self.sent.skipped += if self.groups[at].has_every_order() { 0 } else { sent.skipped };
        adds
    }

    /// Makes every subscriber that is owed every order lag from this sequence number on.
    fn lag_all_with_every_order(&mut self, first_seq: u64) {
        let groups = self.groups.iter().filter(|group| group.has_every_order());
        let current = groups.flat_map(|group| &group.subscribers).filter(|subscriber| !subscriber.is_lagging());
        for subscriber in current.cloned().collect::<Vec<_>>() {
            self.lag_from(&subscriber, first_seq);
        }
    }

    /// Makes a subscriber lag, and catches it up if nothing else waits for it.
    pub(super) fn lag_from(&mut self, subscriber: &Arc<Subscriber>, number: u64) {
        if subscriber.lag_from(number) == Drained::MustCatchUp {
            self.catch_up(subscriber);
        }
    }
}
