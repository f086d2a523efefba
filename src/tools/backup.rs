//! `ordercast backup`: a copy of the data file at one moment, whether or not a server runs. The copy is complete,
//! checked and synced before it gets its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rusqlite::backup::{self, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::check::{self, Findings};
use super::repair::MAGIC;
use super::source::Source;
use super::{ToolError, counted};
use crate::config::Backup;
use crate::store::files::{folder_of, sync_folder, with_suffix};
use crate::store::{StoreError, open};

/// What the name of an unfinished copy ends with. Nobody else uses it, so such a file is what an interrupted backup has
/// left.
const PARTIAL: &str = ".ordercast-partial";
/// What the names of files end with that SQLite keeps beside a file.
const SIDE_FILES: [&str; 3] = ["-journal", "-wal", "-shm"];
/// Where SQLite's header says which version of the format the file has, for writers and for readers
/// (<https://sqlite.org/fileformat.html>, section 1.3.3).
const FORMAT_VERSIONS_AT: u64 = 18;
/// The versions of a file without a write-ahead log.
const WITHOUT_WAL: [u8; 2] = [1, 1];

/// Copies the data file. Returns a line about the content of the copy.
///
/// The copy is written under another name first, so that a file with the right name is always complete. Only its owner
/// may read it, whatever the folder allows.
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
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if SIDE_FILES.iter().any(|suffix| name.ends_with(suffix)) {
        let text =
            format!("{} is a name that SQLite uses for a file beside another; name another file", file.display());
        return Err(ToolError::failed(text));
    }
    let mut source = Source::open(data)?;
    let partial = with_suffix(file, PARTIAL);
    let mut locked = open_locked(&partial)?;
    let mut write = || {
        let summary = copy(&mut source, &partial, &mut locked)?;
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
    #[cfg(unix)]
    open.custom_flags(libc::O_NOFOLLOW).mode(0o600);
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
    let mut begin = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(at)?;
    // SQLite writes the first page last.
    let is_ours = begin == *MAGIC || begin.iter().all(|byte| *byte == 0);
    if !is_ours {
        return Err(foreign());
    }
    #[cfg(unix)]
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(at)?;
    // A journal beside the file would be applied to it.
    for suffix in SIDE_FILES {
        let _ = fs::remove_file(with_suffix(partial, suffix));
    }
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

fn copy(source: &mut Source, partial: &Path, file: &mut File) -> Result<String, ToolError> {
    let path = source.path().to_owned();
    source.read(|connection| {
        open::check_is_used(connection, &path)?;
        write_copy(connection, &path, partial, file)
    })??;
    let Findings { damage, stored, .. } =
        Source::open_file(partial.to_owned())?.read(|connection| check::examine(connection, partial))??;
    let (None, Some(stored)) = (damage.first(), stored) else {
        let damage = damage.first().map_or("unreadable", String::as_str);
        return Err(ToolError::failed(format!(
            "{} is damaged ({damage}), so a copy would be no backup; see with `ordercast check` how much is readable",
            path.display()
        )));
    };
    let products = counted(stored.catalog.products().len() as u64, "product");
    Ok(format!("{products}, the log up to order {}", stored.last_seq))
}

/// Copies the database of the file at `path` into the partial file. An unfinished copy is of no use, so it needs neither
/// a journal nor a sync before its end.
fn write_copy(connection: &Connection, path: &Path, partial: &Path, file: &mut File) -> Result<(), ToolError> {
    let is_full = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    let describe_target = |error: rusqlite::Error| {
        if is_full(&error) { StoreError::opening(partial, error).into() } else { ToolError::at(partial, error) }
    };
    file.set_len(0).map_err(|error| ToolError::at(partial, error))?;
    let mut target = open::connect(partial, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(describe_target)?;
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(describe_target)?;
    // In one step: a reader blocks no writer, and a copy in several steps starts again with every order.
    let step = backup::Backup::new(connection, &mut target).and_then(|copying| copying.step(-1));
    match step {
        Ok(StepResult::Done) => {}
        Ok(_) => {
            let text = format!("{} is locked by another program", path.display());
            return Err(StoreError::Unusable(text.into()).into());
        }
        // Only the file that is written can be full.
        Err(error) if is_full(&error) => return Err(describe_target(error)),
        Err(error) => return Err(StoreError::opening(path, error).into()),
    }
    target.close().map_err(|(_, error)| describe_target(error))?;
    // The copy is one file. Written here, because SQLite would make a write-ahead log in order to change this.
    let mark = |file: &mut File| {
        file.seek(SeekFrom::Start(FORMAT_VERSIONS_AT))?;
        file.write_all(&WITHOUT_WAL)
    };
    mark(file).map_err(|error| ToolError::at(partial, error))
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
