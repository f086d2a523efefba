//! The order service: takes orders and products, and runs live feeds. Owns which answer follows from which outcome of
//! the ledger.

use std::cell::RefCell;
use std::net::TcpStream;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tiny_http::Method;

use super::feed::{Feeds, LiveFeed};
use super::metrics::Metrics;
use super::rates::RateAnswers;
use super::route;
use super::routes::{self, Action, NDJSON, Routed, Routes, Scope, Topic, too_many_large};
use super::upstream::{PassedRequest, away};
use crate::http::deferred::Deferred;
use crate::http::origin::Policy;
use crate::http::problem::{PROBLEM_JSON, Problem, RETRY_AFTER_SECONDS};
use crate::http::ready_sockets::ReadySockets;
use crate::http::request::Request;
use crate::http::response::{Answer, Body, JSON};
use crate::http::service::{Call, Decision, Service, Session};
use crate::json::{self, BatchError, BatchOrder, BodyError};
use crate::ledger::{LEDGER_DEADLINE, LedgerHandle, Order, Outcome, Rejection, Reply};
use crate::live::fanout::Format;
use crate::live::history::History;
use crate::live::{sse, websocket};
use crate::tally::catalog::ProductIndex;
use crate::tally::order::Key;

/// The header of requests that a server passes on to the one that it follows.
pub const EDGE: &str = "Ordercast-Edge";
/// The header of answers to them: the number of the last order, a dot, and that of the last change of the catalogue or
/// period. The other server answers its client when it knows both.
pub const EDGE_POSITION: &str = "Ordercast-Position";

/// An answer that is passed back is large beyond 256 KiB, twice a page of the log.
const LARGE_BYTES: usize = 256 * 1024;

/// The product behind the connections.
pub struct OrderService {
    /// Decides by a request's head.
    pub routes: Routes,
    /// Takes orders.
    pub ledger: LedgerHandle,
    /// Reads the log.
    pub history: History,
    /// Answers rates.
    pub rates: RateAnswers,
    /// What live feeds need.
    pub feeds: Arc<Feeds>,
    /// Prints metrics.
    pub metrics: Metrics,
}

impl Service for OrderService {
    type Action = Action;
    type Topic = Topic;

    fn route(&self, request: Request<'_>) -> Routed {
        if request.header(EDGE).is_some() {
            return self.route_for_edge(request);
        }
        self.route_at(&self.routes.policy, self.routes.scope, request)
    }

    fn act(&self, action: Action, call: &Call<'_>) -> Option<Answer> {
        let result = match action {
            Action::ForEdge(action) => return self.act_for_edge(*action, call.body),
            Action::Order(product, key) => match order(product, key, call.body) {
                Ok(order) => return self.hand_over(order, call, LedgerHandle::submit),
                Err(problem) => Err(problem),
            },
            Action::Batch { is_ndjson, key } => self.take_batch(call.body, is_ndjson, key),
            Action::AddProduct(category) => self.add_product(category, call.body),
            Action::ChangeProduct(product) => self.change_product(product, call.body),
            Action::PutCategory(name) => self.put_category(&name, call.body),
            Action::Pass(request) => self.pass(*request, call.body),
            Action::Metrics => Ok(self.metrics.answer()),
            Action::Log(query) => query.answer(&self.history),
            Action::Rates(feed) => self.rates.answer(feed),
            Action::Periods { after, limit } => self.list_periods(after, limit),
            Action::Report(number, format) => self.period_report(number, format),
            Action::ClosePeriod(format) => self.close_period(call.body, format),
        };
        Some(result.unwrap_or_else(|problem| routes::answer(&problem)))
    }

    fn ready_sockets(&self) -> Option<&Arc<ReadySockets>> {
        self.ledger.ready_sockets()
    }

    fn is_order(&self, request: Request<'_>) -> bool {
        request.head().method == Method::Post && request.path().starts_with("/orders/")
    }

    fn take_order(&self, action: Action, call: &Call<'_>) -> Result<Option<Answer>, Action> {
        let Action::Order(product, key) = action else { return Err(action) };
        Ok(match order(product, key, call.body) {
            Ok(order) => self.hand_over(order, call, LedgerHandle::submit_here),
            Err(problem) => Some(routes::answer(&problem)),
        })
    }

