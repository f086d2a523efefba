//! Batches: several orders in one body, and the result of each.

use std::fmt::Write;

use serde_json::value::RawValue;

use super::{BodyError, amount, invalid, key, object, ok_message, problem, quoted, text};
use crate::tally::order::{Amount, Key};

/// The most orders of a batch: about as many as fit into the largest body.
pub const MAX_BATCH_ORDERS: usize = 1_000;
const EXAMPLE: &str = r#"{"id":"A1","amount":2,"key":"till-7-0042"}"#;

/// One order of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOrder {
    /// The product's id.
    pub id: String,
    /// The amount.
    pub amount: Amount,
    /// The idempotency key.
    pub key: Option<Key>,
}

/// A batch that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// The body as a whole is invalid.
    Body(BodyError),
    /// Some orders are invalid: each order, or what to change in it.
    Orders(Vec<Result<BatchOrder, String>>),
}

/// Reads a batch: a JSON array of orders, or one order a line (NDJSON).
///
/// # Errors
/// [`BatchError`] says what to send instead.
pub fn parse_batch(body: &[u8], is_ndjson: bool) -> Result<Vec<BatchOrder>, BatchError> {
    let orders = if is_ndjson { split_lines(body) } else { split_array(body)? };
    match orders.len() {
        0 => return Err(invalid_body(format!("there is no order; send some such as {EXAMPLE}"))),
        1..=MAX_BATCH_ORDERS => {}
        count => {
            return Err(invalid_body(format!("{count} orders are too many; send at most {MAX_BATCH_ORDERS} at once")));
        }
    }
    let orders: Vec<Result<BatchOrder, BodyError>> = orders.into_iter().map(parse_one).collect();
    if orders.iter().all(Result::is_ok) {
        return Ok(orders.into_iter().flatten().collect());
    }
    Err(BatchError::Orders(orders.into_iter().map(|order| order.map_err(|error| of_order(&error))).collect()))
}

/// What is wrong with one order.
fn of_order(error: &BodyError) -> String {
    error.to_string().replacen("body", "order", 1)
}

/// Reads one order of a batch.
///
/// # Errors
/// The text says what to change.
#[cfg(feature = "client")]
pub fn parse_batch_order(json: &[u8]) -> Result<BatchOrder, String> {
    parse_one(json).map_err(|error| of_order(&error))
}

fn invalid_body(why: String) -> BatchError {
    BatchError::Body(invalid(why))
}

fn split_lines(body: &[u8]) -> Vec<&[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect()
}

fn split_array(body: &[u8]) -> Result<Vec<&[u8]>, BatchError> {
    let malformed = |error: serde_json::Error| {
        BatchError::Body(BodyError::Malformed(format!("the body is not valid JSON ({error}); send an array of orders")))
    };
    // The syntax is checked first, so that a syntax error is reported before a wrong type.
    serde_json::from_slice::<&RawValue>(body).map_err(malformed)?;
    match serde_json::from_slice::<Vec<&RawValue>>(body) {
        Ok(orders) => Ok(orders.into_iter().map(|order| order.get().as_bytes()).collect()),
        Err(_) => Err(invalid_body(format!("the body must be an array of orders such as [{EXAMPLE}]"))),
    }
}

fn parse_one(json: &[u8]) -> Result<BatchOrder, BodyError> {
    let order = object(json, EXAMPLE)?;
    let id = text(&order, "id")?.ok_or_else(|| invalid(r#"id is missing; send a product id such as "A1""#))?;
    Ok(BatchOrder { id, amount: amount(&order)?, key: key(&order)? })
}

/// The answer to a batch that was counted: one result an order, as an array or one a line.
#[must_use]
pub fn batch_results<'a>(keys: impl Iterator<Item = Option<&'a Key>>, is_ndjson: bool) -> String {
    let results: Vec<String> = keys.map(|key| ok_message(key.map(Key::as_str))).collect();
    if is_ndjson { results.join("\n") + "\n" } else { format!("[{}]", results.join(",")) }
}

/// The problem details of a batch of which no order was counted, with one result an order: its key and its error, if
/// any.
#[must_use]
pub fn batch_problem<'a>(
    status: u16,
    title: &str,
    detail: &str,
    orders: impl Iterator<Item = (Option<&'a Key>, Option<&'a str>)>,
) -> String {
    let mut body = problem(status, title, detail);
    // The results go before the closing brace, as an extension member (RFC 9457, section 3.2).
    body.pop();
    body.push_str(r#","results":["#);
    for (index, (key, error)) in orders.enumerate() {
        body.push_str(if index > 0 { r#",{"ok":false"# } else { r#"{"ok":false"# });
        for (name, text) in [("error", error), ("key", key.map(Key::as_str))] {
            if let Some(text) = text {
                // Writing to a String never fails.
                let _ = write!(body, r#","{name}":{}"#, quoted(text));
            }
        }
        body.push('}');
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_and_lines_hold_the_same_orders() {
        let order = |id: &str, amount, key: Option<&str>| BatchOrder {
            id: id.into(),
            amount: Amount::new(amount).unwrap(),
            key: key.and_then(Key::new),
        };
        let expected = Ok(vec![order("A1", 2, Some("a")), order("B1", -1, None)]);
        let array = br#" [ {"id":"A1","amount":2,"key":"a"} , {"id":"B1","amount":-1} ] "#;
        assert_eq!(parse_batch(array, false), expected);
        let lines = b"{\"id\":\"A1\",\"amount\":2,\"key\":\"a\"}\r\n\n{\"id\":\"B1\",\"amount\":-1}";
        assert_eq!(parse_batch(lines, true), expected);
    }

    #[test]
    fn an_invalid_body_and_invalid_orders_have_different_errors() {
        for (body, is_ndjson) in [("", true), ("[]", false), ("{}", false), ("7", false)] {
            let error = parse_batch(body.as_bytes(), is_ndjson);
            assert!(matches!(error, Err(BatchError::Body(BodyError::Invalid(_)))), "{body}: {error:?}");
        }
        for body in ["", "[", "[{]", "\u{0}"] {
            let error = parse_batch(body.as_bytes(), false);
            assert!(matches!(error, Err(BatchError::Body(BodyError::Malformed(_)))), "{body}: {error:?}");
        }
        let Err(BatchError::Orders(orders)) = parse_batch(b"{\"id\":\"A1\",\"amount\":1}\nnonsense\n{\"id\":7}", true)
        else {
            panic!()
        };
        assert_eq!(orders.iter().map(Result::is_err).collect::<Vec<_>>(), [false, true, true]);
        let many = "{\"id\":\"A1\",\"amount\":1}\n".repeat(MAX_BATCH_ORDERS + 1);
        assert!(matches!(parse_batch(many.as_bytes(), true), Err(BatchError::Body(_))));
    }

    #[test]
    fn each_order_has_a_result() {
        let keys = [Key::new("a\"b"), None];
        assert_eq!(batch_results(keys.iter().map(Option::as_ref), false), r#"[{"ok":true,"key":"a\"b"},{"ok":true}]"#);
        assert_eq!(batch_results(keys[1..].iter().map(Option::as_ref), true), "{\"ok\":true}\n");
        let orders = [(keys[0].as_ref(), Some("x")), (keys[0].as_ref(), None), (None, None)];
        let rejected = batch_problem(422, "T", "d", orders.into_iter());
        let expected = r#"{"title":"T","status":422,"detail":"d","results":[{"ok":false,"error":"x","key":"a\"b"},{"ok":false,"key":"a\"b"},{"ok":false}]}"#;
        assert_eq!(rejected, expected);
    }
}
