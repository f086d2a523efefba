//! The server behind nginx with docs/nginx.conf: that file, with other ports. Needs nginx (`make deps`), and chromium
//! for the board.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::websocket::{PONG, frame};
use crate::common::{
    Builder, Client, DEADLINE, Message, Reply, Server, TempDir, WebSocket, exchange, skip, wait_until,
};
use crate::webdriver::Browser;

/// The file that operators copy.
const SITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/nginx.conf");
/// The name, the addresses and the number that are replaced in it.
const NAME: &str = "board.example";
const FRONT: &str = "listen 80;";
const BACK: &str = "server 127.0.0.1:3000;";
const CONNECTIONS_OF_AN_ADDRESS: usize = 200;

/// Attempts to find a port that no other process takes before nginx does.
const PORTS_TO_TRY: u32 = 10;
/// The server pings a silent client after 25 s; 10 s more for a busy machine.
const PING: Duration = Duration::from_secs(35);

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A running nginx in front of a server. Dropping it kills nginx and removes its folder.
struct Proxy {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// Starts the server as docs/proxy.md says, and nginx in front of it. `None` without nginx, after a message; where
    /// `CI` is `true` that is a failure.
    #[track_caller]
    fn start() -> Option<(Server, Proxy)> {
        Proxy::start_before(Server::builder())
    }

    /// Like [`Proxy::start`], with further flags of the server.
    #[track_caller]
    fn start_before(builder: Builder) -> Option<(Server, Proxy)> {
        let Some(binary) = nginx() else {
            skip("nginx is not installed (make deps)", true);
            return None;
        };
        let server = builder.arg("--allow-host").arg(NAME).start();
        let proxy = Proxy::before(&server, &binary);
        Some((server, proxy))
    }

    /// nginx cannot listen on port 0. So a free port is found first, and another one if it is in use when nginx starts.
    #[track_caller]
    fn before(server: &Server, binary: &Path) -> Proxy {
        for _ in 0..PORTS_TO_TRY {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let addr = listener.local_addr().expect("it has an address");
            drop(listener);
            if let Some(proxy) = Proxy::at(addr, server, binary) {
                return proxy;
            }
        }
        panic!("nginx got none of {PORTS_TO_TRY} free ports");
    }

    /// `None` if the port is in use.
    #[track_caller]
    fn at(addr: SocketAddr, server: &Server, binary: &Path) -> Option<Proxy> {
        let folder = TempDir::new();
        let site = fs::read_to_string(SITE).expect("the documentation is there");
        for part in [FRONT, BACK] {
            assert_eq!(site.matches(part).count(), 1, "{part} stands once in {SITE}");
        }
        let site = site.replace(FRONT, &format!("listen {addr};")).replace(BACK, &format!("server {};", server.addr()));
        folder.write("site.conf", site);
        // A single process, so that killing it ends all of nginx. Every file that it writes is in the folder.
        folder.write(
            "nginx.conf",
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\n\
             events { worker_connections 1024; }\n\
             http {\n  access_log off;\n  client_body_temp_path body;\n  proxy_temp_path proxy;\n\
             fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  include site.conf;\n}\n",
        );
        let child = Command::new(binary)
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be started");
        let mut proxy = Proxy { child, addr, folder };
        let mut ended = false;
        // The file is written once nginx listens, and never if the port is in use.
        wait_until(DEADLINE, "nginx listens", || {
            ended = proxy.child.try_wait().expect("the child can be asked").is_some();
            ended || fs::read_to_string(proxy.folder.path().join("nginx.pid")).is_ok_and(|pid| !pid.is_empty())
        });
        assert!(!ended || proxy.log().contains("Address already in use"), "nginx has ended:\n{}", proxy.log());
        (!ended).then_some(proxy)
    }

    #[track_caller]
    fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// nginx's error log.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// The published name and port.
    fn host(&self) -> String {
        format!("{NAME}:{}", self.addr.port())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- nginx's log ---\n{}\n---", self.log());
        }
    }
}

/// Debian installs it in a folder that is only in root's `PATH`.
fn nginx() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

fn total(text: &str) -> (String, i64) {
    let message: Value = serde_json::from_str(text).expect("a JSON message");
    let id = message["id"].as_str().expect("an id").to_owned();
    (id, message["total"].as_i64().expect("an integer"))
}

