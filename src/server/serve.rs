//! One connection's thread: request after request, until the client leaves or the connection becomes a session.

use std::net::TcpStream;
use std::sync::Arc;

use super::census::{Census, Permit};
use crate::fanout::Feed;
use crate::http::connection::{Connection, ReadError, write_all};
use crate::http::response::{self, Answer};
use crate::ledger::{Refusal, Slot};
use crate::routes::{self, Action, Plan, Receipts, Routes, Step, Taken};
use crate::session::Sessions;

/// What every connection needs.
pub struct Service {
    /// Requests.
    pub routes: Routes,
    /// Live feeds.
    pub sessions: Sessions,
    /// The answer that is written most often.
    pub taken: Arc<Taken>,
}

/// One connection on its own thread.
struct Serving<'a> {
    service: &'a Service,
    census: &'a Census,
    connection: Connection,
    slot: Arc<Slot>,
    /// Made when the first order comes whose answer can be deferred.
    receipts: Option<Arc<Receipts>>,
}

/// What comes after a request.
enum Next {
    Request,
    Session(Feed, String),
    End,
}

/// A connection that asks to become a session.
struct Session {
    stream: Arc<TcpStream>,
    /// What the client has sent behind its handshake.
    early: Vec<u8>,
    feed: Feed,
    key: String,
    slot: Arc<Slot>,
}

impl Service {
    /// Serves one connection on this thread until it ends.
    pub fn serve(&self, stream: Arc<TcpStream>, census: &Census, permit: &Permit) {
        if let Some(session) = self.serve_requests(stream, census)
            && write_all(&session.stream, &[&response::switching_protocols(&session.key)]).is_ok()
        {
            permit.becomes_session();
            let Session { stream, early, feed, slot, .. } = *session;
            self.sessions.run(stream, early, feed, &slot);
        }
    }

    // Not inlined: a session that follows must not keep this frame on its stack for as long as it lives.
    #[inline(never)]
    fn serve_requests(&self, stream: Arc<TcpStream>, census: &Census) -> Option<Box<Session>> {
        let mut serving = Serving::boxed(self, stream, census);
        loop {
            match serving.serve_one() {
                Next::Request => {}
                Next::End => return None,
                Next::Session(feed, key) => {
                    let (stream, early) = serving.connection.take_parts();
                    let slot = serving.slot.clone();
                    return Some(Box::new(Session { stream, early, feed, key, slot }));
                }
            }
        }
    }
}

impl<'a> Serving<'a> {
    #[inline(never)]
    fn boxed(service: &'a Service, stream: Arc<TcpStream>, census: &'a Census) -> Box<Self> {
        let connection = Connection::new(stream);
        Box::new(Self { service, census, connection, slot: Arc::new(Slot::default()), receipts: None })
    }

    #[inline(never)]
    fn serve_one(&mut self) -> Next {
        let Self { service, connection, receipts, .. } = self;
        // The last answer may still be due: nothing is read from the totals, written, or closed before it has left.
        let settle = || receipts.as_ref().and_then(|receipts| receipts.deferred.settle());
        let (plan, left) = match connection.read_head() {
            Ok(request) => {
                let left = settle();
                (Ok(service.routes.plan(request)), left)
            }
            Err(error) => (Err(error), settle()),
        };
        if let Some(left) = left {
            let _ = write_all(self.connection.stream(), &[&left]);
            return Next::End;
        }
        let Plan { step, origin } = match plan {
            Ok(plan) => plan,
            Err(error) => return self.refuse(error),
        };
        let answer = match step {
            Step::Answer(answer) => answer,
            Step::Session(feed, key) => return Next::Session(feed, key),
            Step::Act(action) => match self.act(action, origin.is_some()) {
                Ok(Some(answer)) => answer,
                Ok(None) => return Next::Request,
                Err(error) => return self.refuse(error),
            },
        };
        match self.connection.answer(&routes::share(answer, origin), !self.census.is_stopping()) {
            Ok(true) => Next::Request,
            Ok(false) | Err(_) => Next::End,
        }
    }

    /// Reads the body and does what it asks for. `None`: the ledger thread will answer.
    fn act(&mut self, action: Action, is_shared: bool) -> Result<Option<Answer>, ReadError> {
        self.connection.read_body()?;
        let routes = &self.service.routes;
        if let Action::Order(product) = action
            && !is_shared
            && !self.census.is_stopping()
            && self.connection.can_defer()
        {
            let receipts = self
                .receipts
                .get_or_insert_with(|| Receipts::new(self.connection.stream().clone(), self.service.taken.clone()));
            return Ok(routes.submit(product, self.connection.body(), receipts).err());
        }
        Ok(Some(routes.act(action, self.connection.body(), &self.slot)))
    }

    fn refuse(&mut self, error: ReadError) -> Next {
        match error {
            // The end has cut the body off, and the client should know that nothing came of it.
            ReadError::Gone if self.connection.is_in_body() && self.census.is_stopping() => {
                self.connection.refuse(&routes::answer(&routes::refused(&Refusal::Stopping)));
            }
            ReadError::Gone => {}
            ReadError::Refused(problem) => self.connection.refuse(&routes::answer(&problem)),
        }
        Next::End
    }
}
