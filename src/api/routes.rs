//! Routing: from a request's head to its answer, an action or a session. Knows neither sockets nor threads.

use std::sync::{Arc, PoisonError};

use tiny_http::Method;

use crate::api::assets::Assets;
use crate::api::foreign::ForeignRequests;
use crate::api::large_answers::LargeAnswers;
use crate::api::product_lists::ProductLists;
use crate::api::tokens::{Access, Token, Tokens};
use crate::api::upstream::{PassedRequest, Upstream};
use crate::http::handshake::{self, Handshake};
use crate::http::origin::Policy;
use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::http::request::Request;
use crate::http::response::{Answer, JSON, allow_origin};
use crate::http::service::{self, Opening};
use crate::json;
use crate::ledger::{FORBIDDEN, LedgerHandle, Readiness, Rejection};
use crate::live::fanout::{Counts, FanoutHandle, Feed, Format, Options, Subscription};
use crate::tally::catalog::{CategoryIndex, ProductIndex, SharedCatalog};
use crate::tally::order::Key;

pub(super) use super::headers::NDJSON;

use super::feed_options::feed_options;
use super::headers::{
    EVENTS, MERGE_PATCH, ReportFormat, asks_for_events, expect_body, idempotency_key, report_format, resume_position,
};
use super::order_log::LogQuery;
use super::page::page;
use super::route::{Route, is_metrics, is_probe};
use super::{authorization, cors, web_app};

/// Everything that requests refer to.
pub struct Routes {
    /// The products.
    pub catalog: SharedCatalog,
    /// The current totals.
    pub fanout: FanoutHandle,
    /// Whether orders can be committed.
    pub ledger: LedgerHandle,
    /// The URL of the server that this one follows.
    pub follows: Option<String>,
    /// The allowed hosts and origins.
    pub policy: Policy,
    /// What the addresses serve that serve orders.
    pub scope: Scope,
    /// The requests that the policy has rejected.
    pub foreign: ForeignRequests,
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// The files of the web app.
    pub assets: Assets,
    /// The origins whose pages may show it in a frame.
    pub frames: Vec<String>,
    /// The lists of products.
    pub lists: ProductLists,
    /// Other large answers.
    pub large: LargeAnswers,
}

/// What an address serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// Everything but metrics, which have an address of their own.
    WithoutMetrics,
    /// Metrics and health checks.
    Metrics,
}

/// What to do for a request, as its head decides.
pub type Decision = service::Decision<Action, Topic>;
/// A decision, and the origin to which it may be shown.
pub type Routed = service::Routed<Action, Topic>;

/// What a session is about.
#[derive(Debug)]
pub struct Topic {
    /// The feed, its format and its options.
    pub subscription: Subscription,
    /// The position from which the client resumes.
    pub since: Option<String>,
    /// The client's token.
    pub token: Option<Token>,
}

impl Topic {
    fn new(subscription: Subscription, since: Option<&str>, token: Option<&str>) -> Self {
        Self { subscription, since: since.map(str::to_owned), token: token.map(Token::new) }
    }
}

/// What a request asks for, if it needs the body or may take time.
#[derive(Debug, Clone)]
pub enum Action {
    /// An order of this product, with this key.
    Order(ProductIndex, Option<Key>),
    /// A batch of orders.
    Batch {
        /// Whether the body is NDJSON instead of an array.
        is_ndjson: bool,
        /// The key of the whole batch.
        key: Option<Key>,
    },
    /// A new product in this category.
    AddProduct(CategoryIndex),
    /// A change of this product.
    ChangeProduct(ProductIndex),
    /// A new category of this name, or another title of it.
    PutCategory(String),
    /// The same for a server that follows this one and passes the request on.
    ForEdge(Box<Action>),
    /// To be passed on to the server that this one follows.
    Pass(Box<PassedRequest>),
    /// All metrics.
    Metrics,
    /// A page of the log.
    Log(Box<LogQuery>),
    /// The rates of these products.
    Rates(Feed),
    /// A page of the list of periods.
    Periods {
        /// It begins after the period with this number.
        after: u64,
        /// The most periods.
        limit: usize,
    },
    /// The report of a period; `None` for the current one.
    Report(Option<u64>, ReportFormat),
    /// The end of the current period, which answers its report.
    ClosePeriod(ReportFormat),
}

