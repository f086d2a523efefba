//! The files of a data folder: their names, the lock that keeps a second server out, and syncing a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::access::{Purpose, obstacle_at};
pub use super::paths::{folder_of, with_suffix};

/// The data file's name in the data folder.
pub const DATA_FILE: &str = "ordercast.sqlite3";
/// The smallest block size of a file system that is accepted: 4096 bytes, a page of memory.
const PAGE_BYTES: u64 = 4096;
/// What SQLite needs beside a data file to open it for writing: 64 KiB, the index of the write-ahead log and the log.
const ROOM_BYTES: usize = 64 * 1024;
/// The name of the file beside the data file with the time of the last backup.
pub const LAST_BACKUP_FILE: &str = "last-backup";
/// The lock file's name in the data folder; it holds the process id of the server that owns the folder.
pub const LOCK_FILE: &str = "ordercast.lock";

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
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            let text = format!(
                "{} is not a folder; to read a backup, put it as {DATA_FILE} into a folder of its own, and name that \
                 with --data",
                folder.display()
            );
            Err(StoreError::unusable(text, error))
        }
        Err(error) => Err(unusable(&path, error)),
    }
}

/// A file that cannot be examined or opened to be read.
pub fn unusable(path: &Path, error: io::Error) -> StoreError {
    match obstacle_at(path, Purpose::Read) {
        Some(reason) => StoreError::Unusable(reason),
        None => StoreError::unusable(format!("cannot use {}", path.display()), error),
    }
}

/// Whether SQLite's write-ahead log (`-wal`) has content while the data file is empty or missing. SQLite would remove
/// such a log, and the orders in it.
pub fn has_orphaned_wal(data_file: &Path) -> bool {
    !has_content(data_file) && has_content(&with_suffix(data_file, "-wal"))
}

/// Whether the file exists and is not empty.
pub fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() > 0)
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

/// Takes the lock of the data file's folder, in which a first start may have to make the data file. It makes the lock
/// file first, so that an empty data file without one has lost what was in it.
///
/// # Errors
/// [`StoreError::Unusable`] in that case; [`StoreError::InUse`] when another process holds the lock.
pub fn lock_to_make(data_file: &Path) -> Result<File, StoreError> {
    let folder = folder_of(data_file);
    let is_empty = data_file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
    if is_empty && !has_orphaned_wal(data_file) && matches!(folder.join(LOCK_FILE).try_exists(), Ok(false)) {
        return Err(lost_content(data_file));
    }
    open_lock(folder)
}

fn lost_content(data_file: &Path) -> StoreError {
    let text = format!(
        "{} is empty: what was in it is lost, as after a power cut or a failed copy; restore a backup, or delete the \
         file to begin anew",
        data_file.display()
    );
    StoreError::Unusable(text.into())
}

/// Whether a data file has to be made, in a folder whose lock is held. A first start writes its id into the lock file
/// only once the data file has its tables. So beside an empty lock file an empty data file is what a first start has
/// left that was cut short; beside any other it has lost what was in it, as after a power cut or a failed copy.
///
/// # Errors
/// [`StoreError::Unusable`] when the data file has lost what was in it; otherwise when the lock file cannot be written.
pub fn must_be_made(data_file: &Path, lock: &File) -> Result<bool, StoreError> {
    let (folder, name) = (folder_of(data_file), data_file.display());
    let failed = |error| cannot_lock(folder, error);
    match data_file.metadata() {
        Ok(metadata) if metadata.len() > 0 || !metadata.is_file() => Ok(false),
        // It says more of that.
        _ if has_orphaned_wal(data_file) => check_wal(data_file).map(|()| false),
        Ok(_) if lock.metadata().map_err(failed)?.len() == 0 => {
            log::warn!("{name} is empty, as after a first start that was cut short; a new one is made");
            Ok(true)
        }
        Ok(_) => Err(lost_content(data_file)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            lock.set_len(0).map_err(failed)?;
            // After a power cut the name of the data file must not be there without that of the lock file.
            let _ = sync_folder(folder);
            Ok(true)
        }
        // Opening it says why.
        Err(_) => Ok(false),
    }
}

