//! The check of all pages of a data file, beside the server that uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::files::with_suffix;
use crate::store::open::LOG_BYTES;
use crate::store::{StoreError, open};

/// Steps of SQLite between two reports: some milliseconds.
const STEPS: i32 = 1_000;
/// The share of the time, in percent, in which SQLite reads all pages. Then it compares each row with its table and its
/// indexes.
const PAGES_PERCENT: u64 = 30;
/// Steps that SQLite takes to compare a row of the log or of the keys.
const STEPS_PER_ROW: u64 = 40;
/// The write-ahead log is small up to twice of what it keeps: it holds what one run of commits leaves, and no more.
const SMALL_LOG_BYTES: u64 = 2 * LOG_BYTES as u64;
/// The least size at which the log is large: 16 MiB.
const LARGE_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// A log is large from this share of the data file on: a check takes longer for a large file, and a disk that is meant
/// for more orders has room to move the log into it.
const LARGE_LOG_SHARE: u64 = 4;

/// The size of the write-ahead log, which cannot begin again while a check runs.
#[derive(Debug, Clone)]
pub struct LogSize {
    data_file: PathBuf,
    log: PathBuf,
}

impl LogSize {
    fn of(data_file: &Path) -> Self {
        Self { data_file: data_file.to_owned(), log: with_suffix(data_file, "-wal") }
    }

    /// Whether a check may begin.
    #[must_use]
    pub fn is_small(&self) -> bool {
        bytes(&self.log) <= SMALL_LOG_BYTES
    }

    /// Whether a check has to end, before the log fills the disk.
    #[must_use]
    pub fn is_large(&self) -> bool {
        bytes(&self.log) > LARGE_LOG_BYTES.max(bytes(&self.data_file) / LARGE_LOG_SHARE)
    }
}

/// The size of a file; 0 if it does not exist.
fn bytes(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// A check of all pages, rows and indexes that has not run yet.
pub struct IntegrityCheck {
    path: PathBuf,
    is_sound: Arc<AtomicBool>,
}

impl IntegrityCheck {
    pub(super) fn new(path: PathBuf, is_sound: Arc<AtomicBool>) -> Self {
        Self { path, is_sound }
    }

    /// The size of the log that grows for as long as the check runs.
    #[must_use]
    pub fn log_size(&self) -> LogSize {
        LogSize::of(&self.path)
    }

    /// Reads the whole file: some hundred megabytes a second where the disk allows it. `go_on` is called every few
    /// milliseconds with an estimate of the part that is done, in percent; when it returns false, the check ends.
    /// Returns whether it has ended by itself. The write-ahead log grows for as long as the check runs, see [`LogSize`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; other errors when it cannot be read now.
    pub fn run(&self, mut go_on: impl FnMut(u64) -> bool + Send + 'static) -> Result<bool, StoreError> {
        let describe = |error| StoreError::opening(&self.path, error);
        let mut connection = open::connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(describe)?;
        let (pages, rows) = steps(&connection).map_err(describe)?;
        let mut done = 0;
        let is_over = move || {
            done += 1;
            !go_on(percent(done, pages, rows))
        };
        connection.progress_handler(STEPS, Some(is_over)).map_err(describe)?;
        match open::check_pages(&connection, &self.path) {
            Ok(()) => {
                self.is_sound.store(true, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if error.sqlite_code() == Some(ErrorCode::OperationInterrupted) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The reports that are expected while SQLite reads pages, and while it compares rows.
fn steps(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let rows: i64 = connection.query_row(
        "SELECT coalesce(max(seq) - min(seq), 0) + (SELECT coalesce(max(n) - min(n), 0) FROM keys) FROM orders",
        [],
        |row| row.get(0),
    )?;
    let reports = |steps: u64| steps / u64::from(STEPS.cast_unsigned()) + 1;
    Ok((reports(pages.max(0).cast_unsigned()), reports(rows.max(0).cast_unsigned().saturating_mul(STEPS_PER_ROW))))
}

fn percent(done: u64, pages: u64, rows: u64) -> u64 {
    let percent = if done < pages {
        PAGES_PERCENT * done / pages
    } else {
        PAGES_PERCENT + (100 - PAGES_PERCENT) * (done - pages) / rows
    };
    percent.min(99)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_log_is_large_by_itself_or_beside_its_data_file() {
        const MIB: u64 = 1024 * 1024;
        let folder = std::env::temp_dir().join(format!("ordercast-log-size-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        let size = LogSize::of(&path);
        assert!(size.is_small() && !size.is_large(), "there is no file");
        let set = |path: &Path, bytes| File::create(path).and_then(|file| file.set_len(bytes)).unwrap();
        for (data_bytes, log_bytes, is_small, is_large) in [
            (MIB, 8 * MIB, true, false),
            (MIB, 8 * MIB + 1, false, false),
            (MIB, 16 * MIB, false, false),
            (MIB, 16 * MIB + 1, false, true),
            (100 * MIB, 25 * MIB, false, false),
            (100 * MIB, 25 * MIB + 1, false, true),
        ] {
            set(&path, data_bytes);
            set(&with_suffix(&path, "-wal"), log_bytes);
            assert_eq!((size.is_small(), size.is_large()), (is_small, is_large), "{data_bytes}, {log_bytes}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
