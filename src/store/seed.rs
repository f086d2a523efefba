//! Seeding a store from a catalogue file. Owns the rule that a seed adds what is missing and changes nothing that is
//! there; knows neither the file's format nor its path.

use super::{Change, Store, StoreError, Stored, now_ms};
use crate::tally::catalog::{Catalog, CatalogError, Details};
use crate::tally::order::Total;

/// One category of a catalogue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedCategory {
    /// The name in addresses.
    pub name: String,
    /// The prefix of its new products' ids.
    pub prefix: String,
    /// The name for people; `None` for the one that the name gives.
    pub title: Option<String>,
    /// Its products in the file's order.
    pub products: Vec<SeedProduct>,
}

/// One product of a catalogue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedProduct {
    /// The id that orders name.
    pub id: String,
    /// Name, price and description.
    pub details: Details,
    /// The starting total, for a data folder that does not have the product.
    pub total: Total,
}

/// Adds the categories and products of `seed` that `stored` does not have, in one commit. Existing ones keep their totals
/// and texts; returns how many of them have other texts in the seed. Unless the folder is new, each product that is added
/// gets an entry in the order log, for clients that knew the folder without it, and all that is added gets lines in the
/// history, which `history_line` makes.
///
/// # Errors
/// `Ok(Err(_))` when the seed breaks a rule of the catalogue; `Err(_)` when the commit fails.
pub fn apply(
    store: &mut impl Store,
    stored: &mut Stored,
    seed: &[SeedCategory],
    history_line: impl Fn(&Change, &Catalog) -> Option<String>,
) -> Result<Result<usize, CatalogError>, StoreError> {
    let Plan { seeded, changes, different } = match plan(stored, seed, history_line) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(error)),
    };
    if !changes.is_empty() {
        store.commit(&changes)?;
    }
    *stored = seeded;
    Ok(Ok(different))
}

/// What a seed adds to a store.
#[derive(Debug)]
pub struct Plan {
    /// What the store holds with it.
    pub seeded: Stored,
    /// What it has to write.
    pub changes: Vec<Change>,
    /// The number of existing entries that have other texts in the seed.
    pub different: usize,
}

/// Plans what [`apply`] commits.
///
/// # Errors
/// When the seed breaks a rule of the catalogue.
pub fn plan(
    stored: &Stored,
    seed: &[SeedCategory],
    history_line: impl Fn(&Change, &Catalog) -> Option<String>,
) -> Result<Plan, CatalogError> {
    let mut seeded = stored.clone();
    let (mut changes, different) = add_missing(&mut seeded, seed)?;
    if !stored.catalog.categories().is_empty() {
        let lines = changes.iter().filter_map(|change| history_line(change, &seeded.catalog));
        let lines: Vec<_> = lines.map(|line| Change::History { at_ms: now_ms(), line }).collect();
        changes.extend(lines);
    }
    Ok(Plan { seeded, changes, different })
}

/// Checks a seed for a data folder that does not exist yet, so that one that would be rejected leaves no file behind.
///
/// # Errors
/// When the seed breaks a rule of the catalogue.
pub fn check(seed: &[SeedCategory]) -> Result<(), CatalogError> {
    add_missing(&mut Stored::default(), seed).map(drop)
}

