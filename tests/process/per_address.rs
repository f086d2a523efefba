//! The cap on connections from one client address: connections above it are rejected, and other addresses are not
//! affected. The other address is the IPv6 loopback, because std cannot choose the address that it connects from.

use crate::common::load::spawn;
use crate::common::websocket::close_frame;
use crate::common::{Client, DEADLINE, Server, TempDir, WebSocket, ordercast, skip, wait_until};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

const CAP: usize = 3;

/// A server on both loopback addresses with this cap; `None` without IPv6.
fn server(cap: usize) -> Option<(Server, SocketAddr, SocketAddr)> {
    if TcpListener::bind("[::1]:0").is_err() {
        skip("this machine has no IPv6, so there is only one client address", false);
        return None;
    }
    let server = Server::builder().listen("127.0.0.1:0").listen("[::1]:0");
    let server = server.arg("--max-connections-per-ip").arg(cap.to_string()).start();
    let (crowd, other) = (server.addrs()[0], server.addrs()[1]);
    Some((server, crowd, other))
}

/// A connection within the cap, which has been answered once.
#[track_caller]
fn enter(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    let reply = client.get("/categories");
    assert_eq!(reply.status, 200, "{reply:?}");
    client
}

/// Checks that one more connection gets 503 with `Retry-After`.
#[track_caller]
fn expect_full(addr: SocketAddr) {
    let mut client = Client::connect(addr);
    let reply = client.get("/categories");
    assert!(reply.problem(503).contains("address"), "{reply:?}");
    let wait: u32 = reply.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
    assert!((1..=60).contains(&wait), "{reply:?}");
    client.expect_close_after(&reply);
}

/// Checks that exactly `cap` connections get in, once the server has noticed which connections have ended.
#[track_caller]
fn expect_exactly(cap: usize, addr: SocketAddr) {
    let mut inside: Vec<Client> = Vec::new();
    wait_until(DEADLINE, "as many connections as the cap allows get in", || {
        let mut client = Client::connect(addr);
        if client.try_request("GET", "/categories", &[], b"").is_ok_and(|reply| reply.status == 200) {
            inside.push(client);
        }
        inside.len() == cap
    });
    expect_full(addr);
    for client in &mut inside {
        assert_eq!(client.get("/categories").status, 200);
    }
}

