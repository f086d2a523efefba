//! `ordercast check`: whether a data file is sound, and how much is readable of one that is not. Owns the rules between
//! the order log and the totals; the catalogue's rules are checked where it is read.

mod periods;

use std::collections::HashMap;
use std::path::Path;

use rusqlite::Connection;

use super::source::Source;
use super::{ToolError, counted, existing_data_file, repair};
use crate::config::Check;
use crate::store::files::has_orphaned_wal;
use crate::store::{Reason, StoreError, Stored, open, schema};

/// Findings that are reported.
const MAX_FINDINGS: usize = 20;

/// The result of a check.
pub struct Report {
    /// Whether nothing is wrong.
    pub is_sound: bool,
    /// The findings, as lines of text.
    pub text: String,
}

/// What the examination of a file has found.
#[derive(Default)]
pub(super) struct Findings {
    /// What the file contains.
    facts: Vec<String>,
    /// What is wrong, at most [`MAX_FINDINGS`].
    pub(super) damage: Vec<String>,
    omitted: u64,
    /// The catalogue and the totals, if they can be read.
    pub(super) stored: Option<Stored>,
}

impl Findings {
    fn wrong(&mut self, what: impl Into<String>) {
        if self.damage.len() < MAX_FINDINGS {
            self.damage.push(what.into());
        } else {
            self.omitted += 1;
        }
    }
}

/// Checks the folder's data file. One read transaction sees all of it at one moment: a server beside it goes on
/// writing, and the write-ahead log grows for as long as the check takes.
///
/// # Errors
/// When the data file does not exist, cannot be opened or read now, or is of another program or of a newer version.
pub fn run(options: &Check) -> Result<Report, ToolError> {
    let path = existing_data_file(&options.data)?;
    let mut findings = Findings::default();
    if has_orphaned_wal(&path) {
        findings.wrong("the file is empty or missing, but its write-ahead log (-wal) is there");
    } else {
        findings = Source::open_file(path.clone())?.read(|connection| examine(connection, &path))??;
    }
    let Findings { facts: mut lines, damage, omitted, .. } = findings;
    let is_sound = damage.is_empty();
    if is_sound {
        lines.push(format!("{} is sound", path.display()));
    } else {
        lines.push(format!("{} is damaged:", path.display()));
        lines.extend(damage.iter().map(|what| format!("- {what}")));
        if omitted > 0 {
            lines.push(format!("- and {omitted} more findings"));
        }
        let readable = repair::read_damaged(&path, |_| Ok(()))?;
        if readable.is_empty() {
            lines.push("nothing of the tally is readable; restore a backup".to_owned());
        } else {
            lines.push(format!("readable all the same: {}", readable.summary()));
            lines.push(format!(
                "restore a backup, or stop the server and let `ordercast repair --data {}` write a new file from what is \
                 readable",
                options.data.display()
            ));
        }
    }
    Ok(Report { is_sound, text: lines.join("\n") + "\n" })
}

/// Examines a data file in one read transaction.
///
/// # Errors
/// When the file cannot be read now, or is of another program or of a newer version.
pub(super) fn examine(connection: &Connection, path: &Path) -> Result<Findings, StoreError> {
    let mut findings = Findings::default();
    match examine_tables(connection, path, &mut findings) {
        Ok(result) => result?,
        Err(error) if open::is_damage(&error) => findings.wrong(format!("SQLite cannot read on: {error}")),
        Err(error) => {
            let text = format!(
                "{} cannot be read now, and may be sound; check it again when the disk has room and works",
                path.display()
            );
            return Err(StoreError::Failed(Reason::new(text, error)));
        }
    }
    Ok(findings)
}