/// Who decides a request.
pub(super) enum DecidedBy<'a> {
    /// This server, for the sender of this token.
    Here(Option<&'a str>),
    /// The server that it follows.
    There(Box<PassedRequest>),
    /// Neither: this is the answer.
    Neither(Box<Answer>),
}

/// The methods that routes answer.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, OPTIONS";

impl Routes {
    /// Decides from the head alone, so that an unwanted body need not be read. `policy` and `scope` are of the address that
    /// the request came to, `upstream` is the server that this one follows.
    #[must_use]
    pub fn route(
        &self,
        upstream: Option<&dyn Upstream>,
        policy: &Policy,
        scope: Scope,
        request: Request<'_>,
    ) -> Routed {
        let (decision, origin) = match cors::check_source(policy, &self.foreign, request) {
            Ok(origin) => {
                let decided_by = match upstream {
                    None => authorization::authorize(&self.tokens, request)
                        .and_then(|token| check_scope(scope, request).map(|()| DecidedBy::Here(token))),
                    Some(upstream) => {
                        check_scope(scope, request).and_then(|()| self.decided_by(upstream, request, origin))
                    }
                };
                let decision = decided_by.and_then(|by| match by {
                    DecidedBy::Here(token) => self.decide(request, origin, token),
                    DecidedBy::There(passed) => Ok(Decision::Act(Action::Pass(passed))),
                    DecidedBy::Neither(answer) => Ok(Decision::Answer(*answer)),
                });
                (decision.unwrap_or_else(|problem| Decision::Answer(answer(&problem))), origin)
            }
            Err(problem) => (Decision::Answer(answer(&problem)), None),
        };
        Routed { decision, origin: origin.map(str::to_owned) }
    }

    /// Inlined where connections come through: a session keeps each page of stack that its connection has touched.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see above")]
    fn decide(&self, request: Request<'_>, origin: Option<&str>, token: Option<&str>) -> Result<Decision, Problem> {
        let method = &request.head().method;
        // RFC 9110, section 9.1: a method that is not recognized is answered 501, one that is not allowed 405. QUERY is
        // newer than tiny_http (draft-ietf-httpbis-safe-method-w-body).
        if matches!(method, Method::NonStandard(_)) && method.as_str() != "QUERY" {
            return Err(Problem::new(501, "this method is not known here; use GET, HEAD, POST, PUT, PATCH or OPTIONS"));
        }
        if *method == Method::Options && request.path() == "*" {
            return Ok(Decision::Answer(Answer::empty(200).with("Allow", METHODS)));
        }
        // A preflight has no token. Where reading needs one, its answer must not reveal which paths exist.
        if *method == Method::Options && self.tokens.check(None, Access::Read).is_err() {
            return Ok(Decision::Answer(cors::options(request, origin, METHODS)));
        }
        let route = Route::find(&self.catalog, request)?;
        if *method == Method::Options {
            return Ok(Decision::Answer(cors::options(request, origin, route.allow())));
        }
        if !route.allows(method) {
            return Err(not_allowed(&route));
        }
        route.check_parameters(request)?;
        match (method, route) {
            (Method::Get | Method::Head, Route::File) => {
                web_app::file(&self.assets, &self.frames, request).map(Decision::Answer)
            }
            (Method::Get | Method::Head, Route::Categories) => {
                let with_hidden = asks_for_hidden(request)?;
                let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
                Ok(Decision::Answer(Answer::json(json::categories_array(&catalog, with_hidden))))
            }
            (Method::Get | Method::Head, Route::Health) => Ok(Decision::Answer(Answer::json(json::OK))),
            (Method::Get | Method::Head, Route::Ready) => self.ready().map(Decision::Answer),
            (Method::Get | Method::Head, Route::Metrics) => Ok(Decision::Act(Action::Metrics)),
            (Method::Get | Method::Head, Route::Log) => {
                let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
                Ok(Decision::Act(Action::Log(Box::new(LogQuery::parse(request, &catalog)?))))
            }
            (Method::Get | Method::Head, Route::Rates(feed)) => Ok(Decision::Act(Action::Rates(feed))),
            (Method::Get | Method::Head, Route::Periods) => {
                page(request, "/periods").map(|(after, limit)| Decision::Act(Action::Periods { after, limit }))
            }
            (Method::Get | Method::Head, Route::Period(number)) => {
                Ok(Decision::Act(Action::Report(number, report_format(request))))
            }
            (Method::Get | Method::Head, Route::Feed(feed)) => self.feed(request, feed, origin, token),
            (Method::Get | Method::Head, Route::Category(index)) => {
                self.products(index, asks_for_hidden(request)?).map(Decision::Answer)
            }
            (Method::Post, Route::Product(index)) => {
                expect_body(request, &[JSON])?;
                Ok(Decision::Act(Action::Order(index, idempotency_key(request)?)))
            }
            (Method::Post, Route::Feed(Feed::All)) => {
                let is_ndjson = expect_body(request, &[JSON, NDJSON, "application/jsonl"])? != JSON;
                Ok(Decision::Act(Action::Batch { is_ndjson, key: idempotency_key(request)? }))
            }
            (Method::Post, Route::Periods) => {
                expect_body(request, &[JSON]).map(|_| Decision::Act(Action::ClosePeriod(report_format(request))))
            }
            (Method::Post, Route::Category(index)) => {
                expect_body(request, &[JSON]).map(|_| Decision::Act(Action::AddProduct(index)))
            }
            (Method::Put, Route::Category(index)) => {
                expect_body(request, &[JSON])?;
                let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
                Ok(Decision::Act(Action::PutCategory(catalog.category(index).name.clone())))
            }
            (Method::Put, Route::NewCategory(name)) => {
                expect_body(request, &[JSON]).map(|_| Decision::Act(Action::PutCategory(name)))
            }
            (Method::Patch, Route::CategoryProduct(index)) => {
                expect_body(request, &[JSON, MERGE_PATCH]).map(|_| Decision::Act(Action::ChangeProduct(index)))
            }
            (_, route) => Err(not_allowed(&route)),
        }
    }

