//! What a catalogue file asks for, and how a store gets it. Owns the rule that a seed adds what is new and changes
//! nothing that is there; knows neither the file's format nor its place.

use super::{Change, Store, StoreError, Stored, now_ms};
use crate::tally::catalog::{CatalogError, Category, Details, Product};
use crate::tally::order::Total;

/// One category of a catalogue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedCategory {
    /// The name in addresses.
    pub name: String,
    /// What the ids of its new products begin with.
    pub prefix: String,
    /// Its products in the file's order.
    pub products: Vec<SeedProduct>,
}

/// One product of a catalogue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedProduct {
    /// The id that orders name.
    pub id: String,
    /// What a person reads about it.
    pub details: Details,
    /// The total that it starts from, the first time that a data folder sees it.
    pub total: Total,
}

/// Adds the categories and products of `seed` that `stored` does not have, in one commit. Products that are there keep
/// their totals and their texts; returns how many of them have other texts in the seed. What is added to others is a line of
/// the log too, for clients that knew the folder without it.
///
/// # Errors
/// `Ok(Err(_))` when the seed breaks a rule of the catalogue; `Err(_)` when the store refuses.
pub fn plant(
    store: &mut impl Store,
    stored: &mut Stored,
    seed: &[SeedCategory],
) -> Result<Result<usize, CatalogError>, StoreError> {
    let mut catalog = stored.catalog.clone();
    let mut totals = stored.totals.clone();
    let mut changes = Vec::new();
    let (mut last_seq, at_ms, is_first) = (stored.last_seq, now_ms(), catalog.categories().is_empty());
    let mut left = 0;
    for SeedCategory { name, prefix, products } in seed {
        let category = match catalog.find_category(name) {
            Some(index) => index,
            None => match catalog.add_category(name, prefix) {
                Ok(index) => {
                    let (name, prefix) = (name.clone(), prefix.clone());
                    changes.push(Change::Category(Category { name, prefix, products: Vec::new() }));
                    index
                }
                Err(error) => return Ok(Err(error)),
            },
        };
        for SeedProduct { id, details, total } in products {
            match catalog.find_product(id).map(|index| catalog.product(index)) {
                None => {}
                Some(there) if there.category == category => {
                    left += usize::from(there.details != *details);
                    continue;
                }
                Some(there) => {
                    let other = &catalog.category(there.category).name;
                    return Ok(Err(CatalogError::new(format!(
                        "product {id:?} belongs to category {other:?} in the data folder; give this one another id"
                    ))));
                }
            }
            let product = match catalog.add_product(category, id, details.clone()) {
                Ok(product) => product,
                Err(error) => return Ok(Err(error)),
            };
            totals.push(*total);
            changes.push(Change::Product(Product { id: id.clone(), category, details: details.clone() }, *total));
            if !is_first {
                last_seq += 1;
                changes.push(Change::first_line(product, *total, last_seq, at_ms));
            }
        }
    }
    if !changes.is_empty() {
        store.commit(&changes)?;
    }
    stored.catalog = catalog;
    stored.totals = totals;
    stored.last_seq = last_seq;
    Ok(Ok(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KeyUse;
    use crate::tally::order::Key;

    #[derive(Default)]
    struct Counted(usize);

    impl Store for Counted {
        fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
            self.0 += changes.len();
            Ok(())
        }

        fn find_key(&mut self, _key: &Key) -> Result<Option<KeyUse>, StoreError> {
            Ok(None)
        }
    }

    fn category(name: &str, ids: &[&str]) -> SeedCategory {
        let product = |id: &&str| SeedProduct {
            id: (*id).into(),
            details: Details { name: "x".into(), rrp: "1".into(), info: String::new() },
            total: Total::new(3).unwrap(),
        };
        SeedCategory { name: name.into(), prefix: "A".into(), products: ids.iter().map(product).collect() }
    }

    #[test]
    fn a_seed_adds_what_is_new_and_never_resets_a_total() {
        let (mut store, mut stored) = (Counted::default(), Stored::default());
        plant(&mut store, &mut stored, &[category("one", &["A1"])]).unwrap().unwrap();
        assert_eq!(store.0, 2);
        stored.totals[0] = Total::new(9).unwrap();
        let mut changed = category("one", &["A1", "A2"]);
        changed.products[0].details.rrp = "2".into();
        assert_eq!(plant(&mut store, &mut stored, &[changed, category("two", &["B1"])]).unwrap(), Ok(1));
        // One product of each category and a new category, and the lines of the products.
        assert_eq!((store.0, stored.last_seq), (2 + 3 + 2, 2));
        assert_eq!(stored.totals.iter().map(|total| total.get()).collect::<Vec<_>>(), [9, 3, 3]);
    }

    #[test]
    fn a_seed_that_breaks_a_rule_changes_nothing() {
        let (mut store, mut stored) = (Counted::default(), Stored::default());
        let seed = [category("one", &["A1"]), category("two", &["A1"])];
        assert!(plant(&mut store, &mut stored, &seed).unwrap().is_err());
        assert_eq!((store.0, stored.totals.len()), (0, 0));
    }
}
