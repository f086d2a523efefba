//! Partial changes of a product.

use super::catalog::{Details, Product};

/// What changes of a product; `None` leaves a member as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProductPatch {
    /// The new name.
    pub name: Option<String>,
    /// The new price.
    pub rrp: Option<String>,
    /// The new description.
    pub info: Option<String>,
    /// Whether it is hidden from now on.
    pub is_hidden: Option<bool>,
}

impl ProductPatch {
    /// The product after the change, whose texts are not checked yet.
    #[must_use]
    pub fn apply(self, product: &Product) -> Product {
        let Product { id, category, details, is_hidden } = product.clone();
        let details = Details {
            name: self.name.unwrap_or(details.name),
            rrp: self.rrp.unwrap_or(details.rrp),
            info: self.info.unwrap_or(details.info),
        };
        Product { id, category, details, is_hidden: self.is_hidden.unwrap_or(is_hidden) }
    }
}
