//! `ordercast repair`: a fresh data file from what is readable of a damaged one. Owns what stands in for what is lost.
//!
//! The damaged folder is only read, and SQLite never opens its file. Lines of the log name products by the number of their
//! row, and so do keys; therefore every product keeps its number, and for a lost one another stands in:
//!
//! - its id is that of the index of ids, which is on other pages; if that is lost too, it is `recovered-` and the number;
//! - its total is the log's last one of it;
//! - its category is the one whose prefix the id has; if there is none, a new category `recovered`;
//! - its name is its id. The price and the description are lost.
//!
//! A lost category gets its name from an index in the same way, and its prefix from the ids of its products.

mod pages;
mod salvage;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use salvage::{ProductRow, Readable, Row};

use super::{ToolError, at, counted, data_file};
use crate::config::Repair;
use crate::store::StoreError;
use crate::store::files::{DATA_FILE, LOCK_FILE, folder_of, lock, sync_folder, with_suffix};
use crate::store::schema::{self, describe_open};
use crate::tally::catalog::{Catalog, CatalogError, CategoryIndex, Details, MAX_PRODUCTS};
use crate::tally::order::Total;
pub(super) use pages::MAGIC;
pub(super) use salvage::read as read_damaged;

/// Lines about single losses that are told: 50 of each kind.
const MAX_LINES: usize = 50;
/// Memory for the pages of the fresh file, whose rows come out of order: 64 MiB.
const CACHE_KIB: i64 = 64 * 1024;
/// How long before the last order keys of the log are taken for known, if no key says how far back they go: a day, for
/// which they are kept unless a server is told otherwise.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Saves what is readable. Returns what was saved and what was lost, in words.
///
/// # Errors
/// When a server holds the folder, the other folder has data already, or nothing is readable.
pub fn run(options: &Repair) -> Result<String, ToolError> {
    let Repair { data, output } = options;
    let damaged = data_file(data)?;
    let _held = keep_servers_out(folder_of(&damaged))?;
    refuse_used(output)?;
    fs::create_dir_all(output).map_err(|error| at(output, &error))?;
    let _held_too = lock(output)?;
    refuse_used(output)?;
    let file = output.join(DATA_FILE);
    let partial = with_suffix(&file, ".partial");
    let result = write_fresh(&damaged, &partial).and_then(|words| {
        let name = || {
            File::open(&partial)?.sync_all()?;
            fs::rename(&partial, &file)?;
            sync_folder(output)
        };
        name().map_err(|error| at(&file, &error))?;
        Ok(words)
    });
    if result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    let told = output.display();
    Ok(result? + &format!("wrote {}; start a server with --data {told} and compare its totals\n", file.display()))
}

/// Takes the folder's lock, so that no server changes the file meanwhile. Where nothing can be written, it is only looked
/// whether somebody has it.
fn keep_servers_out(folder: &Path) -> Result<Option<File>, ToolError> {
    match lock(folder) {
        Ok(held) => return Ok(Some(held)),
        Err(error @ StoreError::InUse(_)) => return Err(error.into()),
        Err(_) => {}
    }
    let path = folder.join(LOCK_FILE);
    let mut file = match OpenOptions::new().read(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&path, &error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let told = format!("{} is in use by process {holder}; stop that server", folder.display());
            Err(StoreError::InUse(told).into())
        }
        Err(TryLockError::Error(error)) => Err(at(&path, &error)),
    }
}

/// A log that another file has left would be read into the fresh one.
fn refuse_used(folder: &Path) -> Result<(), ToolError> {
    for suffix in ["", "-wal", "-journal", "-shm"] {
        let path = with_suffix(&folder.join(DATA_FILE), suffix);
        if path.symlink_metadata().is_ok() {
            return Err(ToolError::Refused(format!(
                "{} is there already; name an empty folder with --output",
                path.display()
            )));
        }
    }
    Ok(())
}

