//! A compact copy of a data file in the making: a file with a name of its own, locked, checked and synced before it gets
//! the right name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, ffi};

use super::ToolError;
use super::check::{self, Findings};
use super::repair::MAGIC;
use super::source::Source;
use crate::store::files::with_suffix;
use crate::store::{StoreError, Stored};

/// What the name of an unfinished copy ends with. Nobody else uses it, so such a file is what an interrupted command has
/// left.
pub(super) const PARTIAL: &str = ".ordercast-partial";
/// What the names of files end with that SQLite keeps beside a file.
pub(super) const SIDE_FILES: [&str; 3] = ["-journal", "-wal", "-shm"];
/// Where SQLite's header says which version of the format the file has, for writers and for readers
/// (<https://sqlite.org/fileformat.html>, section 1.3.3).
const FORMAT_VERSIONS_AT: u64 = 18;
/// The versions of a file without a write-ahead log.
pub(super) const WITHOUT_WAL: [u8; 2] = [1, 1];
/// The versions of a file with one.
pub(super) const WITH_WAL: [u8; 2] = [2, 2];

/// A copy that is not complete yet. Dropping it removes the file.
pub(super) struct Partial {
    path: PathBuf,
    /// It is locked, so that two commands do not write to it at the same time. The handle must live until SQLite has
    /// closed the file: closing it earlier would release the locks that SQLite holds on it.
    file: File,
    /// Whether the file has its name now, and stays.
    is_complete: bool,
}

impl Partial {
    /// Creates the file beside the one that the copy will be, or reuses that of an interrupted command.
    pub(super) fn create(beside: &Path) -> Result<Self, ToolError> {
        let path = with_suffix(beside, PARTIAL);
        let file = open_locked(&path)?;
        Ok(Self { path, file, is_complete: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes the database of the file at `path` as it is at one moment, without free pages. In one step: a reader blocks
    /// no writer, but while the copy is written the write-ahead log of a server cannot begin anew.
    pub(super) fn write(&mut self, connection: &Connection, path: &Path) -> Result<(), ToolError> {
        let at = |error| ToolError::at(&self.path, error);
        self.file.set_len(0).map_err(at)?;
        // Not taken for a URI, whatever its name is.
        let target = std::path::absolute(&self.path).map_err(at)?;
        // A path need not be UTF-8.
        let written = connection.execute("VACUUM INTO CAST(?1 AS TEXT)", [target.as_os_str().as_bytes()]);
        written.map(drop).map_err(|error| match error.sqlite_error().map(|error| (error.code, error.extended_code)) {
            // Only the file that is written can be full.
            Some((ErrorCode::DiskFull, _)) => StoreError::opening(&self.path, error).into(),
            Some((ErrorCode::CannotOpen, _) | (_, ffi::SQLITE_IOERR_WRITE)) => ToolError::at(&self.path, error),
            _ => StoreError::opening(path, error).into(),
        })
    }

    /// Checks the copy of the file at `path`, and syncs it. `versions` say whether it has a write-ahead log.
    pub(super) fn finish(&mut self, path: &Path, versions: [u8; 2]) -> Result<Stored, ToolError> {
        self.finish_or(versions, |damage| {
            format!(
                "{} is damaged ({damage}), so a copy would be of no use; see with `ordercast check` how much is readable",
                path.display()
            )
        })
    }

    /// As [`Self::finish`], with an error of one's own for what is wrong with the copy.
    pub(super) fn finish_or(
        &mut self,
        versions: [u8; 2],
        describe: impl FnOnce(&str) -> String,
    ) -> Result<Stored, ToolError> {
        let Findings { damage, stored, .. } =
            Source::open_file(self.path.clone())?.read(|connection| check::examine(connection, &self.path))??;
        let (None, Some(stored)) = (damage.first(), stored) else {
            let damage = damage.first().map_or("unreadable", String::as_str);
            return Err(ToolError::failed(describe(damage)));
        };
        // SQLite would make a write-ahead log in order to change this.
        let mut mark = || {
            self.file.seek(SeekFrom::Start(FORMAT_VERSIONS_AT))?;
            self.file.write_all(&versions)?;
            self.file.sync_all()
        };
        mark().map_err(|error| ToolError::at(&self.path, error))?;
        Ok(stored)
    }

    /// The file has its name.
    pub(super) fn complete(mut self) {
        self.is_complete = true;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_complete {
            let _ = fs::remove_file(&self.path);
            remove_side_files(&self.path);
        }
    }
}

fn remove_side_files(path: &Path) {
    for suffix in SIDE_FILES {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

/// Whether the file system has no room.
pub(super) fn is_full(error: &ToolError) -> bool {
    matches!(error, ToolError::Data(StoreError::Full(_)))
}

fn open_locked(partial: &Path) -> Result<File, ToolError> {
    let at = |error| ToolError::at(partial, error);
    let foreign = || {
        let text = format!("{} is no unfinished backup; move it away or name another file", partial.display());
        ToolError::failed(text)
    };
    // Opening a pipe would wait for its other end.
    if partial.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(foreign());
    }
    let mut open = OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false);
    // Not through a link to another file.
    open.custom_flags(libc::O_NOFOLLOW).mode(0o600);
    let mut file = open.open(partial).map_err(at)?;
    let busy = || ToolError::failed(format!("{} is being written by another backup or command", partial.display()));
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(at(error)),
    }
    // Another backup may have finished meanwhile, and have renamed this very file.
    if !has_path(&file, partial).map_err(at)? {
        return Err(busy());
    }
    // The command that wrote it was killed when the file had its right name already, and must not lose it now.
    if file.metadata().map_err(at)?.nlink() > 1 {
        fs::remove_file(partial).map_err(at)?;
        return open_locked(partial);
    }
    let mut begin = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(at)?;
    // SQLite writes the first page last.
    let is_ours = begin == *MAGIC || begin.iter().all(|byte| *byte == 0);
    if !is_ours {
        return Err(foreign());
    }
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(at)?;
    // A journal beside the file would be applied to it.
    remove_side_files(partial);
    Ok(file)
}

/// Whether the open file still has this path.
fn has_path(file: &File, path: &Path) -> io::Result<bool> {
    let (own, named) = (file.metadata()?, path.symlink_metadata());
    Ok(named.is_ok_and(|named| (own.dev(), own.ino()) == (named.dev(), named.ino())))
}
