//! Who is connected: the count that the cap is held against, and the connections that are between or in requests, so
//! that the end can find them.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
struct Books {
    open: usize,
    /// Connections that speak HTTP; sessions have left this list.
    requests: HashMap<u64, Arc<TcpStream>>,
    last_id: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Census {
    cap: usize,
    books: Mutex<Books>,
    left: Condvar,
    stopping: AtomicBool,
}

/// One connection's place; dropped when the connection ends.
#[derive(Debug)]
pub struct Permit {
    census: Arc<Census>,
    id: u64,
}

impl Census {
    /// A census that admits so many connections at a time.
    pub fn new(cap: usize) -> Self {
        Self { cap, books: Mutex::default(), left: Condvar::new(), stopping: AtomicBool::new(false) }
    }

    /// A place for the connection; `None` when all are taken.
    pub fn admit(self: &Arc<Self>, stream: &Arc<TcpStream>) -> Option<Permit> {
        let mut books = self.books();
        if books.open >= self.cap {
            return None;
        }
        books.open += 1;
        books.last_id += 1;
        let id = books.last_id;
        books.requests.insert(id, stream.clone());
        Some(Permit { census: self.clone(), id })
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
        self.census.books().requests.remove(&self.id);
        self.notify_if_stopping();
    }

    fn notify_if_stopping(&self) {
        if self.census.is_stopping() {
            self.census.left.notify_all();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut books = self.census.books();
            books.requests.remove(&self.id);
            books.open -= 1;
        }
        self.notify_if_stopping();
    }
}
