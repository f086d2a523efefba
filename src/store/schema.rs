//! The tables of the data file: how they are made, migrated, and read when a server starts. Knows nothing of commits.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{StoreError, Stored};
use crate::tally::catalog::{CategoryIndex, Details};
use crate::tally::order::Total;
use crate::tally::period::Period;
use crate::tally::position::RunList;

/// Identifies the program of the file (SQLite's `application_id`): the letters `OrdC`.
pub const APPLICATION_ID: i32 = 0x4f72_6443;
/// The version of the present schema (SQLite's `user_version`): the number of migrations that a file has had.
pub const VERSION: i32 = MIGRATIONS.len() as i32;

/// The first version whose products may be behind the log.
pub const FIRST_WITH_MOVES: i32 = 7;

/// Puts the times of keys into the order of their use. A key whose time is later than that of a successor, because the
/// system's clock was ahead when it was used, gets the successor's time. A gap is where a key had expired, so the keys
/// before it had too.
const ORDER_KEYS: &str = "
    DELETE FROM keys WHERE n < (
        SELECT n FROM keys AS later WHERE NOT EXISTS (SELECT 1 FROM keys WHERE n = later.n - 1)
        ORDER BY n DESC LIMIT 1);
    UPDATE keys SET at_ms = ordered.at_ms
        FROM (SELECT n, min(at_ms) OVER (ORDER BY n DESC) AS at_ms FROM keys) AS ordered
        WHERE keys.n = ordered.n AND keys.at_ms > ordered.at_ms;
    ";

/// The first period, which begins with the log, or now if that is empty.
macro_rules! first_period {
    () => {
        "SELECT 1,
         coalesce((SELECT at_ms FROM orders ORDER BY seq LIMIT 1), CAST(1000 * unixepoch('subsec') AS INTEGER)),
         coalesce((SELECT min(seq) - 1 FROM orders), 0)"
    };
}

/// From an empty file to the present schema. Migrations are only ever added.
///
/// Row ids of categories and products start at 1 and follow the catalogue's indexes. Keys are numbered in the order of
/// their use and of their times, so that the oldest are found without another index; `product` 0 stands for several orders
/// in one request, whose digest is in `amount`. The keys of the last orders are not among them, but in the log, with the
/// time of their use in `key_ms`: those behind the order with the number `moved` in `meta`. The same orders are not in the
/// `total` and `ordered_ms` of their `products` either, but in the view `current_products`.
///
/// `opening` is a product's total when the current period was opened, or its starting total if it was added later;
/// `ordered_ms` the time of its last order; `added_seq` the number of its entry in the log that is no order. In the log of
/// an older file that entry cannot be told from an order. The last of the `periods` is the current one, a closed one
/// ends where the next begins, and its report is in `period_sums`, in rows that follow each other. `changes` is the
/// history of products and categories.
const MIGRATIONS: &[&str] = &[
    "
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
    ",
    "
    ALTER TABLE orders ADD COLUMN key TEXT;
    CREATE TABLE keys (
        n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, at_ms INTEGER NOT NULL, product INTEGER NOT NULL,
        amount INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES ('probe', '');
    ",
    "
    INSERT INTO meta SELECT 'runs', value || ':0' FROM meta WHERE key = 'file_id';
    DELETE FROM meta WHERE key IN ('file_id', 'copied');
    ",
    ORDER_KEYS,
    concat!(
        "
    ALTER TABLE categories ADD COLUMN title TEXT NOT NULL DEFAULT '';
    ALTER TABLE products ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE products ADD COLUMN opening INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE products ADD COLUMN ordered_ms INTEGER;
    ALTER TABLE products ADD COLUMN added_seq INTEGER;
    CREATE TABLE periods (
        number INTEGER PRIMARY KEY, opened_ms INTEGER NOT NULL, opened_after INTEGER NOT NULL) STRICT;
    CREATE TABLE period_sums (
        n INTEGER PRIMARY KEY, period INTEGER NOT NULL REFERENCES periods, product INTEGER NOT NULL REFERENCES products,
        amount INTEGER NOT NULL) STRICT;
    CREATE TABLE changes (n INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, line TEXT NOT NULL) STRICT;
    INSERT INTO periods ",
        first_period!(),
        ";
    UPDATE products SET opening = total;
    UPDATE products SET opening = first.opening FROM (
        SELECT product, total - amount AS opening, min(seq) FROM orders GROUP BY product) AS first
        WHERE first.product = products.row;
    UPDATE products SET ordered_ms = last.at_ms FROM (
        SELECT product, at_ms, max(seq) FROM orders WHERE amount <> 0 GROUP BY product) AS last
        WHERE last.product = products.row;
    "
    ),
    "
    ALTER TABLE orders ADD COLUMN key_ms INTEGER;
    ALTER TABLE keys RENAME TO indexed_keys;
    CREATE TABLE keys (
        n INTEGER PRIMARY KEY, key TEXT NOT NULL, at_ms INTEGER NOT NULL, product INTEGER NOT NULL,
        amount INTEGER NOT NULL) STRICT;
    INSERT INTO keys SELECT n, key, at_ms, product, amount FROM indexed_keys ORDER BY n;
    DROP TABLE indexed_keys;
    INSERT INTO meta SELECT 'keys_moved', coalesce(max(seq), 0) FROM orders;
    ",
    "
    UPDATE meta SET key = 'moved' WHERE key = 'keys_moved';
    CREATE VIEW current_products AS
        SELECT row, id, category, name, rrp, info, coalesce(last.total, products.total) AS total, hidden, opening,
            CASE WHEN last.seq IS NULL OR last.seq IS added_seq THEN ordered_ms ELSE last.at_ms END AS ordered_ms,
            added_seq
        FROM products LEFT JOIN (
            SELECT product, total, at_ms, max(seq) AS seq FROM orders
            WHERE seq > coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'moved'), 0)
            GROUP BY product) AS last
        ON last.product = row;
    ",
];

