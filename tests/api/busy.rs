//! Clients that post order after order on one connection, and then something else. The server reads their requests in
//! another way than those of other clients, and has to answer them alike.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::websocket::WebSocket;
use crate::common::{Client, Server};

/// Enough orders to be a busy client.
const ORDERS: usize = 8;

/// A client that has just posted some orders of 1.
fn busy(client: &mut Client) {
    (0..ORDERS).for_each(|_| client.order("A1", 1));
}

fn order(body: &str) -> String {
    format!(
        "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn whatever_a_busy_client_sends_next_is_answered_as_from_any_other() {
    let server = Server::start();
    let mut client = server.client();
    let mut expected = 3;
    let mut go_on = |client: &mut Client, counted: i64| {
        busy(client);
        expected += counted + ORDERS as i64;
        assert_eq!(client.total("A1"), expected);
    };
    go_on(&mut client, 0);

    busy(&mut client);
    client.post("/orders/A1", "{\"amount\":1.5}").problem(422);
    go_on(&mut client, ORDERS as i64);

    busy(&mut client);
    client.post("/orders/NONE", "{\"amount\":1}").problem(404);
    go_on(&mut client, ORDERS as i64);

    busy(&mut client);
    assert_eq!(client.post("/orders", "[{\"id\":\"A1\",\"amount\":2}]").status, 200);
    go_on(&mut client, ORDERS as i64 + 2);

    busy(&mut client);
    client.request("DELETE", "/orders/A1", &[], b"").problem(405);
    go_on(&mut client, ORDERS as i64);

    busy(&mut client);
    assert_eq!(client.request("POST", "/orders/A1", &[("Transfer-Encoding", "chunked")], b"").status, 415);
}

#[test]
fn requests_of_a_busy_client_may_come_in_pieces_and_together() {
    let server = Server::start();
    let mut client = server.client();
    busy(&mut client);
    let request = order("{\"amount\":10}");
    for piece in [&request[..20], &request[20..70], &request[70..request.len() - 3], &request[request.len() - 3..]] {
        client.write(piece);
        // So that the pieces are most likely read one by one; the answer is the same if they are not.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.reply().text(), "{\"ok\":true}");
    busy(&mut client);
    client.write(order("{\"amount\":100}") + &order("{\"amount\":\"x\"}") + &order("{\"amount\":1000}"));
    assert_eq!(client.reply().status, 200);
    client.reply().problem(422);
    assert_eq!(client.reply().status, 200);
    busy(&mut client);
    let chunked = order("").replace("Content-Length: 0", "Transfer-Encoding: chunked");
    client.write(format!("{chunked}d\r\n{{\"amount\":10}}\r\n0\r\n\r\n"));
    assert_eq!(client.reply().status, 200);
    busy(&mut client);
    client.write(order("{\"amount\":1}").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let last = client.reply();
    assert_eq!(last.status, 200);
    client.expect_close_after(&last);
    assert_eq!(server.total("A1"), 3 + 4 * ORDERS as i64 + 10 + 100 + 1_000 + 10 + 1);
}

#[test]
fn a_busy_client_may_pause_and_go_on() {
    let server = Server::start();
    let mut client = server.client();
    for _ in 0..2 {
        busy(&mut client);
        // Longer than a client that pauses counts as busy.
        thread::sleep(Duration::from_millis(1_200));
    }
    busy(&mut client);
    assert_eq!(client.total("A1"), 3 + 3 * ORDERS as i64);
}

#[test]
fn a_busy_client_can_become_a_subscriber() {
    let server = Server::start();
    let mut client = server.client();
    busy(&mut client);
    let mut socket = WebSocket::try_upgrade(client, "/orders/electronics").expect("it is upgraded");
    assert_eq!(socket.text(), format!("{{\"id\":\"A1\",\"total\":{}}}", 3 + ORDERS));
}

#[test]
fn a_server_ends_soon_although_clients_are_busy_or_have_just_been() {
    let mut server = Server::start();
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    clients.iter_mut().for_each(busy);
    // The last requests are under way.
    for client in &mut clients[..10] {
        client.write(order("{\"amount\":1}"));
    }
    assert!(server.terminate().success());
    let answered = clients[..10].iter_mut().filter_map(|client| client.try_reply(true).ok());
    let counted = answered.filter(|reply| reply.status == 200).count();
    server.restart();
    let total = server.total("A1") - 3 - 20 * ORDERS as i64;
    assert_eq!(total, counted as i64, "counted are those that were answered, and no others");
}

#[test]
fn a_busy_client_that_leaves_in_the_middle_of_a_request_holds_up_nobody() {
    let server = Server::start();
    let mut other = server.client();
    for sent in [1, 30, 90] {
        let mut client = server.client();
        busy(&mut client);
        client.write(&order("{\"amount\":1}")[..sent]);
        drop(client);
        busy(&mut other);
    }
    assert_eq!(server.total("A1"), 3 + 6 * ORDERS as i64);
}

/// The ledger thread, which reads the orders of busy clients, is asked whether it is ready.
#[test]
fn a_busy_client_that_asks_for_readiness_waits_for_nothing_and_holds_up_nobody() {
    const ROUNDS: usize = 20;
    /// A ledger thread that asked itself would wait for a second in each round.
    const SOON: Duration = Duration::from_secs(ROUNDS as u64 / 2);
    let server = Server::start();
    let mut client = server.client();
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        busy(&mut client);
        assert_eq!(client.get("/readyz").status, 200);
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn a_busy_client_that_ends_its_side_is_answered_and_closed() {
    let server = Server::start();
    let mut client = server.client();
    busy(&mut client);
    client.write(order("{\"amount\":1}"));
    client.finish();
    assert_eq!(client.reply().status, 200);
    assert!(client.is_closed_within(Duration::from_secs(10)));
}
