//! A server that is followed, and misbehaves: a relay in front of a real one, so that everything else is as it should be.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Server, WebSocket, wait_until};

/// How the relay's WebSockets misbehave.
#[derive(Clone, Copy, Debug)]
enum Feed {
    /// They do not.
    Honest,
    /// Once told to, this begins, and is followed by this again and again, with this pause.
    Endless { first: &'static [u8], then: &'static [u8], pause: Duration },
    /// They close after the status.
    Short,
}

/// A server on a port of its own that relays another one.
struct Source {
    addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    to: SocketAddr,
    feed: Feed,
    /// The answer to `GET /periods`, if it is another one.
    periods: Option<&'static str>,
    misbehaves: AtomicBool,
    /// WebSockets that were opened.
    feeds: AtomicUsize,
}

impl Source {
    fn start(to: &Server, feed: Feed, periods: Option<&'static str>) -> Source {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (misbehaves, feeds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let state = Arc::new(State { to: to.addr(), feed, periods, misbehaves, feeds });
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                thread::spawn(move || state.relay(&client));
            }
        });
        Source { addr, state }
    }

    fn misbehave(&self) {
        self.state.misbehaves.store(true, Ordering::Relaxed);
    }

    fn feeds(&self) -> usize {
        self.state.feeds.load(Ordering::Relaxed)
    }
}

impl State {
    /// Relays both directions until one ends.
    fn relay(self: Arc<Self>, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(self.to) else { return };
        let streams = || (client.try_clone().expect("a second handle"), server.try_clone().expect("a second handle"));
        let ((from, to), state) = (streams(), self.clone());
        let there = thread::spawn(move || state.pass_requests(from, to));
        let (to, from) = streams();
        self.pass_answers(from, to);
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        let _ = there.join();
    }

    fn pass_requests(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let sent = match self.periods {
                Some(answer) if bytes.starts_with(b"GET /periods") => from.write_all(answer.as_bytes()),
                _ => to.write_all(&bytes[..length]),
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    fn pass_answers(&self, mut from: TcpStream, mut to: TcpStream) {
        let (mut bytes, mut is_feed) = ([0; 4096], false);
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let bytes = &bytes[..length];
            if bytes.starts_with(b"HTTP/1.1 101") {
                self.feeds.fetch_add(1, Ordering::Relaxed);
                is_feed = true;
            }
            match self.feed {
                Feed::Endless { first, then, pause } if is_feed && self.misbehaves.load(Ordering::Relaxed) => {
                    let mut sent = to.write_all(first);
                    while sent.is_ok() {
                        thread::sleep(pause);
                        sent = to.write_all(then);
                    }
                    return;
                }
                _ if to.write_all(bytes).is_err() => return,
                Feed::Short if is_feed && bytes.windows(9).any(|part| part == b"\"status\":") => return,
                _ => {}
            }
        }
    }
}

/// A server that follows this one.
#[track_caller]
fn edge_of(source: &Source) -> Server {
    let edge = Server::builder().follow(source.addr).start();
    wait_until(DEADLINE, "it is followed", || edge.log().contains("feeds are live"));
    edge
}

#[test]
fn a_feed_that_sends_bytes_but_neither_a_message_nor_a_pong_is_stale_within_two_seconds() {
    let second = Duration::from_secs(1);
    let byte_by_byte = Feed::Endless { first: b"\x81\x7e\x3e\x80", then: b"x", pause: second / 20 };
    let fragments = Feed::Endless { first: b"\x01\x01x", then: b"\0\0", pause: second / 20 };
    let flood = Feed::Endless { first: b"\x01\x01x", then: &[0; 4096], pause: second / 2_000 };
    let server = Server::start();
    for feed in [byte_by_byte, fragments, flood] {
        let source = Source::start(&server, feed, None);
        let mut edge = edge_of(&source);
        let mut subscriber = WebSocket::open(edge.addr(), "/orders/confectionery?status=true");
        assert!(subscriber.texts(2)[0].contains("\"live\""));
        source.misbehave();
        let begun = Instant::now();
        assert!(subscriber.text().contains("\"stale\""), "{feed:?}");
        // The relay notices up to half a second later; and a fifth more on a busy machine.
        assert!(begun.elapsed() < Duration::from_millis(2_900), "{feed:?} after {:?}", begun.elapsed());
        assert_eq!(edge.client().get("/readyz").status, 503, "{feed:?}");
        let begun = Instant::now();
        assert!(edge.terminate().success(), "{}", edge.log());
        assert!(begun.elapsed() < 5 * second, "{feed:?} after {:?}", begun.elapsed());
    }
}

#[test]
fn a_server_whose_feed_ends_right_after_it_is_live_is_tried_less_and_less_often_and_logged_once() {
    let server = Server::start();
    let source = Source::start(&server, Feed::Short, None);
    let edge = edge_of(&source);
    wait_until(DEADLINE, "it is tried again", || source.feeds() >= 5);
    // Pauses of 0.1, 0.2, 0.4, 0.8, 1.6 and 2 s.
    let before = source.feeds();
    thread::sleep(Duration::from_secs(3));
    assert!(source.feeds() <= before + 3, "{} times in 3 s", source.feeds() - before);
    assert_eq!(edge.log().matches("feeds are stale").count(), 1, "{}", edge.log());
    assert!(edge.log().matches("feeds are live").count() <= 2, "{}", edge.log());
}

#[test]
fn a_redirect_of_the_server_that_is_followed_is_not_passed_on() {
    let server = Server::start();
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n";
    let source = Source::start(&server, Feed::Honest, Some(redirect));
    let edge = edge_of(&source);
    let reply = edge.client().get("/periods");
    assert_eq!((reply.status, reply.header("location")), (502, None), "{reply:?}");
    assert!(reply.problem(502).contains("redirects (status 302)"), "{reply:?}");
    assert_eq!(edge.client().get("/log").status, 200);
}
