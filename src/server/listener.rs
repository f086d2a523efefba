//! The side of a server that faces the network: listeners, accept threads, a thread per connection, and their orderly
//! end. Owns the caps on connections; what the connections are about is the [`Service`]'s affair.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::ServerError;
use super::accept::{self, Acceptor};
use super::connections::{Caps, Connections};
use crate::http::service::Service;

/// Connections that wait to be accepted; the system may hold fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;
/// How often a thread that ends is looked after.
const JOIN_TICK: Duration = Duration::from_millis(2);

/// See the module's head.
pub struct Listeners {
    waiting: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    acceptors: Vec<JoinHandle<()>>,
    connections: Arc<Connections>,
}

impl Listeners {
    /// Listens on the addresses. Clients can connect from now on, and are served once [`Listeners::accept`] is called.
    ///
    /// # Errors
    /// [`ServerError::Listen`] names the address.
    pub fn bind(addresses: &[SocketAddr], caps: Caps) -> Result<Self, ServerError> {
        let listeners = addresses.iter().map(|address| listen(*address)).collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>();
        let addresses = addresses.map_err(ServerError::System)?;
        Ok(Self { waiting: listeners, addresses, acceptors: Vec::new(), connections: Arc::new(Connections::new(caps)) })
    }

    /// The addresses that it listens on, with the ports that the system has chosen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Starts to serve.
    ///
    /// # Errors
    /// When the system refuses an accept thread.
    pub fn accept<S: Service>(&mut self, service: &Arc<S>) -> io::Result<()> {
        for listener in std::mem::take(&mut self.waiting) {
            self.acceptors.push(Acceptor::new(listener, self.connections.clone(), service.clone()).start()?);
        }
        Ok(())
    }

    /// Begins the end: nobody is accepted any more, idle connections are woken, the others end after their request.
    pub fn stop_accepting(&self) {
        self.connections.stop();
        for address in &self.addresses {
            accept::wake(*address);
        }
        self.connections.shut_down_reads();
    }

    /// Waits until no connection speaks HTTP any more.
    pub fn wait_for_requests(&self, deadline: Instant) {
        self.connections.wait_for_requests(deadline);
    }

    /// Waits until no connection is left.
    pub fn wait_for_all(&self, deadline: Instant) {
        self.connections.wait_for_all(deadline);
    }

    /// Waits for the accept threads, but not for ever.
    pub fn join(&self, deadline: Instant) {
        while !self.acceptors.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(JOIN_TICK);
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // An IPv4 address of its own can be listed beside it, on every system alike.
            socket.set_only_v6(true)?;
        }
        // A restarted server gets its port back at once, although old connections linger.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|error| ServerError::Listen(address, error))
}
