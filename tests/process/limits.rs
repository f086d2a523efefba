//! Limits for one peer and for all: each is reached, the rejection says which limit it is, and the server goes on.

use crate::common::{Client, DEADLINE, Server, WebSocket, wait_until};
use std::io::Read;
use std::time::{Duration, Instant};

const ORDER_HEAD: &str = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

/// An order with the amount 1 in a body of `length` bytes.
fn padded_order(length: usize) -> String {
    let order = "{\"amount\":1}";
    format!("{}{order}", " ".repeat(length - order.len()))
}

/// A request with `count` headers, `Host` included.
fn with_headers(count: usize) -> String {
    let more: String = (1..count).map(|number| format!("X-{number}: 1\r\n")).collect();
    format!("GET /categories HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
}

/// A request with a head of `length` bytes.
fn with_head_of(length: usize) -> String {
    let start = "GET /categories HTTP/1.1\r\nHost: localhost\r\nX: ";
    format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
}

#[track_caller]
fn expect_still_serving(server: &Server) {
    let mut client = server.client();
    assert_eq!(client.get("/categories").status, 200);
    client.order("A1", 1);
}

#[test]
fn a_body_of_64_kib_is_taken_and_a_byte_more_is_not() {
    let server = Server::start();
    let mut client = server.client();
    let most = padded_order(64 * 1024);
    assert_eq!(client.post("/orders/A1", &most).text(), "{\"ok\":true}");
    let chunked = format!("{ORDER_HEAD}Transfer-Encoding: chunked\r\n\r\n10000\r\n{most}\r\n0\r\n\r\n");
    client.write(chunked);
    assert_eq!(client.reply().text(), "{\"ok\":true}");

    let more = padded_order(64 * 1024 + 1);
    client.post("/orders/A1", &more).problem(413);
    let mut client = server.client();
    let half = "x".repeat(0x8001);
    client.write(format!("{ORDER_HEAD}Transfer-Encoding: chunked\r\n\r\n8001\r\n{half}\r\n8000\r\n{half}"));
    let reply = client.reply();
    reply.problem(413);
    client.expect_close_after(&reply);
    assert_eq!(server.total("A1"), 5);
}

#[test]
fn an_endless_body_is_refused_and_costs_no_memory() {
    let server = Server::start();
    expect_still_serving(&server);
    let before = server.memory_kib();
    for framing in ["Content-Length: 100000000", "Transfer-Encoding: chunked"] {
        let mut client = server.client();
        client.write(format!("{ORDER_HEAD}{framing}\r\n\r\n"));
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // Until the server closes, at most 64 MiB.
        for _ in 0..1024 {
            if client.try_write(&chunk).is_err() {
                break;
            }
        }
        // The response may be lost, because the client goes on sending; the server must go on.
        if let Ok(reply) = client.try_reply(true) {
            reply.problem(413);
        }
    }
    let after = server.memory_kib();
    assert!(after < before + 8 * 1024, "from {before} to {after} KiB");
    expect_still_serving(&server);
}

#[test]
fn a_client_that_sends_a_large_body_whole_reads_why_it_was_refused() {
    let server = Server::start();
    for _ in 0..10 {
        let mut client = server.client();
        let reply = client.post("/orders/A1", padded_order(1_000_000));
        reply.problem(413);
    }
}

#[test]
fn a_head_may_have_16_kib_and_no_more() {
    let server = Server::start();
    let mut client = server.client();
    client.write(with_head_of(16 * 1024));
    assert_eq!(client.reply().status, 200);
    client.write(with_head_of(16 * 1024 + 1));
    let reply = client.reply();
    reply.problem(431);
    client.expect_close_after(&reply);

    let mut client = server.client();
    client.write(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000)));
    let reply = client.reply();
    assert!(matches!(reply.status, 414 | 431), "{reply:?}");
    reply.problem(reply.status);
}

#[test]
fn a_head_may_have_64_headers_and_no_more() {
    let server = Server::start();
    let mut client = server.client();
    client.write(with_headers(64));
    assert_eq!(client.reply().status, 200);
    client.write(with_headers(65));
    let reply = client.reply();
    reply.problem(431);
    client.expect_close_after(&reply);
}

