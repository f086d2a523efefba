//! What the commands that speak to a server send, and what a server answers. Nothing is expected of an answer: what is not
//! of the form that docs/api.md describes is `None`.

use serde_json::value::RawValue;

use super::{BatchOrder, OK, Object, ok_message, quoted, text};
use crate::tally::catalog::{Catalog, CategoryIndex, Details};
use crate::tally::edge::EdgeStart;
use crate::tally::order::{Amount, Key, Total};
use crate::tally::position::RunList;

/// A message of a live feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedMessage {
    /// The total of a product.
    Total {
        /// The product's id.
        id: String,
        /// Its total.
        total: i64,
        /// Where the feed can be resumed behind this message.
        position: Option<String>,
    },
    /// Products of this category have changed.
    Catalog(String),
    /// Whether the feed is live, or the server does not know of later orders.
    Status {
        /// It does not.
        is_stale: bool,
    },
    /// The number of the last change of the catalogue or period: told to servers that follow the one that tells it.
    News(u64),
}

/// A product with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductName {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A line of the order log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTotal {
    /// The sequence number.
    pub seq: u64,
    /// The product's id.
    pub id: String,
    /// Its total after this order.
    pub total: i64,
}

/// What was ordered of a product in the present minute and in the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentAmounts {
    /// The product's id.
    pub id: String,
    /// The amount since the minute began.
    pub present: i64,
    /// The amount of the minute before.
    pub before: i64,
}

