//! What goes over the wire: JSON from and to our types, and ready-made WebSocket frames. The only user of serde_json;
//! knows neither sockets nor HTTP.

mod catalog_file;
mod members;
mod orders;
mod totals;

use std::fmt;

use serde_json::value::RawValue;

pub use catalog_file::parse_catalog;
use members::Members;
pub use orders::{BatchError, BatchLine, order_results, parse_batch, push_log_line, refused_batch};
pub use totals::{
    GOODBYE_EVENT, HEARTBEAT_EVENT, going_away_frame, push_event, push_positioned_frame, push_total_frame,
    total_opening, totals_array,
};

use crate::tally::catalog::{Catalog, CategoryIndex, Details};
use crate::tally::order::{Amount, AmountError, Key, MAX_KEY_BYTES};

/// The first byte of a close frame (RFC 6455, section 5.2): FIN and opcode 8.
pub const CLOSE_FRAME: u8 = 0x88;
/// Bytes of a command's name that is repeated to whoever sent it.
const MAX_SHOWN_BYTES: usize = 64;
/// The answer to an order that is on disk.
pub const OK: &str = r#"{"ok":true}"#;

/// Why a body is not what it should be; the text says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// It is no JSON at all: status 400.
    Malformed(String),
    /// It is JSON of another meaning: status 422.
    Wrong(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::Wrong(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BodyError {}

fn members<'a>(json: &'a [u8], example: &str) -> Result<Members<'a>, BodyError> {
    serde_json::from_slice::<Members>(json).or_else(|_| {
        // Whether it is JSON at all is asked apart: a wrong shape may be noticed before bad syntax behind it, and what is
        // no object may hold a number that no double holds, such as 1e400, which is valid all the same.
        serde_json::from_slice::<&RawValue>(json).map_err(|error| malformed(&error, example))?;
        Err(BodyError::Wrong(format!("the body must be a JSON object such as {example}")))
    })
}

fn malformed(error: &serde_json::Error, example: &str) -> BodyError {
    BodyError::Malformed(format!("the body is not valid JSON ({error}); send an object such as {example}"))
}

fn text(members: &Members, name: &str) -> Result<Option<String>, BodyError> {
    let Some(raw) = members.get(name) else { return Ok(None) };
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(BodyError::Wrong(format!("{name} must be a JSON string"))),
    }
}

