//! From a request to its answer, or to a session. Owns the paths, methods, statuses and header rules of the wire
//! contract; knows neither sockets nor threads.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tiny_http::{HTTPVersion, Method};

use crate::assets::{Assets, Content};
use crate::catalog::{CategoryIndex, ProductIndex};
use crate::fanout::{FanoutHandle, Feed};
use crate::http::deferred::Deferred;
use crate::http::origin::Policy;
use crate::http::request::{BodyLength, Request};
use crate::http::response::{Answer, Body, Problem};
use crate::ledger::{LedgerHandle, Outcome, Refusal, SharedCatalog, Slot, Waiter};
use crate::wire::{self, BodyError};

/// How long a client should wait before it tries again what was refused for a passing reason, in seconds.
pub const RETRY_AFTER_SECONDS: &str = "1";
/// How long a browser may remember the answer to a preflight, in seconds: ten minutes.
const PREFLIGHT_SECONDS: &str = "600";

/// What the routes work on.
pub struct Routes {
    /// What can be ordered.
    pub catalog: SharedCatalog,
    /// Where orders are written.
    pub ledger: LedgerHandle,
    /// Where totals are read.
    pub fanout: FanoutHandle,
    /// Who may ask.
    pub policy: Policy,
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
    fn get(&self, catalog: &SharedCatalog, category: CategoryIndex) -> Arc<[u8]> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = catalog.read().unwrap_or_else(PoisonError::into_inner);
        // Products are only ever added, so their number tells whether the list is the present one.
        let count = catalog.category(category).products.len();
        match lists.get(&category) {
            Some((of, list)) if *of == count => list.clone(),
            _ => {
                let list: Arc<[u8]> = wire::products_array(&catalog, category).into_bytes().into();
                lists.insert(category, (count, list.clone()));
                list
            }
        }
    }
}

/// What to do for a request, as its head decides.
pub enum Step {
    /// Send this.
    Answer(Answer),
    /// Read the body, then ask [`Routes::act`].
    Act(Action),
    /// Answer the handshake, in which the client sent this key (`Sec-WebSocket-Key`), and go on as a session.
    Session(Feed, String),
}

/// What a request with a body changes.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// An order of this product.
    Order(ProductIndex),
    /// A new product in this category.
    AddProduct(CategoryIndex),
}

/// A decision, and the origin to which it may be shown.
pub struct Plan {
    /// What to do.
    pub step: Step,
    /// The web page's origin, if the request came from an allowed one.
    pub origin: Option<String>,
}

/// What a path stands for.
enum Place {
    Asset,
    Categories,
    Feed(Feed),
    /// `/orders/{id}`: a product to post to.
    Product(ProductIndex),
    Category(CategoryIndex),
}

impl Place {
    fn allow(&self) -> &'static str {
        match self {
            Self::Asset | Self::Categories | Self::Feed(_) => "GET, HEAD, OPTIONS",
            Self::Product(_) => "POST, OPTIONS",
            Self::Category(_) => "GET, HEAD, POST, OPTIONS",
        }
    }
}

impl Routes {
    /// Decides by the head alone, so that an unwanted body need not be read.
    #[must_use]
    pub fn plan(&self, request: Request<'_>) -> Plan {
        let (step, origin) = match self.check_source(request) {
            Ok(origin) => {
                let handshake = handshake(request);
                let step = self.step(request, origin, handshake);
                (step.unwrap_or_else(|problem| Step::Answer(answer(&problem))), origin)
            }
            Err(problem) => (Step::Answer(answer(&problem)), None),
        };
        Plan { step, origin: origin.map(str::to_owned) }
    }

    /// Hands an order to the ledger, whose thread will write the answer.
    ///
    /// # Errors
    /// The answer to write at once, when the body is no order.
    pub fn submit(&self, product: ProductIndex, body: &[u8], receipts: &Arc<Receipts>) -> Result<(), Answer> {
        let amount = wire::parse_order(body).map_err(|error| answer(&body_problem(error)))?;
        receipts.deferred.begin();
        let waiter: Arc<dyn Waiter> = receipts.clone();
        self.ledger.submit(product, amount, waiter);
        Ok(())
    }

