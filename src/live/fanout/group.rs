//! The subscribers of one feed in one format, and what is ready to be sent to them. Owns which function of [`json`]
//! encodes it; knows nothing of the order in which things happen.

use std::sync::Arc;

use super::{Feed, Format, Subscription, feed_number};
use crate::json;
use crate::live::subscriber::{Buffer, Subscriber};
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::{Publication, Total};
use crate::tally::position::{Prefix, RunList};

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
    bytes: Vec<u8>,
    totals: u64,
    merged: u64,
    /// The snapshot and its last sequence number, until a total changes. With positions it also ends with the next
    /// order of any other feed, because it names the last sequence number.
    snapshot: Option<(u64, Arc<Buffer>)>,
    /// The current totals as a JSON array, until one changes.
    array: Option<Arc<[u8]>>,
}

impl Group {
    /// A group without subscribers.
    pub fn new(subscription: Subscription, runs: &RunList) -> Self {
        let prefix = runs.prefix(feed_number(subscription.feed));
        let (subscribers, bytes) = (Vec::new(), Vec::new());
        Self { subscription, prefix, subscribers, bytes, totals: 0, merged: 0, snapshot: None, array: None }
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

    /// Adds a changed total to the round, if there are subscribers. `has_gaps`: orders of this round are missing.
    pub fn add(&mut self, product: &ProductState, seq: u64, merged: u64, has_gaps: bool) {
        (self.snapshot, self.array) = (None, None);
        if self.subscribers.is_empty() || (has_gaps && self.has_positions()) {
            return;
        }
        push(self.format(), &self.prefix, &mut self.bytes, &product.opening, product.total, Some(seq));
        self.totals += 1;
        self.merged += merged;
    }

    /// Takes the round, unless it is empty, numbered by its first publication.
    pub fn take_round(&mut self, first: u64) -> Option<Buffer> {
        if self.bytes.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        // The next round is probably as large as this one.
        self.bytes.reserve(bytes.len());
        let (totals, merged) = (std::mem::take(&mut self.totals), std::mem::take(&mut self.merged));
        Some(Buffer { bytes, totals, merged, first })
    }

    /// Encodes the publications of this feed. `None` when no publication belongs to this feed.
    pub fn encode(&self, publications: &[Publication], products: &[ProductState], first: u64) -> Option<Buffer> {
        let mut buffer = Buffer { first, ..Buffer::default() };
        for Publication { product, total, seq } in publications {
            if let Some(product) = products.get(product.0 as usize).filter(|product| self.contains(product)) {
                push(self.format(), &self.prefix, &mut buffer.bytes, &product.opening, *total, Some(*seq));
                buffer.totals += 1;
            }
        }
        (buffer.totals > 0).then_some(buffer)
    }

    /// The feed's current totals; `None` when it has no products. Only the last one bears the position of `last_seq`: a
    /// client that is cut off before it has not seen all totals, and cannot resume from there.
    pub fn snapshot(&mut self, products: &[ProductState], last_seq: u64) -> Option<Arc<Buffer>> {
        if let Some((seq, snapshot)) = &self.snapshot
            && (*seq == last_seq || !self.has_positions())
        {
            return Some(snapshot.clone());
        }
        let mut buffer = Buffer::default();
        let mut products = products.iter().filter(|product| self.contains(product)).peekable();
        while let Some(product) = products.next() {
            let seq = products.peek().is_none().then_some(last_seq);
            push(self.format(), &self.prefix, &mut buffer.bytes, &product.opening, product.total, seq);
            buffer.totals += 1;
        }
        buffer.bytes.shrink_to_fit();
        self.snapshot = (buffer.totals > 0).then(|| (last_seq, Arc::new(buffer)));
        self.snapshot.as_ref().map(|(_, snapshot)| snapshot.clone())
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
