//! Servers that misbehave, and a relay in front of the real one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::DEADLINE;

/// A request that a peer got.
#[derive(Clone, Debug)]
pub struct Request {
    /// The first line and the header lines.
    pub head: String,
    pub body: String,
}

impl Request {
    /// Reads a request; `None` when the client has closed.
    pub fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).ok()?;
        Some(Request { head, body: String::from_utf8(body).expect("UTF-8") })
    }

    /// The first line.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// A peer on a port of its own, with a thread for each connection.
#[derive(Debug)]
pub struct Peer {
    pub addr: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Peer {
    /// Calls `serve` for each connection.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Peer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, serve) = (is_over.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                stream.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Peer { addr, is_over }
    }

    /// Answers the requests one after the other with these, and every later one with the last. Returns what it got.
    pub fn answering(answers: Vec<String>) -> (Peer, Arc<Mutex<Vec<Request>>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (got, next) = (requests.clone(), AtomicUsize::new(0));
        let peer = Peer::start(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let mut stream = stream;
            while let Some(request) = Request::read(&mut reader) {
                got.lock().expect("no peer panicked").push(request);
                let place = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                if stream.write_all(answers[place].as_bytes()).is_err() || answers[place].is_empty() {
                    return;
                }
            }
        });
        (peer, requests)
    }

    /// Sends these bytes to every connection, and then nothing.
    pub fn sending(bytes: Vec<u8>) -> Peer {
        Peer::start(move |mut stream| {
            let _ = stream.write_all(&bytes);
            // Until the client closes, so that a short answer is not cut off.
            let _ = stream.read_to_end(&mut Vec::new());
        })
    }

    /// Passes bytes on to `to` and back; `change` may change what comes back.
    pub fn relay(to: SocketAddr, change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Peer {
        let change = Arc::new(change);
        Peer::start(move |client| {
            let Ok(server) = TcpStream::connect(to) else { return };
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let forward = thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(std::net::Shutdown::Write);
            });
            let (mut server, mut client, change) = (server, client, change.clone());
            let mut bytes = [0; 64 * 1024];
            while let Ok(length @ 1..) = server.read(&mut bytes) {
                let mut part = bytes[..length].to_vec();
                change(&mut part);
                if part.is_empty() || client.write_all(&part).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = server.shutdown(std::net::Shutdown::Both);
            let _ = forward.join();
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.addr);
    }
}

/// An answer with a JSON body.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// The answer to an order.
pub fn ok() -> String {
    answer("200 OK", "Content-Type: application/json\r\n", "{\"ok\":true}")
}
