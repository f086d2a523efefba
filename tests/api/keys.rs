//! Orders with a key: a repeat gets the first response and is counted once, also after a restart.

use crate::common::load::spawn;
use crate::common::{Client, DEADLINE, Reply, Server, TempDir, WebSocket, exchange, order_log, ordercast, wait_until};
use std::sync::Barrier;
use std::thread;

const OK: &str = "{\"ok\":true}";

fn try_order(client: &mut Client, id: &str, amount: i64, key: &str) -> Reply {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    let body = format!("{{\"amount\":{amount}}}");
    client.request("POST", &format!("/orders/{id}"), &headers, body.as_bytes())
}

#[track_caller]
fn order(client: &mut Client, id: &str, amount: i64, key: &str) {
    let reply = try_order(client, id, amount, key);
    assert_eq!((reply.status, reply.text()), (200, OK), "{key}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// Sends an `add-order` command and returns its response; totals that come before it are skipped.
#[track_caller]
fn add_order(socket: &mut WebSocket, id: &str, amount: i64, key: &str) -> serde_json::Value {
    socket.send(&format!(
        "{{\"cmd\":\"add-order\",\"payload\":{{\"id\":\"{id}\",\"amount\":{amount},\"key\":\"{key}\"}}}}"
    ));
    loop {
        let answer: serde_json::Value = serde_json::from_str(&socket.text()).expect("JSON");
        if answer.get("total").is_none() {
            return answer;
        }
    }
}

#[test]
fn a_replay_is_answered_like_the_first_and_counts_nothing() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..5 {
        order(&mut client, "A1", 10, "till-7-0042");
        // Over another connection too: a client that retries has often lost its first one.
        order(&mut server.client(), "A1", 10, "till-7-0042");
    }
    assert_eq!(server.total("A1"), 13);
    order(&mut client, "A1", 10, "till-7-0043");
    assert_eq!(server.total("A1"), 23);
    let keys: Vec<_> = order_log::read_whole(server.addr(), &[("A1", 3)]).into_iter().map(|line| line.key).collect();
    assert_eq!(keys, [Some("till-7-0042".to_owned()), Some("till-7-0043".to_owned())]);
}

#[test]
fn an_order_without_a_key_counts_each_time() {
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", 1);
    client.order("A1", 1);
    assert_eq!(server.total("A1"), 5);
}

#[test]
fn a_replay_reaches_no_subscriber() {
    let server = Server::start();
    let mut subscriber = WebSocket::open(server.addr(), "/orders/electronics");
    subscriber.texts(2);
    let mut client = server.client();
    order(&mut client, "A1", 1, "k");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":4}");
    order(&mut client, "A1", 1, "k");
    subscriber.expect_nothing_but_a_pong();
}

#[test]
fn another_order_under_the_same_key_is_refused_and_the_first_one_stays() {
    let server = Server::start();
    let mut client = server.client();
    order(&mut client, "A1", 10, "k");
    for (id, amount) in [("A1", 11), ("A1", -10), ("A2", 10), ("B1", 10)] {
        let detail = try_order(&mut client, id, amount, "k").problem(422);
        assert!(detail.contains("key"), "{detail}");
    }
    let totals = ["A1", "A2", "B1"].map(|id| server.total(id));
    assert_eq!(totals, [13, 7, 101]);
    order(&mut client, "A1", 10, "k");
}

#[test]
fn every_spelling_of_an_amount_is_the_same_order() {
    let server = Server::start();
    let mut client = server.client();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
    for body in ["{\"amount\":10}", " { \"amount\" : 1e1 } ", "{\"note\":\"again\",\"amount\":10.0}"] {
        assert_eq!(client.request("POST", "/orders/A1", &headers, body.as_bytes()).text(), OK, "{body}");
    }
    assert_eq!(server.total("A1"), 13);
}

