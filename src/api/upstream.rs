//! The server that this one follows. Owns which header lines are passed on; does not know how.

use tiny_http::Method;

use super::tokens::AccessError;
use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::http::response::Answer;
use crate::tally::order::{Amount, Key};

/// The header lines of a request that the routes have a use for. Every other one stays here: those of the connection
/// (RFC 9110, section 7.6.1), and `Host` and `Origin`, which are checked here.
pub const REQUEST_HEADERS: [&str; 5] =
    ["Accept", "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key"];
/// The header lines of an answer that its client has a use for.
pub const ANSWER_HEADERS: [&str; 11] = [
    "Accept",
    "Accept-Encoding",
    "Accept-Patch",
    "Accept-Post",
    "Allow",
    "Cache-Control",
    "Content-Type",
    "Link",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
];

/// The server that this one follows.
pub trait Upstream: Send + Sync {
    /// Whether its feeds may be read with this token.
    ///
    /// # Errors
    /// [`Denied`].
    fn check_read(&self, token: Option<&str>) -> Result<(), Denied>;

    /// Passes a request on. What it has changed is known here before this returns, unless that takes too long.
    fn pass(&self, request: PassedRequest) -> Answer;

    /// Passes an order on, as [`Self::pass`] does.
    ///
    /// # Errors
    /// A text says why it was not counted, or that this is not known.
    fn order(&self, id: &str, amount: Amount, key: Option<&Key>, token: Option<&str>) -> Result<(), String>;
}

/// Why a feed may not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The server that this one follows refuses the token.
    Access(AccessError),
    /// It does not answer.
    Away,
}

/// A request to the server that this one follows.
#[derive(Debug, Clone)]
pub struct PassedRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Header lines, of [`REQUEST_HEADERS`].
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The problem when the server that this one follows does not answer.
#[must_use]
pub fn away() -> Problem {
    Problem::new(503, "the server that this one follows does not answer; nothing was changed; try again")
        .with("Retry-After", RETRY_AFTER_SECONDS)
}

/// The problem when the server that this one follows answers with a redirect, which no server of this API does. Where it
/// leads is not passed on.
#[must_use]
pub fn redirected(status: u16) -> Problem {
    Problem::new(
        502,
        format!("the server that this one follows redirects (status {status}); is it an ordercast server?"),
    )
}
