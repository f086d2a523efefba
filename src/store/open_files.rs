//! Whether the files of an open data file are still the ones at their paths. Closing a second descriptor of a file that
//! SQLite has open would release SQLite's locks on it (POSIX, `fcntl`), so the descriptors here stay open until the
//! connection is closed: [`OpenFiles`] has to be dropped after it.

use std::fs::{self, File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::files::{folder_of, with_suffix};
use super::{Reason, StoreError};

/// How long ago a folder must have changed so that a further change shows in its times: 20 ms, some ticks of the clock that
/// Linux uses for files; and 3 s where times are whole seconds, of which FAT knows only every second one.
const SETTLED: Duration = Duration::from_millis(20);
const SETTLED_IN_SECONDS: Duration = Duration::from_secs(3);

/// A file as it was at the last comparison.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// To ask for the size without looking up the path; `None` where the size does not matter.
    file: Option<File>,
    /// Device and inode.
    id: (u64, u64),
    state: State,
    /// What is compared besides the id.
    content: Content,
}

/// A folder as it was before the paths in it were compared. It changes with each name in it.
#[derive(Debug, PartialEq, Eq)]
struct FolderState {
    id: (u64, u64),
    /// When it was modified and changed, in seconds and nanoseconds.
    times: [i64; 4],
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

/// The files of a data file that is open.
#[derive(Debug)]
pub struct OpenFiles {
    files: Vec<OpenFile>,
    folder: PathBuf,
    /// The folder at the last comparison of all paths, unless it had just changed. As long as it stays like this, so do
    /// the names in it.
    settled: Option<FolderState>,
    /// Whether the operator's path leads over links, which may change without the folder.
    has_links: bool,
    /// Whether a file was missing at the last comparison.
    is_away: bool,
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
            let file = if content == Content::Any { None } else { Some(File::open(&path)?) };
            files.push(OpenFile { path, file, id: id(&metadata), state: State::of(&metadata), content });
        }
        let folder = folder_of(data_file).to_owned();
        Ok(Self { files, folder, settled: None, has_links, is_away: false, broken: None })
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
        if !self.is_away && self.are_in_place() {
            return Ok(());
        }
        let settled = FolderState::of(&self.folder).filter(|(_, is_settled)| *is_settled && !self.has_links);
        let mut found = Vec::with_capacity(self.files.len());
        for OpenFile { path, .. } in &self.files {
            match fs::metadata(path) {
                Ok(metadata) => found.push(metadata),
                Err(error) => {
                    let error = away(path, error);
                    self.note_absence();
                    return Err(error);
                }
            }
        }
        for (file, metadata) in self.files.iter().zip(&found) {
            let (name, state) = (name(&file.path), State::of(metadata));
            let is_changed = match file.content {
                Content::Any => false,
                Content::Grows | Content::Log if self.is_away => state != file.state,
                Content::Grows | Content::Mapped => state.bytes < file.state.bytes,
                Content::Log => state.bytes < file.state.bytes && log_bytes().is_none_or(|needed| state.bytes < needed),
            };
            let what = match (id(metadata) == file.id, is_changed, self.is_away) {
                (true, false, _) => continue,
                (false, ..) => "was replaced by another file while the server runs",
                (true, true, true) => "was changed while it was away",
                (true, true, false) => "was truncated while the server runs",
            };
            let why = format!("{name} {what}; {RESTART}");
            self.broken = Some(why.clone());
            return Err(StoreError::Displaced(why.into()));
        }
        self.is_away = false;
        self.settled = settled.map(|(state, _)| state);
        for (file, metadata) in self.files.iter_mut().zip(&found) {
            file.state = State::of(metadata);
        }
        Ok(())
    }

    /// Whether no name in the folder has changed and no file has become shorter since the last comparison: the usual case,
    /// without looking up each path.
    fn are_in_place(&mut self) -> bool {
        if self.settled.is_none() || FolderState::of(&self.folder).map(|(state, _)| state) != self.settled {
            return false;
        }
        for OpenFile { file, state, .. } in &mut self.files {
            let Some(file) = file else { continue };
            // Not its metadata: Linux updates the times of a file with each write to it after they were asked for, which
            // costs a fifth of an order.
            match file.seek(SeekFrom::End(0)) {
                Ok(bytes) if bytes >= state.bytes => state.bytes = bytes,
                _ => return false,
            }
        }
        true
    }

    /// Notes how the open files are when one of them is found missing. Nothing is written to them until all are back.
    fn note_absence(&mut self) {
        if std::mem::replace(&mut self.is_away, true) {
            return;
        }
        for OpenFile { file, state, .. } in &mut self.files {
            if let Some(Ok(metadata)) = file.as_ref().map(File::metadata) {
                *state = State::of(&metadata);
            }
        }
    }
}

impl FolderState {
    /// The folder, and whether its last change is long enough ago that a further one shows.
    fn of(folder: &Path) -> Option<(Self, bool)> {
        let metadata = fs::metadata(folder).ok()?;
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        let settles_after = if times[1] == 0 && times[3] == 0 { SETTLED_IN_SECONDS } else { SETTLED };
        let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
        let is_settled = age.is_some_and(|age| age > settles_after);
        Some((Self { id: id(&metadata), times }, is_settled))
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
