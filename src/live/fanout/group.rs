//! The subscribers of one feed in one format, and what is ready to be sent to them. Owns which function of [`json`]
//! encodes it; knows nothing of the order in which things happen.

use std::sync::Arc;

use super::{Feed, Format, Subscription, feed_number};
use crate::json;
use crate::live::subscriber::{Buffer, Subscriber};
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::Total;
use crate::tally::position::{Prefix, RunList};

/// How long a round may become, in bytes, before it is sent and another one begins: 32 KiB, about a thousand totals. A
/// slow subscriber holds one that its socket has taken in part, and one more.
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

    /// Whether the next total belongs into another page.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= PAGE_BYTES
    }
}

/// A product with its total, as last published.
pub struct ProductState {
    /// Its category.
    pub category: CategoryIndex,
    /// `{"id":"A1","total":`, ready for the number.
    pub opening: Vec<u8>,
    /// Its total.
    pub total: Total,
}

/// The subscribers of one feed in one format.
pub struct Group {
    subscription: Subscription,
    prefix: Prefix,
    /// In any order; the fan-out thread knows each one's place.
    pub subscribers: Vec<Arc<Subscriber>>,
    /// The next round: the totals that have changed since the last one.
    round: Buffer,
    /// The sequence number of the feed's last order, or a later one if that is not known.
    last_seq: u64,
    /// The current totals as a JSON array, until one changes.
    array: Option<Arc<[u8]>>,
}

impl Group {
    /// A group without subscribers, of a feed without orders after `last_seq`.
    pub fn new(subscription: Subscription, runs: &RunList, last_seq: u64) -> Self {
        let prefix = runs.prefix(feed_number(subscription.feed));
        Self { subscription, prefix, subscribers: Vec::new(), round: Buffer::default(), last_seq, array: None }
    }

    /// The form in which its subscribers get totals.
    pub fn format(&self) -> Format {
        self.subscription.format
    }

    /// Whether its subscribers get positions, and are owed every order.
    pub fn has_positions(&self) -> bool {
        self.subscription.format != Format::Plain
    }

    /// Whether the product is part of the feed.
    pub fn contains(&self, product: &ProductState) -> bool {
        match self.subscription.feed {
            Feed::All => true,
            Feed::Category(index) => index == product.category,
        }
    }

    /// The sequence number of the feed's last order; a later one as long as the feed had no order in this run.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Adds a changed total to the round, if there are subscribers. `number` is that of its publication, `has_gaps`
    /// whether orders of this round are missing. Returns whether the round has to be sent before the next one is added.
    pub fn add(&mut self, product: &ProductState, number: u64, seq: u64, merged: u64, has_gaps: bool) -> bool {
        self.array = None;
        self.last_seq = seq;
        if self.subscribers.is_empty() || (has_gaps && self.has_positions()) {
            return false;
        }
        if self.round.bytes.is_empty() {
            self.round.first = if self.has_positions() { seq } else { number };
        }
        push(self.format(), &self.prefix, &mut self.round.bytes, &product.opening, product.total, Some(seq));
        self.round.totals += 1;
        self.round.merged += merged;
        self.round.bytes.len() >= ROUND_BYTES
    }

    /// Takes the round, unless it is empty.
    pub fn take_round(&mut self) -> Option<Buffer> {
        if self.round.bytes.is_empty() {
            return None;
        }
        let round = std::mem::take(&mut self.round);
        // The next round is probably as large as this one.
        self.round.bytes.reserve(round.bytes.len());
        Some(round)
    }

    /// Appends a total to a page. `seq` gives its position; `None` when a client cannot resume from it.
    pub fn push(&self, page: &mut Page, number: u64, product: &ProductState, total: Total, seq: Option<u64>) {
        push(self.format(), &self.prefix, &mut page.bytes, &product.opening, total, seq);
        page.ends.push(page.bytes.len());
        page.numbers.push(number);
    }

    /// The feed's current totals as a JSON array.
    pub fn array(&mut self, products: &[ProductState]) -> Arc<[u8]> {
        if let Some(array) = &self.array {
            return array.clone();
        }
        let products = products.iter().filter(|product| self.contains(product));
        let totals = products.map(|product| (product.opening.as_slice(), product.total));
        let array: Arc<[u8]> = json::totals_array(totals).into();
        self.array.insert(array).clone()
    }
}

/// Appends one total in the group's format. `seq` gives its position; `None` when a client cannot resume from it.
fn push(format: Format, prefix: &Prefix, bytes: &mut Vec<u8>, opening: &[u8], total: Total, seq: Option<u64>) {
    match format {
        Format::Plain => json::push_total_frame(bytes, opening, total),
        Format::Positioned => {
            let position = seq.map_or_else(|| prefix.within_snapshot(), |seq| prefix.at(seq));
            json::push_positioned_frame(bytes, opening, total, &position);
        }
        Format::Events => json::push_event(bytes, opening, total, seq.map(|seq| prefix.at(seq)).as_deref()),
    }
}
