//! How changes of the catalogue and of periods become rows. Orders do not: `ordercast.commit` counts them.

use std::time::Instant;

use super::error::PgError;
use super::load::row_of;
use super::session::Session;
use super::value::Param;
use crate::store::Change;
use crate::store::retention::MAX_HISTORY;
use crate::tally::catalog::{Category, CategoryIndex, Details, Product, ProductIndex};
use crate::tally::order::Total;
use crate::tally::period::Period;

/// Writes changes, each with the news of it, and tells the other nodes. The transaction holds the lock of
/// `ordercast.lock()`; the caller commits it, or rolls it back after an error.
///
/// # Errors
/// [`PgError`] when nothing may be committed.
pub fn write_changes(session: &mut Session, node: i64, changes: &[Change], deadline: Instant) -> Result<(), PgError> {
    let head = session.query("SELECT seq, news, shown_after FROM ordercast.head", &[], deadline)?;
    let head = head.first().ok_or_else(|| PgError::Unexpected("the head is missing".into()))?;
    let (seq, news, shown_after) = (head.int8(0)?, head.int8(1)?, head.int8_or_null(2)?);
    let mut writer = Writer { session, deadline, seq, news, shown_after };
    for change in changes {
        writer.write(change)?;
    }
    let Writer { seq, news, shown_after, .. } = writer;
    let params = [Param::Int8(seq), Param::Int8(news), Param::Int8OrNull(shown_after)];
    session.query("UPDATE ordercast.head SET seq = $1, news = $2, shown_after = $3", &params, deadline)?;
    let payload = format!("{node} {seq} {news}");
    session.query("SELECT pg_notify('ordercast', $1)", &[Param::Text(&payload)], deadline)?;
    Ok(())
}

/// Writes one change after the other, and follows the numbers of the head.
struct Writer<'a> {
    session: &'a mut Session,
    deadline: Instant,
    seq: i64,
    news: i64,
    shown_after: Option<i64>,
}