fn examine_tables(
    connection: &Connection,
    path: &Path,
    findings: &mut Findings,
) -> rusqlite::Result<Result<(), StoreError>> {
    let transaction = connection.unchecked_transaction()?;
    if schema::is_empty(&transaction)? {
        findings.wrong("it is empty: no table is in it");
        return Ok(Ok(()));
    }
    if let Err(error) = open::check_origin(&transaction, path) {
        return Ok(Err(error));
    }
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    findings.facts.push(format!("schema {version}"));
    open::integrity_findings(&transaction, MAX_FINDINGS)?.into_iter().for_each(|line| findings.wrong(line));
    match schema::read(&transaction) {
        Ok(Ok(stored)) => {
            let categories = counted(stored.catalog.categories().len() as u64, "category");
            let products = counted(stored.catalog.products().len() as u64, "product");
            findings.facts.push(format!("{categories}, {products}"));
            findings.stored = Some(stored);
        }
        Ok(Err(broken_rule)) => findings.wrong(broken_rule),
        Err(error) if open::is_damage(&error) => findings.wrong(format!("the catalogue and the totals: {error}")),
        Err(error) => return Err(error),
    }
    match examine_log(&transaction, findings) {
        Err(error) if open::is_damage(&error) => findings.wrong(format!("the order log: {error}")),
        result => result?,
    }
    match examine_periods(&transaction, findings) {
        Err(error) if open::is_damage(&error) => findings.wrong(format!("the periods: {error}")),
        result => result?,
    }
    Ok(Ok(()))
}

/// The number of lines of the log that are no orders.
fn first_lines(connection: &Connection) -> rusqlite::Result<u64> {
    // An older file does not say which.
    if !schema::has_periods(connection) {
        return Ok(0);
    }
    let sql = "SELECT count(*) FROM orders WHERE seq IN (SELECT added_seq FROM products)";
    connection.query_row(sql, [], |row| row.get(0)).map(i64::cast_unsigned)
}

