//! The server behind nginx, Caddy and HAProxy, each with the very file of docs/ that operators copy, with other ports.
//! What is nginx's alone is in `proxy`. Needs the three (`make deps`), and curl and openssl for TLS.

mod front;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::positions::events_head;
use crate::common::websocket::{PONG, frame};
use crate::common::{Client, DEADLINE, Form, Message, Positional, Server, TempDir, WebSocket, skip, wait_until};
use front::{KINDS, Kind, NAME, Options, Proxy};

/// How long a quiet feed must stay open: longer than the short timeouts.
const QUIET: Duration = Duration::from_secs(33);
/// An event that is not held back comes in milliseconds; a machine with other work needs longer.
const AT_ONCE: Duration = Duration::from_secs(5);
/// The largest body that the server takes.
const BODY: usize = 64 * 1024;

/// An event stream as a proxy passes it on: in chunks, because it has no length.
struct Events {
    stream: TcpStream,
    raw: Vec<u8>,
    is_chunked: bool,
    text: String,
}

impl Events {
    #[track_caller]
    fn open(addr: SocketAddr, path: &str) -> Events {
        let mut client = Client::connect(addr);
        let head = events_head(&mut client, path, None).expect("the proxy answers");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{head:?}");
        let (stream, raw) = client.into_parts();
        Events { stream, raw, is_chunked: head.lists("transfer-encoding", "chunked"), text: String::new() }
    }

