//! Which web pages may use the server (`Origin`), and which host names it serves (`Host`).

use crate::common::{DEADLINE, Reply, Server, WebSocket, exchange, wait_until};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[track_caller]
fn order(server: &Server, host: &str, origin: &str) -> Reply {
    let headers = [JSON, ("Host", host), ("Origin", origin)];
    server.client().request("POST", "/orders/A1", &headers, b"{\"amount\":10}")
}

#[track_caller]
fn expect_cors(reply: &Reply, origin: &str) {
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin), "{reply:?}");
    assert!(reply.lists("vary", "Origin"), "{reply:?}");
    for name in ["Link", "Retry-After", "Location"] {
        assert!(reply.lists("access-control-expose-headers", name), "{reply:?}");
    }
}

#[test]
fn a_page_from_another_port_of_the_same_host_may_do_everything() {
    let server = Server::start();
    let host = format!("localhost:{}", server.addr().port());
    let origin = "http://localhost:8000";
    let headers = [("Host", host.as_str()), ("Origin", origin)];

    let products = server.client().request("GET", "/electronics", &headers, b"");
    assert_eq!(products.status, 200);
    expect_cors(&products, origin);

    let reply = order(&server, &host, origin);
    assert_eq!(reply.text(), "{\"ok\":true}");
    expect_cors(&reply, origin);
    assert_eq!(server.total("A1"), 13);

    let mut feed = WebSocket::try_open(server.addr(), "/orders/electronics", &headers).expect("an upgrade");
    assert_eq!(feed.text(), "{\"id\":\"A1\",\"total\":13}");
    feed.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}");
    feed.text();
    assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":101}");

    // The page can also read why a request was rejected.
    let refused = server.client().request("GET", "/nowhere", &headers, b"");
    refused.problem(404);
    expect_cors(&refused, origin);
}

#[test]
fn a_preflight_is_answered_with_what_the_route_takes() {
    let server = Server::start();
    let origin = "http://localhost:8000";
    for path in ["/orders/A1", "/electronics"] {
        let headers = [
            ("Host", "localhost:3000"),
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type"),
        ];
        let reply = server.client().request("OPTIONS", path, &headers, b"");
        assert!(matches!(reply.status, 200 | 204), "{reply:?}");
        expect_cors(&reply, origin);
        assert!(reply.lists("access-control-allow-methods", "POST"), "{reply:?}");
        assert!(reply.lists("access-control-allow-headers", "content-type"), "{reply:?}");
    }
}

