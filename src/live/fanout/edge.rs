//! What the fan-out tells another server that follows this one, and what it takes from one that this one follows.

use super::Fanout;
use crate::tally::edge::EdgeStart;
use crate::tally::position::RunList;

/// Openings of former periods that are known: the last 32. A server that was away while more were opened counts some of
/// its orders from an earlier opening, until it has followed.
pub const MAX_OPENINGS: usize = 32;

impl Fanout {
    pub(super) fn edge_start(&mut self) -> EdgeStart {
        self.load_products();
        EdgeStart {
            totals: self.products.iter().map(|product| product.total).collect(),
            openings: self.products.iter().map(|product| product.opening).collect(),
            opened_after: self.opened_after,
            opened_before: self.opened_before.iter().copied().collect(),
            last_seq: self.last_seq,
            shown_after: self.feeds.iter().filter_map(|feed| feed.shown_after).max(),
            runs: self.runs.clone(),
            news: self.news,
        }
    }

    /// A period is opened after the order with this number.
    pub(super) fn note_opening(&mut self, opened_after: u64) {
        if self.opened_before.len() == MAX_OPENINGS {
            self.opened_before.pop_front();
        }
        self.opened_before.push_back(self.opened_after);
        self.opened_after = opened_after;
    }

    /// Positions are those of these runs from now on. All rounds have been sent.
    pub(super) fn set_runs(&mut self, runs: RunList) {
        self.groups.iter_mut().for_each(|group| group.set_runs(&runs));
        self.runs = runs;
    }
}
