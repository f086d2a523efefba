//! The number of threads: connections share them one after another, and idle sessions take none.

use crate::common::{Client, DEADLINE, Server, WebSocket, wait_until};
use std::time::{Duration, Instant};

/// More than the threads that wait for a connection.
const MANY: usize = 200;
/// What the end of a server without clients may take. A thread that waits for a connection does so for 2 s.
const QUICK: Duration = Duration::from_millis(1_500);

#[test]
fn many_connections_at_a_time_leave_no_threads_behind() {
    let server = Server::start();
    let before = server.threads();
    let mut clients: Vec<Client> = (0..MANY).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/categories").status, 200);
    }
    assert!(server.threads() >= MANY as u64);
    drop(clients);
    wait_until(DEADLINE, "the threads end", || server.threads() <= before);
}

#[test]
fn idle_sessions_take_no_threads_and_are_heard() {
    let server = Server::start();
    let before = server.threads();
    let mut sessions: Vec<WebSocket> =
        (0..MANY).map(|_| WebSocket::open(server.addr(), "/orders/electronics")).collect();
    wait_until(DEADLINE, "the sessions are idle", || server.threads() <= before + 64);
    for session in &mut sessions {
        session.send("{}");
        while !session.text().contains("error") {}
    }
    wait_until(DEADLINE, "the sessions are idle again, and the threads end", || server.threads() <= before);
}

#[test]
fn the_end_does_not_wait_for_threads_that_are_free() {
    let mut server = Server::start();
    for _ in 0..10 {
        assert_eq!(server.client().get("/categories").status, 200);
    }
    let begun = Instant::now();
    assert!(server.terminate().success());
    assert!(begun.elapsed() < QUICK, "{:?}", begun.elapsed());
}
