//! Rewriting the write-ahead log (WAL) that a killed server has left.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::files::with_suffix;
use crate::store::{Reason, StoreError};

/// Bytes that are rewritten at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Writes the WAL again, as it is, and syncs it.
///
/// What a killed server wrote last is read back from the system's memory and need not be on the disk; and if a sync of
/// it has failed, the system regards it as written and no later sync would write it. Everything in the WAL is about to
/// be shown to clients, and later orders follow it there: without it they would be lost too.
pub(super) fn rewrite_wal(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let wal = with_suffix(path, "-wal");
    // Keeps other programs, such as a SQLite shell, from writing meanwhile.
    let _transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| StoreError::opening(path, error))?;
    match rewrite_and_sync(&wal) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::Failed(Reason::new(format!("cannot rewrite {}", wal.display()), error)))
        }
        _ => Ok(()),
    }
}

fn rewrite_and_sync(wal: &Path) -> io::Result<()> {
    let mut writer = OpenOptions::new().write(true).open(wal)?;
    match rewrite(&mut File::open(wal)?, &mut writer) {
        // A full disk may fail even this; what was written before can be synced all the same.
        Err(error) if !is_out_of_space(&error) => Err(error),
        _ => writer.sync_all(),
    }
}

/// Not `io::copy`, which may let the kernel share the blocks instead of writing them.
fn rewrite(reader: &mut File, writer: &mut File) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut bytes)? {
            0 => return Ok(()),
            length => writer.write_all(&bytes[..length])?,
        }
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}
