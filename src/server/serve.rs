//! One connection's thread: request after request, until the client leaves or the connection becomes a session.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::connections::{Connections, Registration};
use crate::http::connection::{Connection, ReadError};
use crate::http::problem::Problem;
use crate::http::response;
use crate::http::service::{Call, Decision, Opening, Routed, Service};
use crate::http::socket::write_all;

/// One connection on its own thread.
struct Serving<'a, S: Service> {
    service: &'a S,
    connections: &'a Connections,
    connection: Connection,
}

/// The decision for a request's head, or why there is none.
type Read<S> = Result<Routed<<S as Service>::Action, <S as Service>::Topic>, ReadError>;

/// What comes after a request.
enum Next<Topic> {
    Request,
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

/// Serves one connection on this thread until it ends.
pub fn serve<S: Service>(service: &S, stream: Arc<TcpStream>, connections: &Connections, registration: &Registration) {
    let is_waiting = registration.is_waiting.clone();
    if let Some(Upgrade { stream, early, opening, topic }) = serve_requests(service, stream, is_waiting, connections)
        && open(&stream, opening, connections).is_ok()
    {
        registration.set_session();
        service.run_session(topic, stream, early);
    }
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
    service: &S,
    stream: Arc<TcpStream>,
    is_waiting: Arc<AtomicBool>,
    connections: &Connections,
) -> Option<Upgrade<S::Topic>> {
    let connection = Connection::new(stream, is_waiting, connections.counters().clone());
    let mut serving = Serving::boxed(service, connection, connections);
    loop {
        let read = serving.read();
        match serving.carry_out(read) {
            Next::Request => {}
            Next::End => return None,
            Next::Session(opening, topic) => {
                let (stream, early) = serving.connection.take_parts();
                return Some(Upgrade { stream, early, opening, topic });
            }
        }
    }
}

impl<'a, S: Service> Serving<'a, S> {
    fn boxed(service: &'a S, connection: Connection, connections: &'a Connections) -> Box<Self> {
        Box::new(Self { service, connections, connection })
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
                    None => return Next::Request,
                }
            }
        };
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
