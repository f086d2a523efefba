//! The store in one SQLite file. Owns the transaction and what becomes of one that fails; knows nothing of threads, batches'
//! origin or the network.

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi, params};

use super::files::{data_file, folder_of, is_orphaned_log, lock, orphaned_log, sync_folder, with_suffix};
use super::retention::{Coming, KeyClock, Retention, limit_size, oldest_key_ms, prune};
use super::schema::{self, describe_open};
use super::{Change, KeyUse, Store, StoreError, Stored, now_ms};
use crate::tally::catalog::{Details, ProductIndex};
use crate::tally::order::{Amount, Key, Total};
use crate::tally::position::RunList;

/// How long a commit waits while another program, such as a SQLite shell, holds the file: 2 s, so that an order is
/// refused long before its client gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of SQLite's log is written again at a time, when a server starts after one that did not end in order.
const REWRITE_BYTES: usize = 64 * 1024;
/// Prepared statements kept: all that a commit uses, with room.
const STATEMENTS: usize = 16;

/// A data folder opened for one server.
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
    retention: Retention,
    clock: KeyClock,
    /// The runs, until they have been written: this run has to be listed before anything that it adds.
    owed: Option<RunList>,
    /// Whether a refused transaction may stand whole at the end of SQLite's log. See [`Self::settle`].
    in_doubt: bool,
    /// The number of the first order in the log; right only while old orders are taken away.
    first_seq: u64,
    /// The number of the last order.
    last_seq: u64,
    /// Held for as long as the store lives; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl SqliteStore {
    /// Opens the data folder, making it and its file if they are not there, and reads what is stored.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server owns the folder; [`StoreError::Unusable`] when the file is damaged,
    /// of another program or of a newer version; otherwise what the disk refused.
    pub fn open(folder: &Path, retention: Retention) -> Result<(Self, Stored), StoreError> {
        fs::create_dir_all(folder).map_err(|error| {
            StoreError::Unusable(format!("cannot make the data folder {}: {error}", folder.display()))
        })?;
        let path = data_file(folder)?;
        let folder = folder_of(&path);
        let lock = lock(folder)?;
        if is_orphaned_log(&path) {
            return Err(orphaned_log(&path));
        }
        let describe = |error| describe_open(&path, &error);
        let mut connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(describe)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(describe)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        schema::check_origin(&connection, &path)?;
        // FULL syncs the log at every commit; fullfsync asks the same of macOS, whose plain fsync does not reach the
        // disk. Both hold for this connection only, so they are set at every start.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")
            .map_err(describe)?;
        rewrite_log(&mut connection, &path)?;
        schema::check_pages(&connection, &path)?;
        schema::bring_up_to_date(&mut connection).map_err(describe)?;
        if let Some(bytes) = retention.data_bytes {
            limit_size(&connection, bytes).map_err(describe)?;
        }
        let mut stored = schema::load(&connection, &path)?;
        stored.runs.begin(schema::new_run_id(&connection).map_err(describe)?, stored.last_seq);
        let first: Option<i64> =
            connection.query_row("SELECT min(seq) FROM orders", [], |row| row.get(0)).map_err(describe)?;
        let first_seq = first.unwrap_or(1).cast_unsigned();
        // The names of the new files must survive a power cut too.
        sync_folder(folder).map_err(|error| StoreError::Refused(format!("{}: {error}", folder.display())))?;
        let last_seq = stored.last_seq;
        let owed = Some(stored.runs.clone());
        Ok((
            Self {
                path,
                connection,
                retention,
                clock: KeyClock::new(now_ms()),
                owed,
                in_doubt: false,
                first_seq,
                last_seq,
                _lock: lock,
            },
            stored,
        ))
    }
}

