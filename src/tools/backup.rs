//! `ordercast backup`: a copy of the data file at one moment, whether or not a server runs. The copy is complete,
//! checked and synced before it gets its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::backup::{self, StepResult};
use rusqlite::{ErrorCode, OpenFlags};

use super::check::{self, Findings};
use super::repair::MAGIC;
use super::source::Source;
use super::{ToolError, counted};
use crate::config::Backup;
use crate::store::files::{folder_of, sync_folder, with_suffix};
use crate::store::{StoreError, open};

/// Copies the data file. Returns a line about the content of the copy.
///
/// The copy is written under another name first, so that a file with the right name is always complete.
///
/// # Errors
/// When the file exists already, cannot be written, or the data file cannot be read or is not sound.
pub fn run(options: &Backup) -> Result<String, ToolError> {
    let Backup { data, file } = options;
    let exists_already =
        || ToolError::failed(format!("{} exists already; move it away or name another file", file.display()));
    if file.symlink_metadata().is_ok() {
        return Err(exists_already());
    }
    let mut source = Source::open(data)?;
    let partial = with_suffix(file, ".partial");
    let locked = open_locked(&partial)?;
    let mut write = || {
        let summary = copy(&mut source, &partial)?;
        locked.sync_all().map_err(|error| ToolError::at(&partial, error))?;
        match rename_to_new(&partial, file) {
            Ok(()) => Ok(summary),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists_already()),
            Err(error) => Err(ToolError::at(file, error)),
        }
    };
    let summary = write().inspect_err(|_| drop(fs::remove_file(&partial)))?;
    let folder = folder_of(file);
    sync_folder(folder).map_err(|error| ToolError::at(folder, error))?;
    Ok(format!("{}: {summary}\n", file.display()))
}

/// Creates the partial file, or reuses that of an interrupted backup. It is locked, so that two backups do not write to
/// it at the same time. The handle must live until SQLite has closed the file: closing it earlier would release the
/// locks that SQLite holds on it.
fn open_locked(partial: &Path) -> Result<File, ToolError> {
    let at = |error| ToolError::at(partial, error);
    let mut open = OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false);
    // Not through a link to another file.
    #[cfg(unix)]
    open.custom_flags(libc::O_NOFOLLOW);
    let mut file = open.open(partial).map_err(at)?;
    let busy = || ToolError::failed(format!("{} is being written by another backup", partial.display()));
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(at(error)),
    }
    // Another backup may have finished meanwhile, and have renamed this very file.
    if !has_path(&file, partial).map_err(at)? {
        return Err(busy());
    }
    let mut magic = [0; MAGIC.len()];
    let length = file.metadata().map_err(at)?.len();
    if length > 0 && !(file.read_exact(&mut magic).is_ok() && magic == *MAGIC) {
        return Err(ToolError::failed(format!("{} is not an unfinished backup; move it away", partial.display())));
    }
    for suffix in ["-journal", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(partial, suffix));
    }
    file.set_len(0).map_err(at)?;
    Ok(file)
}

/// Whether the open file still has this path.
#[cfg(unix)]
fn has_path(file: &File, path: &Path) -> io::Result<bool> {
    let (own, named) = (file.metadata()?, path.symlink_metadata());
    Ok(named.is_ok_and(|named| (own.dev(), own.ino()) == (named.dev(), named.ino())))
}

#[cfg(not(unix))]
fn has_path(_file: &File, path: &Path) -> io::Result<bool> {
    Ok(path.symlink_metadata().is_ok())
}

fn copy(source: &mut Source, partial: &Path) -> Result<String, ToolError> {
    let path = source.path().to_owned();
    let is_full = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    let describe_target = |error: rusqlite::Error| {
        if is_full(&error) { StoreError::opening(partial, error).into() } else { ToolError::at(partial, error) }
    };
    let mut target = open::connect(partial, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(describe_target)?;
    source.read(|connection| {
        open::check_is_used(connection, &path)?;
        // In one step: a reader blocks no writer, and a copy in several steps starts again with every order.
        let step = backup::Backup::new(connection, &mut target).and_then(|copying| copying.step(-1));
        match step {
            Ok(StepResult::Done) => Ok(()),
            Ok(_) => Err(StoreError::Unusable(format!("{} is locked by another program", path.display()).into())),
            // Only the file that is written can be full.
            Err(error) if is_full(&error) => Err(StoreError::opening(partial, error)),
            Err(error) => Err(StoreError::opening(&path, error)),
        }
    })??;
    // The copy is one file, without a write-ahead log.
    target.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL").map_err(describe_target)?;
    let Findings { damage, stored, .. } = check::examine(&target, partial)?;
    let (None, Some(stored)) = (damage.first(), stored) else {
        let damage = damage.first().map_or("unreadable", String::as_str);
        return Err(ToolError::failed(format!(
            "{} is damaged ({damage}), so a copy would be no backup; see with `ordercast check` how much is readable",
            path.display()
        )));
    };
    target.close().map_err(|(_, error)| describe_target(error))?;
    let products = counted(stored.catalog.products().len() as u64, "product");
    Ok(format!("{products}, the log up to order {}", stored.last_seq))
}

/// Renames the file unless the new name is taken. Without hard links, as on a memory stick, another file may take the
/// name between the check and the renaming.
fn rename_to_new(partial: &Path, file: &Path) -> io::Result<()> {
    match fs::hard_link(partial, file) {
        Ok(()) => fs::remove_file(partial),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        Err(_) if file.symlink_metadata().is_ok() => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(partial, file),
    }
}
