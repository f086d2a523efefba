//! The last orders, as far as memory keeps them: what a client that was away for a moment, or lags a little, is due.

use std::collections::VecDeque;

use crate::store::order_log::Step;

/// Orders that are kept: 4,096, some 100 KB. Who has missed more is served from the log.
const KEPT: usize = 4_096;

/// See the module's head.
#[derive(Debug)]
pub struct Recent {
    steps: VecDeque<Step>,
    /// The number of the last order before those that are kept.
    before: u64,
}

impl Recent {
    /// Nothing is kept of what came up to the order with this number.
    pub fn new(last_seq: u64) -> Self {
        Self { steps: VecDeque::new(), before: last_seq }
    }

    /// Keeps the next order.
    pub fn push(&mut self, step: Step) {
        if self.steps.len() == KEPT
            && let Some(oldest) = self.steps.pop_front()
        {
            self.before = oldest.seq;
        }
        self.steps.push_back(step);
    }

    /// Forgets what was kept, because orders up to this number have not all come by.
    pub fn restart(&mut self, last_seq: u64) {
        *self = Self::new(last_seq);
    }

    /// All orders behind the one with this number; `None` when they are not all kept.
    pub fn since(&self, after: u64) -> Option<impl Iterator<Item = &Step>> {
        let known = after.checked_sub(self.before)?;
        // Numbers have no gaps.
        Some(self.steps.iter().skip(known as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::ProductIndex;
    use crate::tally::order::Total;

    fn since(recent: &Recent, after: u64) -> Option<Vec<u64>> {
        recent.since(after).map(|steps| steps.map(|step| step.seq).collect())
    }

    #[test]
    fn what_is_kept_is_told_from_what_is_not() {
        let step = |seq| Step { seq, product: ProductIndex(0), total: Total::default() };
        let mut recent = Recent::new(10);
        assert_eq!((since(&recent, 9), since(&recent, 10)), (None, Some(vec![])));
        (11..=13).for_each(|seq| recent.push(step(seq)));
        assert_eq!(since(&recent, 10), Some(vec![11, 12, 13]));
        assert_eq!((since(&recent, 12), since(&recent, 13)), (Some(vec![13]), Some(vec![])));
        (14..=13 + KEPT as u64).for_each(|seq| recent.push(step(seq)));
        assert_eq!(since(&recent, 12), None);
        assert_eq!(since(&recent, 13).unwrap().len(), KEPT);
        recent.restart(9_000);
        assert_eq!((since(&recent, 8_999), since(&recent, 9_000)), (None, Some(vec![])));
    }
}
