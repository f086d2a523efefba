//! `ordercast export`: the order log on standard output, as CSV or as the lines of `GET /log`.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};

use super::source::Source;
use super::{ToolError, counted};
use crate::config::{Export, ExportFormat};
use crate::json;
use crate::store::order_log::{self, Entry};
#[cfg(feature = "postgres")]
use crate::store::order_log::{Filter, LogSource};
#[cfg(feature = "postgres")]
use crate::store::postgres::PgLogReader;
use crate::store::{Reason, StoreError, open, schema};

/// Orders in one read. Between two reads SQLite can truncate its write-ahead log, however slow the output is.
const EXPORT_BATCH: usize = 1_000;
const CSV_HEADER: &str = "seq,time,id,amount,total,key\r\n";

/// Writes all orders that are in the log at the start to `output`. Returns a warning if some between them are missing.
///
/// It is no error when the reader of the output closes it early, as `head` does.
///
/// # Errors
/// When the log cannot be read or the output cannot be written.
pub fn run(options: &Export, output: &mut impl Write) -> Result<Option<String>, ToolError> {
    match write_all(options, output) {
        Err(ToolError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(None),
        result => result,
    }
}

fn write_all(options: &Export, output: &mut impl Write) -> Result<Option<String>, ToolError> {
    #[cfg(feature = "postgres")]
    if let Some(store) = &options.store {
        let mut log = PgLogReader::new(store.clone());
        let last = log.last_seq()?;
        let page = |after| Ok(log.page(after, EXPORT_BATCH, &Filter::default(), EXPORT_BATCH as u64)?.entries);
        let missing = write_pages(options, output, last, page)?;
        return Ok((missing > 0).then(|| {
            let missing = counted(missing, "order");
            format!("{missing} between the first and the last are not in the log: deleted during the export, or lost")
        }));
    }
    let mut source = Source::open(&options.data)?;
    let path = source.path().to_owned();
    source.read(|connection| open::check_is_used(connection, &path))??;
    let last = source.read(schema::last_seq)?.map_err(|error| StoreError::opening(&path, error))?;
    let page = |after| {
        let entries = source.read(|connection| order_log::page(connection, after, EXPORT_BATCH))?;
        entries.map_err(|error| StoreError::opening(&path, error))
    };
    let missing = write_pages(options, output, last, page)?;
    Ok((missing > 0).then(|| {
        format!(
            "{} between the first and the last are not in the log: deleted during the export (--keep-orders) or lost \
             (see `ordercast check`)",
            counted(missing, "order")
        )
    }))
}

/// Writes the log up to the entry `last`, from pages of [`EXPORT_BATCH`] entries after a number. Returns how many are
/// missing between the first and the last.
fn write_pages(
    options: &Export,
    output: &mut impl Write,
    last: u64,
    mut page: impl FnMut(u64) -> Result<Vec<Entry>, StoreError>,
) -> Result<u64, ToolError> {
    if options.format == ExportFormat::Csv {
        output.write_all(CSV_HEADER.as_bytes()).map_err(ToolError::Output)?;
    }
    let (mut after, mut missing) = (0, 0);
    let mut lines = String::new();
    // Orders that are added meanwhile are left out: under load the export might never end.
    while after < last {
        let entries = page(after).map_err(|error| unreadable(after, error))?;
        if entries.is_empty() {
            break;
        }
        lines.clear();
        for entry in entries.iter().filter(|entry| entry.seq <= last) {
            // Orders before the first entry were deleted (`--keep-orders`) and are not missing.
            missing += if after == 0 { 0 } else { entry.seq - after - 1 };
            after = entry.seq;
            match options.format {
                ExportFormat::Ndjson => json::push_log_line(&mut lines, entry),
                ExportFormat::Csv => push_csv_line(&mut lines, entry),
            }
        }
        output.write_all(lines.as_bytes()).map_err(ToolError::Output)?;
        if entries.last().is_some_and(|entry| entry.seq > last) {
            break;
        }
    }
    output.flush().map_err(ToolError::Output)?;
    Ok(missing)
}

fn unreadable(after: u64, error: StoreError) -> ToolError {
    match after {
        0 => error.into(),
        _ => ToolError::Failed(Reason::new(format!("the log is printed up to order {after}, and not further"), error)),
    }
}

/// Keys are written as they are, also those that a spreadsheet would interpret as a formula: an apostrophe before them
/// would change them for every program that compares keys. In a spreadsheet, import the column as text.
fn push_csv_line(lines: &mut String, Entry { seq, time, id, amount, total, key }: &Entry) {
    let (id, key) = (json::csv_field(id), json::csv_field(key.as_deref().unwrap_or_default()));
    // Writing to a string does not fail.
    let _ = write!(lines, "{seq},{time},{id},{amount},{total},{key}\r\n");
}
