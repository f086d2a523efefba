//! Accounting periods: between two closes, what tills call X and Z reports.

use std::sync::{Arc, RwLock};

use super::catalog::ProductIndex;
use super::order::Total;

/// A period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its number, from 1.
    pub number: u64,
    /// When it was opened, in milliseconds since 1970 (UTC).
    pub opened_ms: u64,
    /// The sequence number of the last entry of the order log before it.
    pub opened_after: u64,
}

impl Default for Period {
    fn default() -> Self {
        Self { number: 1, opened_ms: 0, opened_after: 0 }
    }
}

impl Period {
    /// The period that follows this one when it is closed at `now_ms` after the log's entry `last_seq`. It is not opened
    /// before this one was, also on a clock that was set back.
    #[must_use]
    pub fn next(&self, now_ms: u64, last_seq: u64) -> Self {
        Self { number: self.number + 1, opened_ms: now_ms.max(self.opened_ms), opened_after: last_seq }
    }
}

/// What was ordered in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The period.
    pub period: Period,
    /// When it was closed, in milliseconds since 1970 (UTC); `None` for the current one.
    pub closed_ms: Option<u64>,
    /// The sum of the amounts of each product, in pieces, without the products whose sum is 0. It may be twice as large as
    /// any total.
    pub amounts: Vec<(ProductIndex, i64)>,
}

/// The current period, and what its counts begin from.
#[derive(Debug, Clone, Default)]
pub struct CurrentPeriod {
    /// The period.
    pub period: Period,
    /// The total of each product when the period was opened; the starting total of one that was added before the server
    /// started. A product that is missing was added later, with a total of 0.
    pub openings: Vec<Total>,
}

impl CurrentPeriod {
    /// What was ordered since the period was opened, of the products with these totals.
    #[must_use]
    pub fn report(&self, totals: &[Total]) -> Report {
        let openings = self.openings.iter().copied().chain(std::iter::repeat(Total::default()));
        let amounts = totals.iter().zip(openings).map(|(total, opening)| total.get() - opening.get());
        let amounts = (0..).map(ProductIndex).zip(amounts).filter(|(_, amount)| *amount != 0).collect();
        Report { period: self.period, closed_ms: None, amounts }
    }
}

/// The current period, which the ledger replaces when it is closed.
pub type SharedPeriod = Arc<RwLock<Arc<CurrentPeriod>>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::order::MAX_TOTAL;

    fn totals(totals: &[i64]) -> Vec<Total> {
        totals.iter().map(|total| Total::new(*total).unwrap()).collect()
    }

    #[test]
    fn a_period_is_not_opened_before_the_one_that_it_follows() {
        let first = Period { number: 1, opened_ms: 50, opened_after: 0 };
        assert_eq!(first.next(60, 7), Period { number: 2, opened_ms: 60, opened_after: 7 });
        assert_eq!(first.next(40, 7), Period { number: 2, opened_ms: 50, opened_after: 7 });
    }

    #[test]
    fn a_report_has_every_product_whose_sum_is_not_zero_with_those_that_were_added_since() {
        let current = CurrentPeriod { openings: totals(&[3, 7, -MAX_TOTAL]), ..CurrentPeriod::default() };
        let report = current.report(&totals(&[3, 5, MAX_TOTAL, 0, 4]));
        assert_eq!(report.amounts, [(ProductIndex(1), -2), (ProductIndex(2), 2 * MAX_TOTAL), (ProductIndex(4), 4)]);
        assert_eq!((report.period, report.closed_ms), (Period::default(), None));
    }
}
