//! One connection's thread: request after request, until the client leaves or the connection becomes a session.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::census::{Census, Permit};
use crate::http::connection::{Connection, KEEP_ALIVE_IDLE, ReadError, write_all};
use crate::http::response::{self, Problem};
use crate::service::{Call, Plan, Service, Step};

/// One connection on its own thread.
struct Serving<'a, S: Service> {
    service: &'a S,
    census: &'a Census,
    connection: Connection,
    client: S::Client,
    /// Whether another thread was asked for the last answer.
    is_deferred: bool,
    /// How long the client may be silent from now on.
    idle: Duration,
}

/// What comes after a request.
enum Next<Topic> {
    Request,
    Session(Vec<u8>, Topic),
    End,
}

/// A connection that asks to become a session.
struct Session<S: Service> {
    stream: Arc<TcpStream>,
    /// What the client has sent behind its request.
    early: Vec<u8>,
    opening: Vec<u8>,
    topic: S::Topic,
    client: S::Client,
}

/// Serves one connection on this thread until it ends.
pub fn serve<S: Service>(service: &S, stream: Arc<TcpStream>, census: &Census, permit: &Permit) {
    if let Some(session) = serve_requests(service, stream, census)
        && write_all(&session.stream, &[&session.opening]).is_ok()
    {
        permit.becomes_session();
        let Session { stream, early, topic, client, .. } = *session;
        service.converse(client, topic, stream, early);
    }
}

// Not inlined: a session that follows must not keep this frame on its stack for as long as it lives.
#[inline(never)]
fn serve_requests<S: Service>(service: &S, stream: Arc<TcpStream>, census: &Census) -> Option<Box<Session<S>>> {
    let mut serving = Serving::boxed(service, stream, census);
    loop {
        match serving.serve_one() {
            Next::Request => {}
            Next::End => return None,
            Next::Session(opening, topic) => {
                let Serving { mut connection, client, .. } = *serving;
                let (stream, early) = connection.take_parts();
                return Some(Box::new(Session { stream, early, opening, topic, client }));
            }
        }
    }
}

impl<'a, S: Service> Serving<'a, S> {
    #[inline(never)]
    fn boxed(service: &'a S, stream: Arc<TcpStream>, census: &'a Census) -> Box<Self> {
        let connection = Connection::new(stream);
        let client = S::Client::default();
        Box::new(Self { service, census, connection, client, is_deferred: false, idle: KEEP_ALIVE_IDLE })
    }

    #[inline(never)]
    fn serve_one(&mut self) -> Next<S::Topic> {
        let was_deferred = std::mem::take(&mut self.is_deferred);
        let idle = std::mem::replace(&mut self.idle, KEEP_ALIVE_IDLE);
        let Self { service, connection, client, .. } = self;
        // The last answer may still be due: nothing is planned, written, or closed before it has left.
        let (plan, left) = match connection.read_head(if was_deferred { S::PATIENCE } else { idle }) {
            Ok(request) => {
                let left = service.settle(client, S::PATIENCE);
                (Ok(service.plan(request)), left)
            }
            // The answer has had its time; if it came, the client may be silent for a while yet.
            Err(ReadError::Silent) if was_deferred => match service.settle(client, Duration::ZERO) {
                None => {
                    self.idle = KEEP_ALIVE_IDLE.saturating_sub(S::PATIENCE);
                    return Next::Request;
                }
                left => (Err(ReadError::Silent), left),
            },
            Err(error) => (Err(error), service.settle(client, S::PATIENCE)),
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
            Step::Session(opening, topic) => return Next::Session(opening, topic),
            Step::Act(action) => {
                if let Err(error) = self.connection.read_body() {
                    return self.refuse(error);
                }
                let can_defer = origin.is_none() && !self.census.is_stopping() && self.connection.can_defer();
                let call =
                    Call { body: self.connection.body(), deferred_to: can_defer.then(|| self.connection.stream()) };
                match self.service.act(&mut self.client, action, call) {
                    Some(answer) => answer,
                    None => {
                        self.is_deferred = true;
                        return Next::Request;
                    }
                }
            }
        };
        match self.connection.answer(&response::share(answer, origin), !self.census.is_stopping()) {
            Ok(true) => Next::Request,
            Ok(false) | Err(_) => Next::End,
        }
    }

    fn refuse(&mut self, error: ReadError) -> Next<S::Topic> {
        let problem = match error {
            // The end has cut the body off, and the client should know that nothing came of it.
            ReadError::Gone if self.connection.is_in_body() && self.census.is_stopping() => Problem::stopping(),
            ReadError::Gone | ReadError::Silent => return Next::End,
            ReadError::Refused(problem) => problem,
        };
        self.connection.refuse(&self.service.refuse(&problem));
        Next::End
    }
}
