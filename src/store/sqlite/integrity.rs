//! The check of all pages of a data file, beside the server that uses it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::{StoreError, open};

/// Steps of SQLite between two reports: some milliseconds.
const STEPS: i32 = 1_000;
/// The share of the time, in percent, in which SQLite reads all pages. Then it compares each row with its table and its
/// indexes.
const PAGES_PERCENT: u64 = 30;
/// Steps that SQLite takes to compare a row of the log or of the keys.
const STEPS_PER_ROW: u64 = 40;

/// A check of all pages, rows and indexes that has not run yet.
pub struct IntegrityCheck {
    path: PathBuf,
    is_sound: Arc<AtomicBool>,
}

impl IntegrityCheck {
    pub(super) fn new(path: PathBuf, is_sound: Arc<AtomicBool>) -> Self {
        Self { path, is_sound }
    }

    /// Reads the whole file: some hundred megabytes a second where the disk allows it. `go_on` is called every few
    /// milliseconds with an estimate of the part that is done, in percent; when it returns false, the check ends.
    /// Returns whether it has ended by itself. The write-ahead log grows for as long as the check runs.
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
