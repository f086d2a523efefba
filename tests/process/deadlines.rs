//! Deadlines: no client holds a thread without one. These tests take as long as the deadlines.

use crate::common::websocket::{PONG, frame};
use crate::common::{Message, Server, WebSocket, wait_until};
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

const HEAD: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(25);
const PONG_WAIT: Duration = Duration::from_secs(10);
/// Tolerance for a busy machine.
const SLACK: Duration = Duration::from_secs(6);

/// Sends a little every half second until the server has answered, then checks when and how it did.
#[track_caller]
fn drip(server: &Server, start: &str, little: &str, deadline: Duration) {
    let mut client = server.client();
    let began = Instant::now();
    client.write(start);
    let mut writer = client.stream().try_clone().expect("a second handle");
    let reply = thread::scope(|scope| {
        let reply = scope.spawn(|| {
            client.stream().set_read_timeout(Some(deadline + SLACK)).expect("a deadline can be set");
            let reply = client.reply();
            (reply, began.elapsed())
        });
        while !reply.is_finished() {
            let _ = std::io::Write::write_all(&mut writer, little.as_bytes());
            thread::sleep(Duration::from_millis(500));
        }
        reply.join().expect("the server answers in time")
    });
    let (reply, elapsed) = reply;
    reply.problem(408);
    assert!(elapsed > deadline - Duration::from_secs(1), "already after {elapsed:?}");
    client.expect_close_after(&reply);
}

#[test]
fn requests_that_come_byte_by_byte_for_ever_are_answered_408() {
    let server = Server::start();
    let head = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    thread::scope(|scope| {
        scope.spawn(|| drip(&server, "GET /categories HTTP/1.1\r\nHost: localhost\r\nX: ", "x", HEAD));
        scope.spawn(|| drip(&server, "GET /categories HTTP/1.1\r\nHost: localhost\r\n", "", HEAD));
        scope.spawn(|| drip(&server, &format!("{head}Content-Length: 500\r\n\r\n"), " ", BODY));
        scope.spawn(|| drip(&server, &format!("{head}Content-Length: 500\r\n\r\n"), "", BODY));
        scope.spawn(|| drip(&server, &format!("{head}Transfer-Encoding: chunked\r\n\r\n"), "1\r\nx\r\n", BODY));
    });
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn the_first_head_is_due_from_the_connection_on_however_late_it_begins() {
    const LATE: Duration = Duration::from_secs(8);
    let server = Server::start();
    let began = Instant::now();
    let mut client = server.client();
    thread::sleep(LATE);
    client.write("GET /categories HTTP/1.1\r\nHost: loc");
    let reply = client.reply();
    reply.problem(408);
    let elapsed = began.elapsed();
    assert!(elapsed > HEAD - Duration::from_secs(1), "already after {elapsed:?}");
    assert!(elapsed < HEAD + SLACK, "only after {elapsed:?}");
}

#[test]
fn many_half_heads_hold_up_nobody_and_are_all_gone_after_the_deadline() {
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", 1);
    let threads = server.threads();
    let held: Vec<_> = (0..200)
        .map(|_| {
            let mut client = server.client();
            client.write("GET /categories HTTP/1.1\r\nHost: loc");
            client
        })
        .collect();
    let start = Instant::now();
    client.order("A1", 1);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    wait_until(HEAD + SLACK, "their threads have ended", || server.threads() <= threads);
    drop(held);
}

#[test]
fn a_client_that_does_not_read_does_not_hold_a_thread_for_ever() {
    let server = Server::start();
    server.client().order("A1", 1);
    let threads = server.threads();
    let mut client = server.client();
    // Megabytes of responses that the client does not read: the server stops reading, and closes after the deadline.
    client.stream().set_write_timeout(Some(Duration::from_secs(2))).expect("a deadline can be set");
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20_000);
    let _ = client.try_write(requests);
    wait_until(Duration::from_secs(10) + SLACK, "the connection's thread has ended", || server.threads() <= threads);
}

#[test]
fn a_silent_subscriber_is_pinged_and_dropped_when_it_does_not_answer() {
    let server = Server::start();
    let mut alive = WebSocket::open(server.addr(), "/orders/confectionery");
    let mut dead = WebSocket::open(server.addr(), "/orders/confectionery");
    alive.texts(1);
    dead.texts(1);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let ping = alive.next_within(SILENCE + SLACK).expect("a ping");
            let Message::Ping(payload) = ping else { panic!("not a ping: {ping:?}") };
            assert!(start.elapsed() > SILENCE - Duration::from_secs(2), "already after {:?}", start.elapsed());
            alive.send_raw(&frame(PONG, true, &payload));
            // A subscriber that has answered is not closed: nothing comes before the next ping is due.
            let error = alive.next_within(PONG_WAIT + Duration::from_secs(2)).expect_err("nothing comes");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        });
        scope.spawn(|| {
            let ping = dead.next_within(SILENCE + SLACK).expect("a ping");
            assert!(matches!(ping, Message::Ping(_)), "not a ping: {ping:?}");
            // A close frame may come before the end, or not.
            while let Ok(message) = dead.next_within(PONG_WAIT + SLACK) {
                assert!(matches!(message, Message::Close(..)), "{message:?}");
            }
            let elapsed = start.elapsed();
            assert!(elapsed < SILENCE + PONG_WAIT + SLACK, "only after {elapsed:?}");
            assert!(elapsed > SILENCE + PONG_WAIT - Duration::from_secs(3), "already after {elapsed:?}");
        });
    });
    server.client().order("B1", 1);
    assert_eq!(alive.text(), "{\"id\":\"B1\",\"total\":102}");
}