/// The body of one order.
#[must_use]
pub fn order_body(amount: Amount, key: Option<&Key>) -> String {
    match key {
        Some(key) => format!(r#"{{"amount":{},"key":{}}}"#, amount.get(), quoted(key.as_str())),
        None => format!(r#"{{"amount":{}}}"#, amount.get()),
    }
}

/// A line of a batch, with its line end.
#[must_use]
pub fn order_line(order: &BatchOrder, key: &str) -> String {
    format!("{{\"id\":{},\"amount\":{},\"key\":{}}}\n", quoted(&order.id), order.amount.get(), quoted(key))
}

/// Whether a body is the answer to an order that is on disk.
#[must_use]
pub fn is_ok(body: &[u8]) -> bool {
    body.trim_ascii() == OK.as_bytes()
}

/// Whether a body is the answer to a batch with these keys that is on disk.
#[must_use]
pub fn batch_is_counted<'a>(body: &[u8], keys: impl Iterator<Item = &'a str>) -> bool {
    let Ok(body) = std::str::from_utf8(body) else { return false };
    body.lines().eq(keys.map(|key| ok_message(Some(key))))
}

/// The `detail` of a problem (RFC 9457), or its title.
#[must_use]
pub fn problem_detail(body: &[u8]) -> Option<String> {
    let problem = read(body)?;
    let member = |name| text(&problem, name).ok().flatten();
    member("detail").or_else(|| member("title"))
}

/// The first order of a batch that the `results` of a problem name as wrong: its place, and what is wrong.
#[must_use]
pub fn first_wrong_order(body: &[u8]) -> Option<(usize, String)> {
    let problem = read(body)?;
    let results: Vec<Object> = serde_json::from_str(problem.get("results")?.get()).ok()?;
    let errors = results.iter().enumerate();
    errors.into_iter().find_map(|(place, result)| Some((place, text(result, "error").ok().flatten()?)))
}

/// A message of a live feed; `None` for one that this version does not know.
#[must_use]
pub fn feed_message(message: &str) -> Option<FeedMessage> {
    let message = read(message.as_bytes())?;
    let member = |name| text(&message, name).ok().flatten();
    if let Some(category) = member("catalog") {
        return Some(FeedMessage::Catalog(category));
    }
    if let Some(status) = member("status") {
        return Some(FeedMessage::Status { is_stale: status == "stale" });
    }
    if let Some(number) = message.get("news") {
        return number.get().parse().ok().map(FeedMessage::News);
    }
    let total = message.get("total")?.get().parse().ok()?;
    Some(FeedMessage::Total { id: member("id")?, total, position: member("position") })
}

/// A total as a line, in the form of a message without a position.
#[must_use]
pub fn total_line(id: &str, total: i64) -> String {
    format!("{{\"id\":{},\"total\":{total}}}\n", quoted(id))
}

/// The names of the categories.
#[must_use]
pub fn category_names(body: &[u8]) -> Option<Vec<String>> {
    list(body)?.iter().map(|category| text(category, "name").ok()?).collect()
}

/// The products of a category.
#[must_use]
pub fn product_names(body: &[u8]) -> Option<Vec<ProductName>> {
    let product =
        |it: &Object| Some(ProductName { id: text(it, "id").ok()??, name: text(it, "name").ok()?.unwrap_or_default() });
    list(body)?.iter().map(product).collect()
}

/// The amounts of the present minute and the one before, of `GET /rates`.
#[must_use]
pub fn recent_amounts(body: &[u8]) -> Option<Vec<RecentAmounts>> {
    let rates = read(body)?;
    let amounts = |product: &Object| {
        let minutes: Vec<i64> = serde_json::from_str(product.get("amounts")?.get()).ok()?;
        let [.., before, present] = minutes[..] else { return None };
        Some(RecentAmounts { id: text(product, "id").ok()??, present, before })
    };
    list(rates.get("products")?.get().as_bytes())?.iter().map(amounts).collect()
}

/// The lines of a page of the order log.
#[must_use]
pub fn log_totals(body: &[u8]) -> Option<Vec<LogTotal>> {
    let line = |line: &str| {
        let line = read(line.as_bytes())?;
        let number = |name| Some(line.get(name)?.get());
        Some(LogTotal {
            seq: number("seq")?.parse().ok()?,
            id: text(&line, "id").ok()??,
            total: number("total")?.parse().ok()?,
        })
    };
    std::str::from_utf8(body).ok()?.lines().map(line).collect()
}

/// What a server tells another one that follows it.
#[must_use]
pub fn parse_edge_start(body: &[u8]) -> Option<(Catalog, EdgeStart)> {
    let object = read(body)?;
    let number = |name| object.get(name)?.get().parse::<u64>().ok();
    let mut start = EdgeStart {
        opened_after: number("opened_after")?,
        opened_before: serde_json::from_str(object.get("opened_before")?.get()).ok()?,
        last_seq: number("seq")?,
        shown_after: number("shown_after"),
        news: number("news")?,
        runs: RunList::parse(&text(&object, "runs").ok()??),
        ..EdgeStart::default()
    };
    let mut catalog = Catalog::default();
    for category in list(object.get("categories")?.get().as_bytes())? {
        let member = |name| text(&category, name).ok()?;
        let index = catalog.add_stored_category(&member("name")?, &member("prefix")?).ok()?;
        catalog.set_title(index, &member("title")?).ok()?;
    }
    for product in list(object.get("products")?.get().as_bytes())? {
        let member = |name| text(&product, name).ok()?;
        let raw = |name| product.get(name).map(RawValue::get);
        let category: u32 = raw("category")?.parse().ok()?;
        if category as usize >= catalog.categories().len() {
            return None;
        }
        let details = Details { name: member("name")?, rrp: member("rrp")?, info: member("info")? };
        let index = catalog.add_product(CategoryIndex(category), &member("id")?, details.clone()).ok()?;
        if raw("hidden")? == "true" {
            catalog.change_product(index, details, true).ok()?;
        }
        let total = |name| Total::new(raw(name)?.parse().ok()?);
        start.totals.push(total("total")?);
        start.openings.push(total("opening")?);
    }
    Some((catalog, start))
}

fn read(json: &[u8]) -> Option<Object<'_>> {
    serde_json::from_slice(json).ok()
}

