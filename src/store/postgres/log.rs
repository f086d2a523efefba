//! Reads the order log and closed periods in PostgreSQL, over a connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::PgError;
use super::hang_up::HangUp;
use super::load::{index_of, number, read_period, row_of};
use super::migrate;
use super::session::Session;
use super::target::Target;
use super::value::{Param, Row, first};
use crate::store::StoreError;
use crate::store::order_log::{Entry, Filter, LogSource, Page};
use crate::store::periods::ClosedPeriod;
use crate::tally::catalog::{CategoryIndex, ProductIndex};
use crate::tally::order::{Publication, Total};
use crate::tally::period::Report;
use crate::tally::rfc3339;

/// How long a call may take, a new connection included: a page takes some milliseconds, and a client that waits for one
/// should get an answer before it gives up.
const CALL_TIME: Duration = Duration::from_secs(5);
/// Sessions that a call uses up at most: one that was idle, and others in a database that is ending sessions.
const SESSIONS: u32 = 4;

/// Reads the log of a database. It connects with the first call, and again when its session has ended.
#[derive(Debug)]
pub struct PgLogReader {
    target: Target,
    session: Option<Session>,
    hang_up: Arc<HangUp>,
}

impl PgLogReader {
    /// A reader of the database at this target.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, session: None, hang_up: Arc::default() }
    }

    /// What ends its connection from another thread.
    #[must_use]
    pub fn hang_up(&self) -> Arc<HangUp> {
        self.hang_up.clone()
    }

    /// The number of the last entry of the log, 0 before the first.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read now, or the database has not the present tables.
    pub fn last_seq(&mut self) -> Result<u64, StoreError> {
        self.read(|session, deadline| {
            Ok(number(first(session.query("SELECT seq FROM ordercast.head", &[], deadline)?)?.int8(0)?))
        })
    }

    /// Reads within [`CALL_TIME`]. A session that ends meanwhile, while it begins included, or has ended while it was idle,
    /// is replaced.
    fn read<T>(&mut self, read: impl Fn(&mut Session, Instant) -> Result<T, PgError>) -> Result<T, StoreError> {
        let deadline = Instant::now() + CALL_TIME;
        let mut left = SESSIONS;
        loop {
            let result = self.read_once(&read, deadline);
            left -= 1;
            match result {
                Err(PgError::Away { .. }) if left > 0 && Instant::now() < deadline => {}
                result => return Ok(result?),
            }
        }
    }

    fn read_once<T>(
        &mut self,
        read: impl Fn(&mut Session, Instant) -> Result<T, PgError>,
        deadline: Instant,
    ) -> Result<T, PgError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect(deadline)?,
        };
        let result = read(&mut session, deadline);
        if !session.is_broken() {
            self.session = Some(session);
        }
        result
    }

    fn connect(&self, deadline: Instant) -> Result<Session, PgError> {
        let mut session = Session::connect(&self.target, deadline)?;
        migrate::check(&mut session, deadline)?;
        self.hang_up.note(session.line());
        Ok(session)
    }
}

impl LogSource for PgLogReader {
    fn page(&mut self, after: u64, limit: usize, filter: &Filter, lines: u64) -> Result<Page, StoreError> {
        self.read(|session, deadline| {
            // Read first, so that the page has looked at every entry up to the last one.
            let bounds = session.query(
                "SELECT (SELECT max(seq) FROM ordercast.orders WHERE seq > $1),
                     (SELECT min(seq) FROM ordercast.orders WHERE seq > $1)",
                &[Param::Int8(signed(after))],
                deadline,
            )?;
            let bound = |column| bounds.first().map_or(Ok(None), |row| row.int8_or_null(column));
            // Where entries were deleted, the numbers before the first one that is left are not looked at.
            let (Some(last), Some(first)) = (bound(0)?, bound(1)?) else { return Ok(Page::default()) };
            let through = first.saturating_add_unsigned(lines.saturating_sub(1)).min(last);
            let entries = entries(session, signed(after), through, limit, filter, deadline)?;
            let next = match entries.last() {
                Some(entry) if entries.len() == limit => Some(entry.seq),
                _ if through < last => Some(number(through)),
                _ => None,
            };
            Ok(Page { entries, next })
        })
    }

    fn publications(&mut self, after: u64, limit: usize) -> Result<Option<Vec<Publication>>, StoreError> {
        self.read(|session, deadline| {
            let rows = session.query(
                "SELECT seq, product, total FROM ordercast.orders WHERE seq > $1 ORDER BY seq LIMIT $2",
                &[Param::Int8(signed(after)), limited(limit)],
                deadline,
            )?;
            let publication = |row: &Row| {
                let total = Total::new(row.int8(2)?);
                let total = total.ok_or_else(|| PgError::Unexpected("a total in the log is out of range".into()))?;
                Ok(Publication { seq: number(row.int8(0)?), product: ProductIndex(index_of(row.int4(1)?)), total })
            };
            let publications = rows.iter().map(publication).collect::<Result<Vec<_>, PgError>>()?;
            // Sequence numbers have no gaps, so the first one shows whether orders before it were deleted.
            let is_next = |first: &Publication| Some(first.seq) == after.checked_add(1);
            Ok(publications.first().is_none_or(is_next).then_some(publications))
        })
    }

