//! How event streams end, and their heartbeat.

use crate::common::load::{pipeline_orders, turn};
use crate::common::{Positional, Server, wait_until};
use crate::events::open;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const ELECTRONICS: &str = "/orders/electronics";

#[test]
fn the_end_of_the_server_ends_a_stream_with_its_last_totals() {
    let _turn = turn();
    let mut server = Server::start();
    let mut streams: Vec<Positional> = (0..10).map(|_| open(&server, ELECTRONICS, None)).collect();
    streams.iter_mut().for_each(|stream| assert_eq!(stream.take(2)[1].total, 7));
    let mut client = server.client();
    for _ in 0..50 {
        client.order("A1", 1);
    }
    let start = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "only after {:?}", start.elapsed());
    let mut last = None;
    for stream in &mut streams {
        let steps = stream.rest();
        assert_eq!(steps.len(), 50);
        assert_eq!(steps.last().map(|step| step.total), Some(53));
        assert_eq!(stream.comments, [": the server is shutting down"]);
        last = steps.last().and_then(|step| step.position.clone());
    }
    // The stream resumes from its last position when the server runs again.
    server.restart();
    let mut again = open(&server, ELECTRONICS, last.as_deref());
    server.client().order("A2", 1);
    assert_eq!(again.next().pair(), ("A2".to_owned(), 8));
}

#[test]
fn a_stream_that_is_not_read_does_not_delay_the_end_of_the_server() {
    let _turn = turn();
    let mut server = Server::start();
    server.client().order("A1", 1_000_000_000_000_000);
    let _silent: Vec<Positional> = (0..5).map(|_| open(&server, ELECTRONICS, None)).collect();
    pipeline_orders(server.addr(), 20, 1_500);
    let start = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    // 5 s to drain; the rest is for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(9), "only after {:?}", start.elapsed());
}

/// One test for what takes long: a silent stream gets a heartbeat after 25 s, and meanwhile clients that never read are
/// closed.
#[test]
fn a_silent_stream_has_a_heartbeat_and_clients_that_never_read_are_closed() {
    let server = Server::start();
    let mut quiet = open(&server, "/orders/confectionery", None);
    quiet.take(1);
    let opened = Instant::now();
    server.client().order("A1", 1_000_000_000_000_000);
    // The history thread opens the data file at its first request, which would change the number of descriptors later.
    assert_eq!(server.client().get("/log").status, 200);
    let descriptors = server.descriptors();
    let silent: Vec<Positional> = (0..10).map(|_| open(&server, ELECTRONICS, None)).collect();
    pipeline_orders(server.addr(), 20, 2_500);
    wait_until(Duration::from_secs(30), "clients that never read are closed", || server.descriptors() <= descriptors);
    drop(silent);

    let error = quiet.next_within(Duration::from_secs(40).saturating_sub(opened.elapsed())).expect_err("no order");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "the stream goes on: {error}");
    assert_eq!(quiet.comments, [":"], "one heartbeat in 40 s");
    // A heartbeat is not an event, and the stream continues.
    server.client().order("B1", 1);
    assert_eq!(quiet.next().pair(), ("B1".to_owned(), 102));
}