#[test]
fn an_endless_head_is_refused_and_costs_no_memory() {
    let server = Server::start();
    expect_still_serving(&server);
    let before = server.memory_kib();
    for line in ["x".repeat(1024), "X: y\r\n".repeat(200), "\r\n".repeat(512)] {
        let mut client = server.client();
        client.write("GET /categories HTTP/1.1\r\nHost: localhost\r\nX: ");
        for _ in 0..64 * 1024 {
            if client.try_write(&line).is_err() {
                break;
            }
        }
    }
    let after = server.memory_kib();
    assert!(after < before + 8 * 1024, "from {before} to {after} KiB");
    expect_still_serving(&server);
}

#[test]
fn a_full_server_says_so_and_has_a_place_again_when_a_client_leaves() {
    let server = Server::builder().arg("--max-connections").arg("3").start();
    let mut first = server.client();
    assert_eq!(first.get("/categories").status, 200);
    let mut second = server.client();
    assert_eq!(second.get("/categories").status, 200);
    let mut third = WebSocket::open(server.addr(), "/orders/electronics");
    third.texts(2);
    for _ in 0..5 {
        let mut client = server.client();
        let reply = client.get("/categories");
        reply.problem(503);
        let wait: u32 = reply.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
        assert!((1..=60).contains(&wait), "{reply:?}");
        client.expect_close_after(&reply);
    }
    let refused = WebSocket::try_open(server.addr(), "/orders/electronics", &[]).expect_err("a refusal");
    refused.problem(503);

    // Open connections are not affected.
    first.order("A1", 1);
    assert_eq!(third.text(), "{\"id\":\"A1\",\"total\":4}");
    drop(second);
    wait_until(DEADLINE, "there is a free place", || server.client().get("/categories").status == 200);
    first.order("A1", 1);
}

/// Also if no other connection follows, which would make the server clean up.
#[test]
fn refused_connections_keep_no_descriptors() {
    let server = Server::builder().arg("--max-connections").arg("1").start();
    let mut only = server.client();
    only.order("A1", 1);
    let descriptors = server.descriptors();
    for _ in 0..20 {
        server.client().get("/categories").problem(503);
    }
    wait_until(DEADLINE, "descriptors are given back", || server.descriptors() <= descriptors);
    only.order("A1", 1);
}

#[test]
fn a_full_server_is_not_delayed_by_the_connections_it_refuses() {
    let server = Server::builder().arg("--max-connections").arg("1").start();
    let mut only = server.client();
    only.order("A1", 1);
    // None of these sends or reads anything.
    let silent: Vec<Client> = (0..50).map(|_| server.client()).collect();
    let start = Instant::now();
    server.client().get("/categories").problem(503);
    only.order("A1", 1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(silent);
    drop(only);
    wait_until(DEADLINE, "there is a free place", || server.client().get("/categories").status == 200);
}

#[test]
fn the_cap_follows_the_descriptors_there_are() {
    for (descriptors, least) in [(64, 0), (160, 32)] {
        let server = Server::builder().shell(&format!("ulimit -n {descriptors}")).start();
        hundreds_come_and_go(&server, least..descriptors);
        assert!(server.log().contains("the limit on open files (ulimit -n) allows"), "{}", server.log());
    }
}

#[test]
fn an_edge_leaves_descriptors_for_the_requests_that_it_passes_on() {
    let source = Server::start();
    let allowed = |server: &Server| {
        let log = server.log();
        let behind = log.split_once("(ulimit -n) allows ").expect("the cap is lowered").1;
        behind.split_once(' ').and_then(|(number, _)| number.parse::<u32>().ok()).expect("a number")
    };
    let alone = Server::builder().shell("ulimit -n 200").start();
    let edge = Server::builder().follow(source.addr()).shell("ulimit -n 200").start();
    assert_eq!(allowed(&alone) - allowed(&edge), 33);
    hundreds_come_and_go(&edge, 64..200);
}

/// Opens a hundred connections at once, three times, and checks that the number of served ones is in `expected`.
#[track_caller]
fn hundreds_come_and_go(server: &Server, expected: std::ops::Range<usize>) {
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..100).filter_map(|_| Client::try_connect(server.addr()).ok()).collect();
        let mut served = 0;
        for client in &mut clients {
            // Connections above the cap get 503.
            match client.try_request("GET", "/categories", &[], b"") {
                Ok(reply) if reply.status == 200 => served += 1,
                Ok(reply) => assert_eq!(reply.status, 503),
                Err(_) => {}
            }
        }
        assert!(expected.contains(&served), "{served} of {} served", clients.len());
        drop(clients);
        wait_until(DEADLINE, "the server takes orders again", || {
            let reply = server.client().try_post("/orders/A1", "{\"amount\":1}");
            reply.is_ok_and(|reply| reply.status == 200)
        });
    }
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let server = Server::start();
    expect_still_serving(&server);
    let (threads, descriptors) = (server.threads(), server.descriptors());
    let mut memory = Vec::new();
    for _ in 0..4 {
        for number in 0..500 {
            let mut client = server.client();
            match number % 5 {
                0 => client.order("A1", 1),
                1 => client.write("GET /"),
                2 => drop(client.get("/")),
                3 => drop(WebSocket::open(server.addr(), "/orders")),
                _ => {}
            }
        }
        wait_until(DEADLINE, "threads and descriptors are given back", || {
            server.threads() <= threads + 1 && server.descriptors() <= descriptors + 1
        });
        memory.push(server.memory_kib());
    }
    println!("memory after each round: {memory:?} KiB");
    // A leak of half a kilobyte for each connection would exceed this.
    assert!(memory[3] < memory[1] + 512, "{memory:?} KiB");
}

