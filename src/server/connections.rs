//! The open connections: their number, which the caps limit, and those that are not sessions, which a shutdown ends.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::http::counters::Counters;
use crate::http::socket::reset_on_close;

/// The most connections at a time.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// From all addresses together.
    pub connections: usize,
    /// From one client address; `None` for no limit.
    pub per_address: Option<usize>,
}

/// Why a new connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The cap on all connections.
    Server,
    /// The cap on connections from one address.
    Address,
    /// The server stops.
    Stopping,
}

#[derive(Debug, Default)]
struct Inner {
    /// The number of open connections.
    open: usize,
    /// Open connections by [`address_key`]. Empty without a cap on them; never more entries than open connections.
    by_address: HashMap<u128, usize>,
    /// The connections that speak HTTP, by id, and whether each waits for a request. Sessions are not listed.
    http: HashMap<u64, (Arc<TcpStream>, Arc<AtomicBool>)>,
    last_id: u64,
}

/// The open connections.
#[derive(Debug)]
pub struct Connections {
    caps: Caps,
    counters: Arc<Counters>,
    inner: Mutex<Inner>,
    /// Notified when a connection ends or becomes a session, while the server stops.
    changed: Condvar,
    stopping: AtomicBool,
}

/// One open connection's entry, which its drop removes.
#[derive(Debug)]
pub struct Registration {
    connections: Arc<Connections>,
    id: u64,
    address: u128,
    /// Set while the connection's thread waits for a request.
    pub is_waiting: Arc<AtomicBool>,
}

impl Connections {
    /// No connections yet.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            counters: Arc::default(),
            inner: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// What happened to connections.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The most connections at a time.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// Adds a connection from `peer`, which speaks HTTP.
    ///
    /// # Errors
    /// The cap that it would exceed, or that the server stops.
    pub fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>, peer: IpAddr) -> Result<Registration, NotAdmitted> {
        let address = address_key(peer);
        let mut inner = self.inner();
        if self.is_stopping() {
            return Err(NotAdmitted::Stopping);
        }
        if inner.open >= self.caps.connections {
            self.counters.rejected(&self.counters.rejected_by_server);
            return Err(NotAdmitted::Server);
        }
        if let Some(cap) = self.caps.per_address {
            let open = inner.by_address.entry(address).or_default();
            if *open >= cap {
                self.counters.rejected(&self.counters.rejected_by_address);
                return Err(NotAdmitted::Address);
            }
            *open += 1;
        }
        inner.open += 1;
        self.counters.accepted.add(1);
        self.counters.open.set(inner.open as u64);
        inner.last_id += 1;
        let id = inner.last_id;
        let is_waiting = Arc::new(AtomicBool::new(false));
        inner.http.insert(id, (stream.clone(), is_waiting.clone()));
        Ok(Registration { connections: self.clone(), id, address, is_waiting })
    }

    /// Marks the server as stopping: connections end after their current request, and no further one is admitted.
    pub fn stop(&self) {
        // Under the lock, so that each connection is either listed already or not admitted.
        let _inner = self.inner();
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the server is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Wakes each connection that waits for a request. One that has not begun to wait yet is woken when this is called
    /// again.
    pub fn wake_waiting(&self) {
        for (stream, _) in self.inner().http.values().filter(|(_, is_waiting)| is_waiting.load(Ordering::SeqCst)) {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Resets each connection that is not a session.
    pub fn close_requests(&self) {
        for (stream, _) in self.inner().http.values() {
            reset_on_close(stream);
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until no connection speaks HTTP. Returns whether that is so.
    pub fn wait_for_requests(&self, deadline: Instant) -> bool {
        self.wait(deadline, |inner| inner.http.is_empty());
        self.inner().http.is_empty()
    }

    /// Waits until no connection is left.
    pub fn wait_for_all(&self, deadline: Instant) {
        self.wait(deadline, |inner| inner.open == 0);
    }

    fn wait(&self, deadline: Instant, is_done: impl Fn(&Inner) -> bool) {
        let left = deadline.saturating_duration_since(Instant::now());
        // A poisoned lock and the deadline end the wait alike.
        let _ = self.changed.wait_timeout_while(self.inner(), left, |inner| !is_done(inner));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Marks the connection as a session, which no longer speaks HTTP.
    pub fn set_session(&self) {
        self.connections.inner().http.remove(&self.id);
        self.notify_if_stopping();
    }

    fn notify_if_stopping(&self) {
        if self.connections.is_stopping() {
            self.connections.changed.notify_all();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        {
            let mut inner = self.connections.inner();
            inner.http.remove(&self.id);
            inner.open -= 1;
            self.connections.counters.open.set(inner.open as u64);
            if let Some(open) = inner.by_address.get_mut(&self.address) {
                *open -= 1;
                if *open == 0 {
                    inner.by_address.remove(&self.address);
                }
            }
        }
        self.notify_if_stopping();
    }
}

/// The key of a client address: an IPv4 address, or the first 64 bits of an IPv6 address, because one host has all
/// addresses with that prefix (RFC 6177; RFC 4291, section 2.5.4).
fn address_key(peer: IpAddr) -> u128 {
    const NETWORK: u128 = !0 << 64;
    match peer.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() & NETWORK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn stream() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    }

    #[test]
    fn the_caps_limit_one_address_and_all_together() {
        let connections = Arc::new(Connections::new(Caps { connections: 4, per_address: Some(2) }));
        let stream = stream();
        let admit = |ip: &str| connections.admit(&stream, ip.parse().unwrap());
        let (first, second) = (admit("10.0.0.1").unwrap(), admit("::ffff:10.0.0.1").unwrap());
        assert_eq!(admit("10.0.0.1").unwrap_err(), NotAdmitted::Address);
        drop(first);
        let third = admit("10.0.0.1").unwrap();
        let network = [admit("2001:db8::1").unwrap(), admit("2001:db8::ffff:1").unwrap()];
        assert_eq!(admit("10.0.0.9").unwrap_err(), NotAdmitted::Server);
        drop((second, third));
        assert_eq!(admit("2001:db8::2").unwrap_err(), NotAdmitted::Address);
        assert!(admit("2001:db8:0:1::2").is_ok());
        drop(network);
        assert!(connections.inner().by_address.is_empty());
    }
}