#[test]
fn an_address_that_has_all_its_connections_is_told_so_and_the_others_are_served() {
    let Some((server, crowd, other)) = server(CAP) else { return };
    let mut early = enter(other);
    let mut first = enter(crowd);
    let mut session = WebSocket::open(crowd, "/orders/electronics");
    session.texts(2);
    // A silent connection counts too.
    let mut silent = Client::connect(crowd);
    silent.write("GET /cat");
    wait_until(DEADLINE, "the silent connection is counted", || {
        let reply = Client::connect(crowd).try_request("GET", "/categories", &[], b"");
        reply.is_ok_and(|reply| reply.status == 503)
    });
    for _ in 0..20 {
        expect_full(crowd);
    }
    let refused = WebSocket::try_open(crowd, "/orders", &[]).expect_err("a refusal");
    assert!(refused.problem(503).contains("address"));

    // Open connections are not affected, nor are old and new ones from the other address.
    let mut board = WebSocket::open(other, "/orders/electronics");
    board.texts(2);
    early.order("A1", 1);
    first.order("A1", 1);
    enter(other).order("A1", 1);
    for total in 4..=6 {
        let total = format!("{{\"id\":\"A1\",\"total\":{total}}}");
        assert_eq!((session.text(), board.text()), (total.clone(), total));
    }
    silent.write("egories HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(silent.reply().status, 200);
    drop(server);
}

#[test]
fn a_place_is_free_again_however_it_was_left() {
    let Some((server, crowd, other)) = server(CAP) else { return };
    let both = [enter(crowd), enter(other)];
    // Both listeners have answered, so all of the server's own threads run.
    let nobody = server.threads() - both.len() as u64;
    drop(both);
    let leave: [fn(SocketAddr); 8] = [
        |addr| drop(enter(addr)),
        // Closing with unread input resets the connection.
        |addr| {
            let mut client = enter(addr);
            client.write("GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let _ = client.stream().peek(&mut [0]);
        },
        |addr| Client::connect(addr).write("GET /"),
        |addr| {
            let reply = Client::connect(addr).request("GET", "/categories", &[("Connection", "close")], b"");
            assert_eq!(reply.status, 200);
        },
        |addr| {
            let mut client = Client::connect(addr);
            client.write("no request\r\n\r\n");
            client.reply().problem(400);
        },
        |addr| drop(WebSocket::open(addr, "/orders")),
        |addr| {
            let mut session = WebSocket::open(addr, "/orders");
            session.send_raw(&close_frame(1000));
            assert_eq!(session.close_code(), Some(1000));
        },
        |addr| {
            let mut session = WebSocket::open(addr, "/orders");
            session.send_raw(&[0x81, 0x02, b'h', b'i']);
            assert_eq!(session.close_code(), Some(1002));
        },
    ];
    for (number, leave) in leave.iter().enumerate() {
        // If a place is not freed, `expect_exactly` fails.
        for _ in 0..CAP {
            leave(crowd);
            wait_until(DEADLINE, "the server notices the end of the connection", || server.threads() == nobody);
        }
        println!("ended in way {number}");
        expect_exactly(CAP, crowd);
        wait_until(DEADLINE, "the server notices the end of the connection", || server.threads() == nobody);
    }
}

#[test]
fn the_count_is_right_after_thousands_have_come_and_gone_or_been_refused() {
    const CROWD: usize = 8;
    const EACH: usize = 250;
    const CAP: usize = 5;
    let Some((server, crowd, other)) = server(CAP) else { return };
    let mut regular = enter(other);
    thread::scope(|scope| {
        for _ in 0..CROWD {
            spawn(scope, || {
                for number in 0..EACH {
                    let Ok(mut client) = Client::try_connect(crowd) else { continue };
                    match number % 3 {
                        0 => drop(client.try_request("GET", "/categories", &[], b"")),
                        1 => client.write("GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                        _ => {}
                    }
                }
            });
        }
        // The other address is served all the time.
        for _ in 0..50 {
            regular.order("A1", 1);
            wait_until(DEADLINE, "a new connection is served, once the ended ones are noticed", || {
                let reply = Client::connect(other).try_request("GET", "/categories", &[], b"");
                reply.is_ok_and(|reply| reply.status == 200)
            });
        }
    });
    expect_exactly(CAP, crowd);
    assert_eq!(regular.total("A1"), 53);
    drop(server);
}

#[test]
fn an_address_counts_once_over_all_that_the_server_listens_on() {
    let server = Server::builder().listen("127.0.0.1:0").listen("127.0.0.1:0");
    let server = server.arg("--max-connections-per-ip").arg("2").start();
    let (first, second) = (server.addrs()[0], server.addrs()[1]);
    let inside = (enter(first), enter(second));
    expect_full(first);
    expect_full(second);
    drop(inside.0);
    wait_until(DEADLINE, "there is a free place", || {
        let reply = Client::connect(second).try_request("GET", "/categories", &[], b"");
        reply.is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn many_silent_connections_delay_neither_refusals_nor_other_addresses() {
    let Some((_server, crowd, other)) = server(1) else { return };
    let mut only = enter(crowd);
    let silent: Vec<Client> = (0..100).map(|_| Client::connect(crowd)).collect();
    let start = Instant::now();
    expect_full(crowd);
    only.order("A1", 1);
    enter(other).order("A1", 1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(silent);
}

#[test]
fn a_cap_of_zero_or_no_number_is_refused() {
    let folder = TempDir::new();
    for cap in ["0", "-1", "many", ""] {
        let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--max-connections-per-ip", cap], &[]);
        assert_eq!(run.code, Some(2), "{cap}: {run:?}");
        assert!(run.stderr.contains("--max-connections-per-ip"), "{cap}: {run:?}");
    }
}