impl SqliteStore {
    /// Lists this run in the file, once the server is ready to serve. If that fails, the next commit does it; until then
    /// nothing is lost but that later runs take this one's positions for foreign.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn list_run(&mut self) -> Result<(), StoreError> {
        let list = |connection: &mut Connection, owed: Option<&RunList>| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            write_owed(&transaction, owed)?;
            transaction.commit()
        };
        list(&mut self.connection, self.owed.as_ref()).map_err(|error| describe_commit(&error, &self.retention))?;
        self.owed = None;
        Ok(())
    }

    /// Where the data file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        // Until this succeeds nothing is written, so what is refused here is refused for good.
        if self.in_doubt {
            self.settle().map_err(|error| describe_commit(&error, &self.retention))?;
        }
        let retention = self.retention;
        let (transaction, first_kept) = self.prepare(changes).map_err(|error| describe_commit(&error, &retention))?;
        let Err(error) = transaction.commit() else {
            self.first_seq = first_kept;
            self.last_seq = Coming::of(changes, self.last_seq).last_seq;
            self.owed = None;
            return Ok(());
        };
        self.in_doubt = true;
        if self.settle().is_ok() || stopped_before_its_end(&error) {
            return Err(describe_commit(&error, &self.retention));
        }
        Err(StoreError::Unknown(error.to_string()))
    }

    fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError> {
        let oldest_ms = oldest_key_ms(&self.retention, self.clock.now_ms());
        let find = || {
            let mut statement =
                self.connection.prepare_cached("SELECT product, amount FROM keys WHERE key = ?1 AND at_ms >= ?2")?;
            let found = statement.query_row(params![key.as_str(), oldest_ms], |row| Ok((row.get(0)?, row.get(1)?)));
            found.optional()
        };
        let found: Option<(u32, i64)> = find().map_err(|error| describe_commit(&error, &self.retention))?;
        Ok(found.and_then(|(product, amount)| match product {
            0 => Some(KeyUse::Batch(amount)),
            row => Amount::new(amount).map(|amount| KeyUse::Order(ProductIndex(row - 1), amount)),
        }))
    }
}

impl SqliteStore {
    /// A transaction with these changes, ready to be committed, and the number of the first order that it leaves in the log.
    /// Dropping it rolls it back.
    fn prepare(&mut self, changes: &[Change]) -> rusqlite::Result<(Transaction<'_>, u64)> {
        let Self { connection, retention, clock, owed, first_seq, last_seq, .. } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let key_ms = clock.now_ms();
        // Before anything is added, so that a file that has reached its cap has room for it.
        let first_kept = prune(&transaction, retention, key_ms, *first_seq, &Coming::of(changes, *last_seq))?;
        write_owed(&transaction, owed.as_ref())?;
        write_changes(&transaction, changes, key_ms)?;
        Ok((transaction, first_kept))
    }

    /// Makes sure that a transaction whose commit has failed never counts.
    ///
    /// After a failed sync the transaction may stand whole in SQLite's log: this connection knows that it is void, but
    /// whoever opens the file after a crash would take it for committed. SQLite writes the next transaction to the very
    /// place where the failed one begins, and each frame's checksum goes over all that are before it. So one that changes
    /// nothing, once it is synced, buries what stood there. Setting the version always writes a page, even to what it is;
    /// an `UPDATE` that changes nothing would not.
    fn settle(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::write_version(&transaction)?;
        transaction.commit()?;
        self.in_doubt = false;
        Ok(())
    }
}

fn write_owed(transaction: &Transaction<'_>, owed: Option<&RunList>) -> rusqlite::Result<()> {
    owed.map_or(Ok(()), |runs| schema::write_runs(transaction, runs))
}

/// Whether a commit failed while it was written: the log lacks the frame that would make it count. After a failed sync,
/// and whatever else comes last, that frame may be there.
fn stopped_before_its_end(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_WRITE)
}

