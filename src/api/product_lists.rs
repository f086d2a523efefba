//! The lists of products, encoded once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::json;
use crate::tally::catalog::{CategoryIndex, SharedCatalog};

/// Each category's list of products as JSON, encoded once and shared until a product is added, so that slow readers of
/// a long list hold one copy of it.
#[derive(Debug, Default)]
pub struct ProductLists(Mutex<HashMap<CategoryIndex, ProductList>>);

/// The number of products in a list, and the list.
type ProductList = (usize, Arc<[u8]>);

impl ProductLists {
    /// The category's list.
    #[must_use]
    pub fn get(&self, catalog: &SharedCatalog, category: CategoryIndex) -> Arc<[u8]> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = catalog.read().unwrap_or_else(PoisonError::into_inner);
        // Products are only added, so a list with the same number of products is current.
        let count = catalog.category(category).products.len();
        match lists.get(&category) {
            Some((of, list)) if *of == count => list.clone(),
            _ => {
                let list: Arc<[u8]> = json::products_array(&catalog, category).into_bytes().into();
                lists.insert(category, (count, list.clone()));
                list
            }
        }
    }
}
