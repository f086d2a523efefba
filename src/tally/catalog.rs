//! Categories and products, and the rules for all of them together. Maps product ids to indices. Knows neither totals nor
//! storage.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::texts::{default_title, invalid};

pub use super::texts::{CatalogError, Details, MAX_ID_BYTES, MAX_INFO_BYTES, MAX_NAME_BYTES, check_title, is_plain};

/// The most products of one server. A snapshot holds all of them, so this bounds the size of a snapshot.
pub const MAX_PRODUCTS: usize = 10_000;
/// The most bytes of text of all products together: 4 MiB, about 400 bytes for each of [`MAX_PRODUCTS`].
pub const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// The most categories of one server. After every commit the fan-out thread looks at each that has subscribers: 10 µs for
/// 1,000.
pub const MAX_CATEGORIES: usize = 1_000;

/// First path segments of routes, which no new category may have as its name.
pub const RESERVED_NAMES: [&str; 8] =
    ["orders", "log", "healthz", "readyz", "metrics", "categories", "rates", "periods"];

/// A category's index in the catalogue: from 0, in order of addition. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CategoryIndex(pub u32);

/// A product's index in the catalogue: from 0, in order of addition. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductIndex(pub u32);

/// One product of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The id, such as `A1`: letters, digits, `-` and `_` only.
    pub id: String,
    /// Its category.
    pub category: CategoryIndex,
    /// Its texts.
    pub details: Details,
    /// Whether it is absent from lists and feeds, and takes no new order.
    pub is_hidden: bool,
}

/// One category of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// The name in URLs, such as `electronics`: lower-case letters, digits, `-` and `_` only.
    pub name: String,
    /// The name for people, such as `Electronics`.
    pub title: String,
    /// The prefix of generated product ids, such as `A`.
    pub prefix: String,
    /// Its products, in order of addition.
    pub products: Vec<ProductIndex>,
    /// Differs after every change of its products.
    pub revision: u64,
}

/// All categories and products. They are only added, never removed.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    categories: Vec<Category>,
    products: Vec<Product>,
    by_id: HashMap<String, ProductIndex>,
    text_bytes: usize,
}

impl Catalog {
    /// The categories, in order of addition.
    #[must_use]
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Gives every category another revision than it had in this former catalogue.
    pub fn replaces(&mut self, former: &Self) {
        for (category, former) in self.categories.iter_mut().zip(&former.categories) {
            category.revision += former.revision + 1;
        }
    }

    /// The products, in order of addition; `products()[i]` is `ProductIndex(i)`.
    #[must_use]
    pub fn products(&self) -> &[Product] {
        &self.products
    }

    /// The product at an index of this catalogue.
    ///
    /// # Panics
    /// If the index is out of range.
    #[must_use]
    pub fn product(&self, index: ProductIndex) -> &Product {
        &self.products[index.0 as usize]
    }

    /// The category at an index of this catalogue.
    ///
    /// # Panics
    /// If the index is out of range.
    #[must_use]
    pub fn category(&self, index: CategoryIndex) -> &Category {
        &self.categories[index.0 as usize]
    }

    /// The product with this id.
    #[must_use]
    pub fn find_product(&self, id: &str) -> Option<ProductIndex> {
        self.by_id.get(id).copied()
    }

    /// The category with this name.
    #[must_use]
    pub fn find_category(&self, name: &str) -> Option<CategoryIndex> {
        let at = self.categories.iter().position(|category| category.name == name)?;
        Some(CategoryIndex(at as u32))
    }

    /// Adds a category without products.
    ///
    /// # Errors
    /// When the name is in use, reserved or malformed, the prefix is malformed, or there are [`MAX_CATEGORIES`].
    pub fn add_category(&mut self, name: &str, prefix: &str) -> Result<CategoryIndex, CatalogError> {
        self.check_category(name, prefix)?;
        self.add_stored_category(name, prefix)
    }

