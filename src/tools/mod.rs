//! The commands for a data folder beside the server: export, report, check, backup, compact, repair. Only `compact` changes
//! the data file. Of the others `repair` writes the lock file and `backup` the time of the last backup. `migrate` is for a
//! database, and moves a folder into it and back; export and report read a database too.

pub mod backup;
pub mod check;
pub mod compact;
mod copy;
pub mod export;
#[cfg(feature = "postgres")]
pub mod migrate;
pub mod repair;
pub mod report;
mod source;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::store::files;
use crate::store::{Reason, StoreError};

/// Why a command failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToolError {
    /// The data folder cannot be used, or its file cannot be read.
    Data(StoreError),
    /// The command cannot do its work; the text says what to change.
    Failed(Reason),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(error) => error.fmt(f),
            Self::Failed(reason) => reason.fmt(f),
            Self::Output(_) => f.write_str("cannot write to standard output"),
        }
    }
}

impl Error for ToolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Data(error) => error.source(),
            Self::Failed(reason) => reason.cause(),
            Self::Output(error) => Some(error),
        }
    }
}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> Self {
        Self::Data(error)
    }
}

impl ToolError {
    fn failed(text: impl Into<Reason>) -> Self {
        Self::Failed(text.into())
    }

    /// An error at a file or folder.
    fn at(path: &Path, error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Reason::new(format!("cannot use {}", path.display()), error))
    }
}

/// The path of a folder's data file, which has to exist unless only its write-ahead log is left.
fn existing_data_file(folder: &Path) -> Result<PathBuf, StoreError> {
    let path = files::data_file(folder)?;
    let name = path.display();
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(path),
        Ok(_) => Err(StoreError::Unusable(format!("{name} is not a file").into())),
        Err(_) if files::has_orphaned_wal(&path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Unusable(
            format!("{name} does not exist; name the folder of a server's data with --data").into(),
        )),
        Err(error) => Err(files::unusable(&path, error)),
    }
}

/// A number with its noun: `1 order`, `2 orders`.
fn counted(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) if !noun.ends_with("ey") => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}
