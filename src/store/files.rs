//! The files of a data folder: their names, the lock that keeps a second server out, and syncing a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The data file's name in the data folder.
pub const DATA_FILE: &str = "ordercast.sqlite3";
/// The lock file's name in the data folder; it holds the process id of the server that owns the folder.
const LOCK_FILE: &str = "ordercast.lock";

/// The path of the folder's data file, which need not exist. A link is followed: SQLite keeps the files that belong to
/// a data file beside its target, and so does every other program that uses it.
///
/// # Errors
/// [`StoreError::Unusable`] when the link is broken, or the folder cannot be read.
pub fn data_file(folder: &Path) -> Result<PathBuf, StoreError> {
    let path = folder.join(DATA_FILE);
    match fs::canonicalize(&path) {
        Ok(path) => Ok(path),
        // Neither the file nor, perhaps, the folder exists.
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
            Ok(fs::canonicalize(folder).map_or(path, |folder| folder.join(DATA_FILE)))
        }
        Err(error) => Err(StoreError::unusable(format!("cannot use {}", path.display()), error)),
    }
}

/// The folder of a file.
pub fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file's name with a suffix, as SQLite names the files that belong to a file.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether SQLite's write-ahead log (`-wal`) has content while the data file is empty or missing. SQLite would remove
/// such a log, and the orders in it.
pub fn has_orphaned_wal(data_file: &Path) -> bool {
    let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    bytes(data_file) == 0 && bytes(&with_suffix(data_file, "-wal")) > 0
}

/// Rejects a data file with an orphaned write-ahead log.
pub fn check_wal(data_file: &Path) -> Result<(), StoreError> {
    if !has_orphaned_wal(data_file) {
        return Ok(());
    }
    let text = format!(
        "{} is empty or missing, but its write-ahead log (-wal) is there; restore a backup into an empty folder, or let \
         `ordercast repair` save what the log has",
        data_file.display()
    );
    Err(StoreError::Unusable(text.into()))
}

/// Takes the folder's lock for this process and writes its id into the lock file. The system releases the lock when the
/// file is closed, also when the process is killed.
///
/// # Errors
/// [`StoreError::InUse`] when another process holds it.
pub fn lock(folder: &Path) -> Result<File, StoreError> {
    let mut file = open_locked(folder, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
    // Overwrites the old id, which needs no space on a full disk.
    let write = |file: &mut File| {
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        let length = file.stream_position()?;
        file.set_len(length)
    };
    match write(&mut file) {
        Ok(()) => Ok(file),
        Err(error) => Err(cannot_lock(folder, error)),
    }
}

/// As [`lock`]; where nothing can be written, an existing lock file is locked as it is. `None` when it does not exist.
///
/// # Errors
/// [`StoreError::InUse`] when another process holds the lock.
pub fn lock_to_read(folder: &Path) -> Result<Option<File>, StoreError> {
    match lock(folder) {
        Ok(file) => Ok(Some(file)),
        Err(error @ StoreError::InUse(_)) => Err(error),
        Err(_) if matches!(folder.join(LOCK_FILE).try_exists(), Ok(false)) => Ok(None),
        Err(_) => open_locked(folder, OpenOptions::new().read(true)).map(Some),
    }
}

fn cannot_lock(folder: &Path, error: io::Error) -> StoreError {
    StoreError::unusable(format!("cannot lock the data folder with {}", folder.join(LOCK_FILE).display()), error)
}

fn open_locked(folder: &Path, options: &OpenOptions) -> Result<File, StoreError> {
    let file = options.open(folder.join(LOCK_FILE)).map_err(|error| cannot_lock(folder, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Longer than any process id; the text is only shown.
            let _ = file.take(20).read_to_string(&mut holder);
            let text = format!(
                "the data folder {} is in use by process {}; stop that server or choose another folder with --data",
                folder.display(),
                holder.trim()
            );
            Err(StoreError::InUse(text.into()))
        }
        Err(TryLockError::Error(error)) => Err(cannot_lock(folder, error)),
    }
}

/// Makes the names of files in the folder survive a power cut.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Does nothing where folders cannot be synced.
#[cfg(not(unix))]
pub fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
