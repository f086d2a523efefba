//! Signals while sessions send orders, while a body is incomplete, and while the server is idle.

use crate::common::load::{spawn, turn};
use crate::common::websocket::close_frame;
use crate::common::{DEADLINE, Message, Server, WebSocket, wait_until};
use std::fs;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long shutdown may take if every client answers the close frame; the server would wait a little longer for
/// others.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn sessions_that_send_orders_while_the_server_stops_are_answered_or_closed_without_delay() {
    let _turn = turn();
    const ROUNDS: usize = 5;
    const SESSIONS: usize = 40;
    /// The number of messages that a session may send at once.
    const ORDERS: usize = 20;
    for _ in 0..ROUNDS {
        let mut server = Server::start();
        let sessions: Vec<WebSocket> =
            (0..SESSIONS).map(|_| WebSocket::open(server.addr(), "/orders/confectionery")).collect();
        let (sent, taken) = (AtomicI64::new(0), AtomicI64::new(0));
        let ended_after = thread::scope(|scope| {
            for (number, mut session) in sessions.into_iter().enumerate() {
                let (sent, taken) = (&sent, &taken);
                spawn(scope, move || {
                    session.texts(1);
                    for order in 0..ORDERS {
                        sent.fetch_add(1, Ordering::Relaxed);
                        let key = format!("{number}-{order}");
                        session.send(&format!(
                            "{{\"cmd\":\"add-order\",\"payload\":{{\"id\":\"A1\",\"amount\":1,\"key\":\"{key}\"}}}}"
                        ));
                        match session.next() {
                            Message::Text(text) if text == format!("{{\"ok\":true,\"key\":\"{key}\"}}") => {
                                taken.fetch_add(1, Ordering::Relaxed);
                            }
                            Message::Text(text) => assert!(text.contains("shutting down"), "{text}"),
                            Message::Close(code, _) => return farewell(session, code),
                            other => panic!("neither an answer nor a close frame: {other:?}"),
                        }
                    }
                    let code = session.close_code();
                    farewell(session, code);
                });
            }
            wait_until(DEADLINE, "orders are taken", || taken.load(Ordering::Relaxed) > 0);
            let start = Instant::now();
            assert_eq!(server.terminate().code(), Some(0));
            start.elapsed()
        });
        assert!(ended_after < PROMPT, "only after {ended_after:?}");
        server.restart();
        let kept = server.total("A1") - 3;
        let (sent, taken) = (sent.into_inner(), taken.into_inner());
        assert!((taken..=sent).contains(&kept), "{taken} of {sent} orders were taken, {kept} were kept");
    }
}

/// The client's part of the closing handshake.
#[track_caller]
fn farewell(mut session: WebSocket, code: Option<u16>) {
    assert_eq!(code, Some(1001));
    session.send_raw(&close_frame(1001));
    session.expect_end();
}

#[test]
fn a_client_whose_body_is_half_sent_when_the_server_stops_is_told_so() {
    let mut server = Server::start();
    let mut client = server.client();
    client.write(
        "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 12\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.reply().status, 100);
    client.write("{\"amo");
    server.signal("TERM");
    let reply = client.reply();
    reply.problem(503);
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    client.expect_close_after(&reply);
    drop(client);
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    server.restart();
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn a_server_that_was_paused_goes_on_with_every_session_and_connection() {
    let server = Server::start();
    let mut sessions: Vec<WebSocket> = (0..5).map(|_| WebSocket::open(server.addr(), "/orders")).collect();
    for session in &mut sessions {
        session.texts(3);
    }
    let mut client = server.client();
    client.order("A1", 1);
    for session in &mut sessions {
        assert_eq!(session.text(), "{\"id\":\"A1\",\"total\":4}");
    }
    for round in 1..=3 {
        server.signal("STOP");
        wait_until(DEADLINE, "the process is stopped", || is_stopped(server.pid()));
        server.signal("CONT");
        client.order("A1", 1);
        for session in &mut sessions {
            assert_eq!(session.text(), format!("{{\"id\":\"A1\",\"total\":{}}}", 4 + round));
            session.expect_nothing_but_a_pong();
        }
    }
}

/// Whether every thread of the process is stopped.
fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs").flatten();
    let mut states = threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap_or_default());
    states.all(|status| status.contains("State:\tT"))
}
