//! `ordercast repair`: a new data file from what is readable of a damaged one. The damaged folder is only read, and
//! SQLite never opens its file.
//!
//! SQLite finds rows from the root of a table, so one damaged page hides up to some hundred sound ones. Each page shows by
//! itself which rows it has, and the rows of each table have a shape of their own, so only rows on damaged pages are lost.
//! SQLite's own recovery would need `unsafe`.

mod indexes;
mod page;
mod pages;
mod periods;
mod rebuild;
mod report;
mod salvage;
mod sequence;
mod wal;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::{ToolError, existing_data_file};
use crate::config::Repair;
use crate::store::files::{DATA_FILE, folder_of, lock, lock_to_read, sync_folder, with_suffix};
use crate::store::{StoreError, open, schema};
use rebuild::{Rebuilt, last_orders};
use salvage::Row;

pub(super) use pages::MAGIC;
pub(super) use salvage::read as read_damaged;

/// Memory for the pages of the new file, whose rows come in any order: 64 MiB.
const CACHE_KIB: i64 = 64 * 1024;
/// The age up to which keys are taken from the order log when no key is readable: a day, the default retention time.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Saves what is readable. Returns a report of what was saved and lost.
///
/// # Errors
/// When a server uses the folder, the output folder has data already, or nothing is readable.
pub fn run(options: &Repair) -> Result<String, ToolError> {
    let Repair { data, output } = options;
    let damaged = existing_data_file(data)?;
    let _lock = lock_to_read(folder_of(&damaged))?;
    check_is_unused(output)?;
    fs::create_dir_all(output).map_err(|error| ToolError::at(output, error))?;
    let _output_lock = lock(output)?;
    check_is_unused(output)?;
    let file = output.join(DATA_FILE);
    let partial = with_suffix(&file, ".partial");
    let write = || {
        let report = write_new(&damaged, &partial)?;
        let rename = || {
            File::open(&partial)?.sync_all()?;
            fs::rename(&partial, &file)?;
            sync_folder(output)
        };
        rename().map_err(|error| ToolError::at(&file, error))?;
        Ok(report)
    };
    let report: String = write().inspect_err(|_: &ToolError| drop(fs::remove_file(&partial)))?;
    let folder = output.display();
    Ok(report + &format!("wrote {}; start a server with --data {folder} and compare its totals\n", file.display()))
}

/// Rejects a folder with a data file, or with a journal that SQLite would apply to the new file.
fn check_is_unused(folder: &Path) -> Result<(), ToolError> {
    for suffix in ["", "-wal", "-journal", "-shm"] {
        let path = with_suffix(&folder.join(DATA_FILE), suffix);
        if path.symlink_metadata().is_ok() {
            let text = format!("{} exists already; name an empty folder with --output", path.display());
            return Err(ToolError::failed(text));
        }
    }
    Ok(())
}

fn write_new(damaged: &Path, partial: &Path) -> Result<String, ToolError> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(ToolError::at(partial, error)),
        _ => {}
    }
    let describe = |error: rusqlite::Error| StoreError::opening(partial, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = open::connect(partial, flags).map_err(describe)?;
    schema::migrate(&mut connection).map_err(describe)?;
    // An unfinished file is deleted, so it needs no journal, and no sync but one at the end. Orders are written before
    // the products that they refer to. The period that the schema begins with is in the way of those that are read.
    let pragmas = format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -{CACHE_KIB};
         DELETE FROM periods;
         CREATE TEMP TABLE saved_keys (key TEXT PRIMARY KEY, n, at_ms, product, amount) WITHOUT ROWID;"
    );
    connection.execute_batch(&pragmas).map_err(describe)?;
    let transaction = connection.transaction().map_err(describe)?;
    let readable = salvage::read(damaged, |row| Ok(insert(&transaction, &row).map_err(describe)?))?;
    if readable.is_empty() {
        let text = format!("nothing of a tally is readable in {}; restore a backup", damaged.display());
        return Err(ToolError::failed(text));
    }
    let last_orders = last_orders(&transaction).map_err(describe)?;
    let rebuilt = Rebuilt::new(&readable, &last_orders).map_err(|error| ToolError::failed(error.to_string()))?;
    let last_seq = schema::last_seq(&transaction).map_err(describe)?;
    let periods = periods::complete(&transaction, last_seq.cast_signed()).map_err(describe)?;
    rebuilt.write(&transaction).map_err(describe)?;
    let keys = write_keys(&transaction, rebuilt.totals.len()).map_err(describe)?;
    schema::write_moved_seq(&transaction, last_seq).map_err(describe)?;
    schema::mark_as_repaired(&transaction, last_seq).map_err(describe)?;
    transaction.commit().map_err(describe)?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(describe)?;
    schema::load(&connection, partial)?;
    if found != "ok" {
        return Err(ToolError::failed(format!("{} could not be written correctly: {found}", partial.display())));
    }
    connection.close().map_err(|(_, error)| describe(error))?;
    Ok(report::report(&readable, &rebuilt, &last_orders, keys, &periods))
}

fn insert(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<()> {
    // A row may come twice: orders are always the same, of a key the last use counts.
    match row {
        Row::Order { seq, at_ms, product, amount, total, key, key_ms } => connection
            .prepare_cached("INSERT OR IGNORE INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![seq, at_ms, product, amount, total, key, key_ms])?,
        Row::Key { n, key, at_ms, product, amount } => connection
            .prepare_cached(
                "INSERT INTO saved_keys VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
                 n = excluded.n, at_ms = excluded.at_ms, product = excluded.product, amount = excluded.amount
                 WHERE excluded.n > n",
            )?
            .execute(params![key, n, at_ms, product, amount])?,
        Row::Period { number, opened_ms, opened_after } => connection
            .prepare_cached("INSERT OR REPLACE INTO periods VALUES (?1, ?2, ?3)")?
            .execute([number, opened_ms, opened_after])?,
        Row::PeriodSum { n, period, product, amount } => connection
            .prepare_cached("INSERT OR IGNORE INTO period_sums VALUES (?1, ?2, ?3, ?4)")?
            .execute([n, period, product, amount])?,
        Row::Change { n, at_ms, line } => connection
            .prepare_cached("INSERT OR IGNORE INTO changes VALUES (?1, ?2, ?3)")?
            .execute(params![n, at_ms, line])?,
    };
    Ok(())
}

/// Writes the keys in the order of their use, and returns their number. A lost key of a single order is taken from the
/// order log, if it is younger than the oldest readable key.
fn write_keys(connection: &Connection, products: usize) -> rusqlite::Result<u64> {
    connection.execute(
        "INSERT OR IGNORE INTO saved_keys SELECT key, seq, coalesce(key_ms, at_ms) AS used_ms, product, amount FROM orders
         WHERE key IS NOT NULL AND used_ms >= coalesce(
             (SELECT min(at_ms) FROM saved_keys), (SELECT max(coalesce(key_ms, at_ms)) - ?1 FROM orders))
         ORDER BY seq DESC",
        [DAY_MS],
    )?;
    let written = connection.execute(
        "INSERT INTO keys (key, at_ms, product, amount) SELECT key, at_ms, product, amount FROM saved_keys
         WHERE product <= ?1 ORDER BY at_ms, n",
        [products as i64],
    )?;
    Ok(written as u64)
}
