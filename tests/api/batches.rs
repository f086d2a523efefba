//! Several orders in one request: all are counted or none is, and the response has a result for each.

use crate::common::{Client, Reply, Server, WebSocket, order_log};
use serde_json::{Value, json};

const ARRAY: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];

fn send(client: &mut Client, media_type: &str, key: Option<&str>, body: &str) -> Reply {
    let mut headers = vec![("Content-Type", media_type)];
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    client.request("POST", "/orders", &headers, body.as_bytes())
}

#[track_caller]
fn expect_totals(server: &Server, expected: [i64; 3]) {
    let mut client = server.client();
    let totals = STARTS.map(|(id, _)| client.total(id));
    assert_eq!(totals, expected);
}

/// Checks that a whole batch was rejected, and returns the `error` of each of its `results`.
#[track_caller]
fn refused(reply: &Reply, status: u16) -> Vec<Option<String>> {
    reply.problem(status);
    let problem = reply.json();
    let results = problem["results"].as_array().unwrap_or_else(|| panic!("no results: {problem}"));
    let told = results.iter().map(|result| {
        assert_eq!(result["ok"], false, "{problem}");
        result.get("error").map(|error| error.as_str().expect("a text").to_owned())
    });
    told.collect()
}

#[test]
fn an_array_is_answered_with_an_array_of_results() {
    let server = Server::start();
    let body = r#"[{"id":"A1","amount":2,"key":"a\"1"},{"id":"B1","amount":-1},{"id":"A1","amount":1e1,"key":"a2"}]"#;
    let reply = send(&mut server.client(), ARRAY, None, body);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.text(), r#"[{"ok":true,"key":"a\"1"},{"ok":true},{"ok":true,"key":"a2"}]"#);
    expect_totals(&server, [15, 7, 100]);
    let log = order_log::read_whole(server.addr(), &STARTS);
    let told: Vec<_> = log.iter().map(|line| (line.id.as_str(), line.amount, line.key.as_deref())).collect();
    assert_eq!(told, [("A1", 2, Some("a\"1")), ("B1", -1, None), ("A1", 10, Some("a2"))]);
}

#[test]
fn lines_are_answered_with_lines_of_results() {
    let server = Server::start();
    let orders = "{\"id\":\"A1\",\"amount\":2,\"key\":\"a\"}\r\n\n{\"id\":\"A2\",\"amount\":3}";
    for (media_type, ending) in [(LINES, ""), (LINES, "\n"), ("application/x-ndjson; charset=utf-8", "\n\n")] {
        let reply = send(&mut server.client(), media_type, None, &format!("{orders}{ending}"));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
        assert_eq!(reply.text(), "{\"ok\":true,\"key\":\"a\"}\n{\"ok\":true}\n");
    }
    // The order with the key counts once, the one without each time.
    expect_totals(&server, [5, 16, 101]);
}

#[test]
fn subscribers_see_the_orders_of_a_batch_in_its_order() {
    let server = Server::start();
    let mut subscriber = WebSocket::open(server.addr(), "/orders");
    subscriber.texts(3);
    let body = r#"[{"id":"A1","amount":1},{"id":"B1","amount":1},{"id":"A1","amount":1}]"#;
    assert_eq!(send(&mut server.client(), ARRAY, None, body).status, 200);
    let expected = ["{\"id\":\"A1\",\"total\":4}", "{\"id\":\"B1\",\"total\":102}", "{\"id\":\"A1\",\"total\":5}"];
    assert_eq!(subscriber.texts(3), expected);
    subscriber.expect_nothing_but_a_pong();
}

