//! Reads what the database holds beside the log: all of it when a node starts, and single rows when others have changed
//! them.

use std::time::Instant;

use super::error::PgError;
use super::session::Session;
use super::value::Row;
use crate::store::{StoreError, Stored};
use crate::tally::catalog::{CategoryIndex, Details, Product};
use crate::tally::order::Total;
use crate::tally::period::Period;
use crate::tally::position::RunList;

/// What the database held at one moment.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// All but the log.
    pub stored: Stored,
    /// The number of the last row of the news.
    pub news: u64,
}

/// Why what was read cannot be used.
enum Unread {
    Failed(PgError),
    /// A rule of the catalogue or of the totals is broken.
    Broken(String),
}

impl From<PgError> for Unread {
    fn from(error: PgError) -> Self {
        Self::Failed(error)
    }
}

impl From<Unread> for StoreError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Failed(error) => error.into(),
            Unread::Broken(rule) => {
                Self::Damaged(format!("the database is damaged ({rule}): stop all nodes and restore a backup").into())
            }
        }
    }
}

/// Reads everything but the log, as it was at one moment.
///
/// # Errors
/// [`StoreError::Failed`] when it cannot be read now, [`StoreError::Damaged`] when it breaks a rule.
pub fn load(session: &mut Session, deadline: Instant) -> Result<Loaded, StoreError> {
    session.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", deadline)?;
    let loaded = load_within(session, deadline);
    // A session that is broken has no transaction any more.
    let ended = session.script("COMMIT", deadline);
    let loaded = loaded?;
    ended?;
    Ok(loaded)
}

/// As [`load`], within a transaction that the caller has begun.
///
/// # Errors
/// As [`load`].
pub fn load_within(session: &mut Session, deadline: Instant) -> Result<Loaded, StoreError> {
    Ok(read(session, deadline)?)
}

fn read(session: &mut Session, deadline: Instant) -> Result<Loaded, Unread> {
    let mut stored = Stored::default();
    read_categories(session, &mut stored, deadline)?;
    read_products(session, &mut stored, deadline)?;
    let sql = "SELECT number, opened_ms, opened_after FROM ordercast.periods ORDER BY number DESC LIMIT 1";
    let period = session.query(sql, &[], deadline)?;
    stored.period = match period.first() {
        Some(row) => read_period(row)?,
        None => return Err(Unread::Broken("the list of periods is empty".into())),
    };
    let runs = session.query(
        "SELECT coalesce(string_agg(id || ':' || after, ' ' ORDER BY n), '') FROM ordercast.runs",
        &[],
        deadline,
    )?;
    stored.runs = RunList::parse(runs.first().map_or(Ok(""), |row| row.text(0))?);
    let head = session.query("SELECT seq, news, shown_after FROM ordercast.head", &[], deadline)?;
    let Some(head) = head.first() else { return Err(Unread::Broken("the head is missing".into())) };
    stored.last_seq = number(head.int8(0)?);
    stored.shown_after = head.int8_or_null(2)?.map(number);
    Ok(Loaded { stored, news: number(head.int8(1)?) })
}

fn read_categories(session: &mut Session, stored: &mut Stored, deadline: Instant) -> Result<(), Unread> {
    let sql = "SELECT row, name, prefix, title FROM ordercast.categories ORDER BY row";
    for row in session.query(sql, &[], deadline)? {
        let (name, prefix, title) = (row.text(1)?, row.text(2)?, row.text(3)?);
        let added = stored.catalog.add_stored_category(name, prefix);
        let index = added
            .and_then(|index| stored.catalog.set_title(index, title).map(|()| index))
            .map_err(|error| Unread::Broken(error.to_string()))?;
        if i64::from(index.0) + 1 != i64::from(row.int4(0)?) {
            return Err(Unread::Broken("a category is missing".into()));
        }
    }
    Ok(())
}

fn read_products(session: &mut Session, stored: &mut Stored, deadline: Instant) -> Result<(), Unread> {
    let sql = "SELECT p.id, p.category, p.name, p.rrp, p.info, p.hidden, p.opening, p.row, t.total, t.ordered_ms,
            p.added_seq
        FROM ordercast.products p LEFT JOIN ordercast.totals t ON t.product = p.row ORDER BY p.row";
    let categories = stored.catalog.categories().len();
    for row in session.query(sql, &[], deadline)? {
        let product = read_product(&row)?;
        let id = &product.id;
        let total = |column| Ok::<_, PgError>(row.int8_or_null(column)?.and_then(Total::new));
        let (Some(opening), Some(total)) = (total(6)?, total(8)?) else {
            return Err(Unread::Broken(format!("the total of {id} is missing or out of range")));
        };
        if product.category.0 as usize >= categories {
            return Err(Unread::Broken(format!("{id} belongs to no category")));
        }
        let added = stored.catalog.add_product(product.category, id, product.details.clone());
        let index = added
            .and_then(|index| {
                stored.catalog.change_product(index, product.details.clone(), product.is_hidden).map(|()| index)
            })
            .map_err(|error| Unread::Broken(error.to_string()))?;
        if i64::from(index.0) + 1 != i64::from(row.int4(7)?) {
            return Err(Unread::Broken("a product is missing".into()));
        }
        stored.totals.push(total);
        stored.openings.push(opening);
        stored.ordered_ms.push(row.int8_or_null(9)?.map(number));
        stored.first_lines += u64::from(row.int8_or_null(10)?.is_some());
    }
    Ok(())
}

/// From a row that begins with id, category, name, price, description, and whether it is hidden.
fn read_product(row: &Row) -> Result<Product, PgError> {
    Ok(Product {
        id: row.text(0)?.to_owned(),
        category: CategoryIndex(index_of(row.int4(1)?)),
        details: Details { name: row.text(2)?.to_owned(), rrp: row.text(3)?.to_owned(), info: row.text(4)?.to_owned() },
        is_hidden: row.bool(5)?,
    })
}

/// From a row that begins with number, time of opening, and the last entry of the log before it.
pub(super) fn read_period(row: &Row) -> Result<Period, PgError> {
    Ok(Period { number: number(row.int8(0)?), opened_ms: number(row.int8(1)?), opened_after: number(row.int8(2)?) })
}

/// A number that is not negative in the database.
pub(super) fn number(number: i64) -> u64 {
    number.max(0).cast_unsigned()
}

/// The index of a row.
pub(super) fn index_of(row: i32) -> u32 {
    row.saturating_sub(1).max(0).cast_unsigned()
}

/// The row of an index.
pub(super) fn row_of(index: u32) -> i32 {
    index.saturating_add(1).min(i32::MAX.cast_unsigned()).cast_signed()
}
