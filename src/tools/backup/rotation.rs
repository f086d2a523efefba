//! Backups in a folder of their own, named by their times, of which the newest are kept.
//!
//! A name has a number beside the time, which grows with each backup: it tells which ones are older, also after the clock
//! was set back, and two backups of one second apart.

use std::fmt::Write;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::{Made, write};
use crate::store::files::{folder_of, sync_folder};
use crate::store::schema::APPLICATION_ID;
use crate::tally::rfc3339::UtcOffset;
use crate::tools::ToolError;
use crate::tools::copy::{Partial, is_full};
use crate::tools::repair::MAGIC;
use crate::tools::source::Source;

const PREFIX: &str = "orders-";
const SUFFIX: &str = ".db";
/// The largest number: a backup each second for millions of years does not reach it.
const LAST_NUMBER: u64 = 999_999_999_999_999;
/// What an unfinished backup is named after, so that the next one finds it.
const UNFINISHED: &str = "orders.db";
/// Where SQLite's header has the application's id (<https://sqlite.org/fileformat.html>, section 1.3).
const APPLICATION_ID_AT: usize = 68;

/// Writes a new backup into the folder, which is made if it does not exist, and then removes the oldest beyond `keep`.
pub(super) fn run(source: &mut Source, folder: &Path, keep: Option<usize>, now_ms: u64) -> Result<Made, ToolError> {
    let at = |error| ToolError::at(folder, error);
    if !folder.is_dir() {
        DirBuilder::new().mode(0o700).create(folder).map_err(at)?;
        let _ = sync_folder(folder_of(folder));
    }
    super::check_folder(source, folder)?;
    // Locked until it has its name, so that two backups do not get the same number.
    let partial = Partial::create(&folder.join(UNFINISHED))?;
    let mut numbers = own_files(folder).map_err(at)?;
    if let Some((LAST_NUMBER, name)) = numbers.last() {
        let text = format!("{} has the last number, so that none is left; move it away", folder.join(name).display());
        return Err(ToolError::failed(text));
    }
    let number = numbers.last().map_or(1, |(last, _)| last + 1);
    let name = name(number, now_ms);
    super::check_is_new(&folder.join(&name))?;
    // Nobody else makes files of this number while the unfinished one is locked.
    let renamed = |from: &Path, to: &Path| fs::rename(from, to);
    let mut text = write(source, partial, &folder.join(&name), renamed).map_err(|error| explain(error, keep))?;
    numbers.push((number, name));
    let mut remarks = Vec::new();
    let surplus = keep.map_or(0, |keep| numbers.len().saturating_sub(keep));
    for (_, name) in &numbers[..surplus] {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            // Writing to a String does not fail.
            Ok(()) => drop(writeln!(text, "{}: removed", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => remarks.push(format!("cannot remove {}: {error}", path.display())),
        }
    }
    Ok(Made { text, remarks })
}

/// On a full disk the older backups stay, so there must be room for one more.
fn explain(error: ToolError, keep: Option<usize>) -> ToolError {
    match (error, keep) {
        (error, Some(keep)) if is_full(&error) => ToolError::failed(format!(
            "{error}; older backups are removed only after a new one is complete, so that there must be room for {}",
            keep.saturating_add(1)
        )),
        (error, _) => error,
    }
}

/// `orders-20260131T120000Z-7.db`.
fn name(number: u64, now_ms: u64) -> String {
    let (date, time) = UtcOffset::default().date_and_time(now_ms.cast_signed());
    format!("{PREFIX}{}T{}Z-{number}{SUFFIX}", date.replace('-', ""), time.replace(':', ""))
}

/// The number in the name of a backup; `None` for another name.
fn number(name: &str) -> Option<u64> {
    let (time, number) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (date, time_of_day) = time.strip_suffix('Z')?.split_once('T')?;
    let is_time = date.len() == 8 && time_of_day.len() == 6 && are_digits(date) && are_digits(time_of_day);
    // As it is written: without a sign, and without zeros before it.
    let is_plain = are_digits(number) && !number.starts_with('0');
    (is_time && is_plain).then(|| number.parse().ok().filter(|number| *number <= LAST_NUMBER))?
}

/// The backups that this command has made in the folder, by their numbers. A file that only has such a name, or that is
/// reached through a link, is none.
fn own_files(folder: &Path) -> io::Result<Vec<(u64, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(number) = number(&name) else { continue };
        if entry.file_type()?.is_file() && is_data_file(&entry.path()).unwrap_or(false) {
            files.push((number, name));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether the file begins like one of ours.
fn is_data_file(path: &Path) -> io::Result<bool> {
    let mut head = [0; APPLICATION_ID_AT + 4];
    File::open(path)?.read_exact(&mut head)?;
    Ok(head.starts_with(MAGIC) && head[APPLICATION_ID_AT..] == APPLICATION_ID.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_time_and_the_number_and_other_names_have_none() {
        let own = name(7, 1_769_860_800_999);
        assert_eq!(own, "orders-20260131T120000Z-7.db");
        assert_eq!(number(&own), Some(7));
        assert_eq!(number("orders-20260131T120000Z-999999999999999.db"), Some(999_999_999_999_999));
        assert_eq!(number("orders-20260131T120000Z-1000000000000000.db"), None);
        for other in [
            "orders-20260131T120000Z.db",
            "orders-20260131T120000Z-07.db",
            "orders-20260131T120000Z-0.db",
            "orders-20260131T120000Z-+7.db",
            "orders-20260131T120000Z-18446744073709551615.db",
            "orders-20260131T120000Z-7.db.ordercast-partial",
            "orders-20260131T120000Z-7.db-journal",
            "orders-2026013T1200000Z-7.db",
            "orders-20260131120000-7.db",
            "my-orders-20260131T120000Z-7.db",
            "orders-7.db",
            "orders.db",
            "",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
