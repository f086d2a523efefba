//! The last orders, kept in memory for subscribers that lag a little or were away for a short time.

use std::collections::VecDeque;

use crate::tally::order::Publication;

/// Orders that are kept: 4,096, some 100 KB. Older ones come from the log.
const KEPT: usize = 4_096;

/// The last publications, without gaps.
#[derive(Debug)]
pub struct Recent {
    publications: VecDeque<Publication>,
    /// The sequence number of the last order before those that are kept.
    before: u64,
}

impl Recent {
    /// Keeps nothing up to this sequence number.
    pub fn new(last_seq: u64) -> Self {
        Self { publications: VecDeque::new(), before: last_seq }
    }

    /// Keeps the next order.
    pub fn push(&mut self, publication: Publication) {
        if self.publications.len() == KEPT
            && let Some(oldest) = self.publications.pop_front()
        {
            self.before = oldest.seq;
        }
        self.publications.push_back(publication);
    }

    /// The first orders after this sequence number, at most `limit`; `None` when some of them are not kept.
    pub fn page(&self, after: u64, limit: usize) -> Option<Vec<Publication>> {
        let known = after.checked_sub(self.before)?;
        // Sequence numbers have no gaps.
        Some(self.publications.iter().skip(known as usize).take(limit).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::ProductIndex;
    use crate::tally::order::Total;

    fn since(recent: &Recent, after: u64) -> Option<Vec<u64>> {
        recent.page(after, KEPT).map(|publications| publications.iter().map(|publication| publication.seq).collect())
    }

    #[test]
    fn what_is_kept_is_told_from_what_is_not() {
        let publication = |seq| Publication { seq, product: ProductIndex(0), total: Total::default() };
        let mut recent = Recent::new(10);
        assert_eq!((since(&recent, 9), since(&recent, 10)), (None, Some(vec![])));
        (11..=13).for_each(|seq| recent.push(publication(seq)));
        assert_eq!(since(&recent, 10), Some(vec![11, 12, 13]));
        assert_eq!((since(&recent, 12), since(&recent, 13)), (Some(vec![13]), Some(vec![])));
        (14..=13 + KEPT as u64).for_each(|seq| recent.push(publication(seq)));
        assert_eq!(since(&recent, 12), None);
        assert_eq!(since(&recent, 13).unwrap().len(), KEPT);
        let recent = Recent::new(9_000);
        assert_eq!((since(&recent, 8_999), since(&recent, 9_000)), (None, Some(vec![])));
    }
}
