//! Connections to a data file, and the checks that a file must pass before anything is built on it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::StoreError;
use super::schema::{APPLICATION_ID, VERSION, is_empty};

/// How long a statement waits while another program, such as a SQLite shell, locks the file: 2 s, so that an order is
/// rejected long before its client gives up.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that the write-ahead log keeps when it begins again: 4 MiB, what SQLite lets it grow to before it moves its
/// pages into the data file. Beyond that it grows only while a reader holds it.
pub const LOG_BYTES: u32 = 4 * 1024 * 1024;

/// Opens a file for one thread.
pub fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Opens a file that nobody writes, and that has no write-ahead log, for reading: without locks, and without the files
/// that SQLite makes beside it.
pub fn connect_immutable(path: &Path) -> rusqlite::Result<Connection> {
    connect(&immutable_uri(path), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// The URI of an immutable file (<https://sqlite.org/uri.html>).
fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(byte.into()),
            // Writing to a string does not fail.
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

/// Rejects a file of another program or of a newer version before anything is written to it. An empty file passes.
pub fn check_origin(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let describe = |error| StoreError::opening(path, error);
    if is_empty(connection).map_err(describe)? {
        return Ok(());
    }
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(describe);
    if pragma("application_id")? != APPLICATION_ID {
        let path = path.display();
        let text = format!("{path} is a SQLite file of another program; choose another folder with --data");
        return Err(StoreError::Unusable(text.into()));
    }
    check_version(pragma("user_version")?, path)
}

/// As [`check_origin`]; rejects an empty file too.
pub fn check_is_used(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    check_origin(connection, path)?;
    if is_empty(connection).map_err(|error| StoreError::opening(path, error))? {
        let text = format!("{} is empty: no table is in it; restore a backup", path.display());
        return Err(StoreError::Unusable(text.into()));
    }
    Ok(())
}

/// Rejects a file of a newer version.
pub fn check_version(version: i32, path: &Path) -> Result<(), StoreError> {
    if (0..=VERSION).contains(&version) {
        return Ok(());
    }
    let text = format!(
        "{} was written by a newer ordercast (schema {version}, this one knows {VERSION}); run that version, or choose \
         another folder with --data",
        path.display()
    );
    Err(StoreError::Unusable(text.into()))
}

/// Rejects a file whose pages, rows and indexes are inconsistent. Reads the whole file: some hundred megabytes a
/// second.
pub fn check_pages(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let findings = integrity_findings(connection, 1).map_err(|error| StoreError::opening(path, error))?;
    findings.first().map_or(Ok(()), |found| Err(StoreError::damaged(path, found)))
}

/// What SQLite's check of all pages, rows and indexes finds, at most `limit` lines.
///
/// # Errors
/// When a page cannot be read.
pub fn integrity_findings(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({limit})"))?;
    let mut rows = statement.query([])?;
    let mut findings = Vec::new();
    while let Some(row) = rows.next()? {
        let found: String = row.get(0)?;
        // SQLite begins with the name of the database, of which there is one.
        for line in found.lines().filter(|line| *line != "ok" && !line.starts_with("*** in database ")) {
            match read_error(line) {
                Some(error) if !is_damage(&error) => return Err(error),
                _ => findings.push(line.to_owned()),
            }
        }
    }
    Ok(findings)
}

/// The error in a line of the check that says that a page could not be read.
fn read_error(line: &str) -> Option<rusqlite::Error> {
    let (_, code) = line.split_once("unable to get the page. error code=")?;
    Some(rusqlite::Error::SqliteFailure(ffi::Error::new(code.trim().parse().ok()?), None))
}

/// Whether an error says that the content is wrong, and not that it cannot be read now, as on a full disk.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => {
            matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // A value of another type than the schema says.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_read_is_no_damage() {
        for (line, is_read_error, is_wrong) in [
            ("Tree 5 page 7: unable to get the page. error code=10", true, false),
            ("Tree 5 page 7: unable to get the page. error code=522", true, false),
            ("Tree 5 page 7: unable to get the page. error code=11", true, true),
            ("row 3 missing from index sqlite_autoindex_keys_1", false, false),
        ] {
            let error = read_error(line);
            assert_eq!(
                (error.is_some(), error.is_some_and(|error| is_damage(&error))),
                (is_read_error, is_wrong),
                "{line}"
            );
        }
    }
}
