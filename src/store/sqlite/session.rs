//! An open data file: one connection for writing, its transactions, and what undoes those that fail.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, Transaction, TransactionBehavior, ffi};

use super::changes::{take_back, write_changes};
use super::integrity::IntegrityCheck;
use super::keys::{Keys, Step};
use super::rewrite::rewrite_wal;
use super::totals::Totals;
use crate::log::Throttle;
use crate::store::access::{Purpose, obstacle};
use crate::store::files::{LOCK_FILE, check_block_size, check_wal, folder_of, has_content, has_room, sync_folder};
use crate::store::open::LOG_BYTES;
use crate::store::open_files::OpenFiles;
use crate::store::retention::{BatchSize, MonotonicClock, Retention, limit_size, oldest_key_ms, prune};
use crate::store::{Change, Figures, KeyUse, Reason, Rest, StoreError, Stored, now_ms, open, schema};
use crate::tally::order::Key;
use crate::tally::position::RunList;

/// Prepared statements kept: all that a commit uses, with room.
const STATEMENTS: usize = 16;
/// Orders after which their keys and totals are moved to the tables of keys and of products: the start after a kill reads
/// so many, in some ten milliseconds.
const MOVED_ORDERS: u64 = 16 * 1024;
/// How often a commit to a file at its cap deletes what need not be kept before it fails: 16 times, some 16,000 rows. The
/// next commit or probe goes on.
const ROOM_PASSES: u32 = 16;
/// The bytes of the write-ahead log's header, and of each frame's beside its page (SQLite's file format, section 4.1).
const LOG_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

/// A data file open for writing.
pub(super) struct Session {
    path: Arc<Path>,
    pub(super) connection: Connection,
    pub(super) retention: Retention,
    pub(super) clock: MonotonicClock,
    pub(super) keys: Keys,
    totals: Totals,
    /// The number of the last order whose key and total are in the tables of keys and of products.
    moved_seq: u64,
    /// The list of runs; the last one is the present run.
    runs: RunList,
    /// Whether the list has been written: this run has to be listed before anything that it adds.
    has_recorded_run: bool,
    /// Whether a failed transaction may be complete at the end of the WAL; see [`Self::overwrite_failed_commit`].
    has_failed_commit: bool,
    /// What was committed to a file that was found moved right after; taken back with the next commit.
    in_doubt: Vec<Change>,
    /// The number of the first order in the log; kept up to date only while old orders are deleted.
    first_seq: u64,
    /// The number of the last order.
    last_seq: u64,
    files: OpenFiles,
    page_bytes: u64,
    /// Whether all pages are known to be sound: after a stop in order, or once [`IntegrityCheck`] has passed.
    is_sound: Arc<AtomicBool>,
    /// Whether something was written since the write-ahead log was last emptied.
    has_log: bool,
    /// How long SQLite's `COMMIT` of the last transaction took: writing the WAL, the sync, and now and then a checkpoint.
    pub(super) sync_time: Option<Duration>,
    throttle: Throttle,
}

/// What a transaction does beside its changes.
struct Prepared {
    /// The number of the first order that it leaves in the log.
    first_seq: u64,
    /// The time of its keys on the keys' clock.
    key_ms: u64,
    keys: Step,
}

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Its changes.
    Changes,
    /// Room in a file that has reached its cap.
    Room,
}