#[test]
fn one_wrong_order_refuses_all_and_is_named() {
    let server = Server::start();
    let mut subscriber = WebSocket::open(server.addr(), "/orders");
    subscriber.texts(3);
    let mut client = server.client();
    let good = r#"{"id":"A1","amount":1,"key":"good"}"#;
    for (wrong, told) in [
        (r#"{"id":"A9","amount":1}"#, "product"),
        (r#"{"id":"electronics","amount":1}"#, "product"),
        (r#"{"amount":1}"#, "id"),
        (r#"{"id":7,"amount":1}"#, "id"),
        (r#"{"id":"A1"}"#, "amount"),
        (r#"{"id":"A1","amount":"1"}"#, "amount"),
        (r#"{"id":"A1","amount":1.5}"#, "amount"),
        (r#"{"id":"A1","amount":1,"key":""}"#, "key"),
        (r#"{"id":"A1","amount":1,"key":7}"#, "key"),
        (&format!(r#"{{"id":"A1","amount":1,"key":"{}"}}"#, "k".repeat(256)), "key"),
        (r#"{"id":"A1","amount":9007199254740991}"#, "total"),
        (r#"{"id":"A1","amount":2,"key":"good"}"#, "key"),
        ("7", "object"),
        ("null", "object"),
    ] {
        for (media_type, body) in
            [(ARRAY, format!("[{good},{wrong},{good}]")), (LINES, format!("{good}\n{wrong}\n{good}\n"))]
        {
            let reply = send(&mut client, media_type, None, &body);
            let results = refused(&reply, 422);
            let [None, Some(error), None] = results.as_slice() else { panic!("{wrong}: {results:?}") };
            assert!(error.contains(told), "{wrong}: {error}");
            // Orders are numbered from 1.
            assert!(reply.problem(422).contains("order 2"), "{reply:?}");
        }
    }
    expect_totals(&server, [3, 7, 101]);
    assert_eq!(order_log::read_whole(server.addr(), &STARTS), []);
    subscriber.expect_nothing_but_a_pong();
    // The rejected batch leaves nothing behind: the key of the good order is still free.
    assert_eq!(send(&mut client, ARRAY, None, r#"[{"id":"A2","amount":1,"key":"good"}]"#).status, 200);
}

#[test]
fn every_wrong_order_is_named_when_none_can_be_read() {
    let server = Server::start();
    let body = r#"[{"id":"A1"},{"id":"A1","amount":1},{"amount":1}]"#;
    let results = refused(&send(&mut server.client(), ARRAY, None, body), 422);
    assert_eq!(results.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    let body = r#"[{"id":"A8","amount":1},{"id":"A1","amount":1},{"id":"A9","amount":1}]"#;
    let results = refused(&send(&mut server.client(), ARRAY, None, body), 422);
    assert_eq!(results.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_body_that_is_no_batch_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    for (status, media_type, body) in [
        (400, ARRAY, "["),
        (400, ARRAY, "[{\"id\":\"A1\",\"amount\":1},]"),
        (400, ARRAY, "nonsense"),
        (400, ARRAY, "{\"id\":\"A1\",\"amount\":1}\n{\"id\":\"A1\",\"amount\":1}"),
        (422, ARRAY, "{\"id\":\"A1\",\"amount\":1}"),
        (422, ARRAY, "7"),
        (422, ARRAY, "[]"),
        (422, LINES, "\n\n"),
        (415, "text/plain", "[{\"id\":\"A1\",\"amount\":1}]"),
        (415, "", "[{\"id\":\"A1\",\"amount\":1}]"),
    ] {
        send(&mut client, media_type, None, body).problem(status);
    }
    let accepted = send(&mut client, "text/csv", None, "A1,1");
    assert!(accepted.lists("accept-post", ARRAY) && accepted.lists("accept-post", LINES), "{accepted:?}");
    let headers = [("Content-Type", ARRAY), ("Content-Encoding", "gzip")];
    client.request("POST", "/orders", &headers, b"[]").problem(415);
    let without_length = [("Content-Type", ARRAY)];
    client.request("POST", "/orders", &without_length, b"").problem(411);
    for key in ["", "\"", &"k".repeat(256)] {
        send(&mut server.client(), ARRAY, Some(key), "[{\"id\":\"A1\",\"amount\":1}]").problem(400);
    }
    expect_totals(&server, [3, 7, 101]);
}

/// A client finds the order of each result by its key.
#[test]
fn a_refused_batch_repeats_the_keys_of_its_orders() {
    let server = Server::start();
    let mut client = server.client();
    let results = |body: &str| {
        let reply = send(&mut server.client(), ARRAY, None, body);
        reply.problem(422);
        let (_, results) = reply.text().split_once("\"results\":").expect("results");
        results.to_owned()
    };
    assert_eq!(send(&mut client, ARRAY, None, r#"[{"id":"A1","amount":1,"key":"a"}]"#).status, 200);
    let told = results(r#"[{"id":"A1","amount":1,"key":"a"},{"id":"A1","amount":9,"key":"a"},{"id":"A2","amount":1}]"#);
    assert!(told.starts_with(r#"[{"ok":false,"key":"a"},{"ok":false,"error":"#), "{told}");
    assert!(told.ends_with(r#","key":"a"},{"ok":false}]}"#), "{told}");
    let told = results(r#"[{"id":"A1","amount":1,"key":"b"},{"id":"Z9","amount":1,"key":"c"}]"#);
    assert!(told.contains(r#"\"Z9\""#) && told.contains(r#""key":"c""#), "{told}");
    let told = results(r#"[{"id":"A1","amount":1,"key":"b"},{"id":"A1","amount":"1","key":"c"}]"#);
    assert!(told.starts_with(r#"[{"ok":false,"key":"b"},{"ok":false,"error":"#), "{told}");
    expect_totals(&server, [4, 7, 101]);
}

#[test]
fn a_batch_has_at_most_1000_orders_and_64_kib() {
    let server = Server::start();
    let order = "{\"id\":\"A1\",\"amount\":1}";
    let array = |count: usize| format!("[{}]", vec![order; count].join(","));
    let reply = send(&mut server.client(), ARRAY, None, &array(1_000));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json().as_array().map(Vec::len), Some(1_000));
    let detail = send(&mut server.client(), ARRAY, None, &array(1_001)).problem(422);
    assert!(detail.contains("1000") || detail.contains("1,000"), "{detail}");
    send(&mut server.client(), LINES, None, &format!("{order}\n").repeat(1_001)).problem(422);
    // A body of exactly 64 KiB, padded with spaces, and one that is a byte longer.
    let mut body = format!("[{order}");
    body += &" ".repeat(64 * 1024 - body.len() - 1);
    body.push(']');
    assert_eq!(send(&mut server.client(), ARRAY, None, &body).status, 200);
    body.insert(1, ' ');
    send(&mut server.client(), ARRAY, None, &body).problem(413);
    expect_totals(&server, [3 + 1_001, 7, 101]);
    assert_eq!(order_log::read_whole(server.addr(), &STARTS).len(), 1_001);
}

#[test]
fn a_key_in_the_header_names_the_batch_as_a_whole() {
    let mut server = Server::start();
    let array = r#"[{"id":"A1","amount":2},{"id":"A2","amount":3,"key":"own"}]"#;
    let lines = "{\"id\":\"A1\",\"amount\":2}\n{\"id\":\"A2\",\"amount\":3,\"key\":\"own\"}\n";
    let answer = r#"[{"ok":true},{"ok":true,"key":"own"}]"#;
    let mut client = server.client();
    for key in ["batch-1", "\"batch-1\"", "batch-1"] {
        assert_eq!(send(&mut client, ARRAY, Some(key), array).text(), answer);
    }
    // The same orders in the other form are the same batch.
    assert_eq!(send(&mut client, LINES, Some("batch-1"), lines).status, 200);
    expect_totals(&server, [5, 10, 101]);
    for other in [
        r#"[{"id":"A1","amount":2}]"#,
        r#"[{"id":"A1","amount":2},{"id":"A2","amount":4,"key":"own"}]"#,
        r#"[{"id":"A2","amount":3,"key":"own"},{"id":"A1","amount":2}]"#,
        r#"[{"id":"A1","amount":2},{"id":"B1","amount":3,"key":"own"}]"#,
        r#"[{"id":"A1","amount":2},{"id":"A2","amount":3,"key":"another"}]"#,
        r#"[{"id":"A1","amount":2},{"id":"A2","amount":3}]"#,
    ] {
        let reply = send(&mut client, ARRAY, Some("batch-1"), other);
        assert!(reply.problem(422).contains("key"), "{reply:?}");
    }
    expect_totals(&server, [5, 10, 101]);
    server.restart();
    assert_eq!(send(&mut server.client(), ARRAY, Some("batch-1"), array).text(), answer);
    expect_totals(&server, [5, 10, 101]);
}

#[test]
fn a_key_of_a_batch_and_a_key_of_an_order_are_not_mistaken_for_each_other() {
    let server = Server::start();
    let mut client = server.client();
    let one = r#"[{"id":"A1","amount":1}]"#;
    assert_eq!(send(&mut client, ARRAY, Some("b"), one).status, 200);
    let headers = [("Content-Type", ARRAY), ("Idempotency-Key", "b")];
    client.request("POST", "/orders/A1", &headers, b"{\"amount\":1}").problem(422);
    refused(&send(&mut client, ARRAY, None, r#"[{"id":"A1","amount":1,"key":"b"}]"#), 422);
    let headers = [("Content-Type", ARRAY), ("Idempotency-Key", "o")];
    assert_eq!(client.request("POST", "/orders/A1", &headers, b"{\"amount\":1}").status, 200);
    send(&mut client, ARRAY, Some("o"), one).problem(422);
    expect_totals(&server, [5, 7, 101]);
}

#[test]
fn orders_that_are_known_by_their_keys_count_once_within_and_across_batches() {
    let server = Server::start();
    let mut client = server.client();
    let headers = [("Content-Type", ARRAY), ("Idempotency-Key", "a")];
    client.request("POST", "/orders/A1", &headers, b"{\"amount\":1}");
    let body =
        r#"[{"id":"A1","amount":1,"key":"a"},{"id":"A1","amount":2,"key":"b"},{"id":"A1","amount":2,"key":"b"}]"#;
    let answer = r#"[{"ok":true,"key":"a"},{"ok":true,"key":"b"},{"ok":true,"key":"b"}]"#;
    for _ in 0..2 {
        assert_eq!(send(&mut client, ARRAY, None, body).text(), answer);
    }
    expect_totals(&server, [6, 7, 101]);
    // A new order, and another order under a known key.
    let clash = r#"[{"id":"A2","amount":1,"key":"c"},{"id":"A1","amount":3,"key":"b"}]"#;
    let results = refused(&send(&mut client, ARRAY, None, clash), 422);
    assert!(results[0].is_none() && results[1].is_some(), "{results:?}");
    expect_totals(&server, [6, 7, 101]);
}

#[test]
fn totals_that_leave_the_range_only_on_the_way_are_refused_like_orders_one_by_one() {
    let server = Server::start();
    let most = 9_007_199_254_740_991_i64 - 3;
    let batch =
        |first: i64, second: i64| json!([{"id": "A1", "amount": first}, {"id": "A1", "amount": second}]).to_string();
    let mut client = server.client();
    let results = refused(&send(&mut client, ARRAY, None, &batch(most, 1)), 422);
    assert!(results[0].is_none() && results[1].is_some(), "{results:?}");
    refused(&send(&mut client, ARRAY, None, &batch(most + 1, -1)), 422);
    expect_totals(&server, [3, 7, 101]);
    assert_eq!(send(&mut client, ARRAY, None, &batch(most, -most)).status, 200);
    expect_totals(&server, [3, 7, 101]);
}

#[test]
fn the_path_of_batches_names_its_methods() {
    let server = Server::start();
    let mut client = server.client();
    let allow = "GET, HEAD, POST, OPTIONS";
    assert_eq!(client.request("OPTIONS", "/orders", &[], b"").header("allow"), Some(allow));
    let refused = client.request("PUT", "/orders", &[("Content-Type", ARRAY)], b"[]");
    refused.problem(405);
    assert_eq!(refused.header("allow"), Some(allow));
    // A category is not a product.
    let refused = client.post("/orders/electronics", "[{\"id\":\"A1\",\"amount\":1}]");
    assert!(refused.problem(404).contains("category"), "{refused:?}");
    let value: Value = client.get("/orders").json();
    assert_eq!(value.as_array().map(Vec::len), Some(3));
}