#[test]
fn orders_posted_through_the_proxy_reach_feeds_through_the_proxy_exactly() {
    let Some((server, proxy)) = Proxy::start() else { return };
    let mut feeds = [WebSocket::open(proxy.addr, "/orders"), WebSocket::open(server.addr(), "/orders")];
    for feed in &mut feeds {
        assert_eq!(feed.texts(3).iter().map(|text| total(text).1).sum::<i64>(), 3 + 7 + 101);
    }
    let posters = [("A1", 1), ("A2", 2), ("A1", -3), ("B1", 10)].map(|(id, amount)| {
        let mut client = proxy.client();
        // One connection for all of them, which the proxy must not close in between.
        thread::spawn(move || (0..100).for_each(|_| client.order(id, amount)))
    });
    for poster in posters {
        poster.join().expect("every order is taken");
    }
    let last = [("A1", 3 + 100 - 300), ("A2", 7 + 200), ("B1", 101 + 1000)];
    for (id, total) in last {
        let totals = proxy.client().get("/orders").json();
        let found = totals.as_array().and_then(|all| all.iter().find(|one| one["id"] == id).cloned());
        assert_eq!(found, Some(json!({ "id": id, "total": total })));
    }
    for feed in &mut feeds {
        let texts = feed.texts_until_quiet();
        for (id, expected) in last {
            let latest = texts.iter().rev().map(|text| total(text)).find(|(of, _)| of == id);
            assert_eq!(latest.map(|(_, total)| total), Some(expected), "{id}");
        }
    }
}

#[test]
fn a_feed_through_the_proxy_can_be_moved_and_takes_orders() {
    let Some((_server, proxy)) = Proxy::start() else { return };
    let mut feed = WebSocket::open(proxy.addr, "/orders/electronics");
    assert_eq!(feed.texts(2), ["{\"id\":\"A1\",\"total\":3}", "{\"id\":\"A2\",\"total\":7}"]);
    feed.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}");
    assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":101}");
    feed.send("{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B1\",\"amount\":4,\"key\":\"till\"}}");
    let mut texts = feed.texts(2);
    texts.sort();
    assert_eq!(texts, ["{\"id\":\"B1\",\"total\":105}", "{\"ok\":true,\"key\":\"till\"}"]);
    feed.expect_nothing_but_a_pong();
}

#[test]
fn a_silent_feed_is_kept_open() {
    let Some((_server, proxy)) = Proxy::start() else { return };
    let mut feed = WebSocket::open(proxy.addr, "/orders/confectionery");
    assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":101}");
    let ping = feed.next_within(PING).expect("the server pings, and the proxy waits for it");
    let Message::Ping(payload) = ping else { panic!("not a ping: {ping:?}") };
    feed.send_raw(&frame(PONG, true, &payload));
    proxy.client().order("B1", 1);
    assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":102}");
}

#[test]
fn a_page_of_the_published_name_may_do_everything_and_a_foreign_one_nothing() {
    let Some((server, proxy)) = Proxy::start() else { return };
    let host = proxy.host();
    let order = |headers: &[(&str, &str)]| {
        let headers = [&[JSON], headers].concat();
        proxy.client().request("POST", "/orders/A1", &headers, b"{\"amount\":10}")
    };
    // With TLS in nginx the page has another scheme and the same name.
    for origin in [format!("http://{host}"), format!("https://{NAME}")] {
        let headers = [("Host", host.as_str()), ("Origin", origin.as_str())];
        let reply = order(&headers);
        assert_eq!(reply.text(), "{\"ok\":true}", "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin.as_str()));
        let mut feed = WebSocket::try_open(proxy.addr, "/orders/confectionery", &headers).expect("an upgrade");
        assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":101}");
    }
    for origin in ["http://evil.example", "http://localhost", "http://127.0.0.1:3000", "null"] {
        let headers = [("Host", host.as_str()), ("Origin", origin)];
        order(&headers).problem(403);
        proxy.client().request("GET", "/electronics", &headers, b"").problem(403);
        let feed = WebSocket::try_open(proxy.addr, "/orders/electronics", &headers);
        feed.expect_err("a refusal").problem(403);
    }
    // A foreign name that resolves to the proxy: origin and host agree, but the server does not know the name.
    let headers = [("Host", "evil.example"), ("Origin", "http://evil.example")];
    order(&headers).problem(421);
    let feed = WebSocket::try_open(proxy.addr, "/orders/electronics", &headers);
    feed.expect_err("a refusal").problem(421);
    assert_eq!(server.total("A1"), 23);
}

