//! Responses that are sent before the body has arrived. They reach a client that goes on sending, because the server
//! lingers: closing a socket with unread bytes would reset the connection and discard the response. Lingering is
//! bounded.

use crate::common::{Client, Server, wait_until};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

/// How long the server reads after an early response, and how much (`LINGER`, `LINGER_BYTES`).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;
/// Tolerance for a busy machine.
const SLACK: Duration = Duration::from_secs(4);
/// The pieces of a body that a client sends after the rejection: below both bounds.
const PIECES: usize = 20;
const PIECE_BYTES: usize = 32 * 1024;
const BETWEEN_PIECES: Duration = Duration::from_millis(20);

/// Requests that are answered after their head, and the status.
fn early() -> Vec<(String, u16)> {
    let head = |line: &str, media: &str, framing: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n{framing}\r\n\r\n")
    };
    let json = "application/json";
    let chunked = "Transfer-Encoding: chunked";
    vec![
        (head("POST /orders/nowhere", json, chunked), 404),
        (head("POST /nowhere", json, "Content-Length: 65536"), 404),
        (head("PUT /orders/A1", json, chunked), 405),
        (head("DELETE /electronics", json, "Content-Length: 65536"), 405),
        (head("POST /orders/A1", json, "Content-Length: 800000"), 413),
        (head("POST /orders/A1", json, "Content-Length: 99999999999999999999"), 413),
        (head("POST /orders/A1", "text/plain", chunked), 415),
        (head("POST /electronics", "text/plain", "Content-Length: 65536"), 415),
        (head("POST /orders/A1", json, "Transfer-Encoding: gzip"), 501),
        (head("GET /categories", json, chunked), 200),
    ]
}

/// A piece of an endless body; it is also a sequence of chunks.
fn piece() -> Vec<u8> {
    let mut piece = format!("{:x}\r\n", PIECE_BYTES - 8).into_bytes();
    piece.resize(PIECE_BYTES - 2, b'x');
    piece.extend(b"\r\n");
    piece
}

/// Sends a request that is answered early, and returns when the response begins.
#[track_caller]
fn begin(server: &Server, head: &str) -> Client {
    let mut client = server.client();
    client.write(head);
    // The response is not read yet. The server has sent it and shut down its sending side.
    client.stream().peek(&mut [0]).expect("the server answers early");
    client
}

#[test]
fn an_early_answer_reaches_a_client_that_sends_its_body_to_the_end_before_it_reads() {
    let server = Server::start();
    thread::scope(|scope| {
        for (head, status) in early() {
            let server = &server;
            scope.spawn(move || {
                let mut client = begin(server, &head);
                for _ in 0..PIECES {
                    let sent = client.try_write(piece());
                    assert!(sent.is_ok(), "the client was reset in the middle of its body: {sent:?}\n{head}");
                    thread::sleep(BETWEEN_PIECES);
                }
                client.finish();
                let reply = client.reply();
                assert_eq!(reply.status, status, "{head}");
                client.expect_close_after(&reply);
            });
        }
    });
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn a_client_that_never_stops_sending_slowly_is_dropped_when_the_time_is_over() {
    let server = Server::start();
    server.client().order("A1", 0);
    let (threads, descriptors) = (server.threads(), server.descriptors());
    thread::scope(|scope| {
        for (head, status) in early() {
            let server = &server;
            scope.spawn(move || {
                let mut client = begin(server, &head);
                let start = Instant::now();
                let mut heard = false;
                // The first piece after the close causes a reset, and the next one fails.
                while client.try_write(b"1\r\nx\r\n").is_ok() {
                    if !std::mem::replace(&mut heard, true) {
                        assert_eq!(client.reply().status, status, "{head}");
                    }
                    assert!(start.elapsed() < LINGER + SLACK, "still listened to after {:?}: {head}", start.elapsed());
                    thread::sleep(BETWEEN_PIECES);
                }
                let dropped = start.elapsed();
                assert!(dropped > LINGER / 2, "dropped already after {dropped:?}: {head}");
            });
        }
    });
    wait_until(SLACK, "threads and descriptors are given back", || {
        server.threads() <= threads && server.descriptors() <= descriptors
    });
}

#[test]
fn a_client_that_never_stops_sending_fast_is_dropped_when_it_has_sent_enough() {
    /// What the socket buffers on both sides may take before a write fails.
    const BUFFERS: usize = 16 * 1024 * 1024;
    let server = Server::start();
    for (head, status) in early() {
        let client = begin(&server, &head);
        let mut writer = client.stream().try_clone().expect("a second handle");
        let start = Instant::now();
        let mut sent = 0;
        while writer.write_all(&piece()).is_ok() {
            sent += PIECE_BYTES;
            assert!(sent < LINGER_BYTES + BUFFERS, "{sent} bytes are taken: {head}");
        }
        assert!(start.elapsed() < LINGER + SLACK, "only after {:?}: {head}", start.elapsed());
        // A client that did not read while it sent may have lost the response; if it has one, it is the right one.
        let mut client = client;
        if let Ok(reply) = client.try_reply(true) {
            assert_eq!(reply.status, status, "{head}");
        }
    }
    server.client().order("A1", 1);
}

#[test]
fn a_client_that_falls_silent_in_an_unwanted_body_is_dropped_when_the_time_is_over() {
    let server = Server::start();
    server.client().order("A1", 0);
    let (threads, descriptors) = (server.threads(), server.descriptors());
    let start = Instant::now();
    let clients: Vec<Client> = early().iter().map(|(head, _)| begin(&server, head)).collect();
    wait_until(LINGER + SLACK, "threads and descriptors are given back", || {
        server.threads() <= threads && server.descriptors() <= descriptors
    });
    assert!(start.elapsed() > LINGER / 2, "already after {:?}", start.elapsed());
    // A silent client still gets the response.
    for (mut client, (head, status)) in clients.into_iter().zip(early()) {
        let reply = client.reply();
        assert_eq!(reply.status, status, "{head}");
        client.expect_close_after(&reply);
    }
}

/// A byte that arrives after the last response, while the server closes, must not cause a reset.
#[test]
fn an_answer_that_ends_its_connection_arrives_whole_although_the_client_sends_on() {
    let server = Server::start();
    let order = format!("{{\"id\":\"A1\",\"amount\":1,\"key\":\"{}\"}}\n", "k".repeat(50));
    for batch in 0..2 {
        let lines: String = (0..500).map(|number| order.replacen("kkkk", &format!("{batch}-{number}-"), 1)).collect();
        let headers = [("Content-Type", "application/x-ndjson")];
        assert_eq!(server.client().request("POST", "/orders", &headers, lines.as_bytes()).status, 200);
    }
    let whole = server.client().get("/log").body.len();
    assert!(whole > 100_000, "{whole}");
    for wait in [0, 1, 5, 20] {
        let mut client = server.client();
        client.write("GET /log HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        thread::sleep(Duration::from_millis(wait));
        let _ = client.try_write("G");
        // A reset discards what is not read yet, so wait until it would have arrived.
        thread::sleep(Duration::from_millis(50));
        let reply = client.reply();
        assert_eq!(reply.body.len(), whole, "a byte after {wait} ms");
    }
}
