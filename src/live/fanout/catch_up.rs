//! How a subscriber that has missed totals joins the stream again, whether it lagged or was away. Owns what it is given for
//! them; how a lag begins is the subscriber's affair.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Fanout, finish_one};
use crate::json;
use crate::live::history::{Page, REPLAY_PAGE};
use crate::live::subscriber::{Buffer, Drained, Subscriber};
use crate::store::order_log::Step;

impl Fanout {
    /// Gives a subscriber that has missed totals the latest of each product that it missed, or every order.
    pub(super) fn catch_up(&mut self, subscriber: &Arc<Subscriber>) {
        let at = subscriber.listed_in.load(Ordering::Relaxed);
        if at >= self.groups.len() {
            return;
        }
        // More than once only if somebody else empties the channel just after the offer has found it full.
        while let Some(missed) = subscriber.missed() {
            let offered = if missed == 0 {
                self.snapshot(at)
            } else if !self.groups[at].has_positions() {
                self.latest_since(at, missed)
            } else if let Some(steps) = self.recent.since(missed - 1) {
                let page: Vec<Step> = steps.take(REPLAY_PAGE).copied().collect();
                if page.last().is_some_and(|last| last.seq < self.last_seq) {
                    if self.offer_page(subscriber, at, missed - 1, &page) == Drained::CaughtUp {
                        continue;
                    }
                    return;
                }
                self.groups[at].encode(page.iter(), &self.products, missed).map(Arc::new)
            } else {
                // It goes on lagging until the page has come; whatever it says meanwhile makes it catch up again.
                if subscriber.page_from.swap(missed, Ordering::Relaxed) != missed {
                    self.history.replay(subscriber.clone(), missed - 1);
                }
                return;
            };
            let _ = subscriber.resume();
            if offered.is_none_or(|buffer| subscriber.offer(&buffer) != Drained::CaughtUp) {
                break;
            }
        }
        if self.finishing {
            finish_one(subscriber, self.groups[at].format());
        }
    }

    /// Gives a subscriber a page of what it has missed. Then it lags from the end of the page on.
    pub(super) fn take_page(&mut self, page: &Page) {
        let Page { subscriber, after, steps } = page;
        if subscriber.page_from.load(Ordering::Relaxed) == after + 1 {
            subscriber.page_from.store(0, Ordering::Relaxed);
        }
        let at = subscriber.listed_in.load(Ordering::Relaxed);
        // It may have moved, or have been given the same page before.
        if at >= self.groups.len() || !self.groups[at].has_positions() || subscriber.missed() != Some(after + 1) {
            return;
        }
        // What is in the log but has not come by will come by.
        let steps = steps.as_deref().unwrap_or_default();
        let steps = &steps[..steps.partition_point(|step| step.seq <= self.last_seq)];
        if steps.is_empty() {
            let _ = subscriber.resume();
            self.offer_snapshot(subscriber, at);
            if self.finishing {
                finish_one(subscriber, self.groups[at].format());
            }
            return;
        }
        if steps.iter().any(|step| step.product.0 as usize >= self.products.len()) {
            self.learn_products();
        }
        if self.offer_page(subscriber, at, *after, steps) == Drained::CaughtUp {
            self.catch_up(subscriber);
        }
    }

    /// Gives a lagging subscriber these orders, which begin behind the one with number `after`. Then it lags from their end
    /// on; or, when they found no room, from where it did: it is due them again.
    fn offer_page(&self, subscriber: &Arc<Subscriber>, at: usize, after: u64, steps: &[Step]) -> Drained {
        let Some(last) = steps.last() else { return Drained::Done };
        let buffer = self.groups[at].encode(steps.iter(), &self.products, after + 1);
        let _ = subscriber.resume();
        let drained = buffer.map_or(Drained::Done, |buffer| subscriber.offer(&Arc::new(buffer)));
        if subscriber.is_lagging() { drained } else { subscriber.lag_from(last.seq + 1) }
    }

    pub(super) fn offer_snapshot(&mut self, subscriber: &Arc<Subscriber>, at: usize) {
        if let Some(snapshot) = self.snapshot(at)
            && subscriber.offer(&snapshot) == Drained::CaughtUp
        {
            self.catch_up(subscriber);
        }
    }

    /// The latest total of each product of the feed that has changed since, in the order of those changes.
    fn latest_since(&self, at: usize, since: u64) -> Option<Arc<Buffer>> {
        let group = &self.groups[at];
        let mut buffer = Buffer { bytes: Vec::new(), totals: 0, merged: 0, first: since };
        for index in self.recency.since(since) {
            let view = &self.products[index.0 as usize];
            if group.takes(view) {
                json::push_total_frame(&mut buffer.bytes, &view.opening, view.total);
                buffer.totals += 1;
            }
        }
        (buffer.totals > 0).then(|| Arc::new(buffer))
    }
}