    /// Does what the body asks for, and waits until it is done. The caller's `slot` carries the ledger's answer.
    #[must_use]
    pub fn act(&self, action: Action, body: &[u8], slot: &Arc<Slot>) -> Answer {
        let result = match action {
            Action::Order(product) => wire::parse_order(body)
                .map_err(body_problem)
                .and_then(|amount| done(self.ledger.order(product, amount, slot)))
                .map(|()| Answer::json(wire::OK)),
            Action::AddProduct(category) => wire::parse_details(body)
                .map_err(body_problem)
                .and_then(|details| done(self.ledger.add_product(category, details, slot)))
                .map(|()| self.products(category)),
        };
        result.unwrap_or_else(|problem| answer(&problem))
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
            Some(_) => Err(Problem::new(
                403,
                "pages of this origin are not allowed; start the server with --allow-origin ORIGIN",
            )),
        }
    }

    #[inline(never)]
    fn step(
        &self,
        request: Request<'_>,
        origin: Option<&str>,
        handshake: Option<Result<String, Problem>>,
    ) -> Result<Step, Problem> {
        let method = &request.head().method;
        if *method == Method::Options && request.path() == "*" {
            return Ok(Step::Answer(Answer::empty(200).with("Allow", "GET, HEAD, POST, OPTIONS")));
        }
        let place = self.find(request)?;
        if *method == Method::Options {
            return Ok(Step::Answer(options(request, origin, place.allow())));
        }
        match (method, place) {
            (Method::Get | Method::Head, Place::Asset) => self.asset(request).map(Step::Answer),
            (Method::Get | Method::Head, Place::Categories) => {
                let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
                Ok(Step::Answer(Answer::json(wire::categories_array(&catalog))))
            }
            (Method::Get | Method::Head, Place::Feed(feed)) => match handshake {
                Some(key) => Ok(Step::Session(feed, key?)),
                None => match self.fanout.totals(feed) {
                    Some(totals) => Ok(Step::Answer(Answer::shared_json(totals))),
                    None => Err(refused(&Refusal::Stopping)),
                },
            },
            (Method::Get | Method::Head, Place::Category(index)) => Ok(Step::Answer(self.products(index))),
            (Method::Post, Place::Product(index)) => expect_json(request).map(|()| Step::Act(Action::Order(index))),
            (Method::Post, Place::Category(index)) => {
                expect_json(request).map(|()| Step::Act(Action::AddProduct(index)))
            }
            (_, place) => {
                let allow = place.allow();
                Err(Problem::new(405, format!("this address answers {allow}")).with("Allow", allow))
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
            _ => {}
        }
        if let Some(index) = path.strip_prefix('/').and_then(|name| catalog().find_category(name)) {
            return Ok(Place::Category(index));
        }
        if path == "/" || path.contains('.') {
            return Ok(Place::Asset);
        }
        if let Some(name) = path.strip_prefix('/').filter(|name| !name.contains('/')) {
            return Err(no_category(name));
        }
        Err(Problem::new(404, "there is nothing at this address; GET /categories lists the categories"))
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

    #[inline(never)]
    fn products(&self, category: CategoryIndex) -> Answer {
        Answer::shared_json(self.lists.get(&self.catalog, category))
    }
}

/// One connection's answers to orders, written by the ledger thread. See [`Deferred`].
pub struct Receipts {
    /// When an answer is due.
    pub deferred: Deferred,
    taken: Arc<Taken>,
}

impl Receipts {
    /// No answer is due on this connection yet.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>, taken: Arc<Taken>) -> Arc<Self> {
        Arc::new(Self { deferred: Deferred::new(stream), taken })
    }
}

impl Waiter for Receipts {
    fn tell(&self, outcome: Outcome) {
        match outcome {
            Ok(()) => self.deferred.send(&self.taken.now()),
            Err(refusal) => self.deferred.send(&answer(&refused(&refusal)).print()),
        }
    }
}

/// The printed answer to an order that was taken, made anew when its `Date` is no longer right.
#[derive(Debug, Default)]
pub struct Taken(Mutex<(u64, Arc<[u8]>)>);

impl Taken {
    fn now(&self) -> Arc<[u8]> {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.0 != second || printed.1.is_empty() {
            *printed = (second, Answer::json(wire::OK).print().into());
        }
        printed.1.clone()
    }
}