/// Writes the log that another server has left once more, as it stands, and syncs it.
///
/// What a killed server wrote last is read back from the system's memory and need not be on the disk; and if a sync of it
/// has failed, the system takes it for written and no later sync would write it. Everything that is read from the log would
/// be shown, and later orders would stand behind it in the log: without it they would be lost too.
fn rewrite_log(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let log = with_suffix(path, "-wal");
    // Keeps a SQLite shell from writing meanwhile.
    let _transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| describe_open(path, &error))?;
    let rewrite = |file: &mut File| -> io::Result<()> {
        let mut bytes = vec![0; REWRITE_BYTES];
        let mut place = 0;
        loop {
            let length = file.read(&mut bytes)?;
            if length == 0 {
                return Ok(());
            }
            file.seek(SeekFrom::Start(place))?;
            file.write_all(&bytes[..length])?;
            place += length as u64;
        }
    };
    let result = match OpenOptions::new().read(true).write(true).open(&log) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(mut file) => match rewrite(&mut file) {
            // A disk without room may refuse even this; what was written before can be synced all the same.
            Err(error) if !lacks_room(&error) => Err(error),
            _ => file.sync_all(),
        },
    };
    result.map_err(|error| StoreError::Refused(format!("{}: {error}", log.display())))
}

fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn write_changes(transaction: &Transaction<'_>, changes: &[Change], key_ms: u64) -> rusqlite::Result<()> {
    if changes.is_empty() {
        // Two pages' worth, taken back at once: a file that has reached its cap would take what needs no page.
        transaction.execute_batch(
            "UPDATE meta SET value = hex(zeroblob(4096)) WHERE key = 'probe';
             UPDATE meta SET value = lower(hex(randomblob(4))) WHERE key = 'probe';",
        )?;
    }
    // Only the last total of each product is written: its orders in one batch share one row update.
    let mut last_totals: Vec<(u32, Total)> = Vec::new();
    let keep_key = |key: &Key, product: u32, amount: i64| {
        let sql = "INSERT OR REPLACE INTO keys (key, at_ms, product, amount) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = transaction.prepare_cached(sql)?;
        insert.execute(params![key.as_str(), key_ms.cast_signed(), product, amount])
    };
    for change in changes {
        match change {
            Change::Category(category) => {
                transaction
                    .prepare_cached("INSERT INTO categories (name, prefix) VALUES (?1, ?2)")?
                    .execute(params![category.name, category.prefix])?;
            }
            Change::Product(product, total) => {
                let Details { name, rrp, info } = &product.details;
                transaction
                    .prepare_cached(
                        "INSERT INTO products (id, category, name, rrp, info, total) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![product.id, product.category.0 + 1, name, rrp, info, total.get()])?;
            }
            Change::Order { seq, at_ms, product, amount, total, key } => {
                transaction.prepare_cached("INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                    seq.cast_signed(),
                    at_ms.cast_signed(),
                    product.0 + 1,
                    amount.get(),
                    total.get(),
                    key.as_ref().map(Key::as_str)
                ])?;
                match last_totals.iter_mut().find(|(index, _)| *index == product.0) {
                    Some((_, last)) => *last = *total,
                    None => last_totals.push((product.0, *total)),
                }
                if let Some(key) = key {
                    keep_key(key, product.0 + 1, amount.get())?;
                }
            }
            Change::BatchKey { key, digest } => {
                keep_key(key, 0, *digest)?;
            }
        }
    }
    let mut update_total = transaction.prepare_cached("UPDATE products SET total = ?2 WHERE row = ?1")?;
    for (product, total) in last_totals {
        update_total.execute(params![product + 1, total.get()])?;
    }
    Ok(())
}

fn describe_commit(error: &rusqlite::Error, retention: &Retention) -> StoreError {
    match (error.sqlite_error_code(), retention.data_bytes) {
        (Some(ErrorCode::DiskFull), None) => StoreError::Full(error.to_string()),
        // SQLite tells a full disk and a file at its cap alike.
        (Some(ErrorCode::DiskFull), Some(cap)) => {
            StoreError::Full(format!("{error}, or it has reached --max-data-bytes {cap}: raise that, or keep less"))
        }
        _ => StoreError::Refused(error.to_string()),
    }
}
