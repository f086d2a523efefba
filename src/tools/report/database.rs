//! What a report reads of a database.

use std::time::{Duration, Instant};

use super::{Begin, Order, PAGE, sequence};
use crate::store::StoreError;
use crate::store::postgres::load::load_within;
use crate::store::postgres::{Param, PgError, Row, Session, Target, migrate};
use crate::tally::catalog::ProductIndex;
use crate::tally::period::Period;

/// How long one read may take: a minute.
const DEADLINE: Duration = Duration::from_secs(60);

/// A database that is only read.
pub(super) struct Database(Session);

impl Database {
    pub(super) fn open(target: &Target) -> Result<Self, StoreError> {
        let mut session = Session::connect(target, soon())?;
        migrate::check(&mut session, soon())?;
        Ok(Self(session))
    }

    /// Reads everything but the orders at one moment.
    pub(super) fn begin(&mut self) -> Result<Begin, StoreError> {
        let Self(session) = self;
        session.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", soon())?;
        let stored = load_within(session, soon())?.stored;
        let sql = "SELECT seq, at_ms FROM ordercast.orders ORDER BY seq LIMIT 1";
        let first = session.query(sql, &[], soon())?;
        let first = first.first().map(|row| Ok::<_, PgError>((sequence(row.int8(0)?), row.int8(1)?))).transpose()?;
        let sql = "SELECT added_seq FROM ordercast.products WHERE added_seq IS NOT NULL";
        let first_lines = session.query(sql, &[], soon())?;
        let first_lines = first_lines.iter().map(|row| row.int8(0).map(sequence)).collect::<Result<_, _>>()?;
        let sql = "SELECT number, opened_ms, opened_after,
                 (SELECT n.opened_ms FROM ordercast.periods n WHERE n.number > p.number ORDER BY n.number LIMIT 1)
             FROM ordercast.periods p ORDER BY number";
        let period = |row: &Row| {
            let column = |index| row.int8(index).map(sequence);
            let period = Period { number: column(0)?, opened_ms: column(1)?, opened_after: column(2)? };
            Ok::<_, PgError>((period, row.int8_or_null(3)?.map(sequence)))
        };
        let periods = session.query(sql, &[], soon())?.iter().map(period).collect::<Result<_, _>>()?;
        session.script("COMMIT", soon())?;
        Ok(Begin { stored, first, repaired: 0, first_lines, periods })
    }

    /// The next entries after `after`, up to `last`.
    pub(super) fn orders(&mut self, after: u64, last: u64) -> Result<Vec<Order>, StoreError> {
        let sql = "SELECT seq, at_ms, product::bigint, amount FROM ordercast.orders
             WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3";
        let params = [Param::Int8(after.cast_signed()), Param::Int8(last.cast_signed()), Param::Int8(PAGE)];
        let order = |row: &Row| {
            Ok(Order { seq: sequence(row.int8(0)?), at_ms: row.int8(1)?, product: row.int8(2)?, amount: row.int8(3)? })
        };
        let rows = self.0.query(sql, &params, soon())?;
        Ok(rows.iter().map(order).collect::<Result<_, PgError>>()?)
    }

    /// The amounts of a closed period's report.
    pub(super) fn amounts(&mut self, period: u64) -> Result<Vec<(ProductIndex, i64)>, StoreError> {
        let sql = "SELECT product::bigint, amount FROM ordercast.period_sums WHERE period = $1 ORDER BY product";
        let rows = self.0.query(sql, &[Param::Int8(period.cast_signed())], soon())?;
        let amount = |row: &Row| {
            let index = u32::try_from(sequence(row.int8(0)?)).unwrap_or(u32::MAX).saturating_sub(1);
            Ok((ProductIndex(index), row.int8(1)?))
        };
        Ok(rows.iter().map(amount).collect::<Result<_, PgError>>()?)
    }
}

fn soon() -> Instant {
    Instant::now() + DEADLINE
}