#[test]
fn products_are_limited_in_size_and_the_server_says_which_limit() {
    let server = Server::start();
    let mut client = server.client();
    let long = "x".repeat(3_000);
    for body in [
        format!("{{\"name\":\"{long}\",\"rrp\":\"1\",\"info\":\"\"}}"),
        format!("{{\"name\":\"Lamp\",\"rrp\":\"{long}\",\"info\":\"\"}}"),
        format!("{{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"{long}\"}}"),
    ] {
        let detail = client.post("/electronics", body).problem(422);
        assert!(detail.chars().any(|char| char.is_ascii_digit()), "{detail}");
    }
}

/// The list is longer than the socket buffers, which hold some megabytes for a client that does not read.
#[test]
fn a_long_list_is_in_memory_once_however_many_do_not_read_it() {
    const PRODUCTS: usize = 1_800;
    const CLIENTS: usize = 12;
    // In JSON a quote is two bytes long.
    let info = "\\\"".repeat(2_000);
    let products: Vec<String> = (1..=PRODUCTS)
        .map(|number| format!("{{\"id\":\"L{number}\",\"name\":\"x\",\"rrp\":\"1\",\"info\":\"{info}\"}}"))
        .collect();
    let list = products.join(",");
    let server = Server::builder().catalog(&format!("{{\"long\":{{\"prefix\":\"L\",\"products\":[{list}]}}}}")).start();
    server.client().order("L1", 1);
    let before = server.memory_kib();
    let silent: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = server.client();
            client.write("GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n");
            // Once the response has begun, the server has all of it in memory.
            client.stream().read_exact(&mut [0; 100]).expect("the server answers");
            client
        })
        .collect();
    let grown = server.memory_kib().saturating_sub(before);
    let list = list.len() as u64 / 1024;
    println!("{CLIENTS} clients that do not read a list of {list} KiB cost {grown} KiB");
    assert!(grown < 3 * list + 4 * 1024, "{CLIENTS} clients that do not read a list of {list} KiB cost {grown} KiB");
    drop(silent);
}

#[test]
fn control_characters_are_refused_in_a_product() {
    let server = Server::start();
    let mut client = server.client();
    for body in [
        "{\"name\":\"Desk\\u0001Lamp\"}",
        "{\"name\":\"Lamp\",\"rrp\":\"1\\n2\"}",
        "{\"name\":\"Lamp\",\"info\":\"\\u0000\"}",
    ] {
        let detail = client.post("/electronics", body).problem(422);
        assert!(detail.contains("control characters"), "{detail}");
    }
    assert_eq!(client.get("/electronics").json().as_array().expect("an array").len(), 2);
}
