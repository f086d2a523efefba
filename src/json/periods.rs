//! Periods: their list, their reports as JSON and as CSV, and the body that closes one.

use std::collections::HashMap;
use std::fmt::Write;

use super::csv::{field, text_field};
use super::{BodyError, array, invalid, object, quoted};
use crate::tally::catalog::{Catalog, Category, Product};
use crate::tally::order::Amount;
use crate::tally::period::{Period, Report};
use crate::tally::rfc3339;

const EXAMPLE: &str = r#"{"number":7}"#;
const CSV_HEADER: &str = "category,id,name,hidden,amount\r\n";

/// Reads the body that closes a period: `{"number":7}`. Returns the number.
///
/// # Errors
/// [`BodyError`] says what to send instead.
pub fn parse_period(body: &[u8]) -> Result<u64, BodyError> {
    let number = object(body, EXAMPLE)?.get("number").map(|raw| Amount::from_json_number(raw.get()));
    match number {
        None => Err(invalid(format!("number is missing; send that of the current period, such as {EXAMPLE}"))),
        Some(Ok(number)) if number.get() > 0 => Ok(number.get().cast_unsigned()),
        Some(_) => Err(invalid(format!("number must be a whole number from 1 on, such as {EXAMPLE}"))),
    }
}

/// The list of periods, each with the time when it was closed, if it is.
#[must_use]
pub fn periods_array(periods: &[(Period, Option<u64>)]) -> String {
    array(periods.iter().map(|(period, closed_ms)| format!("{{{}}}", period_members(period, *closed_ms))))
}

/// A report: `{"number":7,"opened":"…","closed":"…","products":[{"category":"…","id":"A1","name":"…","hidden":false,
/// "amount":10},…]}`; without `closed` while the period is current.
#[must_use]
pub fn report_object(catalog: &Catalog, report: &Report) -> String {
    let products = lines(catalog, report).map(|(category, product, amount)| {
        let [category, id, name] = [&category.name, &product.id, &product.details.name].map(|text| quoted(text));
        let is_hidden = product.is_hidden;
        format!(r#"{{"category":{category},"id":{id},"name":{name},"hidden":{is_hidden},"amount":{amount}}}"#)
    });
    let products = array(products);
    format!(r#"{{{},"products":{products}}}"#, period_members(&report.period, report.closed_ms))
}

/// A report as CSV, with a line of names. A name that a spreadsheet would take for a formula gets an apostrophe. Ids and
/// categories, which programs compare, stay as they are: without parentheses a formula in one can call no function.
#[must_use]
pub fn report_csv(catalog: &Catalog, report: &Report) -> String {
    let mut csv = CSV_HEADER.to_owned();
    for (Category { name: category, .. }, product, amount) in lines(catalog, report) {
        let (id, name) = (field(&product.id), text_field(&product.details.name));
        // Writing to a String never fails.
        let _ = write!(csv, "{},{id},{name},{},{amount}\r\n", field(category), product.is_hidden);
    }
    csv
}

/// The products of a report in the order of the categories, each with its category and its sum. A product that is not in
/// the catalogue, which only another program can have written, is passed over.
fn lines<'a>(catalog: &'a Catalog, report: &Report) -> impl Iterator<Item = (&'a Category, &'a Product, i64)> {
    let amounts: HashMap<_, _> = report.amounts.iter().copied().collect();
    let products =
        catalog.categories().iter().flat_map(|category| category.products.iter().map(move |it| (category, it)));
    products.filter_map(move |(category, index)| Some((category, catalog.product(*index), *amounts.get(index)?)))
}

fn period_members(period: &Period, closed_ms: Option<u64>) -> String {
    let closed = closed_ms.map_or(String::new(), |at_ms| format!(r#","closed":"{}""#, rfc3339::format(at_ms)));
    format!(r#""number":{},"opened":"{}"{closed}"#, period.number, rfc3339::format(period.opened_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::{Details, ProductIndex};

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        let [tools, toys] = ["tools", "toys"].map(|name| catalog.add_category(name, "T").unwrap());
        let details = |name: &str| Details { name: name.into(), rrp: "1".into(), info: String::new() };
        for (category, id, name) in [(toys, "Y1", "=1+1"), (tools, "T1", "Saw \"X\", large"), (tools, "T2", "Axe")] {
            catalog.add_product(category, id, details(name)).unwrap();
        }
        catalog.change_product(ProductIndex(2), details("Axe"), true).unwrap();
        catalog
    }

    fn report(closed_ms: Option<u64>) -> Report {
        let period = Period { number: 7, opened_ms: 1_769_860_800_000, opened_after: 3 };
        let amounts = [(0, -2), (1, 5), (2, 7), (9, 1)].map(|(product, amount)| (ProductIndex(product), amount));
        Report { period, closed_ms, amounts: amounts.to_vec() }
    }

    #[test]
    fn a_report_lists_its_products_by_category_with_hidden_ones() {
        assert_eq!(
            report_object(&catalog(), &report(Some(1_769_860_800_001))),
            r#"{"number":7,"opened":"2026-01-31T12:00:00.000Z","closed":"2026-01-31T12:00:00.001Z","products":[{"category":"tools","id":"T1","name":"Saw \"X\", large","hidden":false,"amount":5},{"category":"tools","id":"T2","name":"Axe","hidden":true,"amount":7},{"category":"toys","id":"Y1","name":"=1+1","hidden":false,"amount":-2}]}"#
        );
        let current = Report { amounts: Vec::new(), ..report(None) };
        let expected = r#"{"number":7,"opened":"2026-01-31T12:00:00.000Z","products":[]}"#;
        assert_eq!(report_object(&catalog(), &current), expected);
    }

    #[test]
    fn a_report_as_csv_has_the_same_lines_and_no_formula() {
        assert_eq!(
            report_csv(&catalog(), &report(None)),
            "category,id,name,hidden,amount\r\ntools,T1,\"Saw \"\"X\"\", large\",false,5\r\ntools,T2,Axe,true,7\r\n\
             toys,Y1,'=1+1,false,-2\r\n"
        );
    }

    #[test]
    fn the_list_has_the_time_of_the_close_of_closed_periods_only() {
        let period = |number, opened_ms| Period { number, opened_ms, opened_after: 0 };
        assert_eq!(
            periods_array(&[(period(1, 0), Some(999)), (period(2, 999), None)]),
            r#"[{"number":1,"opened":"1970-01-01T00:00:00.000Z","closed":"1970-01-01T00:00:00.999Z"},{"number":2,"opened":"1970-01-01T00:00:00.999Z"}]"#
        );
    }

    #[test]
    fn the_number_of_a_period_is_a_whole_number_from_1_on() {
        for body in [r#"{"number":7}"#, r#"{"number":7.0,"x":null}"#, r#"{"number":70e-1}"#] {
            assert_eq!(parse_period(body.as_bytes()), Ok(7), "{body}");
        }
        for body in ["{}", "[7]", "7", r#"{"number":0}"#, r#"{"number":-1}"#, r#"{"number":1.5}"#, r#"{"number":"7"}"#]
        {
            assert!(matches!(parse_period(body.as_bytes()), Err(BodyError::Invalid(_))), "{body}");
        }
        assert!(matches!(parse_period(b"{"), Err(BodyError::Malformed(_))));
    }
}
