//! Products and categories: their objects and lists, and the bodies that change them.

use serde_json::value::RawValue;

use super::{BodyError, Object, array, invalid, object, price, quoted, text};
use crate::tally::catalog::{Catalog, Category, CategoryIndex, Details, MAX_ID_BYTES, Product};
use crate::tally::product_patch::ProductPatch;
use crate::tally::spelling::suggestion;

/// The body of `PUT /{category}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CategoryFields {
    /// The title for people.
    pub title: Option<String>,
    /// The prefix of new products' ids.
    pub prefix: Option<String>,
}

/// Reads a JSON merge patch (RFC 7396) of the product with this id: any of `name`, `rrp`, `info` and `hidden`. Null
/// removes a price or a description. The product's own `id` may be there, so that an object of a list can be sent back.
///
/// # Errors
/// [`BodyError`] says what to send instead.
pub fn parse_product_patch(body: &[u8], id: &str) -> Result<ProductPatch, BodyError> {
    let patch = object(body, r#"{"rrp":"19.99","hidden":false}"#)?;
    expect_members(&patch, &["name", "rrp", "info", "hidden"], Some("id"))?;
    if patch.get("id").is_some() && text(&patch, "id")?.as_deref() != Some(id) {
        return Err(invalid("id cannot be changed; hide this product and add one with the other id"));
    }
    let is_null = |name| patch.get(name).is_some_and(|raw| raw.get() == "null");
    let or_removed = |name, value: Result<Option<String>, BodyError>| {
        if is_null(name) { Ok(Some(String::new())) } else { value }
    };
    let is_hidden = match patch.get("hidden").map(RawValue::get) {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(invalid("hidden must be true or false")),
    };
    Ok(ProductPatch {
        name: text(&patch, "name")?,
        rrp: or_removed("rrp", patch.get("rrp").map(|_| price(&patch)).transpose())?,
        info: or_removed("info", text(&patch, "info"))?,
        is_hidden,
    })
}

/// Reads the body of `PUT /{category}`: `{"title":"…","prefix":"…"}`.
///
/// # Errors
/// [`BodyError`] says what to send instead.
pub fn parse_category(body: &[u8]) -> Result<CategoryFields, BodyError> {
    let category = object(body, r#"{"title":"Garden Tools","prefix":"G"}"#)?;
    expect_members(&category, &["title", "prefix"], None)?;
    Ok(CategoryFields { title: text(&category, "title")?, prefix: text(&category, "prefix")? })
}

/// Rejects members that would be ignored: a change that is half made would be taken for a whole one.
fn expect_members(object: &Object, known: &[&str], allowed: Option<&str>) -> Result<(), BodyError> {
    let Some((name, _)) = object.iter().find(|(name, _)| !known.contains(name) && allowed != Some(*name)) else {
        return Ok(());
    };
    let quoted = if name.len() <= MAX_ID_BYTES { quoted(name) } else { "of this name".to_owned() };
    let meant = suggestion("", name, known.iter().copied());
    Err(invalid(format!("there is no member {quoted}{meant}; known here: {}", known.join(", "))))
}

/// A product, and whether it is hidden: `{"id","name","rrp","info","hidden"}`.
#[must_use]
pub fn product_object(product: &Product) -> String {
    format!(r#"{{{},"hidden":{}}}"#, product_members(product), product.is_hidden)
}

fn product_members(product: &Product) -> String {
    let Details { name, rrp, info } = &product.details;
    let [id, name, rrp, info] = [&product.id, name, rrp, info].map(|text| quoted(text));
    format!(r#""id":{id},"name":{name},"rrp":{rrp},"info":{info}"#)
}

/// The list of a category's products: those that are shown, or all of them with a member `hidden`.
#[must_use]
pub fn products_array(catalog: &Catalog, category: CategoryIndex, with_hidden: bool) -> String {
    let products = catalog.category(category).products.iter().map(|index| catalog.product(*index));
    if with_hidden {
        array(products.map(product_object))
    } else {
        array(products.filter(|product| !product.is_hidden).map(|product| format!("{{{}}}", product_members(product))))
    }
}

/// A category with the number of its products that are shown: `{"name","title","products"}`.
#[must_use]
pub fn category_object(catalog: &Catalog, category: &Category) -> String {
    let Category { name, title, products, .. } = category;
    let shown = products.iter().filter(|index| !catalog.product(**index).is_hidden).count();
    format!(r#"{{"name":{},"title":{},"products":{shown}}}"#, quoted(name), quoted(title))
}

/// The list of categories; unless `with_hidden`, without those whose products are all hidden. Empty ones are listed.
#[must_use]
pub fn categories_array(catalog: &Catalog, with_hidden: bool) -> String {
    let is_listed = |category: &&Category| {
        let products = &category.products;
        with_hidden || products.is_empty() || products.iter().any(|index| !catalog.product(*index).is_hidden)
    };
    array(catalog.categories().iter().filter(is_listed).map(|category| category_object(catalog, category)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(body: &str) -> Result<ProductPatch, BodyError> {
        parse_product_patch(body.as_bytes(), "A1")
    }

    #[track_caller]
    fn expect_invalid(body: &str, part: &str) {
        assert!(matches!(patch(body), Err(BodyError::Invalid(why)) if why.contains(part)), "{body}: {:?}", patch(body));
    }

    #[test]
    fn a_merge_patch_changes_the_members_that_it_has() {
        let text = |text: &str| Some(text.to_owned());
        let nothing = ProductPatch::default;
        assert_eq!(patch("{}"), Ok(nothing()));
        assert_eq!(patch(r#"{"name":"Saw"}"#), Ok(ProductPatch { name: text("Saw"), ..nothing() }));
        assert_eq!(patch(r#"{"rrp":5.10}"#), Ok(ProductPatch { rrp: text("5.10"), ..nothing() }));
        assert_eq!(patch(r#"{"rrp":"4,50 €"}"#), Ok(ProductPatch { rrp: text("4,50 €"), ..nothing() }));
        assert_eq!(patch(r#"{"hidden":true}"#), Ok(ProductPatch { is_hidden: Some(true), ..nothing() }));
        let whole = ProductPatch { name: text("x"), rrp: text("1"), info: text("i"), is_hidden: Some(false) };
        assert_eq!(patch(r#"{"id":"A1","name":"x","rrp":"1","info":"i","hidden":false}"#), Ok(whole));
        // Of a repeated member the last one counts.
        assert_eq!(patch(r#"{"hidden":true,"hidden":false}"#).unwrap().is_hidden, Some(false));
    }

    #[test]
    fn null_removes_a_price_and_a_description_and_nothing_else() {
        let removed = ProductPatch { rrp: Some(String::new()), info: Some(String::new()), ..ProductPatch::default() };
        assert_eq!(patch(r#"{"rrp":null,"info":null}"#), Ok(removed));
        expect_invalid(r#"{"name":null}"#, "name must be");
        expect_invalid(r#"{"hidden":null}"#, "hidden must be true or false");
        expect_invalid(r#"{"id":null}"#, "id must be");
    }

    #[test]
    fn a_patch_that_is_not_understood_is_rejected_in_words() {
        expect_invalid(r#"{"nam":"Saw"}"#, "\"nam\" (did you mean name?); known here: name, rrp, info, hidden");
        expect_invalid(r#"{"total":3}"#, "there is no member \"total\"");
        expect_invalid(&format!(r#"{{"{}":1}}"#, "x".repeat(1_000)), "there is no member of this name;");
        expect_invalid(r#"{"id":"A2"}"#, "id cannot be changed");
        expect_invalid(r#"{"rrp":[]}"#, "rrp must be a JSON string or number");
        expect_invalid(r#"{"info":7}"#, "info must be");
        expect_invalid(r#"{"hidden":1}"#, "hidden must be true or false");
        for body in ["[]", "null", r#""x""#, "7"] {
            expect_invalid(body, "must be a JSON object");
        }
        assert!(matches!(patch("{"), Err(BodyError::Malformed(_))));
    }

    #[test]
    fn a_category_has_a_title_and_a_prefix() {
        let read = |body: &str| parse_category(body.as_bytes());
        let fields = |title: Option<&str>, prefix: Option<&str>| {
            Ok(CategoryFields { title: title.map(str::to_owned), prefix: prefix.map(str::to_owned) })
        };
        assert_eq!(read("{}"), fields(None, None));
        assert_eq!(read(r#"{"title":"Garden","prefix":"G"}"#), fields(Some("Garden"), Some("G")));
        for (body, part) in [
            (r#"{"titl":"x"}"#, "\"titl\" (did you mean title?)"),
            (r#"{"title":null}"#, "title must be"),
            (r#"{"prefix":1}"#, "prefix must be"),
            ("[]", "must be a JSON object"),
        ] {
            assert!(matches!(read(body), Err(BodyError::Invalid(why)) if why.contains(part)), "{body}");
        }
    }

    #[test]
    fn hidden_products_are_in_the_whole_lists_only() {
        let mut catalog = Catalog::default();
        let details = || Details { name: "x".into(), rrp: String::new(), info: String::new() };
        for (name, ids) in [("mixed", &["A1", "A2"][..]), ("hidden", &["B1"]), ("empty", &[])] {
            let category = catalog.add_category(name, "P").unwrap();
            for id in ids {
                let index = catalog.add_product(category, id, details()).unwrap();
                catalog.change_product(index, details(), *id != "A1").unwrap();
            }
        }
        let shown = r#"[{"id":"A1","name":"x","rrp":"","info":""}]"#;
        assert_eq!(products_array(&catalog, CategoryIndex(0), false), shown);
        let all = r#"[{"id":"A1","name":"x","rrp":"","info":"","hidden":false},{"id":"A2","name":"x","rrp":"","info":"","hidden":true}]"#;
        assert_eq!(products_array(&catalog, CategoryIndex(0), true), all);
        assert_eq!(products_array(&catalog, CategoryIndex(1), false), "[]");
        let (mixed, hidden, empty) = (
            r#"{"name":"mixed","title":"Mixed","products":1}"#,
            r#"{"name":"hidden","title":"Hidden","products":0}"#,
            r#"{"name":"empty","title":"Empty","products":0}"#,
        );
        assert_eq!(categories_array(&catalog, false), format!("[{mixed},{empty}]"));
        assert_eq!(categories_array(&catalog, true), format!("[{mixed},{hidden},{empty}]"));
    }
}
