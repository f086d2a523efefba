//! The lock that keeps a second server out of a data folder, and names that survive a power cut.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::StoreError;

/// The lock file's name in the data folder; it holds the process id of the server that owns the folder.
pub const LOCK_FILE: &str = "ordercast.lock";

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
