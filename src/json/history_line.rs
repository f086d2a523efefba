//! Lines of the history of products and categories.

use super::quoted;
use crate::store::Change;
use crate::tally::catalog::{Catalog, Category, Product};

/// The line of a change of a product or category; `None` for any other change. Each line names the product or category,
/// and has the members that were changed: `{"product":"A1","category":"electronics","before":{"rrp":"99.99"},
/// "after":{"rrp":"89.99"}}`. What is new has `"before":null`.
#[must_use]
pub fn history_line(change: &Change, catalog: &Catalog) -> Option<String> {
    Some(match change {
        Change::Category(Category { name, title, prefix, .. }) => {
            let after = [("title", quoted(title)), ("prefix", quoted(prefix))];
            line(&format!(r#""category":{}"#, quoted(name)), None, &after)
        }
        Change::Title { category, before, after } => {
            let name = quoted(&catalog.category(*category).name);
            let title = |title| [("title", quoted(title))];
            line(&format!(r#""category":{name}"#), Some(&title(before)), &title(after))
        }
        Change::Product(product, _) => line(&subject(product, catalog), None, &members(product)),
        Change::ChangedProduct { before, after, .. } => {
            line(&subject(after, catalog), Some(&members(before)), &members(after))
        }
        Change::FirstLine { .. }
        | Change::Order { .. }
        | Change::BatchKey { .. }
        | Change::History { .. }
        | Change::Period(_) => return None,
    })
}

/// A member's name and its value as JSON.
type Member = (&'static str, String);

fn subject(product: &Product, catalog: &Catalog) -> String {
    let category = quoted(&catalog.category(product.category).name);
    format!(r#""product":{},"category":{category}"#, quoted(&product.id))
}

fn members(product: &Product) -> [Member; 4] {
    let details = &product.details;
    [
        ("name", quoted(&details.name)),
        ("rrp", quoted(&details.rrp)),
        ("info", quoted(&details.info)),
        ("hidden", product.is_hidden.to_string()),
    ]
}

/// `before` and `after` have the same members in the same order.
fn line(subject: &str, before: Option<&[Member]>, after: &[Member]) -> String {
    let is_changed = |index: usize| before.is_none_or(|before| before[index] != after[index]);
    let object = |members: &[Member]| {
        let members = members.iter().enumerate().filter(|(index, _)| is_changed(*index));
        let members = members.map(|(_, (name, value))| format!("\"{name}\":{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    };
    let before = before.map_or_else(|| "null".to_owned(), object);
    format!(r#"{{{subject},"before":{before},"after":{}}}"#, object(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::{CategoryIndex, Details, ProductIndex};
    use crate::tally::order::Total;

    #[test]
    fn a_line_says_what_it_was_and_what_it_became() {
        let mut catalog = Catalog::default();
        let tools = catalog.add_category("tools", "T").unwrap();
        let details = Details { name: "Saw \"S\"".into(), rrp: "9.99".into(), info: String::new() };
        let index = catalog.add_product(tools, "T1", details).unwrap();
        let before = catalog.product(index).clone();
        let after = Product {
            details: Details { rrp: "8".into(), ..before.details.clone() },
            is_hidden: true,
            ..before.clone()
        };
        let lines = [
            Change::Category(catalog.category(tools).clone()),
            Change::Title { category: CategoryIndex(0), before: "Tools".into(), after: "All".into() },
            Change::Product(before.clone(), Total::default()),
            Change::ChangedProduct { product: ProductIndex(0), before: before.into(), after: after.into() },
        ]
        .map(|change| history_line(&change, &catalog).unwrap());
        let expected = [
            r#"{"category":"tools","before":null,"after":{"title":"Tools","prefix":"T"}}"#,
            r#"{"category":"tools","before":{"title":"Tools"},"after":{"title":"All"}}"#,
            r#"{"product":"T1","category":"tools","before":null,"after":{"name":"Saw \"S\"","rrp":"9.99","info":"","hidden":false}}"#,
            r#"{"product":"T1","category":"tools","before":{"rrp":"9.99","hidden":false},"after":{"rrp":"8","hidden":true}}"#,
        ];
        assert_eq!(lines, expected);
    }
}
