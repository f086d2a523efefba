//! The tables of a database.

// PostgreSQL is a name, not code.
#![allow(clippy::doc_markdown)]

use std::time::{Duration, Instant};

use super::{Column, Head, Kind, Piece, Read, Table, Take, Write};
use crate::store::postgres::{Param, PgError, Row, Session, Target, migrate};
use crate::store::{Reason, StoreError};
use crate::tally::position::RunList;

/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long one step may take: five minutes, for sorting the keys of a large database.
const STEP_DEADLINE: Duration = Duration::from_secs(300);
/// How long another program may hold the head: a commit takes milliseconds.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);

/// A transaction that reads all tables, or fills them. Dropping it leaves the database as it was.
pub struct PgTables {
    session: Session,
}

impl PgTables {
    /// Reads a database as it is at this moment. Returns also how many other connections of servers or commands it has, as
    /// far as they have the same `application_name`, and may be seen.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be reached, or has not the present tables.
    pub fn of(target: &Target) -> Result<(Self, u64), StoreError> {
        let mut tables = Self::connect(target)?;
        migrate::check(&mut tables.session, step())?;
        tables.session.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", step())?;
        let others = tables.number(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND application_name = current_setting('application_name')",
        )?;
        Ok((tables, others.max(0).cast_unsigned()))
    }

    /// Makes the tables of a database if there are none, and locks them.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be reached, or is not empty.
    pub fn fill(target: &Target) -> Result<Self, StoreError> {
        let mut tables = Self::connect(target)?;
        migrate::migrate(&mut tables.session, step())?;
        tables.session.script("BEGIN", step())?;
        let lock = tables.session.query("SELECT seq FROM ordercast.lock()", &[], Instant::now() + LOCK_DEADLINE);
        lock.map_err(|error| match error {
            PgError::Away { .. } => StoreError::unusable(
                "the database is in use: stop its servers, and wait until another copy into it has ended",
                error,
            ),
            error => error.into(),
        })?;
        let used = tables.number(
            "SELECT (EXISTS (SELECT FROM ordercast.categories) OR EXISTS (SELECT FROM ordercast.products)
                 OR EXISTS (SELECT FROM ordercast.totals) OR EXISTS (SELECT FROM ordercast.orders)
                 OR EXISTS (SELECT FROM ordercast.keys) OR EXISTS (SELECT FROM ordercast.period_sums)
                 OR EXISTS (SELECT FROM ordercast.changes) OR EXISTS (SELECT FROM ordercast.news)
                 OR EXISTS (SELECT FROM ordercast.periods WHERE number > 1)
                 OR EXISTS (SELECT FROM ordercast.head WHERE seq > 0))::int::bigint",
        )?;
        if used != 0 {
            let text = format!(
                "the database {target} is not empty, so nothing is copied into it; name another database, or drop what it \
                 has (DROP SCHEMA ordercast CASCADE) if that is not needed"
            );
            return Err(StoreError::Unusable(text.into()));
        }
        // The first period, which is copied, and runs of servers that have found nothing.
        tables.session.script("DELETE FROM ordercast.periods; DELETE FROM ordercast.runs", step())?;
        Ok(tables)
    }

    /// Completes what was filled.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when it is not known whether it is complete.
    pub fn complete(mut self) -> Result<(), StoreError> {
        // Reading the log depends on it; PostgreSQL would do it a minute later, and a role that is not the owner may not.
        self.session
            .script("ANALYZE ordercast.orders, ordercast.keys, ordercast.products, ordercast.totals", step())?;
        self.session.script("COMMIT", step()).map_err(|error| {
            if error.may_have_run() {
                StoreError::Unknown(Reason::new(
                    "the database did not tell whether the copy is complete; run the command again: it is complete if the \
                     database is not empty then",
                    error,
                ))
            } else {
                error.into()
            }
        })
    }

    fn connect(target: &Target) -> Result<Self, StoreError> {
        let mut session = Session::connect(target, Instant::now() + CONNECT_DEADLINE)?;
        // While the other side is written or checked nothing is asked here.
        session.script("SET idle_in_transaction_session_timeout = 0", step())?;
        Ok(Self { session })
    }

    fn number(&mut self, sql: &'static str) -> Result<i64, StoreError> {
        let rows = self.session.query(sql, &[], step())?;
        Ok(rows.first().map_or(Ok(0), |row| row.int8(0))?)
    }
}