fn list(json: &[u8]) -> Option<Vec<Object<'_>>> {
    let items: Vec<&RawValue> = serde_json::from_slice(json).ok()?;
    items.into_iter().map(|item| read(item.get().as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{batch_problem, batch_results, parse_batch, parse_order, problem};

    #[test]
    fn what_is_sent_is_what_the_server_reads() {
        let key = Key::new("till \"7\" \\ ä").unwrap();
        let body = order_body(Amount::new(-3).unwrap(), None);
        assert_eq!(parse_order(body.as_bytes()), Ok((Amount::new(-3).unwrap(), None)));
        let body = order_body(Amount::new(-3).unwrap(), Some(&key));
        assert_eq!(parse_order(body.as_bytes()), Ok((Amount::new(-3).unwrap(), Some(key.clone()))));
        let order = BatchOrder { id: "A1".into(), amount: Amount::new(7).unwrap(), key: Some(key.clone()) };
        assert_eq!(parse_batch(order_line(&order, key.as_str()).as_bytes(), true), Ok(vec![order]));
    }

    #[test]
    fn only_the_results_of_the_same_keys_mean_that_a_batch_is_counted() {
        let keys = [Key::new("a-1").unwrap(), Key::new("a \"2\"").unwrap()];
        let results = batch_results(keys.iter().map(Some), true);
        let is_counted = |body: &str, keys: &[&str]| batch_is_counted(body.as_bytes(), keys.iter().copied());
        assert!(is_counted(&results, &["a-1", "a \"2\""]));
        assert!(!is_counted(&results, &["a-1"]) && !is_counted(&results, &["a-1", "a-2"]));
        assert!(!is_counted("", &["a-1"]) && !is_counted("<html>", &["a-1"]) && !is_counted(OK, &["a-1"]));
        assert!(!batch_is_counted(b"\xff", ["a-1"].into_iter()));
        assert!(is_ok(b"{\"ok\":true}\n") && !is_ok(b"{\"ok\":false}") && !is_ok(b""));
    }

    #[test]
    fn a_problem_has_a_detail_and_names_the_first_wrong_order() {
        let body = problem(404, "Not Found", "there is no \"A9\"");
        assert_eq!(problem_detail(body.as_bytes()).as_deref(), Some("there is no \"A9\""));
        assert_eq!(problem_detail(br#"{"title":"Not Found"}"#).as_deref(), Some("Not Found"));
        for other in [&b"<html>"[..], b"", b"[]", br#"{"detail":7}"#] {
            assert_eq!(problem_detail(other), None);
            assert_eq!(first_wrong_order(other), None);
        }
        let orders = [(None, None), (None, Some("wrong")), (None, Some("wrong too"))];
        let body = batch_problem(422, "Unprocessable Entity", "none", orders.into_iter());
        assert_eq!(first_wrong_order(body.as_bytes()), Some((1, "wrong".into())));
    }

    #[test]
    fn feed_messages_are_read_and_unknown_ones_passed_over() {
        let total = |position: Option<&str>| FeedMessage::Total {
            id: "A1".into(),
            total: -13,
            position: position.map(str::to_owned),
        };
        assert_eq!(feed_message(r#"{"id":"A1","total":-13}"#), Some(total(None)));
        assert_eq!(feed_message(r#"{"id":"A1","total":-13,"position":"x"}"#), Some(total(Some("x"))));
        assert_eq!(feed_message(r#"{"catalog":"toys"}"#), Some(FeedMessage::Catalog("toys".into())));
        let status = |is_stale| Some(FeedMessage::Status { is_stale });
        assert_eq!(feed_message(r#"{"status":"live","version":"9"}"#), status(false));
        assert_eq!(feed_message(r#"{"status":"stale","version":"9"}"#), status(true));
        assert_eq!(feed_message(r#"{"news":3}"#), Some(FeedMessage::News(3)));
        for other in ["", "[]", "{}", r#"{"id":"A1"}"#, r#"{"id":"A1","total":1.5}"#, r#"{"error":"x"}"#] {
            assert_eq!(feed_message(other), None, "{other}");
        }
        assert_eq!(total_line("A1", -13), "{\"id\":\"A1\",\"total\":-13}\n");
    }

    #[test]
    fn lists_are_read_or_none() {
        let products = br#"[{"id":"A1","name":"Lamp","rrp":"1"},{"id":"A2"}]"#;
        let names = product_names(products).unwrap();
        assert_eq!((names[0].name.as_str(), names[1].id.as_str(), names[1].name.as_str()), ("Lamp", "A2", ""));
        assert_eq!(category_names(br#"[{"name":"a"},{"name":"b"}]"#).unwrap(), ["a", "b"]);
        let rates = br#"{"minute":"x","products":[{"id":"A1","amounts":[9,2,1],"ordered":null}]}"#;
        assert_eq!(recent_amounts(rates), Some(vec![RecentAmounts { id: "A1".into(), present: 1, before: 2 }]));
        let log = concat!(
            r#"{"seq":7,"time":"x","id":"A1","amount":2,"total":13,"key":"k"}"#,
            "\n",
            r#"{"seq":8,"time":"x","id":"A2","amount":2,"total":-1}"#,
            "\n"
        );
        let line = |seq, id: &str, total| LogTotal { seq, id: id.into(), total };
        assert_eq!(log_totals(log.as_bytes()), Some(vec![line(7, "A1", 13), line(8, "A2", -1)]));
        assert_eq!((log_totals(b""), log_totals(b"{}"), log_totals(b"<")), (Some(vec![]), None, None));
        for other in [&b""[..], b"{}", b"[7]", br#"[{"name":7}]"#, br#"{"products":[{"id":"A1","amounts":[1]}]}"#] {
            assert_eq!(product_names(other).or(Some(vec![])), Some(vec![]));
            assert_eq!(category_names(other), None);
            assert_eq!(recent_amounts(other), None);
        }
    }
}
