//! Catalogue files, and the catalogue made from one.

use std::collections::HashSet;

use ordercast::internal::json as wire;
use ordercast::internal::store::seed::{SeedCategory, SeedProduct, apply};
use ordercast::internal::store::{Change, KeyUse, Store, StoreError, Stored};
use ordercast::internal::tally::catalog::{
    Catalog, CategoryIndex, Details, MAX_CATEGORIES, MAX_ID_BYTES, MAX_NAME_BYTES, MAX_PRODUCTS, MAX_TEXT_BYTES,
    ProductIndex, RESERVED_NAMES,
};
use ordercast::internal::tally::order::{Key, MAX_TOTAL, Total};
use ordercast::internal::tally::position::RunList;

use super::command::{amount, keeps_bounds};
use super::json;

/// The longest payload with a length of one byte (RFC 6455, section 5.2), in bytes.
const SHORT_PAYLOAD: usize = 125;

/// The fuzz target `catalog`.
///
/// # Panics
/// When the server and the strict reader read the file differently, or a catalogue exceeds its limits.
pub fn check(input: &[u8]) {
    let expected = std::str::from_utf8(input).ok().and_then(json::value).and_then(categories);
    let seed = match wire::parse_catalog(input) {
        Ok(seed) => {
            assert_eq!(Some(&seed), expected.as_ref());
            seed
        }
        Err(why) => {
            assert_eq!(expected, None, "{why}");
            let has_place = ["category ", "line ", "not a JSON object"].iter().any(|place| why.starts_with(place));
            assert!(has_place, "{why}");
            return;
        }
    };
    let (mut store, mut stored) = (Counted(0), Stored::default());
    match apply(&mut store, &mut stored, &seed, wire::history_line).expect("the store accepts every change") {
        Ok(left) => {
            assert_eq!(left, 0, "the store was empty");
            assert!(is_valid(&seed));
            check_catalog(&stored, &seed);
            let changes = store.0;
            assert_eq!(changes, seed.len() + stored.totals.len());
            let again =
                apply(&mut store, &mut stored, &seed, wire::history_line).expect("the store accepts every change");
            assert_eq!((again, store.0), (Ok(0), changes), "a second start changes nothing");
        }
        Err(error) => {
            assert!(!is_valid(&seed) && !error.to_string().is_empty(), "{error}");
            assert_eq!((store.0, stored.catalog.products().len(), stored.totals.len()), (0, 0, 0));
        }
    }
}

/// A store that accepts every change and counts them.
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

fn categories(file: &str) -> Option<Vec<SeedCategory>> {
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    let mut categories = Vec::new();
    for (name, value) in json::members(file)? {
        let members = object(value, &["prefix", "products", "title"])?;
        let name = name?;
        let prefix = json::string(members[0]?)?;
        let title = match members[2] {
            Some(title) => Some(json::string(title)?),
            None => None,
        };
        let mut products = Vec::new();
        for item in json::items(members[1].unwrap_or("[]"))? {
            let product = product(item)?;
            if !ids.insert(product.id.clone()) {
                return None;
            }
            products.push(product);
        }
        if !names.insert(name.clone()) {
            return None;
        }
        categories.push(SeedCategory { name, prefix, title, products });
    }
    Some(categories)
}

fn product(value: &str) -> Option<SeedProduct> {
    let members = object(value, &["id", "name", "rrp", "info", "total"])?;
    let text = |index: usize| members[index].map_or(Some(String::new()), json::string);
    let (Some(_), Some(_)) = (members[0], members[1]) else { return None };
    let rrp = match members[2] {
        Some(number) if json::is_number(number) => number.to_owned(),
        _ => text(2)?,
    };
    let total = members[4].map_or(Ok(0), amount).ok()?;
    let details = Details { name: text(1)?, rrp, info: text(3)? };
    Some(SeedProduct { id: text(0)?, details, total: Total::new(total)? })
}

/// The values of the object's members in the order of `known`; `None` when it has other members.
fn object<'a>(value: &'a str, known: &[&str]) -> Option<Vec<Option<&'a str>>> {
    let mut values = vec![None; known.len()];
    for (name, value) in json::members(value)? {
        let name = name?;
        values[known.iter().position(|known| *known == name)?] = Some(value);
    }
    Some(values)
}

fn is_plain(name: &str, limit: usize) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    (1..=limit).contains(&name.len()) && name.chars().all(plain)
}

/// Whether the seed follows all rules of a catalogue.
fn is_valid(seed: &[SeedCategory]) -> bool {
    let names = seed.iter().all(|SeedCategory { name, prefix, title, .. }| {
        let is_title = |title: &String| {
            let blank = title.chars().all(char::is_whitespace);
            !blank && title.len() <= MAX_NAME_BYTES && !title.contains(char::is_control)
        };
        let lower_case = !name.contains(|letter: char| letter.is_ascii_uppercase());
        lower_case
            && is_plain(name, MAX_ID_BYTES)
            && is_plain(prefix, MAX_ID_BYTES / 2)
            && !RESERVED_NAMES.contains(&name.as_str())
            && title.as_ref().is_none_or(is_title)
    });
    let mut products = seed.iter().flat_map(|category| &category.products);
    let bytes = |SeedProduct { details, .. }: &SeedProduct| details.name.len() + details.rrp.len() + details.info.len();
    names
        && seed.len() <= MAX_CATEGORIES
        && products.clone().count() <= MAX_PRODUCTS
        && products.clone().map(bytes).sum::<usize>() <= MAX_TEXT_BYTES
        && products.all(|product| is_plain(&product.id, MAX_ID_BYTES) && keeps_bounds(&product.details))
}

