//! Changes of products and categories. Owns how they are checked, before the commit, so that the disk never holds what
//! the catalogue in memory would reject.

use super::Rejection;
use crate::json;
use crate::store::{Change, now_ms};
use crate::tally::catalog::{
    Catalog, CatalogError, Category, CategoryIndex, Details, Product, ProductIndex, check_title,
};
use crate::tally::order::Total;
use crate::tally::product_patch::ProductPatch;

/// A change of products or categories.
#[derive(Debug, Clone)]
pub enum CatalogChange {
    /// A new product with a total of 0.
    AddProduct {
        /// Its category.
        category: CategoryIndex,
        /// `None` for the next free one.
        id: Option<String>,
        /// Its texts.
        details: Details,
    },
    /// Another text of a product, or whether it is hidden.
    ChangeProduct(ProductIndex, ProductPatch),
    /// A new category without products.
    AddCategory {
        /// Its name in URLs.
        name: String,
        /// `None` for the one that the name gives.
        title: Option<String>,
        /// The prefix of its products' ids.
        prefix: String,
    },
    /// Another title of a category.
    SetTitle(CategoryIndex, String),
}

impl CatalogChange {
    /// Everything that the store has to write, the change itself first; `None` if the catalogue is so already.
    ///
    /// # Errors
    /// [`Rejection`] when the catalogue does not take it.
    pub(super) fn plan(self, catalog: &Catalog, last_seq: u64) -> Result<Option<Vec<Change>>, Rejection> {
        let Some(change) = self.check(catalog)? else { return Ok(None) };
        let at_ms = now_ms();
        let line = json::history_line(&change, catalog);
        let first_line = match change {
            // A new product has a line in the log too, so that clients that follow the log or resume a feed get it.
            Change::Product(_, total) => {
                let product = ProductIndex(catalog.products().len() as u32);
                Some(Change::FirstLine { seq: last_seq + 1, at_ms, product, total })
            }
            _ => None,
        };
        let history = line.map(|line| Change::History { at_ms, line });
        Ok(Some([Some(change), first_line, history].into_iter().flatten().collect()))
    }

    /// What the store has to write; `None` if the catalogue is so already.
    ///
    /// # Errors
    /// [`Rejection`] when the catalogue does not take it.
    fn check(self, catalog: &Catalog) -> Result<Option<Change>, Rejection> {
        match self {
            Self::AddProduct { category, id, details } => {
                let id = id.unwrap_or_else(|| catalog.next_id(category));
                if catalog.find_product(&id).is_some() {
                    return Err(Rejection::IdInUse(id));
                }
                catalog.check_product(&id, &details)?;
                let product = Product { id, category, details, is_hidden: false };
                Ok(Some(Change::Product(product, Total::default())))
            }
            Self::ChangeProduct(product, patch) => {
                let before = catalog.product(product).clone();
                let after = patch.apply(&before);
                catalog.check_change(product, &after.details)?;
                let (before, after) = (Box::new(before), Box::new(after));
                Ok((before != after).then_some(Change::ChangedProduct { product, before, after }))
            }
            Self::AddCategory { name, title, prefix } => {
                if catalog.find_category(&name).is_some() {
                    return Err(Rejection::CategoryExists(name));
                }
                catalog.check_category(&name, &prefix)?;
                Ok(Some(Change::Category(new_category(&name, title, &prefix)?)))
            }
            Self::SetTitle(category, after) => {
                check_title(&after)?;
                let before = catalog.category(category).title.clone();
                Ok((before != after).then_some(Change::Title { category, before, after }))
            }
        }
    }
}

fn new_category(name: &str, title: Option<String>, prefix: &str) -> Result<Category, CatalogError> {
    let mut catalog = Catalog::default();
    let index = catalog.add_category(name, prefix)?;
    if let Some(title) = title {
        catalog.set_title(index, &title)?;
    }
    Ok(catalog.category(index).clone())
}
