//! The files of a data folder: where they are, the lock that keeps a second server out, and names that survive a power cut.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The data file's name in the data folder.
pub const DATA_FILE: &str = "ordercast.sqlite3";
/// The lock file's name in the data folder; it holds the process id of the server that owns the folder.
pub const LOCK_FILE: &str = "ordercast.lock";

/// Where the folder's data file is, or will be. If it is a link, this is what it leads to: SQLite keeps what belongs to a file
/// beside that, and so does whoever else uses the file.
///
/// # Errors
/// [`StoreError::Unusable`] when the link leads nowhere, or the folder cannot be read.
pub fn data_file(folder: &Path) -> Result<PathBuf, StoreError> {
    let path = folder.join(DATA_FILE);
    match fs::canonicalize(&path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => match fs::canonicalize(folder) {
            Ok(folder) => Ok(folder.join(DATA_FILE)),
            // Nor is there a folder.
            Err(_) => Ok(path),
        },
        Err(error) => Err(StoreError::Unusable(format!("cannot use {}: {error}", path.display()))),
    }
}

/// The folder that a data file is in.
#[must_use]
pub fn folder_of(data_file: &Path) -> &Path {
    data_file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file's name with something behind it, as SQLite names what belongs to a file.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether SQLite's log of the data file lies there with orders in it, and the file itself is empty or gone. SQLite would take
/// the log for a leftover and remove it.
#[must_use]
pub fn is_orphaned_log(data_file: &Path) -> bool {
    let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    bytes(data_file) == 0 && bytes(&with_suffix(data_file, "-wal")) > 0
}

/// What there is to say about [`is_orphaned_log`].
#[must_use]
pub fn orphaned_log(data_file: &Path) -> StoreError {
    StoreError::Unusable(format!(
        "{} is empty or gone, and its log (-wal) is still there; restore a backup into an empty folder, or let `ordercast \
         repair` save what the log has",
        data_file.display()
    ))
}

/// Takes the folder's lock for this process and writes its id into it.
///
/// # Errors
/// [`StoreError::InUse`] when another process holds it.
pub fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK_FILE);
    let unusable = |error| StoreError::Unusable(format!("cannot use the data folder: {}: {error}", path.display()));
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Longer than any process id; the text is only shown.
            let _ = (&file).take(20).read_to_string(&mut holder);
            return Err(StoreError::InUse(format!(
                "the data folder {} is in use by process {}; stop that server or choose another folder with --data",
                folder.display(),
                holder.trim()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    // Over what is there, which needs no room on a full disk.
    let write = |file: &mut File| {
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        let length = file.stream_position()?;
        file.set_len(length)
    };
    write(&mut file).map_err(unusable)?;
    Ok(file)
}

/// Makes the names of files in the folder survive a power cut.
///
/// # Errors
/// What the disk says.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Nothing, where folders cannot be synced.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}
