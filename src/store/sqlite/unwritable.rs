//! Reading a data file where nothing can be written, such as on a full disk.

use std::path::Path;

use rusqlite::OpenFlags;

use super::rewrite::rewrite_wal;
use crate::store::files::{has_content, with_suffix};
use crate::store::{StoreError, Stored, open, schema};

/// Reads what is stored without making a file or letting one grow. The folder's lock is held. Nothing stays open.
pub(super) fn read(path: &Path) -> Result<Stored, StoreError> {
    let describe = |error| StoreError::opening(path, error);
    let connection = if has_content(&with_suffix(path, "-wal")) {
        // In exclusive mode SQLite keeps the index of the write-ahead log in memory and needs no file for it.
        let mut connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(describe)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(describe)?;
        rewrite_wal(&mut connection, path)?;
        connection
    } else {
        open::connect_immutable(path).map_err(|error| StoreError::reading(path, error))?
    };
    open::check_is_used(&connection, path)?;
    schema::load(&connection, path)
}
