//! One connection's thread: request after request, until the client leaves or the connection becomes a session.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::connections::{Connections, Registration};
use super::lent::{BUSY, Back, Lent};
use crate::http::connection::{Connection, ReadError};
use crate::http::problem::Problem;
use crate::http::response::{self, Answer};
use crate::http::service::{Call, Decision, Opening, Routed, Service, Session};
use crate::http::socket::write_all;

/// One connection on its own thread.
struct Serving<'a, S: Service> {
    service: &'a Arc<S>,
    connections: &'a Arc<Connections>,
    connection: Connection,
    /// When the last answer was left to another thread.
    deferred: Option<Instant>,
}

/// The decision for a request's head, or why there is none.
type Read<S> = Result<Routed<<S as Service>::Action, <S as Service>::Topic>, ReadError>;

/// What comes after a request.
enum Next<Topic> {
    Request,
    /// A request that most likely is an order.
    Order,
    Session(Opening, Topic),
    End,
}

/// A connection that becomes a session.
struct Upgrade<Topic> {
    stream: Arc<TcpStream>,
    /// What the client has sent after its request.
    early: Vec<u8>,
    opening: Opening,
    topic: Topic,
}

/// Serves one connection on this thread until it ends, or is a session whose client is silent.
pub fn serve<S: Service>(
    service: &Arc<S>,
    stream: Arc<TcpStream>,
    connections: &Arc<Connections>,
    registration: &Registration,
) -> Option<Box<dyn Session>> {
    let is_waiting = registration.is_waiting.clone();
    let Upgrade { stream, early, opening, topic } = serve_requests(service, stream, is_waiting, connections)?;
    open(&stream, opening, connections).ok()?;
    registration.set_session();
    service.open_session(topic, stream, early)
}

// Not inlined: printing goes deep, so it begins where the stack is shallow, and ends before the session begins.
#[inline(never)]
fn open(stream: &TcpStream, opening: Opening, connections: &Connections) -> io::Result<()> {
    connections.counters().answered(opening.status());
    let head = opening.print();
    drop(opening);
    write_all(stream, &[&head])
}

fn serve_requests<S: Service>(
    service: &Arc<S>,
    stream: Arc<TcpStream>,
    is_waiting: Arc<AtomicBool>,
    connections: &Arc<Connections>,
) -> Option<Upgrade<S::Topic>> {
    let connection = Connection::new(stream, is_waiting, connections.counters().clone());
    let mut serving = Serving::boxed(service, connection, connections);
    let mut next = Next::Request;
    loop {
        next = match next {
            Next::Request => {
                let read = serving.read();
                serving.carry_out(read)
            }
            Next::Order => serving.lend(),
            Next::End => return None,
            Next::Session(opening, topic) => {
                let (stream, early) = serving.connection.take_parts();
                return Some(Upgrade { stream, early, opening, topic });
            }
        }
    }
}

impl<'a, S: Service> Serving<'a, S> {
    fn boxed(service: &'a Arc<S>, connection: Connection, connections: &'a Arc<Connections>) -> Box<Self> {
        Box::new(Self { service, connections, connection, deferred: None })
    }

    /// Reads the next request's head and decides by it.
    fn read(&mut self) -> Read<S> {
        self.connection.read_head().map(|request| self.service.route(request))
    }

    fn carry_out(&mut self, read: Read<S>) -> Next<S::Topic> {
        let Routed { decision, origin } = match read {
            Ok(routed) => routed,
            Err(error) => return self.reject(error),
        };
        let answer = match decision {
            Decision::Answer(answer) => answer,
            Decision::Session(opening, topic) => return Next::Session(opening, topic),
            Decision::Act(action) => {
                if let Err(error) = self.connection.read_body() {
                    return self.reject(error);
                }
                let can_defer = origin.is_none() && !self.connections.is_stopping() && self.connection.can_defer();
                let deferred = can_defer.then(|| self.connection.deferred());
                match self.service.act(action, &Call { body: self.connection.body(), deferred }) {
                    Some(answer) => answer,
                    None => return self.after_order(),
                }
            }
        };
        self.answer(answer, origin)
    }

    fn after_order(&mut self) -> Next<S::Topic> {
        let last = self.deferred.replace(Instant::now());
        if last.is_some_and(|last| last.elapsed() < BUSY) { Next::Order } else { Next::Request }
    }

    /// Lends the connection until its thread has to go on.
    #[inline(never)]
    fn lend(&mut self) -> Next<S::Topic> {
        let taken = self.connection.take();
        let Some((connection, back)) = Lent::lend(self.service, self.connections, taken) else { return Next::End };
        self.connection = connection;
        match back {
            Back::Read => Next::Request,
            Back::Decided(routed) => self.carry_out(Ok(routed)),
            Back::Answer(answer) => self.answer(answer, None),
        }
    }

    fn answer(&mut self, answer: Answer, origin: Option<String>) -> Next<S::Topic> {
        match self.connection.answer(&response::allow_origin(answer, origin), !self.connections.is_stopping()) {
            Ok(true) => Next::Request,
            Ok(false) | Err(_) => Next::End,
        }
    }

    fn reject(&mut self, error: ReadError) -> Next<S::Topic> {
        let answer = match error {
            // The server's end has interrupted the body, and the client should know that nothing was counted.
            ReadError::Gone if self.connection.is_in_body() && self.connections.is_stopping() => {
                self.service.answer_problem(&Problem::stopping())
            }
            ReadError::Gone => return Next::End,
            ReadError::Rejected(problem) => self.service.answer_problem(&problem),
            ReadError::Overdue(answer) => answer,
        };
        self.connection.reject(&answer);
        Next::End
    }
}
