//! How a subscriber that has missed totals joins the stream again, whether it lagged or was away. Owns what it is sent
//! instead; how a lag begins is decided by [`Subscriber`].

use std::sync::Arc;

use super::{Fanout, address, finish};
use crate::json;
use crate::live::history::{REPLAY_PAGE, ReplayPage};
use crate::live::subscriber::{Buffer, Drained, Subscriber};
use crate::tally::order::Publication;

impl Fanout {
    /// Sends a lagging subscriber the latest total of each product that it missed, or every order if it has positions.
    pub(super) fn catch_up(&mut self, subscriber: &Arc<Subscriber>) {
        let Some(at) = self.places.get(&address(subscriber)).map(|place| place.group) else { return };
        // More than once only when the socket empties the queue while this thread fills it.
        while let Some(missed) = subscriber.missed_from() {
            let (buffer, next) = if missed == 0 {
                (self.groups[at].snapshot(&self.products, self.last_seq), None)
            } else if !self.groups[at].has_positions() {
                (self.latest_since(at, missed), None)
            } else if let Some(publications) = self.recent.since(missed - 1) {
                let page: Vec<Publication> = publications.take(REPLAY_PAGE).copied().collect();
                let next = page.last().map(|last| last.seq + 1).filter(|next| *next <= self.last_seq);
                (self.groups[at].encode(&page, &self.products, missed).map(Arc::new), next)
            } else {
                return self.ask_for_page(subscriber, missed);
            };
            if send_missed(subscriber, buffer, next) != Drained::MustCatchUp {
                break;
            }
        }
        self.finish_if_due(subscriber, at);
    }

    /// Sends a subscriber a page of the log. Then it lags from the order after the page on.
    pub(super) fn take_page(&mut self, page: &ReplayPage) {
        let ReplayPage { subscriber, after, publications } = page;
        let Some(place) = self.places.get_mut(&address(subscriber)) else { return };
        let at = place.group;
        if place.page_from == Some(after + 1) {
            place.page_from = None;
        }
        // It may have moved to another feed, or have been sent the same page before.
        if !self.groups[at].has_positions() || subscriber.missed_from() != Some(after + 1) {
            return;
        }
        // Without orders that have not been published yet: the stream sends them later.
        let publications = publications.as_deref().unwrap_or_default();
        let publications = &publications[..publications.partition_point(|one| one.seq <= self.last_seq)];
        let Some(last) = publications.last() else {
            subscriber.resume();
            self.offer_snapshot(subscriber, at);
            return self.finish_if_due(subscriber, at);
        };
        if publications.iter().any(|one| one.product.0 as usize >= self.products.len()) {
            self.load_products();
        }
        let buffer = self.groups[at].encode(publications, &self.products, after + 1).map(Arc::new);
        if send_missed(subscriber, buffer, Some(last.seq + 1)) == Drained::MustCatchUp {
            self.catch_up(subscriber);
        }
    }

    pub(super) fn offer_snapshot(&mut self, subscriber: &Arc<Subscriber>, at: usize) {
        if let Some(snapshot) = self.groups[at].snapshot(&self.products, self.last_seq)
            && subscriber.offer(&snapshot) == Drained::MustCatchUp
        {
            self.catch_up(subscriber);
        }
    }

    /// Asks for a page of the log, unless it is on its way. The subscriber goes on lagging until it has come; each
    /// message that it sends meanwhile leads here again.
    fn ask_for_page(&mut self, subscriber: &Arc<Subscriber>, missed: u64) {
        let Some(place) = self.places.get_mut(&address(subscriber)) else { return };
        if place.page_from.replace(missed) != Some(missed) {
            self.history.replay(subscriber.clone(), missed - 1);
        }
    }

    fn finish_if_due(&self, subscriber: &Arc<Subscriber>, at: usize) {
        if self.is_finishing {
            finish(subscriber, self.groups[at].format());
        }
    }

    /// The latest total of each product of the feed that has changed since, in the order of those changes.
    fn latest_since(&self, at: usize, since: u64) -> Option<Arc<Buffer>> {
        let mut changed: Vec<(u64, usize)> =
            self.changed.iter().enumerate().filter(|(_, number)| **number >= since).map(|(at, n)| (*n, at)).collect();
        changed.sort_unstable();
        let mut buffer = Buffer { first: since, ..Buffer::default() };
        for (_, index) in changed {
            let product = &self.products[index];
            if self.groups[at].contains(product) {
                json::push_total_frame(&mut buffer.bytes, &product.opening, product.total);
                buffer.totals += 1;
            }
        }
        (buffer.totals > 0).then(|| Arc::new(buffer))
    }
}

/// Ends a subscriber's lag with this buffer. With `next` it lags again from that sequence number on; without room for
/// the buffer it goes on lagging from where it did.
fn send_missed(subscriber: &Arc<Subscriber>, buffer: Option<Arc<Buffer>>, next: Option<u64>) -> Drained {
    subscriber.resume();
    let drained = buffer.map_or(Drained::Done, |buffer| subscriber.offer(&buffer));
    match next {
        Some(next) if !subscriber.is_lagging() => subscriber.lag_from(next),
        _ => drained,
    }
}