/// The same answer, readable for the page that asked (CORS, Fetch standard section 3.2).
#[must_use]
pub fn share(answer: Answer, origin: Option<String>) -> Answer {
    match origin {
        Some(origin) => answer.with("Access-Control-Allow-Origin", origin).with("Vary", "Origin"),
        None => answer,
    }
}

/// A refusal as an answer.
#[must_use]
pub fn answer(problem: &Problem) -> Answer {
    problem.answer(wire::problem)
}

/// How a refusal of the ledger is answered.
#[must_use]
pub fn refused(refusal: &Refusal) -> Problem {
    let (status, passes) = match refusal {
        Refusal::TotalOutOfRange | Refusal::NotInCatalog(_) => (422, false),
        Refusal::StoreFull => (507, true),
        Refusal::StoreRefused | Refusal::Stopping => (503, true),
    };
    let problem = Problem::new(status, refusal.to_string());
    if passes { problem.with("Retry-After", RETRY_AFTER_SECONDS) } else { problem }
}

fn done(outcome: Outcome) -> Result<(), Problem> {
    outcome.map_err(|refusal| refused(&refusal))
}

fn body_problem(error: BodyError) -> Problem {
    match error {
        BodyError::Malformed(why) => Problem::new(400, why),
        BodyError::Wrong(why) => Problem::new(422, why),
    }
}

fn no_category(name: &str) -> Problem {
    Problem::new(404, format!("there is no category {}; GET /categories lists them", shown(name)))
}

/// A name from outside in quotes, unless it is too long to be one.
fn shown(name: &str) -> String {
    if name.len() <= crate::catalog::MAX_ID_BYTES { format!("{name:?}") } else { "of this name".to_owned() }
}

#[inline(never)]
fn options(request: Request<'_>, origin: Option<&str>, allow: &'static str) -> Answer {
    let answer = Answer::empty(200).with("Allow", allow);
    if origin.is_some() && request.header("Access-Control-Request-Method").is_some() {
        answer
            .with("Access-Control-Allow-Methods", allow)
            .with("Access-Control-Allow-Headers", "Content-Type")
            .with("Access-Control-Max-Age", PREFLIGHT_SECONDS)
    } else {
        answer
    }
}

/// A request that changes something is JSON, says so, and says how long it is.
fn expect_json(request: Request<'_>) -> Result<(), Problem> {
    if request.head().body == BodyLength::Absent {
        return Err(Problem::new(411, "send a body with its Content-Length"));
    }
    let media_type = request.header("Content-Type").and_then(|value| value.split(';').next()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(415, "send the body as JSON, with the header Content-Type: application/json")
            .with("Accept-Post", "application/json"));
    }
    match request.header("Content-Encoding") {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(_) => {
            Err(Problem::new(415, "send the body without a Content-Encoding").with("Accept-Encoding", "identity"))
        }
    }
}

/// If the request asks for a WebSocket: the key of its handshake, or what is wrong with it.
#[inline(never)]
fn handshake(request: Request<'_>) -> Option<Result<String, Problem>> {
    let asks = request.head().method == Method::Get && request.has_token("Upgrade", "websocket");
    asks.then(|| handshake_key(request))
}

/// The server's side of the opening handshake (RFC 6455, section 4.2): checks, then the client's key.
#[inline(never)]
fn handshake_key(request: Request<'_>) -> Result<String, Problem> {
    if request.head().version < HTTPVersion(1, 1) || !request.has_token("Connection", "upgrade") {
        return Err(Problem::new(400, "a WebSocket handshake is HTTP/1.1 and has the header Connection: Upgrade"));
    }
    if !matches!(request.head().body, BodyLength::Absent | BodyLength::Known(0)) {
        return Err(Problem::new(400, "a WebSocket handshake has no body"));
    }
    if request.header("Sec-WebSocket-Version") != Some("13") {
        return Err(Problem::new(426, "speak WebSocket version 13").with("Sec-WebSocket-Version", "13"));
    }
    let mut keys = request.headers("Sec-WebSocket-Key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => Ok(key.to_owned()),
        _ => Err(Problem::new(400, "a WebSocket handshake has one Sec-WebSocket-Key of 16 bytes in base64")),
    }
}

/// 16 bytes in base64 are 22 characters and two equal signs.
fn is_key(key: &str) -> bool {
    let digits = key.strip_suffix("==").unwrap_or_default();
    digits.len() == 22 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}
