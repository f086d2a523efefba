//! Requests that change products and categories, and what they are answered.

use std::sync::PoisonError;

use super::route::no_category;
use super::service::{OrderService, body_problem, checked};
use crate::http::problem::Problem;
use crate::http::response::{Answer, Body, JSON};
use crate::json::{self, CategoryFields};
use crate::ledger::{CatalogChange, Rejection};
use crate::tally::catalog::{Catalog, CategoryIndex, ProductIndex};

impl OrderService {
    /// `POST /{category}`: answers the list.
    pub(super) fn add_product(&self, category: CategoryIndex, body: &[u8]) -> Result<Answer, Problem> {
        let (id, details) = json::parse_product(body).map_err(body_problem)?;
        checked(self.ledger.change_catalog(CatalogChange::AddProduct { category, id, details }))?;
        // It is added: no answer may say otherwise, also while a shared list cannot be had.
        let encoded = || Answer::json(self.read(|catalog| json::products_array(catalog, category, false)));
        Ok(self.routes.products(category, false).unwrap_or_else(|_| encoded()))
    }

    /// `PATCH /{category}/{id}`: answers the product.
    pub(super) fn change_product(&self, product: ProductIndex, body: &[u8]) -> Result<Answer, Problem> {
        let patch = self.read(|catalog| json::parse_product_patch(body, &catalog.product(product).id));
        checked(self.ledger.change_catalog(CatalogChange::ChangeProduct(product, patch.map_err(body_problem)?)))?;
        Ok(Answer::json(self.read(|catalog| json::product_object(catalog.product(product)))))
    }

    /// `PUT /{category}`: creates it, or changes its title. Answers the category.
    pub(super) fn put_category(&self, name: &str, body: &[u8]) -> Result<Answer, Problem> {
        let fields = json::parse_category(body).map_err(body_problem)?;
        let find = || self.read(|catalog| catalog.find_category(name));
        let is_new = find().is_none() && self.create(name, fields.clone())?;
        let index = find().ok_or_else(|| no_category(name))?;
        if is_new {
            return Ok(self.category(201, index).with("Location", format!("/{name}")));
        }
        let own_prefix = self.read(|catalog| catalog.category(index).prefix.clone());
        if fields.prefix.is_some_and(|prefix| prefix != own_prefix) {
            let detail = format!("the prefix of {name} is {own_prefix:?} and cannot be changed; leave prefix out");
            return Err(Problem::new(409, detail));
        }
        if let Some(title) = fields.title {
            checked(self.ledger.change_catalog(CatalogChange::SetTitle(index, title)))?;
        }
        Ok(self.category(200, index))
    }

    /// Returns whether it was created by this request, and not by another one meanwhile.
    fn create(&self, name: &str, CategoryFields { title, prefix }: CategoryFields) -> Result<bool, Problem> {
        let missing = || Problem::new(422, r#"prefix is missing; ids of new products begin with it, such as "T""#);
        let prefix = prefix.ok_or_else(missing)?;
        match self.ledger.change_catalog(CatalogChange::AddCategory { name: name.to_owned(), title, prefix }) {
            Err(Rejection::CategoryExists(_)) => Ok(false),
            outcome => checked(outcome).map(|()| true),
        }
    }

    fn category(&self, status: u16, index: CategoryIndex) -> Answer {
        let object = self.read(|catalog| json::category_object(catalog, catalog.category(index)));
        Answer::new(status, JSON, Body::Owned(object.into_bytes())).with("Cache-Control", "no-store")
    }

    fn read<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.feeds.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }
}
