//! `ordercast compact`: gives the free pages of a data file back. Needs the server to be stopped.
//!
//! The file is copied without its free pages, and the copy, once it is checked and synced, takes its name. Until then the
//! file stays as it is, so that a kill, a power cut or a full disk at any moment leaves one of the two, whole.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::copy::{Partial, WITH_WAL, WITHOUT_WAL, is_full};
use super::{ToolError, existing_data_file};
use crate::config::Compact;
use crate::store::files::{check_wal, folder_of, lock, sync_folder};
use crate::store::{StoreError, open};

/// Bytes of SQLite's header up to the versions of the format.
const HEAD_BYTES: usize = 20;

/// Compacts the folder's data file. Returns a line with its sizes before and after.
///
/// # Errors
/// When a server or another program uses the file, when there is no room for the new one, or when the file is damaged. It
/// is unchanged then.
pub fn run(options: &Compact) -> Result<String, ToolError> {
    let path = existing_data_file(&options.data)?;
    let folder = folder_of(&path);
    // Until the end: a server that started meanwhile would write to the file that is replaced.
    let _lock = lock(folder)?;
    check_wal(&path)?;
    // Before SQLite opens the file: closing it afterwards would release SQLite's locks.
    let has_wal = has_wal(&path).map_err(|error| ToolError::at(&path, error))?;
    let connection =
        open::connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| StoreError::opening(&path, error))?;
    let result = take(&connection, &path).and_then(|()| replace(&connection, &path, has_wal));
    if result.is_err() && has_wal {
        // As the server had left it. It would do so itself at its next start.
        let _ = connection.execute_batch("PRAGMA journal_mode = WAL");
    }
    drop(connection);
    let (before, after) = result?;
    Ok(format!("{}: {} before, {} after\n", path.display(), megabytes(before), megabytes(after)))
}

fn has_wal(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head.ends_with(&WITH_WAL) && head.len() == HEAD_BYTES)
}

/// From then on nobody else can use the file, until the connection is closed.
fn take(connection: &Connection, path: &Path) -> Result<(), ToolError> {
    let settings = "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA locking_mode = EXCLUSIVE";
    connection.execute_batch(settings).map_err(|error| StoreError::opening(path, error))?;
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT").map_err(|error| busy(path, error))?;
    Ok(open::check_is_used(connection, path)?)
}

/// Moves what the write-ahead log has into the file, synced, and removes the log, which would be that of the new file.
fn remove_wal(connection: &Connection, path: &Path) -> Result<(), ToolError> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .map_err(|error| busy(path, error))?;
    if mode == "delete" { Ok(()) } else { Err(in_use(path)) }
}

fn busy(path: &Path, error: rusqlite::Error) -> ToolError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => in_use(path),
        _ => StoreError::opening(path, error).into(),
    }
}

fn in_use(path: &Path) -> ToolError {
    let text = format!("{} is used by another program, such as a backup; try again when that is done", path.display());
    ToolError::failed(text)
}

/// Writes the copy and lets it take the file's name. Returns the sizes before and after, in bytes.
fn replace(connection: &Connection, path: &Path, has_wal: bool) -> Result<(u64, u64), ToolError> {
    let at = |error| ToolError::at(path, error);
    let old = fs::metadata(path).map_err(at)?;
    let mut partial = Partial::create(path)?;
    partial.write(connection, path).map_err(|error| explain(error, connection, path))?;
    let own = partial.file().metadata().map_err(at)?;
    if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
        // As root: the server may run as another user.
        fchown(partial.file(), Some(old.uid()), Some(old.gid())).map_err(at)?;
    }
    partial.file().set_permissions(fs::Permissions::from_mode(old.mode())).map_err(at)?;
    partial.finish(path, if has_wal { WITH_WAL } else { WITHOUT_WAL })?;
    let after = partial.file().metadata().map_err(at)?.len();
    // With what its log has, which is not in the file yet after a kill.
    let before = pages(connection, "page_count") * pages(connection, "page_size");
    // Last, so that the old file stays as it is if anything before fails.
    remove_wal(connection, path)?;
    fs::rename(partial.path(), path).map_err(at)?;
    partial.complete();
    sync_folder(folder_of(path)).map_err(at)?;
    Ok((before, after))
}

/// A number of pages, or the bytes of one, by the name of its pragma. 0 if it cannot be read.
fn pages(connection: &Connection, pragma: &str) -> u64 {
    connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap_or(0).max(0).cast_unsigned()
}

/// Says how much room is needed.
fn explain(error: ToolError, connection: &Connection, path: &Path) -> ToolError {
    if !is_full(&error) {
        return error;
    }
    let [all, free] = ["page_count", "freelist_count"].map(|pragma| pages(connection, pragma));
    let bytes = all.saturating_sub(free) * pages(connection, "page_size");
    ToolError::failed(format!(
        "no space left for the new file; it needs {} beside the old one in {}, which is unchanged",
        megabytes(bytes),
        folder_of(path).display()
    ))
}

/// A size in megabytes, of 1,000,000 bytes.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_to_tenths() {
        assert_eq!([0, 1, 100_000, 14_200_001].map(megabytes), ["0.0 MB", "0.1 MB", "0.1 MB", "14.3 MB"]);
    }
}
