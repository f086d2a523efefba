//! Listeners, their accept threads, and the orderly end of all connections. A [`Service`] decides what connections
//! serve.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Poll;
use socket2::{Domain, Protocol, Socket, Type};

use super::ServerError;
use super::accept::{self, Acceptor};
use super::connections::{Caps, Connections};
use super::idle_sessions::IdleSessions;
use super::workers::Workers;
use crate::http::counters::Counters;
use crate::http::service::Service;
use crate::http::socket::bound_send_buffers;

/// Connections that wait to be accepted; the system may hold fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;
/// How often a server that stops wakes connections that wait for a request: every 50 ms. One whose client pipelines has
/// taken its next request by then and ends after it.
const WAKE_TICK: Duration = Duration::from_millis(50);

/// The sockets that a server listens on, with their accept threads and connections.
pub struct Listeners {
    waiting: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    connections: Arc<Connections>,
    workers: Arc<Workers>,
    sessions: Arc<IdleSessions>,
    /// Until the thread for idle sessions starts.
    poll: Option<Poll>,
}

impl Listeners {
    /// Takes sockets that listen, and bounds the send buffers of their connections. Clients can connect, and are served
    /// once [`Listeners::accept`] is called.
    ///
    /// # Errors
    /// When the system does not tell a socket's address, cannot put it into blocking mode, or refuses a poll.
    pub fn new(listeners: Vec<TcpListener>, caps: Caps) -> io::Result<Self> {
        listeners.iter().try_for_each(|listener| listener.set_nonblocking(false))?;
        listeners.iter().for_each(bound_send_buffers);
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let connections = Arc::new(Connections::new(caps));
        let workers = Arc::new(Workers::default());
        let (sessions, poll) = IdleSessions::new(workers.clone())?;
        let poll = Some(poll);
        Ok(Self { waiting: listeners, addresses, threads: Vec::new(), connections, workers, sessions, poll })
    }

    /// The addresses that it listens on, with the ports that the system has chosen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The most connections at a time.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.connections.caps()
    }

    /// What happened to connections.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        self.connections.counters()
    }

    /// Starts the accept threads, and the thread for idle sessions. Each drops a sentinel, made with its name, when it
    /// ends, also by a panic.
    ///
    /// # Errors
    /// When the system refuses an accept thread.
    pub fn accept<S: Service, D: Send + 'static>(
        &mut self,
        service: &Arc<S>,
        sentinel: impl Fn(&'static str) -> D,
    ) -> io::Result<()> {
        self.accept_on(0, service, sentinel)
    }

    /// Starts the accept threads of its sockets from this one on that have none yet.
    ///
    /// # Errors
    /// When the system refuses an accept thread.
    pub fn accept_on<S: Service, D: Send + 'static>(
        &mut self,
        first: usize,
        service: &Arc<S>,
        sentinel: impl Fn(&'static str) -> D,
    ) -> io::Result<()> {
        if let Some(poll) = self.poll.take() {
            self.threads.push(self.sessions.start(poll, sentinel("idle-session"))?);
        }
        for listener in self.waiting.drain(first..) {
            let (connections, workers, sessions) =
                (self.connections.clone(), self.workers.clone(), self.sessions.clone());
            let acceptor = Acceptor::new(listener, connections, service.clone(), workers, sessions);
            self.threads.push(acceptor.start(sentinel("accept"))?);
        }
        Ok(())
    }

    /// Begins the end: no connection is accepted any more, and those that are in a request end after it.
    pub fn stop_accepting(&self) {
        self.connections.stop();
        for address in self.addresses.iter().filter(|_| !self.threads.is_empty()) {
            accept::wake(*address);
        }
    }

    /// Waits until no connection is in a request. Those that still wait for one after `WAKE_TICK` are woken.
    pub fn wait_for_requests(&self, deadline: Instant) {
        while !self.connections.wait_for_requests(deadline.min(Instant::now() + WAKE_TICK)) && Instant::now() < deadline
        {
            self.connections.wake_waiting();
        }
    }

    /// Resets the connections that are still in a request.
    pub fn close_requests(&self) {
        self.connections.close_requests();
    }

    /// Waits until no connection is left.
    pub fn wait_for_all(&self, deadline: Instant) {
        self.connections.wait_for_all(deadline);
    }

    /// Ends the sessions that are left, the thread for idle ones, and the threads that wait for a connection.
    pub fn stop(&self) {
        self.sessions.stop();
        self.workers.stop();
    }

    /// Takes the threads that it has started, to wait for their end.
    #[must_use]
    pub fn take_threads(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }
}

/// Listens on an address.
///
/// # Errors
/// [`ServerError::Listen`] names the address.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // So that an IPv4 address can be listed beside it on every system.
            socket.set_only_v6(true)?;
        }
        // A restarted server gets its port at once, although old connections are in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|error| ServerError::Listen(address, error))
}
