//! What one server tells another one that follows it, as one JSON object.

use super::{array, quoted};
use crate::tally::catalog::{Catalog, Details};
use crate::tally::edge::EdgeStart;
use crate::tally::order::Total;

/// The object. The catalogue may have products that `start` does not know yet, whose totals are 0.
#[must_use]
pub fn edge_start(catalog: &Catalog, start: &EdgeStart) -> String {
    let categories = catalog.categories().iter().map(|category| {
        let [name, title, prefix] = [&category.name, &category.title, &category.prefix].map(|text| quoted(text));
        format!(r#"{{"name":{name},"title":{title},"prefix":{prefix}}}"#)
    });
    let products = catalog.products().iter().enumerate().map(|(index, product)| {
        let Details { name, rrp, info } = &product.details;
        let [id, name, rrp, info] = [&product.id, name, rrp, info].map(|text| quoted(text));
        let number = |totals: &[Total]| totals.get(index).copied().unwrap_or_default().get();
        format!(
            r#"{{"id":{id},"category":{},"name":{name},"rrp":{rrp},"info":{info},"hidden":{},"total":{},"opening":{}}}"#,
            product.category.0,
            product.is_hidden,
            number(&start.totals),
            number(&start.openings)
        )
    });
    let opened_before = array(start.opened_before.iter().map(u64::to_string));
    let EdgeStart { opened_after, last_seq, shown_after, runs, news, .. } = start;
    let shown_after = shown_after.map_or("null".to_owned(), |seq| seq.to_string());
    format!(
        r#"{{"runs":{},"seq":{last_seq},"news":{news},"opened_after":{opened_after},"opened_before":{opened_before},"shown_after":{shown_after},"categories":{},"products":{}}}"#,
        quoted(&runs.text()),
        array(categories),
        array(products)
    )
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;
    use crate::json::parse_edge_start;
    use crate::tally::position::RunList;

    #[test]
    fn what_is_told_is_what_is_read() {
        let mut catalog = Catalog::default();
        let tools = catalog.add_category("tools", "T").unwrap();
        catalog.add_category("empty", "E").unwrap();
        catalog.set_title(tools, "The \"tools\"").unwrap();
        let details = |name: &str| Details { name: name.into(), rrp: "1".into(), info: "ä\\".into() };
        catalog.add_product(tools, "T1", details("Saw")).unwrap();
        let hidden = catalog.add_product(tools, "T2", details("Axe")).unwrap();
        catalog.change_product(hidden, details("Axe"), true).unwrap();
        let mut runs = RunList::default();
        runs.begin("first".into(), 0);
        runs.begin("second".into(), 7);
        let total = |number| Total::new(number).unwrap();
        let start = EdgeStart {
            totals: vec![total(-3), total(9)],
            openings: vec![total(1), total(0)],
            opened_after: 4,
            opened_before: vec![0, 2],
            last_seq: 12,
            shown_after: Some(5),
            runs,
            news: 3,
        };
        for start in [start.clone(), EdgeStart { shown_after: None, ..start }] {
            let (read, its_start) = parse_edge_start(edge_start(&catalog, &start).as_bytes()).unwrap();
            assert_eq!((read.categories().len(), read.products()), (2, catalog.products()));
            assert_eq!((&read.categories()[0].title, its_start), (&catalog.categories()[0].title, start));
        }
        for other in ["", "[]", "{}", r#"{"runs":"","seq":1,"news":0,"opened_after":0,"categories":[],"products":7}"#] {
            assert!(parse_edge_start(other.as_bytes()).is_none(), "{other}");
        }
    }
}
