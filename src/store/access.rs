//! Why this process may not use a data file. SQLite only says that it cannot open or write it; the cause is asked of
//! the file system, without opening a file: closing it would release SQLite's locks on it (POSIX, `fcntl`).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::Reason;
use super::paths::{folder_of, with_suffix};

/// What a data file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Only to read it.
    Read,
    /// To write it too, with the files that SQLite makes beside it.
    Write,
}

/// What keeps this process from using a data file; `None` if neither permissions nor the file system do.
#[must_use]
pub fn obstacle(data_file: &Path, purpose: Purpose) -> Option<Reason> {
    let [log, index] = ["-wal", "-shm"].map(|suffix| with_suffix(data_file, suffix));
    match purpose {
        Purpose::Read => [data_file, &log].iter().find_map(|path| obstacle_at(path, purpose)),
        Purpose::Write => {
            [data_file, &log, &index, folder_of(data_file)].iter().find_map(|path| obstacle_at(path, purpose))
        }
    }
}

/// As [`obstacle`], for one file or folder. A missing one has none.
#[must_use]
pub fn obstacle_at(path: &Path, purpose: Purpose) -> Option<Reason> {
    let is_folder = path.is_dir();
    let access = match purpose {
        Purpose::Read if is_folder => Access::READ_OK | Access::EXEC_OK,
        Purpose::Read => Access::READ_OK,
        Purpose::Write if is_folder => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
        Purpose::Write => Access::READ_OK | Access::WRITE_OK,
    };
    match accessat(CWD, path, access, AtFlags::EACCESS) {
        Err(error @ Errno::ROFS) => {
            let text = format!(
                "the file system of {} is read-only; let it be mounted for writing, or choose another folder with \
                 --data",
                path.display()
            );
            Some(Reason::new(text, io::Error::from(error)))
        }
        Err(error @ Errno::ACCESS) => Some(Reason::new(no_permission(path, purpose), io::Error::from(error))),
        _ => None,
    }
}

fn no_permission(path: &Path, purpose: Purpose) -> String {
    // A folder above it may be closed to this process: the nearest one that can be examined.
    let Some((closed, metadata)) = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?))) else {
        return format!("no permission to use {}", path.display());
    };
    let what = match purpose {
        _ if closed != path => "enter",
        Purpose::Read => "read",
        Purpose::Write => "write",
    };
    let (path, owner) = (closed.display(), metadata.uid());
    let own = fs::metadata("/proc/self").ok().map(|process| process.uid());
    match own {
        Some(own) if own == owner => {
            format!("no permission to {what} {path}, whose mode is {:o}", metadata.mode() & 0o7777)
        }
        Some(own) => {
            let (user, recursive) = (name_of(own), if metadata.is_dir() { "-R " } else { "" });
            // A server is no program for root.
            let or = if owner == 0 && purpose == Purpose::Write {
                String::new()
            } else {
                format!("run this as {}, or ", name_of(owner))
            };
            format!(
                "no permission to {what} {path}, which belongs to {} while this process runs as {}; {or}give it to \
                 that user: chown {recursive}{user} {path}",
                described(owner),
                described(own)
            )
        }
        None => format!("no permission to {what} {path}, which belongs to {}", described(owner)),
    }
}

/// A user's name, or else the number.
fn name_of(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut names = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    names.next().unwrap_or_else(|| uid.to_string())
}

fn described(uid: u32) -> String {
    match name_of(uid) {
        name if name == uid.to_string() => format!("uid {uid}"),
        name => format!("{name} (uid {uid})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_or_a_number() {
        assert_eq!(described(0), "root (uid 0)");
        assert_eq!(described(4_000_000_001), "uid 4000000001");
    }
}
