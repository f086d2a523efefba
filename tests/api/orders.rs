//! Posting orders: what is counted, what is rejected, and what the rejection says.

use crate::common::{Server, exchange};

/// The largest total: 2^53 − 1, the last integer that a browser shows exactly.
const MAX_TOTAL: i64 = 9_007_199_254_740_991;

#[test]
fn an_order_is_answered_with_exactly_eleven_bytes_and_counted() {
    let server = Server::start();
    let mut client = server.client();
    let reply = client.post("/orders/A1", "{\"amount\": 10}");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, b"{\"ok\":true}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("content-length"), Some("11"));
    assert_eq!(client.total("A1"), 13);
    client.order("A1", 10);
    assert_eq!(client.total("A1"), 23);
    assert_eq!(client.total("A2"), 7);
    assert_eq!(client.total("B1"), 101);
}

#[test]
fn any_way_to_write_an_integer_counts() {
    let server = Server::start();
    let mut client = server.client();
    let mut expected = 3;
    for (written, amount) in [
        ("10", 10),
        ("10.0", 10),
        ("1e1", 10),
        ("1E+1", 10),
        ("100e-1", 10),
        ("1.25e2", 125),
        ("0.5e1", 5),
        ("-4", -4),
        ("-4.000", -4),
        ("0", 0),
        ("-0", 0),
        ("0.0", 0),
        ("-1e3", -1000),
        ("4503599627370497", 4_503_599_627_370_497),
        ("-4503599627370497.0", -4_503_599_627_370_497),
    ] {
        let reply = client.post("/orders/A1", format!("{{\"amount\":{written}}}"));
        assert_eq!(reply.text(), "{\"ok\":true}", "amount {written}");
        expected += amount;
        assert_eq!(client.total("A1"), expected, "amount {written}");
    }
}

#[test]
fn an_amount_that_is_no_integer_is_refused_and_the_total_stays() {
    let server = Server::start();
    let mut client = server.client();
    let huge = format!("{{\"amount\":1{}}}", "0".repeat(5_000));
    let long = format!("{{\"amount\":1.{}1}}", "0".repeat(5_000));
    for body in [
        "{\"amount\":1.5}",
        "{\"amount\":-0.1}",
        "{\"amount\":1e-1}",
        "{\"amount\":\"10\"}",
        "{\"amount\":null}",
        "{\"amount\":true}",
        "{\"amount\":[10]}",
        "{\"amount\":{}}",
        "{}",
        "{\"Amount\":10}",
        "{\"amount\":1e400}",
        "{\"amount\":-1e400}",
        "{\"amount\":1e-400}",
        "{\"amount\":1e99999999999999999999}",
        "{\"amount\":1e-99999999999999999999}",
        // These are not integers, but the nearest double is one.
        "{\"amount\":1.0000000000000000000001}",
        "{\"amount\":4503599627370497.2}",
        "{\"amount\":9007199254740992}",
        "{\"amount\":-9007199254740992}",
        "{\"amount\":9223372036854775808}",
        "{\"amount\":18446744073709551617}",
        &huge,
        &long,
    ] {
        let reply = client.post("/orders/A1", body);
        let detail = reply.problem(422);
        assert!(detail.contains("amount"), "{detail} for {body:.60}");
        assert_eq!(client.total("A1"), 3, "{body:.60}");
    }
}

#[test]
fn a_total_never_leaves_what_a_browser_can_show() {
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", MAX_TOTAL - 3);
    assert_eq!(client.total("A1"), MAX_TOTAL);
    for amount in [1, MAX_TOTAL] {
        let reply = client.post("/orders/A1", format!("{{\"amount\":{amount}}}"));
        reply.problem(422);
        assert_eq!(client.total("A1"), MAX_TOTAL);
    }
    client.order("A1", -MAX_TOTAL);
    client.order("A1", -MAX_TOTAL);
    assert_eq!(client.total("A1"), -MAX_TOTAL);
    client.post("/orders/A1", "{\"amount\":-1}").problem(422);
    assert_eq!(client.total("A1"), -MAX_TOTAL);
    client.order("A1", 1);
    assert_eq!(client.total("A1"), 1 - MAX_TOTAL);
}

#[test]
fn what_is_not_json_is_malformed() {
    let server = Server::start();
    let mut client = server.client();
    let deep = "[".repeat(60_000);
    let deep_objects = "{\"a\":".repeat(12_000);
    for body in [
        "{",
        "amount=10",
        "{\"amount\":10",
        "{\"amount\":10}}",
        "{\"amount\":10} 11",
        "{\"amount\":010}",
        "{\"amount\":+10}",
        "{\"amount\":0x10}",
        "{\"amount\":.5}",
        "{\"amount\":NaN}",
        "{amount:10}",
        "{'amount':10}",
        &deep,
        &deep_objects,
    ] {
        client.post("/orders/A1", body).problem(400);
    }
    client.post("/orders/A1", b"{\"amount\":10,\"note\":\"\xff\"}").problem(400);
    let empty = [("Content-Type", "application/json"), ("Content-Length", "0")];
    client.request("POST", "/orders/A1", &empty, b"").problem(400);
    assert_eq!(client.total("A1"), 3);
}

