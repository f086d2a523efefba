//! The store in one SQLite file. Owns the transaction, what is kept for how long, and the lock that keeps a second server
//! out; knows nothing of threads, batches' origin or the network.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi, params};

use super::schema::{self, describe_open};
use super::{Change, KeyUse, Store, StoreError, Stored, now_ms};
use crate::catalog::{Details, ProductIndex};
use crate::log;
use crate::order::{Amount, Key, Total};

/// The data file's name in the data folder.
pub const DATA_FILE: &str = "ordercast.sqlite3";
/// The lock file's name in the data folder; it holds the process id of the server that owns the folder.
pub const LOCK_FILE: &str = "ordercast.lock";
/// How long a commit waits while another program, such as a SQLite shell, holds the file: 2 s, so that an order is
/// refused long before its client gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of SQLite's log is written again at a time, when a server starts after one that did not end in order.
const REWRITE_BYTES: usize = 64 * 1024;
/// Prepared statements kept: all that a commit uses, with room.
const STATEMENTS: usize = 16;
/// The most keys that are kept: beyond it the oldest are forgotten before their time. Some 200 MB of disk.
pub const MAX_KEYS: i64 = 1_000_000;
/// How many old rows a commit takes away at least, if there are so many; it takes twice as many as it adds, so that a limit
/// that has been lowered is reached in the end, and no commit takes long.
const PRUNED_AT_ONCE: u64 = 1_024;

/// What a data folder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// How long the key of an order is kept after its use.
    pub keys: Duration,
    /// How many orders the log keeps; `None` for all. Totals are not touched.
    pub orders: Option<u64>,
    /// How large the data file may grow, in bytes; `None` for as large as the disk allows.
    pub data_bytes: Option<u64>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self { keys: Duration::from_secs(24 * 60 * 60), orders: None, data_bytes: None }
    }
}

/// A data folder opened for one server.
pub struct SqliteStore {
    connection: Connection,
    keeping: Keeping,
    /// Whether a refused transaction may stand whole at the end of SQLite's log. See [`Self::settle`].
    in_doubt: bool,
    /// The number of the first order in the log; right only while old orders are taken away.
    first_seq: u64,
    /// The number of the last order.
    last_seq: u64,
    /// Held for as long as the store lives; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl SqliteStore {
    /// Opens the data folder, making it and its file if they are not there, and reads what is stored.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server owns the folder; [`StoreError::Unusable`] when the file is damaged,
    /// of another program or of a newer version; otherwise what the disk refused.
    pub fn open(folder: &Path, keeping: Keeping) -> Result<(Self, Stored), StoreError> {
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
        schema::check_origin(&connection, &path)?;
        // FULL syncs the log at every commit; fullfsync asks the same of macOS, whose plain fsync does not reach the
        // disk. Both hold for this connection only, so they are set at every start.
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")
            .map_err(describe)?;
        rewrite_log(&mut connection, &path)?;
        schema::check_pages(&connection, &path)?;
        schema::bring_up_to_date(&mut connection).map_err(describe)?;
        if let Some(bytes) = keeping.data_bytes {
            limit_size(&connection, bytes).map_err(describe)?;
        }
        let mut stored = schema::load(&connection, &path)?;
        stored.lineage.begin(schema::new_run_id(&connection).map_err(describe)?, stored.last_seq);
        if let Err(error) = schema::write_lineage(&connection, &stored.lineage) {
            // From a disk without room the totals can be read all the same.
            log::line(&format!(
                "the server's start could not be noted ({error}): after the next one, feeds begin anew"
            ));
        }
        let first: Option<i64> =
            connection.query_row("SELECT min(seq) FROM orders", [], |row| row.get(0)).map_err(describe)?;
        let first_seq = first.unwrap_or(1).cast_unsigned();
        // The names of the new files must survive a power cut too.
        sync_folder(folder).map_err(|error| StoreError::Refused(format!("{}: {error}", folder.display())))?;
        let last_seq = stored.last_seq;
        Ok((Self { connection, keeping, in_doubt: false, first_seq, last_seq, _lock: lock }, stored))
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        // Until this succeeds nothing is written, so what is refused here is refused for good.
        if self.in_doubt {
            self.settle().map_err(|error| describe_commit(&error))?;
        }
        let prepared = prepare(&mut self.connection, &self.keeping, (self.first_seq, self.last_seq), changes);
        let (transaction, first_kept) = prepared.map_err(|error| describe_commit(&error))?;
        let Err(error) = transaction.commit() else {
            self.first_seq = first_kept;
            self.last_seq = Coming::of(changes, self.last_seq).last_seq;
            return Ok(());
        };
        self.in_doubt = true;
        if self.settle().is_ok() || stopped_before_its_end(&error) {
            return Err(describe_commit(&error));
        }
        Err(StoreError::Unknown(error.to_string()))
    }

