//! The header lines that describe a request's body, its idempotency key, its position and the format of the answer.

use tiny_http::Method;

use crate::http::problem::Problem;
use crate::http::request::{BodyLength, Request};
use crate::http::response::JSON;
use crate::tally::order::{Key, MAX_KEY_BYTES};

/// A JSON merge patch (RFC 7396).
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// One JSON text per line.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// A report as CSV: UTF-8, with a line of names (RFC 4180, section 3).
pub(super) const CSV: &str = "text/csv; charset=utf-8; header=present";
/// Server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";

/// Checks that a request has a body of one of these media types; returns its type.
pub(super) fn expect_body(request: Request<'_>, types: &[&'static str]) -> Result<&'static str, Problem> {
    if request.head().body == BodyLength::Absent {
        return Err(Problem::new(411, "send a body with its Content-Length"));
    }
    let own = request.header("Content-Type").and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let Some(media_type) = types.iter().find(|known| known.eq_ignore_ascii_case(own)) else {
        // RFC 5789, section 2.2; RFC 9110, section 12.5.1.
        let accepted = match request.head().method {
            Method::Patch => "Accept-Patch",
            Method::Put => "Accept",
            _ => "Accept-Post",
        };
        let detail = format!("send the body as JSON, with the header Content-Type: {}", types.join(" or "));
        return Err(Problem::new(415, detail).with(accepted, types.join(", ")));
    };
    match request.header("Content-Encoding") {
        None => Ok(media_type),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(media_type),
        Some(_) => {
            Err(Problem::new(415, "send the body without a Content-Encoding").with("Accept-Encoding", "identity"))
        }
    }
}

/// Whether the client accepts server-sent events.
pub(super) fn asks_for_events(request: Request<'_>) -> bool {
    request
        .items("Accept")
        .any(|range| range.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(EVENTS)))
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// One JSON object.
    Json,
    /// One line a product.
    Csv,
}

/// The form of a report that the client prefers: CSV if its weight is higher than that of JSON (RFC 9110, section
/// 12.5.1). A client that accepts neither gets JSON.
#[inline(never)]
pub(super) fn report_format(request: Request<'_>) -> ReportFormat {
    let weight = |media_type: &str, types: &str| {
        let of =
            |range: &str| request.items("Accept").filter_map(weighted).find(|(own, _)| own.eq_ignore_ascii_case(range));
        of(media_type).or_else(|| of(types)).or_else(|| of("*/*")).map_or(0.0, |(_, weight)| weight)
    };
    if weight("text/csv", "text/*") > weight(JSON, "application/*") { ReportFormat::Csv } else { ReportFormat::Json }
}

/// The value of an item of `Accept` or `Accept-Encoding`, and its weight from 0 to 1; `None` if the weight is malformed.
pub(super) fn weighted(item: &str) -> Option<(&str, f32)> {
    let mut parts = item.split(';').map(str::trim);
    let range = parts.next()?;
    match parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="))) {
        None => Some((range, 1.0)),
        Some(weight) => Some((range, weight.parse().ok().filter(|weight| (0.0..=1.0).contains(weight))?)),
    }
}

/// The position from which the client resumes.
pub(super) fn resume_position(request: Request<'_>) -> Option<&str> {
    request.header("Last-Event-ID").or_else(|| request.parameter("since"))
}

/// The idempotency key. The draft "The Idempotency-Key HTTP Header Field" (IETF httpapi) makes it a quoted string (RFC
/// 8941, section 3.3.3); many clients send it without quotes, so that is accepted too.
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

/// The text of a quoted string whose opening quote has been read.
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
