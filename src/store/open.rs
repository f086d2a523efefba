//! Connections to a data file, and the checks that a file must pass before anything is built on it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::schema::{APPLICATION_ID, VERSION};

/// How long a statement waits while another program, such as a SQLite shell, locks the file: 2 s, so that an order is
/// rejected long before its client gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a file for one thread.
pub fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Whether the file has no table.
pub fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get(0))
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
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| StoreError::opening(path, error))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::damaged(path, &found)) }
}
