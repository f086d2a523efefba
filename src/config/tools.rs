//! The commands for a data folder, and how each is written down. Owns their options and defaults.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use lexopt::Parser;

use super::setting::{self, Setting, put, text};
use super::{Command, DATA, UsageError};

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line, as `GET /log` tells it.
    #[default]
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
}

/// What `ordercast export` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The data folder.
    pub data: PathBuf,
    /// How the log is written.
    pub format: Format,
}

/// What `ordercast check` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The data folder.
    pub data: PathBuf,
}

/// What `ordercast repair` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The damaged data folder.
    pub data: PathBuf,
    /// The folder of the fresh file; made if it is not there.
    pub output: PathBuf,
}

/// What `ordercast backup` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The data folder.
    pub data: PathBuf,
    /// Where the copy goes.
    pub file: PathBuf,
}

/// The options of all of these commands; each takes some of them.
#[derive(Default)]
pub(super) struct Options {
    data: Option<PathBuf>,
    format: Format,
    output: Option<PathBuf>,
    file: Option<PathBuf>,
}

const DATA_SETTING: Setting<Options> =
    Setting { flag: "data", many: false, set: |options, value| put(&mut options.data, Some(value.into())) };
const FORMAT_SETTING: Setting<Options> =
    Setting { flag: "format", many: false, set: |options, value| put(&mut options.format, format(text(value)?)?) };
const OUTPUT_SETTING: Setting<Options> =
    Setting { flag: "output", many: false, set: |options, value| put(&mut options.output, Some(value.into())) };

/// The commands and the options that each takes.
pub(super) const COMMANDS: &[(&str, &[Setting<Options>])] = &[
    ("export", &[DATA_SETTING, FORMAT_SETTING]),
    ("check", &[DATA_SETTING]),
    ("repair", &[DATA_SETTING, OUTPUT_SETTING]),
    ("backup", &[DATA_SETTING]),
];

/// Reads what follows the command's name.
pub(super) fn parse(
    name: &str,
    settings: &[Setting<Options>],
    parser: &mut Parser,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let mut options = Options::default();
    let take_word = |options: &mut Options, word: &OsStr| {
        let is_wanted = name == "backup" && options.file.is_none() && !word.is_empty();
        if is_wanted {
            options.file = Some(word.into());
        }
        is_wanted
    };
    if let Some(command) = setting::read(parser, environment, settings, &mut options, take_word)? {
        return Ok(command);
    }
    let Options { data, format, output, file } = options;
    let data = data.unwrap_or_else(|| DATA.into());
    Ok(match name {
        "export" => Command::Export(Export { data, format }),
        "check" => Command::Check(Check { data }),
        "repair" => match output.or_else(|| beside(&data)) {
            Some(output) => Command::Repair(Repair { data, output }),
            None => return Err(UsageError("repair needs --output DIR, a folder for the fresh file".into())),
        },
        _ => match file {
            Some(file) => Command::Backup(Backup { data, file }),
            None => {
                return Err(UsageError("backup needs a file to write, such as ordercast backup orders.backup".into()));
            }
        },
    })
}

/// Where a repaired folder goes unless told otherwise: `data-repaired` for `data`. `None` when the name says too little,
/// as `.` does.
fn beside(data: &Path) -> Option<PathBuf> {
    let mut name = data.file_name()?.to_owned();
    name.push("-repaired");
    Some(data.with_file_name(name))
}

fn format(value: &str) -> Result<Format, String> {
    match value {
        "ndjson" => Ok(Format::Ndjson),
        "csv" => Ok(Format::Csv),
        _ => Err("must be ndjson or csv".to_owned()),
    }
}
