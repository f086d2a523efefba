//! What waits for a fan-out thread, in the order in which it happened. Owns how publications are merged when there are
//! too many.

use std::collections::HashMap;
use std::sync::Arc;

use crate::tally::catalog::CategoryIndex;
use crate::tally::order::{Publication, Total};
use crate::tally::position::RunList;

/// A publication that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The latest of its product.
    pub publication: Publication,
    /// The number of earlier ones of its product that it replaces.
    pub merged: u64,
}

/// What happened between two publications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// Products of this category were changed, or the category is new.
    Catalog(CategoryIndex),
    /// A period was opened, with these totals, after the entry of the log with this sequence number.
    Period(Arc<[Total]>, u64),
    /// Positions are those of these runs from now on.
    Runs(Box<RunList>),
    /// Everything is different.
    Replaced(Arc<Replacement>),
    /// Another server has shown a product again after the order with this sequence number.
    ShownAfter(u64),
}

/// What takes the place of everything that was published. The shared catalogue has its products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The total of each product.
    pub totals: Vec<Total>,
    /// The total of each product when the current period was opened.
    pub openings: Vec<Total>,
    /// The sequence number of the last entry of the log before that.
    pub opened_after: u64,
    /// The same of periods before it, oldest first, as far as they are known.
    pub opened_before: Vec<u64>,
    /// The sequence number of the last order.
    pub last_seq: u64,
    /// The sequence number of the last order before a product was last shown again, or a later one.
    pub shown_after: Option<u64>,
    /// The runs whose positions are valid.
    pub runs: RunList,
    /// Whether the categories that were known have their places still. If not, every subscriber is reset: it would get
    /// totals of another category.
    pub keeps_categories: bool,
}

/// What waits.
#[derive(Debug, Default)]
pub struct WaitingList {
    /// The publications, oldest first.
    pub publications: Vec<Waiting>,
    /// The markers, oldest first, each with the number of publications before it.
    pub markers: Vec<(usize, Marker)>,
}

impl WaitingList {
    /// The number of publications and markers.
    pub fn len(&self) -> usize {
        self.publications.len() + self.markers.len()
    }

    /// Whether some publications were replaced by later ones.
    pub fn has_gaps(&self) -> bool {
        self.publications.iter().any(|waiting| waiting.merged > 0)
    }

    /// Whether there are only publications, and none is missing.
    pub fn is_plain(&self) -> bool {
        self.markers.is_empty() && !self.has_gaps()
    }

    /// Adds a marker behind the publications that wait.
    pub fn mark(&mut self, marker: Marker) {
        self.markers.push((self.publications.len(), marker));
    }

    /// Keeps the last publication of each product, in the order of those last ones. The last marker of each kind moves
    /// to the front: totals are absolute, so what is sent after it is right.
    pub fn merge(&mut self) {
        let mut merged_later = HashMap::new();
        let mut kept: Vec<Waiting> = Vec::new();
        for Waiting { publication, merged } in self.publications.drain(..).rev() {
            match merged_later.get(&publication.product) {
                Some(&at) => {
                    let last: &mut Waiting = &mut kept[at];
                    last.merged += merged + 1;
                }
                None => {
                    merged_later.insert(publication.product, kept.len());
                    kept.push(Waiting { publication, merged });
                }
            }
        }
        kept.reverse();
        self.publications = kept;
        let mut markers: Vec<(usize, Marker)> = Vec::new();
        for (_, marker) in self.markers.drain(..).rev() {
            let is_replaced = markers.iter().any(|(_, later)| match (later, &marker) {
                (Marker::Period(..), Marker::Period(..))
                | (Marker::ShownAfter(_), Marker::ShownAfter(_))
                | (Marker::Runs(_), Marker::Runs(_)) => true,
                (later, marker) => later == marker,
            });
            if !is_replaced {
                markers.push((0, marker));
            }
        }
        markers.reverse();
        self.markers = markers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::ProductIndex;

    fn waiting(product: u32, total: i64) -> Waiting {
        let publication = Publication { product: ProductIndex(product), total: Total::new(total).unwrap(), seq: 0 };
        Waiting { publication, merged: 0 }
    }

    #[test]
    fn merging_keeps_the_latest_total_of_each_product_and_counts_the_rest() {
        let publications = vec![waiting(0, 1), waiting(1, 5), waiting(0, 2), waiting(2, 9), waiting(0, 3)];
        let mut list = WaitingList { publications, ..WaitingList::default() };
        list.merge();
        let seen: Vec<_> = list
            .publications
            .iter()
            .map(|Waiting { publication, merged }| (publication.product.0, publication.total.get(), *merged))
            .collect();
        assert_eq!(seen, [(1, 5, 0), (2, 9, 0), (0, 3, 2)]);
        list.publications.push(waiting(0, 4));
        list.merge();
        let newest = list.publications.last();
        assert_eq!(newest.map(|last| (last.publication.total.get(), last.merged)), Some((4, 3)));
    }

    #[test]
    fn merging_keeps_the_last_marker_of_each_kind_and_moves_it_to_the_front() {
        let period = |after| Marker::Period(Arc::default(), after);
        let mut list = WaitingList::default();
        for marker in [Marker::Catalog(CategoryIndex(0)), period(1), Marker::Catalog(CategoryIndex(1)), period(2)] {
            list.publications.push(waiting(0, 1));
            list.mark(marker);
        }
        list.mark(Marker::Catalog(CategoryIndex(0)));
        assert_eq!((list.len(), list.markers[1].0, list.markers[4].0), (9, 2, 4));
        list.merge();
        let kept = [Marker::Catalog(CategoryIndex(1)), period(2), Marker::Catalog(CategoryIndex(0))];
        assert_eq!((list.len(), list.markers), (4, kept.map(|marker| (0, marker)).to_vec()));
    }
}
