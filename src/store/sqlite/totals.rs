//! The totals that are in the log alone. The line of an order has its product's total, so the product's own row need not be
//! written with each order: it gets the last of many totals.

use rusqlite::{Transaction, params};

use crate::store::{Change, Stored};
use crate::tally::catalog::ProductIndex;
use crate::tally::order::Total;

/// The last orders of the products whose rows are behind the log.
pub struct Totals {
    /// By product: the total after its last order, and the order's time, in milliseconds since 1970 (UTC).
    lasts: Vec<Option<(Total, u64)>>,
}

impl Totals {
    /// Those of a data file that holds this. `is_behind` if rows may be behind the log.
    pub fn of(stored: &Stored, is_behind: bool) -> Self {
        let all = stored.totals.iter().zip(&stored.ordered_ms);
        let lasts = all.map(|(total, ordered_ms)| ordered_ms.filter(|_| is_behind).map(|at_ms| (*total, at_ms)));
        Self { lasts: lasts.collect() }
    }

    /// Writes them to the rows of the products.
    pub fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut update =
            transaction.prepare_cached("UPDATE products SET total = ?2, ordered_ms = ?3 WHERE row = ?1")?;
        for (last, row) in self.lasts.iter().zip(1..) {
            if let Some((total, at_ms)) = last {
                update.execute(params![row, total.get(), at_ms.cast_signed()])?;
            }
        }
        Ok(())
    }

    /// Forgets them, since what [`Self::write`] has written was committed.
    pub fn clear(&mut self) {
        self.lasts.fill(None);
    }

    /// Adds those of changes that were committed.
    pub fn add(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Order { product: ProductIndex(index), total, at_ms, .. } = change {
                let index = *index as usize;
                if index >= self.lasts.len() {
                    self.lasts.resize(index + 1, None);
                }
                self.lasts[index] = Some((*total, *at_ms));
            }
        }
    }
}