/// Applies the migrations that the file has not had, in one transaction: on an error the file is unchanged.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let missing = MIGRATIONS.get(version as usize..).unwrap_or_default();
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        write_version(&transaction)?;
    }
    transaction.commit()
}

/// Whether the file has no table.
pub fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get(0))
}

/// Writes the present schema's version into the file.
pub fn write_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", VERSION)
}

/// A random id for a run of a server.
fn new_run_id(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))
}

fn write_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, value]).map(drop)
}

fn read_meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// Writes the list of runs.
pub fn write_runs(connection: &Connection, runs: &RunList) -> rusqlite::Result<()> {
    write_meta(connection, "runs", &runs.text())
}

/// Records that the run with this id has stopped in order.
pub fn record_stop(connection: &Connection, run: &str) -> rusqlite::Result<()> {
    write_meta(connection, "stopped", run)
}

/// Whether the last run on the file has stopped in order. A new file and one of an older version have no such run.
pub fn was_stopped_in_order(connection: &Connection) -> rusqlite::Result<bool> {
    if is_empty(connection)? {
        return Ok(true);
    }
    let runs = RunList::parse(&read_meta(connection, "runs")?.unwrap_or_default());
    Ok(runs.last_id().is_some() && read_meta(connection, "stopped")?.as_deref() == runs.last_id())
}

/// The number of the last order whose key and total are in the tables of keys and of products.
pub fn moved_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let moved = read_meta(connection, "moved")?.and_then(|number| number.parse().ok()).unwrap_or(0);
    // An older version gave the numbers again after the log had lost all of its lines, and has moved none of them.
    Ok(if moved > last_seq(connection)? { 0 } else { moved })
}

/// Records that the keys and totals of all orders up to this number are in the tables of keys and of products.
pub fn write_moved_seq(connection: &Connection, seq: u64) -> rusqlite::Result<()> {
    write_meta(connection, "moved", &seq.to_string())
}