#[test]
fn refusals_pass_the_proxy_unchanged() {
    let Some((server, proxy)) = Proxy::start() else { return };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let post = |path: &str, kind: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    };
    let json = |body: &str| post("/orders/A1", "application/json", body);
    let handshake = "GET /orders HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let many_lines = "X-Line: x\r\n".repeat(70);
    let long_lines = format!("X-Line: {}\r\n", "x".repeat(6000)).repeat(3);
    for (request, status) in [
        (get("/hats"), 404),
        (get("/missing.js"), 404),
        (post("/orders/Z9", "application/json", "{\"amount\":1}"), 404),
        (post("/categories", "application/json", "{\"amount\":1}"), 405),
        (get("/orders/A1"), 405),
        (post("/orders/A1", "text/plain", "{\"amount\":1}"), 415),
        (json("{"), 400),
        (json("{\"amount\":1.5}"), 422),
        (json("{\"amount\":9007199254740992}"), 422),
        (json(&format!("{{\"amount\":1,\"x\":\"{}\"}}", "x".repeat(100_000))), 413),
        // nginx decodes paths to find its location, and must pass them on unchanged.
        (get("/orders%2FA1"), 400),
        (get("/orders/%2e%2e/categories"), 400),
        (get("/categories%00"), 400),
        (get("/%zz"), 400),
        (get("//categories"), 404),
        (format!("{handshake}Sec-WebSocket-Version: 12\r\n\r\n"), 426),
        (format!("{handshake}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n"), 400),
        (format!("GET /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{many_lines}\r\n"), 431),
        (format!("GET /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{long_lines}\r\n"), 431),
    ] {
        let start = request.split("\r\n").next().unwrap_or_default();
        let direct = exchange(server.addr(), &request);
        let through = exchange(proxy.addr, &request);
        assert_eq!(direct.status, status, "{start}: {direct:?}");
        assert_eq!(through.status, status, "{start}: {through:?}");
        // nginx rejects some requests itself.
        if through.header("content-type") == Some("application/problem+json") {
            assert_eq!(through.problem(status), direct.problem(status), "{start}");
            assert_eq!(through.header("allow"), direct.header("allow"), "{start}");
        } else {
            assert_eq!(status, 400, "{start}: {through:?}");
        }
    }
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn what_nginx_refuses_itself_it_refuses_as_the_server_would() {
    let Some((server, proxy)) = Proxy::start() else { return };
    let refused = |request: String| exchange(proxy.addr, request);
    let end = "Host: localhost\r\nConnection: close\r\n\r\n";
    // The host in an absolute target takes precedence over `Host`, but nginx passes on only `Host`.
    refused(format!("GET http://evil.example/categories HTTP/1.1\r\n{end}")).problem(400);
    refused(format!("GET /orders?{} HTTP/1.1\r\n{end}", "x".repeat(20_000))).problem(431);
    refused(format!("GET /orders HTTP/1.1\r\nX-Line: {}\r\n{end}", "x".repeat(20_000))).problem(431);
    let line = "Content-Type: application/json\r\nContent-Length: 2000000";
    refused(format!("POST /orders/A1 HTTP/1.1\r\n{line}\r\n{end}")).problem(413);
    // Two lengths: a server that uses the other one would read a second request from the body.
    let smuggled = "POST /orders/A2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Content-Length: 12\r\n\r\n{\"amount\":1}";
    for lengths in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked", smuggled.len() + 5),
        format!("Content-Length: 0\r\nContent-Length: {}", smuggled.len() + 5),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: gzip, chunked".to_owned(),
    ] {
        let head = format!("POST /orders/A1 HTTP/1.1\r\nContent-Type: application/json\r\n{lengths}\r\n{end}");
        let reply = refused(format!("{head}0\r\n\r\n{smuggled}"));
        assert!(matches!(reply.status, 400 | 501), "{lengths}: {reply:?}");
    }
    let totals = server.client().get("/orders/electronics");
    assert_eq!(totals.text(), "[{\"id\":\"A1\",\"total\":3},{\"id\":\"A2\",\"total\":7}]");
}

#[test]
fn one_address_cannot_take_every_connection() {
    let Some((server, proxy)) = Proxy::start() else { return };
    let mut feeds: Vec<WebSocket> =
        (0..CONNECTIONS_OF_AN_ADDRESS).map(|_| WebSocket::open(proxy.addr, "/orders/confectionery")).collect();
    let refused: Reply = WebSocket::try_open(proxy.addr, "/orders", &[]).expect_err("one too many");
    refused.problem(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Open connections stay open; a connection past the proxy is not limited by it. The order comes after every feed has
    // its snapshot, which would contain it otherwise.
    for feed in &mut feeds {
        assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":101}");
    }
    server.client().order("B1", 1);
    for feed in &mut feeds {
        assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":102}");
    }
    drop(feeds);
    wait_until(DEADLINE, "there are free places", || proxy.client().get("/categories").status == 200);
}

