//! The indexes of category names and product ids, which are on other pages than the rows: they hold the names of lost
//! rows.

use std::collections::{BTreeMap, HashSet};

use rusqlite::Connection;

use super::pages::Pages;
use crate::store::schema;
use crate::tally::catalog::MAX_PRODUCTS;

const CATEGORY_INDEX: &str = "sqlite_autoindex_categories_1";
const PRODUCT_INDEX: &str = "sqlite_autoindex_products_1";

/// The root pages of two indexes, if the schema could be read.
#[derive(Default)]
pub struct Indexes {
    categories: Option<u32>,
    products: Option<u32>,
}

impl Indexes {
    /// Adds an entry of the schema: an index and its root page.
    pub fn add(&mut self, name: &str, root: u32) {
        match name {
            CATEGORY_INDEX => self.categories = Some(root),
            PRODUCT_INDEX => self.products = Some(root),
            _ => {}
        }
    }

    /// Reads the names of categories and the ids of products by row id; `name` and `id` are those of readable rows.
    /// Entries of different indexes have the same format, so an index is used only if it agrees with all readable rows.
    pub fn read<'a>(
        &self,
        pages: &mut Pages,
        name: impl Fn(i64) -> Option<&'a str>,
        id: impl Fn(i64) -> Option<&'a str>,
    ) -> (BTreeMap<i64, String>, BTreeMap<i64, String>) {
        let default = default_indexes();
        let names = pages.index_entries(self.categories.or(default.categories).unwrap_or(0));
        let ids = pages.index_entries(self.products.or(default.products).unwrap_or(0));
        (checked_entries(names, self.categories.is_some(), name), checked_entries(ids, self.products.is_some(), id))
    }
}

/// The root pages in a file that this version has made.
fn default_indexes() -> Indexes {
    let root = |connection: &Connection, name: &str| {
        let sql = "SELECT rootpage FROM sqlite_master WHERE name = ?1";
        connection.query_row(sql, [name], |row| row.get(0)).ok()
    };
    let Ok(mut connection) = Connection::open_in_memory() else { return Indexes::default() };
    if schema::migrate(&mut connection).is_err() {
        return Indexes::default();
    }
    Indexes { categories: root(&connection, CATEGORY_INDEX), products: root(&connection, PRODUCT_INDEX) }
}

/// The entries of an index by row id: none if one contradicts a readable row, or if the root page is a guess and no
/// readable row confirms it.
fn checked_entries<'a>(
    entries: Vec<(String, i64)>,
    is_root_known: bool,
    known: impl Fn(i64) -> Option<&'a str>,
) -> BTreeMap<i64, String> {
    let contradicts = |(text, row): &(String, i64)| known(*row).is_some_and(|known| known != text);
    let confirms = |(text, row): &(String, i64)| known(*row) == Some(text);
    if entries.iter().any(contradicts) || !(is_root_known || entries.iter().any(confirms)) {
        return BTreeMap::new();
    }
    let (mut seen, mut names) = (HashSet::new(), BTreeMap::new());
    for (text, row) in entries.into_iter().filter(|(_, row)| is_catalog_row(*row)) {
        if seen.insert(text.clone()) {
            names.insert(row, text);
        }
    }
    names
}

/// Whether a row id can be that of a category or a product.
pub fn is_catalog_row(row: i64) -> bool {
    (1..=MAX_PRODUCTS as i64).contains(&row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_contradicts_a_row_is_not_used() {
        let entries = || vec![("A1".to_owned(), 1), ("A2".to_owned(), 2)];
        let known = |id: &'static str| move |row| (row == 1).then_some(id);
        assert_eq!(checked_entries(entries(), false, known("A1")).len(), 2);
        assert_eq!(checked_entries(entries(), true, known("B1")).len(), 0);
        assert_eq!(checked_entries(entries(), false, |_| None).len(), 0);
        assert_eq!(checked_entries(entries(), true, |_| None).len(), 2);
    }
}
