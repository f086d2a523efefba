//! The product behind the connections: takes orders and products, and leads live feeds. Owns which answer follows from
//! which outcome of the ledger, and who writes it.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::api::feed::{Feeds, LiveFeed};
use crate::api::route;
use crate::api::routes::{self, Action, MAX_LOG_LINES, NDJSON, Plan, Routes, Topic};
use crate::http::deferred::{Deferred, Settled};
use crate::http::problem::{PROBLEM_JSON, Problem, RETRY_AFTER_SECONDS};
use crate::http::request::Request;
use crate::http::response::{Answer, Body};
use crate::http::service::{Call, Service};
use crate::json::{self, BatchError, BatchOrder, BodyError};
use crate::ledger::{LEDGER_DEADLINE, LedgerHandle, Order, Outcome, Rejection, Waiter};
use crate::live::fanout::Format;
use crate::live::history::History;
use crate::live::sse;
use crate::live::websocket;
use crate::tally::catalog::ProductIndex;
use crate::tally::order::Key;

/// See the module's head.
pub struct OrderService {
    /// Decides.
    pub routes: Routes,
    /// Where orders are written.
    pub ledger: LedgerHandle,
    /// Where the log is read.
    pub history: History,
    /// What live feeds work on.
    pub feeds: Feeds,
    /// The answer that is written most often.
    pub taken: Arc<Taken>,
}

/// What one connection keeps.
#[derive(Default)]
pub struct Client {
    /// Made when the first order comes whose answer can be deferred.
    receipts: Option<Arc<Receipts>>,
}

impl Service for OrderService {
    type Action = Action;
    type Topic = Topic;
    type Client = Client;

    const PATIENCE: Duration = LEDGER_DEADLINE;

    fn plan(&self, request: Request<'_>) -> Plan {
        self.routes.plan(request)
    }

    fn act(&self, client: &mut Client, action: Action, call: Call<'_>) -> Option<Answer> {
        let result = match (action, call.deferred_to) {
            (Action::Order(product, key), Some(stream)) => {
                let receipts = client.receipts.get_or_insert_with(|| Receipts::new(stream.clone(), self.taken.clone()));
                match self.submit(product, key, call.body, receipts) {
                    Ok(()) => return None,
                    Err(problem) => Err(problem),
                }
            }
            (Action::Order(product, key), None) => order(product, key, call.body)
                .and_then(|order| done(self.ledger.order(order)))
                .map(|()| Answer::json(json::OK)),
            (Action::Batch { is_ndjson, key }, _) => self.take_batch(call.body, is_ndjson, key),
            (Action::AddProduct(category), _) => json::parse_details(call.body)
                .map_err(body_problem)
                .and_then(|details| done(self.ledger.add_product(category, details)))
                .map(|()| self.routes.products(category)),
            (Action::Log { after, limit }, _) => self.log_page(after, limit),
        };
        Some(result.unwrap_or_else(|problem| routes::answer(&problem)))
    }

    fn settle(&self, client: &Client, patience: Duration) -> Settled {
        client.receipts.as_ref().map_or(Settled::Done, |receipts| receipts.deferred.settle(patience))
    }

    fn give_up(&self, client: &Client) -> Option<Answer> {
        let is_given_up = client.receipts.as_ref().is_some_and(|receipts| receipts.deferred.abandon());
        is_given_up.then(|| routes::answer(&refused(&Rejection::Unknown)))
    }

    #[inline(never)]
    fn converse(&self, client: Client, topic: Topic, stream: Arc<TcpStream>, early: Vec<u8>) {
        drop(client);
        let format = topic.subscription.format;
        let feed = LiveFeed::new(&self.feeds, topic);
        match format {
            Format::Events => sse::run(&stream, &self.feeds.slow_sockets, feed),
            Format::Plain | Format::Positioned => {
                websocket::run(stream, early, &self.feeds.slow_sockets, websocket::Limits::default(), feed);
            }
        }
    }

    fn refuse(&self, problem: &Problem) -> Answer {
        routes::answer(problem)
    }
}

impl OrderService {
    /// Hands an order to the ledger, whose thread will write the answer.
    fn submit(
        &self,
        product: ProductIndex,
        key: Option<Key>,
        body: &[u8],
        receipts: &Arc<Receipts>,
    ) -> Result<(), Problem> {
        let order = order(product, key, body)?;
        receipts.deferred.begin();
        let waiter: Arc<dyn Waiter> = receipts.clone();
        self.ledger.submit(order, waiter);
        Ok(())
    }

