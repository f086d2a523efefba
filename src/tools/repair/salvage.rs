//! Reads the rows of a damaged data file. Owns how rows are matched to our tables by their columns, and which rows are
//! valid; knows nothing of where they are written.
//!
//! Every leaf page is read by itself, so a row is lost only with the page that holds it. The column types of our tables
//! differ, so that each row shows its table.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{ToolError, counted};
use super::indexes::{Indexes, is_catalog_row};
use super::page::{Kind, Page, Value};
use super::pages::Pages;
use super::periods::{MAX_LINES, MAX_PERIODS};
use super::sequence::{Losses, MAX_NUMBER, doubtful, retain_true};
use crate::store::files::unusable;
use crate::store::{open, schema};
use crate::tally::catalog::MAX_PRODUCTS;
use crate::tally::order::{Amount, Key, MAX_TOTAL, Total};

/// SQLite uses the page at this offset for locks and stores nothing in it.
const LOCK_BYTE: u64 = 0x4000_0000;

/// The columns of a product in the schemas before it was known whether it is hidden.
const FIRST_PRODUCT_COLUMNS: usize = 7;

/// A row of a table without a bound on its rows.
pub enum Row<'a> {
    /// An entry of the order log.
    Order {
        /// The sequence number.
        seq: i64,
        /// The time of the order, in milliseconds since 1970 (UTC).
        at_ms: i64,
        /// The product's row id.
        product: i64,
        /// The amount, in pieces.
        amount: i64,
        /// The product's total after this order, in pieces.
        total: i64,
        /// The client's key.
        key: Option<&'a str>,
        /// The time of the key's use on the keys' clock, in milliseconds since 1970 (UTC), where it is known.
        key_ms: Option<i64>,
    },
    /// A key.
    Key {
        /// The number of its use.
        n: i64,
        /// The key.
        key: &'a str,
        /// The time of its use, in milliseconds since 1970 (UTC).
        at_ms: i64,
        /// The product's row id, or 0 for several orders in one request.
        product: i64,
        /// The amount, or the digest of the several orders.
        amount: i64,
    },
    /// A period.
    Period {
        /// Its number.
        number: i64,
        /// When it was opened, in milliseconds since 1970 (UTC).
        opened_ms: i64,
        /// The last sequence number before it.
        opened_after: i64,
    },
    /// A line of the report of a closed period.
    PeriodSum {
        /// The number of the line over all reports.
        n: i64,
        /// The period's number.
        period: i64,
        /// The product's row id.
        product: i64,
        /// The sum of the period's amounts.
        amount: i64,
    },
    /// A change of a product or a category.
    Change {
        /// Its number.
        n: i64,
        /// Its time, in milliseconds since 1970 (UTC).
        at_ms: i64,
        /// What was changed, as JSON.
        line: &'a str,
    },
}

/// A row of the table of products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// The id that orders name.
    pub id: String,
    /// The category's row id.
    pub category: i64,
    /// Name, price and description.
    pub texts: [String; 3],
    /// The total.
    pub total: Total,
    /// What later schemas have added; `None` in a row that an older one has written.
    pub state: Option<ProductState>,
}

/// The columns of a product that are neither texts nor its total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductState {
    /// Whether it is hidden.
    pub is_hidden: bool,
    /// Its total when the current period was opened, or its starting total.
    pub opening: Total,
    /// The time of its last order, in milliseconds since 1970 (UTC).
    pub ordered_ms: Option<i64>,
    /// The number of its entry in the order log that is no order.
    pub added_seq: Option<i64>,
}

/// What is readable of a data file, without the rows of orders and keys.
#[derive(Default)]
pub struct Readable {
    /// The number of pages of the file.
    pub pages: u32,
    /// The number of pages without a valid header.
    pub damaged_pages: u32,
    /// The number of rows on readable pages that match no table of ours, or are invalid.
    pub damaged_rows: u64,
    /// Name, prefix and title of categories by row id. The title is empty where none is stored.
    pub categories: BTreeMap<i64, (String, String, String)>,
    /// Products by row id. There are several versions of one only when the list of free pages is damaged.
    pub products: BTreeMap<i64, Vec<ProductRow>>,
    /// The names of categories by row id, from their index.
    pub category_names: BTreeMap<i64, String>,
    /// The ids of products by row id, from their index.
    pub product_ids: BTreeMap<i64, String>,
    /// The first and last numbers of runs of orders without a gap, in ascending order.
    pub orders: Vec<(i64, i64)>,
    /// The number of keys.
    pub keys: u64,
    /// The number of the last order that the rows of products have; `None` if it cannot be read.
    pub moved_seq: Option<i64>,
    /// The number of the last order that an earlier repair has saved; 0 if there was none, or it cannot be read.
    repaired: i64,
}

impl Readable {
    /// The number of orders.
    pub fn order_count(&self) -> u64 {
        self.orders.iter().map(|(first, last)| (last - first + 1).cast_unsigned()).sum()
    }

    /// Whether nothing is readable.
    pub fn is_empty(&self) -> bool {
        self.categories.is_empty() && self.products.is_empty() && self.orders.is_empty()
    }