/// Checks the order log: sequence numbers have no gaps, each total is the product's total before it plus the amount,
/// and the last one is the product's present total.
///
/// Orders that a repair has lost are no damage: gaps among the orders that it has saved, and between them and later
/// ones, are reported as facts.
fn examine_log(connection: &Connection, findings: &mut Findings) -> rusqlite::Result<()> {
    let repaired = schema::repaired_up_to(connection)?.cast_signed();
    let mut statement = connection.prepare("SELECT seq, product, amount, total FROM orders ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut lasts: HashMap<i64, (i64, i64)> = HashMap::new();
    let (mut first_seq, mut last_seq, mut count, mut lost) = (None, 0, 0, 0);
    while let Some(row) = rows.next()? {
        let (seq, product, amount, total): (i64, i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let missing = seq.saturating_sub(last_seq).saturating_sub(1);
        if first_seq.is_some() && missing > 0 {
            if seq <= repaired {
                lost += missing.cast_unsigned();
            } else {
                findings.wrong(format!("the log lacks the orders {} to {}", last_seq + 1, seq - 1));
            }
        }
        if let Some(&(before, at)) = lasts.get(&product)
            && at > repaired
            && before.checked_add(amount) != Some(total)
        {
            findings.wrong(format!("order {seq} adds {amount} to {before}, but its total is {total}"));
        }
        first_seq = first_seq.or(Some(seq));
        (last_seq, count) = (seq, count + 1);
        lasts.insert(product, (total, seq));
    }
    findings.facts.push(match first_seq {
        Some(first_seq) => {
            let what = match first_lines(connection)? {
                0 => counted(count, "order"),
                lines => {
                    format!("{} and {}", counted(count.saturating_sub(lines), "order"), counted(lines, "new product"))
                }
            };
            format!("{what}, numbers {first_seq} to {last_seq}")
        }
        None => "no orders".to_owned(),
    });
    if lost > 0 {
        let lost = counted(lost, "order");
        findings.facts.push(format!("lost before a repair: {lost} before order {repaired}; the totals include them"));
    }
    let Some(stored) = findings.stored.take() else { return Ok(()) };
    let mut lasts: Vec<_> = lasts.into_iter().collect();
    lasts.sort_unstable();
    for (product, (last, at)) in lasts {
        let place = usize::try_from(product.saturating_sub(1)).unwrap_or(usize::MAX);
        match stored.totals.get(place) {
            None => findings.wrong(format!("order {at} is for product number {product}, which does not exist")),
            Some(total) if total.get() != last && at > repaired => findings.wrong(format!(
                "the total of {} is {}, but its last order {at} has the total {last}",
                stored.catalog.products()[place].id,
                total.get()
            )),
            Some(_) => {}
        }
    }
    findings.stored = Some(stored);
    Ok(())
}

/// Checks the periods, if the file's schema has them and its catalogue can be read.
fn examine_periods(connection: &Connection, findings: &mut Findings) -> rusqlite::Result<()> {
    let Some(stored) = findings.stored.take() else { return Ok(()) };
    if schema::has_periods(connection) {
        let repaired = schema::repaired_up_to(connection)?.cast_signed();
        let count = periods::examine(connection, &stored, repaired, &mut |what| findings.wrong(what))?;
        findings.facts.push(counted(count, "period"));
    }
    findings.stored = Some(stored);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The damage that is found in a small sound file after this change.
    fn damage_after(sql: &str) -> Vec<String> {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO categories (row, name, prefix) VALUES (1, 'tools', 'T');
                 INSERT INTO products (row, id, category, name, rrp, info, total)
                     VALUES (1, 'T1', 1, 'Saw', '', '', 9), (2, 'T2', 1, 'Axe', '', '', 7);
                 INSERT INTO orders (seq, at_ms, product, amount, total)
                     VALUES (4, 7, 1, 1, 6), (5, 7, 1, 2, 8), (6, 7, 2, 7, 7), (7, 7, 1, 1, 9);
                 UPDATE meta SET value = '7' WHERE key = 'moved';
                 PRAGMA foreign_keys = OFF;",
            )
            .unwrap();
        connection.execute_batch(sql).unwrap();
        examine(&connection, Path::new("x")).unwrap().damage
    }

    #[test]
    fn each_broken_rule_is_found() {
        assert_eq!(damage_after(""), Vec::<String>::new());
        for (sql, expected) in [
            ("DELETE FROM orders WHERE seq = 6", &["lacks the orders 6 to 6"][..]),
            (
                "DELETE FROM orders WHERE seq = 5",
                &["lacks the orders 5 to 5", "order 7 adds 1 to 6, but its total is 9"],
            ),
            ("UPDATE products SET total = 10 WHERE row = 1", &["the total of T1 is 10", "order 7 has the total 9"]),
            ("UPDATE orders SET amount = 3 WHERE seq = 5", &["order 5 adds 3 to 6, but its total is 8"]),
            ("UPDATE orders SET product = 3 WHERE seq = 6", &["order 6 is for product number 3"]),
            ("DELETE FROM products WHERE row = 1", &["a product is missing"]),
        ] {
            let damage = damage_after(sql).join("; ");
            assert!(expected.iter().all(|expected| damage.contains(expected)), "{sql}: {damage}");
        }
    }

    #[test]
    fn orders_lost_before_a_repair_are_no_damage_and_orders_lost_later_are() {
        let lost = "DELETE FROM orders WHERE seq = 5; UPDATE products SET total = 12 WHERE row = 1;
             INSERT INTO meta VALUES ('repaired', '7');";
        assert_eq!(damage_after(lost), Vec::<String>::new());
        let later =
            "INSERT INTO orders (seq, at_ms, product, amount, total) VALUES (8, 7, 1, 1, 13), (9, 7, 1, 1, 14);";
        let right = "UPDATE products SET total = 14 WHERE row = 1;";
        let moved = "UPDATE meta SET value = '9' WHERE key = 'moved';";
        assert_eq!(damage_after(&[lost, later, right].concat()), Vec::<String>::new());
        assert_eq!(damage_after(&[lost, later].concat()), Vec::<String>::new(), "the product may be behind the log");
        assert_eq!(damage_after(&[lost, later, moved].concat()).len(), 1);
        assert_eq!(damage_after(&[lost, later, right, "DELETE FROM orders WHERE seq = 8"].concat()).len(), 1);
    }
}
