//! The answers that depend on `Host` and `Origin`: rejected requests, and preflights (CORS, Fetch standard section
//! 3.2).

use super::foreign::{ForeignRequests, MAX_REPEATED_BYTES};
use crate::http::origin::Policy;
use crate::http::problem::Problem;
use crate::http::request::Request;
use crate::http::response::Answer;

/// How long a browser may cache the answer to a preflight, in seconds: ten minutes.
const PREFLIGHT_SECONDS: &str = "600";

/// Checks `Host` and `Origin`. Returns the origin that may read the answer.
pub(super) fn check_source<'a>(
    policy: &Policy,
    foreign: &ForeignRequests,
    request: Request<'a>,
) -> Result<Option<&'a str>, Problem> {
    let host = request.host();
    if !policy.allows_host(host) {
        foreign.hosts.add(host.unwrap_or_default());
        let _ = foreign.log_sums();
        return Err(Problem::new(421, "this server is not reached by that name; start it with --allow-host NAME"));
    }
    match request.single_header("Origin")? {
        None => Ok(None),
        Some(origin) if policy.allows_origin(origin, host) => Ok(Some(origin)),
        Some(origin) => {
            foreign.origins.add(origin);
            let _ = foreign.log_sums();
            let detail = if origin == "null" {
                "pages without an origin of their own are not allowed; serve the page from a web server, or start this \
                 one with --allow-origin '*'"
                    .to_owned()
            } else {
                let origin = if origin.len() <= MAX_REPEATED_BYTES { origin } else { "ORIGIN" };
                format!("pages of this origin are not allowed; start the server with --allow-origin {origin}")
            };
            Err(Problem::new(403, detail))
        }
    }
}

/// The answer to an OPTIONS request. `origin` is the allowed origin that sent it.
pub(super) fn options(request: Request<'_>, origin: Option<&str>, allow: &'static str) -> Answer {
    let answer = Answer::empty(200).with("Allow", allow);
    if origin.is_some() && request.header("Access-Control-Request-Method").is_some() {
        answer
            .with("Access-Control-Allow-Methods", allow)
            .with("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID")
            .with("Access-Control-Max-Age", PREFLIGHT_SECONDS)
    } else {
        answer
    }
}