    /// A feed as a WebSocket, as an event stream, or its current totals.
    #[inline(never)]
    fn feed(
        &self,
        request: Request<'_>,
        feed: Feed,
        origin: Option<&str>,
        token: Option<&str>,
    ) -> Result<Decision, Problem> {
        let options = feed_options(request)?;
        match handshake::handshake(request) {
            Some(handshake) => Ok(websocket(request, feed, options, handshake?, token)),
            None if asks_for_events(request) => Ok(events(request, feed, options, origin, token)),
            None if options.is_edge => self.edge_start().map(Decision::Answer),
            None => self.totals(feed, options.counts).map(Decision::Answer),
        }
    }

    /// What a server begins from that follows this one.
    #[inline(never)]
    fn edge_start(&self) -> Result<Answer, Problem> {
        let start = self.fanout.edge_start().ok_or_else(Problem::stopping)?;
        // Read after the totals, so that each of them has its product.
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let body = json::edge_start(&catalog, &start);
        drop(catalog);
        self.large.add(body.into_bytes()).map(Answer::shared_json).ok_or_else(too_many_large)
    }

    #[inline(never)]
    fn totals(&self, feed: Feed, counts: Counts) -> Result<Answer, Problem> {
        self.fanout.totals(feed, counts).map(Answer::shared_json).ok_or_else(Problem::stopping)
    }

    fn ready(&self) -> Result<Answer, Problem> {
        let is_stale = self.fanout.is_stale();
        // A ledger that may wait for the database is not asked.
        let readiness = if is_stale { self.ledger.last_readiness() } else { self.ledger.readiness() };
        let why = match readiness {
            Readiness::Ready if is_stale => match &self.follows {
                Some(url) => format!(
                    "{url} does not answer, or says that its own totals may be old; here are the last ones that are \
                     known, and orders are rejected until it answers"
                ),
                None => "this server does not show yet all that others have committed; totals may be old".to_owned(),
            },
            Readiness::Ready => return Ok(Answer::json(json::OK)),
            Readiness::Failing(Rejection::StoreFull) => {
                "no space is left for the data; orders are rejected until there is".to_owned()
            }
            Readiness::Failing(Rejection::StoreAtCap) => {
                "the data file has reached --max-data-bytes; orders are rejected until that is raised, or old orders or \
                 keys make room"
                    .to_owned()
            }
            Readiness::Away | Readiness::Failing(Rejection::StoreAway) => {
                "the database does not answer as it should, and the log says why; orders are rejected, and totals may \
                 be old, until it does"
                    .to_owned()
            }
            Readiness::Failing(Rejection::StoreForbidden) => format!("{FORBIDDEN}; orders are rejected"),
            Readiness::Failing(Rejection::StoreUnusable(what)) => format!("{what}; orders are rejected"),
            Readiness::Failing(_) => "the last commit failed; orders are rejected until one succeeds".to_owned(),
            Readiness::Hanging => "the disk does not answer; orders are rejected until it does".to_owned(),
        };
        Err(Problem::new(503, why).with("Retry-After", RETRY_AFTER_SECONDS))
    }

