//! From a request to its answer, or to a session. Owns the paths, methods, statuses and header rules of the wire
//! contract; knows neither sockets nor threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tiny_http::Method;

use crate::api::assets::{Assets, Content};
use crate::api::tokens::{Access, Denied, Token, Tokens};
use crate::http::handshake::{self, Handshake};
use crate::http::origin::Policy;
use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::http::request::Request;
use crate::http::response::{Answer, Body, share};
use crate::http::service::{self, Opening};
use crate::json;
use crate::ledger::{LedgerHandle, Readiness};
use crate::live::fanout::{FanoutHandle, Feed, Format, Subscription};
use crate::tally::catalog::{CategoryIndex, ProductIndex, SharedCatalog};
use crate::tally::order::Key;

pub use super::headers::NDJSON;

use super::headers::{EVENTS, JSON, asks_for_events, expect_body, idempotency_key, named_position, presented_token};

/// How long a browser may remember the answer to a preflight, in seconds: ten minutes.
const PREFLIGHT_SECONDS: &str = "600";

/// Bytes of an origin that is repeated to whoever was refused for it: a scheme, a host name of the longest, and a port.
const MAX_SHOWN_ORIGIN: usize = 270;

/// What the routes work on.
pub struct Routes {
    /// What can be ordered.
    pub catalog: SharedCatalog,
    /// Where totals are read.
    pub fanout: FanoutHandle,
    /// Who tells whether orders can be taken.
    pub ledger: LedgerHandle,
    /// Which names and which web pages are let in.
    pub policy: Policy,
    /// Who may do what.
    pub tokens: Arc<Tokens>,
    /// The web app.
    pub assets: Assets,
    /// The products as they are listed.
    pub lists: ProductLists,
}

/// Each category's products as they are listed, made once for all who ask until one is added: however many clients take
/// their time over a long list, it is in memory once.
#[derive(Debug, Default)]
pub struct ProductLists(Mutex<HashMap<CategoryIndex, ProductList>>);

/// A list, and of how many products it is.
type ProductList = (usize, Arc<[u8]>);

impl ProductLists {
    /// The category's list.
    #[must_use]
    pub fn get(&self, catalog: &SharedCatalog, category: CategoryIndex) -> Arc<[u8]> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = catalog.read().unwrap_or_else(PoisonError::into_inner);
        // Products are only ever added, so their number tells whether the list is the present one.
        let count = catalog.category(category).products.len();
        match lists.get(&category) {
            Some((of, list)) if *of == count => list.clone(),
            _ => {
                let list: Arc<[u8]> = json::products_array(&catalog, category).into_bytes().into();
                lists.insert(category, (count, list.clone()));
                list
            }
        }
    }
}

/// What to do for a request, as its head decides.
pub type Decision = service::Decision<Action, Topic>;
/// A decision, and the origin to which it may be shown.
pub type Routed = service::Routed<Action, Topic>;

/// What a session is about, and who leads it.
#[derive(Debug)]
pub struct Topic {
    /// What it follows, and how.
    pub subscription: Subscription,
    /// The position that it goes on from, if it named one.
    pub since: Option<String>,
    /// The token that was presented, if one was.
    pub token: Option<Token>,
}

impl Topic {
    fn new(feed: Feed, format: Format, since: Option<&str>, token: Option<&str>) -> Self {
        let subscription = Subscription { feed, format };
        Self { subscription, since: since.map(str::to_owned), token: token.map(Token::new) }
    }
}

/// What a request asks for that takes more than its head, or more than a moment.
#[derive(Debug, Clone)]
pub enum Action {
    /// An order of this product, under this key.
    Order(ProductIndex, Option<Key>),
    /// Several orders as one.
    Batch {
        /// One a line, instead of an array.
        is_ndjson: bool,
        /// What the client calls them together.
        key: Option<Key>,
    },
    /// A new product in this category.
    AddProduct(CategoryIndex),
    /// A page of the log.
    Log {
        /// The number of the order behind which it begins.
        after: u64,
        /// How many lines at most.
        limit: usize,
    },
}

/// The most lines in a page of the log, and how many it has unless fewer are asked for: 1,000, some 120 KB.
pub const MAX_LOG_LINES: usize = 1_000;

/// What a path stands for.
enum Place {
    Asset,
    Health,
    Ready,
    Categories,
    Log,
    Feed(Feed),
    /// `/orders/{id}`: a product to post to.
    Product(ProductIndex),
    Category(CategoryIndex),
}

