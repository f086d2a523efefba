//! HTTP/1.1 on the wire (RFC 9112): persistent connections, split and pipelined requests, malformed requests.

use crate::common::{Client, DEADLINE, Server, exchange};

/// A request that adds 1 to A1.
const ORDER: &str = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 12\r\n\r\n{\"amount\":1}";
/// The head of an order for A1, without its framing headers.
const ORDER_HEAD: &str = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
const TOTALS: &str = "GET /orders/electronics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Checks that a request is rejected and its connection closed.
#[track_caller]
fn expect_refused(server: &Server, request: impl AsRef<[u8]>, statuses: &[u16]) {
    let mut client = server.client();
    client.write(&request);
    let reply = client.reply();
    let request = String::from_utf8_lossy(request.as_ref()).into_owned();
    assert!(statuses.contains(&reply.status), "{request:.200}: {reply:?}");
    reply.problem(reply.status);
    client.expect_close_after(&reply);
}

#[test]
fn a_connection_keeps_nothing_of_the_requests_that_it_has_answered() {
    let server = Server::start();
    let mut client = server.client();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Padding: {}\r\n\r\n", "x".repeat(4_000));
    // Half of the next request is always there before this one is answered.
    let (head, tail) = request.split_at(2_000);
    client.write(head);
    let mut ask = |times: u32| {
        for _ in 0..times {
            client.write(format!("{tail}{head}"));
            assert_eq!(client.reply().status, 200);
        }
    };
    ask(100);
    let before = server.memory_kib();
    // 20 MB in all.
    ask(5_000);
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < 4_096, "{grown} KiB");
}

#[test]
fn a_connection_carries_many_requests() {
    let server = Server::start();
    let mut client = server.client();
    for round in 1..=100 {
        client.order("A1", 1);
        let totals = client.get("/orders/electronics");
        assert!(!totals.says_close());
        assert_eq!(totals.json()[0]["total"], 3 + round);
    }
}

#[test]
fn a_client_that_says_close_is_closed_after_its_answer() {
    let server = Server::start();
    let mut client = server.client();
    let reply = client.request("GET", "/categories", &[("Connection", "close")], b"");
    assert_eq!(reply.status, 200);
    client.expect_close_after(&reply);
}

#[test]
fn requests_in_one_segment_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.client();
    client.write(
        [TOTALS, ORDER, ORDER, TOTALS, ORDER, "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", TOTALS].concat(),
    );
    assert_eq!(client.reply().json()[0]["total"], 3);
    assert_eq!(client.reply().text(), "{\"ok\":true}");
    assert_eq!(client.reply().text(), "{\"ok\":true}");
    assert_eq!(client.reply().json()[0]["total"], 5);
    assert_eq!(client.reply().text(), "{\"ok\":true}");
    client.reply().problem(404);
    assert_eq!(client.reply().json()[0]["total"], 6);
}

#[test]
fn a_long_pipeline_is_answered_to_its_end() {
    let server = Server::start();
    let mut client = server.client();
    let count = 500;
    let mut writer = client.stream().try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::io::Write::write_all(&mut writer, ORDER.repeat(count).as_bytes()).expect("the server reads")
        });
        for _ in 0..count {
            assert_eq!(client.reply().text(), "{\"ok\":true}");
        }
    });
    assert_eq!(server.total("A1"), 3 + count as i64);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::start();
    let mut client = server.client();
    for request in [ORDER, TOTALS] {
        for byte in request.as_bytes() {
            client.write([*byte]);
        }
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(server.total("A1"), 4);
}

