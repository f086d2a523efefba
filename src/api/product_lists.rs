//! The lists of products, encoded once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::json;
use crate::tally::catalog::{CategoryIndex, SharedCatalog};

/// Each category's lists of products as JSON, with and without the hidden ones, encoded once and shared until a product
/// is changed, so that slow readers of a long list hold one copy of it.
#[derive(Debug, Default)]
pub struct ProductLists(Mutex<HashMap<(CategoryIndex, bool), ProductList>>);

/// The category's revision in a list, and the list.
type ProductList = (u64, Arc<[u8]>);

impl ProductLists {
    /// The category's list.
    #[must_use]
    pub fn get(&self, catalog: &SharedCatalog, category: CategoryIndex, with_hidden: bool) -> Arc<[u8]> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = catalog.read().unwrap_or_else(PoisonError::into_inner);
        let revision = catalog.category(category).revision;
        match lists.get(&(category, with_hidden)) {
            Some((of, list)) if *of == revision => list.clone(),
            _ => {
                let list: Arc<[u8]> = json::products_array(&catalog, category, with_hidden).into_bytes().into();
                lists.insert((category, with_hidden), (revision, list.clone()));
                list
            }
        }
    }
}