impl Session {
    /// Opens the data file at `path`, which the operator has named `named`, in a folder whose lock is held, and reads what
    /// is stored.
    pub(super) fn open(named: &Path, path: &Path, retention: Retention) -> Result<(Self, Stored), StoreError> {
        let describe = |error| StoreError::opening(path, error);
        check_block_size(path)?;
        check_wal(path)?;
        let is_new = !has_content(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut connection = open::connect(path, flags).map_err(describe)?;
        // Where SQLite may not write the file, it opens it to be read, and would go on so when it may.
        if connection.is_readonly(MAIN_DB).map_err(describe)? {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None);
            return Err(describe(error));
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        open::check_origin(&connection, path)?;
        // FULL syncs the WAL at every commit; fullfsync asks the same of macOS, whose plain fsync does not reach the
        // disk. Both hold for this connection only, so they are set at every start.
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;
                 PRAGMA journal_size_limit = {LOG_BYTES};"
            ))
            .map_err(describe)?;
        if is_new && let Err(error) = check_block_size(path) {
            drop(connection);
            let _ = fs::remove_file(path);
            return Err(error);
        }
        rewrite_wal(&mut connection, path)?;
        let is_sound = schema::was_stopped_in_order(&connection).map_err(describe)?;
        schema::migrate(&mut connection).map_err(describe)?;
        if let Some(bytes) = retention.data_bytes {
            limit_size(&connection, bytes).map_err(describe)?;
        }
        let stored = schema::load(&connection, path)?;
        let first_seq = schema::first_seq(&connection).map_err(describe)?;
        let keys_ahead = schema::keys_ahead(&connection).map_err(describe)?;
        let last_moved_ms = schema::last_key_ms(&connection).map_err(describe)?;
        let moved_seq = schema::moved_seq(&connection).map_err(describe)?;
        let keys = Keys::open(&connection, moved_seq).map_err(describe)?;
        let clock = MonotonicClock::new(now_ms(), keys_ahead, last_moved_ms.max(keys.last_recent_ms()));
        let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(describe)?;
        let folder = folder_of(path);
        // The names of the new files must survive a power cut too.
        sync_folder(folder)
            .map_err(|error| StoreError::Failed(Reason::new(format!("cannot sync {}", folder.display()), error)))?;
        let files = OpenFiles::remember(named, path, &folder.join(LOCK_FILE)).map_err(|error| {
            StoreError::Failed(Reason::new(format!("cannot examine the files in {}", folder.display()), error))
        })?;
        let session = Self {
            path: path.into(),
            connection,
            retention,
            clock,
            keys,
            totals: Totals::of(&stored, moved_seq < stored.last_seq),
            moved_seq,
            runs: stored.runs.clone(),
            has_recorded_run: false,
            has_failed_commit: false,
            in_doubt: Vec::new(),
            first_seq,
            last_seq: stored.last_seq,
            files,
            page_bytes: page_bytes.cast_unsigned(),
            is_sound: Arc::new(AtomicBool::new(is_sound)),
            has_log: true,
            sync_time: None,
            throttle: Throttle::default(),
        };
        Ok((session, stored))
    }

    /// Whether all pages are known to be sound.
    pub(super) fn is_sound(&self) -> bool {
        self.is_sound.load(Ordering::Relaxed)
    }

    pub(super) fn integrity_check(&self) -> IntegrityCheck {
        IntegrityCheck::new(self.path.to_path_buf(), self.is_sound.clone())
    }

    /// Goes on with a run that has begun before the file could be opened.
    pub(super) fn continue_run(&mut self, runs: RunList) {
        self.runs = runs;
    }

    pub(super) fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut result = self.write(changes, Aim::Changes);
        for _ in 0..ROOM_PASSES {
            // The first error says of the changes that none is kept, whatever happens here.
            if !matches!(result, Err(StoreError::AtCap(_))) || !self.make_room().is_ok_and(|has_room| has_room) {
                break;
            }
            result = self.write(changes, Aim::Changes);
        }
        result
    }

    /// Deletes old keys and orders in a transaction of its own, which moves nothing: what is moved may need more pages than
    /// are freed with it. Returns whether there was something to delete.
    fn make_room(&mut self) -> Result<bool, StoreError> {
        let kept = |session: &Self| (session.first_seq, session.keys.count());
        let before = kept(self);
        self.write(&[], Aim::Room)?;
        Ok(kept(self) != before)
    }

    fn write(&mut self, changes: &[Change], aim: Aim) -> Result<(), StoreError> {
        let (path, cap) = (self.path.clone(), self.retention.data_bytes);
        let describe = |error| committing(error, &path, cap);
        self.compare_files()?;
        // Until these succeed nothing is written, so an error here is final.
        if self.has_failed_commit {
            self.overwrite_failed_commit().map_err(describe)?;
        }
        if !self.in_doubt.is_empty() {
            self.take_back_in_doubt().map_err(describe)?;
        }
        self.has_log = true;
        let (transaction, prepared) = self.prepare(changes, aim).map_err(describe)?;
        let begun = Instant::now();
        let Err(error) = transaction.commit() else {
            self.sync_time = Some(begun.elapsed());
            self.first_seq = prepared.first_seq;
            self.has_recorded_run = true;
            self.keys.apply(&prepared.keys);
            if prepared.keys.moves {
                self.totals.clear();
                self.moved_seq = self.last_seq;
            }
            return match self.compare_files() {
                Ok(()) => {
                    self.keys.add(changes, prepared.key_ms, oldest_key_ms(&self.retention, prepared.key_ms));
                    self.totals.add(changes);
                    self.last_seq = BatchSize::of(changes, self.last_seq).last_seq;
                    Ok(())
                }
                Err(error) => {
                    self.in_doubt = changes.to_vec();
                    Err(error.in_the_middle())
                }
            };
        };
        self.has_failed_commit = true;
        if self.overwrite_failed_commit().is_ok() || is_incomplete(&error) {
            return Err(describe(error));
        }
        Err(StoreError::Unknown(Reason::new("the data could not be written", error)))
    }

    pub(super) fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError> {
        if !self.in_doubt.is_empty() {
            self.compare_files()?;
            self.take_back_in_doubt().map_err(|error| committing(error, &self.path, self.retention.data_bytes))?;
        }
        let Self { keys, connection, retention, clock, .. } = self;
        Ok(keys.find(connection, key, || oldest_key_ms(retention, clock.now_ms()))?)
    }

    pub(super) fn has_room_for_key(&self, pending: usize) -> Result<bool, StoreError> {
        Ok(self.keys.has_room(&self.connection, &self.retention, &self.clock, pending as u64)?)
    }

    /// Adds the rows and free pages of the data file to what was measured.
    pub(super) fn measure(&self, figures: &mut Figures) {
        let number = |sql| self.connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).ok();
        // Sequence numbers have no gaps, and entries of the log are deleted from the first one on.
        figures.log_rows = Some((self.last_seq + 1).saturating_sub(self.first_seq));
        figures.key_rows = Some(self.keys.count());
        figures.free_bytes =
            number("PRAGMA freelist_count").flatten().map(|pages| pages.cast_unsigned() * self.page_bytes);
    }

    /// Compares the files at their paths with those that are open.
    pub(super) fn compare_files(&mut self) -> Result<(), StoreError> {
        let Self { files, connection, page_bytes, .. } = self;
        files.compare(|| log_bytes(connection, *page_bytes).ok())
    }

    /// Reads some of the keys, so that the next one that is looked for need not wait for it. When all have been read,
    /// moves the write-ahead log into the data file and empties it, so that a copy of the data file alone is complete. Does
    /// not wait for readers: while one holds the log, it stays.
    pub(super) fn rest(&mut self) -> Rest {
        // An error shows when a key is looked for.
        if matches!(self.keys.read_some(&self.connection), Ok(false)) {
            return Rest::Unfinished;
        }
        if !self.has_log || self.compare_files().is_err() {
            return Rest::Done;
        }
        let checkpoint = || {
            self.connection.busy_timeout(Duration::ZERO)?;
            let is_busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
            self.connection.busy_timeout(open::BUSY_TIMEOUT)?;
            is_busy
        };
        match checkpoint() {
            Ok(is_busy) => self.has_log = is_busy,
            Err(error) if self.throttle.allows() => {
                log::warn!("the write-ahead log could not be moved into the data file and is kept: {error}");
            }
            Err(_) => {}
        }
        let _ = self.compare_files();
        if self.has_log { Rest::Later } else { Rest::Done }
    }

    /// Records that the server has stopped in order, so that the next one needs no check. Without it the next one
    /// checks the file.
    pub(super) fn close(mut self) {
        if self.compare_files().is_err() {
            // SQLite would remove the log at the path, which may be that of another data file by now. What the log has
            // is moved into the open data file, wherever it is.
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            std::mem::forget(self.connection);
            return;
        }
        if !self.in_doubt.is_empty() && self.take_back_in_doubt().is_err() {
            return;
        }
        if self.is_sound() && !self.has_failed_commit && self.has_recorded_run {
            // On a full disk there may be room for the second alone.
            let _ = self.record_stop(true).or_else(|_| self.record_stop(false));
        }
    }

    /// Records that the server has stopped in order. Moves keys and totals before, so that the next start need not look for
    /// them in the log.
    fn record_stop(&mut self, moves: bool) -> rusqlite::Result<()> {
        let transaction = begin(&mut self.connection)?;
        if moves {
            move_from_log(&transaction, &self.keys, &self.totals, self.last_seq)?;
        }
        schema::record_stop(&transaction, self.runs.last_id().unwrap_or_default())?;
        transaction.commit()
    }

    /// A transaction with these changes, ready to be committed. Dropping it rolls it back.
    fn prepare(&mut self, changes: &[Change], aim: Aim) -> rusqlite::Result<(Transaction<'_>, Prepared)> {
        let Self { connection, clock, keys, totals, runs, first_seq, last_seq, moved_seq, .. } = self;
        let mut retention = self.retention;
        if aim == Aim::Room {
            // Lines that were not moved stay.
            retention.orders = retention.orders.map(|orders| orders.max(last_seq.saturating_sub(*moved_seq)));
        }
        let transaction = begin(connection)?;
        let key_ms = clock.now_ms();
        // Before anything is added, so that a file that has reached its cap has room for it.
        let size = BatchSize::of(changes, *last_seq);
        let pruned = prune(&transaction, &retention, key_ms, *first_seq, &size)?;
        if !self.has_recorded_run {
            write_start(&transaction, runs, clock, *moved_seq)?;
        }
        let moves = aim == Aim::Changes
            && (keys.must_move()
            // Its key comes behind those of all orders before it.
            || size.batch_keys > 0
            // Its report is made from the totals of the products.
            || size.closes_period
            || last_seq.saturating_sub(*moved_seq) >= MOVED_ORDERS
            // Lines that were not moved have been deleted.
            || *last_seq > *moved_seq && pruned.first_seq > *moved_seq + 1);
        if moves {
            move_from_log(&transaction, keys, totals, *last_seq)?;
        }
        keys.write_batch_keys(&transaction, changes, key_ms)?;
        write_changes(&transaction, changes, key_ms)?;
        Ok((transaction, Prepared { first_seq: pruned.first_seq, key_ms, keys: Step::new(pruned.keys, moves) }))
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

    /// Undoes what was committed to a file while it was moved: it was answered as unknown and never published.
    fn take_back_in_doubt(&mut self) -> rusqlite::Result<()> {
        let transaction = begin(&mut self.connection)?;
        take_back(&transaction, &self.in_doubt, self.keys.next_row())?;
        transaction.commit()?;
        self.in_doubt.clear();
        Ok(())
    }
}

