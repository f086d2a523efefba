//! Where metrics are served: at every address, or only at those of `--metrics-listen`; and who may read them.

use crate::common::{Client, Server, TempDir, exchange, ordercast};
use crate::exposition::Scrape;

const READER: &str = "reader-0123456789abcdef";
const WRITER: &str = "writer-0123456789abcdef";

#[test]
fn with_an_address_of_their_own_metrics_are_there_alone_and_nothing_else_is() {
    let server = Server::builder().arg("--metrics-listen").arg("127.0.0.1:0").start();
    let mut main = server.client();
    main.order("A1", 1);
    for method in ["GET", "HEAD", "POST", "OPTIONS"] {
        assert_eq!(main.request(method, "/metrics", &[], b"").status, 404, "{method}");
    }
    assert!(main.get("/metrics").problem(404).contains("--metrics-listen"));
    assert_eq!(main.get("/healthz").status, 200);

    let mut metrics = Client::connect(server.metrics_addrs()[0]);
    assert_eq!(Scrape::by(&mut metrics).value("ordercast_orders_total"), 1.0);
    assert_eq!(Scrape::by(&mut metrics).value("ordercast_connections_open"), 2.0, "both addresses count");
    for path in ["/healthz", "/readyz", "/metrics/"] {
        assert_eq!(metrics.get(path).status, 200, "{path}");
    }
    for path in ["/", "/orders", "/orders/electronics", "/categories", "/electronics", "/log", "/app.js", "/periods"] {
        assert!(metrics.get(path).problem(404).contains("/metrics"), "{path}");
    }
    metrics.post("/orders/A1", "{\"amount\":1}").problem(404);
    let upgrade = metrics.request("GET", "/orders", &crate::common::websocket::UPGRADE, b"");
    upgrade.problem(404);
    assert_eq!(server.total("A1"), 4);
}

#[test]
fn an_address_on_loopback_answers_to_loopback_names_only() {
    let server = Server::builder().listen("0.0.0.0:0").arg("--metrics-listen").arg("127.0.0.1:0").start();
    let addr = server.metrics_addrs()[0];
    let request = |host: &str| format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(exchange(addr, request("localhost:9090")).status, 200);
    exchange(addr, request("evil.example")).problem(421);
    // The other address is not on loopback, and so has other rules.
    assert_eq!(exchange(server.addr(), request("shop.example").replace("metrics", "readyz")).status, 200);
    let origin = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n";
    exchange(addr, origin).problem(403);
}

#[test]
fn metrics_need_the_token_that_reading_needs_at_both_kinds_of_address() {
    let folder = TempDir::new();
    let (write, read) = (folder.write("write", WRITER), folder.write("read", READER));
    let guarded = || Server::builder().arg("--token-file").arg(&write).arg("--read-token-file").arg(&read);
    let open = Server::builder().arg("--token-file").arg(&write).start();
    assert_eq!(open.client().get("/metrics").status, 200, "reading is open");
    let own = guarded().arg("--metrics-listen").arg("127.0.0.1:0").start();
    let shared = guarded().start();
    for addr in [shared.addr(), own.metrics_addrs()[0]] {
        let mut client = Client::connect(addr);
        let reply = client.get("/metrics");
        reply.problem(401);
        assert!(reply.header("www-authenticate").is_some(), "{reply:?}");
        for (token, status) in [(READER, 200), (WRITER, 200), ("stranger-0123456789abc", 401)] {
            let authorization = format!("Bearer {token}");
            let reply = client.request("GET", "/metrics", &[("Authorization", &authorization)], b"");
            assert_eq!(reply.status, status, "{token}");
        }
        assert_eq!(client.get("/readyz").status, 200);
    }
    let mut main = Client::connect(own.addr());
    main.get("/metrics").problem(401);
    let authorization = format!("Bearer {READER}");
    main.request("GET", "/metrics", &[("Authorization", &authorization)], b"").problem(404);
}

#[test]
fn its_connections_count_towards_the_cap() {
    let server = Server::builder().arg("--metrics-listen").arg("127.0.0.1:0").arg("--max-connections").arg("1").start();
    let mut main = server.client();
    main.order("A1", 1);
    Client::connect(server.metrics_addrs()[0]).get("/metrics").problem(503);
    main.order("A1", 1);
}

#[test]
fn an_address_that_is_taken_or_malformed_is_named() {
    let server = Server::start();
    let folder = TempDir::new();
    for (addr, code, word) in [
        (server.addr().to_string().as_str(), 1, "in use"),
        (":9090", 2, "127.0.0.1:9090"),
        ("nowhere", 2, "--metrics-listen"),
    ] {
        let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--metrics-listen", addr], &[]);
        assert_eq!(run.code, Some(code), "{addr}: {run:?}");
        assert!(run.stderr.contains(word), "{addr}: {run:?}");
    }
    let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0"], &[("ORDERCAST_METRICS_LISTEN", ":1")]);
    assert!(run.code == Some(2) && run.stderr.contains("ORDERCAST_METRICS_LISTEN"), "{run:?}");
}