impl Place {
    fn allow(&self) -> &'static str {
        match self {
            Self::Asset | Self::Health | Self::Ready | Self::Categories | Self::Log | Self::Feed(Feed::Category(_)) => {
                "GET, HEAD, OPTIONS"
            }
            Self::Product(_) => "POST, OPTIONS",
            Self::Category(_) | Self::Feed(Feed::All) => "GET, HEAD, POST, OPTIONS",
        }
    }
}

impl Routes {
    /// Decides by the head alone, so that an unwanted body need not be read.
    #[must_use]
    pub fn route(&self, request: Request<'_>) -> Routed {
        let (decision, origin) = match self.check_source(request) {
            Ok(origin) => {
                let decision = self.authorize(request).and_then(|token| self.decide(request, origin, token));
                (decision.unwrap_or_else(|problem| Decision::Answer(answer(&problem))), origin)
            }
            Err(problem) => (Decision::Answer(answer(&problem)), None),
        };
        Routed { decision, origin: origin.map(str::to_owned) }
    }

    /// The host and origin rules; returns the origin to share the answer with.
    #[inline(never)]
    fn check_source<'a>(&self, request: Request<'a>) -> Result<Option<&'a str>, Problem> {
        let host = request.host();
        if !self.policy.allows_host(host) {
            return Err(Problem::new(421, "this server is not reached by that name; start it with --allow-host NAME"));
        }
        let mut origins = request.headers("Origin");
        let origin = origins.next();
        if origins.next().is_some() {
            return Err(Problem::new(400, "a request has one Origin line, not several"));
        }
        match origin {
            None => Ok(None),
            Some(origin) if self.policy.allows_origin(origin, host) => Ok(Some(origin)),
            Some("null") => Err(Problem::new(
                403,
                "pages without an origin of their own are not allowed; serve the page from a web server, or start this one \
                 with --allow-origin '*'",
            )),
            Some(origin) => {
                // As it is listed, unless it is longer than any.
                let origin = if origin.len() <= MAX_SHOWN_ORIGIN { origin } else { "ORIGIN" };
                let told =
                    format!("pages of this origin are not allowed; start the server with --allow-origin {origin}");
                Err(Problem::new(403, told))
            }
        }
    }

    /// Checks the token that is presented; asked before the path is looked up, so that a rejection tells nothing about what
    /// there is. Returns the token, unless nobody is asked for one: then it is whatever somebody sent, and not kept.
    #[inline(never)]
    fn authorize<'a>(&self, request: Request<'a>) -> Result<Option<&'a str>, Problem> {
        let Some(access) = access(request) else { return Ok(None) };
        let token = presented_token(request)?;
        self.tokens.check(token, access).map_err(denied)?;
        Ok(token.filter(|_| self.tokens.are_needed()))
    }

    #[inline(never)]
    fn decide(&self, request: Request<'_>, origin: Option<&str>, token: Option<&str>) -> Result<Decision, Problem> {
        let method = &request.head().method;
        if *method == Method::Options && request.path() == "*" {
            return Ok(Decision::Answer(Answer::empty(200).with("Allow", "GET, HEAD, POST, OPTIONS")));
        }
        // A preflight brings no token, so where one is needed to read it must not tell what there is.
        if *method == Method::Options && self.tokens.check(None, Access::Read).is_err() {
            return Ok(Decision::Answer(options(request, origin, "GET, HEAD, POST, OPTIONS")));
        }
        let place = self.find(request)?;
        if *method == Method::Options {
            return Ok(Decision::Answer(options(request, origin, place.allow())));
        }
        match (method, place) {
            (Method::Get | Method::Head, Place::Asset) => self.asset(request).map(Decision::Answer),
            (Method::Get | Method::Head, Place::Categories) => {
                let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
                Ok(Decision::Answer(Answer::json(json::categories_array(&catalog))))
            }
            (Method::Get | Method::Head, Place::Health) => Ok(Decision::Answer(Answer::json(json::OK))),
            (Method::Get | Method::Head, Place::Ready) => self.ready().map(Decision::Answer),
            (Method::Get | Method::Head, Place::Log) => log_page(request).map(Decision::Act),
            (Method::Get | Method::Head, Place::Feed(feed)) => self.feed(request, feed, origin, token),
            (Method::Get | Method::Head, Place::Category(index)) => Ok(Decision::Answer(self.products(index))),
            (Method::Post, Place::Product(index)) => {
                expect_body(request, &[JSON])?;
                Ok(Decision::Act(Action::Order(index, idempotency_key(request)?)))
            }
            (Method::Post, Place::Feed(Feed::All)) => {
                let is_ndjson = expect_body(request, &[JSON, NDJSON, "application/jsonl"])? != JSON;
                Ok(Decision::Act(Action::Batch { is_ndjson, key: idempotency_key(request)? }))
            }
            (Method::Post, Place::Category(index)) => {
                expect_body(request, &[JSON]).map(|_| Decision::Act(Action::AddProduct(index)))
            }
            (_, place) => {
                let allow = place.allow();
                let elsewhere = match place {
                    Place::Product(_) => "; GET /orders/{category} tells the totals",
                    _ => "",
                };
                Err(Problem::new(405, format!("this address answers {allow}{elsewhere}")).with("Allow", allow))
            }
        }
    }

    #[inline(never)]
    fn find(&self, request: Request<'_>) -> Result<Place, Problem> {
        let path = request.path();
        let catalog = || self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = path.strip_prefix("/orders/") {
            let catalog = catalog();
            if request.head().method == Method::Post {
                return catalog.find_product(id).map(Place::Product).ok_or_else(|| {
                    let where_to_look = match catalog.find_category(id) {
                        Some(_) => format!("it is a category, and GET /{id} lists its products"),
                        None => "GET /{category} lists the products".to_owned(),
                    };
                    Problem::new(404, format!("there is no product {}; {where_to_look}", shown(id)))
                });
            }
            return match (catalog.find_category(id), catalog.find_product(id)) {
                (Some(index), _) => Ok(Place::Feed(Feed::Category(index))),
                (None, Some(index)) => Ok(Place::Product(index)),
                (None, None) => Err(no_category(id)),
            };
        }
        match path {
            "/orders" => return Ok(Place::Feed(Feed::All)),
            "/categories" => return Ok(Place::Categories),
            "/log" => return Ok(Place::Log),
            "/healthz" => return Ok(Place::Health),
            "/readyz" => return Ok(Place::Ready),
            _ => {}
        }
        if let Some(index) = path.strip_prefix('/').and_then(|name| catalog().find_category(name)) {
            return Ok(Place::Category(index));
        }
        if is_asset(path) {
            return Ok(Place::Asset);
        }
        if let Some(name) = path.strip_prefix('/').filter(|name| !name.contains('/')) {
            return Err(no_category(name));
        }
        Err(Problem::new(404, "there is nothing at this address; GET /categories lists the categories"))
    }

    /// A feed in the form that the request asks for.
    #[inline(never)]
    fn feed(
        &self,
        request: Request<'_>,
        feed: Feed,
        origin: Option<&str>,
        token: Option<&str>,
    ) -> Result<Decision, Problem> {
        match handshake::handshake(request) {
            Some(handshake) => Ok(websocket(request, feed, handshake?, token)),
            None if asks_for_events(request) => Ok(events(request, feed, origin, token)),
            None => self.totals(feed).map(Decision::Answer),
        }
    }

    #[inline(never)]
    fn totals(&self, feed: Feed) -> Result<Answer, Problem> {
        self.fanout.totals(feed).map(Answer::shared_json).ok_or_else(Problem::stopping)
    }

    #[inline(never)]
    fn ready(&self) -> Result<Answer, Problem> {
        let (status, why) = match self.ledger.readiness() {
            Readiness::Ready => return Ok(Answer::json(json::OK)),
            Readiness::Failing { full: true } => {
                (503, "no space is left for the data; orders are refused until there is")
            }
            Readiness::Failing { full: false } => {
                (503, "the last commit failed; orders are refused until one succeeds")
            }
            Readiness::Hanging => (503, "the disk does not come back from a write; orders are refused until it does"),
        };
        Err(Problem::new(status, why).with("Retry-After", RETRY_AFTER_SECONDS))
    }

    // Not inlined, like the others here: a session that follows keeps every page of stack that was touched before it.
    #[inline(never)]
    fn asset(&self, request: Request<'_>) -> Result<Answer, Problem> {
        let asset = self
            .assets
            .find(request.path())
            .ok_or_else(|| Problem::new(404, "there is no such file; the web app is at /"))?;
        let known = request.headers("If-None-Match").flat_map(|list| list.split(','));
        let is_known = known.map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == asset.etag);
        let body = match asset.content {
            Content::Embedded(bytes) => Body::Static(bytes),
            Content::Read(bytes) => Body::Shared(bytes),
        };
        // 'self' does not cover WebSockets in every browser, so the page's own host is named for them.
        let own = request.host().map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{own}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Ok(Answer::new(if is_known { 304 } else { 200 }, asset.content_type, body)
            .with("ETag", asset.etag)
            .with("Cache-Control", "no-cache")
            .with("Content-Security-Policy", policy)
            .with("Referrer-Policy", "no-referrer"))
    }

    /// The category's products as they are listed.
    #[inline(never)]
    #[must_use]
    pub fn products(&self, category: CategoryIndex) -> Answer {
        Answer::shared_json(self.lists.get(&self.catalog, category))
    }
}