    /// A line about what is readable.
    pub fn summary(&self) -> String {
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

/// Reads all that is readable. Calls `on_row` for each order and key, in any order, and perhaps twice for one.
///
/// # Errors
/// When the file cannot be opened or was written by a newer version, and those of `on_row`.
pub fn read(path: &Path, mut on_row: impl FnMut(Row<'_>) -> Result<(), ToolError>) -> Result<Readable, ToolError> {
    let mut pages = Pages::open(path).map_err(|error| unusable(path, error))?;
    let free = pages.free();
    let mut indexes = Indexes::default();
    let mut readable = Readable { pages: pages.count(), ..Readable::default() };
    if let Some((application, version)) = pages.application()
        && application == schema::APPLICATION_ID
    {
        open::check_version(version, path)?;
        if version < schema::FIRST_WITH_MOVES {
            readable.moved_seq = Some(i64::MAX);
        }
    }
    let mut in_doubt = Vec::new();
    for number in 1..=pages.count() {
        if free.as_ref().is_some_and(|free| free.contains(&number)) || pages.offset(number) == LOCK_BYTE {
            continue;
        }
        let bytes = pages.read(number);
        match Page::parse(&bytes, number) {
            None => readable.damaged_pages += 1,
            Some(page) if page.kind == Kind::TableLeaf => {
                let records: Vec<_> = page.records().collect();
                let mut doubtful = doubtful(number, &records).into_iter().peekable();
                for (cell, record) in records.iter().enumerate() {
                    if let Some(doubt) = doubtful.next_if(|doubt| doubt.cell == cell) {
                        in_doubt.push(doubt);
                        continue;
                    }
                    match record {
                        Some((row, values)) if readable.add(*row, values, &mut indexes, &mut on_row)? => {}
                        _ => readable.damaged_rows += 1,
                    }
                }
            }
            Some(page) if page.kind == Kind::TableInterior => {}
            Some(page) => readable.note_numbers(&page),
        }
    }
    readable.orders = merge_ranges(std::mem::take(&mut readable.orders));
    let lost_pages = u64::from(readable.damaged_pages) + u64::from(pages.missing());
    let losses = Losses::new(lost_pages, pages.page_bytes(), readable.damaged_rows, readable.repaired);
    readable.damaged_rows += in_doubt.len() as u64;
    for doubt in retain_true(in_doubt, &readable.orders, &losses) {
        let bytes = pages.read(doubt.page);
        let record = Page::parse(&bytes, doubt.page).and_then(|page| page.records().nth(doubt.cell)).flatten();
        if let Some((row, values)) = record
            && readable.add(row, &values, &mut indexes, &mut on_row)?
        {
            readable.damaged_rows -= 1;
        }
    }
    readable.orders = merge_ranges(std::mem::take(&mut readable.orders));
    let name = |row: i64| readable.categories.get(&row).map(|(name, ..)| name.as_str());
    let id = |row: i64| match readable.products.get(&row).map(Vec::as_slice) {
        Some([version]) => Some(version.id.as_str()),
        _ => None,
    };
    let (category_names, product_ids) = indexes.read(&mut pages, name, id);
    (readable.category_names, readable.product_ids) = (category_names, product_ids);
    Ok(readable)
}

impl Readable {
    /// Looks for numbers of orders in a page of the table `meta`, which has the format of an index.
    fn note_numbers(&mut self, page: &Page<'_>) {
        for (_, values) in page.records().flatten() {
            if let [Value::Text("repaired"), Value::Text(number)] = values[..] {
                self.repaired = self.repaired.max(number.parse().unwrap_or(0));
            }
            let moved = match values[..] {
                [Value::Text("moved"), Value::Text(number)] => number.parse().ok(),
                // Of a version whose products have all orders.
                [Value::Text("keys_moved"), Value::Text(_)] => Some(i64::MAX),
                _ => None,
            };
            // On a page that is not in use any more it is smaller.
            self.moved_seq = self.moved_seq.max(moved);
        }
    }

    /// Adds a row. Returns whether it is a valid row of one of our tables.
    fn add(
        &mut self,
        row: i64,
        values: &[Value<'_>],
        indexes: &mut Indexes,
        on_row: &mut impl FnMut(Row<'_>) -> Result<(), ToolError>,
    ) -> Result<bool, ToolError> {
        use Value::{Int, Null, Text};
        let is_number = |row: i64| (1..=MAX_NUMBER).contains(&row);
        let is_time = |at_ms: i64| at_ms >= 0;
        let is_period = |number: i64| (1..=MAX_PERIODS).contains(&number);
        match *values {
            [Null, Text(name), Text(prefix), ref title @ ..] if is_catalog_row(row) => {
                let title = match *title {
                    [] => "",
                    [Text(title)] => title,
                    _ => return Ok(false),
                };
                self.categories.insert(row, (name.to_owned(), prefix.to_owned(), title.to_owned()));
            }
            [Null, Text(id), Int(category), Text(name), Text(rrp), Text(info), Int(total), ref state @ ..]
                if is_catalog_row(row) && is_catalog_row(category) =>
            {
                let Some(total) = Total::new(total) else { return Ok(false) };
                let state = product_state(state);
                if state.is_none() && values.len() > FIRST_PRODUCT_COLUMNS {
                    return Ok(false);
                }
                let texts = [name, rrp, info].map(str::to_owned);
                let product = ProductRow { id: id.to_owned(), category, texts, total, state };
                let versions = self.products.entry(row).or_default();
                if !versions.contains(&product) {
                    versions.push(product);
                }
            }
            [Null, Int(at_ms), Int(product), Int(amount), Int(total), ref key @ ..]
                if is_number(row) && is_time(at_ms) && is_catalog_row(product) =>
            {
                let (key, key_ms) = match *key {
                    [] | [Null] | [Null, Null] => (None, None),
                    [Text(key)] | [Text(key), Null] if Key::new(key).is_some() => (Some(key), None),
                    [Text(key), Int(at_ms)] if Key::new(key).is_some() && is_time(at_ms) => (Some(key), Some(at_ms)),
                    _ => return Ok(false),
                };
                if Amount::new(amount).is_none() || Total::new(total).is_none() {
                    return Ok(false);
                }
                on_row(Row::Order { seq: row, at_ms, product, amount, total, key, key_ms })?;
                match self.orders.last_mut() {
                    Some((_, last)) if *last + 1 == row => *last = row,
                    _ => self.orders.push((row, row)),
                }
            }
            [Null, Text(key), Int(at_ms), Int(product), Int(amount)]
                if is_time(at_ms) && (0..=MAX_PRODUCTS as i64).contains(&product) && Key::new(key).is_some() =>
            {
                // A digest may be any number.
                if product > 0 && amount.unsigned_abs() > MAX_TOTAL.unsigned_abs() {
                    return Ok(false);
                }
                on_row(Row::Key { n: row, key, at_ms, product, amount })?;
                self.keys += 1;
            }
            [Null, Int(opened_ms), Int(opened_after)] if is_period(row) && is_time(opened_ms) && opened_after >= 0 => {
                on_row(Row::Period { number: row, opened_ms, opened_after })?;
            }
            [Null, Int(period), Int(product), Int(amount)]
                if (1..=MAX_LINES).contains(&row) && is_period(period) && is_catalog_row(product) =>
            {
                on_row(Row::PeriodSum { n: row, period, product, amount })?;
            }
            [Null, Int(at_ms), Text(line)] if is_number(row) && is_time(at_ms) => {
                on_row(Row::Change { n: row, at_ms, line })?;
            }
            [Text(kind), Text(name), Text(_), Int(root), Null | Text(_)] => {
                if let Some(root) = u32::try_from(root).ok().filter(|_| kind == "index") {
                    indexes.add(name, root);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The columns behind a product's total; `None` if they are invalid.
fn product_state(columns: &[Value<'_>]) -> Option<ProductState> {
    let is_optional_number = |value: &&Value<'_>| match value {
        Value::Int(number) => *number >= 0,
        other => matches!(other, Value::Null),
    };
    let number = |value: &Value<'_>| if let Value::Int(number) = value { Some(*number) } else { None };
    let [Value::Int(hidden @ 0..=1), Value::Int(opening), others @ ..] = columns else { return None };
    let [ordered_ms, added_seq] = others else { return None };
    Some(ProductState {
        is_hidden: *hidden == 1,
        opening: Total::new(*opening)?,
        ordered_ms: Some(ordered_ms).filter(is_optional_number).map(number)?,
        added_seq: Some(added_seq).filter(is_optional_number).map(number)?,
    })
}

fn merge_ranges(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
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
        assert_eq!(merge_ranges(vec![(5, 9), (1, 2), (3, 4), (7, 8), (12, 12)]), [(1, 9), (12, 12)]);
    }

    /// The next close would number its lines behind the highest one, and SQLite has no number behind the last.
    #[test]
    fn a_line_of_a_report_has_a_number_that_a_server_can_have_given() {
        use Value::{Int, Null};
        let is_line = |row: i64| {
            let values = [Null, Int(1), Int(1), Int(5)];
            Readable::default().add(row, &values, &mut Indexes::default(), &mut |_| Ok(())).unwrap()
        };
        assert_eq!([1, MAX_LINES].map(is_line), [true; 2]);
        assert_eq!([0, -1, MAX_LINES + 1, i64::MAX].map(is_line), [false; 4]);
    }

    /// The server counts on from the highest, and deletes by it what is not kept.
    #[test]
    fn an_order_and_a_change_have_numbers_that_a_server_can_have_given() {
        use Value::{Int, Null, Text};
        for values in [&[Null, Int(1), Int(1), Int(5), Int(5)][..], &[Null, Int(1), Text("{}")]] {
            let is_row =
                |row: i64| Readable::default().add(row, values, &mut Indexes::default(), &mut |_| Ok(())).unwrap();
            assert_eq!([1, MAX_NUMBER].map(is_row), [true; 2]);
            assert_eq!([0, -1, MAX_NUMBER + 1, i64::MAX].map(is_row), [false; 4]);
        }
    }
}
