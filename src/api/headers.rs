//! What a request's header lines say about its body, its key, its token and the form of the answer. Owns how each line is
//! read; knows neither paths nor what becomes of the request.

use crate::http::handshake;
use crate::http::problem::Problem;
use crate::http::request::{BodyLength, Request};
use crate::tally::order::{Key, MAX_KEY_BYTES};

/// One JSON text.
pub(super) const JSON: &str = "application/json";
/// One JSON text a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";

/// A request that changes something says how long its body is and of which type; returns which of the types.
pub(super) fn expect_body(request: Request<'_>, types: &[&'static str]) -> Result<&'static str, Problem> {
    if request.head().body == BodyLength::Absent {
        return Err(Problem::new(411, "send a body with its Content-Length"));
    }
    let own = request.header("Content-Type").and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let Some(media_type) = types.iter().find(|known| known.eq_ignore_ascii_case(own)) else {
        return Err(Problem::new(415, "send the body as JSON, with the header Content-Type: application/json")
            .with("Accept-Post", types.join(", ")));
    };
    match request.header("Content-Encoding") {
        None => Ok(media_type),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(media_type),
        Some(_) => {
            Err(Problem::new(415, "send the body without a Content-Encoding").with("Accept-Encoding", "identity"))
        }
    }
}

/// Whether the client takes server-sent events.
pub(super) fn asks_for_events(request: Request<'_>) -> bool {
    let ranges = request.headers("Accept").flat_map(|line| line.split(','));
    ranges.map(|range| range.split(';').next().unwrap_or_default().trim()).any(|own| own.eq_ignore_ascii_case(EVENTS))
}

/// The position that a client names to go on from.
pub(super) fn named_position(request: Request<'_>) -> Option<&str> {
    request.header("Last-Event-ID").or_else(|| request.parameter("since"))
}

/// The key of the draft "The Idempotency-Key HTTP Header Field" (IETF httpapi), which is a string in quotes (RFC 8941,
/// section 3.3.3). Without quotes, as many clients send it, the line is the key.
pub(super) fn idempotency_key(request: Request<'_>) -> Result<Option<Key>, Problem> {
    let mut lines = request.headers("Idempotency-Key");
    let Some(line) = lines.next() else { return Ok(None) };
    let key = match line.strip_prefix('"') {
        None => Key::new(line),
        Some(rest) => unquoted(rest).and_then(|text| Key::new(&text)),
    };
    match (key, lines.next()) {
        (Some(key), None) => Ok(Some(key)),
        _ => Err(Problem::new(
            400,
            format!("send one Idempotency-Key of 1 to {MAX_KEY_BYTES} bytes, such as \"till-7-0042\""),
        )),
    }
}

/// The text of a string whose opening quote has been read.
fn unquoted(rest: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = rest.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(text),
            '\\' => text.push(rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            plain => text.push(plain),
        }
    }
}

/// The token of an `Authorization` line, or of a handshake's subprotocols. Another scheme's line is a proxy's affair.
pub(super) fn presented_token<'a>(request: Request<'a>) -> Result<Option<&'a str>, Problem> {
    let bearer = |line: &'a str| {
        let (scheme, token) = line.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_matches(' '))
    };
    let mut presented = request.headers("Authorization").filter_map(bearer);
    match (presented.next(), presented.next()) {
        (Some(token), None) => Ok(Some(token)),
        (None, _) => Ok(handshake::offered_token(request)),
        (Some(_), Some(_)) => Err(Problem::new(400, "a request has one Authorization line, not several")),
    }
}
