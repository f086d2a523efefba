//! Several orders in one body, what became of each, and the log's lines.

use std::fmt::Write;

use serde_json::value::RawValue;

use super::{BodyError, Members, amount, key, members, order_taken, problem, quoted, text};
use crate::store::order_log::Entry;
use crate::tally::order::{Amount, Key};

/// The most orders in one body: 1,000. The body's own bound allows about as many.
pub const MAX_BATCH_ORDERS: usize = 1_000;
const EXAMPLE: &str = r#"{"id":"A1","amount":2,"key":"till-7-0042"}"#;

/// One order of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchLine {
    /// What is ordered.
    pub id: String,
    /// How many.
    pub amount: Amount,
    /// What the client calls it.
    pub key: Option<Key>,
}

/// Why several orders cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// The body as a whole is wrong.
    Body(BodyError),
    /// Some orders are wrong: each order, or what is wrong with it.
    Lines(Vec<Result<BatchLine, String>>),
}

/// Reads several orders: a JSON array of them, or one a line (NDJSON).
///
/// # Errors
/// [`BatchError`] tells what to send instead.
pub fn parse_batch(body: &[u8], is_ndjson: bool) -> Result<Vec<BatchLine>, BatchError> {
    let lines = if is_ndjson { split_lines(body) } else { split_array(body)? };
    match lines.len() {
        0 => return Err(wrong(format!("there is no order; send some such as {EXAMPLE}"))),
        1..=MAX_BATCH_ORDERS => {}
        count => return Err(wrong(format!("{count} orders are too many; send at most {MAX_BATCH_ORDERS} at once"))),
    }
    let read: Vec<Result<BatchLine, BodyError>> = lines.into_iter().map(line).collect();
    if read.iter().all(Result::is_ok) {
        return Ok(read.into_iter().flatten().collect());
    }
    let told = |error: BodyError| error.to_string().replacen("body", "order", 1);
    Err(BatchError::Lines(read.into_iter().map(|line| line.map_err(told)).collect()))
}

fn wrong(why: String) -> BatchError {
    BatchError::Body(BodyError::Wrong(why))
}

fn split_lines(body: &[u8]) -> Vec<&[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect()
}

fn split_array(body: &[u8]) -> Result<Vec<&[u8]>, BatchError> {
    let malformed = |error: serde_json::Error| {
        BatchError::Body(BodyError::Malformed(format!("the body is not valid JSON ({error}); send an array of orders")))
    };
    // Bad syntax comes before a wrong shape.
    serde_json::from_slice::<&RawValue>(body).map_err(malformed)?;
    match serde_json::from_slice::<Vec<&RawValue>>(body) {
        Ok(orders) => Ok(orders.into_iter().map(|order| order.get().as_bytes()).collect()),
        Err(_) => Err(wrong(format!("the body must be an array of orders such as [{EXAMPLE}]"))),
    }
}

