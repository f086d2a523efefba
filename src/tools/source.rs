//! A data file opened for reading, whether or not a server runs. Owns how it is opened so that reading changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::existing_data_file;
use crate::store::access::{Purpose, obstacle};
use crate::store::files::{check_wal, with_suffix};
use crate::store::{StoreError, open};

/// A data file that is only read. It takes no lock that would block a server.
///
/// The write-ahead log (`-wal`) exists while a server runs and after one that was killed; then the file is opened like
/// by any reader. Without it no server runs, and a plain reader would create one and leave it behind, or fail on
/// read-only media. So the file is then opened as immutable, and after every read its state is compared: if a server
/// has started meanwhile, the result is discarded, and read again beside that server.
pub struct Source {
    path: PathBuf,
    connection: Connection,
    /// The file's state, if it is open as immutable.
    immutable: Option<FileState>,
}

#[derive(PartialEq, Eq)]
struct FileState {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens the folder's data file.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when it does not exist or cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_file(existing_data_file(folder)?)
    }

    /// Opens this data file.
    pub fn open_file(path: PathBuf) -> Result<Self, StoreError> {
        check_wal(&path)?;
        let immutable = file_state_without_wal(&path);
        let connection = match immutable {
            Some(_) => open::connect_immutable(&path).map_err(|error| StoreError::reading(&path, error))?,
            None => connect_beside_wal(&path)?,
        };
        Ok(Self { path, connection, immutable })
    }

    /// The data file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `work`; again if an immutable file has changed meanwhile.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    pub fn read<T>(&mut self, mut work: impl FnMut(&Connection) -> T) -> Result<T, StoreError> {
        loop {
            let result = work(&self.connection);
            if self.immutable.is_none() || self.immutable == file_state_without_wal(&self.path) {
                return Ok(result);
            }
            *self = Self::open_file(self.path.clone())?;
        }
    }
}

/// `None` while there is a write-ahead log.
fn file_state_without_wal(path: &Path) -> Option<FileState> {
    let metadata = fs::metadata(path).ok()?;
    let has_wal = with_suffix(path, "-wal").exists();
    (!has_wal).then(|| FileState { bytes: metadata.len(), modified: metadata.modified().ok() })
}

fn connect_beside_wal(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| StoreError::reading(path, error))?;
    // SQLite opens the write-ahead log with the first statement; for that it needs a third file (`-shm`), which it may
    // have to create. Other errors occur again when the file is read.
    match connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())) {
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) => {
            if let Some(reason) = obstacle(path, Purpose::Read) {
                return Err(StoreError::Forbidden(reason));
            }
            let text = format!(
                "{} has a write-ahead log (-wal) beside it, which cannot be read where nothing can be written; copy the \
                 whole folder to another place and name that with --data",
                path.display()
            );
            Err(StoreError::unusable(text, error))
        }
        _ => Ok(connection),
    }
}