    /// Reads until the stream has this text, and removes all up to its end.
    fn read_to(&mut self, wanted: &str, deadline: Duration) -> io::Result<()> {
        let end = Instant::now() + deadline;
        loop {
            self.take_chunks();
            if let Some(at) = self.text.find(wanted) {
                self.text.drain(..at + wanted.len());
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 4096];
            match crate::common::read(&self.stream, &mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.raw.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves the bytes of all complete chunks to the text.
    fn take_chunks(&mut self) {
        if !self.is_chunked {
            self.text += &String::from_utf8(std::mem::take(&mut self.raw)).expect("UTF-8");
        }
        while let Some(line) = self.raw.windows(2).position(|pair| pair == b"\r\n") {
            let size = str::from_utf8(&self.raw[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let start = line + 2;
            let end = start + size.expect("the size of a chunk");
            let Some(chunk) = self.raw.get(start..end).filter(|_| self.raw.len() >= end + 2) else { return };
            self.text += str::from_utf8(chunk).expect("UTF-8");
            self.raw.drain(..end + 2);
        }
    }
}

/// A batch of one order whose body has so many bytes.
fn padded_batch(bytes: usize) -> String {
    let order = "[{\"id\":\"A2\",\"amount\":5}]";
    order.to_owned() + &" ".repeat(bytes - order.len())
}

#[test]
fn every_proxy_passes_orders_pages_bodies_and_feeds_at_both_of_its_paths() {
    Proxy::each(Options::default(), Server::builder, |server, proxy| {
        let mut total = 3;
        for base in ["", "/shop"] {
            let mut client = proxy.client();
            let page = client.get(&format!("{base}/"));
            assert!(page.status == 200 && page.text().contains("<html"), "{base}: {page:?}");
            // The page names its files relative to itself.
            assert_eq!(client.get(&format!("{base}/app.js")).status, 200);
            assert_eq!(client.get(&format!("{base}/periods?after=0&limit=1")).json().as_array().map(Vec::len), Some(1));
            let mut plain = WebSocket::open(proxy.addr, &format!("{base}/orders/electronics"));
            plain.texts(2);
            let feed = format!("{base}/orders/electronics");
            let mut events = Events::open(proxy.addr, &feed);
            events
                .read_to(&format!("data: {{\"id\":\"A1\",\"total\":{total}}}\n\n"), DEADLINE)
                .expect("the first list");
            let mut positions = Positional::open(Form::WebSocket, proxy.addr, &feed, None);
            let position = positions.take(2).pop().and_then(|step| step.position).expect("a position");
            drop(positions);

            let order = |amount: i64| {
                let body = format!("{{\"amount\":{amount}}}");
                let reply = proxy.client().post(&format!("{base}/orders/A1"), body);
                assert_eq!((reply.status, reply.text()), (200, "{\"ok\":true}"), "{base}");
            };
            order(10);
            total += 10;
            let expected = format!("data: {{\"id\":\"A1\",\"total\":{total}}}\n\n");
            events.read_to(&expected, AT_ONCE).expect("an event at once");
            assert_eq!(plain.text(), format!("{{\"id\":\"A1\",\"total\":{total}}}"), "{base}");
            order(1);
            total += 1;
            let mut resumed = Positional::open(Form::WebSocket, proxy.addr, &feed, Some(&position));
            assert_eq!(resumed.take(2).iter().map(|step| step.total).collect::<Vec<_>>(), [total - 1, total], "{base}");
        }
        assert_eq!(proxy.client().get("/shop").header("location").map(|to| to.ends_with("/shop/")), Some(true));
        assert_eq!(server.total("A1"), total);
    });
}

#[test]
fn every_proxy_passes_what_the_server_takes_and_what_it_rejects() {
    Proxy::each(Options::default(), Server::builder, |server, proxy| {
        let mut total = server.total("A2");
        for base in ["", "/shop"] {
            let orders = format!("{base}/orders");
            let reply = proxy.client().post(&orders, padded_batch(BODY));
            assert_eq!((reply.status, reply.text()), (200, "[{\"ok\":true}]"), "{base}");
            proxy.client().post(&orders, padded_batch(BODY + 1)).problem(413);
            let chunked = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
            let chunks = b"c\r\n{\"amount\":5}\r\n0\r\n\r\n";
            let reply = proxy.client().request("POST", &format!("{base}/orders/A2"), &chunked, chunks);
            assert_eq!((reply.status, reply.text()), (200, "{\"ok\":true}"), "{base}");
            total += 10;
            // Paths are passed on as they are: decoded, this one would be an order.
            for path in ["/orders%2FA2", "/orders/%2e%2e/categories", "/%6frders%00"] {
                let reply = proxy.client().post(&format!("{base}{path}"), "{\"amount\":1}");
                assert!(matches!(reply.status, 400 | 404), "{base}{path}: {reply:?}");
            }
            let page = [("Host", NAME), ("Origin", "https://board.example"), ("Content-Type", "application/json")];
            let reply = proxy.client().request("POST", &format!("{base}/orders/A2"), &page, b"{\"amount\":1}");
            assert_eq!(reply.header("access-control-allow-origin"), Some("https://board.example"), "{reply:?}");
            total += 1;
            let foreign = [("Host", "evil.example"), ("Content-Type", "application/json")];
            proxy.client().request("POST", &format!("{base}/orders/A2"), &foreign, b"{\"amount\":1}").problem(421);
        }
        assert_eq!(server.total("A2"), total);
    });
}

#[test]
fn every_proxy_passes_tokens() {
    let folder = TempDir::new();
    let (writers, readers) =
        (folder.write("writers", "writer-0123456789"), folder.write("readers", "reader-0123456789"));
    let builder = || Server::builder().arg("--token-file").arg(&writers).arg("--read-token-file").arg(&readers);
    Proxy::each(Options::default(), builder, |_server, proxy| {
        let json = ("Content-Type", "application/json");
        let refused = proxy.client().request("POST", "/orders/A1", &[json], b"{\"amount\":1}");
        refused.problem(401);
        assert!(refused.header("www-authenticate").is_some(), "{refused:?}");
        let token = ("Authorization", "Bearer writer-0123456789");
        let reply = proxy.client().request("POST", "/shop/orders/A1", &[json, token], b"{\"amount\":1}");
        assert_eq!((reply.status, reply.text()), (200, "{\"ok\":true}"));
        let offer = ("Sec-WebSocket-Protocol", "bearer, reader-0123456789");
        let mut feed = WebSocket::try_open(proxy.addr, "/shop/orders/electronics", &[offer]).expect("an upgrade");
        assert_eq!(feed.text(), "{\"id\":\"A1\",\"total\":4}");
        WebSocket::try_open(proxy.addr, "/orders", &[]).expect_err("a refusal").problem(401);
        assert!(!proxy.log().contains("0123456789"), "{}", proxy.log());
    });
}

#[test]
fn every_proxy_keeps_quiet_feeds_open_for_longer_than_its_timeouts() {
    let options = Options { has_short_timeouts: true, ..Options::default() };
    Proxy::each(options, Server::builder, |server, proxy| {
        let mut plain = WebSocket::open(proxy.addr, "/shop/orders/confectionery");
        assert_eq!(plain.text(), "{\"id\":\"B1\",\"total\":101}");
        let mut events = Events::open(proxy.addr, "/orders/confectionery");
        events.read_to("data: {\"id\":\"B1\",\"total\":101}\n\n", DEADLINE).expect("the first list");
        let until = Instant::now() + QUIET;
        let ping = plain.next_within(QUIET).expect("the server pings, and the proxy waits for it");
        let Message::Ping(payload) = ping else { panic!("not a ping: {ping:?}") };
        plain.send_raw(&frame(PONG, true, &payload));
        events.read_to(":", DEADLINE).expect("the server keeps the event stream alive");
        let quiet = events.read_to("data", until.saturating_duration_since(Instant::now()));
        assert_eq!(quiet.expect_err("no order").kind(), ErrorKind::TimedOut, "{:?}", proxy.kind);
        server.client().order("B1", 1);
        events.read_to("data: {\"id\":\"B1\",\"total\":102}\n\n", AT_ONCE).expect("an event at once");
        assert_eq!(plain.text(), "{\"id\":\"B1\",\"total\":102}");
    });
}

#[test]
fn no_proxy_sends_an_order_twice_and_each_says_that_the_server_does_not_answer() {
    for kind in KINDS {
        let Some(binary) = kind.binary() else {
            skip(&format!("{} is not installed (make deps)", kind.program()), true);
            continue;
        };
        // A server that answers a GET, keeps the connection, and ends it after it has read a POST, as one that is killed
        // before its answer.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let back = listener.local_addr().expect("it has an address");
        let (posts, done) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let (posts, done) = (&posts, &done);
            scope.spawn(move || {
                for connection in listener.incoming().map_while(Result::ok) {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    scope.spawn(move || answer_until_a_post(connection, posts));
                }
            });
            // Ends the server, also when the test fails. The proxy is dropped before, which ends its connections.
            let _end = EndsServer(done, back);
            let proxy = Proxy::before(kind, &binary, back, Options::default());
            let mut client = proxy.client();
            assert_eq!(client.get("/orders").status, 200);
            let json = [("Content-Type", "application/json"), ("Idempotency-Key", "\"once\"")];
            match client.try_request("POST", "/orders/A1", &json, b"{\"amount\":1}") {
                Ok(reply) => {
                    let detail = reply.problem(502);
                    assert!(detail.contains("may or may not"), "{kind:?}: {detail}");
                }
                // On a connection that it has used before, HAProxy closes the client's too, without an answer.
                Err(error) => assert!(kind == Kind::HaProxy && error.kind() == ErrorKind::UnexpectedEof, "{error}"),
            }
        });
        assert_eq!(posts.load(Ordering::Relaxed), 1, "{kind:?}");
    }
}

/// Makes the server stop accepting, with a last connection.
struct EndsServer<'a>(&'a AtomicBool, SocketAddr);

impl Drop for EndsServer<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.1));
    }
}