#[test]
fn json_that_is_no_object_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    for body in ["10", "[10]", "\"amount\"", "null", "[{\"amount\":10}]"] {
        let reply = client.post("/orders/A1", body);
        assert!(matches!(reply.status, 400 | 422), "{body}: {reply:?}");
        reply.problem(reply.status);
    }
    assert_eq!(client.total("A1"), 3);
}

#[test]
fn only_json_is_taken() {
    let server = Server::start();
    let mut client = server.client();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "json", "application/jsonx"] {
        let headers = [("Content-Type", kind)];
        let reply = client.request("POST", "/orders/A1", &headers, b"{\"amount\":10}");
        let detail = reply.problem(415);
        assert!(detail.contains("application/json"), "{detail}");
    }
    let reply = client.request("POST", "/orders/A1", &[], b"{\"amount\":10}");
    reply.problem(415);
    assert_eq!(client.total("A1"), 3);

    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"] {
        let headers = [("Content-Type", kind)];
        let reply = client.request("POST", "/orders/A1", &headers, b"{\"amount\":1}");
        assert_eq!(reply.status, 200, "{kind}");
    }
    assert_eq!(client.total("A1"), 6);
}

#[test]
fn an_unknown_product_or_path_is_not_found() {
    let server = Server::start();
    let mut client = server.client();
    for path in ["/orders/A9", "/orders/a1", "/orders/electronics", "/orders/%41%39"] {
        let reply = client.post(path, "{\"amount\":10}");
        reply.problem(404);
    }
    for path in ["/nowhere", "/orders/nowhere", "/orders/A1/more", "/electronics/A9", "//", "/ORDERS"] {
        client.get(path).problem(404);
    }
}

#[test]
fn a_method_that_a_path_does_not_have_is_refused_with_those_it_has() {
    let server = Server::start();
    let mut client = server.client();
    for (method, path, allowed) in [
        ("DELETE", "/orders/A1", "POST"),
        ("PUT", "/orders/A1", "POST"),
        ("PUT", "/log", "GET"),
        ("DELETE", "/electronics", "PUT"),
        ("GET", "/electronics/A1", "PATCH"),
        ("PATCH", "/electronics", "POST"),
        ("POST", "/", "GET"),
        ("POST", "/categories", "GET"),
        ("DELETE", "/orders", "GET"),
    ] {
        let headers = [("Content-Type", "application/json")];
        let reply = client.request(method, path, &headers, b"{\"amount\":10}");
        reply.problem(405);
        assert!(reply.lists("allow", allowed), "{method} {path}: {reply:?}");
        assert!(!reply.lists("allow", method), "{method} {path}: {reply:?}");
    }
    // What was probably wanted is said where another address or method does it.
    for (method, path, words) in [
        ("DELETE", "/electronics/A1", "PATCH with {\"hidden\":true}"),
        ("GET", "/electronics/A1", "GET /{category} lists"),
        ("POST", "/categories", "PUT /{category} creates"),
    ] {
        let detail = client.request(method, path, &[], b"").problem(405);
        assert!(detail.contains(words), "{method} {path}: {detail}");
    }
    let reply = client.request("FROB", "/orders/A1", &[], b"");
    assert!(matches!(reply.status, 405 | 501), "{reply:?}");
    reply.problem(reply.status);
}

#[test]
fn a_body_without_a_length_gets_411_and_an_empty_one_400() {
    let server = Server::start();
    let head = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    exchange(server.addr(), format!("{head}\r\n")).problem(411);
    exchange(server.addr(), format!("{head}Content-Length: 0\r\n\r\n")).problem(400);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    exchange(server.addr(), chunked).problem(400);
}

#[test]
fn a_refusal_leaves_the_connection_usable() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..3 {
        client.post("/orders/A1", "{}").problem(422);
        client.post("/orders/A9", "{\"amount\":1}").problem(404);
        client.post("/orders/A1", "{").problem(400);
        client.get("/nowhere").problem(404);
        client.order("A1", 1);
    }
    assert_eq!(client.total("A1"), 6);
}

#[test]
fn orders_from_many_connections_are_each_counted_once() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..50 {
                    client.order("A1", 2);
                    client.order("B1", -1);
                }
            });
        }
    });
    let mut client = server.client();
    assert_eq!(client.total("A1"), 3 + 800);
    assert_eq!(client.total("B1"), 101 - 400);
}

#[test]
fn totals_can_be_read_with_a_plain_get() {
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", 10);
    for (path, expected) in [
        ("/orders/electronics", "[{\"id\":\"A1\",\"total\":13},{\"id\":\"A2\",\"total\":7}]"),
        ("/orders/confectionery", "[{\"id\":\"B1\",\"total\":101}]"),
        ("/orders", "[{\"id\":\"A1\",\"total\":13},{\"id\":\"A2\",\"total\":7},{\"id\":\"B1\",\"total\":101}]"),
    ] {
        let reply = client.get(path);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        // Totals change, so caches must not keep them.
        assert!(reply.lists("cache-control", "no-store") || reply.lists("cache-control", "no-cache"));
        assert_eq!(reply.text(), expected, "{path}");
    }
}

#[test]
fn an_order_is_seen_by_every_read_after_its_answer() {
    let server = Server::start();
    let mut poster = server.client();
    let mut reader = server.client();
    for round in 1..=50 {
        poster.order("A1", 1);
        assert_eq!(reader.total("A1"), 3 + round);
    }
}