    fn find_key(&mut self, key: &Key, now_ms: u64) -> Result<Option<KeyUse>, StoreError> {
        let oldest_ms = oldest_key_ms(&self.keeping, now_ms);
        let find = || {
            let mut statement =
                self.connection.prepare_cached("SELECT product, amount FROM keys WHERE key = ?1 AND at_ms >= ?2")?;
            let found = statement.query_row(params![key.as_str(), oldest_ms], |row| Ok((row.get(0)?, row.get(1)?)));
            found.optional()
        };
        let found: Option<(u32, i64)> = find().map_err(|error| describe_commit(&error))?;
        Ok(found.and_then(|(product, amount)| match product {
            0 => Some(KeyUse::Batch(amount)),
            row => Amount::new(amount).map(|amount| KeyUse::Order(ProductIndex(row - 1), amount)),
        }))
    }
}

impl SqliteStore {
    /// Makes sure that a transaction whose commit has failed never counts.
    ///
    /// After a failed sync the transaction may stand whole in SQLite's log: this connection knows that it is void, but
    /// whoever opens the file after a crash would take it for committed. SQLite writes the next transaction to the very
    /// place where the failed one begins, and each frame's checksum goes over all that are before it. So one that changes
    /// nothing, once it is synced, buries what stood there. Setting the version always writes a page, even to what it is;
    /// an `UPDATE` that changes nothing would not.
    fn settle(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::write_version(&transaction)?;
        transaction.commit()?;
        self.in_doubt = false;
        Ok(())
    }
}

/// A transaction with these changes, ready to be committed, and the number of the first order that it leaves in the log.
/// Dropping it rolls it back.
fn prepare<'a>(
    connection: &'a mut Connection,
    keeping: &Keeping,
    (first_seq, last_seq): (u64, u64),
    changes: &[Change],
) -> rusqlite::Result<(Transaction<'a>, u64)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Before anything is added, so that a file that has reached its cap has room for it.
    let first_kept = prune(&transaction, keeping, first_seq, &Coming::of(changes, last_seq))?;
    write_changes(&transaction, changes)?;
    Ok((transaction, first_kept))
}

/// Whether a commit failed while it was written: the log lacks the frame that would make it count. After a failed sync,
/// and whatever else comes last, that frame may be there.
fn stopped_before_its_end(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_WRITE)
}

/// Writes the log that another server has left once more, as it stands, and syncs it.
///
/// What a killed server wrote last is read back from the system's memory and need not be on the disk; and if a sync of it
/// has failed, the system takes it for written and no later sync would write it. Everything that is read from the log would
/// be shown, and later orders would stand behind it in the log: without it they would be lost too.
fn rewrite_log(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // Keeps a SQLite shell from writing meanwhile.
    let _transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| describe_open(path, &error))?;
    let rewrite = |file: &mut File| -> io::Result<()> {
        let mut bytes = vec![0; REWRITE_BYTES];
        let mut place = 0;
        loop {
            let length = file.read(&mut bytes)?;
            if length == 0 {
                return Ok(());
            }
            file.seek(SeekFrom::Start(place))?;
            file.write_all(&bytes[..length])?;
            place += length as u64;
        }
    };
    let result = match OpenOptions::new().read(true).write(true).open(&log) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(mut file) => match rewrite(&mut file) {
            // A disk without room may refuse even this; what was written before can be synced all the same.
            Err(error) if !lacks_room(&error) => Err(error),
            _ => file.sync_all(),
        },
    };
    result.map_err(|error| StoreError::Refused(format!("{}: {error}", log.display())))
}

fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// What a transaction is about to add.
#[derive(Default)]
struct Coming {
    orders: u64,
    last_seq: u64,
    keys: u64,
    now_ms: u64,
    /// Nothing, to find out whether something could be.
    is_probe: bool,
}

impl Coming {
    fn of(changes: &[Change], last_seq: u64) -> Self {
        let mut coming = Self { last_seq, is_probe: changes.is_empty(), now_ms: now_ms(), ..Self::default() };
        for change in changes {
            match change {
                Change::Order { seq, at_ms, key, .. } => {
                    (coming.orders, coming.last_seq, coming.now_ms) = (coming.orders + 1, *seq, *at_ms);
                    coming.keys += u64::from(key.is_some());
                }
                Change::BatchKey { at_ms, .. } => (coming.keys, coming.now_ms) = (coming.keys + 1, *at_ms),
                Change::Category(_) | Change::Product(..) => {}
            }
        }
        coming
    }
}

fn write_changes(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    if changes.is_empty() {
        // Two pages' worth, taken back at once: a file that has reached its cap would take what needs no page.
        transaction.execute_batch(
            "UPDATE meta SET value = hex(zeroblob(4096)) WHERE key = 'probe';
             UPDATE meta SET value = lower(hex(randomblob(4))) WHERE key = 'probe';",
        )?;
    }
    // Only the last total of each product is written: its orders in one batch share one row update.
    let mut last_totals: Vec<(u32, Total)> = Vec::new();
    let keep_key = |key: &Key, at_ms: u64, product: u32, amount: i64| {
        let sql = "INSERT OR REPLACE INTO keys (key, at_ms, product, amount) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = transaction.prepare_cached(sql)?;
        insert.execute(params![key.as_str(), at_ms.cast_signed(), product, amount])
    };
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
            Change::Order { seq, at_ms, product, amount, total, key } => {
                transaction.prepare_cached("INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                    seq.cast_signed(),
                    at_ms.cast_signed(),
                    product.0 + 1,
                    amount.get(),
                    total.get(),
                    key.as_ref().map(Key::as_str)
                ])?;
                match last_totals.iter_mut().find(|(index, _)| *index == product.0) {
                    Some((_, last)) => *last = *total,
                    None => last_totals.push((product.0, *total)),
                }
                if let Some(key) = key {
                    keep_key(key, *at_ms, product.0 + 1, amount.get())?;
                }
            }
            Change::BatchKey { key, at_ms, digest } => {
                keep_key(key, *at_ms, 0, *digest)?;
            }
        }
    }
    let mut update_total = transaction.prepare_cached("UPDATE products SET total = ?2 WHERE row = ?1")?;
    for (product, total) in last_totals {
        update_total.execute(params![product + 1, total.get()])?;
    }
    Ok(())
}

/// Takes away what need not be kept any more, a little at a time. Returns the number of the first order that is left.
fn prune(transaction: &Transaction<'_>, keeping: &Keeping, first_seq: u64, coming: &Coming) -> rusqlite::Result<u64> {
    let at_most = |added: u64| PRUNED_AT_ONCE.max(2 * added);
    if coming.keys > 0 || coming.is_probe {
        let oldest_ms = oldest_key_ms(keeping, coming.now_ms);
        transaction
            .prepare_cached(
                "DELETE FROM keys WHERE n IN (
                     SELECT n FROM (SELECT n, at_ms FROM keys ORDER BY n LIMIT ?2) WHERE at_ms < ?1)",
            )?
            .execute(params![oldest_ms, at_most(coming.keys).cast_signed()])?;
        transaction
            .prepare_cached("DELETE FROM keys WHERE n <= (SELECT max(n) FROM keys) - ?1")?
            .execute(params![MAX_KEYS])?;
    }
    let Some(kept) = keeping.orders.filter(|_| coming.orders > 0 || coming.is_probe) else { return Ok(first_seq) };
    let first_kept = (coming.last_seq + 1).saturating_sub(kept).min(first_seq + at_most(coming.orders));
    if first_kept <= first_seq {
        return Ok(first_seq);
    }
    let mut delete = transaction.prepare_cached("DELETE FROM orders WHERE seq < ?1")?;
    delete.execute(params![first_kept.cast_signed()])?;
    Ok(first_kept)
}