    /// Checks all that [`Self::add_category`] checks, and adds nothing.
    ///
    /// # Errors
    /// As [`Self::add_category`].
    pub fn check_category(&self, name: &str, prefix: &str) -> Result<(), CatalogError> {
        if RESERVED_NAMES.contains(&name) {
            return invalid(format!("category {name:?}: this is the name of a route; choose another"));
        }
        self.check_stored_category(name, prefix)?;
        if self.categories.len() >= MAX_CATEGORIES {
            return invalid(format!("the catalogue is full: {MAX_CATEGORIES} categories"));
        }
        Ok(())
    }

    /// Adds a category of a data file, which may have more of them, and names that are those of routes by now.
    ///
    /// # Errors
    /// When the name is in use or malformed, or the prefix is malformed.
    pub fn add_stored_category(&mut self, name: &str, prefix: &str) -> Result<CategoryIndex, CatalogError> {
        self.check_stored_category(name, prefix)?;
        let (title, products) = (default_title(name), Vec::new());
        self.categories.push(Category { name: name.into(), title, prefix: prefix.into(), products, revision: 0 });
        Ok(CategoryIndex((self.categories.len() - 1) as u32))
    }

    fn check_stored_category(&self, name: &str, prefix: &str) -> Result<(), CatalogError> {
        if !is_plain(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return invalid(format!(
                "category {name:?}: a name is 1 to {MAX_ID_BYTES} small letters, digits, '-' or '_'"
            ));
        }
        if self.find_category(name).is_some() {
            return invalid(format!("category {name:?} is there twice; remove one"));
        }
        if !is_plain(prefix) || prefix.len() > MAX_ID_BYTES / 2 {
            return invalid(format!(
                "category {name:?}: the prefix must be letters, digits, '-' or '_', such as \"A\""
            ));
        }
        Ok(())
    }

    /// Adds a product with this id, which no other product of any category has.
    ///
    /// # Errors
    /// When the id is in use or malformed, a text is invalid, or the catalogue is full.
    pub fn add_product(
        &mut self,
        category: CategoryIndex,
        id: &str,
        details: Details,
    ) -> Result<ProductIndex, CatalogError> {
        self.check_product(id, &details)?;
        let index = ProductIndex(self.products.len() as u32);
        self.by_id.insert(id.into(), index);
        self.text_bytes += details.bytes();
        let Category { products, revision, .. } = &mut self.categories[category.0 as usize];
        products.push(index);
        *revision += 1;
        self.products.push(Product { id: id.into(), category, details, is_hidden: false });
        Ok(index)
    }

    /// Changes a product's texts, and whether it is hidden.
    ///
    /// # Errors
    /// When a text is invalid, or the catalogue is full. Then nothing is changed.
    ///
    /// # Panics
    /// If the index is out of range.
    pub fn change_product(
        &mut self,
        index: ProductIndex,
        details: Details,
        is_hidden: bool,
    ) -> Result<(), CatalogError> {
        self.check_change(index, &details)?;
        let product = &mut self.products[index.0 as usize];
        self.text_bytes = self.text_bytes - product.details.bytes() + details.bytes();
        (product.details, product.is_hidden) = (details, is_hidden);
        self.categories[product.category.0 as usize].revision += 1;
        Ok(())
    }

    /// Checks all that [`Self::change_product`] checks, and changes nothing.
    ///
    /// # Errors
    /// When a text is invalid, or the catalogue is full.
    ///
    /// # Panics
    /// If the index is out of range.
    pub fn check_change(&self, index: ProductIndex, details: &Details) -> Result<(), CatalogError> {
        details.check()?;
        if self.text_bytes - self.product(index).details.bytes() + details.bytes() > MAX_TEXT_BYTES {
            return invalid(format!("the catalogue is full: {MAX_TEXT_BYTES} bytes of text"));
        }
        Ok(())
    }

    /// Changes a category's title.
    ///
    /// # Errors
    /// When the title is invalid. Then nothing is changed.
    ///
    /// # Panics
    /// If the index is out of range.
    pub fn set_title(&mut self, index: CategoryIndex, title: &str) -> Result<(), CatalogError> {
        check_title(title)?;
        title.clone_into(&mut self.categories[index.0 as usize].title);
        Ok(())
    }