#[test]
fn a_key_may_be_quoted_or_bare_and_both_are_the_same_key() {
    let server = Server::start();
    let mut client = server.client();
    order(&mut client, "A1", 1, "till-7");
    order(&mut client, "A1", 1, "\"till-7\"");
    order(&mut client, "A1", 1, "  \"till-7\"  ");
    assert_eq!(server.total("A1"), 4);
    // Escapes of RFC 8941, section 3.3.3: the key is what they stand for.
    order(&mut client, "A1", 1, "\"a\\\"b\\\\c\"");
    order(&mut client, "A1", 1, "a\"b\\c");
    // Keys are case-sensitive.
    order(&mut client, "A1", 1, "TILL-7");
    let log = order_log::read_whole(server.addr(), &[("A1", 3)]);
    let keys: Vec<&str> = log.iter().filter_map(|line| line.key.as_deref()).collect();
    assert_eq!(keys, ["till-7", "a\"b\\c", "TILL-7"]);
}

#[test]
fn keys_have_1_to_255_bytes() {
    let server = Server::start();
    let mut client = server.client();
    let longest = "k".repeat(255);
    order(&mut client, "A1", 1, &longest);
    order(&mut client, "A1", 1, &format!("\"{longest}\""));
    order(&mut client, "A1", 1, "k");
    assert_eq!(server.total("A1"), 5);
    let too_long = "k".repeat(256);
    for wrong in ["", "\"\"", "\"", "\"open", "\"a\"b", "\"a\" \"b\"", "\"a\\n\"", "\"a\\", "\"a\";p=1", &too_long] {
        let detail = try_order(&mut client, "A1", 1, wrong).problem(400);
        assert!(detail.contains("Idempotency-Key"), "{wrong:?}: {detail}");
    }
    let detail = try_order(&mut client, "A1", 1, &format!("\"{too_long}\"")).problem(400);
    assert!(detail.contains("255"), "{detail}");
    // The length is in bytes, not in characters.
    let umlauts = "ü".repeat(127);
    order(&mut client, "A1", 1, &umlauts);
    try_order(&mut client, "A1", 1, &"ü".repeat(128)).problem(400);
    assert_eq!(server.total("A1"), 6);
}

#[test]
fn two_lines_with_keys_are_refused_even_when_they_agree() {
    let server = Server::start();
    let request = |keys: &str| {
        format!(
            "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{keys}\
             Content-Length: 12\r\n\r\n{{\"amount\":1}}"
        )
    };
    let twice = request("Idempotency-Key: a\r\nidempotency-key: a\r\n");
    exchange(server.addr(), twice).problem(400);
    let not_text = b"POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Idempotency-Key: \xff\r\nContent-Length: 12\r\n\r\n{\"amount\":1}";
    exchange(server.addr(), not_text).problem(400);
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn a_key_in_the_header_and_another_in_the_body_are_refused() {
    let server = Server::start();
    let mut client = server.client();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "\"a\"")];
    let reply = client.request("POST", "/orders/A1", &headers, b"{\"amount\":1,\"key\":\"b\"}");
    assert!(reply.problem(422).contains("Idempotency-Key"), "{reply:?}");
    assert_eq!(client.request("POST", "/orders/A1", &headers, b"{\"amount\":1,\"key\":\"a\"}").status, 200);
    assert_eq!(server.total("A1"), 4);
}

#[test]
fn a_refused_order_leaves_its_key_free() {
    let server = Server::start();
    let mut client = server.client();
    try_order(&mut client, "A1", 9_007_199_254_740_991, "k").problem(422);
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
    client.request("POST", "/orders/A1", &headers, b"{\"amount\":1.5}").problem(422);
    client.request("POST", "/orders/A1", &headers, b"{\"amount\":").problem(400);
    try_order(&mut client, "A9", 1, "k").problem(404);
    order(&mut client, "A2", 5, "k");
    assert_eq!([server.total("A1"), server.total("A2")], [3, 12]);
}