/// A rejection as an answer.
#[must_use]
pub fn answer(problem: &Problem) -> Answer {
    problem.answer(json::problem)
}

fn no_category(name: &str) -> Problem {
    Problem::new(404, format!("there is no category {}; GET /categories lists them", shown(name)))
}

/// A name from outside in quotes, unless it is too long to be one.
#[must_use]
pub fn shown(name: &str) -> String {
    if name.len() <= crate::tally::catalog::MAX_ID_BYTES { format!("{name:?}") } else { "of this name".to_owned() }
}

#[inline(never)]
fn options(request: Request<'_>, origin: Option<&str>, allow: &'static str) -> Answer {
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

/// The web app's own files: every name with a dot, which no category and no route has.
fn is_asset(path: &str) -> bool {
    path == "/" || path.contains('.')
}

/// What tells a supervisor that the server lives, and nothing more.
fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// A feed over a WebSocket.
#[inline(never)]
fn websocket(request: Request<'_>, feed: Feed, handshake: Handshake, token: Option<&str>) -> Decision {
    let named = named_position(request);
    let format = if named.is_some() { Format::Positioned } else { Format::Plain };
    Decision::Session(Opening::WebSocket(handshake), Topic::new(feed, format, named, token))
}

/// A feed as server-sent events.
#[inline(never)]
fn events(request: Request<'_>, feed: Feed, origin: Option<&str>, token: Option<&str>) -> Decision {
    let answer = Answer::empty(200).endless().with("Content-Type", EVENTS).with("Cache-Control", "no-store");
    // nginx would collect events before it passes them on.
    let answer = answer.with("X-Accel-Buffering", "no");
    match request.head().method {
        Method::Head => Decision::Answer(answer),
        _ => {
            let answer = share(answer, origin.map(str::to_owned));
            Decision::Session(Opening::Stream(answer), Topic::new(feed, Format::Events, named_position(request), token))
        }
    }
}

/// Which page of the log is asked for.
fn log_page(request: Request<'_>) -> Result<Action, Problem> {
    let number = |name, default: u64| match request.parameter(name) {
        None => Ok(default),
        Some(text) => text.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok()).ok_or(name),
    };
    let wrong = |name| {
        let least = if name == "limit" { " from 1 on" } else { "" };
        Problem::new(400, format!("{name} must be a whole number{least}, as in /log?after=0&limit=1000"))
    };
    let after = number("after", 0).map_err(wrong)?;
    let limit = number("limit", MAX_LOG_LINES as u64).map_err(wrong)?;
    if limit == 0 {
        return Err(wrong("limit"));
    }
    Ok(Action::Log { after, limit: limit.min(MAX_LOG_LINES as u64) as usize })
}

/// What a request needs a token for, if it may need one: the web app's files and preflights tell nothing.
fn access(request: Request<'_>) -> Option<Access> {
    match request.head().method {
        Method::Options => None,
        Method::Get | Method::Head if is_asset(request.path()) || is_probe(request.path()) => None,
        Method::Get | Method::Head => Some(Access::Read),
        _ => Some(Access::Write),
    }
}

/// How a rejection is told (RFC 6750, section 3).
fn denied(denied: Denied) -> Problem {
    let (status, challenge, detail) = match denied {
        Denied::NoToken => {
            (401, r#"Bearer realm="ordercast""#, "this needs a token; send it as Authorization: Bearer TOKEN")
        }
        Denied::UnknownToken => (
            401,
            r#"Bearer realm="ordercast", error="invalid_token""#,
            "this token is not known here; ask the operator for one",
        ),
        Denied::ReadOnly => (
            403,
            r#"Bearer realm="ordercast", error="insufficient_scope""#,
            "this token may read and not write; send one that may write",
        ),
    };
    Problem::new(status, detail).with("WWW-Authenticate", challenge)
}