fn amount(members: &Members) -> Result<Amount, BodyError> {
    let raw = members.get("amount").ok_or_else(|| {
        BodyError::Wrong(r#"amount is missing; send the number of pieces, such as {"amount":10}"#.to_owned())
    })?;
    Amount::from_json_number(raw.get()).map_err(|error: AmountError| BodyError::Wrong(error.to_string()))
}

/// The member `key` of an order.
fn key(members: &Members) -> Result<Option<Key>, BodyError> {
    let Some(text) = text(members, "key")? else { return Ok(None) };
    let told = || format!("key must have 1 to {MAX_KEY_BYTES} bytes and no control characters");
    Key::new(&text).map(Some).ok_or_else(|| BodyError::Wrong(told()))
}

/// Reads the body of an order: `{"amount":10}`, and perhaps `"key"`.
///
/// # Errors
/// [`BodyError`] tells what to send instead.
pub fn parse_order(body: &[u8]) -> Result<(Amount, Option<Key>), BodyError> {
    let members = members(body, r#"{"amount":10}"#)?;
    Ok((amount(&members)?, key(&members)?))
}

/// Reads the body of a new product: `{"name":"…","rrp":"…","info":"…"}`; `rrp` and `info` may be missing.
///
/// # Errors
/// [`BodyError`] tells what to send instead.
pub fn parse_details(body: &[u8]) -> Result<Details, BodyError> {
    let members = members(body, r#"{"name":"Kettle","rrp":"19.99","info":"1.7 l"}"#)?;
    let name = text(&members, "name")?.ok_or_else(|| {
        BodyError::Wrong(
            r#"name is missing; send a string such as "Kettle" (an order goes to /orders/{id})"#.to_owned(),
        )
    })?;
    let rrp = text(&members, "rrp")?.unwrap_or_default();
    let info = text(&members, "info")?.unwrap_or_default();
    let details = Details { name, rrp, info };
    details.check().map_err(|error| BodyError::Wrong(error.to_string()))?;
    Ok(details)
}

/// What a client may say over its WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `update-category`: the subscription moves to this category.
    UpdateCategory(String),
    /// `add-order`: the POST, over the socket.
    AddOrder {
        /// What is ordered.
        id: String,
        /// How many.
        amount: Amount,
        /// What the client calls it, and the answer repeats.
        key: Option<Key>,
    },
}

/// Why a message is no command: what to tell the client, with the key that it sent, if it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// The text for the client.
    pub why: String,
    /// The key of the command that failed.
    pub key: Option<String>,
}

/// Reads a message of a client: `{"cmd":"…","payload":{…}}`.
///
/// # Errors
/// [`CommandError`] with the answer for the client.
pub fn parse_command(message: &str) -> Result<Command, CommandError> {
    const EXAMPLE: &str = r#"{"cmd":"update-category","payload":{"category":"electronics"}}"#;
    let refuse = |error: BodyError| CommandError { why: error.to_string().replacen("body", "message", 1), key: None };
    let envelope = members(message.as_bytes(), EXAMPLE).map_err(refuse)?;
    let cmd = text(&envelope, "cmd")
        .map_err(refuse)?
        .ok_or_else(|| CommandError { why: format!("cmd is missing; send a message such as {EXAMPLE}"), key: None })?;
    let payload = match envelope.get("payload") {
        Some(raw) => members(raw.get().as_bytes(), EXAMPLE)
            .map_err(|_| CommandError { why: format!("payload must be an object, as in {EXAMPLE}"), key: None })?,
        None => Members::default(),
    };
    match cmd.as_str() {
        "update-category" => match text(&payload, "category").map_err(refuse)? {
            Some(category) => Ok(Command::UpdateCategory(category)),
            None => Err(CommandError { why: format!("payload.category is missing, as in {EXAMPLE}"), key: None }),
        },
        "add-order" => {
            let key = key(&payload).map_err(refuse)?;
            let order = || -> Result<(String, Amount), BodyError> {
                let id = text(&payload, "id")?.ok_or_else(|| {
                    BodyError::Wrong(r#"payload.id is missing; send a product id such as "A1""#.to_owned())
                })?;
                Ok((id, amount(&payload)?))
            };
            match order() {
                Ok((id, amount)) => Ok(Command::AddOrder { id, amount, key }),
                Err(error) => Err(CommandError { why: error.to_string(), key: key.map(|key| key.as_str().to_owned()) }),
            }
        }
        _ => {
            // Repeated only if it could be a command: an answer must not be longer than its question.
            let cmd = if cmd.len() <= MAX_SHOWN_BYTES { quoted(&cmd) + "; " } else { String::new() };
            Err(CommandError { why: format!("unknown cmd {cmd}known are update-category and add-order"), key: None })
        }
    }
}

/// The answer to an `add-order` that is on disk.
#[must_use]
pub fn order_taken(key: Option<&str>) -> String {
    match key {
        Some(key) => format!(r#"{{"ok":true,"key":{}}}"#, quoted(key)),
        None => OK.to_owned(),
    }
}

/// An error message of a session.
#[must_use]
pub fn error_message(why: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!(r#"{{"error":{},"key":{}}}"#, quoted(why), quoted(key)),
        None => format!(r#"{{"error":{}}}"#, quoted(why)),
    }
}

/// A problem details object (RFC 9457, section 3).
#[must_use]
pub fn problem(status: u16, title: &str, detail: &str) -> String {
    format!(r#"{{"title":{},"status":{status},"detail":{}}}"#, quoted(title), quoted(detail))
}

/// A category's products as they are listed.
#[must_use]
pub fn products_array(catalog: &Catalog, category: CategoryIndex) -> String {
    let products = catalog.category(category).products.iter().map(|index| {
        let product = catalog.product(*index);
        let Details { name, rrp, info } = &product.details;
        let [id, name, rrp, info] = [&product.id, name, rrp, info].map(|text| quoted(text));
        format!(r#"{{"id":{id},"name":{name},"rrp":{rrp},"info":{info}}}"#)
    });
    array(products)
}

/// The names of all categories.
#[must_use]
pub fn categories_array(catalog: &Catalog) -> String {
    array(catalog.categories().iter().map(|category| quoted(&category.name)))
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// The text as a JSON string, quotes included.
fn quoted(text: &str) -> String {
    // Writing a string to a string has nothing that could fail.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_command_is_not_answered_with_more_than_it_said() {
        let told = |name: &str| parse_command(&format!("{{\"cmd\":{}}}", quoted(name))).unwrap_err().why;
        assert!(told("dance").contains("\"dance\""));
        assert!(told(&"\"".repeat(8_000)).len() < 100);
    }

    fn is_malformed(body: &str) -> bool {
        matches!(parse_order(body.as_bytes()), Err(BodyError::Malformed(_)))
    }

    fn is_wrong(body: &str) -> bool {
        matches!(parse_order(body.as_bytes()), Err(BodyError::Wrong(_)))
    }

    #[test]
    fn an_order_is_an_object_with_an_integer_amount() {
        for body in [r#"{"amount":10}"#, r#" { "amount" : 10.0 , "other": [1,{"a":null}] } "#, r#"{"amount":1e1}"#] {
            assert_eq!(parse_order(body.as_bytes()).map(|(amount, _)| amount.get()), Ok(10), "{body}");
        }
        assert_eq!(parse_order(br#"{"amount":1,"amount":2,"key":"k"}"#), Ok((Amount::new(2).unwrap(), Key::new("k"))));
    }

    #[test]
    fn malformed_json_and_wrong_json_are_told_apart() {
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
            assert!(is_wrong(body), "{body}");
        }
        assert!(is_wrong(r#"{"amount":[10]}"#) && is_wrong(r#"{"amount":true}"#) && is_wrong(r#"{"amount":1e400}"#));
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = format!(r#"{{"amount":1,"x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(parse_order(deep.as_bytes()).map(|(amount, _)| amount.get()), Ok(1));
    }

    #[test]
    fn commands_are_read_and_their_errors_carry_the_key() {
        assert_eq!(
            parse_command(r#"{"cmd":"update-category","payload":{"category":"confectionery"}}"#),
            Ok(Command::UpdateCategory("confectionery".into()))
        );
        assert_eq!(
            parse_command(r#"{"cmd":"add-order","payload":{"id":"A1","amount":2,"key":"k"}}"#),
            Ok(Command::AddOrder { id: "A1".into(), amount: Amount::new(2).unwrap(), key: Key::new("k") })
        );
        let error = parse_command(r#"{"cmd":"add-order","payload":{"id":"A1","amount":"2","key":"k"}}"#).unwrap_err();
        assert_eq!(error.key.as_deref(), Some("k"));
        assert!(parse_command(r#"{"cmd":"add-order","payload":{"id":"A1","amount":2,"key":""}}"#).is_err());
        for message in ["", "7", "{}", r#"{"cmd":1}"#, r#"{"cmd":"x"}"#, r#"{"cmd":"update-category"}"#] {
            assert!(!parse_command(message).unwrap_err().why.is_empty(), "{message}");
        }
    }

    #[test]
    fn what_is_quoted_cannot_leave_its_string() {
        assert_eq!(error_message("a\"b\n", None), r#"{"error":"a\"b\n"}"#);
        assert_eq!(problem(404, "Not Found", "x\u{1}"), r#"{"title":"Not Found","status":404,"detail":"x\u0001"}"#);
    }
}
