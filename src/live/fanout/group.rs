//! The subscribers that get the same totals in the same form, and what is ready to be sent to them. Owns which function
//! of [`json`] encodes it; knows nothing of the order in which things happen.

use std::sync::Arc;

use super::pace::Pace;
use super::round::Round;
use super::subscription::{Counts, Feed, Format, Subscription};
use crate::json;
use crate::live::subscriber::{SNAPSHOT, Subscriber};
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::Total;
use crate::tally::position::{Prefix, RunList};

/// From how many bytes on a round is sent before more is added: 32 KiB, about a thousand totals. What was taken together
/// is added whole. A slow subscriber holds one buffer that its socket has taken in part, and one more.
const ROUND_BYTES: usize = 32 * 1024;
/// How long a page may become, in bytes: 16 KiB, as much as a full socket takes at once when it has room again.
const PAGE_BYTES: usize = 16 * 1024;

/// Totals for one subscriber that catches up.
#[derive(Debug, Default)]
pub struct Page {
    /// Whole frames or events.
    pub bytes: Vec<u8>,
    /// Where each of them ends in `bytes`.
    pub ends: Vec<usize>,
    /// The number by which the caller finds each of them again.
    pub numbers: Vec<u64>,
}

impl Page {
    /// Removes all totals, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.numbers.clear();
    }

    /// Removes the last total. Returns its number.
    pub fn pop(&mut self) -> Option<u64> {
        self.ends.pop();
        self.bytes.truncate(self.ends.last().copied().unwrap_or_default());
        self.numbers.pop()
    }

    /// Ends a message, whose bytes have been appended.
    fn end_message(&mut self, number: u64) {
        self.ends.push(self.bytes.len());
        self.numbers.push(number);
    }

    /// Whether the next total belongs into another page.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= PAGE_BYTES
    }
}

/// A product with its total, as last published.
pub struct ProductState {
    /// Its category.
    pub category: CategoryIndex,
    /// Its number among the products of its category, from 0.
    pub number: u32,
    /// `{"id":"A1","total":`, ready for the number.
    pub prefix: Vec<u8>,
    /// Its total.
    pub total: Total,
    /// Its total when the current period was opened; 0 if it was added since, because such a product starts from 0.
    pub opening: Total,
    /// Whether it is absent from all feeds.
    pub is_hidden: bool,
}

impl ProductState {
    /// Whether it is part of the feed.
    pub fn is_in(&self, feed: Feed) -> bool {
        !self.is_hidden
            && match feed {
                Feed::All => true,
                Feed::Category(index) => index == self.category,
            }
    }

    /// What is counted when `total` is the total.
    pub fn count(&self, counts: Counts, total: Total) -> i64 {
        match counts {
            Counts::Lifetime => total.get(),
            Counts::Period => total.get() - self.opening.get(),
        }
    }
}

/// A change of a total that is relayed.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The product's index in the catalogue.
    pub index: u32,
    /// The number of the publication.
    pub number: u64,
    /// The sequence number of the order.
    pub seq: u64,
    /// The number of earlier changes that it replaces.
    pub merged: u64,
    /// Whether orders of this round are missing.
    pub has_gaps: bool,
    /// The time; not used by groups without an interval.
    pub now: u64,
}

/// The subscribers that get the same totals in the same form.
pub struct Group {
    subscription: Subscription,
    prefix: Prefix,
    /// In any order; the fan-out thread knows each one's place.
    pub subscribers: Vec<Arc<Subscriber>>,
    /// The totals that they are sent, each in its turn.
    pub round: Round,
    /// What is owed of each product, if its subscribers get at most one message a product in an interval.
    pace: Option<Box<Pace>>,
}

impl Group {
    /// A group without subscribers.
    pub fn new(subscription: Subscription, runs: &RunList) -> Self {
        Self {
            subscription,
            prefix: runs.prefix(subscription.feed_in_positions()),
            subscribers: Vec::new(),
            round: Round::default(),
            pace: subscription.options.every.map(Pace::new).map(Box::new),
        }
    }

    /// Positions are of these runs from now on, and nothing is owed of what was. The round is empty.
    pub fn begin_again(&mut self, runs: &RunList) {
        self.prefix = runs.prefix(self.subscription.feed_in_positions());
        self.pace = self.subscription.options.every.map(Pace::new).map(Box::new);
    }

    /// What its subscribers get, except for notices.
    pub fn subscription(&self) -> Subscription {
        self.subscription
    }

    /// The form in which its subscribers get totals.
    pub fn format(&self) -> Format {
        self.subscription.format
    }

    /// Whether its subscribers get positions.
    pub fn has_positions(&self) -> bool {
        self.subscription.format != Format::Plain
    }

    /// Whether its subscribers are owed every order.
    pub fn has_every_order(&self) -> bool {
        self.has_positions() && self.pace.is_none()
    }

    /// Whether its subscribers are other servers that follow this one.
    pub fn is_of_edges(&self) -> bool {
        self.subscription.options.is_edge
    }

    /// Whether orders of the current period are counted.
    pub fn is_of_period(&self) -> bool {
        self.subscription.options.counts == Counts::Period
    }