fn line(json: &[u8]) -> Result<BatchLine, BodyError> {
    let order: Members<'_> = members(json, EXAMPLE)?;
    let id = text(&order, "id")?
        .ok_or_else(|| BodyError::Wrong(r#"id is missing; send a product id such as "A1""#.to_owned()))?;
    Ok(BatchLine { id, amount: amount(&order)?, key: key(&order)? })
}

/// What became of several orders that were counted: one result each, as an array or one a line.
#[must_use]
pub fn order_results<'a>(keys: impl Iterator<Item = Option<&'a Key>>, is_ndjson: bool) -> String {
    let results: Vec<String> = keys.map(|key| order_taken(key.map(Key::as_str))).collect();
    if is_ndjson { results.join("\n") + "\n" } else { format!("[{}]", results.join(",")) }
}

/// The problem of several orders of which none was counted, with one result for each: its key, if that is known, and what
/// was wrong with it, if something was.
#[must_use]
pub fn refused_batch<'a>(
    status: u16,
    title: &str,
    detail: &str,
    orders: impl Iterator<Item = (Option<&'a Key>, Option<&'a str>)>,
) -> String {
    let mut body = problem(status, title, detail);
    // Inside the closing brace: RFC 9457, section 3.2, allows members of one's own.
    body.pop();
    body.push_str(r#","results":["#);
    for (place, (key, error)) in orders.enumerate() {
        body.push_str(if place > 0 { r#",{"ok":false"# } else { r#"{"ok":false"# });
        for (name, text) in [("error", error), ("key", key.map(Key::as_str))] {
            if let Some(text) = text {
                // Writing to a string does not fail.
                let _ = write!(body, r#","{name}":{}"#, quoted(text));
            }
        }
        body.push('}');
    }
    body.push_str("]}");
    body
}

/// Appends one line of the log as JSON.
pub fn push_log_line(lines: &mut String, Entry { seq, time, id, amount, total, key }: &Entry) {
    let (time, id) = (quoted(time), quoted(id));
    let _ = write!(lines, r#"{{"seq":{seq},"time":{time},"id":{id},"amount":{amount},"total":{total}"#);
    if let Some(key) = key {
        let _ = write!(lines, r#","key":{}"#, quoted(key));
    }
    lines.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_and_lines_hold_the_same_orders() {
        let line = |id: &str, amount, key: Option<&str>| BatchLine {
            id: id.into(),
            amount: Amount::new(amount).unwrap(),
            key: key.and_then(Key::new),
        };
        let expected = Ok(vec![line("A1", 2, Some("a")), line("B1", -1, None)]);
        let array = br#" [ {"id":"A1","amount":2,"key":"a"} , {"id":"B1","amount":-1} ] "#;
        assert_eq!(parse_batch(array, false), expected);
        let lines = b"{\"id\":\"A1\",\"amount\":2,\"key\":\"a\"}\r\n\n{\"id\":\"B1\",\"amount\":-1}";
        assert_eq!(parse_batch(lines, true), expected);
    }

    #[test]
    fn a_wrong_body_and_wrong_orders_are_told_apart() {
        for (body, is_ndjson) in [("", true), ("[]", false), ("{}", false), ("7", false)] {
            let error = parse_batch(body.as_bytes(), is_ndjson);
            assert!(matches!(error, Err(BatchError::Body(BodyError::Wrong(_)))), "{body}: {error:?}");
        }
        for body in ["", "[", "[{]", "\u{0}"] {
            let error = parse_batch(body.as_bytes(), false);
            assert!(matches!(error, Err(BatchError::Body(BodyError::Malformed(_)))), "{body}: {error:?}");
        }
        let Err(BatchError::Lines(lines)) = parse_batch(b"{\"id\":\"A1\",\"amount\":1}\nnonsense\n{\"id\":7}", true)
        else {
            panic!()
        };
        assert_eq!(lines.iter().map(Result::is_err).collect::<Vec<_>>(), [false, true, true]);
        let many = "{\"id\":\"A1\",\"amount\":1}\n".repeat(MAX_BATCH_ORDERS + 1);
        assert!(matches!(parse_batch(many.as_bytes(), true), Err(BatchError::Body(_))));
    }

    #[test]
    fn results_are_one_for_each_order() {
        let keys = [Key::new("a\"b"), None];
        assert_eq!(order_results(keys.iter().map(Option::as_ref), false), r#"[{"ok":true,"key":"a\"b"},{"ok":true}]"#);
        assert_eq!(order_results(keys[1..].iter().map(Option::as_ref), true), "{\"ok\":true}\n");
        let orders = [(keys[0].as_ref(), Some("x")), (keys[0].as_ref(), None), (None, None)];
        let refused = refused_batch(422, "T", "d", orders.into_iter());
        let expected = r#"{"title":"T","status":422,"detail":"d","results":[{"ok":false,"error":"x","key":"a\"b"},{"ok":false,"key":"a\"b"},{"ok":false}]}"#;
        assert_eq!(refused, expected);
    }
}
