//! The tables of the data file: how they are made, migrated, and read when a server starts. Knows nothing of commits.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{StoreError, Stored};
use crate::tally::catalog::{CategoryIndex, Details};
use crate::tally::order::Total;
use crate::tally::position::RunList;

/// Identifies the program of the file (SQLite's `application_id`): the letters `OrdC`.
pub const APPLICATION_ID: i32 = 0x4f72_6443;
/// The version of the present schema (SQLite's `user_version`): the number of migrations that a file has had.
pub const VERSION: i32 = MIGRATIONS.len() as i32;

/// From an empty file to the present schema. Migrations are only ever added.
///
/// Row ids of categories and products start at 1 and follow the catalogue's indexes. Keys are numbered in the order of
/// their use, so that the oldest are found without another index; `product` 0 stands for several orders in one request,
/// whose digest is in `amount`.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE categories (
        row INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, prefix TEXT NOT NULL) STRICT;
    CREATE TABLE products (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, category INTEGER NOT NULL REFERENCES categories,
        name TEXT NOT NULL, rrp TEXT NOT NULL, info TEXT NOT NULL, total INTEGER NOT NULL) STRICT;
    CREATE TABLE orders (
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, product INTEGER NOT NULL REFERENCES products,
        amount INTEGER NOT NULL, total INTEGER NOT NULL) STRICT;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('file_id', lower(hex(randomblob(8))));
    ",
    "
    ALTER TABLE orders ADD COLUMN key TEXT;
    CREATE TABLE keys (
        n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, at_ms INTEGER NOT NULL, product INTEGER NOT NULL,
        amount INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES ('probe', '');
    ",
    "
    INSERT INTO meta SELECT 'runs', value || ':0' FROM meta WHERE key = 'file_id';
    DELETE FROM meta WHERE key IN ('file_id', 'copied');
    ",
];

/// Applies the migrations that the file has not had, in one transaction: on an error the file is unchanged.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let missing = MIGRATIONS.get(version as usize..).unwrap_or_default();
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        write_version(&transaction)?;
    }
    transaction.commit()
}

/// Writes the present schema's version into the file.
pub fn write_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", VERSION)
}

/// A random id for a run of a server.
fn new_run_id(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))
}

fn write_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, value]).map(drop)
}

fn read_meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// Writes the list of runs.
pub fn write_runs(connection: &Connection, runs: &RunList) -> rusqlite::Result<()> {
    write_meta(connection, "runs", &runs.text())
}

/// Records that the run with this id has stopped in order.
pub fn record_stop(connection: &Connection, run: &str) -> rusqlite::Result<()> {
    write_meta(connection, "stopped", run)
}

/// Whether the last run on the file has stopped in order. A new file and one of an older version have no such run.
pub fn was_stopped_in_order(connection: &Connection) -> rusqlite::Result<bool> {
    if super::open::is_empty(connection)? {
        return Ok(true);
    }
    let runs = RunList::parse(&read_meta(connection, "runs")?.unwrap_or_default());
    Ok(runs.last_id().is_some() && read_meta(connection, "stopped")?.as_deref() == runs.last_id())
}

/// Marks the orders up to this number as saved from a damaged file: some may be missing among them.
pub fn mark_as_repaired(connection: &Connection, last_seq: u64) -> rusqlite::Result<()> {
    write_meta(connection, "repaired", &last_seq.to_string())
}

/// The number of the last order that was saved from a damaged file; 0 if the file was never repaired.
pub fn repaired_up_to(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(read_meta(connection, "repaired")?.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Reads everything but the order log, and begins a run.
///
/// # Errors
/// [`StoreError::Unusable`] when a rule of the catalogue or of the totals is broken, or SQLite cannot read a table.
pub fn load(connection: &Connection, path: &Path) -> Result<Stored, StoreError> {
    let describe = |error| StoreError::opening(path, error);
    let stored = read(connection).map_err(describe)?;
    let mut stored = stored.map_err(|broken_rule| StoreError::damaged(path, &broken_rule))?;
    stored.runs.begin(new_run_id(connection).map_err(describe)?, stored.last_seq);
    Ok(stored)
}

/// As [`load`], but a broken rule is the inner error.
pub fn read(connection: &Connection) -> rusqlite::Result<Result<Stored, String>> {
    let mut stored = Stored::default();
    let mut statement = connection.prepare("SELECT row, name, prefix FROM categories ORDER BY row")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, prefix): (String, String) = (row.get(1)?, row.get(2)?);
        match stored.catalog.add_category(&name, &prefix) {
            Ok(index) if i64::from(index.0) + 1 == row.get::<_, i64>(0)? => {}
            Ok(_) => return Ok(Err("a category is missing".into())),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    let mut statement =
        connection.prepare("SELECT row, id, category, name, rrp, info, total FROM products ORDER BY row")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        let details = Details { name: row.get(3)?, rrp: row.get(4)?, info: row.get(5)? };
        let category: u32 = row.get(2)?;
        let Some(total) = Total::new(row.get(6)?) else {
            return Ok(Err(format!("the total of {id} is out of range")));
        };
        if category < 1 || category as usize > stored.catalog.categories().len() {
            return Ok(Err(format!("{id} belongs to no category")));
        }
        match stored.catalog.add_product(CategoryIndex(category - 1), &id, details) {
            Ok(index) if i64::from(index.0) + 1 == row.get::<_, i64>(0)? => stored.totals.push(total),
            Ok(_) => return Ok(Err("a product is missing".into())),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    stored.last_seq = last_seq(connection)?;
    // A file of an older schema, which only the tools read, has no list of runs.
    stored.runs = RunList::parse(&read_meta(connection, "runs")?.unwrap_or_default());
    Ok(Ok(stored))
}

/// The number of the last order, 0 before the first.
pub fn last_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = connection.query_row("SELECT max(seq) FROM orders", [], |row| row.get(0))?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_version(connection: &Connection) -> i32 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn every_older_schema_is_migrated_with_its_orders() {
        for version in 0..=MIGRATIONS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            MIGRATIONS[..version].iter().for_each(|migration| connection.execute_batch(migration).unwrap());
            if version > 0 {
                connection
                    .execute_batch(
                        "INSERT INTO categories VALUES (1, 'tools', 'T');
                         INSERT INTO products VALUES (1, 'T1', 1, 'Saw', '', '', 5);
                         INSERT INTO orders (seq, at_ms, product, amount, total) VALUES (1, 7, 1, 5, 5);",
                    )
                    .unwrap();
                connection.pragma_update(None, "user_version", version as i32).unwrap();
            }
            migrate(&mut connection).unwrap();
            assert_eq!(user_version(&connection), MIGRATIONS.len() as i32);
            let stored = load(&connection, Path::new("x")).unwrap();
            assert_eq!((stored.totals.len(), stored.last_seq), (version.min(1), version.min(1) as u64));
            assert_ne!(stored.runs, RunList::default(), "positions of earlier runs are valid");
        }
    }
}
