//! How much a data folder holds. Only the thread that writes it measures it, so that a disk that hangs holds up no other.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::StatVfs;

use super::files::{LAST_BACKUP_FILE, folder_of, with_suffix};

/// The longest content of the file with the time of the last backup, in bytes: longer than any time.
const MAX_TIME_BYTES: u64 = 32;

/// How much a data folder holds; `None` for what cannot be measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Entries of the order log.
    pub log_rows: Option<u64>,
    /// Keys, with those that have expired and have not been deleted yet.
    pub key_rows: Option<u64>,
    /// The size of the data file.
    pub data_bytes: Option<u64>,
    /// Bytes of unused pages in the data file.
    pub free_bytes: Option<u64>,
    /// The size of the write-ahead log.
    pub wal_bytes: Option<u64>,
    /// The size of the file system.
    pub disk_bytes: Option<u64>,
    /// Bytes of the file system that this process may still use.
    pub disk_free_bytes: Option<u64>,
    /// The time of the last backup, in seconds since 1970 (UTC).
    pub last_backup: Option<u64>,
}

impl Figures {
    /// What the files of this data file tell.
    pub(super) fn of_files(data_file: &Path) -> Self {
        let bytes = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.len());
        let folder = folder_of(data_file);
        let disk = rustix::fs::statvfs(folder).ok();
        let bytes_of_disk =
            |blocks: fn(&StatVfs) -> u64| disk.as_ref().map(|disk| blocks(disk).saturating_mul(disk.f_frsize));
        Self {
            data_bytes: bytes(data_file),
            wal_bytes: bytes(&with_suffix(data_file, "-wal")),
            disk_bytes: bytes_of_disk(|disk| disk.f_blocks),
            disk_free_bytes: bytes_of_disk(|disk| disk.f_bavail),
            last_backup: last_backup(&folder.join(LAST_BACKUP_FILE)),
            ..Self::default()
        }
    }
}

/// The time in the file that a backup leaves: whole seconds since 1970 (UTC). `None` when there is none, or it has
/// something else.
fn last_backup(path: &Path) -> Option<u64> {
    // Opening a named pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut text = String::new();
    file.take(MAX_TIME_BYTES + 1).read_to_string(&mut text).ok()?;
    let text = if text.len() as u64 <= MAX_TIME_BYTES { text.trim_end() } else { return None };
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_last_backup_is_read_and_anything_else_is_none() {
        let folder = std::env::temp_dir().join(format!("ordercast-figures-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(LAST_BACKUP_FILE);
        assert_eq!(last_backup(&path), None);
        let long = "1".repeat(64);
        for (content, expected) in [
            ("1764137000\n", Some(1_764_137_000)),
            ("0", Some(0)),
            ("", None),
            ("\n", None),
            ("-5\n", None),
            ("+5\n", None),
            ("1764137000.5\n", None),
            ("yesterday\n", None),
            ("99999999999999999999\n", None),
            (&long, None),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(last_backup(&path), expected, "{content:?}");
        }
        fs::write(&path, b"\xff\xfe").unwrap();
        assert_eq!(last_backup(&path), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(last_backup(&path), None, "a folder");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_measured_is_none() {
        let figures = Figures::of_files(Path::new("/nowhere/ordercast.sqlite3"));
        assert_eq!(figures, Figures::default());
    }
}
