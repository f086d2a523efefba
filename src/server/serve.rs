//! One connection's thread: request after request, until the client leaves or the connection becomes a session.

use std::net::TcpStream;
use std::sync::Arc;

use super::census::{Census, Permit};
use crate::http::connection::{Connection, ReadError};
use crate::http::response;
use crate::ledger::Slot;
use crate::routes::{self, Plan, Routes, Step};
use crate::session::Sessions;

/// What every connection needs.
pub struct Service {
    /// Requests.
    pub routes: Routes,
    /// Live feeds.
    pub sessions: Sessions,
}

impl Service {
    /// Serves one connection on this thread until it ends.
    pub fn serve(&self, stream: Arc<TcpStream>, census: &Census, permit: &Permit) {
        let slot = Arc::new(Slot::default());
        let mut connection = Connection::new(stream);
        loop {
            let plan = match connection.read_head() {
                Ok(request) => self.routes.plan(request),
                Err(error) => return refuse(&mut connection, error),
            };
            let Plan { step, origin } = plan;
            let answer = match step {
                Step::Answer(answer) => answer,
                Step::Act(action) => match connection.read_body() {
                    Ok(body) => self.routes.act(action, body, &slot),
                    Err(error) => return refuse(&mut connection, error),
                },
                Step::Session(feed, key) => {
                    if connection.write(&[&response::switching_protocols(&key)]).is_err() {
                        return;
                    }
                    permit.becomes_session();
                    let (stream, early) = connection.into_parts();
                    return self.sessions.run(stream, early, feed, &slot);
                }
            };
            match connection.answer(&routes::share(answer, origin), !census.is_stopping()) {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        }
    }
}

fn refuse(connection: &mut Connection, error: ReadError) {
    match error {
        ReadError::Gone => {}
        ReadError::Refused(problem) => connection.refuse(&routes::answer(&problem)),
    }
}