/// Keys from before this moment, in milliseconds since 1970, are no longer known.
fn oldest_key_ms(keeping: &Keeping, now_ms: u64) -> i64 {
    now_ms.saturating_sub(keeping.keys.as_millis() as u64).cast_signed()
}

/// Lets the data file grow to so many bytes and no more. A file that is larger already stays as it is.
fn limit_size(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = (bytes / page_bytes.cast_unsigned().max(1)).clamp(1, u64::from(u32::MAX) - 1);
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

/// Takes the folder's lock for this process and writes its id into it.
///
/// # Errors
/// [`StoreError::InUse`] when another process holds it.
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
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

/// Makes the names of files in it survive a power cut.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
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
    use crate::catalog::Catalog;

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
            key: None,
        }
    }

    fn keyed(seq: u64, at_ms: u64, key: &str) -> Change {
        let (product, amount) = (ProductIndex(0), Amount::new(1).unwrap());
        let key = Key::new(key);
        Change::Order { seq, at_ms, product, amount, total: Total::new(3 + seq as i64).unwrap(), key }
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again() {
        let folder = Folder::new("reopen");
        let (mut store, stored) = SqliteStore::open(&folder.0, Keeping::default()).unwrap();
        assert_eq!((stored.totals.len(), stored.last_seq), (0, 0));
        store.commit(&seed()).unwrap();
        store.commit(&[order(1, 4), order(2, 5)]).unwrap();
        drop(store);
        let (_store, stored) = SqliteStore::open(&folder.0, Keeping::default()).unwrap();
        assert_eq!(stored.totals, [Total::new(5).unwrap()]);
        assert_eq!(stored.last_seq, 2);
        assert_eq!(stored.catalog.product(ProductIndex(0)).id, "T1");
    }

    #[test]
    fn a_refused_batch_leaves_nothing_behind() {
        let folder = Folder::new("rollback");
        let (mut store, _) = SqliteStore::open(&folder.0, Keeping::default()).unwrap();
        store.commit(&seed()).unwrap();
        assert!(store.commit(&[order(1, 4), order(1, 5)]).is_err(), "a sequence number twice");
        store.commit(&[order(1, 6)]).unwrap();
        drop(store);
        let (_store, stored) = SqliteStore::open(&folder.0, Keeping::default()).unwrap();
        assert_eq!((stored.totals[0].get(), stored.last_seq), (6, 1));
    }

    #[test]
    fn a_key_is_known_until_its_time_is_over_and_may_then_be_used_anew() {
        let folder = Folder::new("keys");
        let keeping = Keeping { keys: Duration::from_secs(1), ..Keeping::default() };
        let (mut store, _) = SqliteStore::open(&folder.0, keeping).unwrap();
        store.commit(&seed()).unwrap();
        let key = Key::new("a").unwrap();
        assert_eq!(store.find_key(&key, 5_000).unwrap(), None);
        store.commit(&[keyed(1, 5_000, "a"), keyed(2, 5_000, "b")]).unwrap();
        let used = Some(KeyUse::Order(ProductIndex(0), Amount::new(1).unwrap()));
        assert_eq!(store.find_key(&key, 6_000).unwrap(), used);
        assert_eq!(store.find_key(&key, 6_001).unwrap(), None);
        store.commit(&[keyed(3, 7_000, "a")]).unwrap();
        assert_eq!(store.find_key(&key, 7_500).unwrap(), used);
        let kept: i64 = store.connection.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 1, "what nobody asks for again is taken away all the same");
        let batch = Change::BatchKey { key: Key::new("c").unwrap(), at_ms: 7_000, digest: -9 };
        store.commit(&[batch]).unwrap();
        assert_eq!(store.find_key(&Key::new("c").unwrap(), 7_000).unwrap(), Some(KeyUse::Batch(-9)));
    }

    #[test]
    fn the_log_keeps_the_last_orders_and_totals_keep_all() {
        let folder = Folder::new("pruned");
        let (mut store, _) = SqliteStore::open(&folder.0, Keeping::default()).unwrap();
        store.commit(&seed()).unwrap();
        let orders: Vec<Change> = (1..=1_000).map(|seq| order(seq, 3 + seq as i64)).collect();
        store.commit(&orders).unwrap();
        drop(store);
        let keeping = Keeping { orders: Some(10), ..Keeping::default() };
        let (mut store, _) = SqliteStore::open(&folder.0, keeping).unwrap();
        for seq in 1_001..=1_010 {
            store.commit(&[order(seq, 3 + seq as i64)]).unwrap();
        }
        let bounds = store.connection.query_row("SELECT min(seq), max(seq) FROM orders", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        assert_eq!(bounds.unwrap(), (1_001, 1_010));
        drop(store);
        assert_eq!(SqliteStore::open(&folder.0, keeping).unwrap().1.totals[0].get(), 1_013);
    }

    #[test]
    fn a_full_file_refuses_and_takes_orders_again_when_it_may_grow() {
        let folder = Folder::new("capped");
        let keeping = Keeping { data_bytes: Some(64 * 1024), ..Keeping::default() };
        let (mut store, _) = SqliteStore::open(&folder.0, keeping).unwrap();
        store.commit(&seed()).unwrap();
        let mut taken = 0;
        let error = loop {
            match store.commit(&[order(taken + 1, 4 + taken as i64)]) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
            assert!(taken < 10_000);
        };
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        assert!(store.commit(&[]).is_err(), "a probe finds out too");
        drop(store);
        // Old orders make room before new ones need it.
        let pruned = Keeping { orders: Some(10), ..keeping };
        let (mut store, stored) = SqliteStore::open(&folder.0, pruned).unwrap();
        assert_eq!((stored.last_seq, stored.totals[0].get()), (taken, 3 + taken as i64));
        store.commit(&[]).unwrap();
        for number in 1..=50 {
            store.commit(&[order(taken + number, 3 + (taken + number) as i64)]).unwrap();
        }
    }

    #[test]
    fn a_second_store_on_the_folder_is_refused_with_the_holders_id() {
        let folder = Folder::new("second");
        let _store = SqliteStore::open(&folder.0, Keeping::default()).unwrap();
        let error = SqliteStore::open(&folder.0, Keeping::default()).err().unwrap();
        assert!(matches!(error, StoreError::InUse(_)));
        assert!(error.to_string().contains(&std::process::id().to_string()));
    }

    #[test]
    fn files_of_others_and_of_the_future_are_refused_untouched() {
        for (name, sql) in [("other", "CREATE TABLE t (x)"), ("newer", "PRAGMA user_version = 99")] {
            let folder = Folder::new(name);
            if name == "newer" {
                SqliteStore::open(&folder.0, Keeping::default()).unwrap();
            } else {
                fs::create_dir_all(&folder.0).unwrap();
            }
            Connection::open(folder.0.join(DATA_FILE)).unwrap().execute_batch(sql).unwrap();
            let error = SqliteStore::open(&folder.0, Keeping::default()).err().unwrap();
            assert!(matches!(error, StoreError::Unusable(_)), "{error}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused_with_what_to_do() {
        let folder = Folder::new("damaged");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join(DATA_FILE), "this is no database, however long it may be".repeat(100)).unwrap();
        let error = SqliteStore::open(&folder.0, Keeping::default()).err().unwrap();
        assert!(error.to_string().contains("restore a backup"), "{error}");
    }
}
