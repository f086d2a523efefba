//! The rules of periods in a data file: their list has no gaps and is in the order of time and of the log, the reports of
//! closed ones follow each other, and each report is the sum of the period's orders, as far as the log has them.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use crate::store::{Stored, periods, schema};
use crate::tally::period::{CurrentPeriod, Report};

/// A row of the list of periods.
#[derive(Clone, Copy)]
struct Listed {
    number: i64,
    opened_ms: i64,
    opened_after: i64,
}

/// Examines the periods, and reports each broken rule to `wrong`. Returns their number. What a repair may have lost,
/// orders up to the number `repaired` and lines of reports, is not missed.
///
/// # Errors
/// SQLite's.
pub(super) fn examine(
    connection: &Connection,
    stored: &Stored,
    repaired: i64,
    wrong: &mut impl FnMut(String),
) -> rusqlite::Result<u64> {
    let last_seq = schema::last_seq(connection)?.cast_signed();
    let list = list(connection)?;
    let mut before = Listed { number: 0, opened_ms: i64::MIN, opened_after: 0 };
    for period in &list {
        let Listed { number, opened_ms, opened_after } = *period;
        if number != before.number + 1 {
            wrong(format!("the list of periods has number {number} after {}", before.number));
        }
        if opened_ms < before.opened_ms {
            wrong(format!("period {number} begins before period {} does", before.number));
        }
        if opened_after < before.opened_after || opened_after > last_seq {
            wrong(format!(
                "period {number} begins after order {opened_after}, which is not between order {}, after which the one before \
                 begins, and the last order {last_seq}",
                before.opened_after
            ));
        }
        before = *period;
    }
    examine_lines(connection, before.number, repaired > 0, wrong)?;
    examine_sums(connection, stored, &list, repaired, wrong)?;
    Ok(list.len() as u64)
}

fn list(connection: &Connection) -> rusqlite::Result<Vec<Listed>> {
    let mut statement = connection.prepare("SELECT number, opened_ms, opened_after FROM periods ORDER BY number")?;
    let rows = statement
        .query_map([], |row| Ok(Listed { number: row.get(0)?, opened_ms: row.get(1)?, opened_after: row.get(2)? }))?;
    rows.collect()
}

/// The lines of the reports have no gaps, and follow each other in the order of the closed periods.
fn examine_lines(
    connection: &Connection,
    current: i64,
    is_repaired: bool,
    wrong: &mut impl FnMut(String),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT n, period FROM period_sums ORDER BY n")?;
    let mut rows = statement.query([])?;
    let (mut last_n, mut last_period) = (0, 1);
    while let Some(row) = rows.next()? {
        let (n, period): (i64, i64) = (row.get(0)?, row.get(1)?);
        if n != last_n + 1 && !is_repaired {
            wrong(format!("the reports of periods have line {n} after {last_n}"));
        }
        if period < last_period || period >= current {
            wrong(format!("line {n} of the reports is of period {period}, which is not closed or has ended before it"));
        }
        (last_n, last_period) = (n, period);
    }
    Ok(())
}

