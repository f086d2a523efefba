//! Reads the order log, a page at a time, whether or not a server writes it at the same time. Knows neither formats nor
//! threads.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::periods::{self, ClosedPeriod};
use super::{StoreError, open};
use crate::tally::catalog::ProductIndex;
use crate::tally::order::{Publication, Total};
use crate::tally::period::Report;

/// One entry of the order log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The sequence number.
    pub seq: u64,
    /// The time of the order: RFC 3339 in UTC, to the millisecond.
    pub time: String,
    /// The product's id.
    pub id: String,
    /// The amount, in pieces.
    pub amount: i64,
    /// The product's total after this order, in pieces.
    pub total: i64,
    /// The client's key.
    pub key: Option<String>,
}

/// A read-only connection to the data file.
pub struct LogReader {
    connection: Connection,
}

impl LogReader {
    /// Opens the data file for reading.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it does not exist, or is of another program or of a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection =
            open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| StoreError::opening(path, error))?;
        open::check_origin(&connection, path)?;
        Ok(Self { connection })
    }

    /// See [`page`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn page(&self, after: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
        page(&self.connection, after, limit)
    }

    /// See [`periods::closed`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn closed_periods(&self, after: u64, before: u64, limit: usize) -> rusqlite::Result<Vec<ClosedPeriod>> {
        periods::closed(&self.connection, after, before, limit)
    }

    /// See [`periods::report`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn report(&self, number: u64) -> rusqlite::Result<Option<Report>> {
        periods::report(&self.connection, number)
    }

    /// As [`Self::page`] for a live feed; `None` when orders right after `after` are no longer in the log.
    ///
    /// # Errors
    /// SQLite's.
    pub fn publications(&self, after: u64, limit: usize) -> rusqlite::Result<Option<Vec<Publication>>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq, product, total FROM orders WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
        let rows = statement.query_map(params![after.cast_signed(), limit as i64], |row| {
            let product: u32 = row.get(1)?;
            Ok(Publication {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                product: ProductIndex(product.saturating_sub(1)),
                total: {
                    let total = row.get(2)?;
                    Total::new(total).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, total))?
                },
            })
        })?;
        let publications = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        // Sequence numbers have no gaps, so the first one shows whether orders before it were deleted.
        Ok(publications.first().is_none_or(|first| first.seq == after + 1).then_some(publications))
    }
}

/// The orders after the one with number `after`, oldest first, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn page(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
    let of_keys = |key: &str| {
        format!(
            "SELECT seq, strftime('%Y-%m-%dT%H:%M:%fZ', orders.at_ms / 1000.0, 'unixepoch'), id, amount, orders.total, {key}
             FROM orders JOIN products ON products.row = orders.product WHERE seq > ?1 ORDER BY seq LIMIT ?2"
        )
    };
    // The order log of the first schema has no keys. A server migrates it, but it can be read before that.
    let mut statement =
        connection.prepare_cached(&of_keys("orders.key")).or_else(|_| connection.prepare_cached(&of_keys("NULL")))?;
    let rows = statement.query_map(params![after.cast_signed(), limit as i64], |row| {
        Ok(Entry {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            time: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
            id: row.get(2)?,
            amount: row.get(3)?,
            total: row.get(4)?,
            key: row.get(5)?,
        })
    })?;
    rows.collect()
}
