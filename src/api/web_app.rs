//! The answers to requests for files of the web app.

use super::assets::{Assets, Content};
use super::headers::weighted;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::{Answer, Body};

/// How long a file may be used whose address changes with it: a year, the most that RFC 9111 asks for.
const FOR_A_YEAR: &str = "public, max-age=31536000, immutable";

/// The file at the request's path: 200, or 304 if the client has it already. `frames` are the origins whose pages may show
/// the web app in a frame.
// Not inlined: a session that follows keeps every page of stack that was touched before it.
#[inline(never)]
pub(super) fn file(assets: &Assets, frames: &[String], request: Request<'_>) -> Result<Answer, Problem> {
    let asset =
        assets.find(request.path()).ok_or_else(|| Problem::new(404, "there is no such file; the web app is at /"))?;
    let (body, is_compressed) = match asset.content {
        Content::Embedded(_, compressed) if takes_gzip(request) => (Body::Static(compressed), true),
        Content::Embedded(bytes, _) => (Body::Static(bytes), false),
        Content::Read(bytes) => (Body::Shared(bytes), false),
    };
    // Another tag for other bytes (RFC 9110, section 8.8.3).
    let etag = format!("\"{}{}\"", asset.hash, if is_compressed { "-gzip" } else { "" });
    let is_cached = request.items("If-None-Match").any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag);
    // In some browsers 'self' does not include WebSockets, so the page's host is listed for them.
    let websockets = request.host().map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    let frames = if frames.is_empty() { "'none'".to_owned() } else { frames.join(" ") };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{websockets}; \
         base-uri 'none'; form-action 'none'; frame-ancestors {frames}"
    );
    let answer = Answer::new(if is_cached { 304 } else { 200 }, asset.content_type, body)
        .with("ETag", etag)
        .with("Cache-Control", if asset.is_versioned { FOR_A_YEAR } else { "no-cache" })
        .with("Vary", "Accept-Encoding")
        .with("Content-Security-Policy", policy)
        .with("Referrer-Policy", "no-referrer");
    Ok(if is_compressed { answer.with("Content-Encoding", "gzip") } else { answer })
}

/// Whether the client takes gzip (RFC 9110, section 12.5.3). A weight of 0 means that it does not; other weights do not
/// matter, since there is only one alternative.
fn takes_gzip(request: Request<'_>) -> bool {
    let mut any = false;
    for (coding, weight) in request.items("Accept-Encoding").filter_map(weighted) {
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return weight > 0.0,
            "*" => any = weight > 0.0,
            _ => {}
        }
    }
    any
}