/// Rejects a file system with blocks smaller than a page of memory. SQLite maps the index of the write-ahead log (`-shm`)
/// into memory and allocates one byte of each of its pages: on such a file system, when it is full, the first use of
/// the rest of the page would end the process (SIGBUS). An empty or missing file passes.
///
/// # Errors
/// [`StoreError::Unusable`].
pub fn check_block_size(data_file: &Path) -> Result<(), StoreError> {
    let Ok(metadata) = data_file.metadata() else { return Ok(()) };
    let block_bytes = metadata.blksize();
    // Some file systems give a file that is smaller than a page smaller blocks.
    if metadata.len() < PAGE_BYTES || block_bytes >= PAGE_BYTES {
        return Ok(());
    }
    let text = format!(
        "the file system of {} has blocks of {block_bytes} bytes, on which SQLite ends the server when the disk is full; \
         make it with blocks of {PAGE_BYTES} bytes (mkfs.ext4 -b {PAGE_BYTES}), or choose another folder with --data",
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
    let mut file = open_lock(folder)?;
    write_id(&mut file, folder)?;
    Ok(file)
}

/// As [`lock`], without the id.
fn open_lock(folder: &Path) -> Result<File, StoreError> {
    open_locked(folder, OpenOptions::new().read(true).write(true).create(true).truncate(false))
}

/// Writes the id of this process into the lock file.
///
/// # Errors
/// [`StoreError::Unusable`] when it cannot be written, but not on a full disk.
pub fn write_id(file: &mut File, folder: &Path) -> Result<(), StoreError> {
    // Overwriting an old id needs no space on a full disk. A new file needs it, but is a lock without the id too.
    let write = |file: &mut File| {
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        let length = file.stream_position()?;
        file.set_len(length)
    };
    match write(file) {
        Err(error) if error.kind() != ErrorKind::StorageFull => Err(cannot_lock(folder, error)),
        _ => Ok(()),
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
    let path = folder.join(LOCK_FILE);
    let text = format!("cannot lock the data folder with {}", path.display());
    match [&path, folder].iter().find_map(|path| obstacle_at(path, Purpose::Write)) {
        // Not through a link to another file.
        Some(reason) if !path.is_symlink() => StoreError::Unusable(reason.prefixed(text)),
        _ => StoreError::unusable(text, error),
    }
}

fn open_locked(folder: &Path, options: &mut OpenOptions) -> Result<File, StoreError> {
    // Its id is not written through a link to another file, and a pipe has no other end to wait for.
    let options = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(folder.join(LOCK_FILE)).map_err(|error| cannot_lock(folder, error))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(cannot_lock(folder, io::Error::other("it is no regular file")));
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Longer than any process id; the text is only shown.
            let _ = file.take(20).read_to_string(&mut holder);
            let text = format!(
                "the data folder {} is in use by process {}; stop that server or choose another folder",
                folder.display(),
                holder.trim()
            );
            Err(StoreError::InUse(text.into()))
        }
        Err(TryLockError::Error(error)) => Err(cannot_lock(folder, error)),
    }
}

/// Whether the folder's file system has room for the files that SQLite makes beside a data file. Leaves nothing behind.
pub fn has_room(folder: &Path) -> bool {
    let path = folder.join(format!("{DATA_FILE}-room"));
    let write = || {
        // What a killed server has left; not through a link to another file.
        let _ = fs::remove_file(&path);
        let mut file = File::create_new(&path)?;
        fs::remove_file(&path)?;
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync_all()
    };
    !write().is_err_and(|error: io::Error| {
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
    })
}

/// Makes the names of files in the folder survive a power cut.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_missing_data_file_has_a_path_and_a_broken_link_is_an_error() {
        let folder = std::env::temp_dir().join(format!("ordercast-files-{}", std::process::id()));
        assert_eq!(data_file(&folder).unwrap(), folder.join(DATA_FILE), "not even the folder exists");
        fs::create_dir(&folder).unwrap();
        assert!(data_file(&folder).unwrap().is_absolute());
        symlink("nowhere", folder.join(DATA_FILE)).unwrap();
        assert!(matches!(data_file(&folder), Err(StoreError::Unusable(_))));
        fs::write(folder.join("nowhere"), "").unwrap();
        assert!(data_file(&folder).unwrap().ends_with("nowhere"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_with_room_has_room_and_nothing_is_left_in_it_or_changed_through_a_link() {
        let folder = std::env::temp_dir().join(format!("ordercast-room-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("other"), "as it was").unwrap();
        symlink("other", folder.join(format!("{DATA_FILE}-room"))).unwrap();
        assert!(has_room(&folder));
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["other"]);
        assert_eq!(fs::read(folder.join("other")).unwrap(), b"as it was");
        assert!(has_room(&folder.join("missing")), "an error that is not for lack of room");
        fs::remove_dir_all(&folder).unwrap();
    }
}
