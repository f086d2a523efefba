//! `ordercast export`: the log of orders on standard output. Owns the order of pages and CSV; lines of JSON are those of
//! `GET /log`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};

use super::source::Source;
use super::{ToolError, counted};
use crate::config::{Export, Format};
use crate::json;
use crate::store::StoreError;
use crate::store::order_log::{self, Entry};
use crate::store::schema::{self, describe_open};

/// Orders that are read at once: 1,000. Between two reads SQLite can tidy its log, however slowly the output is taken.
const PAGE: usize = 1_000;
const CSV_HEADER: &str = "seq,time,id,amount,total,key\r\n";

/// Writes all orders that the log holds now to `output`. Returns a remark if some that should be there are not.
///
/// A reader of the output who has seen enough and closes it ends the export, which is no error.
///
/// # Errors
/// When the log cannot be read or the output takes no more.
pub fn run(options: &Export, output: &mut impl Write) -> Result<Option<String>, ToolError> {
    match write_all(options, output) {
        Err(ToolError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(None),
        result => result,
    }
}

fn write_all(options: &Export, output: &mut impl Write) -> Result<Option<String>, ToolError> {
    let mut source = Source::open(&options.data)?;
    let path = source.path().to_owned();
    source.read(|connection| schema::check_is_used(connection, &path))??;
    let last = source.read(schema::last_seq)?.map_err(|error| describe_open(&path, &error))?;
    if options.format == Format::Csv {
        output.write_all(CSV_HEADER.as_bytes()).map_err(ToolError::Output)?;
    }
    let (mut after, mut missing) = (0, 0);
    let mut lines = String::new();
    // Orders that come while this goes on are not awaited: under load it might never end.
    while after < last {
        let page = source.read(|connection| order_log::page(connection, after, PAGE))?;
        let page = page.map_err(|error| StoreError::Unusable(unreadable(after, &describe_open(&path, &error))))?;
        if page.is_empty() {
            break;
        }
        lines.clear();
        for entry in page.iter().filter(|entry| entry.seq <= last) {
            // Before the first order that is left there is none to be missed.
            missing += if after == 0 { 0 } else { entry.seq - after - 1 };
            after = entry.seq;
            match options.format {
                Format::Ndjson => json::push_log_line(&mut lines, entry),
                Format::Csv => push_csv_line(&mut lines, entry),
            }
        }
        output.write_all(lines.as_bytes()).map_err(ToolError::Output)?;
        if page.last().is_some_and(|entry| entry.seq > last) {
            break;
        }
    }
    output.flush().map_err(ToolError::Output)?;
    Ok((missing > 0).then(|| {
        format!(
            "{} between the first and the last are not in the log: taken away meanwhile (--keep-orders) or lost \
             (`ordercast check` tells)",
            counted(missing, "order")
        )
    }))
}

fn unreadable(after: u64, error: &StoreError) -> String {
    match after {
        0 => error.to_string(),
        _ => format!("the log is printed up to order {after}, and not further: {error}"),
    }
}

/// Keys are written as they are, also those that a spreadsheet would take for a formula: an apostrophe before them would
/// change them for every program that compares keys. Whoever opens the file in a spreadsheet imports the column as text.
fn push_csv_line(lines: &mut String, Entry { seq, time, id, amount, total, key }: &Entry) {
    let (id, key) = (csv_field(id), csv_field(key.as_deref().unwrap_or_default()));
    // Writing to a string does not fail.
    let _ = write!(lines, "{seq},{time},{id},{amount},{total},{key}\r\n");
}

/// RFC 4180, section 2.
fn csv_field(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_where_it_must_be() {
        for (text, written) in
            [("A1", "A1"), ("", ""), ("a,b", "\"a,b\""), ("say \"x\"", "\"say \"\"x\"\"\""), ("=1", "=1")]
        {
            assert_eq!(csv_field(text), written);
        }
    }
}