impl Writer<'_> {
    fn write(&mut self, change: &Change) -> Result<(), PgError> {
        match change {
            Change::Category(category) => self.add_category(category),
            Change::Product(product, total) => self.add_product(product, *total),
            Change::ChangedProduct { product, before, after } => {
                if before.is_hidden && !after.is_hidden {
                    self.shown_after = Some(self.seq);
                }
                self.change_product(*product, after)
            }
            Change::Title { category, after, .. } => self.set_title(*category, after),
            Change::History { at_ms, line } => self.add_history(*at_ms, line),
            Change::FirstLine { seq, at_ms, product, total } => self.add_first_line(*seq, *at_ms, *product, *total),
            Change::Period(period) => self.open_period(period),
            Change::Order { .. } | Change::BatchKey { .. } => {
                Err(PgError::Unexpected("orders are counted by ordercast.commit".into()))
            }
        }
    }

    fn add_category(&mut self, Category { name, prefix, title, .. }: &Category) -> Result<(), PgError> {
        let [number, after] = self.next_news();
        self.announce(
            "WITH added AS (
                 INSERT INTO ordercast.categories (row, name, prefix, title)
                 SELECT coalesce(max(row), 0) + 1, $3, $4, $5 FROM ordercast.categories RETURNING row)
             INSERT INTO ordercast.news (n, after, kind, row) SELECT $1, $2, 1, row FROM added RETURNING n",
            &[number, after, Param::Text(name), Param::Text(prefix), Param::Text(title)],
        )
    }

    fn add_product(&mut self, product: &Product, total: Total) -> Result<(), PgError> {
        let Details { name, rrp, info } = &product.details;
        let [number, after] = self.next_news();
        self.announce(
            "WITH added AS (
                 INSERT INTO ordercast.products (row, id, category, name, rrp, info, hidden, opening)
                 SELECT coalesce(max(row), 0) + 1, $3, $4, $5, $6, $7, $8, $9 FROM ordercast.products
                 RETURNING row, opening),
             total AS (INSERT INTO ordercast.totals (product, total) SELECT row, opening FROM added)
             INSERT INTO ordercast.news (n, after, kind, row) SELECT $1, $2, 2, row FROM added RETURNING n",
            &[
                number,
                after,
                Param::Text(&product.id),
                Param::Int4(row_of(product.category.0)),
                Param::Text(name),
                Param::Text(rrp),
                Param::Text(info),
                Param::Bool(product.is_hidden),
                Param::Int8(total.get()),
            ],
        )
    }

    fn change_product(&mut self, index: ProductIndex, product: &Product) -> Result<(), PgError> {
        let Details { name, rrp, info } = &product.details;
        let [number, after] = self.next_news();
        self.announce(
            "WITH changed AS (
                 UPDATE ordercast.products SET name = $4, rrp = $5, info = $6, hidden = $7 WHERE row = $3 RETURNING row)
             INSERT INTO ordercast.news (n, after, kind, row) SELECT $1, $2, 3, row FROM changed RETURNING n",
            &[
                number,
                after,
                Param::Int4(row_of(index.0)),
                Param::Text(name),
                Param::Text(rrp),
                Param::Text(info),
                Param::Bool(product.is_hidden),
            ],
        )
    }

    fn set_title(&mut self, index: CategoryIndex, title: &str) -> Result<(), PgError> {
        let [number, after] = self.next_news();
        self.announce(
            "WITH changed AS (UPDATE ordercast.categories SET title = $4 WHERE row = $3 RETURNING row)
             INSERT INTO ordercast.news (n, after, kind, row) SELECT $1, $2, 1, row FROM changed RETURNING n",
            &[number, after, Param::Int4(row_of(index.0)), Param::Text(title)],
        )
    }

    fn add_history(&mut self, at_ms: u64, line: &str) -> Result<(), PgError> {
        self.run(
            "INSERT INTO ordercast.changes (n, at_ms, line)
             SELECT coalesce(max(n), 0) + 1, $1, $2 FROM ordercast.changes",
            &[Param::Int8(at_ms.cast_signed()), Param::Text(line)],
        )?;
        self.run(
            "DELETE FROM ordercast.changes WHERE n <= (SELECT max(n) FROM ordercast.changes) - $1",
            &[Param::Int8(MAX_HISTORY)],
        )
    }

    fn add_first_line(&mut self, seq: u64, at_ms: u64, product: ProductIndex, total: Total) -> Result<(), PgError> {
        self.seq += 1;
        if self.seq.cast_unsigned() != seq {
            return Err(PgError::Unexpected(format!("entry {seq} of the log would be {}", self.seq)));
        }
        self.run(
            "WITH line AS (
                 INSERT INTO ordercast.orders (seq, at_ms, product, amount, total) VALUES ($1, $2, $3, $4, $4))
             UPDATE ordercast.products SET added_seq = $1 WHERE row = $3",
            &[
                Param::Int8(self.seq),
                Param::Int8(at_ms.cast_signed()),
                Param::Int4(row_of(product.0)),
                Param::Int8(total.get()),
            ],
        )
    }

    /// Closes the current period before it opens this one.
    fn open_period(&mut self, period: &Period) -> Result<(), PgError> {
        let number = Param::Int8(period.number.cast_signed());
        self.run(
            "INSERT INTO ordercast.period_sums (period, product, amount)
             SELECT $1 - 1, p.row, t.total - p.opening
             FROM ordercast.products p JOIN ordercast.totals t ON t.product = p.row WHERE t.total <> p.opening",
            &[number],
        )?;
        self.run(
            "UPDATE ordercast.products p SET opening = t.total
             FROM ordercast.totals t WHERE t.product = p.row AND t.total <> p.opening",
            &[],
        )?;
        let [news, after] = self.next_news();
        self.announce(
            "WITH opened AS (
                 INSERT INTO ordercast.periods (number, opened_ms, opened_after) VALUES ($3, $4, $5) RETURNING number)
             INSERT INTO ordercast.news (n, after, kind, row) SELECT $1, $2, 4, number FROM opened RETURNING n",
            &[
                news,
                after,
                number,
                Param::Int8(period.opened_ms.cast_signed()),
                Param::Int8(period.opened_after.cast_signed()),
            ],
        )
    }

    /// The number of the next row of the news, and the last entry of the log before it.
    fn next_news(&mut self) -> [Param<'static>; 2] {
        self.news += 1;
        [Param::Int8(self.news), Param::Int8(self.seq)]
    }

    /// Runs a statement that changes a row and adds the news of it, whose number it returns.
    fn announce(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<(), PgError> {
        // Without the row the news would have a gap, and no node would read on behind it.
        match self.session.query(sql, params, self.deadline)?.as_slice() {
            [] => Err(PgError::Unexpected("what is changed is not in the database".into())),
            _ => Ok(()),
        }
    }

    fn run(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<(), PgError> {
        self.session.query(sql, params, self.deadline).map(drop)
    }
}
