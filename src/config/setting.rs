//! How options are read, whatever they configure: flags, their environment twins, and what is said when one is wrong.
//! Owns the order in which they win; knows no option.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use super::{Command, UsageError};

/// One option: its flag, and how its value goes into the configuration. The environment twin follows from the flag.
pub(super) struct Setting<T> {
    pub flag: &'static str,
    /// Whether it may be repeated; the environment separates the values with commas.
    pub many: bool,
    pub set: fn(&mut T, &OsStr) -> Result<(), String>,
}

impl<T> Setting<T> {
    pub fn twin(&self) -> String {
        format!("ORDERCAST_{}", self.flag.replace('-', "_").to_ascii_uppercase())
    }
}

/// Reads what is left of the arguments into `target` and, for what they leave open, the environment. A word that belongs
/// to no flag goes to `take_word`, which returns whether it is wanted. Returns the command that wins over every other, if
/// one of the arguments asks for it.
pub(super) fn read<T>(
    parser: &mut Parser,
    environment: impl Fn(&str) -> Option<OsString>,
    settings: &[Setting<T>],
    target: &mut T,
    mut take_word: impl FnMut(&mut T, &OsStr) -> bool,
) -> Result<Option<Command>, UsageError> {
    let mut seen = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Some(Command::Help)),
            Arg::Long("version") | Arg::Short('V') => return Ok(Some(Command::Version)),
            Arg::Long(name) => {
                let Some(setting) = settings.iter().find(|setting| setting.flag == name) else {
                    return Err(UsageError(format!("unknown option --{name} here; see ordercast --help")));
                };
                if !setting.many && seen.contains(&setting.flag) {
                    return Err(UsageError(format!("--{} is given twice", setting.flag)));
                }
                seen.push(setting.flag);
                let value = parser.value()?;
                if value.is_empty() {
                    return Err(UsageError(format!("--{} needs a value; see ordercast --help", setting.flag)));
                }
                (setting.set)(target, &value)
                    .map_err(|why| UsageError(format!("--{} {}: {why}", setting.flag, value.to_string_lossy())))?;
            }
            Arg::Short(letter) => return Err(UsageError(format!("unknown option -{letter}; see ordercast --help"))),
            Arg::Value(word) => {
                if !take_word(target, &word) {
                    let word = word.to_string_lossy();
                    return Err(UsageError(format!("unknown argument {word:?}; see ordercast --help")));
                }
            }
        }
    }
    for setting in settings.iter().filter(|setting| !seen.contains(&setting.flag)) {
        let twin = setting.twin();
        let Some(value) = environment(&twin).filter(|value| !value.is_empty()) else { continue };
        let told = |why| UsageError(format!("{twin}={}: {why}", value.to_string_lossy()));
        if setting.many {
            let list = text(&value).map_err(told)?;
            for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                (setting.set)(target, OsStr::new(item)).map_err(told)?;
            }
        } else {
            (setting.set)(target, &value).map_err(told)?;
        }
    }
    Ok(None)
}

pub(super) fn text(value: &OsStr) -> Result<&str, String> {
    value.to_str().ok_or_else(|| "must be UTF-8 text".to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "every setting may fail, so all have the same shape")]
pub(super) fn put<T>(place: &mut T, value: T) -> Result<(), String> {
    *place = value;
    Ok(())
}
