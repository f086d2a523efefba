//! What is readable of a data file, in whatever state it is. Owns how rows of ours are told from one another by their
//! shape, and what makes a row believable; knows nothing of where they go.
//!
//! Every page of rows is read for itself, so a row is lost only with the page that holds it. The shapes of our tables
//! differ, so that a page tells its table even if nothing else does.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rusqlite::Connection;

use super::super::{ToolError, at, counted};
use super::pages::{Kind, Page, Pages, Value};
use crate::store::schema;
use crate::tally::catalog::MAX_PRODUCTS;
use crate::tally::order::{Amount, Key, MAX_TOTAL, Total};

/// Where SQLite keeps a page that holds nothing, for its locks: the one with this byte.
const LOCK_BYTE: u64 = 0x4000_0000;

/// A row that comes in any number.
pub enum Row<'a> {
    /// A line of the log.
    Order {
        /// Its sequence number.
        seq: i64,
        /// When it was taken, in milliseconds since 1970 (UTC).
        at_ms: i64,
        /// The product's row.
        product: i64,
        /// How many.
        amount: i64,
        /// The product's total after it.
        total: i64,
        /// What the client called it.
        key: Option<&'a str>,
    },
    /// A key in use.
    Key {
        /// Which use of a key it was.
        n: i64,
        /// The key.
        key: &'a str,
        /// When it was used.
        at_ms: i64,
        /// The product's row, or 0 for several orders.
        product: i64,
        /// The amount, or what tells the several orders from others.
        amount: i64,
    },
}

/// A row of the products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// The id that orders name.
    pub id: String,
    /// The category's row.
    pub category: i64,
    /// Name, price and description.
    pub texts: [String; 3],
    /// The total.
    pub total: Total,
}

/// What there is beside the rows that come in any number.
#[derive(Default)]
pub struct Readable {
    /// Pages of the file.
    pub pages: u32,
    /// Pages of which nothing can be told.
    pub damaged_pages: u32,
    /// Rows on readable pages that are none of ours, or not believable.
    pub damaged_rows: u64,
    /// Categories by row: name and prefix.
    pub categories: BTreeMap<i64, (String, String)>,
    /// Products by row. Several versions of one only when it is not known which pages are in use.
    pub products: BTreeMap<i64, Vec<ProductRow>>,
    /// The names of categories, as their index knows them.
    pub category_names: BTreeMap<i64, String>,
    /// The ids of products, as their index knows them.
    pub product_ids: BTreeMap<i64, String>,
    /// First and last numbers of orders without a gap, in their order.
    pub orders: Vec<(i64, i64)>,
    /// Keys in use.
    pub keys: u64,
}

impl Readable {
    /// How many orders.
    pub fn order_count(&self) -> u64 {
        self.orders.iter().map(|(first, last)| (last - first + 1).cast_unsigned()).sum()
    }

    /// Whether there is anything at all.
    pub fn is_empty(&self) -> bool {
        self.categories.is_empty() && self.products.is_empty() && self.orders.is_empty()
    }

    /// What there is, in words.
    pub fn words(&self) -> String {
        let orders = match (self.orders.first(), self.orders.last()) {
            (Some((first, _)), Some((_, last))) => {
                format!("{} (of the numbers {first} to {last})", counted(self.order_count(), "order"))
            }
            _ => "no orders".to_owned(),
        };
        format!(
            "{}, {}, {orders}, {}",
            counted(self.categories.len() as u64, "category"),
            counted(self.products.len() as u64, "product"),
            counted(self.keys, "key")
        )
    }
}

