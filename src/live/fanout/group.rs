//! The subscribers of one feed in one format, and what is ready to be sent to them. Owns which function of [`json`] makes
//! it; knows nothing of the order in which things happen.

use std::sync::Arc;

use super::{Feed, Format, Subscription, number};
use crate::json;
use crate::live::subscriber::{Buffer, Subscriber};
use crate::store::order_log::Step;
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::Total;
use crate::tally::position::{Prefix, RunList};

/// A product as the fan-out thread sees it.
pub struct View {
    /// Where it belongs.
    pub category: CategoryIndex,
    /// `{"id":"A1","total":`, ready for the number.
    pub opening: Vec<u8>,
    /// Its total.
    pub total: Total,
}

/// See the module's head.
pub struct Group {
    subscription: Subscription,
    prefix: Prefix,
    /// Who gets them.
    pub subscribers: Vec<Arc<Subscriber>>,
    /// The round in the making.
    bytes: Vec<u8>,
    totals: u64,
    merged: u64,
    /// The snapshot, until a total changes; with positions also only until another feed's does, since it tells where it
    /// stands.
    snapshot: Option<(u64, Arc<Buffer>)>,
    /// The same as a JSON array.
    array: Option<Arc<[u8]>>,
}

impl Group {
    /// A group without subscribers.
    pub fn new(subscription: Subscription, runs: &RunList) -> Self {
        let prefix = runs.prefix(number(subscription.feed));
        let (subscribers, bytes) = (Vec::new(), Vec::new());
        Self { subscription, prefix, subscribers, bytes, totals: 0, merged: 0, snapshot: None, array: None }
    }

    /// The form of what they get.
    pub fn format(&self) -> Format {
        self.subscription.format
    }

    /// Whether they are told positions, and so are due every order.
    pub fn has_positions(&self) -> bool {
        self.subscription.format != Format::Plain
    }

    /// Whether the product is part of the feed.
    pub fn takes(&self, view: &View) -> bool {
        match self.subscription.feed {
            Feed::All => true,
            Feed::Category(index) => index == view.category,
        }
    }

    /// A total of the feed has changed: adds it to the round if anybody gets it. `has_gaps`: orders of this round are
    /// missing.
    pub fn add(&mut self, view: &View, seq: u64, merged: u64, has_gaps: bool) {
        (self.snapshot, self.array) = (None, None);
        if self.subscribers.is_empty() || (has_gaps && self.has_positions()) {
            return;
        }
        push(self.format(), &self.prefix, &mut self.bytes, &view.opening, view.total, Some(seq));
        self.totals += 1;
        self.merged += merged;
    }

    /// The round, if there is something in it, with the number of its first publication.
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

    /// These orders, as far as they are part of the feed. `None` when none is.
    pub fn encode<'a>(&self, steps: impl Iterator<Item = &'a Step>, products: &[View], first: u64) -> Option<Buffer> {
        let mut buffer = Buffer { bytes: Vec::new(), totals: 0, merged: 0, first };
        for Step { seq, product, total } in steps {
            if let Some(view) = products.get(product.0 as usize).filter(|view| self.takes(view)) {
                push(self.format(), &self.prefix, &mut buffer.bytes, &view.opening, *total, Some(*seq));
                buffer.totals += 1;
            }
        }
        (buffer.totals > 0).then_some(buffer)
    }

    /// The feed's current totals; `None` when it has no products. Only the last of them bears the position behind the
    /// order with number `last_seq`: who is cut off before it has not seen all totals, and cannot go on from there.
    pub fn snapshot(&mut self, products: &[View], last_seq: u64) -> Option<Arc<Buffer>> {
        if let Some((seq, snapshot)) = &self.snapshot
            && (*seq == last_seq || !self.has_positions())
        {
            return Some(snapshot.clone());
        }
        let mut buffer = Buffer { bytes: Vec::new(), totals: 0, merged: 0, first: 0 };
        let mut views = products.iter().filter(|view| self.takes(view)).peekable();
        while let Some(view) = views.next() {
            let seq = views.peek().is_none().then_some(last_seq);
            push(self.format(), &self.prefix, &mut buffer.bytes, &view.opening, view.total, seq);
            buffer.totals += 1;
        }
        buffer.bytes.shrink_to_fit();
        self.snapshot = (buffer.totals > 0).then(|| (last_seq, Arc::new(buffer)));
        self.snapshot.as_ref().map(|(_, snapshot)| snapshot.clone())
    }

    /// The feed's current totals as a JSON array.
    pub fn array(&mut self, products: &[View]) -> Arc<[u8]> {
        if let Some(array) = &self.array {
            return array.clone();
        }
        let parts = products.iter().filter(|view| self.takes(view));
        let array: Arc<[u8]> = json::totals_array(parts.map(|view| (view.opening.as_slice(), view.total))).into();
        self.array.insert(array).clone()
    }
}

/// Appends one total in the group's format. `seq`: the order behind which a client that has it stands; `None` when it
/// cannot go on from there.
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
