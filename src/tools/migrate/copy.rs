//! `ordercast migrate --from --to`: copies everything from a data folder into a database, or back. The destination is empty
//! until the copy is complete, read again and compared: in a database it is one transaction, in a folder a file that gets
//! its name at the end.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::Done;
use crate::config::Place;
use crate::store::files::{data_file, folder_of, has_content, lock, lock_to_read, sync_folder, with_suffix};
use crate::store::postgres::Target;
use crate::store::schema::{self, VERSION};
use crate::store::transfer::{Copied, PgTables, SqliteTables, Table, copy};
use crate::store::{StoreError, open};
use crate::tools::check;
use crate::tools::copy::{Partial, WITHOUT_WAL};
use crate::tools::source::Source;
use crate::tools::{ToolError, counted, existing_data_file};

/// Copies from one place to the other.
///
/// # Errors
/// When the source is in use, damaged or cannot be read, or the destination is not empty or cannot be written. The
/// destination is empty then.
pub(super) fn run(from: &Place, to: &Place) -> Result<Done, ToolError> {
    let (copied, mut remarks) = match (from, to) {
        (Place::Folder(from), Place::Database(to)) => from_folder(from, to)?,
        (Place::Database(from), Place::Folder(to)) => to_folder(from, to)?,
        (Place::Database(from), Place::Database(to)) => {
            let (mut source, remarks) = read_database(from)?;
            let mut destination = PgTables::fill(to)?;
            let copied = copy(&mut source, &mut destination)?;
            destination.complete()?;
            (copied, remarks)
        }
        // The options exclude it.
        (Place::Folder(_), Place::Folder(_)) => return Err(ToolError::failed("copy a folder with `ordercast backup`")),
    };
    remarks.push(match to {
        Place::Database(_) => {
            "how much is kept is not copied: set it with `ordercast migrate --store URL`, --keep-keys, --max-keys and \
             --keep-orders before servers start"
                .to_owned()
        }
        Place::Folder(_) => {
            "how much is kept is not copied: give the server --keep-keys, --max-keys and --keep-orders \
                             as the database has them"
                .to_owned()
        }
    });
    Ok(Done { text: describe(&copied, to), remarks })
}

/// Says what was copied.
fn describe(copied: &Copied, to: &Place) -> String {
    let of = |table, noun| counted(copied.of(table).rows, noun);
    let numbers = copied.log.map_or(String::new(), |(first, last)| format!(", numbers {first} to {last}"));
    let place = match to {
        Place::Folder(folder) => folder.display().to_string(),
        Place::Database(target) => target.to_string(),
    };
    format!(
        "{place}: {} and {} with totals of {} in all, {} of the log{numbers} and amounts of {} in all, {}, {} and {} of their \
         reports with {} in all, {} of the history; read again and equal\n",
        of(Table::Categories, "category"),
        of(Table::Products, "product"),
        copied.of(Table::Products).amounts,
        of(Table::Orders, "line"),
        copied.of(Table::Orders).amounts,
        of(Table::Keys, "key"),
        of(Table::Periods, "period"),
        of(Table::PeriodSums, "line"),
        copied.of(Table::PeriodSums).amounts,
        of(Table::Changes, "line"),
    )
}

/// From a folder that no server uses. It is only read.
fn from_folder(from: &Path, to: &Target) -> Result<(Copied, Vec<String>), ToolError> {
    if data_file(from).is_ok_and(|path| !path.exists() && !has_content(&with_suffix(&path, "-wal"))) {
        let text = format!("{} has no data file; name the folder of a server's data with --from", from.display());
        return Err(ToolError::failed(text));
    }
    let path = existing_data_file(from)?;
    // Until the end: what a server took meanwhile would be missing.
    let _lock = lock_to_read(folder_of(&path))?;
    let mut source = Source::open_file(path.clone())?;
    // Before the database is touched.
    let repaired = source.read(|connection| examine(connection, &path))??;
    let mut destination = PgTables::fill(to)?;
    let mut has_begun = false;
    let copied = source.read(|connection| {
        if std::mem::replace(&mut has_begun, true) {
            let text = format!("{} was changed by another program while it was copied; copy it again", path.display());
            return Err(ToolError::failed(text));
        }
        let transaction = connection.unchecked_transaction().map_err(|error| StoreError::opening(&path, error))?;
        Ok(copy(&mut SqliteTables::new(&transaction), &mut destination)?)
    })??;
    destination.complete()?;
    let remark = format!(
        "orders up to {repaired} were saved from a damaged file; some may be missing, which the database does not record"
    );
    Ok((copied, if repaired > 0 { vec![remark] } else { Vec::new() }))
}

