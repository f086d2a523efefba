//! Subscribers with positions: each has to see every order, at the same place as every other one.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::common::WebSocket;
use crate::common::websocket::frame_head;

/// How long the last orders may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// One subscriber.
struct Watcher {
    stream: TcpStream,
    buffer: Vec<u8>,
    seen: usize,
    /// The number of the last order.
    seq: Option<u64>,
}

/// Subscribers, those of one server on one thread.
pub struct Watchers {
    threads: Vec<JoinHandle<()>>,
    /// How many orders each has to see; not known before the end.
    wanted: Arc<AtomicUsize>,
}

impl Watchers {
    /// So many subscribers of each server.
    pub fn start(addrs: &[SocketAddr], each: usize) -> Watchers {
        let wanted = Arc::new(AtomicUsize::new(usize::MAX));
        let start = |addr: &SocketAddr| {
            let watchers: Vec<Watcher> = (0..each).map(|_| Watcher::open(*addr)).collect();
            let wanted = Arc::clone(&wanted);
            thread::spawn(move || watch(watchers, &wanted))
        };
        Watchers { threads: addrs.iter().map(start).collect(), wanted }
    }

    /// Waits until every subscriber has seen so many orders.
    pub fn finish(self, orders: usize) {
        self.wanted.store(orders, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("every subscriber saw every order"));
    }
}

impl Watcher {
    fn open(addr: SocketAddr) -> Watcher {
        let mut feed = WebSocket::open(addr, "/orders/electronics?since=");
        feed.texts(2);
        let (stream, buffer) = feed.into_parts();
        stream.set_nonblocking(true).expect("a socket has this mode");
        Watcher { stream: TcpStream::from_std(stream), buffer, seen: 0, seq: None }
    }

    /// Reads what has come.
    fn read(&mut self) {
        let mut chunk = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the server has closed a feed"),
                Ok(read) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    self.parse();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a feed cannot be read: {error}"),
            }
        }
    }

    fn parse(&mut self) {
        let mut from = 0;
        while let Some((opcode, head, length)) = frame_head(&self.buffer[from..]).expect("a frame")
            && self.buffer.len() >= from + head + length
        {
            let message = &self.buffer[from + head..from + head + length];
            from += head + length;
            if opcode != 1 {
                continue;
            }
            let digits = message.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
            let digits = digits.split(|byte| *byte == b'"').next().unwrap_or_default();
            let seq: u64 = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).expect("a position");
            assert!(self.seq.is_none_or(|last| seq == last + 1), "order {seq} came after {:?}", self.seq);
            self.seq = Some(seq);
            self.seen += 1;
        }
        self.buffer.drain(..from);
    }
}

fn watch(mut watchers: Vec<Watcher>, wanted: &AtomicUsize) {
    let mut poll = Poll::new().expect("the system has descriptors");
    for (at, watcher) in watchers.iter_mut().enumerate() {
        poll.registry().register(&mut watcher.stream, Token(at), Interest::READABLE).expect("it can be watched");
    }
    let mut events = Events::with_capacity(1024);
    let mut ends_at = None;
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(20))).expect("it can be polled");
        events.iter().for_each(|event| watchers[event.token().0].read());
        let orders = wanted.load(Ordering::Relaxed);
        if watchers.iter().all(|watcher| watcher.seen == orders) {
            return;
        }
        if orders < usize::MAX {
            let ends_at = ends_at.get_or_insert_with(|| Instant::now() + DEADLINE);
            assert!(
                Instant::now() < *ends_at,
                "a subscriber has seen {:?} of {orders}",
                watchers.first().map(|w| w.seen)
            );
        }
    }
}
