//! `ordercast check`: whether a data file is sound, and what is readable of one that is not. Owns the rules that hold
//! between tables; those of the catalogue are the schema's.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use rusqlite::Connection;

use super::source::Source;
use super::{ToolError, counted, data_file, repair};
use crate::config::Check;
use crate::store::files::is_orphaned_log;
use crate::store::{StoreError, Stored, schema};

/// Findings that are told: 20. More of them say nothing more.
const MAX_FINDINGS: usize = 20;

/// What a check has found.
pub struct Report {
    /// Whether nothing is wrong.
    pub is_sound: bool,
    /// The findings, in words.
    pub text: String,
}

#[derive(Default)]
struct Findings {
    /// What is as it should be.
    facts: Vec<String>,
    /// What is wrong.
    damage: Vec<String>,
    unsaid: u64,
    /// Why the file is none for us.
    rejection: Option<StoreError>,
}

impl Findings {
    fn wrong(&mut self, what: String) {
        if self.damage.len() < MAX_FINDINGS {
            self.damage.push(what);
        } else {
            self.unsaid += 1;
        }
    }
}

/// Checks the folder's data file. One read transaction sees it all as it was at one moment: a server beside it goes on
/// writing, and SQLite's log grows for as long as that takes.
///
/// # Errors
/// When there is no data file, it cannot be opened, or it is of another program or of a newer version.
pub fn run(options: &Check) -> Result<Report, ToolError> {
    let path = data_file(&options.data)?;
    let findings = if is_orphaned_log(&path) {
        let mut findings = Findings::default();
        findings.wrong("the file is empty or gone, and its log (-wal) is still there".to_owned());
        findings
    } else {
        Source::open(&options.data)?.read(|connection| examined(connection, &path))?
    };
    if let Some(error) = findings.rejection {
        return Err(error.into());
    }
    let is_sound = findings.damage.is_empty();
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    };
    let told = path.display();
    findings.facts.iter().for_each(|fact| line(format_args!("{fact}")));
    if is_sound {
        line(format_args!("{told} is sound"));
        return Ok(Report { is_sound, text });
    }
    line(format_args!("{told} is damaged:"));
    findings.damage.iter().for_each(|what| line(format_args!("- {what}")));
    if findings.unsaid > 0 {
        line(format_args!("- and {} more findings", findings.unsaid));
    }
    let readable = repair::read_damaged(&path, |_| Ok(()))?;
    if readable.is_empty() {
        line(format_args!("nothing of the tally is readable; restore a backup"));
    } else {
        line(format_args!("readable all the same: {}", readable.words()));
        line(format_args!(
            "restore a backup, or stop the server and let `ordercast repair --data {}` write a fresh file from what is \
             readable",
            options.data.display()
        ));
    }
    Ok(Report { is_sound, text })
}

/// All that there is to find.
fn examined(connection: &Connection, path: &Path) -> Findings {
    let mut findings = Findings::default();
    if let Err(error) = examine(connection, path, &mut findings) {
        findings.wrong(format!("SQLite cannot read on: {error}"));
    }
    findings
}

/// What is wrong with a file that should be sound: the first finding, if there is one.
///
/// # Errors
/// When the file is of another program or of a newer version.
pub fn first_damage(connection: &Connection, path: &Path) -> Result<Option<String>, StoreError> {
    let Findings { damage, rejection, .. } = examined(connection, path);
    rejection.map_or_else(|| Ok(damage.into_iter().next()), Err)
}

fn examine(connection: &Connection, path: &Path, findings: &mut Findings) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let number = |sql: &str| transaction.query_row(sql, [], |row| row.get::<_, i64>(0));
    if number("SELECT count(*) FROM sqlite_master")? == 0 {
        findings.wrong("it is empty: no table is in it".to_owned());
        return Ok(());
    }
    findings.rejection = schema::check_origin(&transaction, path).err();
    if findings.rejection.is_some() {
        return Ok(());
    }
    findings.facts.push(format!("schema {}", number("PRAGMA user_version")?));
    let mut statement = transaction.prepare(&format!("PRAGMA integrity_check({MAX_FINDINGS})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            said.lines().for_each(|line| findings.wrong(line.to_owned()));
        }
    }
    let stored = match schema::read(&transaction) {
        Ok(Ok(stored)) => Some(stored),
        Ok(Err(why)) => {
            findings.wrong(why);
            None
        }
        Err(error) => {
            findings.wrong(format!("the catalogue and the totals: {error}"));
            None
        }
    };
    if let Some(stored) = &stored {
        let (categories, products) = (stored.catalog.categories().len(), stored.catalog.products().len());
        let (categories, products) = (counted(categories as u64, "category"), counted(products as u64, "product"));
        findings.facts.push(format!("{categories}, {products}"));
    }
    if let Err(error) = follow_log(&transaction, stored.as_ref(), findings) {
        findings.wrong(format!("the log of orders: {error}"));
    }
    Ok(())
}

