//! The end under load: everybody is told, nothing that was answered is lost, and a second signal waits for nobody.

use crate::common::load::{pipeline_orders, spawn, turn};
use crate::common::websocket::{PONG, close_frame, frame};
use crate::common::{Client, DEADLINE, Message, Server, WebSocket, skip, wait_until};
use crate::system_limits::may_open;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SESSIONS: usize = 1_000;
const POSTERS: usize = 4;
/// Each poster counts on a product of its own, so its total tells how many of its orders are stored.
const CATALOG: &str = "{\"load\":{\"prefix\":\"P\",\"products\":[{\"id\":\"P1\",\"name\":\"a\",\"total\":0},\
    {\"id\":\"P2\",\"name\":\"b\",\"total\":0},{\"id\":\"P3\",\"name\":\"c\",\"total\":0},\
    {\"id\":\"P4\",\"name\":\"d\",\"total\":0}]}}";
/// Between two orders of a poster: as many totals as a thousand clients on the same two cores can take.
const BETWEEN_ORDERS: Duration = Duration::from_millis(20);
/// The end is asked for when so many orders are answered.
const ENOUGH: i64 = 100;
/// How long the end may take.
const DRAIN: Duration = Duration::from_secs(5);
/// The clients are on the same machine: a close that the server has sent in time may be read a little later.
const SLACK: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Posted {
    /// Answered, so stored.
    answered: AtomicI64,
    /// Neither answered nor refused when the connection ended: stored or not.
    in_flight: AtomicI64,
}

/// Posts one order after the other until the server refuses or is gone.
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

/// Follows the feed to its close, and does the client's part of it; returns the code, and when it came.
fn follow(mut session: WebSocket, ready: &AtomicUsize) -> (Option<u16>, Instant) {
    ready.fetch_add(1, Ordering::Relaxed);
    loop {
        match session.next_within(Duration::from_secs(60)).expect("a total or a close") {
            Message::Text(_) => {}
            Message::Ping(payload) => session.send_raw(&frame(PONG, true, &payload)),
            Message::Pong(_) => panic!("a pong that nobody asked for"),
            Message::Close(code, _) => {
                let at = Instant::now();
                session.try_send_raw(&close_frame(1001));
                return (code, at);
            }
        }
    }
}

#[test]
fn a_thousand_sessions_under_load_are_told_1001_in_time_and_no_answered_order_is_lost() {
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
    assert!(last_close < DRAIN + SLACK, "a session was told only after {last_close:?}");
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
fn a_thousand_sessions_that_say_and_read_nothing_are_told_and_do_not_hold_the_server() {
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
        // Never says its part of the farewell, so the server would wait.
        let mut session = WebSocket::open(server.addr(), "/orders/electronics");
        server.client().order("A1", 1);
        server.signal(first);
        assert_eq!(session.close_code(), Some(1001));
        server.signal(second);
        // The code proves that the server did not end by itself meanwhile.
        assert_eq!(server.wait(DEADLINE).code(), Some(code), "{first}, {second}");
        server.restart();
        assert_eq!(server.total("A1"), 4);
    }
}

/// They can come back for what they have not got.
#[test]
fn sessions_with_positions_are_told_1001_while_they_still_catch_up() {
    let _turn = turn();
    const ORDERS: usize = 300_000;
    let mut server = Server::start();
    let mut feed = WebSocket::open(server.addr(), "/orders?since=");
    let snapshot: serde_json::Value = serde_json::from_str(&feed.texts(3)[2]).expect("JSON");
    let start = snapshot["position"].as_str().expect("a position");
    drop(feed);
    // More than the sockets' buffers hold.
    pipeline_orders(server.addr(), 20, ORDERS / 20);
    // A restarted server has none of them in memory.
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
                assert!(told < ORDERS - 1_000, "all {told} came before the goodbye");
                feed.send_raw(&close_frame(1001));
                feed.expect_end();
            });
        }
    });
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    assert!(begun.elapsed() < DRAIN + SLACK, "only after {:?}", begun.elapsed());
}
