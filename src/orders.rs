//! The product behind the connections: takes orders and products, and leads live feeds. Owns which answer follows from
//! which outcome of the ledger, and who writes it.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::catalog::ProductIndex;
use crate::feed::{Feeds, LiveFeed};
use crate::http::deferred::Deferred;
use crate::http::request::Request;
use crate::http::response::{Answer, Problem, RETRY_AFTER_SECONDS};
use crate::ledger::{LedgerHandle, Outcome, Refusal, Slot, Waiter};
use crate::routes::{self, Action, Plan, Routes, Topic};
use crate::service::{Call, Service};
use crate::session;
use crate::wire::{self, BodyError};

/// See the module's head.
pub struct OrderService {
    /// Decides.
    pub routes: Routes,
    /// Where orders are written.
    pub ledger: LedgerHandle,
    /// What live feeds work on.
    pub feeds: Feeds,
    /// The answer that is written most often.
    pub taken: Arc<Taken>,
}

/// What one connection keeps.
#[derive(Default)]
pub struct Client {
    /// Carries the ledger's answers to this thread.
    slot: Arc<Slot>,
    /// Made when the first order comes whose answer can be deferred.
    receipts: Option<Arc<Receipts>>,
}

impl Service for OrderService {
    type Action = Action;
    type Topic = Topic;
    type Client = Client;

    fn plan(&self, request: Request<'_>) -> Plan {
        self.routes.plan(request)
    }

    fn act(&self, client: &mut Client, action: Action, call: Call<'_>) -> Option<Answer> {
        let result = match (action, call.deferred_to) {
            (Action::Order(product), Some(stream)) => {
                let receipts = client.receipts.get_or_insert_with(|| Receipts::new(stream.clone(), self.taken.clone()));
                match self.submit(product, call.body, receipts) {
                    Ok(()) => return None,
                    Err(problem) => Err(problem),
                }
            }
            (Action::Order(product), None) => wire::parse_order(call.body)
                .map_err(body_problem)
                .and_then(|amount| done(self.ledger.order(product, amount, &client.slot)))
                .map(|()| Answer::json(wire::OK)),
            (Action::AddProduct(category), _) => wire::parse_details(call.body)
                .map_err(body_problem)
                .and_then(|details| done(self.ledger.add_product(category, details, &client.slot)))
                .map(|()| self.routes.products(category)),
        };
        Some(result.unwrap_or_else(|problem| routes::answer(&problem)))
    }

    fn settle(&self, client: &Client) -> Option<Vec<u8>> {
        client.receipts.as_ref().and_then(|receipts| receipts.deferred.settle())
    }

    #[inline(never)]
    fn converse(&self, client: Client, topic: Topic, stream: Arc<TcpStream>, early: Vec<u8>) {
        let Client { slot, receipts } = client;
        drop(receipts);
        let feed = LiveFeed::new(&self.feeds, topic, slot);
        session::run(stream, early, &self.feeds.laggards, session::Limits::default(), feed);
    }

    fn refuse(&self, problem: &Problem) -> Answer {
        routes::answer(problem)
    }
}

impl OrderService {
    /// Hands an order to the ledger, whose thread will write the answer.
    fn submit(&self, product: ProductIndex, body: &[u8], receipts: &Arc<Receipts>) -> Result<(), Problem> {
        let amount = wire::parse_order(body).map_err(body_problem)?;
        receipts.deferred.begin();
        let waiter: Arc<dyn Waiter> = receipts.clone();
        self.ledger.submit(product, amount, waiter);
        Ok(())
    }
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
            Err(refusal) => self.deferred.send(&routes::answer(&refused(&refusal)).print()),
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

/// How a refusal of the ledger is answered.
fn refused(refusal: &Refusal) -> Problem {
    let (status, passes) = match refusal {
        Refusal::Stopping => return Problem::stopping(),
        Refusal::TotalOutOfRange | Refusal::NotInCatalog(_) => (422, false),
        Refusal::StoreFull => (507, true),
        Refusal::StoreRefused => (503, true),
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
