//! Connections that post one order after the other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::WebSocket;

const ORDER: &[u8] = b"POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 12\r\n\r\n{\"amount\":1}";
const END: &[u8] = b"{\"ok\":true}";
/// How long a subscriber may wait for an order.
const DEADLINE: Duration = Duration::from_secs(30);

/// What was posted and answered.
#[derive(Default)]
pub struct Posted {
    pub orders: usize,
    /// From the request to its answer.
    pub times: Vec<Duration>,
}

impl Posted {
    pub fn and(mut self, mut other: Posted) -> Posted {
        self.orders += other.orders;
        self.times.append(&mut other.times);
        self
    }
}

/// Posts for this long.
pub fn flat_out(addr: SocketAddr, length: Duration) -> Posted {
    let mut stream = connect(addr);
    let begun = Instant::now();
    let mut posted = Posted::default();
    while begun.elapsed() < length {
        let sent = Instant::now();
        post(&mut stream);
        posted.times.push(sent.elapsed());
        posted.orders += 1;
    }
    posted
}

/// Posts at one server at a steady rate, and measures when a subscriber of another one sees each order.
pub fn paced(to: SocketAddr, at: SocketAddr, rate: u32, length: Duration) -> Vec<Duration> {
    let mut stream = connect(to);
    let mut feed = WebSocket::open(at, "/orders/electronics");
    feed.texts(2);
    let begun = Instant::now();
    let every = Duration::from_secs(1) / rate;
    let mut times = Vec::new();
    while begun.elapsed() < length {
        std::thread::sleep((every * times.len() as u32).saturating_sub(begun.elapsed()));
        let sent = Instant::now();
        post(&mut stream);
        feed.next_within(DEADLINE).expect("the order comes");
        times.push(sent.elapsed());
    }
    times
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the server listens");
    stream.set_nodelay(true).expect("a socket has this option");
    stream
}

fn post(stream: &mut TcpStream) {
    stream.write_all(ORDER).expect("the server reads");
    let (mut answer, mut length) = ([0; 1024], 0);
    while !answer[..length].ends_with(END) {
        let read = stream.read(&mut answer[length..]).expect("the server answers");
        assert!(read > 0, "not counted: {}", String::from_utf8_lossy(&answer[..length]));
        length += read;
    }
}

/// The median and the 99th percentile, in milliseconds.
pub fn quantiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64) * 1e3;
    (at(0.5), at(0.99))
}
