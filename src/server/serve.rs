//! One connection's thread: request after request, until the client leaves or the connection becomes a session.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::census::{Census, Permit};
use crate::http::connection::{Connection, KEEP_ALIVE_IDLE, ReadError, write_all};
use crate::http::response::{self, Problem};
use crate::service::{Call, Opening, Plan, Service, Step};

/// One connection on its own thread.
struct Serving<'a, S: Service> {
    service: &'a S,
    census: &'a Census,
    connection: Connection,
    client: S::Client,
    /// Whether another thread was asked for the last answer.
    is_deferred: bool,
}

/// What a request's head has led to.
type Planned<S> = Result<Plan<<S as Service>::Action, <S as Service>::Topic>, ReadError>;

/// What comes after a request.
enum Next<Topic> {
    Request,
    Session(Opening, Topic),
    End,
}

/// A connection that asks to become a session.
struct Session<S: Service> {
    stream: Arc<TcpStream>,
    /// What the client has sent behind its request.
    early: Vec<u8>,
    opening: Opening,
    topic: S::Topic,
    client: S::Client,
}

/// Serves one connection on this thread until it ends.
pub fn serve<S: Service>(service: &S, stream: Arc<TcpStream>, census: &Census, permit: &Permit) {
    if let Some(Session { stream, early, opening, topic, client }) = serve_requests(service, stream, census)
        && open(&stream, opening).is_ok()
    {
        permit.becomes_session();
        service.converse(client, topic, stream, early);
    }
}

// Not inlined: printing goes deep, so it begins where the stack is shallow, and ends before the session begins.
#[inline(never)]
fn open(stream: &TcpStream, opening: Opening) -> io::Result<()> {
    let head = opening.print();
    drop(opening);
    write_all(stream, &[&head])
}

// Not inlined: a session that follows must not keep this frame on its stack for as long as it lives.
#[inline(never)]
fn serve_requests<S: Service>(service: &S, stream: Arc<TcpStream>, census: &Census) -> Option<Session<S>> {
    let mut serving = Serving::boxed(service, stream, census);
    loop {
        let planned = serving.plan()?;
        match serving.carry_out(planned) {
            Next::Request => {}
            Next::End => return None,
            Next::Session(opening, topic) => {
                let (stream, early) = serving.connection.take_parts();
                let client = std::mem::take(&mut serving.client);
                return Some(Session { stream, early, opening, topic, client });
            }
        }
    }
}

impl<'a, S: Service> Serving<'a, S> {
    #[inline(never)]
    fn boxed(service: &'a S, stream: Arc<TcpStream>, census: &'a Census) -> Box<Self> {
        let connection = Connection::new(stream);
        Box::new(Self { service, census, connection, client: S::Client::default(), is_deferred: false })
    }

    /// Reads the next request's head and decides by it. `None`: the connection ends.
    #[inline(never)]
    fn plan(&mut self) -> Option<Planned<S>> {
        let Self { service, connection, client, .. } = self;
        let (mut idle, mut left) = (KEEP_ALIVE_IDLE, None);
        if std::mem::take(&mut self.is_deferred) && !connection.hears_within(S::PATIENCE) {
            // The answer has had its time. If it has come, the client may be silent for a while yet.
            left = service.settle(client, Duration::ZERO);
            idle = idle.saturating_sub(S::PATIENCE);
        }
        if left.is_none() {
            let request = connection.read_head(idle);
            // The last answer may still be due: nothing is planned, written, or closed before it has left.
            left = service.settle(client, S::PATIENCE);
            if left.is_none() {
                return Some(request.map(|request| service.plan(request)));
            }
        }
        let _ = write_all(connection.stream(), &[&left?]);
        None
    }

    #[inline(never)]
    fn carry_out(&mut self, planned: Planned<S>) -> Next<S::Topic> {
        let Plan { step, origin } = match planned {
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
            ReadError::Gone => return Next::End,
            ReadError::Refused(problem) => problem,
        };
        self.connection.refuse(&self.service.refuse(&problem));
        Next::End
    }
}