fn step() -> Instant {
    Instant::now() + STEP_DEADLINE
}

/// The statements that read a table: a cursor, its next rows, its end. Each cursor has a name of its own, because a
/// prepared statement that reads it keeps its columns.
fn select(table: Table) -> [&'static str; 3] {
    match table {
        Table::Categories => [
            "DECLARE copy_categories NO SCROLL CURSOR FOR
             SELECT row::bigint, name, prefix, title FROM ordercast.categories ORDER BY row",
            "FETCH 100 FROM copy_categories",
            "CLOSE copy_categories",
        ],
        Table::Products => [
            "DECLARE copy_products NO SCROLL CURSOR FOR
             SELECT p.row::bigint, p.id, p.category::bigint, p.name, p.rrp, p.info, p.hidden::int::bigint, p.opening,
                 p.added_seq, t.total, t.ordered_ms
             FROM ordercast.products p LEFT JOIN ordercast.totals t ON t.product = p.row ORDER BY p.row",
            "FETCH 100 FROM copy_products",
            "CLOSE copy_products",
        ],
        Table::Orders => [
            "DECLARE copy_orders NO SCROLL CURSOR FOR
             SELECT seq, at_ms, product::bigint, amount, total, key FROM ordercast.orders ORDER BY seq",
            "FETCH 5000 FROM copy_orders",
            "CLOSE copy_orders",
        ],
        Table::Keys => [
            "DECLARE copy_keys NO SCROLL CURSOR FOR
             SELECT key, at_ms, product::bigint, amount FROM ordercast.keys ORDER BY at_ms, key",
            "FETCH 5000 FROM copy_keys",
            "CLOSE copy_keys",
        ],
        Table::Periods => [
            "DECLARE copy_periods NO SCROLL CURSOR FOR
             SELECT number, opened_ms, opened_after FROM ordercast.periods ORDER BY number",
            "FETCH 5000 FROM copy_periods",
            "CLOSE copy_periods",
        ],
        Table::PeriodSums => [
            "DECLARE copy_period_sums NO SCROLL CURSOR FOR
             SELECT period, product::bigint, amount FROM ordercast.period_sums ORDER BY period, product",
            "FETCH 5000 FROM copy_period_sums",
            "CLOSE copy_period_sums",
        ],
        Table::Changes => [
            "DECLARE copy_changes NO SCROLL CURSOR FOR SELECT n, at_ms, line FROM ordercast.changes ORDER BY n",
            "FETCH 100 FROM copy_changes",
            "CLOSE copy_changes",
        ],
    }
}

fn insert(table: Table) -> &'static str {
    match table {
        Table::Categories => {
            "INSERT INTO ordercast.categories (row, name, prefix, title)
             SELECT row::int, name, prefix, title FROM unnest($1, $2, $3, $4) u(row, name, prefix, title)"
        }
        Table::Products => {
            "WITH added AS (
                 INSERT INTO ordercast.totals (product, total, ordered_ms)
                 SELECT row::int, total, ordered_ms FROM unnest($1, $10, $11) t(row, total, ordered_ms))
             INSERT INTO ordercast.products (row, id, category, name, rrp, info, hidden, opening, added_seq)
             SELECT row::int, id, category::int, name, rrp, info, hidden <> 0, opening, added_seq
             FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 u(row, id, category, name, rrp, info, hidden, opening, added_seq)"
        }
        Table::Orders => {
            "INSERT INTO ordercast.orders (seq, at_ms, product, amount, total, key)
             SELECT seq, at_ms, product::int, amount, total, key
             FROM unnest($1, $2, $3, $4, $5, $6) u(seq, at_ms, product, amount, total, key)"
        }
        Table::Keys => {
            "INSERT INTO ordercast.keys (key, at_ms, product, amount)
             SELECT key, at_ms, product::int, amount FROM unnest($1, $2, $3, $4) u(key, at_ms, product, amount)"
        }
        Table::Periods => {
            "INSERT INTO ordercast.periods (number, opened_ms, opened_after) SELECT * FROM unnest($1, $2, $3)"
        }
        Table::PeriodSums => {
            "INSERT INTO ordercast.period_sums (period, product, amount)
             SELECT period, product::int, amount FROM unnest($1, $2, $3) u(period, product, amount)"
        }
        Table::Changes => "INSERT INTO ordercast.changes (n, at_ms, line) SELECT * FROM unnest($1, $2, $3)",
    }
}

