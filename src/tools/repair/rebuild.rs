//! The catalogue and the totals of the new file: readable rows, and replacements for lost ones.
//!
//! Orders and keys refer to products by row id, so every product keeps its row id, and a lost one is replaced:
//!
//! - its id is taken from the index of ids, which is on other pages; if that is lost too, it is `recovered-` and the
//!   row id;
//! - its total is the last one in the order log;
//! - its category is the one whose prefix the id has; if there is none, a new category `recovered`;
//! - its name is its id. The price and the description are lost.
//!
//! A lost category gets its name from an index in the same way, and its prefix from the ids of its products.

use std::collections::{BTreeMap, HashMap};
use std::iter;

use rusqlite::{Connection, Transaction, params};

use super::salvage::{ProductRow, ProductState, Readable};
use crate::store::Change;
use crate::store::sqlite::write_changes;
use crate::tally::catalog::{Catalog, CatalogError, CategoryIndex, Details, MAX_PRODUCTS};
use crate::tally::order::Total;

/// The last order of a product in the log.
#[derive(Clone, Copy)]
pub struct LastOrder {
    /// Its number.
    pub seq: i64,
    /// The product's total after it.
    pub total: Total,
    /// Its time, in milliseconds since 1970 (UTC).
    at_ms: i64,
}

/// By the product's row id.
pub type LastOrders = HashMap<i64, LastOrder>;

/// Reads the last order of each product.
pub fn last_orders(connection: &Connection) -> rusqlite::Result<LastOrders> {
    // SQLite takes the other columns from the row with the maximum.
    let mut statement = connection.prepare("SELECT product, total, at_ms, max(seq) FROM orders GROUP BY product")?;
    let rows = statement.query_map([], |row| {
        let total = Total::new(row.get(1)?).unwrap_or_default();
        Ok((row.get(0)?, LastOrder { seq: row.get(3)?, total, at_ms: row.get(2)? }))
    })?;
    rows.collect()
}

/// The catalogue and the totals of the new file.
pub struct Rebuilt {
    /// All categories and products, with replacements for the lost ones.
    pub catalog: Catalog,
    /// The total of each product.
    pub totals: Vec<Total>,
    /// The other columns of each product, where they could be read.
    states: Vec<Option<ProductState>>,
    /// A line about each replacement.
    pub replacements: Vec<String>,
}

impl Rebuilt {
    /// Takes the readable rows, and replaces the lost ones.
    ///
    /// # Errors
    /// When the catalogue is full.
    pub fn new(readable: &Readable, last_orders: &LastOrders) -> Result<Self, CatalogError> {
        let mut rebuilt =
            Self { catalog: Catalog::default(), totals: Vec::new(), states: Vec::new(), replacements: Vec::new() };
        let of_products = readable.products.values().flatten().map(|product| product.category).max();
        let last = highest(&readable.categories).max(highest(&readable.category_names)).max(of_products);
        for row in 1..=last.unwrap_or(0) {
            rebuilt.add_category(readable, row)?;
        }
        let of_log = last_orders.keys().copied().max();
        let last = highest(&readable.products).max(highest(&readable.product_ids)).max(of_log);
        for row in 1..=last.unwrap_or(0) {
            rebuilt.add_product(readable, last_orders, row)?;
        }
        Ok(rebuilt)
    }

    fn add_category(&mut self, readable: &Readable, row: i64) -> Result<(), CatalogError> {
        if let Some((name, prefix, title)) = readable.categories.get(&row)
            && let Ok(index) = self.catalog.add_stored_category(name, prefix)
        {
            // Without a title, or with an invalid one, it keeps the one that its name gives.
            let _ = self.catalog.set_title(index, title);
            return Ok(());
        }
        let mut ids = readable.products.values().flatten().filter(|product| product.category == row);
        let prefix = ids.next().map(|product| product.id.trim_end_matches(|byte: char| byte.is_ascii_digit()));
        let names = readable.category_names.get(&row).cloned().into_iter().chain(replacement_names(row));
        let added =
            names.flat_map(|name| [(name.clone(), prefix.unwrap_or("")), (name, "R")]).find_map(|(name, prefix)| {
                self.catalog.add_stored_category(&name, prefix).is_ok().then_some((name, prefix))
            });
        let (name, prefix) = added.ok_or_else(|| no_name_left("category", row))?;
        self.replacements
            .push(format!("category {row} was lost: {name} stands in, with the prefix {prefix} for new ids"));
        Ok(())
    }