    fn amounts(
        &mut self,
        through: u64,
        limit: usize,
        mut take: impl FnMut(u64, ProductIndex, u64, i64),
    ) -> Result<(), StoreError> {
        let rows = self.read(|session, deadline| {
            session.query(
                "SELECT o.seq, o.product, o.at_ms, o.amount
                 FROM ordercast.orders o JOIN ordercast.products p ON p.row = o.product
                 WHERE o.seq <= $1 AND o.seq IS DISTINCT FROM p.added_seq ORDER BY o.seq DESC LIMIT $2",
                &[Param::Int8(signed(through)), limited(limit)],
                deadline,
            )
        })?;
        for row in rows {
            let product = ProductIndex(index_of(row.int4(1)?));
            take(number(row.int8(0)?), product, number(row.int8(2)?), row.int8(3)?);
        }
        Ok(())
    }

    fn closed_periods(&mut self, after: u64, before: u64, limit: usize) -> Result<Vec<ClosedPeriod>, StoreError> {
        self.read(|session, deadline| {
            let rows = session.query(
                "SELECT number, opened_ms, opened_after, (
                     SELECT n.opened_ms FROM ordercast.periods n WHERE n.number > p.number ORDER BY n.number LIMIT 1)
                 FROM ordercast.periods p WHERE number > $1 AND number < $2 ORDER BY number LIMIT $3",
                &[Param::Int8(signed(after)), Param::Int8(signed(before)), limited(limit)],
                deadline,
            )?;
            rows.iter().filter_map(|row| closed_period(row).transpose()).collect()
        })
    }

    fn report(&mut self, period: u64) -> Result<Option<Report>, StoreError> {
        self.read(|session, deadline| {
            let rows = session.query(
                "SELECT number, opened_ms, opened_after, (
                     SELECT n.opened_ms FROM ordercast.periods n WHERE n.number > p.number ORDER BY n.number LIMIT 1)
                 FROM ordercast.periods p WHERE number = $1",
                &[Param::Int8(signed(period))],
                deadline,
            )?;
            let closed = rows.first().map(closed_period).transpose()?.flatten();
            let Some((closed, closed_ms)) = closed else { return Ok(None) };
            // Written with the close: they never change.
            let sums = session.query(
                "SELECT product, amount FROM ordercast.period_sums WHERE period = $1 ORDER BY product",
                &[Param::Int8(signed(period))],
                deadline,
            )?;
            let amount = |row: &Row| Ok((ProductIndex(index_of(row.int4(0)?)), row.int8(1)?));
            let amounts = sums.iter().map(amount).collect::<Result<_, PgError>>()?;
            Ok(Some(Report { period: closed, closed_ms: Some(closed_ms), amounts }))
        })
    }
}

/// The wanted entries after the one with number `after`, up to the one with number `through`, at most `limit`.
fn entries(
    session: &mut Session,
    after: i64,
    through: i64,
    limit: usize,
    filter: &Filter,
    deadline: Instant,
) -> Result<Vec<Entry>, PgError> {
    let since_ms = filter.since_ms.map_or(i64::MIN, signed);
    let until_ms = filter.until_ms.map_or(i64::MAX, |until_ms| signed(until_ms) - 1);
    let rows = session.query(
        "SELECT o.seq, o.at_ms, p.id, o.amount, o.total, o.key
         FROM ordercast.orders o JOIN ordercast.products p ON p.row = o.product
         WHERE o.seq > $1 AND o.seq <= $2 AND o.at_ms BETWEEN $4 AND $5
             AND ($6 IS NULL OR o.product = $6) AND ($7 IS NULL OR p.category = $7)
         ORDER BY o.seq LIMIT $3",
        &[
            Param::Int8(after),
            Param::Int8(through),
            limited(limit),
            Param::Int8(since_ms),
            Param::Int8(until_ms),
            Param::Int4OrNull(filter.product.map(|ProductIndex(index)| row_of(index))),
            Param::Int4OrNull(filter.category.map(|CategoryIndex(index)| row_of(index))),
        ],
        deadline,
    )?;
    let entry = |row: &Row| {
        Ok(Entry {
            seq: number(row.int8(0)?),
            time: rfc3339::format(number(row.int8(1)?)),
            id: row.text(2)?.to_owned(),
            amount: row.int8(3)?,
            total: row.int8(4)?,
            key: row.text_or_null(5)?.map(str::to_owned),
        })
    };
    rows.iter().map(entry).collect()
}

/// The period of a row and the time of its close; `None` for the current one.
fn closed_period(row: &Row) -> Result<Option<ClosedPeriod>, PgError> {
    let period = read_period(row)?;
    Ok(row.int8_or_null(3)?.map(|closed_ms| (period, number(closed_ms))))
}

/// A number as the database has it. Those that it cannot have are beyond all others.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn limited(limit: usize) -> Param<'static> {
    Param::Int8(i64::try_from(limit).unwrap_or(i64::MAX))
}
