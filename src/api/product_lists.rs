//! The lists of products, encoded once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::json;
use crate::tally::catalog::{CategoryIndex, SharedCatalog};

/// Bytes of lists before a change that slow readers may hold together: 64 MiB, some fourteen of the longest list.
const MAX_FORMER_BYTES: usize = 64 * 1024 * 1024;

/// Each category's lists of products as JSON, with and without the hidden ones, encoded once and shared until a product
/// is changed, so that slow readers of a long list hold one copy of it.
#[derive(Debug, Default)]
pub struct ProductLists(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    /// The present list of each category, without and with hidden products.
    present: HashMap<(CategoryIndex, bool), ProductList>,
    /// Former lists that are still being sent.
    former: Vec<Arc<[u8]>>,
}

/// The category's revision in a list, and the list.
type ProductList = (u64, Arc<[u8]>);

impl ProductLists {
    /// The category's list; `None` while too many former lists are being sent to clients that read slowly.
    #[must_use]
    pub fn get(&self, catalog: &SharedCatalog, category: CategoryIndex, with_hidden: bool) -> Option<Arc<[u8]>> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = catalog.read().unwrap_or_else(PoisonError::into_inner);
        let revision = catalog.category(category).revision;
        if let Some((of, list)) = lists.present.get(&(category, with_hidden))
            && *of == revision
        {
            return Some(list.clone());
        }
        lists.former.retain(|list| Arc::strong_count(list) > 1);
        if lists.former.iter().map(|list| list.len()).sum::<usize>() > MAX_FORMER_BYTES {
            return None;
        }
        let list: Arc<[u8]> = json::products_array(&catalog, category, with_hidden).into_bytes().into();
        if let Some((_, former)) = lists.present.insert((category, with_hidden), (revision, list.clone())) {
            lists.former.push(former);
        }
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use super::*;
    use crate::tally::catalog::{Catalog, Details, MAX_INFO_BYTES, ProductIndex};

    #[test]
    fn former_lists_that_are_still_sent_are_bounded() {
        let mut catalog = Catalog::default();
        let tools = catalog.add_category("tools", "T").unwrap();
        let details = |name: &str| Details { name: name.into(), rrp: String::new(), info: "i".repeat(MAX_INFO_BYTES) };
        for number in 0..1_000 {
            catalog.add_product(tools, &format!("T{number}"), details("x")).unwrap();
        }
        let (catalog, lists) = (Arc::new(RwLock::new(catalog)), ProductLists::default());
        let get = || lists.get(&catalog, tools, false);
        let change = |name: &str| {
            catalog.write().unwrap().change_product(ProductIndex(0), details(name), false).unwrap();
        };
        let mut held = Vec::new();
        for number in 0..100 {
            change(&number.to_string());
            let Some(list) = get() else { break };
            assert!(Arc::ptr_eq(&list, &get().unwrap()), "the same list is shared");
            held.push(list);
        }
        let bytes: usize = held.iter().map(|list| list.len()).sum();
        assert!((MAX_FORMER_BYTES..MAX_FORMER_BYTES + 3 * held[0].len()).contains(&bytes), "{bytes}");
        held.remove(0);
        assert!(get().is_some(), "there is room when one has been sent");
    }
}