    /// Several orders as one: all are counted, or none is.
    fn take_batch(&self, body: &[u8], is_ndjson: bool, key: Option<Key>) -> Result<Answer, Problem> {
        let lines = match json::parse_batch(body, is_ndjson) {
            Ok(lines) => lines,
            Err(BatchError::Body(error)) => return Err(body_problem(error)),
            Err(BatchError::Orders(lines)) => {
                let (keys, errors): (Vec<_>, Vec<_>) = lines.into_iter().map(apart).unzip();
                return Ok(refused_batch(422, keys.iter().map(Option::as_ref), &errors));
            }
        };
        let keys = || lines.iter().map(|line| line.key.as_ref());
        let found: Vec<Option<ProductIndex>> = {
            let catalog = self.feeds.catalog.read().unwrap_or_else(PoisonError::into_inner);
            lines.iter().map(|line| catalog.find_product(&line.id)).collect()
        };
        if found.iter().any(Option::is_none) {
            let told = |(found, line): (&Option<_>, &BatchOrder)| {
                found.is_none().then(|| {
                    format!(
                        "there is no product {}; GET /{{category}} lists the products",
                        route::quoted_name(&line.id)
                    )
                })
            };
            let errors: Vec<_> = found.iter().zip(&lines).map(told).collect();
            return Ok(refused_batch(422, keys(), &errors));
        }
        let orders: Vec<Order> = (found.into_iter().flatten().zip(&lines))
            .map(|(product, line)| Order { product, amount: line.amount, key: line.key.clone() })
            .collect();
        match self.ledger.batch(orders, key) {
            Ok(()) => {
                let results = json::batch_results(keys(), is_ndjson);
                let media_type = if is_ndjson { NDJSON } else { crate::http::response::JSON };
                Ok(Answer::new(200, media_type, Body::Owned(results.into_bytes())).with("Cache-Control", "no-store"))
            }
            Err(Rejection::InBatch(place, rejection)) => {
                let mut errors = vec![None; lines.len()];
                errors[place] = Some(rejection.to_string());
                Ok(refused_batch(refused(&rejection).status(), keys(), &errors))
            }
            Err(rejection) => Err(refused(&rejection)),
        }
    }

    fn log_page(&self, after: u64, limit: usize) -> Result<Answer, Problem> {
        let page = self.history.page(after, limit).ok_or_else(|| {
            Problem::new(503, "the log cannot be read now; try again").with("Retry-After", RETRY_AFTER_SECONDS)
        })?;
        let mut lines = String::new();
        for entry in &page {
            json::push_log_line(&mut lines, entry);
        }
        let answer = Answer::new(200, NDJSON, Body::Owned(lines.into_bytes())).with("Cache-Control", "no-store");
        // A full page may have a next one (RFC 8288).
        Ok(match page.last() {
            Some(last) if page.len() == limit => {
                let limit = if limit == MAX_LOG_LINES { String::new() } else { format!("&limit={limit}") };
                answer.with("Link", format!("</log?after={}{limit}>; rel=\"next\"", last.seq))
            }
            _ => answer,
        })
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
fn apart(line: Result<BatchOrder, String>) -> (Option<Key>, Option<String>) {
    match line {
        Ok(line) => (line.key, None),
        Err(error) => (None, Some(error)),
    }
}

/// The answer to several orders of which none was counted.
fn refused_batch<'a>(status: u16, keys: impl Iterator<Item = Option<&'a Key>>, errors: &'a [Option<String>]) -> Answer {
    let first = errors.iter().enumerate().find_map(|(place, error)| error.as_ref().map(|error| (place, error)));
    let detail = match first {
        Some((place, error)) => format!("no order was counted, because of order {}: {error}", place + 1),
        None => "no order was counted".to_owned(),
    };
    let title = tiny_http::StatusCode(status).default_reason_phrase();
    let body = json::batch_problem(status, title, &detail, keys.zip(errors.iter().map(Option::as_deref)));
    Answer::new(status, PROBLEM_JSON, Body::Owned(body.into_bytes()))
}

/// One connection's answers to orders, written by the ledger thread. See [`Deferred`].
struct Receipts {
    /// When an answer is due.
    deferred: Deferred,
    taken: Arc<Taken>,
}

impl Receipts {
    /// No answer is due on this connection yet.
    fn new(stream: Arc<TcpStream>, taken: Arc<Taken>) -> Arc<Self> {
        Arc::new(Self { deferred: Deferred::new(stream), taken })
    }
}

impl Waiter for Receipts {
    fn tell(&self, outcome: Outcome) {
        match outcome {
            Ok(()) => self.deferred.send(&self.taken.now()),
            Err(rejection) => self.deferred.send(&routes::answer(&refused(&rejection)).print()),
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
            *printed = (second, Answer::json(json::OK).print().into());
        }
        printed.1.clone()
    }
}

/// How a rejection of the ledger is answered.
fn refused(rejection: &Rejection) -> Problem {
    let (status, passes) = match rejection {
        Rejection::Stopping => return Problem::stopping(),
        Rejection::InBatch(_, rejection) => return refused(rejection),
        Rejection::TotalOutOfRange | Rejection::NotInCatalog(_) | Rejection::KeyReused => (422, false),
        Rejection::Unknown => (500, false),
        Rejection::StoreFull => (507, true),
        Rejection::StoreRefused | Rejection::StoreHangs => (503, true),
    };
    let problem = Problem::new(status, rejection.to_string());
    if passes { problem.with("Retry-After", RETRY_AFTER_SECONDS) } else { problem }
}

fn done(outcome: Outcome) -> Result<(), Problem> {
    outcome.map_err(|rejection| refused(&rejection))
}

fn body_problem(error: BodyError) -> Problem {
    match error {
        BodyError::Malformed(why) => Problem::new(400, why),
        BodyError::Invalid(why) => Problem::new(422, why),
    }
}