/// The amounts of a report are the sums of the period's orders, if the log has all of them.
fn examine_sums(
    connection: &Connection,
    stored: &Stored,
    list: &[Listed],
    repaired: i64,
    wrong: &mut impl FnMut(String),
) -> rusqlite::Result<()> {
    let first_seq = schema::first_seq(connection)?.cast_signed();
    let begin = list.partition_point(|period| period.opened_after < repaired.max(first_seq.saturating_sub(1)));
    let Some((complete, first)) = list.get(begin..).zip(list.get(begin)) else { return Ok(()) };
    let mut statement = connection.prepare("SELECT added_seq FROM products WHERE added_seq IS NOT NULL")?;
    let first_lines: BTreeSet<i64> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare("SELECT seq, product, amount FROM orders WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query_map([first.opened_after], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut next: Option<(i64, i64, i64)> = rows.next().transpose()?;
    for (place, period) in complete.iter().enumerate() {
        let end = complete.get(place + 1).map_or(i64::MAX, |following| following.opened_after);
        // Wide enough for the sum of any number of orders.
        let mut sums: BTreeMap<i64, i128> = BTreeMap::new();
        while let Some((seq, product, amount)) = next.filter(|(seq, ..)| *seq <= end) {
            if !first_lines.contains(&seq) {
                *sums.entry(product).or_default() += i128::from(amount);
            }
            next = rows.next().transpose()?;
        }
        let report = match end {
            i64::MAX => Some(current_report(stored)),
            _ => periods::report(connection, period.number.max(0).cast_unsigned())?,
        };
        let amounts: BTreeMap<i64, i128> = (report.iter().flat_map(|report| &report.amounts))
            .map(|(product, amount)| (i64::from(product.0) + 1, i128::from(*amount)))
            .collect();
        for product in sums.keys().chain(amounts.keys()).copied().collect::<BTreeSet<_>>() {
            let of = |list: &BTreeMap<_, _>| list.get(&product).copied().unwrap_or(0);
            if of(&sums) != of(&amounts) {
                let index = usize::try_from(product.saturating_sub(1));
                let id = index.ok().and_then(|index| stored.catalog.products().get(index));
                wrong(format!(
                    "period {} has the amount {} of {}, but its orders in the log sum to {}",
                    period.number,
                    of(&amounts),
                    id.map_or("a product that does not exist", |product| &product.id),
                    of(&sums)
                ));
            }
        }
    }
    Ok(())
}

fn current_report(stored: &Stored) -> Report {
    CurrentPeriod { period: stored.period, openings: stored.openings.clone() }.report(&stored.totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a small sound file after this change: three periods with the orders 1 to 6, of which 3 is the
    /// first line of T2 and no order.
    fn damage_after(sql: &str, repaired: i64) -> Vec<String> {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = OFF;
                 INSERT INTO categories (row, name, prefix) VALUES (1, 'tools', 'T');
                 INSERT INTO products (row, id, category, name, rrp, info, total, opening, added_seq)
                     VALUES (1, 'T1', 1, 'Saw', '', '', 18, 13, NULL), (2, 'T2', 1, 'Axe', '', '', 42, 42, 3);
                 INSERT INTO orders (seq, at_ms, product, amount, total) VALUES
                     (1, 7, 1, 2, 12), (2, 7, 1, -1, 11), (3, 7, 2, 40, 40), (4, 7, 2, 2, 42), (5, 7, 1, 2, 13),
                     (6, 7, 1, 5, 18);
                 UPDATE meta SET value = '6' WHERE key = 'moved';
                 DELETE FROM periods;
                 INSERT INTO periods VALUES (1, 5, 0), (2, 8, 2), (3, 9, 5);
                 INSERT INTO period_sums (period, product, amount) VALUES (1, 1, 1), (2, 1, 2), (2, 2, 2);",
            )
            .unwrap();
        connection.execute_batch(sql).unwrap();
        let stored = schema::read(&connection).unwrap().unwrap();
        let mut found = Vec::new();
        examine(&connection, &stored, repaired, &mut |what| found.push(what)).unwrap();
        found
    }

    #[test]
    fn each_broken_rule_of_periods_is_found() {
        assert_eq!(damage_after("", 0), Vec::<String>::new());
        for (sql, expected) in [
            (
                "UPDATE products SET opening = 12 WHERE row = 1",
                "period 3 has the amount 6 of T1, but its orders in the log sum to 5",
            ),
            (
                "UPDATE products SET opening = 41 WHERE row = 2",
                "period 3 has the amount 1 of T2, but its orders in the log sum to 0",
            ),
            (
                "UPDATE period_sums SET amount = 7 WHERE n = 2",
                "period 2 has the amount 7 of T1, but its orders in the log sum to 2",
            ),
            (
                "DELETE FROM period_sums WHERE n = 3",
                "period 2 has the amount 0 of T2, but its orders in the log sum to 2",
            ),
            (
                "UPDATE products SET added_seq = NULL",
                "period 2 has the amount 2 of T2, but its orders in the log sum to 42",
            ),
            ("UPDATE period_sums SET product = 9 WHERE n = 3", "of a product that does not exist"),
            ("DELETE FROM period_sums WHERE n = 2", "the reports of periods have line 3 after 1"),
            (
                "UPDATE period_sums SET n = -9223372036854775808 WHERE n = 1",
                "the reports of periods have line -9223372036854775808 after 0",
            ),
            ("UPDATE orders SET product = -9223372036854775808 WHERE seq = 6", "of a product that does not exist"),
            (
                "UPDATE orders SET seq = -9223372036854775808 WHERE seq = 6",
                "period 3 has the amount 5 of T1, but its orders in the log sum to 0",
            ),
            (
                "UPDATE period_sums SET period = 2 WHERE n = 1; UPDATE period_sums SET period = 1 WHERE n = 2",
                "line 2 of the reports is of period 1",
            ),
            (
                "UPDATE period_sums SET period = 3 WHERE n = 3",
                "line 3 of the reports is of period 3, which is not closed",
            ),
            ("DELETE FROM periods WHERE number = 1", "the list of periods has number 2 after 0"),
            ("UPDATE periods SET number = 4 WHERE number = 3", "the list of periods has number 4 after 2"),
            ("UPDATE periods SET opened_ms = 7 WHERE number = 3", "period 3 begins before period 2 does"),
            (
                "UPDATE periods SET opened_after = 1 WHERE number = 3",
                "period 3 begins after order 1, which is not between",
            ),
            (
                "UPDATE periods SET opened_after = 7 WHERE number = 3",
                "period 3 begins after order 7, which is not between",
            ),
        ] {
            let damage = damage_after(sql, 0).join("; ");
            assert!(damage.contains(expected), "{sql}: {damage}");
        }
    }

    #[test]
    fn what_the_log_no_longer_has_is_not_missed() {
        // Order 2 of the first period is the first that is left, so its sum cannot be told.
        let trimmed = "DELETE FROM orders WHERE seq < 2; UPDATE period_sums SET amount = 9 WHERE n = 1;";
        assert_eq!(damage_after(trimmed, 0), Vec::<String>::new());
        assert_eq!(damage_after(&[trimmed, "UPDATE period_sums SET amount = 9 WHERE n = 2"].concat(), 0).len(), 1);
        // A repair has lost an order of the second period and a line of its report.
        let lost = "DELETE FROM orders WHERE seq = 4; DELETE FROM period_sums WHERE n = 2;";
        assert_eq!(damage_after(lost, 5), Vec::<String>::new());
        assert_eq!(damage_after(&[lost, "UPDATE products SET opening = 12 WHERE row = 1"].concat(), 5).len(), 1);
        assert_eq!(damage_after(&[lost, "UPDATE products SET opening = 12 WHERE row = 1"].concat(), 6).len(), 0);
    }
}
