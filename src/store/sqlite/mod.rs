//! The store in one SQLite file. Owns the transaction and the handling of one that fails; knows nothing of threads or
//! the network.

mod changes;
mod rewrite;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi, params};

use super::files::{check_wal, data_file, folder_of, lock, sync_folder};
use super::retention::{BatchSize, MonotonicClock, Retention, limit_size, oldest_key_ms, prune};
use super::{Change, KeyUse, Reason, Store, StoreError, Stored, now_ms, open, schema};
use crate::tally::catalog::ProductIndex;
use crate::tally::order::{Amount, Key};
use crate::tally::position::RunList;

pub(crate) use changes::write_changes;

/// Prepared statements kept: all that a commit uses, with room.
const STATEMENTS: usize = 16;

/// A data folder opened for one server.
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
    retention: Retention,
    clock: MonotonicClock,
    /// The list of runs, until it has been written: this run has to be listed before anything that it adds.
    pending_runs: Option<RunList>,
    /// Whether a failed transaction may be complete at the end of the WAL; see [`Self::overwrite_failed_commit`].
    has_failed_commit: bool,
    /// The number of the first order in the log; kept up to date only while old orders are deleted.
    first_seq: u64,
    /// The number of the last order.
    last_seq: u64,
    /// Held for as long as the store lives.
    _lock: File,
}

impl SqliteStore {
    /// Opens the data folder, making it and its file if they do not exist, and reads what is stored.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server owns the folder; [`StoreError::Unusable`] when the file is damaged,
    /// of another program or of a newer version; otherwise the disk's error.
    pub fn open(folder: &Path, retention: Retention) -> Result<(Self, Stored), StoreError> {
        fs::create_dir_all(folder).map_err(|error| {
            let path = folder.display();
            if folder.exists() {
                return StoreError::Unusable(format!("{path} is not a folder; name one with --data").into());
            }
            StoreError::unusable(format!("cannot make the data folder {path}"), error)
        })?;
        let path = data_file(folder)?;
        let folder = folder_of(&path);
        let lock = lock(folder)?;
        check_wal(&path)?;
        let describe = |error| StoreError::opening(&path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut connection = open::connect(&path, flags).map_err(describe)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        open::check_origin(&connection, &path)?;
        // FULL syncs the WAL at every commit; fullfsync asks the same of macOS, whose plain fsync does not reach the
        // disk. Both hold for this connection only, so they are set at every start.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")
            .map_err(describe)?;
        rewrite::rewrite_wal(&mut connection, &path)?;
        open::check_pages(&connection, &path)?;
        schema::migrate(&mut connection).map_err(describe)?;
        if let Some(bytes) = retention.data_bytes {
            limit_size(&connection, bytes).map_err(describe)?;
        }
        let mut stored = schema::load(&connection, &path)?;
        stored.runs.begin(schema::new_run_id(&connection).map_err(describe)?, stored.last_seq);
        let first_seq: i64 =
            connection.query_row("SELECT coalesce(min(seq), 1) FROM orders", [], |row| row.get(0)).map_err(describe)?;
        // The names of the new files must survive a power cut too.
        sync_folder(folder)
            .map_err(|error| StoreError::Failed(Reason::new(format!("cannot sync {}", folder.display()), error)))?;
        let store = Self {
            path,
            connection,
            retention,
            clock: MonotonicClock::new(now_ms()),
            pending_runs: Some(stored.runs.clone()),
            has_failed_commit: false,
            first_seq: first_seq.cast_unsigned(),
            last_seq: stored.last_seq,
            _lock: lock,
        };
        Ok((store, stored))
    }

    /// Lists this run in the file, once the server is ready to serve. If that fails, the next commit does it; if none
    /// succeeds, later runs reject the positions of this one.
    ///
    /// # Errors
    /// The disk's.
    pub fn record_run(&mut self) -> Result<(), StoreError> {
        let mut record = || {
            let transaction = begin(&mut self.connection)?;
            write_runs(&transaction, self.pending_runs.as_ref())?;
            transaction.commit()
        };
        record().map_err(|error| StoreError::committing(error, self.retention.data_bytes))?;
        self.pending_runs = None;
        Ok(())
    }

    /// The path of the data file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A transaction with these changes, ready to be committed, and the number of the first order that it leaves in the
    /// log. Dropping it rolls it back.
    fn prepare(&mut self, changes: &[Change]) -> rusqlite::Result<(Transaction<'_>, u64)> {
        let Self { connection, retention, clock, pending_runs, first_seq, last_seq, .. } = self;
        let transaction = begin(connection)?;
        let key_ms = clock.now_ms();
        // Before anything is added, so that a file that has reached its cap has room for it.
        let first_kept = prune(&transaction, retention, key_ms, *first_seq, &BatchSize::of(changes, *last_seq))?;
        write_runs(&transaction, pending_runs.as_ref())?;
        write_changes(&transaction, changes, key_ms)?;
        Ok((transaction, first_kept))
    }

    /// Makes sure that a transaction whose commit has failed never counts.
    ///
    /// After a failed sync the transaction may be complete in the WAL: this connection ignores it, but SQLite would
    /// take it for committed when it opens the file after a crash. SQLite writes the next transaction's frames over
    /// those of the failed one, and each frame's checksum covers all frames before it. So one synced transaction that
    /// changes nothing invalidates it. Setting the version always writes a page, even if it stays the same; an `UPDATE`
    /// that changes nothing would not.
    fn overwrite_failed_commit(&mut self) -> rusqlite::Result<()> {
        let transaction = begin(&mut self.connection)?;
        schema::write_version(&transaction)?;
        transaction.commit()?;
        self.has_failed_commit = false;
        Ok(())
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let cap = self.retention.data_bytes;
        let describe = |error| StoreError::committing(error, cap);
        // Until this succeeds nothing is written, so an error here is final.
        if self.has_failed_commit {
            self.overwrite_failed_commit().map_err(describe)?;
        }
        let (transaction, first_kept) = self.prepare(changes).map_err(describe)?;
        let Err(error) = transaction.commit() else {
            self.first_seq = first_kept;
            self.last_seq = BatchSize::of(changes, self.last_seq).last_seq;
            self.pending_runs = None;
            return Ok(());
        };
        self.has_failed_commit = true;
        if self.overwrite_failed_commit().is_ok() || is_incomplete(&error) {
            return Err(describe(error));
        }
        Err(StoreError::Unknown(Reason::new("the data could not be written", error)))
    }

    fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError> {
        let oldest_ms = oldest_key_ms(&self.retention, self.clock.now_ms());
        let mut statement =
            self.connection.prepare_cached("SELECT product, amount FROM keys WHERE key = ?1 AND at_ms >= ?2")?;
        let found: Option<(u32, i64)> =
            statement.query_row(params![key.as_str(), oldest_ms], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(found.and_then(|(product, amount)| match product {
            0 => Some(KeyUse::Batch(amount)),
            row => Amount::new(amount).map(|amount| KeyUse::Order(ProductIndex(row - 1), amount)),
        }))
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn write_runs(transaction: &Transaction<'_>, runs: Option<&RunList>) -> rusqlite::Result<()> {
    runs.map_or(Ok(()), |runs| schema::write_runs(transaction, runs))
}

/// Whether a commit failed before its last frame was written, without which it cannot count. After a failed sync, and
/// after errors at the end of a commit, that frame may be in the WAL.
fn is_incomplete(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_WRITE)
}
