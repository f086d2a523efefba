//! The accept thread, one per address: accepts connections up to the caps, and hands each to a thread. When
//! descriptors or threads run out it pauses, and goes on by itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::connections::{Connections, NotAdmitted, Registration};
use super::idle_sessions::IdleSessions;
use super::reject::{CLOSE_DELAY, RejectedConnections};
use super::serve::serve;
use super::workers::Workers;
use crate::http::counters::REJECTED;
use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::http::service::Service;
use crate::http::socket::is_timeout;
use crate::log::Throttle;

/// How long accepting pauses when the system has no descriptor, memory or thread left: 50 ms.
const PAUSE: Duration = Duration::from_millis(50);
/// The accept thread's own stack.
const STACK_BYTES: usize = 128 * 1024;
/// How long the connection that wakes an accept thread may take.
const WAKE_TIMEOUT: Duration = Duration::from_millis(500);

/// One address's accept loop.
pub struct Acceptor<S> {
    listener: TcpListener,
    connections: Arc<Connections>,
    service: Arc<S>,
    workers: Arc<Workers>,
    sessions: Arc<IdleSessions>,
    rejected: RejectedConnections,
    /// The answer when all connections are taken.
    server_full: Vec<u8>,
    /// The answer to an address that has all its connections.
    address_full: Vec<u8>,
    throttle: Throttle,
    /// How long the listener waits for a connection; `None` without a limit.
    tick: Option<Duration>,
}

impl<S: Service> Acceptor<S> {
    /// An accept loop that has not started.
    pub fn new(
        listener: TcpListener,
        connections: Arc<Connections>,
        service: Arc<S>,
        workers: Arc<Workers>,
        sessions: Arc<IdleSessions>,
    ) -> Self {
        let answer = |detail: &'static str| {
            let problem = Problem::new(REJECTED, detail).with("Retry-After", RETRY_AFTER_SECONDS);
            let answer = service.answer_problem(&problem);
            let mut printed = answer.head(tiny_http::HTTPVersion(1, 1), Some("close"));
            printed.extend_from_slice(answer.body().bytes());
            printed
        };
        let server_full = answer("the server has all the connections it can carry; try again");
        let address_full = answer("your address has all the connections it may have; close one, or try again");
        let rejected = RejectedConnections::default();
        Self {
            listener,
            connections,
            service,
            workers,
            sessions,
            rejected,
            server_full,
            address_full,
            throttle: Throttle::default(),
            tick: None,
        }
    }

    /// Starts the thread. It ends after [`Connections::stop`] and a [`wake`]. `sentinel` is dropped when it ends, also
    /// by a panic.
    pub fn start(mut self, sentinel: impl Send + 'static) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("accept".into()).stack_size(STACK_BYTES).spawn(move || {
            let _sentinel = sentinel;
            while !self.connections.is_stopping() {
                self.accept_one();
            }
        })
    }

    fn accept_one(&mut self) {
        self.rejected.close_expired();
        // While rejected connections wait to be closed, this thread wakes up for it.
        let tick = (!self.rejected.is_empty()).then_some(CLOSE_DELAY);
        if tick != self.tick && SockRef::from(&self.listener).set_read_timeout(tick).is_ok() {
            self.tick = tick;
        }
        match self.listener.accept() {
            Ok((stream, peer)) => self.begin(stream, peer.ip()),
            // The client has gone before it was accepted, or a signal interrupted the call.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) if self.tick.is_some() && is_timeout(&error) => {}
            Err(error) => self.pause(&format!("no connection can be accepted: {error}")),
        }
    }

    fn begin(&mut self, stream: TcpStream, peer: IpAddr) {
        // Without this, small totals and answers would wait for an acknowledgement of the one before (Nagle's
        // algorithm).
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let registration = match self.connections.admit(&stream, peer) {
            Ok(registration) => registration,
            Err(cap) => {
                let answer = match cap {
                    NotAdmitted::Server => &self.server_full,
                    NotAdmitted::Address => &self.address_full,
                    NotAdmitted::Stopping => return,
                };
                if let Some(stream) = Arc::into_inner(stream) {
                    self.rejected.reject(stream, answer);
                }
                return;
            }
        };
        if let Err(error) = self.spawn(stream, registration) {
            self.pause(&format!("no thread can be started: {error}"));
        }
    }

    fn spawn(&self, stream: Arc<TcpStream>, registration: Registration) -> io::Result<()> {
        let (service, connections, sessions) = (self.service.clone(), self.connections.clone(), self.sessions.clone());
        let serve = move |_| {
            if let Some(session) = serve(&service, stream, &connections, &registration) {
                sessions.add(session, registration);
            }
        };
        self.workers.run(Box::new(serve)).map_err(|(_, error)| error)
    }

    fn pause(&mut self, why: &str) {
        self.connections.counters().pauses.add(1);
        if self.throttle.allows() {
            log::warn!("{why}; trying again");
        }
        self.rejected.close_expired();
        thread::sleep(PAUSE);
    }
}

/// Wakes the accept thread of this address, so that it sees that it should end.
pub fn wake(mut address: SocketAddr) {
    // Only the address changes: a link-local one is not reached without its scope.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    // Without a descriptor left this fails. The thread is in its pause then, and checks the flag afterwards.
    let _ = TcpStream::connect_timeout(&address, WAKE_TIMEOUT);
}