/// The time of the last key in the table of keys, in milliseconds since 1970 (UTC) on the keys' clock; 0 without keys. If
/// the first key is later, because another program has changed it, the keys are put in order.
pub fn last_key_ms(connection: &Connection) -> rusqlite::Result<u64> {
    let key_ms = |order| {
        let sql = format!("SELECT at_ms FROM keys ORDER BY n {order} LIMIT 1");
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).optional()
    };
    let (first, last) = (key_ms("ASC")?, key_ms("DESC")?);
    if first > last {
        connection.execute_batch(ORDER_KEYS)?;
    }
    Ok(last.unwrap_or(0).max(0).cast_unsigned())
}

/// Writes by how much the keys' clock is ahead of the system's.
pub fn write_keys_ahead(connection: &Connection, ahead_ms: u64) -> rusqlite::Result<()> {
    write_meta(connection, "keys_ahead", &ahead_ms.to_string())
}

/// By how much the keys' clock was ahead of the system's in the last run, in milliseconds.
pub fn keys_ahead(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(read_meta(connection, "keys_ahead")?.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Records that a product is shown again after the last order.
pub fn record_show(connection: &Connection) -> rusqlite::Result<()> {
    write_meta(connection, "shown_after", &last_seq(connection)?.to_string())
}

/// Records after which order a product was last shown again.
#[cfg(feature = "postgres")]
pub fn write_shown_after(connection: &Connection, seq: u64) -> rusqlite::Result<()> {
    write_meta(connection, "shown_after", &seq.to_string())
}

/// Marks the orders up to this number as saved from a damaged file: some may be missing among them.
pub fn mark_as_repaired(connection: &Connection, last_seq: u64) -> rusqlite::Result<()> {
    write_meta(connection, "repaired", &last_seq.to_string())
}

/// The number of the last order that was saved from a damaged file; 0 if the file was never repaired.
pub fn repaired_up_to(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(read_meta(connection, "repaired")?.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Reads everything but the order log, and begins a run.
///
/// # Errors
/// [`StoreError::Unusable`] when a rule of the catalogue or of the totals is broken, or SQLite cannot read a table.
pub fn load(connection: &Connection, path: &Path) -> Result<Stored, StoreError> {
    let describe = |error| StoreError::opening(path, error);
    let stored = read(connection).map_err(describe)?;
    let mut stored = stored.map_err(|broken_rule| StoreError::damaged(path, &broken_rule))?;
    stored.runs.begin(new_run_id(connection).map_err(describe)?, stored.last_seq);
    Ok(stored)
}

/// As [`load`], but a broken rule is the inner error.
pub fn read(connection: &Connection) -> rusqlite::Result<Result<Stored, String>> {
    // A file of an older schema is read by tools, and by a server that cannot write.
    let has = |column: &str| connection.prepare(&format!("SELECT {column}")).is_ok();
    let is_old = !has("title FROM categories");
    let mut stored = Stored::default();
    let title = if is_old { "''" } else { "title" };
    let mut statement =
        connection.prepare(&format!("SELECT row, name, prefix, {title} FROM categories ORDER BY row"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, prefix, title): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let added = stored.catalog.add_stored_category(&name, &prefix).and_then(|index| match title.as_str() {
            "" => Ok(index),
            title => stored.catalog.set_title(index, title).map(|()| index),
        });
        match added {
            Ok(index) if i64::from(index.0) + 1 == row.get::<_, i64>(0)? => {}
            Ok(_) => return Ok(Err("a category is missing".into())),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    let columns_and_table = if has("row FROM current_products") {
        "hidden, opening, ordered_ms, added_seq FROM current_products"
    } else if !is_old {
        "hidden, opening, ordered_ms, added_seq FROM products"
    } else {
        "0, coalesce(first.opening, total), NULL, NULL FROM products LEFT JOIN (
             SELECT product, total - amount AS opening, min(seq) FROM orders GROUP BY product) AS first
         ON first.product = products.row"
    };
    let sql = format!("SELECT row, id, category, name, rrp, info, total, {columns_and_table} ORDER BY row");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        let details = Details { name: row.get(3)?, rrp: row.get(4)?, info: row.get(5)? };
        let category: u32 = row.get(2)?;
        let (Some(total), Some(opening)) = (Total::new(row.get(6)?), Total::new(row.get(8)?)) else {
            return Ok(Err(format!("the total of {id} is out of range")));
        };
        if category < 1 || category as usize > stored.catalog.categories().len() {
            return Ok(Err(format!("{id} belongs to no category")));
        }
        let added = stored.catalog.add_product(CategoryIndex(category - 1), &id, details.clone());
        match added.and_then(|index| stored.catalog.change_product(index, details, row.get(7) == Ok(1)).map(|()| index))
        {
            Ok(index) if i64::from(index.0) + 1 == row.get::<_, i64>(0)? => {
                stored.totals.push(total);
                stored.openings.push(opening);
                let ordered_ms: Option<i64> = row.get(9)?;
                stored.ordered_ms.push(ordered_ms.map(|at_ms| at_ms.max(0).cast_unsigned()));
                stored.first_lines += u64::from(row.get::<_, Option<i64>>(10)?.is_some());
            }
            Ok(_) => return Ok(Err("a product is missing".into())),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    stored.last_seq = last_seq(connection)?;
    let Some(period) = current_period(connection, is_old)? else {
        return Ok(Err("the list of periods is empty".into()));
    };
    stored.period = period;
    stored.shown_after = read_meta(connection, "shown_after")?.and_then(|number| number.parse().ok());
    // A file of an older schema, which only the tools read, has no list of runs.
    stored.runs = RunList::parse(&read_meta(connection, "runs")?.unwrap_or_default());
    Ok(Ok(stored))
}

/// Whether the file's schema has periods.
pub fn has_periods(connection: &Connection) -> bool {
    connection.prepare("SELECT number FROM periods").is_ok()
}

/// `None` if the list is empty, which it never is in a sound file.
fn current_period(connection: &Connection, is_old: bool) -> rusqlite::Result<Option<Period>> {
    let sql = if is_old {
        first_period!()
    } else {
        "SELECT number, opened_ms, opened_after FROM periods ORDER BY number DESC LIMIT 1"
    };
    connection
        .query_row(sql, [], |row| {
            let column = |index| row.get::<_, i64>(index).map(|number| number.max(0).cast_unsigned());
            Ok(Period { number: column(0)?, opened_ms: column(1)?, opened_after: column(2)? })
        })
        .optional()
}

/// The number of the last order, 0 before the first. Where the log has no line any more, it is the last one that was moved.
pub fn last_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce((SELECT max(seq) FROM orders),
                   (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'moved'), 0)";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.max(0).cast_unsigned())
}

/// The number of the first order in the log; where it has none, that of the next one.
pub fn first_seq(connection: &Connection) -> rusqlite::Result<u64> {
    let first: Option<i64> = connection.query_row("SELECT min(seq) FROM orders", [], |row| row.get(0))?;
    first.map_or_else(|| last_seq(connection).map(|last| last + 1), |first| Ok(first.max(0).cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_version(connection: &Connection) -> i32 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn every_older_schema_is_migrated_with_its_orders() {
        for version in 0..=MIGRATIONS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            MIGRATIONS[..version].iter().for_each(|migration| connection.execute_batch(migration).unwrap());
            if version > 0 {
                connection
                    .execute_batch(
                        "INSERT INTO categories (row, name, prefix) VALUES (1, 'tools', 'T');
                         INSERT INTO products (row, id, category, name, rrp, info, total)
                             VALUES (1, 'T1', 1, 'Saw', '', '', 5);
                         INSERT INTO orders (seq, at_ms, product, amount, total) VALUES (1, 7, 1, 5, 5);",
                    )
                    .unwrap();
                let keys =
                    ["", "INSERT INTO keys (key, at_ms, product, amount) VALUES ('a', 7, 1, 5), ('b', 8, 0, -1)"];
                connection.execute_batch(keys[usize::from(version > 1)]).unwrap();
                connection.pragma_update(None, "user_version", version as i32).unwrap();
            }
            migrate(&mut connection).unwrap();
            assert_eq!(user_version(&connection), MIGRATIONS.len() as i32);
            let stored = load(&connection, Path::new("x")).unwrap();
            assert_eq!((stored.totals.len(), stored.last_seq), (version.min(1), version.min(1) as u64));
            assert_ne!(stored.runs, RunList::default(), "positions of earlier runs are valid");
            let keys = "SELECT group_concat(n || key || at_ms || product || amount) FROM keys ORDER BY n";
            let keys: Option<String> = connection.query_row(keys, [], |row| row.get(0)).unwrap();
            assert_eq!(keys.as_deref(), (version > 1).then_some("1a715,2b80-1"));
            let moved = if version < 6 { stored.last_seq } else { 0 };
            assert_eq!(moved_seq(&connection), Ok(moved), "no key is looked for in older orders");
            let indexes = "SELECT count(*) FROM sqlite_master WHERE name LIKE '%keys%'";
            assert_eq!(connection.query_row(indexes, [], |row| row.get(0)), Ok(1), "one table, without an index");
        }
    }

    #[test]
    fn the_first_period_begins_with_the_log_and_counts_no_starting_total() {
        for is_trimmed in [false, true] {
            let mut connection = Connection::open_in_memory().unwrap();
            MIGRATIONS[..4].iter().for_each(|migration| connection.execute_batch(migration).unwrap());
            connection.pragma_update(None, "user_version", 4).unwrap();
            // T1 has started with 3, T2 with 7 and T3, which was added later, with 0.
            connection
                .execute_batch(
                    "INSERT INTO categories VALUES (1, 'tools', 'T');
                     INSERT INTO products VALUES (1, 'T1', 1, 'Saw', '', '', 10), (2, 'T2', 1, 'Axe', '', '', 7),
                         (3, 'T3', 1, 'Awl', '', '', 0);
                     INSERT INTO orders (seq, at_ms, product, amount, total)
                         VALUES (1, 50, 1, 5, 8), (2, 60, 3, 0, 0), (3, 70, 1, 2, 10);",
                )
                .unwrap();
            if is_trimmed {
                connection.execute_batch("DELETE FROM orders WHERE seq < 2").unwrap();
            }
            let old = read(&connection).unwrap().unwrap();
            migrate(&mut connection).unwrap();
            let new = read(&connection).unwrap().unwrap();
            let openings = |stored: &Stored| stored.openings.iter().map(|total| total.get()).collect::<Vec<_>>();
            assert_eq!(openings(&new), if is_trimmed { [8, 7, 0] } else { [3, 7, 0] });
            assert_eq!(openings(&old), openings(&new), "a server that cannot write the file counts the same");
            assert_eq!(new.ordered_ms, [Some(70), None, None]);
            let (opened_ms, opened_after) = if is_trimmed { (60, 1) } else { (50, 0) };
            assert_eq!(new.period, Period { number: 1, opened_ms, opened_after });
            assert_eq!(old.period, new.period);
        }
    }

    #[test]
    fn the_keys_of_an_older_file_get_the_order_of_their_use_and_no_gaps() {
        let mut connection = Connection::open_in_memory().unwrap();
        MIGRATIONS[..3].iter().for_each(|migration| connection.execute_batch(migration).unwrap());
        connection.pragma_update(None, "user_version", 3).unwrap();
        // The clock was ahead for the second, third and last key; between the first and the second one had expired.
        connection
            .execute_batch(
                "INSERT INTO keys (n, key, at_ms, product, amount) VALUES
                 (1, 'a', 99, 1, 1), (3, 'b', 50, 1, 1), (4, 'c', 60, 1, 1), (5, 'd', 7, 0, 1), (6, 'e', 8, 1, 1),
                 (7, 'f', 90, 1, 1);",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        let mut statement = connection.prepare("SELECT n, key, at_ms FROM keys ORDER BY n").unwrap();
        let keys: Vec<(i64, String, i64)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let expected = [(3, "b", 7), (4, "c", 7), (5, "d", 7), (6, "e", 8), (7, "f", 90)];
        assert_eq!(keys, expected.map(|(n, key, at_ms)| (n, key.to_owned(), at_ms)));
    }
}
