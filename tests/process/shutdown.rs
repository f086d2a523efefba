//! Shutdown under load: every session gets a close frame, no answered order is lost, and a second signal ends at once.

use crate::common::load::{pipeline_orders, spawn, turn};
use crate::common::websocket::{PONG, close_frame, frame};
use crate::common::{Client, DEADLINE, Message, Server, WebSocket, skip, wait_until};
use crate::system_limits::may_open;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SESSIONS: usize = 1_000;
const POSTERS: usize = 4;
/// Each poster has a product of its own, whose total is the number of its stored orders.
const CATALOG: &str = "{\"load\":{\"prefix\":\"P\",\"products\":[{\"id\":\"P1\",\"name\":\"a\",\"total\":0},\
    {\"id\":\"P2\",\"name\":\"b\",\"total\":0},{\"id\":\"P3\",\"name\":\"c\",\"total\":0},\
    {\"id\":\"P4\",\"name\":\"d\",\"total\":0}]}}";
/// The pause between two orders of a poster: a thousand clients on the same two cores can follow.
const BETWEEN_ORDERS: Duration = Duration::from_millis(20);
/// The number of answered orders before the signal.
const ENOUGH: i64 = 100;
/// How long shutdown may take.
const DRAIN: Duration = Duration::from_secs(5);
/// Tolerance: the clients run on the same machine and may read a close frame late.
const SLACK: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Posted {
    /// Answered with success, so stored.
    answered: AtomicI64,
    /// Not answered before the connection ended: stored or not.
    in_flight: AtomicI64,
}

