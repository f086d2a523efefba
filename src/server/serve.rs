//! One connection's thread: request after request, until the client leaves or the connection becomes a session.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connections::{Connections, Registration};
use crate::http::connection::{Connection, KEEP_ALIVE_IDLE, ReadError, write_all};
use crate::http::deferred::Settled;
use crate::http::problem::Problem;
use crate::http::response;
use crate::http::service::{Call, Opening, Plan, Service, Step};

/// How often a connection whose client is silent looks whether an answer that another thread writes was left to it: 1 s.
const ANSWER_TICK: Duration = Duration::from_secs(1);

/// One connection on its own thread.
struct Serving<'a, S: Service> {
    service: &'a S,
    connections: &'a Connections,
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
pub fn serve<S: Service>(service: &S, stream: Arc<TcpStream>, connections: &Connections, registration: &Registration) {
    if let Some(Session { stream, early, opening, topic, client }) = serve_requests(service, stream, connections)
        && open(&stream, opening).is_ok()
    {
        registration.set_session();
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
fn serve_requests<S: Service>(service: &S, stream: Arc<TcpStream>, connections: &Connections) -> Option<Session<S>> {
    let mut serving = Serving::boxed(service, stream, connections);
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

/// Sees the last answer off. `false`: the connection ends, because the answer has not come or cannot be written.
fn settle<S: Service>(service: &S, client: &S::Client, stream: &TcpStream, patience: Duration) -> bool {
    loop {
        match service.settle(client, patience) {
            Settled::Done => return true,
            Settled::Left(rest) => return write_all(stream, &[&rest]).is_ok(),
            Settled::Due => {
                if service.give_up(client).is_some() {
                    return false;
                }
                // It has come just now.
            }
        }
    }
}

impl<'a, S: Service> Serving<'a, S> {
    #[inline(never)]
    fn boxed(service: &'a S, stream: Arc<TcpStream>, connections: &'a Connections) -> Box<Self> {
        let connection = Connection::new(stream);
        Box::new(Self { service, connections, connection, client: S::Client::default(), is_deferred: false })
    }

    /// Reads the next request's head and decides by it. `None`: the connection ends.
    #[inline(never)]
    fn plan(&mut self) -> Option<Planned<S>> {
        let was_deferred = std::mem::take(&mut self.is_deferred);
        let idle = if was_deferred { self.wait_after_deferring()? } else { KEEP_ALIVE_IDLE };
        let Self { service, connection, client, .. } = self;
        let stream = was_deferred.then(|| connection.stream().clone());
        let request = connection.read_head(idle);
        // The last answer may still be due: nothing is planned, written, or closed before it has left.
        if stream.is_none_or(|stream| settle(*service, client, &stream, S::PATIENCE)) {
            return Some(request.map(|request| service.plan(request)));
        }
        self.end_with_stand_in();
        None
    }

    /// Waits for the next request while the last answer may be due. Returns how long the client may be silent after that;
    /// `None`: the connection ends.
    #[inline(never)]
    fn wait_after_deferring(&mut self) -> Option<Duration> {
        let begun = Instant::now();
        // Almost always the next request comes first, or the answer has left by the first tick.
        while !self.connection.hears_within(ANSWER_TICK) {
            let waited = begun.elapsed();
            match self.service.settle(&self.client, Duration::ZERO) {
                Settled::Done => return Some(KEEP_ALIVE_IDLE.saturating_sub(waited)),
                // A client that reads late says nothing while it waits for the rest.
                Settled::Left(rest) => write_all(self.connection.stream(), &[&rest]).ok()?,
                Settled::Due if waited < S::PATIENCE => {}
                Settled::Due => {
                    if !settle(self.service, &self.client, self.connection.stream(), Duration::ZERO) {
                        self.end_with_stand_in();
                        return None;
                    }
                }
            }
        }
        Some(KEEP_ALIVE_IDLE)
    }

    /// Ends the connection with what stands in for an answer that has not come, if there is something.
    fn end_with_stand_in(&mut self) {
        if let Some(answer) = self.service.give_up(&self.client) {
            self.connection.stand_in(&answer);
        }
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
                let can_defer = origin.is_none() && !self.connections.is_stopping() && self.connection.can_defer();
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
        match self.connection.answer(&response::allow_origin(answer, origin), !self.connections.is_stopping()) {
            Ok(true) => Next::Request,
            Ok(false) | Err(_) => Next::End,
        }
    }

    fn refuse(&mut self, error: ReadError) -> Next<S::Topic> {
        let problem = match error {
            // The end has cut the body off, and the client should know that nothing came of it.
            ReadError::Gone if self.connection.is_in_body() && self.connections.is_stopping() => Problem::stopping(),
            ReadError::Gone => return Next::End,
            ReadError::Refused(problem) => problem,
        };
        self.connection.refuse(&self.service.refuse(&problem));
        Next::End
    }
}