    /// Checks all that [`Self::add_product`] checks, and adds nothing.
    ///
    /// # Errors
    /// When the id is in use or malformed, a text is invalid, or the catalogue is full.
    pub fn check_product(&self, id: &str, details: &Details) -> Result<(), CatalogError> {
        if !is_plain(id) {
            return invalid(format!("product {id:?}: an id is 1 to {MAX_ID_BYTES} letters, digits, '-' or '_'"));
        }
        if self.by_id.contains_key(id) {
            return invalid(format!("product {id:?} is there twice; give one another id"));
        }
        if self.text_bytes + details.bytes() > MAX_TEXT_BYTES {
            return invalid(format!("the catalogue is full: {MAX_TEXT_BYTES} bytes of text"));
        }
        if self.products.len() >= MAX_PRODUCTS {
            return invalid(format!("the catalogue is full: {MAX_PRODUCTS} products"));
        }
        details.check().map_err(|why| CatalogError::new(format!("product {id:?}: {why}")))
    }

    /// The id for the category's next product: its prefix with the number after the highest in use.
    #[must_use]
    pub fn next_id(&self, category: CategoryIndex) -> String {
        let Category { prefix, products, .. } = self.category(category);
        let number = |index: &ProductIndex| self.product(*index).id.strip_prefix(prefix.as_str())?.parse::<u32>().ok();
        let mut next = products.iter().filter_map(number).max().map_or(1, |highest| u64::from(highest) + 1);
        // Another category may have the same prefix, or ids of the same form.
        while self.by_id.contains_key(&format!("{prefix}{next}")) {
            next += 1;
        }
        format!("{prefix}{next}")
    }
}