#[test]
fn a_key_counts_once_whether_it_comes_over_http_or_over_the_socket() {
    let server = Server::start();
    let mut socket = WebSocket::open(server.addr(), "/orders/confectionery");
    socket.text();
    let mut client = server.client();
    for _ in 0..2 {
        assert_eq!(add_order(&mut socket, "A1", 2, "k"), serde_json::json!({"ok": true, "key": "k"}));
        order(&mut client, "A1", 2, "k");
    }
    assert_eq!(server.total("A1"), 5);
    let answer = add_order(&mut socket, "A1", 3, "k");
    assert_eq!(answer["key"], "k", "{answer}");
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("key")), "{answer}");
    for wrong in ["", &"k".repeat(256)] {
        assert!(add_order(&mut socket, "A1", 1, wrong)["error"].is_string());
    }
    assert_eq!(server.total("A1"), 5);
}

#[test]
fn keys_survive_a_kill_and_an_end_in_order() {
    let mut server = Server::start();
    order(&mut server.client(), "A1", 10, "killed");
    server.restart();
    order(&mut server.client(), "A1", 10, "killed");
    order(&mut server.client(), "A1", 10, "ended");
    assert_eq!(server.terminate().code(), Some(0));
    server.restart();
    let mut client = server.client();
    order(&mut client, "A1", 10, "killed");
    order(&mut client, "A1", 10, "ended");
    try_order(&mut client, "A1", 11, "killed").problem(422);
    assert_eq!(server.total("A1"), 23);
}

/// Many clients send the same order at the same moment, so that some repeats are in the commit of the first one. In
/// each round one client sends another order under the same key: only one of the two orders may count.
#[test]
fn replays_at_the_same_moment_count_once() {
    const ROUNDS: usize = 30;
    const SENDERS: usize = 16;
    let server = Server::start();
    let addr = server.addr();
    let barrier = Barrier::new(SENDERS);
    let statuses: Vec<Vec<u16>> = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let barrier = &barrier;
                spawn(scope, move || {
                    let mut client = Client::connect(addr);
                    let amount = if sender == 0 { 1_000 } else { 1 };
                    let send = |round| {
                        barrier.wait();
                        try_order(&mut client, "A1", amount, &format!("k-{round}")).status
                    };
                    (0..ROUNDS).map(send).collect()
                })
            })
            .collect();
        senders.into_iter().map(|it| it.join().expect("every order is answered")).collect()
    });
    let log = order_log::read_whole(addr, &[("A1", 3)]);
    assert_eq!(log.len(), ROUNDS);
    for (round, line) in log.iter().enumerate() {
        assert_eq!(line.key, Some(format!("k-{round}")));
        for (sender, statuses) in statuses.iter().enumerate() {
            let agrees = (sender == 0) == (line.amount == 1_000);
            assert_eq!(statuses[round], if agrees { 200 } else { 422 }, "round {round}, sender {sender}");
        }
    }
}

#[test]
fn pipelined_replays_are_answered_in_order() {
    let server = Server::start();
    let request = |amount: i64| {
        format!(
            "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Idempotency-Key: \"k\"\r\nContent-Length: 12\r\n\r\n{{\"amount\":{amount}}}"
        )
    };
    let mut client = server.client();
    client.write([request(1), request(1), request(2), request(1)].concat());
    let statuses: Vec<u16> = (0..4).map(|_| client.reply().status).collect();
    assert_eq!(statuses, [200, 200, 422, 200]);
    assert_eq!(server.total("A1"), 4);
}

