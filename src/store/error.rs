//! Errors of the store. Owns the texts for the operator; each keeps the error of SQLite or of the system as its source.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use super::access::{Purpose, obstacle};

/// What the operator should know or do, and the error behind it.
#[derive(Debug)]
pub struct Reason {
    text: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Reason {
    /// A text with the error behind it.
    pub(crate) fn new(text: impl fmt::Display, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { text: text.to_string(), cause: Some(Box::new(cause)) }
    }

    /// The same reason with a text before its own.
    pub(crate) fn prefixed(self, prefix: impl fmt::Display) -> Self {
        Self { text: format!("{prefix}: {}", self.text), ..self }
    }

    /// The error behind the text, for [`Error::source`].
    pub(crate) fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self { text, cause: None }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The text; with `{:#}` the text and its cause, for log lines.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) if f.alternate() => write!(f, "{}: {cause}", self.text),
            _ => f.write_str(&self.text),
        }
    }
}

/// Why a store could not be opened, read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// No space is left on the disk: once there is room, the next commit succeeds.
    Full(Reason),
    /// The data file has reached the cap of the operator: once there is room below it, the next commit succeeds.
    AtCap(Reason),
    /// A read or a write failed: the next commit tries again.
    Failed(Reason),
    /// Writing the changes failed, and so did overwriting them. They do not count now, nor once another commit has
    /// succeeded; but if the server or the machine stops before that, they may.
    Unknown(Reason),
    /// The database cannot be reached, and nothing was changed: try again.
    Away(Reason),
    /// The files at the data folder's paths are not those that are open: put them back as they were, or restart.
    Displaced(Reason),
    /// The file may not be read or written: once its permissions or its file system allow it, the next commit succeeds.
    Forbidden(Reason),
    /// Another running server owns the folder: stop it, or name another folder.
    InUse(Reason),
    /// The file is damaged: the text says what to do.
    Damaged(Reason),
    /// The file cannot be used as it is: the text says what to do.
    Unusable(Reason),
}

/// Added to every text about damage.
const ADVICE_ON_DAMAGE: &str = "stop the server and restore a backup, or see with `ordercast check --data DIR` how much \
                                is readable and let `ordercast repair --data DIR` write a new file from it";

impl StoreError {
    /// [`StoreError::Unusable`] with a cause.
    pub(crate) fn unusable(text: impl fmt::Display, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unusable(Reason::new(text, cause))
    }

    /// A file whose content is damaged.
    pub(crate) fn damaged(path: &Path, what: &str) -> Self {
        Self::Damaged(format!("{} is damaged ({what}); {ADVICE_ON_DAMAGE}", path.display()).into())
    }

    /// An error of SQLite's while a file is opened for writing, read or made outside of a commit.
    pub(crate) fn opening(path: &Path, error: rusqlite::Error) -> Self {
        Self::opening_for(Purpose::Write, path, error)
    }

    /// An error of SQLite's while a file is opened only for reading.
    pub(crate) fn reading(path: &Path, error: rusqlite::Error) -> Self {
        Self::opening_for(Purpose::Read, path, error)
    }

    fn opening_for(purpose: Purpose, file: &Path, error: rusqlite::Error) -> Self {
        let path = file.display();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged(Reason::new(format!("{path} is damaged or no SQLite file; {ADVICE_ON_DAMAGE}"), error))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::unusable(
                format!("{path} is locked by another program; close that program and start again"),
                error,
            ),
            Some(ErrorCode::DiskFull) => Self::Full(Reason::new(format!("no space left for {path}"), error)),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                let cannot_open = || Self::unusable(format!("cannot open {path}"), error);
                obstacle(file, purpose).map_or_else(cannot_open, Self::Forbidden)
            }
            _ => Self::unusable(format!("cannot open {path}"), error),
        }
    }

    /// An error of SQLite's during a commit to a file without a cap.
    pub(crate) fn committing(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(Reason::new("no space left for the data", error)),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => error.into(),
            _ => Self::Failed(Reason::new("the data could not be written", error)),
        }
    }

    /// The same error, found when the changes were on the disk already.
    pub(crate) fn in_the_middle(self) -> Self {
        match self {
            Self::Displaced(reason) | Self::Away(reason) => Self::Unknown(reason),
            error => error,
        }
    }

    /// The code of SQLite's error behind it.
    pub(crate) fn sqlite_code(&self) -> Option<ErrorCode> {
        self.reason().cause()?.downcast_ref::<rusqlite::Error>()?.sqlite_error_code()
    }

    /// Whether the disk did not read or write what it was asked to.
    pub(crate) fn is_io_error(&self) -> bool {
        self.sqlite_code() == Some(ErrorCode::SystemIoFailure)
    }

    /// Whether the file cannot be written where it is, while nothing is known to be wrong with what it holds.
    pub(crate) fn forbids_writing_only(&self) -> bool {
        let is_read_only = |reason: &Reason| {
            let cause = reason.cause().and_then(|cause| cause.downcast_ref::<io::Error>());
            cause.is_some_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
                || matches!(self.sqlite_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
        };
        match self {
            Self::Full(_) | Self::Forbidden(_) => true,
            Self::Unusable(reason) => is_read_only(reason),
            _ => false,
        }
    }

    fn reason(&self) -> &Reason {
        let (Self::Full(reason)
        | Self::AtCap(reason)
        | Self::Failed(reason)
        | Self::Unknown(reason)
        | Self::Away(reason)
        | Self::Displaced(reason)
        | Self::Forbidden(reason)
        | Self::InUse(reason)
        | Self::Damaged(reason)
        | Self::Unusable(reason)) = self;
        reason
    }
}

/// A read of an open data file failed.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged(Reason::new(format!("the data file is damaged; {ADVICE_ON_DAMAGE}"), error))
            }
            _ => Self::Failed(Reason::new("the data could not be read", error)),
        }
    }
}

/// The text; with `{:#}` the text and its cause, for log lines.
impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason().fmt(f)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason().cause()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_sqlite_is_the_source_and_in_the_alternate_text_only() {
        let full = || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        let errors = [StoreError::opening(Path::new("x"), full()), StoreError::committing(full())];
        for error in errors {
            assert!(matches!(error, StoreError::Full(_)), "{error:?}");
            let cause = error.source().and_then(|cause| cause.downcast_ref::<rusqlite::Error>()).unwrap();
            assert!(!error.to_string().contains(&cause.to_string()), "{error}");
            assert_eq!(format!("{error:#}"), format!("{error}: {cause}"));
        }
    }

    #[test]
    fn a_disk_that_does_not_read_is_told_from_a_file_that_is_wrong() {
        let error = |code| {
            StoreError::opening(Path::new("x"), rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
        };
        assert!(error(rusqlite::ffi::SQLITE_IOERR_READ).is_io_error());
        assert!(
            ![rusqlite::ffi::SQLITE_CORRUPT, rusqlite::ffi::SQLITE_FULL].map(error).iter().any(StoreError::is_io_error)
        );
    }
}
