//! Who is connected: the count that the cap is held against, and the connections that are between or in requests, so
//! that the end can find them.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many connections are admitted at a time.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// In all.
    pub connections: usize,
    /// From one client address; `None` for as many as there are.
    pub per_address: Option<usize>,
}

/// Which cap a connection runs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The one on all connections.
    Server,
    /// The one on connections from its address.
    Address,
}

#[derive(Debug, Default)]
struct Books {
    open: usize,
    /// Open connections by [`address_key`]; empty without a cap on them, and never with more entries than connections.
    by_address: HashMap<u128, usize>,
    /// Connections that speak HTTP; sessions have left this list.
    requests: HashMap<u64, Arc<TcpStream>>,
    last_id: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Connections {
    caps: Caps,
    books: Mutex<Books>,
    left: Condvar,
    stopping: AtomicBool,
}

/// One connection's place; dropped when the connection ends.
#[derive(Debug)]
pub struct Permit {
    connections: Arc<Connections>,
    id: u64,
    address: u128,
}

impl Connections {
    /// A connections that admits so many connections at a time.
    pub fn new(caps: Caps) -> Self {
        Self { caps, books: Mutex::default(), left: Condvar::new(), stopping: AtomicBool::new(false) }
    }

    /// A place for the connection from `peer`, or which cap leaves none.
    pub fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>, peer: IpAddr) -> Result<Permit, Full> {
        let address = address_key(peer);
        let mut books = self.books();
        if books.open >= self.caps.connections {
            return Err(Full::Server);
        }
        if let Some(cap) = self.caps.per_address {
            let open = books.by_address.entry(address).or_default();
            if *open >= cap {
                return Err(Full::Address);
            }
            *open += 1;
        }
        books.open += 1;
        books.last_id += 1;
        let id = books.last_id;
        books.requests.insert(id, stream.clone());
        Ok(Permit { connections: self.clone(), id, address })
    }

    /// From now on connections end after their current request.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the end has begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Wakes the connections that wait for a request. What a client has sent before is still read and answered.
    pub fn hang_up(&self) {
        for stream in self.books().requests.values() {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Waits until no connection speaks HTTP any more.
    pub fn wait_for_requests(&self, deadline: Instant) {
        self.wait(deadline, |books| books.requests.is_empty());
    }

    /// Waits until no connection is left.
    pub fn wait_for_all(&self, deadline: Instant) {
        self.wait(deadline, |books| books.open == 0);
    }

    fn wait(&self, deadline: Instant, done: impl Fn(&Books) -> bool) {
        let mut books = self.books();
        while !done(&books) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            books = self.left.wait_timeout(books, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The connection has become a session: it no longer ends by itself after a request.
    pub fn becomes_session(&self) {
        self.connections.books().requests.remove(&self.id);
        self.notify_if_stopping();
    }

    fn notify_if_stopping(&self) {
        if self.connections.is_stopping() {
            self.connections.left.notify_all();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut books = self.connections.books();
            books.requests.remove(&self.id);
            books.open -= 1;
            if let Some(open) = books.by_address.get_mut(&self.address) {
                *open -= 1;
                if *open == 0 {
                    books.by_address.remove(&self.address);
                }
            }
        }
        self.notify_if_stopping();
    }
}

/// What counts as one client address: an IPv4 address, or the first 64 bits of an IPv6 one, because a single host has all
/// addresses that begin with them (RFC 6177, RFC 4291 section 2.5.4).
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
    fn one_address_fills_its_share_and_no_more() {
        let connections = Arc::new(Connections::new(Caps { connections: 4, per_address: Some(2) }));
        let stream = stream();
        let admit = |ip: &str| connections.admit(&stream, ip.parse().unwrap());
        let (first, second) = (admit("10.0.0.1").unwrap(), admit("::ffff:10.0.0.1").unwrap());
        assert_eq!(admit("10.0.0.1").unwrap_err(), Full::Address);
        drop(first);
        let third = admit("10.0.0.1").unwrap();
        let network = [admit("2001:db8::1").unwrap(), admit("2001:db8::ffff:1").unwrap()];
        assert_eq!(admit("10.0.0.9").unwrap_err(), Full::Server);
        drop((second, third));
        assert_eq!(admit("2001:db8::2").unwrap_err(), Full::Address);
        assert!(admit("2001:db8:0:1::2").is_ok());
        drop(network);
        assert!(connections.books().by_address.is_empty());
    }
}
