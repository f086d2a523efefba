//! Authorization: which requests need a token, where the token is sent, and the challenge in a rejection (RFC 6750).

use tiny_http::Method;

use super::route::{is_file, is_probe};
use super::tokens::{Access, AccessError, Tokens};
use crate::http::handshake;
use crate::http::problem::Problem;
use crate::http::request::Request;

/// Checks the token of a request. Called before the path is looked up, so that a rejection does not reveal which paths
/// exist. Returns the token; `None` if no token is required, so that one that was sent is not stored.
pub(super) fn authorize<'a>(tokens: &Tokens, request: Request<'a>) -> Result<Option<&'a str>, Problem> {
    let Some(access) = required_access(request) else { return Ok(None) };
    let token = sent_token(request)?;
    tokens.check(token, access).map_err(challenge)?;
    Ok(token.filter(|_| tokens.are_required()))
}

/// What the request does. `None` for files of the web app, health checks and preflights, which reveal no data.
fn required_access(request: Request<'_>) -> Option<Access> {
    match request.head().method {
        Method::Options => None,
        Method::Get | Method::Head if is_file(request.path()) || is_probe(request.path()) => None,
        Method::Get | Method::Head => Some(Access::Read),
        // What is not written below `/orders` is a product, a category or the period.
        _ if is_order(request.path()) => Some(Access::Write),
        _ => Some(Access::Admin),
    }
}

fn is_order(path: &str) -> bool {
    path == "/orders" || path.starts_with("/orders/")
}

/// The token of an `Authorization` line, or of a handshake's subprotocols. Lines of other schemes are ignored: they are
/// for a proxy.
pub(super) fn sent_token<'a>(request: Request<'a>) -> Result<Option<&'a str>, Problem> {
    let bearer = |line: &'a str| {
        let (scheme, token) = line.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_matches(' '))
    };
    let mut sent = request.headers("Authorization").filter_map(bearer);
    match (sent.next(), sent.next()) {
        (Some(token), None) => Ok(Some(token)),
        (None, _) => Ok(handshake::offered_token(request)),
        (Some(_), Some(_)) => Err(Problem::new(400, "a request has one Authorization line, not several")),
    }
}

/// The problem with its challenge (RFC 6750, section 3).
pub(super) fn challenge(error: AccessError) -> Problem {
    let (status, challenge, detail) = match error {
        AccessError::NoToken => {
            (401, r#"Bearer realm="ordercast""#, "this needs a token; send it as Authorization: Bearer TOKEN")
        }
        AccessError::UnknownToken => (
            401,
            r#"Bearer realm="ordercast", error="invalid_token""#,
            "this token is not known here; ask the operator for one",
        ),
        AccessError::ReadOnly => (
            403,
            r#"Bearer realm="ordercast", error="insufficient_scope""#,
            "this token may read and not write; send one that may write",
        ),
        AccessError::NotAdmin => (
            403,
            r#"Bearer realm="ordercast", error="insufficient_scope""#,
            "this token may not change products, categories or periods; send one of --admin-token-file",
        ),
    };
    Problem::new(status, detail).with("WWW-Authenticate", challenge)
}