    fn open_session(&self, topic: Topic, stream: Arc<TcpStream>, early: Vec<u8>) -> Option<Box<dyn Session>> {
        let format = topic.subscription.format;
        let feed = LiveFeed::new(self.feeds.clone(), topic);
        let watcher = self.feeds.slow_sockets.clone();
        match format {
            Format::Events => Some(sse::open(stream, watcher, feed)),
            Format::Plain | Format::Positioned => {
                websocket::open(stream, early, watcher, websocket::Limits::default(), feed)
            }
        }
    }

    fn answer_problem(&self, problem: &Problem) -> Answer {
        routes::answer(problem)
    }
}

impl OrderService {
    /// Decides for a request that a server passes on which follows this one.
    #[inline(never)]
    fn route_for_edge(&self, request: Request<'_>) -> Routed {
        let Routed { decision, origin } = self.route_at(&self.routes.policy, self.routes.scope, request);
        let decision = match decision {
            Decision::Act(action) => Decision::Act(Action::ForEdge(Box::new(action))),
            other => other,
        };
        Routed { decision, origin }
    }

    /// Acts on such a request. Publishing precedes answering, so what it has changed is not behind the answer's numbers.
    #[inline(never)]
    fn act_for_edge(&self, action: Action, body: &[u8]) -> Option<Answer> {
        let answer = self.act(action, &Call { body, deferred: None });
        let position = format!("{}.{}", self.feeds.fanout.last_seq(), self.feeds.fanout.news());
        answer.map(|answer| answer.with(EDGE_POSITION, position))
    }

    /// Decides for a request to an address with this policy and scope.
    pub(super) fn route_at(&self, policy: &Policy, scope: Scope, request: Request<'_>) -> Routed {
        self.routes.route(self.feeds.upstream.as_deref(), policy, scope, request)
    }

    #[inline(never)]
    fn pass(&self, mut request: PassedRequest, body: &[u8]) -> Result<Answer, Problem> {
        let upstream = self.feeds.upstream.as_ref().ok_or_else(away)?;
        body.clone_into(&mut request.body);
        let is_read = request.method == Method::Get;
        let answer = upstream.pass(request);
        // Only of answers that change nothing there may be many.
        let length = answer.body().bytes().len();
        if !is_read || length <= LARGE_BYTES {
            return Ok(answer);
        }
        let body = self.routes.large.add(answer.body().bytes().to_owned()).ok_or_else(too_many_large)?;
        Ok(answer.with_body(Body::Shared(body)))
    }

    /// Hands an order to the ledger by `submit`. Its thread writes the answer, unless this connection has to.
    fn hand_over(&self, order: Order, call: &Call<'_>, submit: fn(&LedgerHandle, Order, Reply)) -> Option<Answer> {
        let overdue = || routes::answer(&rejected(&Rejection::Unknown));
        let Some(deferred) = call.defer(LEDGER_DEADLINE, overdue) else {
            return Some(match checked(self.ledger.order(order)) {
                Ok(()) => Answer::json(json::OK),
                Err(problem) => routes::answer(&problem),
            });
        };
        submit(&self.ledger, order, Reply::deferred(deferred, answer_order));
        None
    }

    /// Takes a batch: all of its orders are counted, or none is.
    fn take_batch(&self, body: &[u8], is_ndjson: bool, key: Option<Key>) -> Result<Answer, Problem> {
        let lines = match json::parse_batch(body, is_ndjson) {
            Ok(lines) => lines,
            Err(BatchError::Body(error)) => return Err(body_problem(error)),
            Err(BatchError::Orders(lines)) => {
                let (keys, errors): (Vec<_>, Vec<_>) = lines.into_iter().map(split).unzip();
                return Ok(rejected_batch(422, keys.iter().map(Option::as_ref), &errors));
            }
        };
        let keys = || lines.iter().map(|line| line.key.as_ref());
        let found: Vec<Option<ProductIndex>> = {
            let catalog = self.feeds.catalog.read().unwrap_or_else(PoisonError::into_inner);
            lines.iter().map(|line| catalog.find_product(&line.id)).collect()
        };
        if found.iter().any(Option::is_none) {
            let error = |(found, line): (&Option<_>, &BatchOrder)| {
                found.is_none().then(|| {
                    format!(
                        "there is no product {}; GET /{{category}} lists the products",
                        route::quoted_name(&line.id)
                    )
                })
            };
            let errors: Vec<_> = found.iter().zip(&lines).map(error).collect();
            return Ok(rejected_batch(422, keys(), &errors));
        }
        let orders: Vec<Order> = (found.into_iter().flatten().zip(&lines))
            .map(|(product, line)| Order { product, amount: line.amount, key: line.key.clone() })
            .collect();
        match self.ledger.batch(orders, key) {
            Ok(()) => {
                let results = json::batch_results(keys(), is_ndjson);
                let media_type = if is_ndjson { NDJSON } else { JSON };
                Ok(Answer::new(200, media_type, Body::Owned(results.into_bytes())).with("Cache-Control", "no-store"))
            }
            Err(Rejection::InBatch(place, rejection)) => {
                let mut errors = vec![None; lines.len()];
                errors[place] = Some(rejection.to_string());
                Ok(rejected_batch(rejected(&rejection).status(), keys(), &errors))
            }
            Err(rejection) => Err(rejected(&rejection)),
        }
    }
}

