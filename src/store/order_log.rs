//! Reading the log of orders, page by page, while a server writes it or when none runs. Owns how a page is found; knows
//! neither formats nor threads.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

use super::StoreError;
use super::schema::{self, describe_open};
use crate::tally::catalog::ProductIndex;
use crate::tally::order::{Publication, Total};

/// How long a read waits while another program holds the whole file: 2 s.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence number.
    pub seq: u64,
    /// When it was taken: RFC 3339 in UTC, to the millisecond.
    pub time: String,
    /// What was ordered.
    pub id: String,
    /// How many, in pieces.
    pub amount: i64,
    /// The product's total after it, in pieces.
    pub total: i64,
    /// What the client called it.
    pub key: Option<String>,
}

/// A connection of its own, which can only read.
pub struct LogReader {
    connection: Connection,
}

impl LogReader {
    /// Opens the data file for reading.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when there is none, or it is not ours.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let describe = |error| describe_open(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(describe)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(describe)?;
        schema::check_origin(&connection, path)?;
        Ok(Self { connection })
    }

    /// See [`page`].
    ///
    /// # Errors
    /// What SQLite says.
    pub fn page(&self, after: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
        page(&self.connection, after, limit)
    }

    /// The same for a live feed. `None` when orders between `after` and the first of them are no longer there.
    ///
    /// # Errors
    /// What SQLite says.
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
        // Sequence numbers have no gaps, so the first one tells whether something was taken away before it.
        Ok(publications.first().is_none_or(|first| first.seq == after + 1).then_some(publications))
    }
}

/// The first orders behind the one with number `after`, oldest first, at most `limit`.
///
/// # Errors
/// What SQLite says.
pub fn page(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
    let of_keys = |key: &str| {
        format!(
            "SELECT seq, strftime('%Y-%m-%dT%H:%M:%fZ', orders.at_ms / 1000.0, 'unixepoch'), id, amount, orders.total, {key}
             FROM orders JOIN products ON products.row = orders.product WHERE seq > ?1 ORDER BY seq LIMIT ?2"
        )
    };
    // The log of the first schema has no keys; a server brings it up to date, but a reader may come before.
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
