//! JSON from and to the types of the lower layers, WebSocket frames, server-sent events and CSV. The only user of
//! `serde_json`; knows neither sockets nor HTTP.

#[cfg(feature = "client")]
mod answers;
mod batch;
mod catalog;
mod catalog_file;
mod command;
mod csv;
mod edge;
mod history_line;
mod log_line;
mod object;
mod periods;
mod rates;
mod totals;

use std::fmt;

use serde_json::value::RawValue;

#[cfg(feature = "client")]
pub use answers::{
    FeedMessage, LogTotal, ProductName, RecentAmounts, batch_is_counted, category_names, feed_message,
    first_wrong_order, is_ok, log_totals, order_body, order_line, parse_edge_start, problem_detail, product_names,
    recent_amounts, total_line,
};
#[cfg(feature = "client")]
pub use batch::parse_batch_order;
pub use batch::{BatchError, BatchOrder, MAX_BATCH_ORDERS, batch_problem, batch_results, parse_batch};
pub use catalog::{
    CategoryFields, categories_array, category_object, parse_category, parse_product_patch, product_object,
    products_array,
};
pub use catalog_file::parse_catalog;
pub use command::{Command, CommandError, error_message, ok_message, parse_command};
pub use csv::{field as csv_field, text_field as csv_text_field};
pub use edge::edge_start;
pub use history_line::history_line;
pub use log_line::push_log_line;
use object::Object;
pub use periods::{parse_period, periods_array, report_csv, report_object};
pub use rates::rates_object;
pub use totals::{
    CLOSE_FRAME, FeedEnd, HEARTBEAT_EVENT, LOG_UNREADABLE, POSITION_UNKNOWN, RETRY_EVENT, SHUTDOWN, STATUS_LIVE,
    STATUS_STALE, catalog_notice, news_notice, push_event, push_named_event, push_positioned_frame, push_text_frame,
    push_total_frame, total_prefix, totals_array,
};

use crate::tally::catalog::{Details, MAX_ID_BYTES, is_plain};
use crate::tally::order::{Amount, Key, MAX_KEY_BYTES};

/// The answer to an order that is on disk.
pub const OK: &str = r#"{"ok":true}"#;

/// A body that cannot be read. The text says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// It is not JSON: status 400.
    Malformed(String),
    /// It is JSON, but not what is expected: status 422.
    Invalid(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BodyError {}

fn invalid(why: impl Into<String>) -> BodyError {
    BodyError::Invalid(why.into())
}

/// Reads a JSON object; `example` is one for the error text.
fn object<'a>(json: &'a [u8], example: &str) -> Result<Object<'a>, BodyError> {
    serde_json::from_slice::<Object>(json).or_else(|_| {
        // The syntax is checked separately: a wrong type may be found before a syntax error after it. RawValue also
        // accepts numbers that no double holds, such as 1e400, which are valid JSON.
        serde_json::from_slice::<&RawValue>(json).map_err(|error| {
            BodyError::Malformed(format!("the body is not valid JSON ({error}); send an object such as {example}"))
        })?;
        Err(invalid(format!("the body must be a JSON object such as {example}")))
    })
}