/// The catalogue that all threads share. The ledger adds a product once it is on disk.
pub type SharedCatalog = Arc<RwLock<Catalog>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn details(name: &str) -> Details {
        Details { name: name.into(), rrp: "1.00".into(), info: String::new() }
    }

    #[test]
    fn the_next_id_follows_the_highest_and_skips_ids_in_use() {
        let mut catalog = Catalog::default();
        let tools = catalog.add_category("tools", "T").unwrap();
        let toys = catalog.add_category("toys", "T").unwrap();
        assert_eq!(catalog.next_id(tools), "T1");
        catalog.add_product(tools, "T7", details("Saw")).unwrap();
        catalog.add_product(tools, "T-special", details("Axe")).unwrap();
        assert_eq!(catalog.next_id(tools), "T8");
        assert_eq!(catalog.next_id(toys), "T1");
        catalog.add_product(tools, "T1", details("Awl")).unwrap();
        assert_eq!(catalog.next_id(toys), "T2");
    }

    #[test]
    fn a_category_cannot_have_the_name_of_a_route_or_of_another() {
        let mut catalog = Catalog::default();
        for name in RESERVED_NAMES.iter().chain(&["", "Tools", "a/b", "a.b", "ä"]) {
            assert!(catalog.add_category(name, "A").is_err(), "{name}");
        }
        catalog.add_category("tools", "A").unwrap();
        assert!(catalog.add_category("tools", "B").is_err());
        // A data file may have it from a time when this was the name of no route.
        catalog.add_stored_category("rates", "R").unwrap();
        assert!(catalog.add_stored_category("tools", "B").is_err());
    }

    #[test]
    fn ids_are_unique_over_all_categories_and_well_formed() {
        let mut catalog = Catalog::default();
        let one = catalog.add_category("one", "A").unwrap();
        let two = catalog.add_category("two", "B").unwrap();
        let first = catalog.add_product(one, "A1", details("x")).unwrap();
        assert!(catalog.add_product(two, "A1", details("y")).is_err());
        assert!(catalog.add_product(two, "B 1", details("y")).is_err());
        assert!(catalog.add_product(two, "B1", details(" ")).is_err());
        assert_eq!((catalog.find_product("A1"), catalog.products().len()), (Some(first), 1));
    }

    #[test]
    fn names_prefixes_and_ids_end_at_their_limits() {
        assert_eq!((MAX_ID_BYTES, MAX_PRODUCTS), (64, 10_000));
        let mut catalog = Catalog::default();
        let (longest, half) = ("n".repeat(64), "P".repeat(32));
        assert!(catalog.add_category(&format!("{longest}n"), "A").is_err());
        assert!(catalog.add_category(&longest, &format!("{half}P")).is_err());
        for prefix in ["", "A.", "ä"] {
            assert!(catalog.add_category(&longest, prefix).is_err(), "{prefix:?}");
        }
        let category = catalog.add_category(&longest, &half).unwrap();
        assert_eq!((catalog.categories().len(), catalog.find_category(&longest)), (1, Some(category)));
        assert!(catalog.add_product(category, &format!("{longest}n"), details("x")).is_err());
        let other = catalog.add_category("other_1-2", "O_1-2").unwrap();
        let index = catalog.add_product(other, &longest, details("x")).unwrap();
        assert_eq!((catalog.product(index).category, catalog.category(other).products.len()), (other, 1));
    }

    #[test]
    fn all_texts_together_are_bounded() {
        let texts = |name: usize, rrp: usize, info: usize| Details {
            name: "n".repeat(name),
            rrp: "r".repeat(rrp),
            info: "i".repeat(info),
        };
        let mut catalog = Catalog::default();
        let one = catalog.add_category("one", "A").unwrap();
        // 4 MiB are 1,747 products of 2,400 bytes and 1,504 more.
        for number in 0..1_747 {
            catalog.add_product(one, &format!("A{number}"), texts(200, 200, 2_000)).unwrap();
        }
        let error = catalog.check_product("more", &texts(2, 3, 1_500)).unwrap_err();
        assert!(error.to_string().contains("4194304 bytes"), "{error}");
        catalog.add_product(one, "last", texts(1, 3, 1_500)).unwrap();
        assert!(catalog.add_product(one, "more", texts(1, 0, 0)).is_err());
    }

    #[test]
    fn a_changed_product_keeps_its_place_and_the_bound_on_texts_holds() {
        let mut catalog = Catalog::default();
        let one = catalog.add_category("one", "A").unwrap();
        assert_eq!(catalog.category(one).title, "One");
        let index = catalog.add_product(one, "A1", details("Saw")).unwrap();
        catalog.change_product(index, details("Axe"), true).unwrap();
        assert_eq!((catalog.product(index).details.name.as_str(), catalog.product(index).is_hidden), ("Axe", true));
        assert!(catalog.change_product(index, details(" "), false).is_err());
        assert!(catalog.product(index).is_hidden);
        let longest = Details { name: "n".repeat(200), rrp: "r".repeat(200), info: "i".repeat(2_000) };
        for number in 0..1_747 {
            catalog.add_product(one, &format!("B{number}"), longest.clone()).unwrap();
        }
        // 1,504 bytes are left for A1.
        let fits = Details { name: "n".repeat(4), rrp: String::new(), info: "i".repeat(1_500) };
        catalog.change_product(index, fits.clone(), false).unwrap();
        let beyond = Details { name: "n".repeat(5), ..fits };
        assert!(catalog.change_product(index, beyond, false).is_err());
        catalog.change_product(index, details("Axe"), false).unwrap();
        catalog.set_title(one, "Number One").unwrap();
        for wrong in ["", " ", "a\nb", &"x".repeat(201)] {
            assert!(catalog.set_title(one, wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(catalog.category(one).title, "Number One");
    }

    #[test]
    fn the_numbers_of_categories_and_products_are_bounded() {
        let mut catalog = Catalog::default();
        let one = catalog.add_category("one", "A").unwrap();
        for number in 1..MAX_CATEGORIES {
            catalog.add_category(&format!("category-{number}"), "B").unwrap();
        }
        assert!(catalog.add_category("more", "B").is_err());
        catalog.add_stored_category("more", "B").unwrap();
        for number in 0..MAX_PRODUCTS {
            catalog.add_product(one, &format!("A{number}"), details("x")).unwrap();
        }
        assert!(catalog.add_product(one, "more", details("x")).is_err());
    }
}