/// The bytes that the write-ahead log has in use.
fn log_bytes(connection: &Connection, page_bytes: u64) -> rusqlite::Result<u64> {
    let frames: i64 = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
    Ok(match frames {
        ..=0 => 0,
        frames => LOG_HEADER_BYTES + frames.cast_unsigned() * (FRAME_HEADER_BYTES + page_bytes),
    })
}

/// An error during a commit to the file at `path`, which may grow to `cap` bytes.
fn committing(error: rusqlite::Error, path: &Path, cap: Option<u64>) -> StoreError {
    match cap {
        // SQLite reports a full disk and a file at its cap with the same code.
        Some(bytes) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) && has_room(folder_of(path)) => {
            let text = format!("the data file has reached --max-data-bytes {bytes}; raise that, or keep less");
            StoreError::AtCap(Reason::new(text, error))
        }
        _ => match StoreError::committing(error) {
            error @ StoreError::Failed(_) => obstacle(path, Purpose::Write).map_or(error, StoreError::Forbidden),
            error => error,
        },
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Moves what is in the log alone, up to the order with the number `last_seq`, which is the last one.
fn move_from_log(transaction: &Transaction<'_>, keys: &Keys, totals: &Totals, last_seq: u64) -> rusqlite::Result<()> {
    keys.move_recent(transaction)?;
    totals.write(transaction)?;
    schema::write_moved_seq(transaction, last_seq)
}

/// Writes what the first commit of a run has to: the list of runs, how far the keys' clock is ahead, and up to which order
/// was moved, which an older version may have left behind the last order.
fn write_start(
    transaction: &Transaction<'_>,
    runs: &RunList,
    clock: &MonotonicClock,
    moved_seq: u64,
) -> rusqlite::Result<()> {
    schema::write_runs(transaction, runs)?;
    schema::write_keys_ahead(transaction, clock.ahead_ms)?;
    schema::write_moved_seq(transaction, moved_seq)
}

/// Whether a commit failed before its last frame was written, without which it cannot count. After a failed sync, and
/// after errors at the end of a commit, that frame may be in the WAL.
fn is_incomplete(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_WRITE)
}