/// The string member with this name.
fn text(object: &Object, name: &str) -> Result<Option<String>, BodyError> {
    let Some(raw) = object.get(name) else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map(Some)
        .map_err(|_| invalid(format!(r#"{name} must be a JSON string, such as "text""#)))
}

/// The member `amount` of an order.
fn amount(order: &Object) -> Result<Amount, BodyError> {
    let raw = order
        .get("amount")
        .ok_or_else(|| invalid(r#"amount is missing; send the number of pieces, such as {"amount":10}"#))?;
    Amount::from_json_number(raw.get()).map_err(|error| invalid(error.to_string()))
}

/// The member `key` of an order.
fn key(order: &Object) -> Result<Option<Key>, BodyError> {
    let Some(text) = text(order, "key")? else { return Ok(None) };
    let invalid_key = || invalid(format!("key must have 1 to {MAX_KEY_BYTES} bytes and no control characters"));
    Key::new(&text).map(Some).ok_or_else(invalid_key)
}

/// Reads the body of an order: `{"amount":10}`, optionally with `"key"`.
///
/// # Errors
/// [`BodyError`] says what to send instead.
pub fn parse_order(body: &[u8]) -> Result<(Amount, Option<Key>), BodyError> {
    let order = object(body, r#"{"amount":10}"#)?;
    Ok((amount(&order)?, key(&order)?))
}

/// Reads the body of a new product: `{"name":"…","rrp":"…","info":"…","id":"…"}`, of which only the name is required.
/// Returns the id that the client wants, if any, and the texts. A number as `rrp` keeps its text.
///
/// # Errors
/// [`BodyError`] says what to send instead.
pub fn parse_product(body: &[u8]) -> Result<(Option<String>, Details), BodyError> {
    let product = object(body, r#"{"name":"Kettle","rrp":"19.99","info":"1.7 l"}"#)?;
    let name = text(&product, "name")?
        .ok_or_else(|| invalid(r#"name is missing; send a string such as "Kettle" (an order goes to /orders/{id})"#))?;
    let info = text(&product, "info")?.unwrap_or_default();
    let details = Details { name, rrp: price(&product)?, info };
    details.check().map_err(|error| invalid(error.to_string()))?;
    Ok((wanted_id(&product)?, details))
}

/// The member `rrp` of a product: a string, or a number as it was sent.
fn price(product: &Object) -> Result<String, BodyError> {
    let raw = product.get("rrp").map_or(r#""""#, RawValue::get);
    if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Ok(raw.to_owned());
    }
    serde_json::from_str(raw).map_err(|_| invalid("rrp must be a JSON string or number"))
}

/// The member `id` of a new product. Clients of the protocol send null or an empty text to have it numbered.
fn wanted_id(product: &Object) -> Result<Option<String>, BodyError> {
    match product.get("id").map(RawValue::get) {
        None | Some("null" | r#""""#) => Ok(None),
        Some(_) => text(product, "id")?.filter(|id| is_plain(id)).map(Some).ok_or_else(|| {
            invalid(format!(
                "id must be 1 to {MAX_ID_BYTES} letters, digits, '-' or '_', or null for the next free one"
            ))
        }),
    }
}

/// A problem details object (RFC 9457, section 3).
#[must_use]
pub fn problem(status: u16, title: &str, detail: &str) -> String {
    format!(r#"{{"title":{},"status":{status},"detail":{}}}"#, quoted(title), quoted(detail))
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// The text as a JSON string, quotes included.
#[must_use]
pub fn quoted(text: &str) -> String {
    // Serialising a string never fails.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_malformed(body: &str) -> bool {
        matches!(parse_order(body.as_bytes()), Err(BodyError::Malformed(_)))
    }

    fn is_invalid(body: &str) -> bool {
        matches!(parse_order(body.as_bytes()), Err(BodyError::Invalid(_)))
    }

    #[test]
    fn an_order_is_an_object_with_an_integer_amount() {
        for body in [r#"{"amount":10}"#, r#" { "amount" : 10.0 , "other": [1,{"a":null}] } "#, r#"{"amount":1e1}"#] {
            assert_eq!(parse_order(body.as_bytes()).map(|(amount, _)| amount.get()), Ok(10), "{body}");
        }
        assert_eq!(parse_order(br#"{"amount":1,"amount":2,"key":"k"}"#), Ok((Amount::new(2).unwrap(), Key::new("k"))));
    }

    #[test]
    fn malformed_json_and_invalid_json_have_different_errors() {
        for body in ["", "{", "{\"amount\":}", "[1,", "nonsense", "{\"amount\":01}", "{\"amount\":1}x", "\u{0}"] {
            assert!(is_malformed(body), "{body}");
        }
        assert!(matches!(parse_order(b"{\"a\xff\":1}"), Err(BodyError::Malformed(_))));
        for body in [
            "[]",
            "1",
            "1e400",
            r#""\ud800""#,
            "null",
            "{}",
            r#"{"amount":"10"}"#,
            r#"{"amount":null}"#,
            r#"{"amount":1.5}"#,
        ] {
            assert!(is_invalid(body), "{body}");
        }
        assert!(
            is_invalid(r#"{"amount":[10]}"#) && is_invalid(r#"{"amount":true}"#) && is_invalid(r#"{"amount":1e400}"#)
        );
    }

    #[test]
    fn deep_nesting_is_read() {
        let deep = format!(r#"{{"amount":1,"x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(parse_order(deep.as_bytes()).map(|(amount, _)| amount.get()), Ok(1));
    }

    #[test]
    fn a_price_may_be_a_number_and_keeps_its_text() {
        let product = |rrp: &str| parse_product(format!(r#"{{"name":"x","rrp":{rrp}}}"#).as_bytes());
        for (sent, kept) in
            [("99.99", "99.99"), ("5.10", "5.10"), ("-1e2", "-1e2"), (r#""4,50 €""#, "4,50 €"), (r#""""#, "")]
        {
            assert_eq!(product(sent).unwrap().1.rrp, kept);
        }
        for wrong in ["null", "true", "[]", "{}", &"9".repeat(201)] {
            assert!(matches!(product(wrong), Err(BodyError::Invalid(_))), "{wrong}");
        }
        for malformed in ["01", "+1", "1.", ".5", "0x10", "NaN"] {
            assert!(matches!(product(malformed), Err(BodyError::Malformed(_))), "{malformed}");
        }
    }

    #[test]
    fn an_id_is_wanted_or_numbered() {
        let id = |id: &str| parse_product(format!(r#"{{"name":"x","id":{id}}}"#).as_bytes()).map(|(id, _)| id);
        assert_eq!(id(r#""my-lamp_7""#), Ok(Some("my-lamp_7".into())));
        assert_eq!((id("null"), id(r#""""#)), (Ok(None), Ok(None)));
        for wrong in
            ["7", "[]", r#"" ""#, r#""a b""#, r#""a/b""#, r#""ä""#, r#""a.b""#, &format!("{:?}", "x".repeat(65))]
        {
            assert!(matches!(id(wrong), Err(BodyError::Invalid(why)) if why.starts_with("id must be")), "{wrong}");
        }
    }

    #[test]
    fn a_problem_is_escaped() {
        assert_eq!(problem(404, "Not Found", "x\u{1}"), r#"{"title":"Not Found","status":404,"detail":"x\u0001"}"#);
    }
}
