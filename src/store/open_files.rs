//! Whether the files of an open data file are still the ones at their paths. They are compared with `stat` alone: closing
//! a second descriptor of a file that SQLite has open would release SQLite's locks on it (POSIX, `fcntl`).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::files::with_suffix;
use super::{Reason, StoreError};

/// How long a comparison holds if nothing is written: 150 µs. Under load the one after a commit serves the next commit too,
/// and half of the calls are saved. What happens in between is found after that commit, which is then taken back.
const HOLDS: Duration = Duration::from_micros(150);

/// A file as it was at the last comparison.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
    state: State,
    /// What is compared besides the id.
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    bytes: u64,
    modified: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Only the id.
    Any,
    /// The data file never becomes shorter.
    Grows,
    /// The log's index never does either: SQLite has it mapped into memory, and would end the process (SIGBUS). The
    /// time of its last change is not known before the system has written it.
    Mapped,
    /// The write-ahead log is cut when all of it is in the data file, perhaps by another program's checkpoint.
    Log,
}

/// How the files were when one of them was found missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// As they were at the last comparison.
    Known,
    /// Written by a commit since then.
    Written,
}

/// The files of a data file that is open.
#[derive(Debug)]
pub struct OpenFiles {
    files: Vec<OpenFile>,
    /// Whether something may have been written to them since the last comparison.
    may_have_changed: bool,
    /// When the last comparison succeeded.
    compared: Instant,
    /// Set while a file is missing.
    away: Option<Away>,
    /// Why no comparison can succeed any more.
    broken: Option<String>,
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self { bytes: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl OpenFiles {
    /// Remembers the files of an open data file and the lock file of its folder, as they are now. `named` is the data
    /// file's path as the operator has named it, which may lead over links that can be changed.
    ///
    /// # Errors
    /// When one of them cannot be examined.
    pub fn remember(named: &Path, data_file: &Path, lock_file: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let has_links = std::path::absolute(named)? != data_file;
        for (path, content) in [
            (lock_file.to_owned(), Content::Any),
            (data_file.to_owned(), Content::Grows),
            (with_suffix(data_file, "-wal"), Content::Log),
            (with_suffix(data_file, "-shm"), Content::Mapped),
        ]
        .into_iter()
        .chain(has_links.then(|| (named.to_owned(), Content::Any)))
        {
            let metadata = fs::metadata(&path)?;
            files.push(OpenFile { path, id: id(&metadata), state: State::of(&metadata), content });
        }
        Ok(Self { files, may_have_changed: true, compared: Instant::now(), away: None, broken: None })
    }

    /// Something is about to be written to the files.
    pub fn expect_changes(&mut self) {
        self.may_have_changed = true;
    }

    /// Compares the files with what is at their paths. `log_bytes` gives the size that the write-ahead log must have at
    /// least; it is asked for only if the log has become shorter.
    ///
    /// # Errors
    /// [`StoreError::Displaced`]. A file that is moved back unchanged is accepted again; a file that was replaced,
    /// truncated, or changed while it was away, never.
    pub fn compare(&mut self, log_bytes: impl Fn() -> Option<u64>) -> Result<(), StoreError> {
        if let Some(why) = &self.broken {
            return Err(StoreError::Displaced(why.as_str().into()));
        }
        let is_known = self.away.is_none() && !self.may_have_changed;
        if is_known && self.compared.elapsed() < HOLDS {
            return Ok(());
        }
        let mut found = Vec::with_capacity(self.files.len());
        for file in &self.files {
            match fs::metadata(&file.path) {
                Ok(metadata) => found.push(metadata),
                Err(error) => {
                    self.away.get_or_insert(if self.may_have_changed { Away::Written } else { Away::Known });
                    return Err(away(&file.path, error));
                }
            }
        }
        let must_be_unchanged = self.away == Some(Away::Known);
        for (file, metadata) in self.files.iter().zip(&found) {
            let (name, state) = (name(&file.path), State::of(metadata));
            let is_changed = match file.content {
                Content::Any => false,
                Content::Grows | Content::Log if must_be_unchanged => state != file.state,
                Content::Grows | Content::Mapped => state.bytes < file.state.bytes,
                Content::Log => state.bytes < file.state.bytes && log_bytes().is_none_or(|needed| state.bytes < needed),
            };
            let what = match (id(metadata) == file.id, is_changed, must_be_unchanged) {
                (true, false, _) => continue,
                (false, ..) => "was replaced by another file while the server runs",
                (true, true, true) => "was changed while it was away",
                (true, true, false) => "was truncated while the server runs",
            };
            let why = format!("{name} {what}; {RESTART}");
            self.broken = Some(why.clone());
            return Err(StoreError::Displaced(why.into()));
        }
        (self.away, self.may_have_changed, self.compared) = (None, false, Instant::now());
        for (file, metadata) in self.files.iter_mut().zip(&found) {
            file.state = State::of(metadata);
        }
        Ok(())
    }
}

/// What the operator can do in any case.
const RESTART: &str = "stop the server, and start it on what is in the folder or on a backup";

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()
}

fn away(path: &Path, error: io::Error) -> StoreError {
    let name = name(path);
    StoreError::Displaced(if error.kind() == io::ErrorKind::NotFound {
        format!("{name} was moved or deleted while the server runs; move it back, or {RESTART}").into()
    } else {
        Reason::new(format!("{name} cannot be examined"), error)
    })
}