/// Answers each GET with 200, and closes after a POST, which it counts.
fn answer_until_a_post(mut connection: TcpStream, posts: &AtomicU32) {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = connection.read(&mut chunk) {
        read.extend_from_slice(&chunk[..length]);
        if read.starts_with(b"POST ") && read.ends_with(b"{\"amount\":1}") {
            posts.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if read.starts_with(b"GET ") && read.ends_with(b"\r\n\r\n") {
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            read.clear();
        }
    }
}

#[test]
fn every_proxy_reports_a_server_that_is_down_and_finds_it_when_it_is_back() {
    Proxy::each(Options::default(), Server::builder, |mut server, proxy| {
        proxy.client().order("A1", 1);
        server.kill();
        let reply = proxy.client().post("/orders/A1", "{\"amount\":1}");
        // HAProxy knows that it could not connect, so that the order was not counted.
        let (status, words) =
            if proxy.kind == Kind::HaProxy { (503, "was not counted") } else { (502, "may or may not") };
        assert!(reply.problem(status).contains(words), "{reply:?}");
        assert_eq!(reply.header("retry-after"), Some("1"));
        server.restart_on_the_same_ports();
        wait_until(DEADLINE, "orders are taken", || proxy.client().post("/orders/A1", "{\"amount\":1}").status == 200);
        assert_eq!(server.total("A1"), 5);
    });
}

#[test]
fn every_proxy_ends_tls() {
    let has = |program: &str| Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if has("openssl").is_err() || has("curl").is_err() {
        return skip("openssl or curl is not installed (make deps)", true);
    }
    Proxy::each(Options { has_tls: true, ..Options::default() }, Server::builder, |server, proxy| {
        let port = proxy.addr.port();
        let curl = |arguments: &[&str], path: &str| {
            let run = Command::new("curl")
                .args(["--silent", "--show-error", "--max-time", "10", "--http1.1", "--cacert"])
                .arg(proxy.folder.path().join("cert.pem"))
                .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
                .args(arguments)
                .arg(format!("https://{NAME}:{port}{path}"))
                .output()
                .expect("curl runs");
            let error = String::from_utf8_lossy(&run.stderr).into_owned();
            (String::from_utf8_lossy(&run.stdout).into_owned(), error)
        };
        let origin = format!("Origin: https://{NAME}:{port}");
        let order = ["-H", "Content-Type: application/json", "-H", &origin, "-d", "{\"amount\":10}"];
        for path in ["/orders/A1", "/shop/orders/A1"] {
            assert_eq!(curl(&order, path), ("{\"ok\":true}".to_owned(), String::new()), "{path}");
        }
        assert_eq!(server.total("A1"), 23);
        let (page, error) = curl(&[], "/shop/");
        assert!(page.contains("<html"), "{page}{error}");
        // A stream has no end, so curl is given a second for it.
        let (events, _) = curl(&["-N", "--max-time", "1", "-H", "Accept: text/event-stream"], "/orders/electronics");
        assert!(events.contains("data: {\"id\":\"A1\",\"total\":23}"), "{events}");
    });
}