/// Checks that a file is sound and of the present schema. Returns the number of the last order that was saved from a
/// damaged file.
fn examine(connection: &Connection, path: &Path) -> Result<u64, ToolError> {
    open::check_is_used(connection, path)?;
    let describe = |error| StoreError::opening(path, error);
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(describe)?;
    if version < VERSION {
        return Err(ToolError::failed(format!(
            "{} has schema {version}, and {VERSION} is needed: start a server of this version on the folder once, and stop \
             it; that updates the file",
            path.display()
        )));
    }
    let findings = check::examine(connection, path)?;
    if let Some(damage) = findings.damage.first() {
        return Err(ToolError::failed(format!(
            "{} is damaged ({damage}), so it is not copied; restore a backup, or see with `ordercast check` how much is \
             readable and let `ordercast repair` write a new file from it",
            path.display()
        )));
    }
    Ok(schema::repaired_up_to(connection).map_err(describe)?)
}

/// A database as it is now, and what to know of it.
fn read_database(from: &Target) -> Result<(PgTables, Vec<String>), ToolError> {
    let (source, others) = PgTables::of(from)?;
    let remark = || {
        format!(
            "{} to the database while it was copied: if servers run, the copy lacks the orders that they have taken since",
            if others == 1 {
                "there was 1 other connection".to_owned()
            } else {
                format!("there were {others} other connections")
            }
        )
    };
    Ok((source, if others > 0 { vec![remark()] } else { Vec::new() }))
}

/// Into a folder without a data file.
fn to_folder(from: &Target, folder: &Path) -> Result<(Copied, Vec<String>), ToolError> {
    let at = |error| ToolError::at(folder, error);
    check_is_empty(folder)?;
    // Before the folder is made.
    let (mut source, remarks) = read_database(from)?;
    let is_new = !folder.exists();
    fs::create_dir_all(folder).map_err(at)?;
    if is_new && let Ok(folder) = std::path::absolute(folder) {
        // Its own name, before anything in it counts. Others may have made the folder where this user cannot read.
        sync_folder(folder_of(&folder)).map_err(at)?;
    }
    let lock = lock(folder)?;
    // A server may have used it meanwhile.
    let path = check_is_empty(folder)?;
    let mut partial = Partial::create(&path)?;
    let copied = {
        partial.file().set_len(0).map_err(at)?;
        let mut connection = connect(partial.path())?;
        let mut destination = SqliteTables::make(&mut connection)?;
        let copied = copy(&mut source, &mut destination)?;
        destination.complete()?;
        copied
    };
    partial.finish_or(WITHOUT_WAL, |damage| {
        format!("{from} is not consistent ({damage}), so its copy would be of no use; stop all servers and restore a backup of it")
    })?;
    give_away(&[&lock, partial.file()], folder)?;
    fs::rename(partial.path(), &path).map_err(at)?;
    partial.complete();
    sync_folder(folder).map_err(at)?;
    Ok((copied, remarks))
}

/// Returns the path that the data file will have.
fn check_is_empty(folder: &Path) -> Result<std::path::PathBuf, ToolError> {
    let path = data_file(folder)?;
    if path.symlink_metadata().is_ok() || with_suffix(&path, "-wal").symlink_metadata().is_ok() {
        let text = format!("{} has a data file, so nothing is copied into it; name another folder", folder.display());
        return Err(ToolError::failed(text));
    }
    Ok(path)
}

/// An unfinished file needs neither a journal nor a sync: it is synced once, before it gets its name.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let describe = |error| StoreError::opening(path, error);
    let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(describe)?;
    let settings = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE";
    connection.execute_batch(settings).map_err(describe)?;
    Ok(connection)
}

/// Gives files to the owner of their folder: as root, for a server that runs as another user.
fn give_away(files: &[&File], folder: &Path) -> Result<(), ToolError> {
    let at = |error| ToolError::at(folder, error);
    let owner = folder.metadata().map_err(at)?;
    for file in files {
        let own = file.metadata().map_err(at)?;
        if own.uid() != owner.uid() && own.uid() == 0 {
            fchown(file, Some(owner.uid()), Some(owner.gid())).map_err(at)?;
        }
    }
    Ok(())
}
