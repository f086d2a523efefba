//! A data file opened for reading, whether a server runs or not. Owns how it is opened without leaving a trace.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::data_file;
use crate::store::StoreError;
use crate::store::files::{is_orphaned_log, orphaned_log, with_suffix};
use crate::store::schema::describe_open;

/// How long a read waits while another program holds the whole file: 2 s.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A data file that is only read. No lock is taken that a server would meet.
///
/// SQLite's log (`-wal`) is there while a server runs and after one that was killed; then the file is opened like by any
/// reader. Without it nobody is at work, and a plain reader would make a log and leave it behind, or fail where nothing can
/// be written. So the file is then read as one that does not change, and after every read it is looked whether that was
/// true: if a server has started meanwhile, what was read does not count, and is read again beside that server.
pub struct Source {
    path: PathBuf,
    connection: Connection,
    /// What the file was like, if it is read as one that does not change.
    unchanged: Option<Stamp>,
}

#[derive(PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens the folder's data file.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when there is none or it cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_file(data_file(folder)?)
    }

    fn open_file(path: PathBuf) -> Result<Self, StoreError> {
        if is_orphaned_log(&path) {
            return Err(orphaned_log(&path));
        }
        let describe = |error| describe_open(&path, &error);
        let unchanged = stamp(&path);
        let connection = match unchanged {
            Some(_) => connect(&unchanging(&path)).map_err(describe)?,
            None => beside_a_log(&path)?,
        };
        Ok(Self { path, connection, unchanged })
    }

    /// The data file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does `work`, and does it again if the file turns out to have changed in a way that it must not.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    pub fn read<T>(&mut self, mut work: impl FnMut(&Connection) -> T) -> Result<T, StoreError> {
        loop {
            let result = work(&self.connection);
            if self.unchanged.is_none() || self.unchanged == stamp(&self.path) {
                return Ok(result);
            }
            *self = Self::open_file(self.path.clone())?;
        }
    }
}

/// `None` while there is a log.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let has_log = with_suffix(path, "-wal").exists();
    (!has_log).then(|| Stamp { bytes: metadata.len(), modified: metadata.modified().ok() })
}

/// The address of a file that does not change (<https://sqlite.org/uri.html>).
fn unchanging(path: &Path) -> PathBuf {
    let mut address = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => address.push(byte.into()),
            // Writing to a string does not fail.
            _ => drop(write!(address, "%{byte:02X}")),
        }
    }
    address.push_str("?immutable=1");
    address.into()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn beside_a_log(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path).map_err(|error| describe_open(path, &error))?;
    // SQLite reads the log with the first statement; for that it needs a third file, which it may have to make.
    match connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())) {
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) => {
            Err(StoreError::Unusable(format!(
                "{} has a log of SQLite's beside it (-wal), which cannot be read where nothing can be written ({error}); \
                 copy the whole folder to another place and name that with --data",
                path.display()
            )))
        }
        // Whatever else is wrong is met again by whoever reads.
        _ => Ok(connection),
    }
}