fn write_fresh(damaged: &Path, partial: &Path) -> Result<String, ToolError> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(partial, &error)),
        _ => {}
    }
    let describe = |error: rusqlite::Error| ToolError::from(describe_open(partial, &error));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut fresh = Connection::open_with_flags(partial, flags).map_err(describe)?;
    schema::bring_up_to_date(&mut fresh).map_err(describe)?;
    // Until it has its name, the file is worth nothing: so no journal, and no sync but one at the end. The log's lines come
    // before the products that they refer to.
    let pragmas = format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -{CACHE_KIB};
         CREATE TEMP TABLE saved_keys (key TEXT PRIMARY KEY, n, at_ms, product, amount) WITHOUT ROWID;"
    );
    fresh.execute_batch(&pragmas).map_err(describe)?;
    let transaction = fresh.transaction().map_err(describe)?;
    let readable = salvage::read(damaged, |row| insert(&transaction, &row).map_err(describe))?;
    if readable.is_empty() {
        let why = format!("nothing of a tally is readable in {}; restore a backup", damaged.display());
        return Err(ToolError::Refused(why));
    }
    let lasts = last_totals(&transaction).map_err(describe)?;
    let rebuilt = Rebuilt::new(&readable, &lasts).map_err(|error| ToolError::Refused(error.to_string()))?;
    rebuilt.write(&transaction).map_err(describe)?;
    let keys = write_keys(&transaction, rebuilt.totals.len()).map_err(describe)?;
    let last_seq = schema::last_seq(&transaction).map_err(describe)?;
    schema::mark_as_repaired(&transaction, last_seq).map_err(describe)?;
    transaction.commit().map_err(describe)?;
    let said: String = fresh.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(describe)?;
    schema::load(&fresh, partial)?;
    if said != "ok" {
        return Err(ToolError::Refused(format!("{} could not be written whole: {said}", partial.display())));
    }
    fresh.close().map_err(|(_, error)| describe(error))?;
    Ok(tell(&readable, &rebuilt, &lasts, keys))
}

fn insert(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<()> {
    // A row may come twice: of the log always the same, of the keys the last use counts.
    match row {
        Row::Order { seq, at_ms, product, amount, total, key } => connection
            .prepare_cached("INSERT OR IGNORE INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![seq, at_ms, product, amount, total, key])?,
        Row::Key { n, key, at_ms, product, amount } => connection
            .prepare_cached(
                "INSERT INTO saved_keys VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
                 n = excluded.n, at_ms = excluded.at_ms, product = excluded.product, amount = excluded.amount
                 WHERE excluded.n > n",
            )?
            .execute(params![key, n, at_ms, product, amount])?,
    };
    Ok(())
}

/// By product: the total after its last order in the log, and that order's number.
type LastTotals = HashMap<i64, (Total, i64)>;

fn last_totals(connection: &Connection) -> rusqlite::Result<LastTotals> {
    // SQLite takes the other columns from the row with the maximum.
    let mut statement = connection.prepare("SELECT product, total, max(seq) FROM orders GROUP BY product")?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, (Total::new(row.get(1)?).unwrap_or_default(), row.get(2)?))))?;
    rows.collect()
}

/// Writes the keys in the order of their use. A key that was lost is in the log too, if it was for one order; those of the
/// log that are younger than the oldest readable one were in use. Returns how many there are now.
fn write_keys(connection: &Connection, products: usize) -> rusqlite::Result<u64> {
    connection.execute(
        "INSERT OR IGNORE INTO saved_keys SELECT key, seq, at_ms, product, amount FROM orders
         WHERE key IS NOT NULL AND at_ms >= coalesce(
             (SELECT min(at_ms) FROM saved_keys), (SELECT max(at_ms) - ?1 FROM orders))
         ORDER BY seq DESC",
        [DAY_MS],
    )?;
    let written = connection.execute(
        "INSERT INTO keys (key, at_ms, product, amount) SELECT key, at_ms, product, amount FROM saved_keys
         WHERE product <= ?1 ORDER BY at_ms, n",
        [products as i64],
    )?;
    Ok(written as u64)
}

/// The catalogue and the totals of the fresh file.
struct Rebuilt {
    catalog: Catalog,
    totals: Vec<Total>,
    /// What stands in for what is lost.
    stand_ins: Vec<String>,
}