#[test]
fn a_page_from_elsewhere_may_do_nothing() {
    let server = Server::start();
    let host = "localhost:3000";
    for origin in [
        "http://evil.example",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example/localhost",
        "http://localhost@evil.example",
        "http://evil.example:3000",
        "http://notlocalhost",
        "http://127.0.0.1.evil.example:3000",
        "http://10.0.0.1:3000",
        "file://",
        "null",
        "",
        "localhost",
    ] {
        let headers = [("Host", host), ("Origin", origin)];
        let reply = server.client().request("GET", "/electronics", &headers, b"");
        let detail = reply.problem(403);
        assert!(detail.contains("--allow-origin"), "{detail}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");

        let reply = order(&server, host, origin);
        reply.problem(403);
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");

        let feed = WebSocket::try_open(server.addr(), "/orders/electronics", &headers);
        feed.expect_err("a refusal").problem(403);

        let mut preflight = headers.to_vec();
        preflight.push(("Access-Control-Request-Method", "POST"));
        let reply = server.client().request("OPTIONS", "/orders/A1", &preflight, b"");
        assert_eq!(reply.status, 403, "{origin}: {reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
    }
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn the_names_of_loopback_are_one_machine_to_pages_and_handshakes() {
    let server = Server::start();
    for (page, host) in [
        ("http://127.0.0.1:5050", "localhost:3000"),
        ("http://localhost:5050", "127.0.0.1:3000"),
        ("http://[::1]:5050", "localhost:3000"),
        ("http://localhost", "[::1]:3000"),
    ] {
        let reply = order(&server, host, page);
        assert_eq!(reply.text(), "{\"ok\":true}", "{page} {host}");
        expect_cors(&reply, page);
        let headers = [("Host", host), ("Origin", page)];
        WebSocket::try_open(server.addr(), "/orders", &headers).expect("an upgrade").texts(3);
    }
    assert_eq!(server.total("A1"), 43);
    // DNS rebinding: the page's own name leads to this machine.
    order(&server, "evil.example:3000", "http://evil.example:3000").problem(421);
    assert_eq!(server.total("A1"), 43);
}

#[test]
fn a_rejected_origin_or_host_is_logged_once_and_then_counted() {
    let server = Server::start();
    for number in 0..50 {
        order(&server, "localhost:3000", &format!("http://evil-{number}.example")).problem(403);
        order(&server, &format!("evil-{number}.example"), "http://localhost").problem(421);
        let headers = [("Host", "localhost:3000"), ("Origin", "http://handshake.example")];
        WebSocket::try_open(server.addr(), "/orders", &headers).expect_err("a rejection").problem(403);
    }
    let long = format!("http://{}.example", "x".repeat(10_000));
    order(&server, "localhost:3000", &long).problem(403);
    wait_until(DEADLINE, "both are logged", || {
        let log = server.log();
        log.contains("Origin \"http://evil-0.example\"; --allow-origin")
            && log.contains("Host \"evil-0.example\"; --allow-host")
    });
    let log = server.log();
    assert!(!log.contains("evil-1") && log.matches("rejected").count() == 2, "{log}");
}

#[test]
fn a_listed_origin_may_call() {
    let origin = "https://board.example";
    let server =
        Server::builder().arg("--allow-origin").arg(origin).arg("--allow-origin=http://other.example:8080").start();
    for origin in [origin, "http://other.example:8080"] {
        let reply = order(&server, "localhost:3000", origin);
        assert_eq!(reply.text(), "{\"ok\":true}");
        expect_cors(&reply, origin);
        let headers = [("Origin", origin)];
        let mut feed = WebSocket::try_open(server.addr(), "/orders/confectionery", &headers).expect("an upgrade");
        assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":101}");
    }
    // Another scheme, port or subdomain is another origin.
    for origin in
        ["http://board.example", "https://board.example:8443", "http://other.example", "https://x.board.example"]
    {
        order(&server, "localhost:3000", origin).problem(403);
    }
    assert_eq!(server.total("A1"), 23);
}

#[test]
fn without_an_origin_the_answer_has_no_cors_headers() {
    let server = Server::start();
    let reply = server.client().get("/electronics");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[test]
fn every_name_of_the_machine_itself_is_served() {
    let server = Server::start();
    for host in ["localhost", "localhost:3000", "LocalHost:1", "127.0.0.1", "127.0.0.1:5050", "[::1]", "[::1]:3000"] {
        let reply = server.client().request("GET", "/categories", &[("Host", host)], b"");
        assert_eq!(reply.status, 200, "{host}");
    }
    for (host, origin) in [("127.0.0.1:3000", "http://127.0.0.1:5050"), ("[::1]:3000", "http://[::1]:5050")] {
        let reply = order(&server, host, origin);
        assert_eq!(reply.status, 200, "{host}");
        expect_cors(&reply, origin);
    }
}

#[test]
fn a_name_that_is_not_the_machines_is_misdirected() {
    let server = Server::start();
    for host in [
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "1.1.1.1:3000",
        "[2001:db8::1]",
        "localhosts",
    ] {
        let headers = [("Host", host)];
        let detail = server.client().request("GET", "/electronics", &headers, b"").problem(421);
        assert!(detail.contains("--allow-host"), "{detail}");
        // A DNS rebinding attack: origin and host agree, and both are foreign.
        order(&server, host, &format!("http://{host}")).problem(421);
        let feed = WebSocket::try_open(server.addr(), "/orders/electronics", &headers);
        feed.expect_err("a refusal").problem(421);
    }
    assert_eq!(server.total("A1"), 3);
    // The host in an absolute target takes precedence over the header (RFC 9112, section 3.2.2).
    let request = "GET http://evil.example/categories HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let reply = exchange(server.addr(), request);
    assert!(matches!(reply.status, 400 | 421), "{reply:?}");
}

#[test]
fn a_listed_host_is_served() {
    let server = Server::builder().arg("--allow-host").arg("shop.example").arg("--allow-host=box.lan").start();
    for host in ["shop.example", "shop.example:8443", "SHOP.example", "box.lan", "localhost:3000"] {
        let reply = order(&server, host, &format!("https://{}", host.to_lowercase()));
        assert_eq!(reply.text(), "{\"ok\":true}", "{host}");
    }
    order(&server, "evil.example", "http://evil.example").problem(421);
    order(&server, "shop.example", "http://evil.example").problem(403);
}

#[test]
fn more_than_one_origin_is_refused() {
    let server = Server::start();
    let (good, evil) = (("Origin", "http://localhost:8000"), ("Origin", "http://evil.example"));
    for origins in [[good, evil], [evil, good], [good, good]] {
        let headers = [&[("Host", "localhost:3000")], &origins[..]].concat();
        server.client().request("GET", "/electronics", &headers, b"").problem(400);
        let order = [&headers[..], &[JSON]].concat();
        server.client().request("POST", "/orders/A1", &order, b"{\"amount\":10}").problem(400);
        let feed = WebSocket::try_open(server.addr(), "/orders/electronics", &headers);
        feed.expect_err("a refusal").problem(400);
    }
    assert_eq!(server.total("A1"), 3);
}
