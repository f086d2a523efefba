//! The idle-session thread: waits for the clients of all sessions that have nothing to do, so that an idle session takes
//! no thread. When a client sends something, or has long been silent, its session gets a thread for a turn.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::connections::Registration;
use super::workers::{STACK_BYTES, Workers};
use crate::http::service::Session;
use crate::log::Throttle;

/// Sessions that one wait of the poll reports.
const EVENTS: usize = 256;
/// The time between two looks for sessions that are due, at least: 100 ms. Each look goes through all of them.
const DUE_TICK: Duration = Duration::from_millis(100);
/// The token of the waker; sessions count from 1.
const WAKER: Token = Token(0);

/// A session and its connection's entry, which is dropped after it.
type Idle = (Box<dyn Session>, Registration);

#[derive(Default)]
struct Inner {
    sessions: HashMap<usize, Idle>,
    last_token: usize,
    /// When the thread looks for sessions that are due; `None` while there are no sessions.
    look_at: Option<Instant>,
    stopping: bool,
    throttle: Throttle,
}

/// The idle sessions.
pub struct IdleSessions {
    inner: Mutex<Inner>,
    registry: Registry,
    waker: Waker,
    workers: Arc<Workers>,
}

impl IdleSessions {
    /// None yet. Turns run on `workers`. The poll is for [`Self::start`].
    ///
    /// # Errors
    /// When the system refuses the poll.
    pub fn new(workers: Arc<Workers>) -> io::Result<(Arc<Self>, Poll)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        Ok((Arc::new(Self { inner: Mutex::default(), registry, waker, workers }), poll))
    }

    /// Starts the thread, which ends with [`Self::stop`]. `sentinel` is dropped when it ends, also by a panic.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(self: &Arc<Self>, mut poll: Poll, sentinel: impl Send + 'static) -> io::Result<JoinHandle<()>> {
        let sessions = self.clone();
        thread::Builder::new().name("idle-sessions".into()).stack_size(STACK_BYTES).spawn(move || {
            let _sentinel = sentinel;
            sessions.run(&mut poll);
        })
    }

    /// Waits for the session's client until the session is due.
    pub fn add(&self, session: Box<dyn Session>, registration: Registration) {
        let due = session.due();
        let descriptor = session.stream().as_raw_fd();
        let mut inner = self.inner();
        if inner.stopping {
            drop(inner);
            return drop(session);
        }
        inner.last_token += 1;
        let token = inner.last_token;
        // Listed first: the poll is edge-triggered, and reports at once what came before it was registered.
        inner.sessions.insert(token, (session, registration));
        if let Err(error) = self.registry.register(&mut SourceFd(&descriptor), Token(token), Interest::READABLE) {
            let session = inner.sessions.remove(&token);
            if inner.throttle.allows() {
                log::warn!("sessions are closed: {error}");
            }
            drop(inner);
            return drop(session);
        }
        if inner.look_at.is_none_or(|at| due < at) {
            inner.look_at = Some(due);
            drop(inner);
            let _ = self.waker.wake();
        }
    }

    /// Ends the thread and all sessions that are left.
    pub fn stop(&self) {
        let left = {
            let mut inner = self.inner();
            inner.stopping = true;
            std::mem::take(&mut inner.sessions)
        };
        drop(left);
        let _ = self.waker.wake();
    }

    fn run(self: &Arc<Self>, poll: &mut Poll) {
        let mut events = Events::with_capacity(EVENTS);
        let mut ready = Vec::new();
        loop {
            let look_at = match self.inner() {
                inner if inner.stopping => return,
                inner => inner.look_at,
            };
            let timeout = look_at.map(|at| at.saturating_duration_since(Instant::now()));
            match poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Clients would not be heard. The server ends when one of its threads has ended.
                    log::error!("waiting for idle sessions failed: {error}");
                    return;
                }
            }
            {
                let mut inner = self.inner();
                ready.extend(events.iter().filter_map(|event| inner.sessions.remove(&event.token().0)));
                inner.take_due(&mut ready);
            }
            ready.drain(..).for_each(|idle| self.resume(idle));
        }
    }

    /// Gives a session a turn on a thread of its own; on this one when the system refuses another thread.
    fn resume(self: &Arc<Self>, (session, registration): Idle) {
        let _ = self.registry.deregister(&mut SourceFd(&session.stream().as_raw_fd()));
        let sessions = self.clone();
        let turn = move |is_shared| {
            if let Some(session) = session.run(is_shared) {
                sessions.add(session, registration);
            }
        };
        if let Err((turn, error)) = self.workers.run(Box::new(turn)) {
            if self.inner().throttle.allows() {
                log::warn!("no thread can be started: {error}; sessions share one");
            }
            // As on a thread of its own, a panic ends one connection only.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| turn(true)));
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes the sessions that are due, if it is time to look for them.
    fn take_due(&mut self, ready: &mut Vec<Idle>) {
        let now = Instant::now();
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        ready.extend(self.sessions.extract_if(|_, (session, _)| session.due() <= now).map(|(_, idle)| idle));
        let next = self.sessions.values().map(|(session, _)| session.due()).min();
        self.look_at = next.map(|due| due.max(now + DUE_TICK));
    }
}