impl Rebuilt {
    fn new(readable: &Readable, lasts: &LastTotals) -> Result<Self, CatalogError> {
        let mut rebuilt = Self { catalog: Catalog::default(), totals: Vec::new(), stand_ins: Vec::new() };
        let of_products = readable.products.values().flatten().map(|product| product.category).max();
        let last = highest(&readable.categories).max(highest(&readable.category_names)).max(of_products);
        for row in 1..=last.unwrap_or(0) {
            rebuilt.add_category(readable, row)?;
        }
        let of_log = lasts.keys().copied().max();
        let last = highest(&readable.products).max(highest(&readable.product_ids)).max(of_log);
        for row in 1..=last.unwrap_or(0) {
            rebuilt.add_product(readable, lasts, row)?;
        }
        Ok(rebuilt)
    }

    fn add_category(&mut self, readable: &Readable, row: i64) -> Result<(), CatalogError> {
        if let Some((name, prefix)) = readable.categories.get(&row)
            && self.catalog.add_category(name, prefix).is_ok()
        {
            return Ok(());
        }
        let mut ids = readable.products.values().flatten().filter(|product| product.category == row);
        let prefix = ids.next().map(|product| product.id.trim_end_matches(|byte: char| byte.is_ascii_digit()));
        let names = readable.category_names.get(&row).cloned().into_iter().chain(stand_in_names(row));
        let added = names
            .flat_map(|name| [(name.clone(), prefix.unwrap_or("")), (name, "R")])
            .find_map(|(name, prefix)| self.catalog.add_category(&name, prefix).is_ok().then_some((name, prefix)));
        let (name, prefix) = added.ok_or_else(|| no_name_left("category", row))?;
        self.stand_ins.push(format!("category {row} was lost: {name} stands in, with the prefix {prefix} for new ids"));
        Ok(())
    }

    fn add_product(&mut self, readable: &Readable, lasts: &LastTotals, row: i64) -> Result<(), CatalogError> {
        let last = lasts.get(&row);
        if let Some(product) = readable.products.get(&row).and_then(|versions| in_use(versions, last)) {
            let ProductRow { id, category, texts: [name, rrp, info], total } = product.clone();
            let details = Details { name, rrp, info };
            // There are categories up to the highest number that a product has, and `salvage` bounds it.
            let category = CategoryIndex(u32::try_from(category - 1).unwrap_or(0));
            if self.catalog.add_product(category, &id, details).is_ok() {
                self.totals.push(total);
                return Ok(());
            }
        }
        let ids = readable.product_ids.get(&row).cloned().into_iter().chain(stand_in_names(row));
        let mut added = None;
        for id in ids {
            let category = self.category_for(&id)?;
            let details = Details { name: id.clone(), rrp: String::new(), info: String::new() };
            if self.catalog.add_product(category, &id, details).is_ok() {
                added = Some((id, category));
                break;
            }
        }
        let (id, category) = added.ok_or_else(|| no_name_left("product", row))?;
        let (total, source) = match last {
            Some((total, seq)) => (*total, format!("as order {seq} left it; later orders of it, if any, are lost")),
            None => (Total::default(), "because the log does not name it".to_owned()),
        };
        self.totals.push(total);
        self.stand_ins.push(format!(
            "product {row} was lost: {id} in {} stands in, without price and description, with the total {} {source}",
            self.catalog.category(category).name,
            total.get()
        ));
        Ok(())
    }

    /// The category whose new products get ids like this one.
    fn category_for(&mut self, id: &str) -> Result<CategoryIndex, CatalogError> {
        let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        let categories = self.catalog.categories().iter().enumerate();
        let fitting = categories.filter(|(_, it)| id.strip_prefix(it.prefix.as_str()).is_some_and(is_number));
        if let Some((place, _)) = fitting.max_by_key(|(_, it)| it.prefix.len()) {
            return Ok(CategoryIndex(place as u32));
        }
        match self.catalog.find_category("recovered") {
            Some(index) => Ok(index),
            None => self.catalog.add_category("recovered", "recovered-"),
        }
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        for (place, category) in self.catalog.categories().iter().enumerate() {
            connection.prepare_cached("INSERT INTO categories VALUES (?1, ?2, ?3)")?.execute(params![
                place as i64 + 1,
                category.name,
                category.prefix
            ])?;
        }
        for (place, (product, total)) in self.catalog.products().iter().zip(&self.totals).enumerate() {
            let Details { name, rrp, info } = &product.details;
            connection.prepare_cached("INSERT INTO products VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
                place as i64 + 1,
                product.id,
                product.category.0 + 1,
                name,
                rrp,
                info,
                total.get()
            ])?;
        }
        Ok(())
    }
}

