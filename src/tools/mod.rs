//! The commands for a data folder beside the server: printing the log, telling whether the file is sound, copying it, and
//! saving what is readable of a damaged one. Owns what they share; each command has a file. None of them writes to the
//! folder that it reads.

pub mod backup;
pub mod check;
pub mod export;
pub mod repair;
mod source;

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::store::StoreError;
use crate::store::files;

/// Why a command did not do its work.
#[derive(Debug)]
pub enum ToolError {
    /// The data folder cannot be used, or its file cannot be read.
    Data(StoreError),
    /// What was asked for cannot be done as it is; the text says what to do.
    Refused(String),
    /// Standard output takes no more.
    Output(io::Error),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(error) => error.fmt(f),
            Self::Refused(why) => f.write_str(why),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

impl std::error::Error for ToolError {}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> Self {
        Self::Data(error)
    }
}

/// A rejection because of what the system says about a file.
fn at(path: &Path, error: &io::Error) -> ToolError {
    ToolError::Refused(format!("{}: {error}", path.display()))
}

/// The data file of a folder, which has to be there.
fn data_file(folder: &Path) -> Result<PathBuf, StoreError> {
    let path = files::data_file(folder)?;
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(path),
        Ok(_) => Err(StoreError::Unusable(format!("{} is no file", path.display()))),
        // Its log may be all that is left.
        Err(_) if files::is_orphaned_log(&path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Unusable(format!(
            "there is no {}; name the folder of a server's data with --data",
            path.display()
        ))),
        Err(error) => Err(StoreError::Unusable(format!("cannot read {}: {error}", path.display()))),
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