/// Returns the changes, and the number of existing categories and products with other texts in the seed.
fn add_missing(stored: &mut Stored, seed: &[SeedCategory]) -> Result<(Vec<Change>, usize), CatalogError> {
    let Stored { catalog, totals, openings, ordered_ms, last_seq, first_lines, .. } = stored;
    let (at_ms, is_new) = (now_ms(), catalog.categories().is_empty());
    let (mut changes, mut differing) = (Vec::new(), 0);
    for SeedCategory { name, prefix, title, products } in seed {
        let category = match catalog.find_category(name) {
            Some(index) => {
                differing += usize::from(title.as_ref().is_some_and(|title| *title != catalog.category(index).title));
                index
            }
            None => {
                let index = catalog.add_category(name, prefix)?;
                if let Some(title) = title {
                    catalog.set_title(index, title)?;
                }
                changes.push(Change::Category(catalog.category(index).clone()));
                index
            }
        };
        for SeedProduct { id, details, total } in products {
            if let Some(index) = catalog.find_product(id) {
                let existing = catalog.product(index);
                if existing.category != category {
                    let other = &catalog.category(existing.category).name;
                    return Err(CatalogError::new(format!(
                        "product {id:?} belongs to category {other:?} in the data folder; give this one another id"
                    )));
                }
                differing += usize::from(existing.details != *details);
                continue;
            }
            let product = catalog.add_product(category, id, details.clone())?;
            totals.push(*total);
            openings.push(*total);
            ordered_ms.push(None);
            changes.push(Change::Product(catalog.product(product).clone(), *total));
            if !is_new {
                (*last_seq, *first_lines) = (*last_seq + 1, *first_lines + 1);
                changes.push(Change::FirstLine { seq: *last_seq, at_ms, product, total: *total });
            }
        }
    }
    Ok((changes, differing))
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

        fn has_room_for_key(&mut self, _pending: usize) -> Result<bool, StoreError> {
            Ok(true)
        }
    }

    fn category(name: &str, ids: &[&str]) -> SeedCategory {
        let product = |id: &&str| SeedProduct {
            id: (*id).into(),
            details: Details { name: "x".into(), rrp: "1".into(), info: String::new() },
            total: Total::new(3).unwrap(),
        };
        let products = ids.iter().map(product).collect();
        SeedCategory { name: name.into(), prefix: "A".into(), title: None, products }
    }

    fn add(store: &mut Counted, stored: &mut Stored, seed: &[SeedCategory]) -> Result<usize, CatalogError> {
        let line = |change: &Change, _: &Catalog| match change {
            Change::Category(_) | Change::Product(..) => Some(String::new()),
            _ => None,
        };
        apply(store, stored, seed, line).unwrap()
    }

    #[test]
    fn a_seed_adds_what_is_missing_and_never_resets_a_total() {
        let (mut store, mut stored) = (Counted::default(), Stored::default());
        add(&mut store, &mut stored, &[category("one", &["A1"])]).unwrap();
        assert_eq!(store.0, 2);
        stored.totals[0] = Total::new(9).unwrap();
        let mut changed = category("one", &["A1", "A2"]);
        changed.products[0].details.rrp = "2".into();
        assert_eq!(add(&mut store, &mut stored, &[changed, category("two", &["B1"])]), Ok(1));
        // One product of each category and a new category, the products' entries in the order log, and three lines in the
        // history.
        assert_eq!((store.0, stored.last_seq), (2 + 3 + 2 + 3, 2));
        assert_eq!(stored.totals.iter().map(|total| total.get()).collect::<Vec<_>>(), [9, 3, 3]);
    }

    #[test]
    fn a_title_is_taken_for_a_new_category_and_kept_for_an_existing_one() {
        let (mut store, mut stored) = (Counted::default(), Stored::default());
        let titled = |title: &str| [SeedCategory { title: Some(title.into()), ..category("one", &[]) }];
        assert_eq!(add(&mut store, &mut stored, &titled("Number One")), Ok(0));
        assert_eq!(add(&mut store, &mut stored, &titled("Another")), Ok(1));
        assert_eq!((stored.catalog.categories()[0].title.as_str(), store.0), ("Number One", 1));
        assert!(add(&mut store, &mut Stored::default(), &titled("a\nb")).is_err());
    }

    #[test]
    fn a_seed_that_breaks_a_rule_changes_nothing() {
        let (mut store, mut stored) = (Counted::default(), Stored::default());
        let seed = [category("one", &["A1"]), category("two", &["A1"])];
        assert!(add(&mut store, &mut stored, &seed).is_err());
        assert_eq!((store.0, stored.totals.len()), (0, 0));
    }
}
