//! A connection whose client posts order after order is lent to the ledger thread, which reads its requests itself: the
//! connection's thread need not be woken for each. That thread takes it back when the client pauses, when the ledger
//! hangs, and for every request that is no order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connections::Connections;
use crate::http::connection::{Connection, Received};
use crate::http::ready_sockets::Ready;
use crate::http::response::Answer;
use crate::http::service::{Call, Decision, Routed, Service};

/// A connection is lent when two orders come within this time, and until none comes for so long: 1 s.
pub const BUSY: Duration = Duration::from_secs(1);

/// What is left to do for a connection that is taken back.
pub enum Back<S: Service> {
    /// Read on.
    Read,
    /// This was decided for a request.
    Decided(Routed<S::Action, S::Topic>),
    /// This is the answer to a request.
    Answer(Answer),
}

/// A connection that is lent.
pub struct Lent<S: Service> {
    service: Arc<S>,
    connections: Arc<Connections>,
    state: Mutex<State<S>>,
    must_go_back: Condvar,
}

struct State<S: Service> {
    /// `None` once it has been taken back, or after a panic.
    connection: Option<Connection>,
    /// Set when the connection's own thread has to go on.
    back: Option<Back<S>>,
    /// The requests that were taken since the connection's thread last looked.
    taken: u64,
}

impl<S: Service> Lent<S> {
    /// Lends a connection to the thread that watches the service's sockets, until the connection's thread, which is the
    /// present one, has to go on. `None` when the connection has ended.
    pub fn lend(
        service: &Arc<S>,
        connections: &Arc<Connections>,
        connection: Connection,
    ) -> Option<(Connection, Back<S>)> {
        let Some(sockets) = service.ready_sockets() else { return Some((connection, Back::Read)) };
        let stream = connection.stream().clone();
        if connection.set_lent(true).is_err() {
            return Some((connection, Back::Read));
        }
        let lent = Arc::new(Self {
            service: service.clone(),
            connections: connections.clone(),
            state: Mutex::new(State { connection: Some(connection), back: None, taken: 0 }),
            must_go_back: Condvar::new(),
        });
        let (connection, back) = match sockets.watch(&stream, lent.clone()) {
            Ok(_watch) => lent.wait(),
            // Without another descriptor in the poll everything goes on as before.
            Err(_) => Self::take_back(lent.state()),
        }?;
        connection.set_lent(false).ok()?;
        Some((connection, back))
    }

    fn wait(&self) -> Option<(Connection, Back<S>)> {
        let mut state = self.state();
        loop {
            state.taken = 0;
            let is_due = |state: &mut State<S>| state.back.is_none();
            let waited = self.must_go_back.wait_timeout_while(state, BUSY, is_due);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.back.is_some() || state.taken == 0 {
                return Self::take_back(state);
            }
        }
    }

    fn take_back(mut state: MutexGuard<'_, State<S>>) -> Option<(Connection, Back<S>)> {
        let back = state.back.take().unwrap_or(Back::Read);
        state.connection.take().map(|connection| (connection, back))
    }

    /// Takes what has been received. Returns what is left to do if the connection's thread has to go on.
    fn read(&self, connection: &mut Connection) -> Option<Back<S>> {
        match connection.read_now() {
            Received::Nothing => return None,
            Received::Other => return Some(Back::Read),
            Received::Request => {}
        }
        // Only orders are decided about here: other requests may ask the ledger, or take long.
        let request = connection.request().filter(|request| self.service.is_order(*request));
        let Some(request) = request else {
            connection.put_back();
            return Some(Back::Read);
        };
        let Routed { decision, origin } = self.service.route(request);
        let Decision::Act(action) = decision else { return Some(Back::Decided(Routed { decision, origin })) };
        if origin.is_some() || self.connections.is_stopping() {
            return Some(Back::Decided(Routed { decision: Decision::Act(action), origin }));
        }
        let call = Call { body: connection.body(), deferred: Some(connection.deferred()) };
        match self.service.take_order(action, &call) {
            Ok(None) => None,
            Ok(Some(answer)) => Some(Back::Answer(answer)),
            Err(action) => Some(Back::Decided(Routed { decision: Decision::Act(action), origin })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Service> Ready for Lent<S> {
    fn ready(&self, has_ended: bool) {
        let mut state = self.state();
        let State { connection, back, taken } = &mut *state;
        let Some(lent) = connection.as_mut().filter(|_| back.is_none()) else { return };
        *taken += 1;
        // A panic ends this connection, not the thread that reads for all.
        let read = AssertUnwindSafe(|| if has_ended { Some(Back::Read) } else { self.read(lent) });
        match catch_unwind(read) {
            Ok(None) => return,
            Ok(rest) => *back = rest,
            Err(_) => {
                *connection = None;
                *back = Some(Back::Read);
            }
        }
        drop(state);
        self.must_go_back.notify_one();
    }
}
