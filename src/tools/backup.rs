//! `ordercast backup`: a copy of the data file as it is at one moment, while a server runs or not. Owns what makes a copy
//! one that can be relied on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rusqlite::backup::{self, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::check;
use super::repair::MAGIC;
use super::source::Source;
use super::{ToolError, at, counted};
use crate::config::Backup;
use crate::store::StoreError;
use crate::store::files::{sync_folder, with_suffix};
use crate::store::schema::{self, describe_open};

/// Copies the data file. Returns what is in the copy, in words.
///
/// The copy is written under another name first, so that a file with the right name is always a whole one.
///
/// # Errors
/// When the file is there already, cannot be written, or the data file cannot be read or is not sound.
pub fn run(options: &Backup) -> Result<String, ToolError> {
    let Backup { data, file } = options;
    let there_already =
        || ToolError::Refused(format!("{} is there already; move it away or name another file", file.display()));
    if file.symlink_metadata().is_ok() {
        return Err(there_already());
    }
    let mut source = Source::open(data)?;
    let partial = with_suffix(file, ".partial");
    let held = hold(&partial)?;
    let result = copy(&mut source, &partial).and_then(|words| {
        held.sync_all().map_err(|error| at(&partial, &error))?;
        Ok(words)
    });
    let result = result.and_then(|words| match name_for_good(&partial, file) {
        Ok(()) => Ok(words),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(there_already()),
        Err(error) => Err(at(file, &error)),
    });
    if result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    let words = result?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(folder).map_err(|error| at(folder, &error))?;
    Ok(format!("{}: {words}\n", file.display()))
}

/// Makes the file that is written, or takes over what an interrupted backup has left. Two backups to one file must not
/// mix, so it is locked. The handle must live until SQLite has closed the file: closing one earlier would drop the locks
/// that SQLite holds on it.
fn hold(partial: &Path) -> Result<File, ToolError> {
    let mut open = OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false);
    // Not through a link, to a file that is somebody else's.
    #[cfg(unix)]
    open.custom_flags(libc::O_NOFOLLOW);
    let mut held = open.open(partial).map_err(|error| at(partial, &error))?;
    let busy = || ToolError::Refused(format!("{} is being written by another backup", partial.display()));
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(at(partial, &error)),
    }
    // Another backup may have been done meanwhile, and have given this very file its name for good.
    if !is_named(&held, partial).map_err(|error| at(partial, &error))? {
        return Err(busy());
    }
    let mut begins = [0; MAGIC.len()];
    let length = held.metadata().map_err(|error| at(partial, &error))?.len();
    if length > 0 && !(held.read_exact(&mut begins).is_ok() && begins == *MAGIC) {
        let told = format!("{} is there and is no unfinished backup; move it away", partial.display());
        return Err(ToolError::Refused(told));
    }
    for suffix in ["-journal", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(partial, suffix));
    }
    held.set_len(0).map_err(|error| at(partial, &error))?;
    Ok(held)
}

/// Whether the path still is the name of the open file.
#[cfg(unix)]
fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let (own, named) = (file.metadata()?, path.symlink_metadata());
    Ok(named.is_ok_and(|named| (own.dev(), own.ino()) == (named.dev(), named.ino())))
}

#[cfg(not(unix))]
fn is_named(_file: &File, path: &Path) -> io::Result<bool> {
    Ok(path.symlink_metadata().is_ok())
}

fn copy(source: &mut Source, partial: &Path) -> Result<String, ToolError> {
    let path = source.path().to_owned();
    let describe_target = |error: rusqlite::Error| match describe_open(partial, &error) {
        full @ StoreError::Full(_) => ToolError::Data(full),
        _ => ToolError::Refused(format!("{}: {error}", partial.display())),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(partial, flags).map_err(describe_target)?;
    source.read(|connection| {
        // In one step: a reader keeps nobody from writing, and a copy in several steps begins anew with every order.
        schema::check_is_used(connection, &path)?;
        let step = backup::Backup::new(connection, &mut target).and_then(|copying| copying.step(-1));
        match step {
            Ok(StepResult::Done) => Ok(()),
            Ok(_) => Err(StoreError::Unusable(format!("{} is locked by another program", path.display()))),
            // Only what is written to can be full.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Err(describe_open(partial, &error)),
            Err(error) => Err(describe_open(&path, &error)),
        }
    })??;
    // The copy is one file, whatever its original needs beside it.
    target.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL").map_err(describe_target)?;
    if let Some(why) = check::first_damage(&target, partial)? {
        return Err(not_sound(&path, &why));
    }
    let stored = schema::read(&target).map_err(describe_target)?.map_err(|why| not_sound(&path, &why))?;
    let words = format!(
        "{}, the log up to order {}",
        counted(stored.catalog.products().len() as u64, "product"),
        schema::last_seq(&target).map_err(describe_target)?
    );
    target.close().map_err(|(_, error)| describe_target(error))?;
    Ok(words)
}

fn not_sound(path: &Path, why: &str) -> ToolError {
    ToolError::Refused(format!(
        "{} is damaged, and a copy of it would be no backup: {why}; see with `ordercast check` how much is readable",
        path.display()
    ))
}

/// Gives the file its name, but not one that another file has by now. Where there are no links, as on a memory stick, that
/// can only be looked for.
fn name_for_good(partial: &Path, file: &Path) -> io::Result<()> {
    match fs::hard_link(partial, file) {
        Ok(()) => fs::remove_file(partial),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        Err(_) if file.symlink_metadata().is_ok() => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(partial, file),
    }
}
