//! A full disk, simulated by a limit on the size of files: orders are rejected, only kept orders are counted, and the
//! server recovers when there is space again.

use crate::common::load::parse_total;
use crate::common::{DEADLINE, Server, WebSocket, wait_until};
use std::process::Command;

const ORDER: &str = "{\"amount\":1}";
/// Far more orders than fit into a megabyte.
const MOST_ORDERS: usize = 100_000;

/// A server that cannot write files larger than one or two megabytes (shells differ in the unit). SIGXFSZ is ignored,
/// so that writes beyond the limit fail as on a full disk.
fn server_with_little_room() -> Server {
    Server::builder().shell("trap '' XFSZ; ulimit -S -f 2048").start()
}

/// Posts until an order is rejected; returns the number of accepted orders.
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
        // Smaller writes may still fit; the totals must be those of the accepted orders.
        let reply = server.client().post("/orders/A1", ORDER);
        reply.problem(503);
    }
    let mut client = server.client();
    client.post("/electronics", "{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"\"}").problem(503);
    assert_eq!(client.get("/electronics").json().as_array().expect("an array").len(), 2);
    assert_eq!(server.total("A1"), 3 + taken);

    // Space again, without a restart.
    let raised = Command::new("prlimit").arg(format!("--pid={}", server.pid())).arg("--fsize=unlimited").status();
    assert!(raised.expect("prlimit runs").success());
    client.order("A1", 1);
    assert_eq!(server.total("A1"), 3 + taken + 1);

    // Subscribers have received every accepted order once, and no other.
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
        posters.into_iter().map(|poster| poster.join().expect("a rejection in the end")).sum()
    });
    assert_eq!(server.total("A1"), 3 + taken);
    server.restart();
    assert_eq!(server.total("A1"), 3 + taken);
}

/// By default, a write beyond the limit on file sizes ends the process with SIGXFSZ.
#[test]
fn the_limit_on_file_sizes_refuses_orders_and_does_not_end_the_server() {
    let mut server = Server::builder().shell("ulimit -S -f 1024").start();
    let taken = fill(&server);
    assert!(taken > 0);
    server.client().post("/orders/A1", ORDER).problem(503);
    assert!(server.is_running());
    assert_eq!(server.total("A1"), 3 + taken);
}

#[test]
fn a_full_disk_and_its_end_are_logged_once_a_minute() {
    let server = Server::builder().shell("trap '' XFSZ").start();
    let limit_files_to = |bytes: &str| {
        let limit = format!("--fsize={bytes}:");
        let status = Command::new("prlimit").args([&format!("--pid={}", server.pid()), &limit]).status();
        assert!(status.expect("prlimit runs").success());
    };
    let logged = |line: &str| server.log().matches(line).count();
    let mut client = server.client();
    for _ in 0..2 {
        client.order("A1", 1);
        limit_files_to("0");
        for _ in 0..3 {
            client.post("/orders/A1", ORDER).problem(503);
        }
        wait_until(DEADLINE, "it is logged", || logged("orders are rejected") > 0);
        limit_files_to("unlimited");
        for _ in 0..3 {
            client.order("A1", 1);
        }
        wait_until(DEADLINE, "its end is logged", || logged("orders are accepted again") > 0);
    }
    assert_eq!((logged("orders are rejected"), logged("orders are accepted again")), (1, 1), "{}", server.log());
}
