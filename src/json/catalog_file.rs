//! The catalogue file. Unknown members are errors, because the file is written by hand and may have misspelt names.

use std::collections::HashSet;

use serde_json::error::Category;

use super::{BodyError, Object, price, text};
use crate::store::seed::{SeedCategory, SeedProduct};
use crate::tally::catalog::Details;
use crate::tally::order::{Amount, Total};

/// Reads a catalogue file:
/// `{"electronics":{"title":"…","prefix":"A","products":[{"id":"A1","name":"…","rrp":"…","info":"…","total":3}]}}`.
/// `title`, `rrp`, `info` and `total` are optional. Categories and products keep their order.
///
/// # Errors
/// A text that says where the error is and what to write there.
pub fn parse_catalog(file: &[u8]) -> Result<Vec<SeedCategory>, String> {
    // Some editors write a byte order mark in front (RFC 8259, section 8.1).
    let file = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    let file = std::str::from_utf8(file).map_err(|error| {
        let line = file[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
        format!("line {line}: a character is not UTF-8; save the file with the encoding UTF-8")
    })?;
    let categories: Object = serde_json::from_str(file).map_err(|error| match error.classify() {
        Category::Data => {
            r#"not a JSON object of categories, such as {"tools":{"prefix":"T","products":[]}}"#.to_owned()
        }
        // Where the text cannot go on: what is missing is often at the end of the line before.
        _ => format!(
            "line {}: not valid JSON; look for a missing comma, quote or bracket here or before ({error})",
            error.line()
        ),
    })?;
    let categories: Vec<SeedCategory> =
        categories.iter().map(|(name, raw)| category(name, raw.get())).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    for SeedCategory { name, products, .. } in &categories {
        if !seen.insert((None, name)) {
            return Err(format!("category {name:?} is there twice; join the two"));
        }
        if let Some(twice) = products.iter().find(|product| !seen.insert((Some(()), &product.id))) {
            return Err(format!("category {name:?}: product {:?} is there twice; give one another id", twice.id));
        }
    }
    Ok(categories)
}

fn category(name: &str, json: &str) -> Result<SeedCategory, String> {
    let at = format!("category {name:?}");
    let members = strict_object(json, &at, &["prefix", "title", "products"])?;
    let prefix = string(&members, "prefix", &at)?.ok_or(format!(r#"{at}: prefix is missing, such as "T""#))?;
    let title = string(&members, "title", &at)?;
    let list = members.get("products").map_or("[]", |raw| raw.get());
    let list: Vec<&serde_json::value::RawValue> =
        serde_json::from_str(list).map_err(|_| format!("{at}: products must be an array"))?;
    let products =
        list.iter().enumerate().map(|(index, raw)| product(&format!("{at}, product {}", index + 1), raw.get()));
    Ok(SeedCategory { name: name.to_owned(), prefix, title, products: products.collect::<Result<_, _>>()? })
}

fn product(at: &str, json: &str) -> Result<SeedProduct, String> {
    let members = strict_object(json, at, &["id", "name", "rrp", "info", "total"])?;
    let id = string(&members, "id", at)?.ok_or(format!(r#"{at}: id is missing, such as "T1""#))?;
    let name = string(&members, "name", at)?.ok_or(format!("{at}: name is missing"))?;
    let rrp = price(&members).map_err(|error| at_place(at, &error))?;
    let info = string(&members, "info", at)?.unwrap_or_default();
    let total = match members.get("total") {
        None => Total::default(),
        Some(raw) => Amount::from_json_number(raw.get())
            .map_err(|error| error.to_string().replacen("amount", "total", 1))
            .and_then(|amount| Total::new(amount.get()).ok_or_else(|| "total is out of range".to_owned()))
            .map_err(|why| format!("{at}: {why}"))?,
    };
    Ok(SeedProduct { id, details: Details { name, rrp, info }, total })
}

/// Reads an object that has only the `known` members.
fn strict_object<'a>(json: &'a str, at: &str, known: &[&str]) -> Result<Object<'a>, String> {
    let members: Object = serde_json::from_str(json).map_err(|_| format!("{at}: must be a JSON object"))?;
    if let Some((unknown, _)) = members.iter().find(|(name, _)| !known.contains(name)) {
        return Err(format!("{at}: unknown member {unknown:?}; known are {}", known.join(", ")));
    }
    Ok(members)
}

fn string(members: &Object, name: &str, at: &str) -> Result<Option<String>, String> {
    text(members, name).map_err(|error| at_place(at, &error))
}

fn at_place(at: &str, error: &BodyError) -> String {
    format!("{at}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_members_have_defaults() {
        let seed = parse_catalog(br#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"Saw"}]}}"#).unwrap();
        assert_eq!((seed[0].name.as_str(), seed[0].prefix.as_str()), ("tools", "T"));
        assert_eq!((seed[0].products[0].total, seed[0].title.as_deref()), (Total::default(), None));
        let priced = br#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"Saw","rrp":4.20}]}}"#;
        assert_eq!(parse_catalog(priced).unwrap()[0].products[0].details.rrp, "4.20");
        let seed = parse_catalog(r#"{"x":{"prefix":"T","title":"Süßes"}}"#.as_bytes()).unwrap();
        assert_eq!(seed[0].title.as_deref(), Some("Süßes"));
        assert!(parse_catalog("\u{feff}{}".as_bytes()).unwrap().is_empty(), "as some editors write it");
    }

    #[test]
    fn each_error_names_its_place() {
        for (file, part) in [
            ("[]", "JSON object of categories"),
            ("{", "line 1: not valid JSON"),
            ("{\"tools\":{\n\"prefix\":\"T\"\n\"products\":[]}}", "line 3: not valid JSON; look for a missing comma"),
            (r#"{"tools":1}"#, "category \"tools\""),
            (r#"{"tools":{"products":[]}}"#, "prefix is missing"),
            (r#"{"tools":{"prefix":"T","title":7}}"#, "title must be"),
            (r#"{"tools":{"prefix":"T","products":{}}}"#, "must be an array"),
            (r#"{"tools":{"prefix":"T","products":[{"id":"T1"}]}}"#, "product 1: name is missing"),
            (r#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"x","totla":3}]}}"#, "totla"),
            (r#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"x","total":1.5}]}}"#, "whole number"),
            (r#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"x","rrp":[]}]}}"#, "product 1: rrp must be"),
            (r#"{"tools":{"prefix":"T","products":[{"id":"T1","name":x}]}}"#, "line 1"),
            (r#"{"tools":{"prefix":"T","products":[{"id":"T1","name":"x","total":1e16}]}}"#, "must lie between"),
            (
                r#"{"a":{"prefix":"T","products":[{"id":"T1","name":"x"},{"id":"T1","name":"y"}]}}"#,
                "\"T1\" is there twice",
            ),
            (r#"{"a":{"prefix":"T"},"a":{"prefix":"U"}}"#, "category \"a\" is there twice"),
        ] {
            let why = parse_catalog(file.as_bytes()).unwrap_err();
            assert!(why.contains(part), "{file}: {why}");
        }
        let why = parse_catalog(b"{\n\"x\":{\"prefix\":\"T\",\"title\":\"S\xfc\xdfes\"}}").unwrap_err();
        assert!(why.starts_with("line 2: a character is not UTF-8"), "{why}");
    }
}
