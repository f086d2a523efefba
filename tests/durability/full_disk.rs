//! A disk that takes no more: orders are refused, nothing is counted that is not kept, and the server recovers when
//! there is room again. A limit on the size of files stands for the full disk.

use crate::common::load::parse_total;
use crate::common::{Server, WebSocket};
use std::process::Command;

const ORDER: &str = "{\"amount\":1}";
/// Far more orders than a megabyte has room for.
const MOST_ORDERS: usize = 100_000;

/// A server that cannot make a file larger than one or two megabytes (the shell's unit differs). The signal that comes
/// with the limit is ignored, so that writes fail as on a full disk.
fn server_with_little_room() -> Server {
    Server::builder().shell("trap '' XFSZ; ulimit -S -f 2048").start()
}

/// Posts until an order is refused; returns how many were taken.
#[track_caller]
fn fill(server: &Server) -> i64 {
    let mut client = server.client();
    for taken in 0..MOST_ORDERS {
        let reply = client.post("/orders/A1", ORDER);
        if reply.status != 200 {
            reply.problem(503);
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            return taken as i64;
        }
    }
    panic!("{MOST_ORDERS} orders fit into a megabyte");
}

#[test]
fn orders_are_refused_while_the_disk_is_full_and_taken_when_it_is_not() {
    let mut server = server_with_little_room();
    let mut feed = WebSocket::open(server.addr(), "/orders/electronics");
    feed.texts(2);
    let taken = fill(&server);
    assert!(taken > 0);
    for _ in 0..20 {
        // Smaller writes may still fit; what counts is that the totals are those of the orders taken.
        let reply = server.client().post("/orders/A1", ORDER);
        reply.problem(503);
    }
    let mut client = server.client();
    client.post("/electronics", "{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"\"}").problem(503);
    assert_eq!(client.get("/electronics").json().as_array().expect("an array").len(), 2);
    assert_eq!(server.total("A1"), 3 + taken);

    // Room again, without a restart.
    let raised = Command::new("prlimit").arg(format!("--pid={}", server.pid())).arg("--fsize=unlimited").status();
    assert!(raised.expect("prlimit runs").success());
    client.order("A1", 1);
    assert_eq!(server.total("A1"), 3 + taken + 1);

    // Subscribers have seen the orders that were taken, each once, and no other.
    for expected in 1..=taken + 1 {
        assert_eq!(parse_total(feed.text().as_bytes()), Some(("A1", 3 + expected)));
    }
    feed.expect_nothing_but_a_pong();
    server.restart();
    assert_eq!(server.total("A1"), 3 + taken + 1);
}

#[test]
fn a_server_killed_while_its_disk_is_full_has_every_answered_order() {
    let mut server = server_with_little_room();
    let taken: i64 = std::thread::scope(|scope| {
        let posters: Vec<_> = (0..6).map(|_| scope.spawn(|| fill(&server))).collect();
        posters.into_iter().map(|poster| poster.join().expect("a refusal at last")).sum()
    });
    assert_eq!(server.total("A1"), 3 + taken);
    server.restart();
    assert_eq!(server.total("A1"), 3 + taken);
}

/// A write beyond the limit on file sizes comes with a signal that ends a process which does not expect it.
#[test]
fn the_limit_on_file_sizes_refuses_orders_and_does_not_end_the_server() {
    let mut server = Server::builder().shell("ulimit -S -f 1024").start();
    let taken = fill(&server);
    assert!(taken > 0);
    server.client().post("/orders/A1", ORDER).problem(503);
    assert!(server.is_running());
    assert_eq!(server.total("A1"), 3 + taken);
}