/// Posts orders in sequence until the server rejects one or the connection ends.
fn post(mut client: Client, id: String, posted: &Posted) {
    loop {
        match client.try_post(&format!("/orders/{id}"), "{\"amount\":1}") {
            Ok(reply) if reply.status == 200 => {
                assert_eq!(reply.text(), "{\"ok\":true}");
                posted.answered.fetch_add(1, Ordering::Relaxed);
                if reply.says_close() {
                    return;
                }
            }
            Ok(reply) => {
                reply.problem(503);
                return;
            }
            Err(_) => {
                posted.in_flight.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        thread::sleep(BETWEEN_ORDERS);
    }
}

/// Follows the feed to its close frame and answers it; returns the code and when it came.
fn follow(mut session: WebSocket, ready: &AtomicUsize) -> (Option<u16>, Instant) {
    ready.fetch_add(1, Ordering::Relaxed);
    loop {
        match session.next_within(Duration::from_secs(60)).expect("a total or a close") {
            Message::Text(_) => {}
            Message::Ping(payload) => session.send_raw(&frame(PONG, true, &payload)),
            Message::Pong(_) => panic!("an unsolicited pong"),
            Message::Close(code, _) => {
                let at = Instant::now();
                session.try_send_raw(&close_frame(1001));
                return (code, at);
            }
        }
    }
}

#[test]
fn a_thousand_sessions_under_load_get_1001_in_time_and_no_answered_order_is_lost() {
    let _turn = turn();
    if !may_open(SESSIONS as u64 + 200) {
        return skip("too few descriptors for a thousand sessions (ulimit -n)", true);
    }
    let mut server = Server::builder().catalog(CATALOG).start();
    let addr = server.addr();
    let sessions: Vec<WebSocket> = (0..SESSIONS).map(|_| WebSocket::open(addr, "/orders/load")).collect();
    let posted: [Posted; POSTERS] = Default::default();
    let ready = AtomicUsize::new(0);
    let (last_close, ended) = thread::scope(|scope| {
        let followers: Vec<_> = sessions.into_iter().map(|session| spawn(scope, || follow(session, &ready))).collect();
        wait_until(DEADLINE, "every session is followed", || ready.load(Ordering::Relaxed) == SESSIONS);
        for (number, posted) in posted.iter().enumerate() {
            let client = server.client();
            spawn(scope, move || post(client, format!("P{}", number + 1), posted));
        }
        let answered = || posted.iter().map(|it| it.answered.load(Ordering::Relaxed)).sum::<i64>();
        wait_until(Duration::from_secs(60), "orders are answered", || answered() >= ENOUGH);
        let asked = Instant::now();
        let status = server.terminate();
        let ended = asked.elapsed();
        assert_eq!(status.code(), Some(0));
        let mut last_close = Duration::ZERO;
        for follower in followers {
            let (code, at) = follower.join().expect("a right ending");
            assert_eq!(code, Some(1001));
            last_close = last_close.max(at - asked);
        }
        (last_close, ended)
    });
    println!("{SESSIONS} sessions: the last close after {last_close:?}, the process ended after {ended:?}");
    assert!(last_close < DRAIN + SLACK, "the last close frame came only after {last_close:?}");
    assert!(ended < DRAIN + SLACK, "ended only after {ended:?}");

    server.restart();
    let totals = server.client().get("/orders/load").json();
    for (number, posted) in posted.iter().enumerate() {
        let stored = totals[number]["total"].as_i64().expect("an integer");
        let (answered, in_flight) = (posted.answered.load(Ordering::Relaxed), posted.in_flight.load(Ordering::Relaxed));
        println!("poster {number}: {answered} answered, {in_flight} in flight, {stored} stored");
        assert!((answered..=answered + in_flight).contains(&stored), "poster {number}");
    }
}

#[test]
fn a_thousand_sessions_that_send_and_read_nothing_do_not_delay_the_end() {
    let _turn = turn();
    if !may_open(SESSIONS as u64 + 200) {
        return skip("too few descriptors for a thousand sessions (ulimit -n)", true);
    }
    let mut server = Server::builder().catalog(CATALOG).start();
    let mut sessions: Vec<WebSocket> = (0..SESSIONS).map(|_| WebSocket::open(server.addr(), "/orders/load")).collect();
    server.client().order("P1", 1);
    let asked = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    let ended = asked.elapsed();
    println!("{SESSIONS} silent sessions: the process ended after {ended:?}");
    assert!(ended < DRAIN + SLACK, "ended only after {ended:?}");
    for session in &mut sessions {
        assert_eq!(session.close_code(), Some(1001));
    }
}

#[test]
fn a_second_signal_ends_the_server_at_once_and_what_was_answered_is_stored() {
    let _turn = turn();
    for (first, second, code) in [("TERM", "TERM", 128 + 15), ("INT", "INT", 128 + 2), ("TERM", "INT", 128 + 2)] {
        let mut server = Server::start();
        // A session that never answers the close frame, so that the server would wait.
        let mut session = WebSocket::open(server.addr(), "/orders/electronics");
        server.client().order("A1", 1);
        server.signal(first);
        assert_eq!(session.close_code(), Some(1001));
        server.signal(second);
        // The exit code shows that the second signal ended it.
        assert_eq!(server.wait(DEADLINE).code(), Some(code), "{first}, {second}");
        server.restart();
        assert_eq!(server.total("A1"), 4);
    }
}

/// They can resume from their positions.
#[test]
fn sessions_that_still_catch_up_get_1001() {
    let _turn = turn();
    const ORDERS: usize = 300_000;
    let mut server = Server::start();
    let mut feed = WebSocket::open(server.addr(), "/orders?since=");
    let snapshot: serde_json::Value = serde_json::from_str(&feed.texts(3)[2]).expect("JSON");
    let start = snapshot["position"].as_str().expect("a position");
    drop(feed);
    // More orders than the socket buffers hold.
    pipeline_orders(server.addr(), 20, ORDERS / 20);
    // After a restart none of them is in memory.
    server.restart();
    let mut feeds: Vec<WebSocket> =
        (0..4).map(|_| WebSocket::open(server.addr(), &format!("/orders?since={start}"))).collect();
    feeds.iter_mut().for_each(|feed| drop(feed.texts(100)));
    let begun = Instant::now();
    server.signal("TERM");
    thread::scope(|scope| {
        for mut feed in feeds {
            spawn(scope, move || {
                let mut told = 0;
                let code = loop {
                    match feed.next() {
                        Message::Text(_) => told += 1,
                        Message::Close(code, _) => break code,
                        other => panic!("{other:?}"),
                    }
                };
                assert_eq!(code, Some(1001));
                assert!(told < ORDERS - 1_000, "all {told} totals came before the close frame");
                feed.send_raw(&close_frame(1001));
                feed.expect_end();
            });
        }
    });
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    assert!(begun.elapsed() < DRAIN + SLACK, "only after {:?}", begun.elapsed());
}

/// A server that closes while requests still come resets the connection, and the reset discards answers that the client
/// has not received.
#[test]
fn a_client_that_pipelines_on_gets_every_answer_and_then_the_end() {
    const CLIENTS: usize = 4;
    /// The log, whose pages fill the socket buffers, and an order.
    const REQUESTS: &str = "GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n\
        POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 12\r\n\r\n{\"amount\":1}";
    const LOGGED: usize = 1_000;
    let _turn = turn();
    let mut server = Server::start();
    pipeline_orders(server.addr(), 20, LOGGED / 20);
    let (stalled, is_stopping) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answered = AtomicI64::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = server.client();
            let mut writer = client.stream().try_clone().expect("a second handle");
            writer.set_write_timeout(Some(Duration::from_millis(500))).expect("a deadline can be set");
            let (stalled, is_stopping, answered) = (&stalled, &is_stopping, &answered);
            spawn(scope, move || {
                let (begun, mut at, mut has_stalled) = (Instant::now(), 0, false);
                // Until the socket is closed, whatever has been answered.
                while begun.elapsed() < DEADLINE * 3 {
                    match writer.write(&REQUESTS.as_bytes()[at..]) {
                        Ok(written) => at = (at + written) % REQUESTS.len(),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            if !std::mem::replace(&mut has_stalled, true) {
                                stalled.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        Err(_) => return,
                    }
                }
            });
            spawn(scope, move || {
                wait_until(DEADLINE * 2, "the server stops", || is_stopping.load(Ordering::Relaxed));
                let end = loop {
                    match client.try_reply(true) {
                        Ok(reply) if reply.text() == "{\"ok\":true}" => answered.fetch_add(1, Ordering::Relaxed),
                        Ok(reply) => i64::from(reply.status),
                        Err(error) => break error,
                    };
                };
                assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "the answers end in {end}");
                let _ = client.stream().shutdown(Shutdown::Both);
            });
        }
        wait_until(DEADLINE, "nothing more can be sent", || stalled.load(Ordering::Relaxed) == CLIENTS);
        let asked = Instant::now();
        server.signal("TERM");
        is_stopping.store(true, Ordering::Relaxed);
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        assert!(asked.elapsed() < DRAIN + SLACK, "ended only after {:?}", asked.elapsed());
    });
    server.restart();
    assert_eq!(server.total("A1"), 3 + LOGGED as i64 + answered.into_inner());
}

#[test]
fn an_idle_connection_does_not_delay_the_end() {
    let mut server = Server::start();
    let idle: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = server.client();
            client.order("A1", 1);
            client
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(1), "ended only after {:?}", asked.elapsed());
    for mut client in idle {
        assert_eq!(client.try_reply(true).expect_err("the end").kind(), ErrorKind::UnexpectedEof);
    }
}