fn check_catalog(stored: &Stored, seed: &[SeedCategory]) {
    let Stored { catalog, totals, .. } = stored;
    assert_eq!(totals.len(), catalog.products().len());
    let mut totals = totals.iter();
    let mut next_product = 0;
    for (next_category, SeedCategory { name, title, products, .. }) in (0..).zip(seed) {
        let index = CategoryIndex(next_category);
        assert_eq!(catalog.find_category(name), Some(index));
        assert!(title.as_ref().is_none_or(|title| *title == catalog.category(index).title));
        assert_eq!(catalog.category(index).products.len(), products.len());
        for product in products {
            let index = ProductIndex(next_product);
            next_product += 1;
            assert_eq!(catalog.find_product(&product.id), Some(index));
            assert_eq!((&catalog.product(index).id, &catalog.product(index).details), (&product.id, &product.details));
            let total = totals.next().expect("a total for each product");
            assert_eq!(*total, product.total);
            check_frame(&product.id, *total);
        }
        check_lists(catalog, index);
        let id = catalog.next_id(index);
        assert!(is_plain(&id, MAX_ID_BYTES) && catalog.find_product(&id).is_none(), "the next id is {id}");
    }
    assert_eq!(catalog.categories().len(), seed.len());
}

/// The messages of a total: frames with the right length, and in each an object of two members, or three with a
/// position.
fn check_frame(id: &str, total: Total) {
    assert!((-MAX_TOTAL..=MAX_TOTAL).contains(&total.get()));
    let opening = wire::total_prefix(id);
    let mut frame = Vec::new();
    wire::push_total_frame(&mut frame, &opening, total.get());
    let plain = payload(&frame);
    assert!(plain.len() <= SHORT_PAYLOAD);
    check_total(plain, id, total, None);
    let array = wire::totals_array([(opening.as_slice(), total.get())].into_iter());
    assert_eq!(array, ["[", plain, "]"].concat().into_bytes());

    let (feed, seq) = (id.len(), total.get().unsigned_abs());
    let mut runs = RunList::default();
    runs.begin("0123456789abcdef".to_owned(), 0);
    let position = runs.prefix(feed).at(seq);
    assert_eq!(runs.seq(feed, &position), Some(seq));
    let mut frame = Vec::new();
    wire::push_positioned_frame(&mut frame, &opening, total.get(), &position);
    check_total(payload(&frame), id, total, Some(&position));
    let mut event = Vec::new();
    wire::push_event(&mut event, &opening, total.get(), Some(&position));
    assert_eq!(event, format!("id: {position}\ndata: {plain}\n\n").into_bytes());
}

/// The payload of the one text frame (RFC 6455, section 5.2).
fn payload(frame: &[u8]) -> &str {
    let (length, payload) = match frame {
        [0x81, 126, high, low, payload @ ..] => (u16::from_be_bytes([*high, *low]), payload),
        [0x81, length @ 0..126, payload @ ..] => (u16::from(*length), payload),
        _ => panic!("{frame:?} is not a text frame"),
    };
    assert_eq!(usize::from(length), payload.len());
    std::str::from_utf8(payload).expect("a text frame is UTF-8")
}

fn check_total(message: &str, id: &str, total: Total, position: Option<&str>) {
    let members = json::value(message).and_then(json::members).expect("a total is an object");
    let [(_, own), (_, number), rest @ ..] = members.as_slice() else { panic!("{message}") };
    assert_eq!((json::string(own).as_deref(), amount(number)), (Some(id), Ok(total.get())), "{message}");
    let rest: Vec<_> = rest.iter().map(|(name, value)| (name.clone(), json::string(value))).collect();
    let expected: Vec<_> =
        position.iter().map(|position| (Some("position".to_owned()), Some((*position).to_owned()))).collect();
    assert_eq!(rest, expected, "{message}");
}

/// The lists of products and of categories are JSON and complete.
fn check_lists(catalog: &Catalog, index: CategoryIndex) {
    let products = wire::products_array(catalog, index, false);
    let products = json::value(&products).and_then(json::items).expect("products are an array");
    assert_eq!(products.len(), catalog.category(index).products.len());
    for (listed, own) in products.into_iter().zip(&catalog.category(index).products) {
        let own = catalog.product(*own);
        let listed = product(listed).expect("a product has the form of the catalogue file");
        assert_eq!((&listed.id, &listed.details), (&own.id, &own.details));
    }
    let listed = wire::categories_array(catalog, false);
    let listed = json::value(&listed).and_then(json::items).expect("categories are an array");
    assert_eq!(listed.len(), catalog.categories().len());
    for (listed, own) in listed.into_iter().zip(catalog.categories()) {
        let members = object(listed, &["name", "title", "products"]).expect("a category has three members");
        let [name, title] = [members[0], members[1]].map(|text| text.and_then(json::string));
        assert_eq!((name.as_ref(), title.as_ref()), (Some(&own.name), Some(&own.title)));
        assert_eq!(members[2], Some(own.products.len().to_string().as_str()));
    }
}