/// Goes through the log: numbers without gaps, each total the one before with the amount, the last one the product's.
///
/// A repair may have lost orders, which is no damage any more: among those that it has saved, and between them and later
/// ones, gaps are told and allowed.
fn follow_log(connection: &Connection, stored: Option<&Stored>, findings: &mut Findings) -> rusqlite::Result<()> {
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
            findings.wrong(format!("order {seq} makes {total} of {before} and {amount}"));
        }
        first_seq = first_seq.or(Some(seq));
        (last_seq, count) = (seq, count + 1);
        lasts.insert(product, (total, seq));
    }
    findings.facts.push(match first_seq {
        Some(first_seq) => format!("{}, numbers {first_seq} to {last_seq}", counted(count, "order")),
        None => "no orders".to_owned(),
    });
    if lost > 0 {
        let lost = counted(lost, "order");
        findings.facts.push(format!("{lost} before order {repaired} were lost before a repair; the totals count them"));
    }
    let Some(stored) = stored else { return Ok(()) };
    let mut lasts: Vec<_> = lasts.into_iter().collect();
    lasts.sort_unstable();
    for (product, (last, at)) in lasts {
        let place = usize::try_from(product.saturating_sub(1)).unwrap_or(usize::MAX);
        match stored.totals.get(place) {
            None => findings.wrong(format!("order {at} is of product number {product}, which there is not")),
            Some(total) if total.get() != last && at > repaired => findings.wrong(format!(
                "the total of {} is {}, and the log's last one, of order {at}, is {last}",
                stored.catalog.products()[place].id,
                total.get()
            )),
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a small sound file after this change.
    fn damage_after(sql: &str) -> Vec<String> {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::bring_up_to_date(&mut connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO categories VALUES (1, 'tools', 'T');
                 INSERT INTO products VALUES (1, 'T1', 1, 'Saw', '', '', 9), (2, 'T2', 1, 'Axe', '', '', 7);
                 INSERT INTO orders (seq, at_ms, product, amount, total)
                     VALUES (4, 7, 1, 1, 6), (5, 7, 1, 2, 8), (6, 7, 2, 7, 7), (7, 7, 1, 1, 9);
                 PRAGMA foreign_keys = OFF;",
            )
            .unwrap();
        connection.execute_batch(sql).unwrap();
        let mut findings = Findings::default();
        examine(&connection, Path::new("x"), &mut findings).unwrap();
        findings.damage
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        assert_eq!(damage_after(""), Vec::<String>::new());
        for (sql, told) in [
            ("DELETE FROM orders WHERE seq = 6", &["lacks the orders 6 to 6"][..]),
            ("DELETE FROM orders WHERE seq = 5", &["lacks the orders 5 to 5", "order 7 makes 9 of 6 and 1"]),
            ("UPDATE products SET total = 10 WHERE row = 1", &["the total of T1 is 10", "of order 7, is 9"]),
            ("UPDATE orders SET amount = 3 WHERE seq = 5", &["order 5 makes 8 of 6 and 3"]),
            ("UPDATE orders SET product = 3 WHERE seq = 6", &["order 6 is of product number 3"]),
            ("DELETE FROM products WHERE row = 1", &["a product is missing"]),
        ] {
            let damage = damage_after(sql).join("; ");
            assert!(told.iter().all(|told| damage.contains(told)), "{sql}: {damage}");
        }
    }

    #[test]
    fn what_a_repair_has_lost_is_no_damage_and_what_is_lost_later_is() {
        let lost = "DELETE FROM orders WHERE seq = 5; UPDATE products SET total = 12 WHERE row = 1;
             INSERT INTO meta VALUES ('repaired', '7');";
        assert_eq!(damage_after(lost), Vec::<String>::new());
        let later =
            "INSERT INTO orders (seq, at_ms, product, amount, total) VALUES (8, 7, 1, 1, 13), (9, 7, 1, 1, 14);";
        let right = "UPDATE products SET total = 14 WHERE row = 1;";
        assert_eq!(damage_after(&[lost, later, right].concat()), Vec::<String>::new());
        assert_eq!(damage_after(&[lost, later].concat()).len(), 1);
        assert_eq!(damage_after(&[lost, later, right, "DELETE FROM orders WHERE seq = 8"].concat()).len(), 1);
    }
}
