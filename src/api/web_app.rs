//! The answers to requests for files of the web app.

use super::assets::{Assets, Content};
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::{Answer, Body};

/// The file at the request's path: 200, or 304 if the client has it already.
// Not inlined: a session that follows keeps every page of stack that was touched before it.
#[inline(never)]
pub(super) fn file(assets: &Assets, request: Request<'_>) -> Result<Answer, Problem> {
    let asset =
        assets.find(request.path()).ok_or_else(|| Problem::new(404, "there is no such file; the web app is at /"))?;
    let is_cached = request.items("If-None-Match").any(|tag| tag == "*" || tag.trim_start_matches("W/") == asset.etag);
    let body = match asset.content {
        Content::Embedded(bytes) => Body::Static(bytes),
        Content::Read(bytes) => Body::Shared(bytes),
    };
    // In some browsers 'self' does not include WebSockets, so the page's host is listed for them.
    let websockets = request.host().map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{websockets}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok(Answer::new(if is_cached { 304 } else { 200 }, asset.content_type, body)
        .with("ETag", asset.etag)
        .with("Cache-Control", "no-cache")
        .with("Content-Security-Policy", policy)
        .with("Referrer-Policy", "no-referrer"))
}
