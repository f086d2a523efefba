//! WebSocket messages of clients, and the answers to them.

use super::{BodyError, OK, Object, amount, invalid, key, object, quoted, text};
use crate::tally::order::{Amount, Key};

const EXAMPLE: &str = r#"{"cmd":"update-category","payload":{"category":"electronics"}}"#;
/// The longest command name that an error text repeats, in bytes, so that the answer is not longer than the message.
const MAX_REPEATED_BYTES: usize = 64;

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `update-category`: the subscription moves to this category.
    UpdateCategory(String),
    /// `add-order`: the same as a POST.
    AddOrder {
        /// The product's id.
        id: String,
        /// The amount.
        amount: Amount,
        /// The idempotency key, which the answer repeats.
        key: Option<Key>,
    },
}

/// A message that is not a valid command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// The text for the client: what to send instead.
    pub why: String,
    /// The key of the order that failed.
    pub key: Option<String>,
}

/// Reads a client's message: `{"cmd":"…","payload":{…}}`.
///
/// # Errors
/// [`CommandError`], from which [`error_message`] makes the answer.
pub fn parse_command(message: &str) -> Result<Command, CommandError> {
    let mut key = None;
    read(message, &mut key).map_err(|error| {
        let key = key.map(|key: Key| key.as_str().to_owned());
        CommandError { why: error.to_string(), key }
    })
}

/// Reads a client's message. Sets `order_key` as soon as the key of an order is known.
fn read(message: &str, order_key: &mut Option<Key>) -> Result<Command, BodyError> {
    let envelope = object(message.as_bytes(), EXAMPLE)
        .map_err(|error| invalid(error.to_string().replacen("body", "message", 1)))?;
    let cmd =
        text(&envelope, "cmd")?.ok_or_else(|| invalid(format!("cmd is missing; send a message such as {EXAMPLE}")))?;
    let payload = match envelope.get("payload") {
        Some(raw) => object(raw.get().as_bytes(), EXAMPLE)
            .map_err(|_| invalid(format!("payload must be an object, as in {EXAMPLE}")))?,
        None => Object::default(),
    };
    match cmd.as_str() {
        "update-category" => text(&payload, "category")?
            .map(Command::UpdateCategory)
            .ok_or_else(|| invalid(format!("payload.category is missing, as in {EXAMPLE}"))),
        "add-order" => {
            order_key.clone_from(&key(&payload)?);
            let id = text(&payload, "id")?
                .ok_or_else(|| invalid(r#"payload.id is missing; send a product id such as "A1""#))?;
            Ok(Command::AddOrder { id, amount: amount(&payload)?, key: order_key.clone() })
        }
        _ => {
            let cmd = if cmd.len() <= MAX_REPEATED_BYTES { quoted(&cmd) + "; " } else { String::new() };
            Err(invalid(format!("unknown cmd {cmd}known are update-category and add-order")))
        }
    }
}

/// The answer to an `add-order` whose order is on disk.
#[must_use]
pub fn ok_message(key: Option<&str>) -> String {
    match key {
        Some(key) => format!(r#"{{"ok":true,"key":{}}}"#, quoted(key)),
        None => OK.to_owned(),
    }
}

/// The answer to a message that failed.
#[must_use]
pub fn error_message(why: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!(r#"{{"error":{},"key":{}}}"#, quoted(why), quoted(key)),
        None => format!(r#"{{"error":{}}}"#, quoted(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_an_unknown_command_is_not_longer_than_the_message() {
        let why = |name: &str| parse_command(&format!("{{\"cmd\":{}}}", quoted(name))).unwrap_err().why;
        assert!(why("dance").contains("\"dance\""));
        assert!(why(&"\"".repeat(8_000)).len() < 100);
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
    fn an_error_text_is_escaped() {
        assert_eq!(error_message("a\"b\n", None), r#"{"error":"a\"b\n"}"#);
    }
}