#[test]
fn a_web_page_may_send_keys() {
    let server = Server::start();
    let headers = [
        ("Origin", "http://localhost:9999"),
        ("Host", "localhost"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type, idempotency-key"),
    ];
    let preflight = server.client().request("OPTIONS", "/orders/A1", &headers, b"");
    assert!(preflight.lists("access-control-allow-headers", "Idempotency-Key"), "{preflight:?}");
    // Responses to requests with an `Origin` take another path through the server.
    let headers = [
        ("Origin", "http://localhost:9999"),
        ("Host", "localhost"),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "k"),
    ];
    for _ in 0..2 {
        let reply = server.client().request("POST", "/orders/A1", &headers, b"{\"amount\":1}");
        assert_eq!((reply.status, reply.text()), (200, OK));
        assert_eq!(reply.header("access-control-allow-origin"), Some("http://localhost:9999"));
    }
    assert_eq!(server.total("A1"), 4);
}

#[test]
fn how_long_keys_are_kept_is_checked_at_the_start() {
    let folder = TempDir::new();
    for wrong in ["0", "-1", "1.5", "x", "8785"] {
        let run = ordercast(folder.path(), &["--keep-keys", wrong], &[]);
        assert_eq!(run.code, Some(2), "{wrong}: {run:?}");
        assert!(run.stderr.contains("--keep-keys") && run.stderr.contains("hours"), "{run:?}");
    }
    let server = Server::builder().arg("--keep-keys").arg("1").start();
    order(&mut server.client(), "A1", 1, "k");
    order(&mut server.client(), "A1", 1, "k");
    assert_eq!(server.total("A1"), 4);
}

/// Sends a batch of orders over 1 for A1, each with a key. An empty key is left out.
fn try_batch(client: &mut Client, keys: &[&str], own_key: Option<&str>) -> Reply {
    let key = |key: &&str| if key.is_empty() { String::new() } else { format!(",\"key\":\"{key}\"") };
    let lines: String = keys.iter().map(|it| format!("{{\"id\":\"A1\",\"amount\":1{}}}\n", key(it))).collect();
    let mut headers = vec![("Content-Type", "application/x-ndjson")];
    headers.extend(own_key.map(|key| ("Idempotency-Key", key)));
    client.request("POST", "/orders", &headers, lines.as_bytes())
}

#[test]
fn at_the_cap_of_keys_new_ones_are_refused_and_everything_else_goes_on() {
    let mut server = Server::builder().arg("--max-keys").arg("4").start();
    for is_again in [false, true] {
        let mut client = server.client();
        for key in ["a", "b", "c"] {
            order(&mut client, "A1", 1, key);
        }
        // Room for one: a batch that needs two is refused whole, whichever of its keys is one too many.
        if !is_again {
            let reply = try_batch(&mut client, &["d", "", "e"], None);
            assert!(reply.problem(507).contains("order 3: ") && reply.text().contains("--max-keys"), "{reply:?}");
            try_batch(&mut client, &["d"], Some("e")).problem(507);
            assert_eq!(try_batch(&mut client, &["", ""], Some("d")).status, 200);
            assert_eq!(server.total("A1"), 3 + 3 + 2);
        }
        let reply = try_order(&mut client, "A1", 1, "e");
        let detail = reply.problem(507);
        assert!(detail.contains("--max-keys") && detail.contains("without a key"), "{detail}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        try_batch(&mut client, &["a", "e"], None).problem(507);
        try_batch(&mut client, &["", ""], Some("e")).problem(507);
        let mut socket = WebSocket::open(server.addr(), "/orders/confectionery");
        let answer = add_order(&mut socket, "A1", 1, "e");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains("--max-keys")), "{answer}");

        // Repeats, and orders without a key.
        assert_eq!(try_batch(&mut client, &["a", "b"], None).status, 200);
        assert_eq!(try_batch(&mut client, &["", ""], Some("d")).status, 200);
        try_order(&mut client, "A1", 2, "a").problem(422);
        assert_eq!(client.get("/readyz").status, 200);
        assert_eq!(server.total("A1"), 3 + 3 + 2 + i64::from(is_again));
        client.order("A1", 1);
        wait_until(DEADLINE, "the log says so", || {
            server.log().contains("as many keys are stored as --max-keys allows")
        });
        server.restart();
    }
}
