//! The store in one SQLite file. Owns the schema, the transaction and the lock that keeps a second server out; knows
//! nothing of threads, batches' origin or the network.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};

use super::{Change, Store, StoreError, Stored};
use crate::catalog::{CategoryIndex, Details};
use crate::order::Total;

/// The data file's name in the data folder.
pub const DATA_FILE: &str = "ordercast.sqlite3";
/// The lock file's name in the data folder; it holds the process id of the server that owns the folder.
pub const LOCK_FILE: &str = "ordercast.lock";
/// Marks the file as ours (SQLite's `application_id`): the letters `OrdC`.
const APPLICATION_ID: i32 = 0x4f72_6443;
/// The schema's version (SQLite's `user_version`).
const SCHEMA_VERSION: i32 = 1;
/// How long a commit waits while another program, such as a SQLite shell, holds the file: 2 s, so that an order is
/// refused long before its client gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Prepared statements kept: all that a commit uses, with room.
const STATEMENTS: usize = 8;

/// Row ids start at 1 and follow the places of the catalogue.
const SCHEMA: &str = "
    CREATE TABLE categories (
        row INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, prefix TEXT NOT NULL) STRICT;
    CREATE TABLE products (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, category INTEGER NOT NULL REFERENCES categories,
        name TEXT NOT NULL, rrp TEXT NOT NULL, info TEXT NOT NULL, total INTEGER NOT NULL) STRICT;
    CREATE TABLE orders (
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, product INTEGER NOT NULL REFERENCES products,
        amount INTEGER NOT NULL, total INTEGER NOT NULL) STRICT;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('file_id', lower(hex(randomblob(8))));
";

/// A data folder opened for one server.
pub struct SqliteStore {
    connection: Connection,
    /// Held for as long as the store lives; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl SqliteStore {
    /// Opens the data folder, making it and its file if they are not there, and reads what is stored.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server owns the folder; [`StoreError::Unusable`] when the file is damaged,
    /// of another program or of a newer version; otherwise what the disk refused.
    pub fn open(folder: &Path) -> Result<(Self, Stored), StoreError> {
        fs::create_dir_all(folder).map_err(|error| {
            StoreError::Unusable(format!("cannot make the data folder {}: {error}", folder.display()))
        })?;
        let lock = lock(folder)?;
        let path = folder.join(DATA_FILE);
        let describe = |error| describe_open(&path, &error);
        let mut connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(describe)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(describe)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        check_origin(&connection, &path)?;
        // FULL syncs the log at every commit; fullfsync asks the same of macOS, whose plain fsync does not reach the
        // disk. Both hold for this connection only, so they are set at every start.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")
            .map_err(describe)?;
        create_schema(&mut connection).map_err(describe)?;
        let stored = load(&connection, &path)?;
        // The names of the new files must survive a power cut too.
        sync_folder(folder).map_err(|error| StoreError::Refused(format!("{}: {error}", folder.display())))?;
        Ok((Self { connection, _lock: lock }, stored))
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        // Dropping the transaction on an early return rolls it back.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| describe_commit(&error))?;
        write_changes(&transaction, changes).map_err(|error| describe_commit(&error))?;
        transaction.commit().map_err(|error| describe_commit(&error))
    }
}

