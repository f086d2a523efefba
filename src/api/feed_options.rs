//! The query parameters of a feed. Owns their names, and what each may be.

use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::live::fanout::{Counts, Interval, MAX_INTERVAL_MS, MIN_INTERVAL_MS, Notices, Options};

/// Every parameter of a category's feed.
pub(super) const PARAMETERS: &[&str] = &["since", "every", "period", "catalog", "status"];
/// Every parameter of the feed of all categories.
pub(super) const PARAMETERS_OF_ALL: &[&str] = &["since", "every", "period", "catalog", "status", "edge"];

/// What the client asks for. An array of totals has no use for what concerns later messages, but checks it too.
///
/// # Errors
/// 400 says what the parameter may be.
#[inline(never)]
pub(super) fn feed_options(request: Request<'_>) -> Result<Options, Problem> {
    let every = match request.parameter("every") {
        None => None,
        Some(text) => match text.parse().ok().and_then(Interval::from_ms) {
            Some(interval) => Some(interval),
            None => {
                let range = format!("from {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS}");
                return Err(Problem::new(
                    400,
                    format!("every must be a whole number of milliseconds {range}, such as every=100"),
                ));
            }
        },
    };
    let counts = match request.parameter("period") {
        None => Counts::Lifetime,
        Some("current") => Counts::Period,
        Some(_) => {
            return Err(Problem::new(
                400,
                "period must be \"current\" here; GET /periods/{number} reports a closed one",
            ));
        }
    };
    let notices = Notices { status: flag(request, "status")?, catalog: flag(request, "catalog")? };
    Ok(Options { every, counts, notices, is_edge: flag(request, "edge")? })
}

fn flag(request: Request<'_>, name: &str) -> Result<bool, Problem> {
    match request.parameter(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::new(400, format!("{name} must be true or false"))),
    }
}