/// Rows as columns.
fn piece(table: Table, rows: &[Row]) -> Result<Piece, PgError> {
    let column = |(index, kind): (usize, &Kind)| {
        Ok(match kind {
            Kind::Int => Column::Ints(rows.iter().map(|row| row.int8_or_null(index)).collect::<Result<_, PgError>>()?),
            Kind::Text => {
                let text = |row: &Row| Ok(row.text_or_null(index)?.map(str::to_owned));
                Column::Texts(rows.iter().map(text).collect::<Result<_, PgError>>()?)
            }
        })
    };
    table.kinds().iter().enumerate().map(column).collect::<Result<_, PgError>>().map(Piece)
}

impl Read for PgTables {
    fn head(&mut self) -> Result<Head, StoreError> {
        let sql = "SELECT seq, key_ms, shown_after,
                 (SELECT coalesce(string_agg(id || ':' || after, ' ' ORDER BY n), '') FROM ordercast.runs)
             FROM ordercast.head";
        let rows = self.session.query(sql, &[], step())?;
        let row = rows.first().ok_or_else(|| {
            StoreError::Damaged("the database is damaged (the head is missing): restore a backup of it".into())
        })?;
        let number = |number: i64| number.max(0).cast_unsigned();
        Ok(Head {
            last_seq: number(row.int8(0)?),
            key_ms: number(row.int8(1)?),
            shown_after: row.int8_or_null(2)?.map(number),
            runs: RunList::parse(row.text(3)?),
        })
    }

    fn read(&mut self, table: Table, take: Take<'_>) -> Result<(), StoreError> {
        let [open, next, close] = select(table);
        self.session.script(open, step())?;
        loop {
            let rows = self.session.query(next, &[], step())?;
            if rows.is_empty() {
                break;
            }
            take(&piece(table, &rows)?)?;
        }
        Ok(self.session.script(close, step())?)
    }
}

impl Write for PgTables {
    fn write(&mut self, table: Table, Piece(columns): &Piece) -> Result<(), StoreError> {
        let texts: Vec<Vec<Option<&str>>> = columns
            .iter()
            .map(|column| match column {
                Column::Ints(_) => Vec::new(),
                Column::Texts(values) => values.iter().map(Option::as_deref).collect(),
            })
            .collect();
        let params: Vec<Param<'_>> = columns
            .iter()
            .zip(&texts)
            .map(|(column, texts)| match column {
                Column::Ints(values) => Param::Int8sOrNull(values),
                Column::Texts(_) => Param::Texts(texts),
            })
            .collect();
        self.session.query(insert(table), &params, step())?;
        Ok(())
    }

    fn write_head(&mut self, head: &Head, keys: u64) -> Result<(), StoreError> {
        let sql = "UPDATE ordercast.head SET seq = $1, keys = $2, key_ms = $3, shown_after = $4, cluster = NULL";
        let params = [
            Param::Int8(head.last_seq.cast_signed()),
            Param::Int8(keys.cast_signed()),
            Param::Int8(head.key_ms.cast_signed()),
            Param::Int8OrNull(head.shown_after.map(u64::cast_signed)),
        ];
        self.session.query(sql, &params, step())?;
        let (ids, afters): (Vec<_>, Vec<_>) =
            head.runs.iter().map(|(id, after)| (Some(id), after.cast_signed())).unzip();
        let sql = "INSERT INTO ordercast.runs (n, id, after)
             SELECT n, id, after FROM unnest($1, $2) WITH ORDINALITY u(id, after, n)";
        self.session.query(sql, &[Param::Texts(&ids), Param::Int8s(&afters)], step())?;
        // What the source counts from now on, if it is used again, has positions of its own last run, or of a later one.
        let sql = "SELECT run FROM ordercast.join(left(md5(gen_random_uuid()::text), 16))";
        self.session.query(sql, &[], step())?;
        Ok(())
    }
}