#[test]
fn a_chunked_body_may_be_split_anywhere() {
    let server = Server::start();
    let head = format!("{ORDER_HEAD}Transfer-Encoding: chunked\r\n\r\n");
    let mut client = server.client();
    for body in ["c\r\n{\"amount\":1}\r\n0\r\n\r\n", "1\r\n{\r\n2\r\n\"a\r\n00009\r\nmount\":1}\r\n000\r\n\r\n"] {
        client.write(format!("{head}{body}"));
        assert_eq!(client.reply().text(), "{\"ok\":true}", "{body:?}");
    }
    let request = format!("{head}5\r\n{{\"amo\r\n7\r\nunt\":1}}\r\n0\r\n\r\n");
    for split in 1..request.len() {
        let (first, second) = request.split_at(split);
        client.write(first);
        client.write(second);
        assert_eq!(client.reply().text(), "{\"ok\":true}", "split at {split}");
    }
    // Trailers are ignored, and the next request begins behind them.
    client.write(format!("{head}c\r\n{{\"amount\":1}}\r\n0\r\nX-Sum: 1\r\n\r\n{TOTALS}"));
    assert_eq!(client.reply().text(), "{\"ok\":true}");
    assert_eq!(client.reply().json()[0]["total"], 3 + 2 + request.len() as i64);
}

