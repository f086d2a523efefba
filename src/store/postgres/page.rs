//! What was committed to a database since a server last looked: lines of the log, and news of the catalogue and of periods
//! between them.

use std::time::Instant;

use super::error::PgError;
use super::session::Session;
use super::value::{Param, Row, first};
use crate::tally::catalog::{CategoryIndex, Details, ProductIndex};
use crate::tally::order::Total;
use crate::tally::period::Period;

/// How far a server has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The number of the last line of the log.
    pub seq: u64,
    /// The number of the last piece of news.
    pub news: u64,
}

/// A line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub seq: u64,
    /// The product.
    pub product: ProductIndex,
    /// The amount of the order; of a line that is no order anything.
    pub amount: i64,
    /// The product's total after it.
    pub total: Total,
    /// Its time, in milliseconds since 1970 (UTC).
    pub at_ms: u64,
}

/// What happened between two lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The number of the line before it.
    pub after: u64,
    /// What it is.
    pub what: What,
}

/// A piece of news, as the database has it now, which may be later than the news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A category is new, or has another title.
    Category {
        /// The category.
        index: CategoryIndex,
        /// Its name in URLs.
        name: String,
        /// The prefix of its products' ids.
        prefix: String,
        /// Its name for people.
        title: String,
    },
    /// A product is new, or was changed.
    Product {
        /// The product.
        index: ProductIndex,
        /// Its id.
        id: String,
        /// Its category.
        category: CategoryIndex,
        /// Its texts.
        details: Details,
        /// Whether it is hidden.
        is_hidden: bool,
    },
    /// A period was opened.
    Period(Period),
}

/// The most lines that are followed one by one, page by page: 200,000, some 10 MB. A server that is further behind loads
/// everything, which takes less time.
const MOST_FOLLOWED: u64 = 200_000;

/// What was committed since, or the first part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Up to where.
    pub through: Place,
    /// Whether more was committed behind it.
    pub has_more: bool,
    /// Whether it can be followed: no line and no piece of news is missing up to there, and not too much was committed.
    pub can_be_followed: bool,
    /// The id of the last run.
    pub run: String,
    /// The lines, oldest first.
    pub lines: Vec<Line>,
    /// The news, oldest first.
    pub news: Vec<News>,
}

impl Page {
    /// Reads what was committed after `since`, at most so many lines and news.
    pub(super) fn read(session: &mut Session, since: Place, most: i32, deadline: Instant) -> Result<Self, PgError> {
        let params = [Param::Int8(since.seq.cast_signed()), Param::Int8(since.news.cast_signed()), Param::Int4(most)];
        let row = first(session.query("SELECT * FROM ordercast.page($1, $2, $3)", &params, deadline)?)?;
        Self::of_row(session, &row, 0, since, deadline)
    }

    /// Takes a page out of a row, whose columns begin at `from`, and reads what its news are about.
    pub(super) fn of_row(
        session: &mut Session,
        row: &Row,
        from: usize,
        since: Place,
        deadline: Instant,
    ) -> Result<Self, PgError> {
        let head = Place { seq: unsigned(row.int8(from)?), news: unsigned(row.int8(from + 1)?) };
        let run = row.text(from + 2)?.to_owned();
        let seqs = row.int8s(from + 3)?;
        let (products, amounts) = (row.int4s(from + 4)?, row.int8s(from + 5)?);
        let (totals, times) = (row.int8s(from + 6)?, row.int8s(from + 7)?);
        if [products.len(), amounts.len(), totals.len(), times.len()] != [seqs.len(); 4] {
            return Err(PgError::Unexpected("the columns of a page differ in length".into()));
        }
        let mut lines = Vec::with_capacity(seqs.len());
        for (at, seq) in seqs.iter().enumerate() {
            lines.push(Line {
                seq: unsigned(*seq),
                product: ProductIndex(index(products[at].into())?),
                amount: amounts[at],
                total: Total::new(totals[at]).ok_or_else(|| PgError::Unexpected("a total is out of range".into()))?,
                at_ms: unsigned(times[at]),
            });
        }
        let numbers = row.int8s(from + 8)?;
        let news = match numbers.last() {
            Some(last) => read_news(session, since.news, unsigned(*last), deadline)?,
            None => Vec::new(),
        };
        let through = Place {
            seq: lines.last().map_or(since.seq, |line| line.seq),
            news: numbers.last().map_or(since.news, |last| unsigned(*last)),
        };
        // What is cut is cut at the end, unless rows were deleted.
        let has_all = since.seq.checked_add(lines.len() as u64) == Some(through.seq)
            && since.news.checked_add(news.len() as u64) == Some(through.news)
            && news.iter().all(|one| one.after <= through.seq);
        let left = head.seq.checked_sub(since.seq);
        let can_be_followed = has_all
            && left.is_some_and(|left| left <= MOST_FOLLOWED)
            && head.news >= since.news
            && (through == head || through != since);
        Ok(Self { through, has_more: through != head, can_be_followed, run, lines, news })
    }
}

fn read_news(session: &mut Session, after: u64, through: u64, deadline: Instant) -> Result<Vec<News>, PgError> {
    let sql = "SELECT w.after, w.kind, w.row, c.name, c.prefix, c.title,
             p.id, p.category, p.name, p.rrp, p.info, p.hidden, o.opened_ms, o.opened_after
         FROM ordercast.news w
             LEFT JOIN ordercast.categories c ON w.kind = 1 AND c.row = w.row
             LEFT JOIN ordercast.products p ON w.kind IN (2, 3) AND p.row = w.row
             LEFT JOIN ordercast.periods o ON w.kind = 4 AND o.number = w.row
         WHERE w.n > $1 AND w.n <= $2 ORDER BY w.n";
    let rows = session.query(sql, &[Param::Int8(after.cast_signed()), Param::Int8(through.cast_signed())], deadline)?;
    rows.iter().map(one_of_news).collect()
}

fn one_of_news(row: &Row) -> Result<News, PgError> {
    let text = |column| row.text(column).map(str::to_owned);
    let number = row.int8(2)?;
    let what = match row.int2(1)? {
        1 => What::Category { index: CategoryIndex(index(number)?), name: text(3)?, prefix: text(4)?, title: text(5)? },
        2 | 3 => What::Product {
            index: ProductIndex(index(number)?),
            id: text(6)?,
            category: CategoryIndex(index(row.int4(7)?.into())?),
            details: Details { name: text(8)?, rrp: text(9)?, info: text(10)? },
            is_hidden: row.bool(11)?,
        },
        4 => What::Period(Period {
            number: unsigned(number),
            opened_ms: unsigned(row.int8(12)?),
            opened_after: unsigned(row.int8(13)?),
        }),
        other => return Err(PgError::Unexpected(format!("there is news of the unknown kind {other}"))),
    };
    Ok(News { after: unsigned(row.int8(0)?), what })
}

/// The index of what is in this row of the catalogue's tables, which begin at 1.
fn index(row: i64) -> Result<u32, PgError> {
    let index = row.checked_sub(1).and_then(|index| u32::try_from(index).ok());
    index.ok_or_else(|| PgError::Unexpected(format!("there is no row {row}")))
}

fn unsigned(number: i64) -> u64 {
    number.max(0).cast_unsigned()
}