    /// Frees the memory of a group without subscribers.
    pub fn clear(&mut self) {
        (self.subscribers, self.round, self.pace) = (Vec::new(), Round::default(), None);
    }

    /// Whether the product is part of the feed.
    pub fn contains(&self, product: &ProductState) -> bool {
        self.is_of_edges() || product.is_in(self.subscription.feed)
    }

    /// Positions are those of these runs from now on.
    pub fn set_runs(&mut self, runs: &RunList) {
        self.prefix = runs.prefix(self.subscription.feed_in_positions());
    }

    /// Adds a changed total to the round, or to what is due later. Returns whether the round has to be sent before the
    /// next one is added.
    pub fn add(&mut self, product: &ProductState, change: &Change) -> bool {
        if let Some(pace) = &mut self.pace {
            pace.note(number_in(self.subscription.feed, product, change.index), change.index, change.seq, change.now);
            return false;
        }
        if change.has_gaps && self.has_positions() {
            return false;
        }
        if self.round.next.bytes.is_empty() {
            self.round.next.first = if self.has_positions() { change.seq } else { change.number };
        }
        self.round.next.merged += change.merged;
        self.push_to_round(product, Some(change.seq))
    }

    /// Adds a product that is shown again to the empty round. A subscriber without room for it, and one that lags, is
    /// owed a snapshot if it follows orders: no order tells it of the product.
    pub fn add_shown(&mut self, product: &ProductState, change: &Change) -> bool {
        if self.pace.is_some() {
            return self.add(product, change);
        }
        (self.round.next.first, self.round.next.is_held_back) =
            if self.has_positions() { (SNAPSHOT, true) } else { (change.number, false) };
        self.push_to_round(product, None)
    }

    /// The index of the next product whose total is due now.
    pub fn next_due(&mut self, now: u64) -> Option<usize> {
        self.pace.as_mut()?.next(now)
    }

    /// When a total is due.
    pub fn due_at(&self) -> Option<u64> {
        self.pace.as_ref()?.next_due()
    }

    /// Adds a total that is due to the round; `number` is that of its last publication. Returns as [`Self::add`].
    pub fn add_due(&mut self, product: &ProductState, number: u64, last_seq: u64) -> bool {
        self.round.next.first =
            if self.round.next.bytes.is_empty() { number } else { self.round.next.first.min(number) };
        self.round.next.is_held_back = true;
        self.push_to_round(product, Some(self.sent_up_to(last_seq)))
    }

    /// Whether the total of this product, whose index this is, is due later.
    pub fn is_waiting(&self, product: &ProductState, index: usize) -> bool {
        let number = number_in(self.subscription.feed, product, index as u32);
        self.pace.as_ref().is_some_and(|pace| pace.is_waiting(number))
    }

    /// The sequence number from which a subscriber that was sent every round can resume, when `last_seq` is the last.
    pub fn sent_up_to(&self, last_seq: u64) -> u64 {
        self.pace.as_ref().map_or(last_seq, |pace| pace.sent_up_to(last_seq))
    }

    fn push_to_round(&mut self, product: &ProductState, seq: Option<u64>) -> bool {
        let number = product.count(self.subscription.options.counts, product.total);
        push(self.format(), &self.prefix, &mut self.round.next.bytes, &product.prefix, number, seq);
        self.round.next.totals += 1;
        self.is_full()
    }

    /// Whether the round has to be sent before more is added.
    pub fn is_full(&self) -> bool {
        self.round.len() >= ROUND_BYTES
    }

    /// Appends a total to a page. `seq` gives its position; `None` when a client cannot resume from it.
    pub fn push(&self, page: &mut Page, number: u64, product: &ProductState, total: Total, seq: Option<u64>) {
        let count = product.count(self.subscription.options.counts, total);
        push(self.format(), &self.prefix, &mut page.bytes, &product.prefix, count, seq);
        page.end_message(number);
    }

    /// Appends a notice to a page: a JSON text, and its name among events.
    pub fn push_notice(&self, page: &mut Page, number: u64, name: &str, text: &str) {
        match self.format() {
            Format::Plain | Format::Positioned => json::push_text_frame(&mut page.bytes, text),
            Format::Events => json::push_named_event(&mut page.bytes, name, text),
        }
        page.end_message(number);
    }
}

/// The number of a product in a feed: among those of its category, or its index in the catalogue.
fn number_in(feed: Feed, product: &ProductState, index: u32) -> u32 {
    match feed {
        Feed::All => index,
        Feed::Category(_) => product.number,
    }
}

/// Appends one total in this format. `seq` gives its position; `None` when a client cannot resume from it.
fn push(format: Format, prefix: &Prefix, bytes: &mut Vec<u8>, product: &[u8], total: i64, seq: Option<u64>) {
    match format {
        Format::Plain => json::push_total_frame(bytes, product, total),
        Format::Positioned => {
            let position = seq.map_or_else(|| prefix.within_snapshot(), |seq| prefix.at(seq));
            json::push_positioned_frame(bytes, product, total, &position);
        }
        Format::Events => json::push_event(bytes, product, total, seq.map(|seq| prefix.at(seq)).as_deref()),
    }
}