/// The order that a request asks for. The key is the head's or the body's.
fn order(product: ProductIndex, key: Option<Key>, body: &[u8]) -> Result<Order, Problem> {
    let (amount, own_key) = json::parse_order(body).map_err(body_problem)?;
    if let (Some(key), Some(own_key)) = (&key, &own_key)
        && key != own_key
    {
        return Err(Problem::new(422, "the Idempotency-Key and the body's key are different; send one of them"));
    }
    Ok(Order { product, amount, key: key.or(own_key) })
}

/// The key of an order that was read, and what is wrong with one that was not.
fn split(line: Result<BatchOrder, String>) -> (Option<Key>, Option<String>) {
    match line {
        Ok(line) => (line.key, None),
        Err(error) => (None, Some(error)),
    }
}

/// The answer to a batch of which no order was counted.
fn rejected_batch<'a>(
    status: u16,
    keys: impl Iterator<Item = Option<&'a Key>>,
    errors: &'a [Option<String>],
) -> Answer {
    let first = errors.iter().enumerate().find_map(|(place, error)| error.as_ref().map(|error| (place, error)));
    let detail = match first {
        Some((place, error)) => format!("no order was counted, because of order {}: {error}", place + 1),
        None => "no order was counted".to_owned(),
    };
    let title = tiny_http::StatusCode(status).default_reason_phrase();
    let body = json::batch_problem(status, title, &detail, keys.zip(errors.iter().map(Option::as_deref)));
    Answer::new(status, PROBLEM_JSON, Body::Owned(body.into_bytes()))
}

/// Writes the answer to an order, on the ledger thread.
fn answer_order(deferred: &Deferred, outcome: Outcome) {
    match outcome {
        Ok(()) => PRINTED_OK.with_borrow_mut(|(second, printed)| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            if *second != now {
                (*second, *printed) = (now, Answer::json(json::OK).print());
            }
            deferred.send(200, printed);
        }),
        Err(rejection) => {
            let answer = routes::answer(&rejected(&rejection));
            deferred.send(answer.status(), &answer.print());
        }
    }
}

thread_local! {
    /// The printed answer `{"ok":true}` and the second of its `Date`.
    static PRINTED_OK: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) };
}

/// The problem that tells a client of a rejection.
pub(super) fn rejected(rejection: &Rejection) -> Problem {
    let (status, is_temporary) = match rejection {
        Rejection::Stopping => return Problem::stopping(),
        Rejection::InBatch(_, rejection) => return rejected(rejection),
        Rejection::IdInUse(_) | Rejection::CategoryExists(_) | Rejection::NotCurrentPeriod { .. } => (409, false),
        Rejection::Hidden => (410, false),
        Rejection::TotalOutOfRange | Rejection::NotInCatalog(_) | Rejection::KeyReused => (422, false),
        Rejection::Unknown => (500, false),
        Rejection::StoreFull | Rejection::StoreAtCap | Rejection::KeysFull => (507, true),
        Rejection::StoreRefused
        | Rejection::StoreForbidden
        | Rejection::StoreUnusable(_)
        | Rejection::StoreHangs
        | Rejection::StoreAway => (503, true),
    };
    let problem = Problem::new(status, rejection.to_string());
    if is_temporary { problem.with("Retry-After", RETRY_AFTER_SECONDS) } else { problem }
}

pub(super) fn checked(outcome: Outcome) -> Result<(), Problem> {
    outcome.map_err(|rejection| rejected(&rejection))
}

pub(super) fn body_problem(error: BodyError) -> Problem {
    match error {
        BodyError::Malformed(why) => Problem::new(400, why),
        BodyError::Invalid(why) => Problem::new(422, why),
    }
}
