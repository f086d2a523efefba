//! Reads the order log, a page at a time, whether or not a server writes it at the same time: the trait of every store's
//! log, and SQLite's. Knows neither formats nor threads.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::periods::{self, ClosedPeriod};
use super::{StoreError, open};
use crate::tally::catalog::{CategoryIndex, ProductIndex};
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

/// Which entries are wanted: those to which all of this applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their time is this or later, in milliseconds since 1970 (UTC).
    pub since_ms: Option<u64>,
    /// Their time is earlier than this.
    pub until_ms: Option<u64>,
    /// Their product.
    pub product: Option<ProductIndex>,
    /// Their product's category.
    pub category: Option<CategoryIndex>,
}

/// Entries of the order log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The sequence number after which there may be more; `None` when the log has ended.
    pub next: Option<u64>,
}

/// Reads what a store keeps beside its present state: the order log, and the reports of closed periods.
pub trait LogSource: Send {
    /// The wanted entries after the one with number `after`, at most `limit`. At most `lines` entries are looked at, so
    /// that it takes no longer when few of them are wanted.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read now.
    fn page(&mut self, after: u64, limit: usize, filter: &Filter, lines: u64) -> Result<Page, StoreError>;

    /// Orders for a live feed: those after the one with number `after`, oldest first, at most `limit`; `None` when orders
    /// right after `after` are no longer in the log.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read now.
    fn publications(&mut self, after: u64, limit: usize) -> Result<Option<Vec<Publication>>, StoreError>;

    /// The amounts of the orders up to the one with number `through`, newest first, at most `limit`: number, product,
    /// time in milliseconds since 1970 (UTC), and amount of each. Entries of the log that are no orders are left out.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read now.
    fn amounts(
        &mut self,
        through: u64,
        limit: usize,
        take: impl FnMut(u64, ProductIndex, u64, i64),
    ) -> Result<(), StoreError>;

    /// The closed periods with numbers between `after` and `before`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read now.
    fn closed_periods(&mut self, after: u64, before: u64, limit: usize) -> Result<Vec<ClosedPeriod>, StoreError>;

    /// The report of a closed period; `None` if there is no closed one with this number.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read now.
    fn report(&mut self, number: u64) -> Result<Option<Report>, StoreError>;
}

/// Reads a data file, which is opened with the first call.
pub struct LogReader {
    path: PathBuf,
    connection: Option<Connection>,
}

impl LogReader {
    /// A reader of the data file with this path.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), connection: None }
    }

    fn connection(&mut self) -> Result<&Connection, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_to_read(&self.path)?,
        };
        Ok(self.connection.insert(connection))
    }
}

fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| StoreError::reading(path, error))?;
    open::check_origin(&connection, path)?;
    Ok(connection)
}

impl LogSource for LogReader {
    fn page(&mut self, after: u64, limit: usize, filter: &Filter, lines: u64) -> Result<Page, StoreError> {
        let connection = self.connection()?;
        let number = |sql| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row([after.cast_signed()], |row| row.get::<_, Option<i64>>(0))
        };
        // Read first, so that the page has looked at every entry up to this one.
        let last = number("SELECT max(seq) FROM orders WHERE seq > ?1")?;
        // Where entries were deleted, the numbers before the first one that is left are not looked at.
        let (Some(last), Some(first)) = (last, number("SELECT min(seq) FROM orders WHERE seq > ?1")?) else {
            return Ok(Page::default());
        };
        let through = first.saturating_add_unsigned(lines.saturating_sub(1)).min(last);
        let entries = entries(connection, after.cast_signed(), through, limit, filter)?;
        let next = match entries.last() {
            Some(entry) if entries.len() == limit => Some(entry.seq),
            _ if through < last => Some(through.cast_unsigned()),
            _ => None,
        };
        Ok(Page { entries, next })
    }

    fn publications(&mut self, after: u64, limit: usize) -> Result<Option<Vec<Publication>>, StoreError> {
        let mut statement = self
            .connection()?
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

    fn amounts(
        &mut self,
        through: u64,
        limit: usize,
        mut take: impl FnMut(u64, ProductIndex, u64, i64),
    ) -> Result<(), StoreError> {
        let sql = |is_order: &str| {
            format!(
                "SELECT seq, product, at_ms, amount FROM orders CROSS JOIN products ON products.row = orders.product
                 WHERE seq <= ?1 AND {is_order} ORDER BY seq DESC LIMIT ?2"
            )
        };
        let connection = self.connection()?;
        // A file of an older schema, which could not be migrated, does not tell a new product's entry, whose amount is 0
        // there unless it comes from a catalogue file.
        let mut statement = (connection.prepare_cached(&sql("seq IS NOT added_seq")))
            .or_else(|_| connection.prepare_cached(&sql("TRUE")))?;
        let mut rows = statement.query(params![through.min(i64::MAX as u64).cast_signed(), limit as i64])?;
        while let Some(row) = rows.next()? {
            let (seq, product, at_ms): (i64, u32, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let product = ProductIndex(product.saturating_sub(1));
            take(seq.max(0).cast_unsigned(), product, at_ms.max(0).cast_unsigned(), row.get(3)?);
        }
        Ok(())
    }

    fn closed_periods(&mut self, after: u64, before: u64, limit: usize) -> Result<Vec<ClosedPeriod>, StoreError> {
        Ok(periods::closed(self.connection()?, after, before, limit)?)
    }

    fn report(&mut self, number: u64) -> Result<Option<Report>, StoreError> {
        Ok(periods::report(self.connection()?, number)?)
    }
}

/// The orders after the one with number `after`, oldest first, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn page(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
    entries(connection, after.cast_signed(), i64::MAX, limit, &Filter::default())
}

/// The wanted entries after the one with number `after`, up to the one with number `through`, at most `limit`.
fn entries(
    connection: &Connection,
    after: i64,
    through: i64,
    limit: usize,
    filter: &Filter,
) -> rusqlite::Result<Vec<Entry>> {
    // CROSS JOIN makes SQLite go through the log, by number, and not through the products first.
    let of_keys = |key: &str| {
        format!(
            "SELECT seq, strftime('%Y-%m-%dT%H:%M:%fZ', orders.at_ms / 1000.0, 'unixepoch'), id, amount, orders.total, {key}
             FROM orders CROSS JOIN products ON products.row = orders.product
             WHERE seq > ?1 AND seq <= ?2 AND orders.at_ms BETWEEN ?4 AND ?5
                 AND (?6 IS NULL OR orders.product = ?6) AND (?7 IS NULL OR products.category = ?7)
             ORDER BY seq LIMIT ?3"
        )
    };
    // The order log of the first schema has no keys. A server migrates it, but it can be read before that.
    let mut statement =
        connection.prepare_cached(&of_keys("orders.key")).or_else(|_| connection.prepare_cached(&of_keys("NULL")))?;
    let since_ms = filter.since_ms.map_or(i64::MIN, u64::cast_signed);
    let until_ms = filter.until_ms.map_or(i64::MAX, |until_ms| until_ms.cast_signed() - 1);
    let product = filter.product.map(|ProductIndex(index)| index + 1);
    let category = filter.category.map(|CategoryIndex(index)| index + 1);
    let values = params![after, through, limit as i64, since_ms, until_ms, product, category];
    let rows = statement.query_map(values, |row| {
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
