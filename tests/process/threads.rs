//! The number of threads: connections share them one after another, and idle sessions take none.

use crate::common::{Client, DEADLINE, Server, WebSocket, wait_until};

/// More than the threads that wait for a connection.
const MANY: usize = 200;

#[test]
fn many_connections_at_a_time_leave_no_threads_behind() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..MANY).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/categories").status, 200);
    }
    assert_eq!(server.threads_named("connection"), MANY);
    drop(clients);
    wait_until(DEADLINE, "the threads end", || server.threads_named("connection") == 0);
}

#[test]
fn idle_sessions_take_no_threads_and_are_heard() {
    let server = Server::start();
    let mut sessions: Vec<WebSocket> =
        (0..MANY).map(|_| WebSocket::open(server.addr(), "/orders/electronics")).collect();
    wait_until(DEADLINE, "the sessions are idle", || server.threads_named("connection") <= 64);
    for session in &mut sessions {
        session.send("{}");
        while !session.text().contains("error") {}
    }
    wait_until(DEADLINE, "the sessions are idle again, and the threads end", || {
        server.threads_named("connection") == 0
    });
}
