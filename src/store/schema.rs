//! The tables of the data file: how they are made, brought up to date, and read when a server starts. Owns the schema and
//! the check that a file is ours; knows nothing of commits.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::{StoreError, Stored};
use crate::tally::catalog::{CategoryIndex, Details};
use crate::tally::order::Total;
use crate::tally::position::RunList;

/// Marks the file as ours (SQLite's `application_id`): the letters `OrdC`.
pub const APPLICATION_ID: i32 = 0x4f72_6443;

/// The steps from an empty file to the present schema. A file's version (SQLite's `user_version`) is the number of steps
/// that it has gone. Steps are only ever added.
///
/// Row ids of categories and products start at 1 and follow the places of the catalogue. Keys are numbered in the order of
/// their use, so that the oldest are found without another index; `product` 0 stands for several orders as one, whose
/// digest is in `amount`.
const STEPS: &[&str] = &[
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

/// Refuses a file of another program or of a newer version before anything is written to it.
///
/// # Errors
/// [`StoreError::Unusable`] says what to do.
pub fn check_origin(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let describe = |error| describe_open(path, &error);
    let pragma = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(describe)?;
    if tables == 0 {
        return Ok(());
    }
    if pragma("application_id").map_err(describe)? != APPLICATION_ID {
        return Err(StoreError::Unusable(format!(
            "{} is a SQLite file of another program; choose another folder with --data",
            path.display()
        )));
    }
    check_version(pragma("user_version").map_err(describe)?, path)
}

/// The same, and refuses a file in which nothing has ever been.
///
/// # Errors
/// As [`check_origin`].
pub fn check_is_used(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    check_origin(connection, path)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .map_err(|error| describe_open(path, &error))?;
    if tables > 0 {
        return Ok(());
    }
    Err(StoreError::Unusable(format!("{} is empty: no table is in it; restore a backup", path.display())))
}

/// Refuses a file of a newer version.
///
/// # Errors
/// [`StoreError::Unusable`] says what to do.
pub fn check_version(version: i32, path: &Path) -> Result<(), StoreError> {
    let known = STEPS.len();
    if usize::try_from(version).is_ok_and(|version| version <= known) {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "{} was written by a newer ordercast (schema {version}, this one knows {known}); run that version, or choose \
         another folder with --data",
        path.display()
    )))
}

/// Refuses a file whose pages, or rows and indexes, do not fit together, before anything is built on them. Reads the whole
/// file: some hundred megabytes a second.
///
/// # Errors
/// [`StoreError::Unusable`] says what to do.
pub fn check_pages(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| describe_open(path, &error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(StoreError::Unusable(format!("{} is damaged ({found}); {WHAT_TO_DO_WITH_DAMAGE}", path.display())))
}

/// Goes the steps that the file has not gone yet, in one transaction.
///
/// # Errors
/// What SQLite says; the file is then as it was.
pub fn bring_up_to_date(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let missing = STEPS.get(version as usize..).unwrap_or_default();
    for step in missing {
        transaction.execute_batch(step)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        write_version(&transaction)?;
    }
    transaction.commit()
}

/// An id for a run of a server, which no other has.
///
/// # Errors
/// What SQLite says.
pub fn new_run_id(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))
}

/// Writes which runs there were and are.
///
/// # Errors
/// What SQLite says; later runs then take positions of the last one for foreign.
pub fn write_runs(connection: &Connection, runs: &RunList) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('runs', ?1)", [runs.text()]).map(drop)
}

/// Notes that the orders up to this number were saved from a damaged file, so that some may be missing among them.
///
/// # Errors
/// What SQLite says.
pub fn mark_as_repaired(connection: &Connection, last_seq: u64) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('repaired', ?1)", [last_seq.to_string()]).map(drop)
}

/// The number of the last order that was saved from a damaged file; 0 if the file never was damaged.
///
/// # Errors
/// What SQLite says.
pub fn repaired_up_to(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM meta WHERE key = 'repaired'";
    let number: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(number.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Writes the present schema's version into the file.
///
/// # Errors
/// What SQLite says.
pub fn write_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", STEPS.len() as i32)
}

/// Reads everything but the log.
///
/// # Errors
/// [`StoreError::Unusable`] when a rule of the catalogue or of the totals is broken, or SQLite cannot read a table.
pub fn load(connection: &Connection, path: &Path) -> Result<Stored, StoreError> {
    match read(connection) {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(why)) => {
            Err(StoreError::Unusable(format!("{} is damaged: {why}; {WHAT_TO_DO_WITH_DAMAGE}", path.display())))
        }
        Err(error) => Err(describe_open(path, &error)),
    }
}

/// The same as [`load`], with what is wrong and nothing else: SQLite's errors are the outer ones, broken rules the inner
/// ones.
///
/// # Errors
/// What SQLite says.
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
    // A file of an older schema, which only the tools read, has none.
    let sql = "SELECT value FROM meta WHERE key = 'runs'";
    let runs: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    stored.runs = runs.map_or_else(RunList::default, |runs| RunList::parse(&runs));
    Ok(Ok(stored))
}

/// The number of the last order, 0 before the first.
///
/// # Errors
/// What SQLite says.
pub fn last_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = connection.query_row("SELECT max(seq) FROM orders", [], |row| row.get(0))?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

/// What stands behind every word of damage.
const WHAT_TO_DO_WITH_DAMAGE: &str = "restore a backup, or see with `ordercast check` how much is readable and let \
                                      `ordercast repair` write a fresh file from it";

/// An error of SQLite's while a file is opened, with what to do.
#[must_use]
pub fn describe_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Unusable(format!("{path} is damaged or no SQLite file ({error}); {WHAT_TO_DO_WITH_DAMAGE}"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Unusable(format!(
            "{path} is locked by another program ({error}); close that program and start again"
        )),
        Some(ErrorCode::DiskFull) => StoreError::Full(format!("{path}: {error}")),
        _ => StoreError::Unusable(format!("cannot open {path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i32 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn every_older_schema_is_brought_up_to_date_with_its_orders() {
        for steps in 0..=STEPS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            STEPS[..steps].iter().for_each(|step| connection.execute_batch(step).unwrap());
            if steps > 0 {
                connection
                    .execute_batch(
                        "INSERT INTO categories VALUES (1, 'tools', 'T');
                         INSERT INTO products VALUES (1, 'T1', 1, 'Saw', '', '', 5);
                         INSERT INTO orders (seq, at_ms, product, amount, total) VALUES (1, 7, 1, 5, 5);",
                    )
                    .unwrap();
                connection.pragma_update(None, "user_version", steps as i32).unwrap();
            }
            bring_up_to_date(&mut connection).unwrap();
            assert_eq!(version(&connection), STEPS.len() as i32);
            let stored = load(&connection, Path::new("x")).unwrap();
            assert_eq!((stored.totals.len(), stored.last_seq), (steps.min(1), steps.min(1) as u64));
            assert_ne!(stored.runs, RunList::default(), "positions of before are known");
        }
    }
}
