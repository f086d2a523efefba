//! Reads closed periods and their reports. Owns how the lines of a report are found: lines of one report follow each
//! other, in the order of the periods, so a search by halves needs no index.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::tally::catalog::ProductIndex;
use crate::tally::period::{Period, Report};

/// A period, and when it was closed, in milliseconds since 1970 (UTC).
pub type ClosedPeriod = (Period, u64);

/// Columns of a period and the time when it was closed.
const PERIOD: &str = "SELECT number, opened_ms, opened_after, (
         SELECT opened_ms FROM periods AS next WHERE next.number > periods.number ORDER BY number LIMIT 1)
     FROM periods";

fn read_period(row: &Row<'_>) -> rusqlite::Result<Option<ClosedPeriod>> {
    let number = |number: i64| number.max(0).cast_unsigned();
    let column = |index| row.get(index).map(number);
    let period = Period { number: column(0)?, opened_ms: column(1)?, opened_after: column(2)? };
    Ok(row.get::<_, Option<i64>>(3)?.map(|closed_ms| (period, number(closed_ms))))
}

/// The closed periods with numbers between `after` and `before`, oldest first, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn closed(connection: &Connection, after: u64, before: u64, limit: usize) -> rusqlite::Result<Vec<ClosedPeriod>> {
    let sql = format!("{PERIOD} WHERE number > ?1 AND number < ?2 ORDER BY number LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![after.cast_signed(), before.cast_signed(), limit as i64], read_period)?;
    rows.filter_map(Result::transpose).collect()
}

/// The report of a closed period; `None` if there is no closed one with this number.
///
/// # Errors
/// SQLite's.
pub fn report(connection: &Connection, number: u64) -> rusqlite::Result<Option<Report>> {
    let sql = format!("{PERIOD} WHERE number = ?1");
    let period = connection.prepare_cached(&sql)?.query_row([number.cast_signed()], read_period).optional()?;
    let Some((period, closed_ms)) = period.flatten() else { return Ok(None) };
    let (first, end) = (first_sum(connection, number)?, first_sum(connection, number + 1)?);
    let mut statement =
        connection.prepare_cached("SELECT product, amount FROM period_sums WHERE n >= ?1 AND n < ?2 ORDER BY n")?;
    let amounts = statement.query_map([first, end], |row| {
        let product: u32 = row.get(0)?;
        Ok((ProductIndex(product.saturating_sub(1)), row.get(1)?))
    })?;
    Ok(Some(Report { period, closed_ms: Some(closed_ms), amounts: amounts.collect::<rusqlite::Result<_>>()? }))
}

/// The number of the first line of this period's report, or of the place where it would be.
///
/// # Errors
/// SQLite's.
pub fn first_sum(connection: &Connection, period: u64) -> rusqlite::Result<i64> {
    let last: Option<i64> = connection.query_row("SELECT max(n) FROM period_sums", [], |row| row.get(0))?;
    let (mut low, mut high) = (1, last.unwrap_or(0).saturating_add(1));
    let mut statement =
        connection.prepare_cached("SELECT n, period FROM period_sums WHERE n >= ?1 ORDER BY n LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        // The line with this number, or the next one: a repair may have lost some.
        let (n, own): (i64, i64) = statement.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if own < period.cast_signed() {
            low = n.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    /// Periods 1 to 6, of which the last is the current one. The second and the fifth have no sums.
    fn connection() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = OFF;
                 DELETE FROM periods;
                 INSERT INTO periods VALUES (1, 10, 0), (2, 20, 5), (3, 20, 5), (4, 40, 9), (5, 50, 11), (6, 60, 11);
                 INSERT INTO period_sums (period, product, amount)
                     VALUES (1, 1, 3), (1, 2, -4), (3, 2, 5), (4, 1, 1), (4, 2, 2), (4, 3, 3);",
            )
            .unwrap();
        connection
    }

    fn amounts(connection: &Connection, number: u64) -> Option<Vec<(u32, i64)>> {
        let report = report(connection, number).unwrap()?;
        Some(report.amounts.into_iter().map(|(product, amount)| (product.0, amount)).collect())
    }

    #[test]
    fn each_report_has_its_own_lines_and_only_closed_periods_have_one() {
        let connection = connection();
        let expected = [vec![(0, 3), (1, -4)], vec![], vec![(1, 5)], vec![(0, 1), (1, 2), (2, 3)], vec![]];
        for (number, expected) in (1..).zip(expected) {
            assert_eq!(amounts(&connection, number), Some(expected), "{number}");
        }
        assert_eq!([0, 6, 7, u64::MAX >> 1].map(|number| amounts(&connection, number)), [None, None, None, None]);
        // A repair has lost some lines.
        connection.execute_batch("DELETE FROM period_sums WHERE n IN (2, 3, 4)").unwrap();
        assert_eq!([1, 3, 4].map(|number| amounts(&connection, number).unwrap().len()), [1, 0, 2]);
        connection.execute_batch("DELETE FROM period_sums").unwrap();
        assert_eq!(amounts(&connection, 4), Some(vec![]));
    }

    #[test]
    fn the_list_has_the_closed_periods_between_two_numbers() {
        let connection = connection();
        let listed = |after, before, limit| {
            let periods = closed(&connection, after, before, limit).unwrap();
            periods.into_iter().map(|(period, closed_ms)| (period.number, period.opened_ms, closed_ms)).collect()
        };
        let listed: &dyn Fn(u64, u64, usize) -> Vec<(u64, u64, u64)> = &listed;
        assert_eq!(listed(0, 6, 3), [(1, 10, 20), (2, 20, 20), (3, 20, 40)]);
        assert_eq!(listed(3, 6, 3), [(4, 40, 50), (5, 50, 60)]);
        assert_eq!(listed(3, 5, 3), [(4, 40, 50)]);
        // The current one is not closed.
        assert_eq!(listed(5, 9, 3), []);
    }
}
