//! Routing on a server that follows another one: which requests it answers itself, and which it passes on.

use tiny_http::Method;

use super::authorization::{challenge, sent_token};
use super::cors;
use super::route::{Route, is_file, is_probe};
use super::routes::{DecidedBy, METHODS, Routes};
use super::upstream::{Denied, PassedRequest, REQUEST_HEADERS, Upstream, away};
use crate::http::problem::Problem;
use crate::http::request::{BodyLength, Request};

impl Routes {
    /// Who decides, on a server that follows another one: feeds, totals and lists of products are answered here, everything
    /// that the other server has to decide is passed on. Not inlined, so that it leaves no stack to what is decided here.
    #[inline(never)]
    pub(super) fn decided_by<'a>(
        &self,
        upstream: &dyn Upstream,
        request: Request<'a>,
        origin: Option<&str>,
    ) -> Result<DecidedBy<'a>, Problem> {
        let method = &request.head().method;
        if *method == Method::Options {
            // Without the path, because the other server may require a token.
            return Ok(DecidedBy::Neither(Box::new(cors::options(request, origin, METHODS))));
        }
        let is_read = matches!(method, Method::Get | Method::Head);
        let is_open = is_read && (is_file(request.path()) || is_probe(request.path()));
        if is_open {
            return Ok(DecidedBy::Here(None));
        }
        let route = Route::find(&self.catalog, request);
        let is_here = match &route {
            Ok(Route::Feed(_) | Route::Metrics | Route::Categories | Route::Category(_)) => true,
            Ok(_) => false,
            // Passed on, a new feed would be answered without an end.
            Err(_) => request.path().starts_with("/orders/"),
        };
        // None of these can be passed on as it is, and all are refused.
        let is_asterisk = request.path() == "*";
        let is_unknown = matches!(method, Method::NonStandard(_));
        let lacks_body = matches!(method, Method::Post | Method::Put | Method::Patch)
            && request.head().body == BodyLength::Absent
            && route.is_ok();
        if !(is_read && is_here || is_unknown || is_asterisk || lacks_body) {
            return Ok(DecidedBy::There(Box::new(passed(request))));
        }
        let token = sent_token(request)?;
        upstream.check_read(token).map_err(|denied| match denied {
            Denied::Access(error) => challenge(error),
            Denied::Away => away(),
        })?;
        if is_read && route.is_err() && !is_asterisk && self.fanout.is_stale() {
            return Err(away());
        }
        Ok(DecidedBy::Here(token))
    }
}

fn passed(request: Request<'_>) -> PassedRequest {
    let headers = REQUEST_HEADERS.into_iter();
    let headers = headers.flat_map(|name| request.headers(name).map(move |value| (name, value.to_owned())));
    // The answer to HEAD has the length of the body that GET has.
    let method = if request.head().method == Method::Head { Method::Get } else { request.head().method.clone() };
    PassedRequest { method, target: request.target(), headers: headers.collect(), body: Vec::new() }
}
