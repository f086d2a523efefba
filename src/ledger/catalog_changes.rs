//! Changes of products and categories, each in a commit of its own. Owns the order of its steps: checked, written with
//! its lines of the history, shown in the shared catalogue, told to the fan-out.

use std::sync::PoisonError;

use super::{Ledger, Outcome, Rejection};
use crate::json;
use crate::store::{Change, Store, now_ms};
use crate::tally::catalog::{
    Catalog, CatalogError, Category, CategoryIndex, Details, Product, ProductIndex, check_title,
};
use crate::tally::order::{Publication, Total};
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

impl<S: Store> Ledger<S> {
    pub(super) fn change_catalog(&mut self, change: CatalogChange) -> Outcome {
        match change {
            CatalogChange::AddProduct { category, id, details } => self.add_product(category, id, details),
            CatalogChange::ChangeProduct(index, patch) => self.change_product(index, patch),
            CatalogChange::AddCategory { name, title, prefix } => self.add_category(&name, title, &prefix),
            CatalogChange::SetTitle(index, title) => self.set_title(index, &title),
        }
    }

    /// Adds one product. It has a line in the log too, so that clients that follow the log or resume a feed get it.
    fn add_product(&mut self, category: CategoryIndex, id: Option<String>, details: Details) -> Outcome {
        let product = self.read_catalog(|catalog| {
            let id = id.unwrap_or_else(|| catalog.next_id(category));
            if catalog.find_product(&id).is_some() {
                return Err(Rejection::IdInUse(id));
            }
            // Checked before the commit, so that the disk never holds what the catalogue in memory would reject.
            catalog.check_product(&id, &details).map_err(Rejection::NotInCatalog)?;
            Ok(Product { id, category, details, is_hidden: false })
        })?;
        let (total, seq) = (Total::default(), self.last_seq + 1);
        let line = Change::FirstLine { seq, at_ms: now_ms(), product: ProductIndex(self.totals.len() as u32), total };
        self.write_with_history([Change::Product(product.clone(), total), line])?;
        let product = self.write_catalog(|catalog| {
            catalog.add_product(category, &product.id, product.details).map_err(Rejection::NotInCatalog)
        })?;
        self.totals.push(total);
        self.hidden.push(false);
        self.last_seq = seq;
        // The fan-out thread reads the new product with it.
        self.fanout.publish(&[Publication { product, total, seq }]);
        self.fanout.wake();
        Ok(())
    }

    fn change_product(&mut self, product: ProductIndex, patch: ProductPatch) -> Outcome {
        let (before, after) = self.read_catalog(|catalog| {
            let before = catalog.product(product).clone();
            let after = patch.apply(&before);
            let checked = catalog.check_change(product, &after.details);
            checked.map(|()| (before, after)).map_err(Rejection::NotInCatalog)
        })?;
        if before == after {
            return self.inspect();
        }
        let (category, details, is_hidden) = (after.category, after.details.clone(), after.is_hidden);
        self.write_with_history([Change::ChangedProduct { product, before: before.into(), after: after.into() }])?;
        self.write_catalog(|catalog| {
            catalog.change_product(product, details, is_hidden).map_err(Rejection::NotInCatalog)
        })?;
        self.hidden[product.0 as usize] = is_hidden;
        self.fanout.publish_catalog(category);
        Ok(())
    }

    fn add_category(&mut self, name: &str, title: Option<String>, prefix: &str) -> Outcome {
        let category = self.read_catalog(|catalog| {
            if catalog.find_category(name).is_some() {
                return Err(Rejection::CategoryExists(name.to_owned()));
            }
            let checked = catalog.check_category(name, prefix);
            checked.and_then(|()| new_category(name, title, prefix)).map_err(Rejection::NotInCatalog)
        })?;
        let title = category.title.clone();
        self.write_with_history([Change::Category(category)])?;
        let index = self.write_catalog(|catalog| {
            let index = catalog.add_category(name, prefix)?;
            catalog.set_title(index, &title).map(|()| index)
        });
        self.fanout.publish_catalog(index.map_err(Rejection::NotInCatalog)?);
        Ok(())
    }

    fn set_title(&mut self, category: CategoryIndex, title: &str) -> Outcome {
        check_title(title).map_err(Rejection::NotInCatalog)?;
        let before = self.read_catalog(|catalog| catalog.category(category).title.clone());
        if before == title {
            return self.inspect();
        }
        self.write_with_history([Change::Title { category, before, after: title.to_owned() }])?;
        self.write_catalog(|catalog| catalog.set_title(category, title)).map_err(Rejection::NotInCatalog)?;
        self.fanout.publish_catalog(category);
        Ok(())
    }

    /// Writes changes and their lines of the history in one transaction.
    fn write_with_history<const N: usize>(&mut self, changes: [Change; N]) -> Outcome {
        let at_ms = now_ms();
        let lines: Vec<_> = self.read_catalog(|catalog| {
            let lines = changes.iter().filter_map(|change| json::history_line(change, catalog));
            lines.map(|line| Change::History { at_ms, line }).collect()
        });
        self.write(&changes.into_iter().chain(lines).collect::<Vec<_>>())
    }

    fn read_catalog<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_catalog<T>(&self, write: impl FnOnce(&mut Catalog) -> T) -> T {
        write(&mut self.catalog.write().unwrap_or_else(PoisonError::into_inner))
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
