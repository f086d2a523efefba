//! The list of periods of the new file: readable rows, and replacements for lost ones. A lost period begins when the one
//! before it did. The current one, if it is lost, follows the last report and begins with the readable log.

use rusqlite::{Connection, params};

use crate::tally::catalog::MAX_PRODUCTS;

/// The highest number of a period that is taken for one: a million, a close a minute for two years. The list is filled up
/// to the highest, so a damaged row must not name any number.
pub const MAX_PERIODS: i64 = 1_000_000;
/// The highest number of a line of the reports that is taken for one: a line for each product in each period.
pub const MAX_LINES: i64 = MAX_PERIODS * MAX_PRODUCTS as i64;

/// What was saved and lost of the periods.
pub struct SavedPeriods {
    /// The number of periods.
    pub count: u64,
    /// The number of those that were lost, and whose times are not known.
    pub replaced: u64,
    /// The number of lines that the reports lack.
    pub lost_lines: u64,
}

/// Completes the list of periods from what was read. A file of an older schema has one period.
pub fn complete(connection: &Connection, last_seq: i64) -> rusqlite::Result<SavedPeriods> {
    let sql = "SELECT max((SELECT coalesce(max(number), 1) FROM periods),
                   (SELECT coalesce(max(period), 0) + 1 FROM period_sums)),
               (SELECT count(*) FROM periods) + (SELECT count(*) FROM period_sums) = 0";
    let (current, is_old): (i64, bool) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // If the end of the log is lost, the numbers of its orders are given again, and are of the current period then.
    connection.execute("UPDATE periods SET opened_after = min(opened_after, ?1)", [last_seq])?;
    let added = connection.execute(
        "INSERT OR IGNORE INTO periods SELECT ?1,
             max(coalesce((SELECT max(opened_ms) FROM periods), 0),
                 coalesce((SELECT at_ms FROM orders ORDER BY seq LIMIT 1), CAST(1000 * unixepoch('subsec') AS INTEGER))),
             max(coalesce((SELECT max(opened_after) FROM periods), 0),
                 coalesce((SELECT min(seq) - 1 FROM orders), 0))",
        [current],
    )?;
    let mut replaced = if is_old { 0 } else { added as u64 };
    let mut before: (i64, i64) = (0, 0);
    let mut select = connection.prepare("SELECT opened_ms, opened_after FROM periods WHERE number = ?1")?;
    let mut insert = connection.prepare("INSERT INTO periods VALUES (?1, ?2, ?3)")?;
    for number in 1..=current {
        match select.query_map([number], |row| Ok((row.get(0)?, row.get(1)?)))?.next().transpose()? {
            Some(found) => before = found,
            None => {
                insert.execute(params![number, before.0, before.1])?;
                replaced += 1;
            }
        }
    }
    let lost_lines: i64 =
        connection.query_row("SELECT coalesce(max(n), 0) - count(*) FROM period_sums", [], |row| row.get(0))?;
    Ok(SavedPeriods { count: current.cast_unsigned(), replaced, lost_lines: lost_lines.cast_unsigned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    /// The list of periods, and what is reported, after these rows were read.
    fn completed(rows: &str, last_seq: i64) -> (Vec<(i64, i64, i64)>, [u64; 3]) {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; DELETE FROM periods; {rows}")).unwrap();
        let SavedPeriods { count, replaced, lost_lines } = complete(&connection, last_seq).unwrap();
        let mut statement = connection.prepare("SELECT * FROM periods ORDER BY number").unwrap();
        let list = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        (list.map(Result::unwrap).collect(), [count, replaced, lost_lines])
    }

    const LOG: &str =
        "INSERT INTO orders (seq, at_ms, product, amount, total) VALUES (4, 50, 1, 1, 1), (9, 90, 1, 1, 2);";

    #[test]
    fn lost_periods_are_replaced_in_the_order_of_time_and_of_the_log() {
        let sums = "INSERT INTO period_sums VALUES (1, 1, 1, 5), (2, 4, 1, 5), (5, 4, 2, 5);";
        for (rows, list, told) in [
            // A file of an older schema, and a new one.
            (LOG, vec![(1, 50, 3)], [1, 0, 0]),
            ("INSERT INTO periods VALUES (1, 40, 0);", vec![(1, 40, 0)], [1, 0, 0]),
            // All rows are lost.
            (&[LOG, sums].concat(), vec![(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 50, 3)], [5, 5, 2]),
            // Some rows are lost, the current one too; the end of the log is lost.
            (
                &[LOG, sums, "INSERT INTO periods VALUES (2, 6000000000, 7), (4, 7000000000, 12);"].concat(),
                vec![
                    (1, 0, 0),
                    (2, 6_000_000_000, 7),
                    (3, 6_000_000_000, 7),
                    (4, 7_000_000_000, 9),
                    (5, 7_000_000_000, 9),
                ],
                [5, 3, 2],
            ),
        ] {
            assert_eq!(completed(rows, 9), (list, told), "{rows}");
        }
    }
}