fn write_changes(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    let mut insert_order = transaction.prepare_cached("INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5)")?;
    // Only the last total of each product is written: its orders in one batch share one row update.
    let mut last_totals: Vec<(u32, Total)> = Vec::new();
    for change in changes {
        match change {
            Change::Category(category) => {
                transaction
                    .prepare_cached("INSERT INTO categories (name, prefix) VALUES (?1, ?2)")?
                    .execute(params![category.name, category.prefix])?;
            }
            Change::Product(product, total) => {
                let Details { name, rrp, info } = &product.details;
                transaction
                    .prepare_cached(
                        "INSERT INTO products (id, category, name, rrp, info, total) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![product.id, product.category.0 + 1, name, rrp, info, total.get()])?;
            }
            Change::Order { seq, at_ms, product, amount, total } => {
                insert_order.execute(params![
                    seq.cast_signed(),
                    at_ms.cast_signed(),
                    product.0 + 1,
                    amount.get(),
                    total.get()
                ])?;
                match last_totals.iter_mut().find(|(index, _)| *index == product.0) {
                    Some((_, last)) => *last = *total,
                    None => last_totals.push((product.0, *total)),
                }
            }
        }
    }
    let mut update_total = transaction.prepare_cached("UPDATE products SET total = ?2 WHERE row = ?1")?;
    for (product, total) in last_totals {
        update_total.execute(params![product + 1, total.get()])?;
    }
    Ok(())
}

/// Takes the folder's lock for this process and writes its id into it.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK_FILE);
    let unusable = |error| StoreError::Unusable(format!("cannot use the data folder: {}: {error}", path.display()));
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Longer than any process id; the text is only shown.
            let _ = (&file).take(20).read_to_string(&mut holder);
            return Err(StoreError::InUse(format!(
                "the data folder {} is in use by process {}; stop that server or choose another folder with --data",
                folder.display(),
                holder.trim()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(unusable)?;
    Ok(file)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Refuses a file of another program or of a newer version before anything is written to it.
fn check_origin(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let describe = |error| describe_open(path, &error);
    let pragma = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(describe)?;
    if tables == 0 {
        return Ok(());
    }
    if pragma("application_id").map_err(describe)? != APPLICATION_ID {
        return Err(StoreError::Unusable(format!(
            "{} is a SQLite file of another program; choose another folder with --data",
            path.display()
        )));
    }
    let version = pragma("user_version").map_err(describe)?;
    if version > SCHEMA_VERSION {
        return Err(StoreError::Unusable(format!(
            "{} was written by a newer ordercast (schema {version}, this one knows {SCHEMA_VERSION}); \
             run that version, or choose another folder with --data",
            path.display()
        )));
    }
    Ok(())
}

fn create_schema(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

fn load(connection: &Connection, path: &Path) -> Result<Stored, StoreError> {
    let damaged = |why: String| {
        StoreError::Unusable(format!(
            "{} is damaged: {why}; restore a backup of the file, or move it away to start anew",
            path.display()
        ))
    };
    let mut stored = Stored::default();
    let read = |stored: &mut Stored| -> rusqlite::Result<Result<(), String>> {
        let mut statement = connection.prepare("SELECT row, name, prefix FROM categories ORDER BY row")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, prefix): (String, String) = (row.get(1)?, row.get(2)?);
            match stored.catalog.add_category(&name, &prefix) {
                Ok(index) if i64::from(index.0) + 1 == row.get::<_, i64>(0)? => {}
                Ok(_) => return Ok(Err("a category is missing".into())),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let mut statement =
            connection.prepare("SELECT row, id, category, name, rrp, info, total FROM products ORDER BY row")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: String = row.get(1)?;
            let details = Details { name: row.get(3)?, rrp: row.get(4)?, info: row.get(5)? };
            let category: u32 = row.get(2)?;
            let Some(total) = Total::new(row.get(6)?) else {
                return Ok(Err(format!("the total of {id} is out of range")));
            };
            if category < 1 || category as usize > stored.catalog.categories().len() {
                return Ok(Err(format!("{id} belongs to no category")));
            }
            match stored.catalog.add_product(CategoryIndex(category - 1), &id, details) {
                Ok(index) if i64::from(index.0) + 1 == row.get::<_, i64>(0)? => stored.totals.push(total),
                Ok(_) => return Ok(Err("a product is missing".into())),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let last: Option<i64> = connection.query_row("SELECT max(seq) FROM orders", [], |row| row.get(0))?;
        stored.last_seq = last.unwrap_or(0).cast_unsigned();
        Ok(Ok(()))
    };
    match read(&mut stored) {
        Ok(Ok(())) => Ok(stored),
        Ok(Err(why)) => Err(damaged(why)),
        Err(error) => Err(describe_open(path, &error)),
    }
}

fn describe_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Unusable(format!(
            "{path} is damaged or no SQLite file ({error}); restore a backup of the file, or move it away to start anew"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Unusable(format!(
            "{path} is locked by another program ({error}); close that program and start again"
        )),
        Some(ErrorCode::DiskFull) => StoreError::Full(format!("{path}: {error}")),
        _ => StoreError::Unusable(format!("cannot open {path}: {error}")),
    }
}

fn describe_commit(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
        _ => StoreError::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, ProductIndex};
    use crate::order::Amount;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ordercast-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn seed() -> Vec<Change> {
        let mut catalog = Catalog::default();
        let tools = catalog.add_category("tools", "T").unwrap();
        let details = Details { name: "Saw".into(), rrp: "9.99".into(), info: String::new() };
        let saw = catalog.add_product(tools, "T1", details).unwrap();
        let mut category = catalog.category(tools).clone();
        category.products.clear();
        vec![Change::Category(category), Change::Product(catalog.product(saw).clone(), Total::new(3).unwrap())]
    }

    fn order(seq: u64, total: i64) -> Change {
        Change::Order {
            seq,
            at_ms: 1,
            product: ProductIndex(0),
            amount: Amount::new(1).unwrap(),
            total: Total::new(total).unwrap(),
        }
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again() {
        let folder = Folder::new("reopen");
        let (mut store, stored) = SqliteStore::open(&folder.0).unwrap();
        assert_eq!((stored.totals.len(), stored.last_seq), (0, 0));
        store.commit(&seed()).unwrap();
        store.commit(&[order(1, 4), order(2, 5)]).unwrap();
        drop(store);
        let (_store, stored) = SqliteStore::open(&folder.0).unwrap();
        assert_eq!(stored.totals, [Total::new(5).unwrap()]);
        assert_eq!(stored.last_seq, 2);
        assert_eq!(stored.catalog.product(ProductIndex(0)).id, "T1");
    }

    #[test]
    fn a_refused_batch_leaves_nothing_behind() {
        let folder = Folder::new("rollback");
        let (mut store, _) = SqliteStore::open(&folder.0).unwrap();
        store.commit(&seed()).unwrap();
        assert!(store.commit(&[order(1, 4), order(1, 5)]).is_err(), "a sequence number twice");
        store.commit(&[order(1, 6)]).unwrap();
        drop(store);
        let (_store, stored) = SqliteStore::open(&folder.0).unwrap();
        assert_eq!((stored.totals[0].get(), stored.last_seq), (6, 1));
    }

    #[test]
    fn a_second_store_on_the_folder_is_refused_with_the_holders_id() {
        let folder = Folder::new("second");
        let _store = SqliteStore::open(&folder.0).unwrap();
        let error = SqliteStore::open(&folder.0).err().unwrap();
        assert!(matches!(error, StoreError::InUse(_)));
        assert!(error.to_string().contains(&std::process::id().to_string()));
    }

    #[test]
    fn files_of_others_and_of_the_future_are_refused_untouched() {
        for (name, sql) in [("other", "CREATE TABLE t (x)"), ("newer", "PRAGMA user_version = 99")] {
            let folder = Folder::new(name);
            if name == "newer" {
                SqliteStore::open(&folder.0).unwrap();
            } else {
                fs::create_dir_all(&folder.0).unwrap();
            }
            Connection::open(folder.0.join(DATA_FILE)).unwrap().execute_batch(sql).unwrap();
            let error = SqliteStore::open(&folder.0).err().unwrap();
            assert!(matches!(error, StoreError::Unusable(_)), "{error}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused_with_what_to_do() {
        let folder = Folder::new("damaged");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join(DATA_FILE), "this is no database, however long it may be".repeat(100)).unwrap();
        let error = SqliteStore::open(&folder.0).err().unwrap();
        assert!(error.to_string().contains("restore a backup"), "{error}");
    }
}