#[test]
fn a_chunked_body_that_is_broken_is_refused() {
    let server = Server::start();
    let head = format!("{ORDER_HEAD}Transfer-Encoding: chunked\r\n\r\n");
    for body in [
        "xyz\r\n{\"amount\":1}\r\n0\r\n\r\n",
        "-c\r\n{\"amount\":1}\r\n0\r\n\r\n",
        "\r\n\r\n",
        "c\r\n{\"amount\":1}XX0\r\n\r\n",
        "4\r\n{\"amount\":1}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{\"amount\":1}\r\n0\r\n\r\n",
    ] {
        expect_refused(&server, format!("{head}{body}"), &[400, 413]);
    }
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn an_expectation_of_100_continue_is_met() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..2 {
        client.write(format!("{ORDER_HEAD}Content-Length: 12\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(client.reply().status, 100);
        client.write("{\"amount\":1}");
        assert_eq!(client.reply().text(), "{\"ok\":true}");
    }
    client.write(format!("{ORDER_HEAD}Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n\r\n"));
    assert_eq!(client.reply().status, 100);
    client.write("c\r\n{\"amount\":1}\r\n0\r\n\r\n");
    assert_eq!(client.reply().text(), "{\"ok\":true}");
    assert_eq!(server.total("A1"), 6);
}

#[test]
fn a_body_that_will_be_refused_gets_no_100_continue() {
    let server = Server::start();
    let mut client = server.client();
    client.write(format!("{ORDER_HEAD}Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"));
    let reply = client.reply();
    reply.problem(413);
}

#[test]
fn http_1_0_closes_unless_asked_to_keep_the_connection() {
    let server = Server::start();
    let mut client = server.client();
    client.write("GET /categories HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("transfer-encoding"), None);
    assert!(client.is_closed_within(DEADLINE));

    let mut client = server.client();
    for _ in 0..2 {
        client.write("GET /categories HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("transfer-encoding"), None);
        assert!(reply.lists("connection", "keep-alive"), "{reply:?}");
    }
    // An HTTP/1.0 client may send no `Host`.
    let reply = exchange(server.addr(), "GET /categories HTTP/1.0\r\n\r\n");
    assert!(matches!(reply.status, 200 | 400 | 421), "{reply:?}");
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let server = Server::start();
    let mut client = server.client();
    for path in ["/", "/categories", "/electronics", "/orders", "/nowhere"] {
        let get = client.get(path);
        let head = client.request("HEAD", path, &[], b"");
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}

#[test]
fn options_tells_the_methods() {
    let server = Server::start();
    let mut client = server.client();
    for (path, methods) in [("/orders/A1", &["POST"][..]), ("/electronics", &["GET", "HEAD", "POST"]), ("/", &["GET"])]
    {
        let reply = client.request("OPTIONS", path, &[], b"");
        assert!(matches!(reply.status, 200 | 204), "{reply:?}");
        for method in methods {
            assert!(reply.lists("allow", method), "{path}: {reply:?}");
        }
    }
    assert_eq!(client.get("/categories").status, 200);
}

#[test]
fn a_target_that_two_readers_could_read_differently_is_refused() {
    let server = Server::start();
    for target in [
        "http://localhost/categories",
        "http://localhost:3001",
        "https://localhost:3000/categories",
        "localhost:3000",
        "/categories#x",
        "/orders%2felectronics",
        "/%2e%2e/categories",
        "/categories%00",
        "/categories%",
    ] {
        expect_refused(&server, format!("GET {target} HTTP/1.1\r\nHost: localhost:3000\r\n\r\n"), &[400]);
    }
}

#[test]
fn a_query_does_not_change_the_path() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.get("/?x=1").text(), client.get("/").text());
    assert_eq!(client.get("/orders/electronics?since=").status, 200);
    assert_eq!(client.get("/orders/electronics?").status, 200);
    assert_eq!(client.get("/orders/electronics?&").status, 200);
}

#[test]
fn the_body_of_a_get_is_skipped() {
    let server = Server::start();
    let mut client = server.client();
    client.write(format!(
        "GET /categories HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{ORDER}{TOTALS}",
        ORDER.len()
    ));
    assert_eq!(client.reply().status, 200);
    assert_eq!(client.reply().json()[0]["total"], 3);
}

#[test]
fn bodies_whose_end_two_parties_could_see_differently_are_refused() {
    let server = Server::start();
    for framing in [
        "Content-Length: 12\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 12",
        "Content-Length: 12\r\nContent-Length: 13",
        "Content-Length: 12, 13",
        "Content-Length: +12",
        "Content-Length: -12",
        "Content-Length: 0x0c",
        "Content-Length: 12 12",
        "Content-Length: ",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length : 12",
        "Transfer-Encoding : chunked",
    ] {
        let body = if framing.contains("chunked") { "c\r\n{\"amount\":1}\r\n0\r\n\r\n" } else { "{\"amount\":1}" };
        expect_refused(&server, format!("{ORDER_HEAD}{framing}\r\n\r\n{body}"), &[400, 413, 501]);
    }
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn malformed_heads_are_refused() {
    let server = Server::start();
    for request in [
        "HELLO\r\n\r\n",
        "GET\r\n\r\n",
        "GET /categories\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03 a TLS client\r\n\r\n",
        "GET /categories HTTP/1.1\r\n\r\n",
        "GET /categories HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET /categories HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        "GET /categories HTTP/1.1\r\nHost: localhost\r\nX Y: z\r\n\r\n",
        "GET /categories HTTP/1.1\r\nHost: localhost\r\n: z\r\n\r\n",
        "GET /categories HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n",
        "GET /categories HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        "GET categories HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        expect_refused(&server, request, &[400]);
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/11.1", "http/1.1", "FTP/1.1", "x HTTP/1.1"] {
        let request = format!("GET /categories {version}\r\nHost: localhost\r\n\r\n");
        expect_refused(&server, request, &[400, 505]);
    }
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let server = Server::start();
    let mut client = server.client();
    client.write(format!("\r\n{TOTALS}\r\n\r\n{TOTALS}"));
    assert_eq!(client.reply().status, 200);
    assert_eq!(client.reply().status, 200);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answers() {
    let server = Server::start();
    let mut client = server.client();
    client.write([ORDER, TOTALS].concat());
    client.finish();
    assert_eq!(client.reply().text(), "{\"ok\":true}");
    assert_eq!(client.reply().json()[0]["total"], 4);
    assert!(client.is_closed_within(DEADLINE));
}

#[test]
fn an_incomplete_request_counts_nothing() {
    let server = Server::start();
    for end in [10, ORDER.len() - 12, ORDER.len() - 1] {
        let mut client = server.client();
        client.write(&ORDER[..end]);
        client.finish();
        // The server may answer or only close.
        let _ = client.try_reply(true);
        assert!(client.is_closed_within(DEADLINE));
    }
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn every_answer_has_a_date_and_a_content_type() {
    let server = Server::start();
    let mut client: Client = server.client();
    for path in ["/", "/categories", "/orders", "/nowhere"] {
        let reply = client.get(path);
        assert_eq!(reply.version, "HTTP/1.1");
        let date = reply.header("date").unwrap_or_default();
        assert!(date.ends_with(" GMT"), "{path}: {reply:?}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}: {reply:?}");
        let lengths = reply.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        assert_eq!(lengths.count(), 1, "{path}: {reply:?}");
    }
}