#[test]
fn a_server_that_is_down_is_reported_and_found_when_it_is_back() {
    let Some((mut server, proxy)) = Proxy::start() else { return };
    let mut client = proxy.client();
    client.order("A1", 10);
    let mut feed = WebSocket::open(proxy.addr, "/orders/electronics");
    feed.texts(2);
    server.kill();
    feed.expect_end();
    let detail = client.post("/orders/A1", "{\"amount\":10}").problem(502);
    assert!(detail.contains("may or may not"), "{detail}");
    server.restart_on_the_same_ports();
    client.order("A1", 10);
    let mut feed = WebSocket::open(proxy.addr, "/orders/electronics");
    assert_eq!(feed.text(), "{\"id\":\"A1\",\"total\":23}");

    // The close frame of an orderly end passes the proxy.
    feed.texts(1);
    assert!(server.terminate().success());
    assert_eq!(feed.close_code(), Some(1001));
}

#[test]
fn tokens_pass_the_proxy() {
    let folder = TempDir::new();
    let writer = "writer-0123456789";
    let file = folder.write("writers", writer);
    let readers = folder.write("readers", "reader-0123456789");
    let builder = Server::builder().arg("--token-file").arg(file).arg("--read-token-file").arg(readers);
    let Some((server, proxy)) = Proxy::start_before(builder) else { return };
    let authorization = format!("Bearer {writer}");
    let order = |headers: &[(&str, &str)]| {
        proxy.client().request("POST", "/orders/A1", &[&[JSON], headers].concat(), b"{\"amount\":10}")
    };
    let refused = order(&[]);
    refused.problem(401);
    assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{refused:?}");
    assert_eq!(order(&[("Authorization", &authorization)]).text(), "{\"ok\":true}");
    // As a page sends it, which cannot set `Authorization`.
    let offer = format!("bearer, {writer}");
    let mut feed = WebSocket::try_open(proxy.addr, "/orders/electronics", &[("Sec-WebSocket-Protocol", &offer)])
        .expect("an upgrade");
    assert_eq!(feed.text(), "{\"id\":\"A1\",\"total\":13}");
    WebSocket::try_open(proxy.addr, "/orders/electronics", &[]).expect_err("a refusal").problem(401);
    let logs = format!("{}{}", proxy.log(), server.log());
    assert!(!logs.contains(writer), "{logs}");
}

#[test]
fn the_board_works_through_the_proxy() {
    let flags = [format!("--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP evil.example 127.0.0.1")];
    let Some((mut server, proxy)) = Proxy::start() else { return };
    let Some(browser) = Browser::with_flags(&flags.each_ref().map(String::as_str)) else { return };
    browser.open(&format!("http://{}/", proxy.host()));
    browser.until(DEADLINE, "document.querySelector('#category').options.length === 3");
    browser.click("#category > option[value=electronics]");
    let total_is = |total: i64| {
        let item = "document.querySelector('product-item[data-id=A1] > [slot=orders]')";
        format!("{item}?.textContent === '{total}'")
    };
    browser.until(DEADLINE, &total_is(3));
    proxy.client().order("A1", 10);
    browser.until(DEADLINE, &total_is(13));
    browser.click("product-item[data-id=A1] >>> .add");
    browser.until(DEADLINE, &total_is(14));
    assert_eq!(browser.console(), Vec::<String>::new());

    // The proxy answers while the server is down; the board must not treat that as a rejection of the order.
    server.kill();
    browser.until(DEADLINE, "document.querySelector('#state').dataset.state === 'lost'");
    browser.click("product-item[data-id=A1] >>> .add");
    let waiting = "document.querySelector('#waiting').textContent";
    browser.until(DEADLINE, &format!("{waiting}.includes('1 order is waiting')"));
    server.restart_on_the_same_ports();
    browser.until(Duration::from_secs(25), "document.querySelector('#state').dataset.state === 'live'");
    browser.until(DEADLINE, &total_is(15));
    browser.until(DEADLINE, &format!("{waiting} === ''"));

    // The server does not serve the board under another name that resolves here.
    browser.open(&format!("http://evil.example:{}/", proxy.addr.port()));
    assert_eq!(browser.run("return document.querySelector('#category')"), Value::Null);
}
