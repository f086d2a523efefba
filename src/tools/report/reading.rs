//! What a report reads: of a data file, or of a database.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

#[cfg(feature = "postgres")]
use super::database::Database;
use super::{Begin, Order, PAGE, sequence};
use crate::config::Report as Options;
use crate::store::{StoreError, open, periods, schema};
use crate::tally::catalog::ProductIndex;
use crate::tools::ToolError;
use crate::tools::source::Source;

/// Where the log is read.
pub(super) enum Log {
    File(Source, PathBuf),
    #[cfg(feature = "postgres")]
    Database(Database),
}

impl Log {
    pub(super) fn open(options: &Options) -> Result<Self, ToolError> {
        #[cfg(feature = "postgres")]
        if let Some(store) = &options.store {
            return Ok(Self::Database(Database::open(store)?));
        }
        let mut source = Source::open(&options.data)?;
        let path = source.path().to_owned();
        source.read(|connection| open::check_is_used(connection, &path))??;
        Ok(Self::File(source, path))
    }

    /// Reads everything but the orders at one moment.
    pub(super) fn begin(&mut self) -> Result<Begin, ToolError> {
        match self {
            Self::File(source, path) => {
                let begin = source.read(read_begin)?.map_err(|error| StoreError::opening(path, error))?;
                Ok(begin.map_err(|broken_rule| StoreError::damaged(path, &broken_rule))?)
            }
            #[cfg(feature = "postgres")]
            Self::Database(database) => Ok(database.begin()?),
        }
    }

    /// The numbers and the times of the next entries after `after`, up to `last`.
    pub(super) fn times(&mut self, after: u64, last: u64) -> Result<Vec<(u64, i64)>, ToolError> {
        match self {
            Self::File(source, path) => of_file(source, path, |connection| read_times(connection, after, last)),
            #[cfg(feature = "postgres")]
            Self::Database(database) => {
                Ok(database.orders(after, last)?.into_iter().map(|order| (order.seq, order.at_ms)).collect())
            }
        }
    }

    /// The next entries after `after`, up to `last`.
    pub(super) fn orders(&mut self, after: u64, last: u64) -> Result<Vec<Order>, ToolError> {
        match self {
            Self::File(source, path) => of_file(source, path, |connection| read_orders(connection, after, last)),
            #[cfg(feature = "postgres")]
            Self::Database(database) => Ok(database.orders(after, last)?),
        }
    }

    /// The amounts of a closed period's report.
    pub(super) fn amounts(&mut self, period: u64) -> Result<Vec<(ProductIndex, i64)>, ToolError> {
        match self {
            Self::File(source, path) => {
                let report = of_file(source, path, |connection| periods::report(connection, period))?;
                Ok(report.map(|report| report.amounts).unwrap_or_default())
            }
            #[cfg(feature = "postgres")]
            Self::Database(database) => Ok(database.amounts(period)?),
        }
    }
}

fn of_file<T>(
    source: &mut Source,
    path: &Path,
    work: impl FnMut(&Connection) -> rusqlite::Result<T>,
) -> Result<T, ToolError> {
    Ok(source.read(work)?.map_err(|error| StoreError::opening(path, error))?)
}

/// A broken rule of the file is the inner error.
fn read_begin(connection: &Connection) -> rusqlite::Result<Result<Begin, String>> {
    let transaction = connection.unchecked_transaction()?;
    let stored = match schema::read(&transaction)? {
        Ok(stored) => stored,
        Err(broken_rule) => return Ok(Err(broken_rule)),
    };
    let first = transaction
        .query_row("SELECT seq, at_ms FROM orders ORDER BY seq LIMIT 1", [], |row| {
            Ok((sequence(row.get(0)?), row.get(1)?))
        })
        .optional()?;
    let (mut first_lines, mut listed) = (BTreeSet::new(), Vec::new());
    // An older file has neither periods nor marks.
    if schema::has_periods(&transaction) {
        let mut statement = transaction.prepare("SELECT added_seq FROM products WHERE added_seq IS NOT NULL")?;
        let rows = statement.query_map([], |row| row.get(0).map(sequence))?;
        first_lines = rows.collect::<rusqlite::Result<_>>()?;
        let closed = periods::closed(&transaction, 0, i64::MAX.cast_unsigned(), i64::MAX as usize)?;
        listed = closed.into_iter().map(|(period, closed_ms)| (period, Some(closed_ms))).collect();
    }
    listed.push((stored.period, None));
    let repaired = schema::repaired_up_to(&transaction)?;
    Ok(Ok(Begin { stored, first, repaired, first_lines, periods: listed }))
}

fn read_times(connection: &Connection, after: u64, last: u64) -> rusqlite::Result<Vec<(u64, i64)>> {
    let sql = "SELECT seq, at_ms FROM orders WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![after.cast_signed(), last.cast_signed(), PAGE], |row| {
        Ok((sequence(row.get(0)?), row.get(1)?))
    })?;
    rows.collect()
}

fn read_orders(connection: &Connection, after: u64, last: u64) -> rusqlite::Result<Vec<Order>> {
    let sql = "SELECT seq, at_ms, product, amount FROM orders WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![after.cast_signed(), last.cast_signed(), PAGE], |row| {
        Ok(Order { seq: sequence(row.get(0)?), at_ms: row.get(1)?, product: row.get(2)?, amount: row.get(3)? })
    })?;
    rows.collect()
}