    fn add_product(&mut self, readable: &Readable, last_orders: &LastOrders, row: i64) -> Result<(), CatalogError> {
        let last = last_orders.get(&row);
        if let Some(product) = readable.products.get(&row).and_then(|versions| current_version(versions, last)) {
            let ProductRow { id, category, texts: [name, rrp, info], mut total, mut state } = product.clone();
            let is_behind = |last: &&LastOrder| match (readable.moved_seq, state) {
                (Some(moved), _) => last.seq > moved,
                (None, Some(ProductState { ordered_ms, added_seq, .. })) => {
                    added_seq != Some(last.seq) && ordered_ms.is_none_or(|ordered_ms| ordered_ms < last.at_ms)
                }
                // An older version has written the row.
                (None, None) => false,
            };
            if let Some(last) = last.filter(is_behind) {
                total = last.total;
                if let Some(state) = state.as_mut().filter(|state| state.added_seq != Some(last.seq)) {
                    state.ordered_ms = Some(last.at_ms);
                }
            }
            let details = Details { name, rrp, info };
            // Categories up to the highest one of a product have been added, and `salvage` bounds it.
            let category = CategoryIndex(u32::try_from(category - 1).unwrap_or(0));
            if self.catalog.add_product(category, &id, details).is_ok() {
                self.totals.push(total);
                self.states.push(state);
                return Ok(());
            }
        }
        let mut ids = readable.product_ids.get(&row).cloned().into_iter().chain(replacement_names(row));
        let (id, category) = loop {
            let id = ids.next().ok_or_else(|| no_name_left("product", row))?;
            let category = self.category_for(&id)?;
            let details = Details { name: id.clone(), rrp: String::new(), info: String::new() };
            if self.catalog.add_product(category, &id, details).is_ok() {
                break (id, category);
            }
        };
        let (total, source) = match last {
            Some(LastOrder { seq, total, .. }) => {
                (*total, format!("as order {seq} left it; later orders, if any, are lost"))
            }
            None => (Total::default(), "because the log has no order of it".to_owned()),
        };
        self.totals.push(total);
        self.states.push(None);
        self.replacements.push(format!(
            "product {row} was lost: {id} in {} stands in, without price and description, with the total {} {source}",
            self.catalog.category(category).name,
            total.get()
        ));
        Ok(())
    }

    /// The category whose new products get ids like this one; `recovered` if there is none.
    fn category_for(&mut self, id: &str) -> Result<CategoryIndex, CatalogError> {
        let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        let categories = self.catalog.categories().iter().enumerate();
        let fitting = categories.filter(|(_, it)| id.strip_prefix(it.prefix.as_str()).is_some_and(is_number));
        if let Some((place, _)) = fitting.max_by_key(|(_, it)| it.prefix.len()) {
            return Ok(CategoryIndex(place as u32));
        }
        match self.catalog.find_category("recovered") {
            Some(index) => Ok(index),
            None => self.catalog.add_stored_category("recovered", "recovered-"),
        }
    }

    /// Writes the catalogue and the totals.
    pub fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let categories = self.catalog.categories().iter().cloned().map(Change::Category);
        let products = self.catalog.products().iter().cloned().zip(&self.totals);
        let changes: Vec<_> = categories.chain(products.map(|(it, total)| Change::Product(it, *total))).collect();
        write_changes(transaction, &changes, 0)?;
        let mut update = transaction
            .prepare("UPDATE products SET hidden = ?2, opening = ?3, ordered_ms = ?4, added_seq = ?5 WHERE row = ?1")?;
        let mut from_log = transaction.prepare(
            "UPDATE products SET
                 opening = coalesce((
                     SELECT total - amount FROM orders
                     WHERE product = ?1 AND seq > (SELECT opened_after FROM periods ORDER BY number DESC LIMIT 1)
                     ORDER BY seq LIMIT 1), total),
                 ordered_ms = (SELECT at_ms FROM orders WHERE product = ?1 AND amount <> 0 ORDER BY seq DESC LIMIT 1)
             WHERE row = ?1",
        )?;
        for (row, state) in (1_i64..).zip(&self.states) {
            match state {
                Some(ProductState { is_hidden, opening, ordered_ms, added_seq }) => {
                    update.execute(params![row, is_hidden, opening.get(), ordered_ms, added_seq])?
                }
                None => from_log.execute([row])?,
            };
        }
        Ok(())
    }
}

fn highest<T>(rows: &BTreeMap<i64, T>) -> Option<i64> {
    rows.last_key_value().map(|(row, _)| *row)
}

/// The version of a row that agrees with the order log, or else the last one read.
fn current_version<'a>(versions: &'a [ProductRow], last: Option<&LastOrder>) -> Option<&'a ProductRow> {
    let agrees = |product: &&ProductRow| last.is_some_and(|last| last.total == product.total);
    versions.iter().find(agrees).or(versions.last())
}

fn replacement_names(row: i64) -> impl Iterator<Item = String> {
    let others = (2..=MAX_PRODUCTS).map(move |other| format!("recovered-{row}-{other}"));
    iter::once(format!("recovered-{row}")).chain(others)
}

fn no_name_left(what: &str, row: i64) -> CatalogError {
    CatalogError::new(format!("{what} {row} was lost and cannot be replaced: the catalogue is full"))
}