    /// The answer with the list of the category's products.
    ///
    /// # Errors
    /// 503 while too many clients read former lists slowly.
    pub fn products(&self, category: CategoryIndex, with_hidden: bool) -> Result<Answer, Problem> {
        self.lists.get(&self.catalog, category, with_hidden).map(Answer::shared_json).ok_or_else(|| {
            let why = "too many clients are still reading former lists of products; try again";
            Problem::new(503, why).with("Retry-After", RETRY_AFTER_SECONDS)
        })
    }
}

/// The answer to a request that failed.
#[must_use]
pub fn answer(problem: &Problem) -> Answer {
    problem.answer(json::problem)
}

/// 503 while too many large answers are still being sent.
pub(super) fn too_many_large() -> Problem {
    let why = "too many clients are still reading large answers; try again";
    Problem::new(503, why).with("Retry-After", RETRY_AFTER_SECONDS)
}

/// 405 with what the route allows.
#[inline(never)]
fn not_allowed(route: &Route) -> Problem {
    let allow = route.allow();
    let hint = match route {
        Route::Product(_) => "; GET /orders/{category} returns the totals",
        Route::Period(_) => "; POST /periods closes the current period",
        Route::Categories => "; PUT /{category} creates a category",
        // Nothing is ever removed.
        Route::CategoryProduct(_) => r#"; GET /{category} lists products, and PATCH with {"hidden":true} hides one"#,
        _ => "",
    };
    Problem::new(405, format!("this address answers {allow}{hint}")).with("Allow", allow)
}

/// Rejects what is not served at the address that the request came to.
pub(super) fn check_scope(scope: Scope, request: Request<'_>) -> Result<(), Problem> {
    let path = request.path();
    match scope {
        Scope::WithoutMetrics if is_metrics(path) => {
            Err(Problem::new(404, "metrics have an address of their own here, that of --metrics-listen"))
        }
        Scope::Metrics if !is_metrics(path) && !is_probe(path) => {
            Err(Problem::new(404, "this address has /metrics, /healthz and /readyz only"))
        }
        Scope::All | Scope::WithoutMetrics | Scope::Metrics => Ok(()),
    }
}

/// Whether a list has hidden products too.
fn asks_for_hidden(request: Request<'_>) -> Result<bool, Problem> {
    match request.parameter("hidden") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::new(400, "hidden must be true or false, as in ?hidden=true")),
    }
}

/// A feed over a WebSocket.
#[inline(never)]
fn websocket(
    request: Request<'_>,
    feed: Feed,
    options: Options,
    handshake: Handshake,
    token: Option<&str>,
) -> Decision {
    let since = resume_position(request);
    let format = if since.is_some() || options.is_edge { Format::Positioned } else { Format::Plain };
    Decision::Session(Opening::WebSocket(handshake), Topic::new(Subscription { feed, format, options }, since, token))
}

/// A feed as server-sent events.
fn events(request: Request<'_>, feed: Feed, options: Options, origin: Option<&str>, token: Option<&str>) -> Decision {
    let answer = Answer::empty(200).endless().with("Content-Type", EVENTS).with("Cache-Control", "no-store");
    // nginx would buffer events.
    let answer = answer.with("X-Accel-Buffering", "no");
    match request.head().method {
        Method::Head => Decision::Answer(answer),
        _ => {
            let answer = allow_origin(answer, origin.map(str::to_owned));
            let subscription = Subscription { feed, format: Format::Events, options };
            Decision::Session(Opening::Stream(answer), Topic::new(subscription, resume_position(request), token))
        }
    }
}