/// Reads all that is readable; hands orders and keys to `take` as they come, in any order, and perhaps twice.
///
/// # Errors
/// When the file cannot be opened or was written by a newer version, and what `take` says.
pub fn read(path: &Path, mut take: impl FnMut(Row<'_>) -> Result<(), ToolError>) -> Result<Readable, ToolError> {
    let mut pages = Pages::open(path).map_err(|error| at(path, &error))?;
    if let Some((application, version)) = pages.application()
        && application == schema::APPLICATION_ID
    {
        schema::check_version(version, path)?;
    }
    let free = pages.free();
    let mut indexes = Indexes::default();
    let mut readable = Readable { pages: pages.count(), ..Readable::default() };
    for number in 1..=pages.count() {
        if free.as_ref().is_some_and(|free| free.contains(&number)) || pages.offset(number) == LOCK_BYTE {
            continue;
        }
        let bytes = pages.read(number);
        match Page::parse(&bytes, number) {
            None => readable.damaged_pages += 1,
            Some(page) if page.kind == Kind::TableLeaf => {
                for record in page.records() {
                    match record {
                        Some((row, values)) if readable.sort(row, &values, &mut indexes, &mut take)? => {}
                        _ => readable.damaged_rows += 1,
                    }
                }
            }
            Some(_) => {}
        }
    }
    readable.orders = without_overlaps(std::mem::take(&mut readable.orders));
    readable.read_indexes(&mut pages, &indexes);
    Ok(readable)
}

/// The roots of two indexes, if the schema could be read.
#[derive(Default)]
struct Indexes {
    categories: Option<u32>,
    products: Option<u32>,
}

const CATEGORY_INDEX: &str = "sqlite_autoindex_categories_1";
const PRODUCT_INDEX: &str = "sqlite_autoindex_products_1";

impl Readable {
    /// Puts a row where it belongs. Returns whether it is one of ours.
    fn sort(
        &mut self,
        row: i64,
        values: &[Value<'_>],
        indexes: &mut Indexes,
        take: &mut impl FnMut(Row<'_>) -> Result<(), ToolError>,
    ) -> Result<bool, ToolError> {
        use Value::{Int, Null, Text};
        let is_place = |number: i64| (1..=MAX_PRODUCTS as i64).contains(&number);
        let is_time = |at_ms: i64| at_ms >= 0;
        match *values {
            [Null, Text(name), Text(prefix)] if is_place(row) => {
                self.categories.insert(row, (name.to_owned(), prefix.to_owned()));
            }
            [Null, Text(id), Int(category), Text(name), Text(rrp), Text(info), Int(total)]
                if is_place(row) && is_place(category) =>
            {
                let Some(total) = Total::new(total) else { return Ok(false) };
                let product =
                    ProductRow { id: id.to_owned(), category, texts: [name, rrp, info].map(str::to_owned), total };
                let versions = self.products.entry(row).or_default();
                if !versions.contains(&product) {
                    versions.push(product);
                }
            }
            [Null, Int(at_ms), Int(product), Int(amount), Int(total), ref key @ ..]
                if row > 0 && is_time(at_ms) && is_place(product) =>
            {
                let key = match *key {
                    [] | [Null] => None,
                    [Text(key)] if Key::new(key).is_some() => Some(key),
                    _ => return Ok(false),
                };
                if Amount::new(amount).is_none() || Total::new(total).is_none() {
                    return Ok(false);
                }
                take(Row::Order { seq: row, at_ms, product, amount, total, key })?;
                match self.orders.last_mut() {
                    Some((_, last)) if *last + 1 == row => *last = row,
                    _ => self.orders.push((row, row)),
                }
            }
            [Null, Text(key), Int(at_ms), Int(product), Int(amount)]
                if is_time(at_ms) && (0..=MAX_PRODUCTS as i64).contains(&product) && Key::new(key).is_some() =>
            {
                // What tells several orders from others may be any number.
                if product > 0 && amount.unsigned_abs() > MAX_TOTAL.unsigned_abs() {
                    return Ok(false);
                }
                take(Row::Key { n: row, key, at_ms, product, amount })?;
                self.keys += 1;
            }
            [Text(kind), Text(name), Text(_), Int(root), Null | Text(_)] => {
                let root = u32::try_from(root).ok().filter(|_| kind == "index");
                match name {
                    CATEGORY_INDEX => indexes.categories = root,
                    PRODUCT_INDEX => indexes.products = root,
                    _ => {}
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Ids and names are in indexes too, on pages of their own. Their entries look like those of other indexes; so an index
    /// counts only if it says the same as all rows that are readable.
    fn read_indexes(&mut self, pages: &mut Pages, indexes: &Indexes) {
        let usual = usual_indexes();
        let is_sure = |root: Option<u32>| root.is_some();
        let names = pages.index_entries(indexes.categories.or(usual.categories).unwrap_or(0));
        let known = |row: i64| self.categories.get(&row).map(|(name, _)| name.as_str());
        let names = believable(names, is_sure(indexes.categories), known);
        let ids = pages.index_entries(indexes.products.or(usual.products).unwrap_or(0));
        let known = |row: i64| match self.products.get(&row).map(Vec::as_slice) {
            Some([version]) => Some(version.id.as_str()),
            _ => None,
        };
        let ids = believable(ids, is_sure(indexes.products), known);
        (self.category_names, self.product_ids) = (names, ids);
    }
}

/// Where the indexes of a file begin that this version has made.
fn usual_indexes() -> Indexes {
    let root = |connection: &Connection, name: &str| {
        let sql = "SELECT rootpage FROM sqlite_master WHERE name = ?1";
        connection.query_row(sql, [name], |row| row.get(0)).ok()
    };
    let Ok(mut connection) = Connection::open_in_memory() else { return Indexes::default() };
    if schema::bring_up_to_date(&mut connection).is_err() {
        return Indexes::default();
    }
    Indexes { categories: root(&connection, CATEGORY_INDEX), products: root(&connection, PRODUCT_INDEX) }
}

fn believable<'a>(
    entries: Vec<(String, i64)>,
    is_sure: bool,
    known: impl Fn(i64) -> Option<&'a str>,
) -> BTreeMap<i64, String> {
    let contradicts = |(text, row): &(String, i64)| known(*row).is_some_and(|known| known != text);
    let confirms = |(text, row): &(String, i64)| known(*row) == Some(text);
    if entries.iter().any(contradicts) || !(is_sure || entries.iter().any(confirms)) {
        return BTreeMap::new();
    }
    let is_place = |row: i64| (1..=MAX_PRODUCTS as i64).contains(&row);
    let (mut seen, mut names) = (HashSet::new(), BTreeMap::new());
    for (text, row) in entries.into_iter().filter(|(_, row)| is_place(*row)) {
        if seen.insert(text.clone()) {
            names.insert(row, text);
        }
    }
    names
}

fn without_overlaps(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined() {
        assert_eq!(without_overlaps(vec![(5, 9), (1, 2), (3, 4), (7, 8), (12, 12)]), [(1, 9), (12, 12)]);
    }

    #[test]
    fn an_index_that_contradicts_a_row_says_nothing() {
        let entries = || vec![("A1".to_owned(), 1), ("A2".to_owned(), 2)];
        let known = |id: &'static str| move |row| (row == 1).then_some(id);
        assert_eq!(believable(entries(), false, known("A1")).len(), 2);
        assert_eq!(believable(entries(), true, known("B1")).len(), 0);
        assert_eq!(believable(entries(), false, |_| None).len(), 0);
        assert_eq!(believable(entries(), true, |_| None).len(), 2);
    }
}