fn highest<T>(rows: &std::collections::BTreeMap<i64, T>) -> Option<i64> {
    rows.last_key_value().map(|(row, _)| *row)
}

/// The version of a row that is in use: the only one, or the one that the log agrees with.
fn in_use<'a>(versions: &'a [ProductRow], last: Option<&(Total, i64)>) -> Option<&'a ProductRow> {
    let agrees = |product: &&ProductRow| last.is_some_and(|(total, _)| *total == product.total);
    versions.iter().find(agrees).or(versions.last())
}

fn stand_in_names(row: i64) -> impl Iterator<Item = String> {
    let further = (2..=MAX_PRODUCTS).map(move |other| format!("recovered-{row}-{other}"));
    std::iter::once(format!("recovered-{row}")).chain(further)
}

fn no_name_left(what: &str, row: i64) -> CatalogError {
    CatalogError::new(format!("nothing can stand in for {what} {row}, which was lost: the catalogue is full"))
}

fn tell(readable: &Readable, rebuilt: &Rebuilt, lasts: &LastTotals, keys: u64) -> String {
    let mut text = format!("read: {}\n", readable.words());
    let mut line = |line: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    };
    let mut tell_all = |lines: Vec<String>| {
        let unsaid = lines.len().saturating_sub(MAX_LINES);
        lines.into_iter().take(MAX_LINES).for_each(&mut line);
        if unsaid > 0 {
            line(format!("and {unsaid} more of these"));
        }
    };
    let is_damaged = readable.damaged_pages > 0 || readable.damaged_rows > 0;
    if is_damaged {
        let (pages, rows) = (u64::from(readable.damaged_pages), readable.damaged_rows);
        tell_all(vec![format!(
            "damaged: {} of {}, and {} elsewhere",
            counted(pages, "page"),
            readable.pages,
            counted(rows, "row")
        )]);
    }
    let gaps = readable.orders.windows(2).map(|pair| (pair[0].1 + 1, pair[1].0 - 1));
    tell_all(
        gaps.map(|(first, last)| {
            let lost = counted((last - first + 1).cast_unsigned(), "order");
            format!("lost: {lost} from {first} to {last}; the totals count them")
        })
        .collect(),
    );
    if let Some((first, _)) = readable.orders.first().filter(|(first, _)| *first > 1) {
        tell_all(vec![format!(
            "the log begins with order {first}: earlier ones were taken away (--keep-orders) or lost"
        )]);
    }
    tell_all(rebuilt.stand_ins.clone());
    let later =
        (rebuilt.catalog.products().iter().zip(&rebuilt.totals).zip(1..)).filter_map(|((product, total), row)| {
            let (last, seq) = lasts.get(&row)?;
            (last != total).then(|| {
                let (id, total) = (&product.id, total.get());
                format!("lost: the last orders of {id}, behind order {seq}; its total of {total} counts them")
            })
        });
    tell_all(later.collect());
    let products = counted(rebuilt.totals.len() as u64, "product");
    let categories = counted(rebuilt.catalog.categories().len() as u64, "category");
    let orders = counted(readable.order_count(), "order");
    let of_log = keys.saturating_sub(readable.keys);
    let of_log = if of_log > 0 { format!(" ({of_log} of them from the log)") } else { String::new() };
    let keys = counted(keys, "key");
    tell_all(vec![format!("saved: {categories}, {products} with their totals, {orders}, {keys}{of_log}")]);
    if is_damaged {
        tell_all(vec!["an order that is sent again under a key that was lost counts again".to_owned()]);
    }
    text
}
