//! Descriptors and threads run out: open connections are still served, and new ones are served when there are some
//! again.

use crate::common::load::pipeline_orders;
use crate::common::websocket::{TEXT, frame};
use crate::common::{Client, DEADLINE, Server, WebSocket, skip, wait_until};
use crate::system_limits::{bound_by_process_limit, has_prlimit, set_limit};
use crate::unread::{HANDSHAKE, ask};
use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

const ORDER: &str = "{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B1\",\"amount\":1}}";

/// Clients that are connected before, during and after the shortage.
struct Regulars {
    client: Client,
    sessions: Vec<WebSocket>,
    a1: i64,
    b1: i64,
}

impl Regulars {
    #[track_caller]
    fn of(server: &Server) -> Regulars {
        let mut client = server.client();
        client.order("A1", 0);
        let sessions = (0..3).map(|_| {
            let mut session = WebSocket::open(server.addr(), "/orders");
            session.texts(3);
            session
        });
        Regulars { sessions: sessions.collect(), client, a1: 3, b1: 101 }
    }

    /// Checks that each can order, and that each session gets the total of every order at once, and nothing else.
    #[track_caller]
    fn expect_untouched(&mut self) {
        self.client.order("A1", 1);
        self.a1 += 1;
        let total = format!("{{\"id\":\"A1\",\"total\":{}}}", self.a1);
        for session in &mut self.sessions {
            assert_eq!(session.text(), total);
        }
        for orderer in 0..self.sessions.len() {
            self.b1 += 1;
            self.sessions[orderer].send(ORDER);
            let total = format!("{{\"id\":\"B1\",\"total\":{}}}", self.b1);
            for (number, session) in self.sessions.iter_mut().enumerate() {
                let mut heard = session.texts(if number == orderer { 2 } else { 1 });
                heard.retain(|text| text != "{\"ok\":true}");
                assert_eq!(heard, [total.as_str()]);
            }
        }
        for session in &mut self.sessions {
            session.expect_nothing_but_a_pong();
        }
        assert_eq!(self.client.total("A1"), self.a1);
    }
}

#[track_caller]
fn expect_serving(server: &Server) {
    wait_until(DEADLINE, "new connections are served again", || {
        let client = Client::try_connect(server.addr());
        let reply = client.and_then(|mut client| client.try_request("GET", "/categories", &[], b""));
        reply.is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn with_64_descriptors_a_hundred_connections_do_not_affect_the_open_ones() {
    const AT_ONCE: usize = 5;
    /// Rejected connections stay open for a moment, up to this number (`RING`).
    const KEPT: usize = 16;
    let server = Server::builder().shell("ulimit -n 64").start();
    let mut regulars = Regulars::of(&server);
    let (threads, descriptors) = (server.threads(), server.descriptors());
    for _ in 0..2 {
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    for number in 0..20 {
                        let Ok(mut client) = Client::try_connect(server.addr()) else { continue };
                        match number % 4 {
                            0 => drop(client.try_request("GET", "/categories", &[], b"")),
                            1 => client.write("GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                            2 => drop(client.try_post("/orders/A2", "{\"amount\":\"x\"}")),
                            _ => {}
                        }
                    }
                });
            }
            // A hundred at the same time: more than the server has descriptors for.
            let crowd: Vec<Client> = (0..100).filter_map(|_| Client::try_connect(server.addr()).ok()).collect();
            let descriptors = server.descriptors();
            assert!(descriptors <= 64, "{descriptors} descriptors");
            drop(crowd);
        });
        expect_serving(&server);
        regulars.expect_untouched();
    }
    wait_until(DEADLINE, "threads and descriptors are given back", || {
        server.threads() <= threads && server.descriptors() <= descriptors + KEPT
    });
}

#[test]
fn when_descriptors_run_out_newcomers_wait_and_are_served_when_there_are_some() {
    const NEWCOMERS: usize = 50;
    if !has_prlimit() {
        return skip("prlimit is missing (util-linux)", true);
    }
    let server = Server::start();
    let mut regulars = Regulars::of(&server);
    for _ in 0..3 {
        let taken = server.descriptors();
        // Descriptors 0 to 2 are the standard streams: from now on the system refuses every new descriptor.
        set_limit(server.pid(), "nofile", 3);
        let mut newcomers: Vec<Client> = (0..NEWCOMERS).map(|_| server.client()).collect();
        for client in &mut newcomers {
            client.write("GET /categories HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        wait_until(DEADLINE, "no connection can be accepted", || {
            server.log().contains("no connection can be accepted")
        });
        regulars.expect_untouched();
        // One more, because the `accept` that was waiting may already have reserved its descriptor.
        assert!(server.descriptors() <= taken + 1);
        set_limit(server.pid(), "nofile", 1_000);
        for mut client in newcomers {
            assert_eq!(client.reply().status, 200);
        }
        regulars.expect_untouched();
        wait_until(DEADLINE, "descriptors are given back", || server.descriptors() == taken);
    }
}

#[test]
fn when_threads_run_out_newcomers_are_closed_and_served_when_there_are_some() {
    const NEWCOMERS: usize = 50;
    let Some(server) = bound_by_process_limit(Server::builder()) else { return };
    let mut server = server.start();
    let mut regulars = Regulars::of(&server);
    let descriptors = server.descriptors();
    let mut threads = 0;
    for _ in 0..3 {
        // Threads wait for the next message of a session for 1 s, and then for a connection for 2 s.
        wait_until(DEADLINE, "only the regular client has a thread", || server.threads_named("connection") == 1);
        threads = server.threads();
        // Fewer than the server has: from now on the system refuses every new thread.
        set_limit(server.pid(), "nproc", 1);
        let newcomers: Vec<Client> = (0..NEWCOMERS).map(|_| server.client()).collect();
        regulars.expect_untouched();
        wait_until(DEADLINE, "no thread can be started", || server.log().contains("no thread can be started"));
        let mut turned_away = 0;
        for mut client in newcomers.into_iter().take(5) {
            let error = client.try_request("GET", "/categories", &[], b"").expect_err("there is no thread to answer");
            assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "not closed: {error}");
            turned_away += 1;
        }
        assert_eq!((turned_away, server.threads()), (5, threads));
        regulars.expect_untouched();
        set_limit(server.pid(), "nproc", 4_096);
        expect_serving(&server);
        regulars.expect_untouched();
    }
    wait_until(DEADLINE, "threads and descriptors are given back", || {
        server.threads() <= threads && server.descriptors() == descriptors
    });
    assert_eq!(server.terminate().code(), Some(0));
}

/// Its answers have no room, and the thread that they would wait on is the one of all sessions.
#[test]
fn a_session_that_reads_nothing_holds_up_no_other_one_when_threads_run_out() {
    let Some(server) = bound_by_process_limit(Server::builder()) else { return };
    let server = server.start();
    let mut other = WebSocket::open(server.addr(), "/orders/confectionery");
    other.text();
    let mut reads_nothing = ask(server.addr(), &HANDSHAKE.replace("tools", "electronics"));
    pipeline_orders(server.addr(), 1, 1_000);
    wait_until(DEADLINE, "no connection has a thread", || server.threads_named("connection") == 0);
    set_limit(server.pid(), "nproc", 1);
    // Fewer than a session may send at once, and more than the places that totals leave free.
    reads_nothing.write_all(&frame(TEXT, true, b"{}").repeat(15)).expect("the server reads");
    let begun = Instant::now();
    other.send(ORDER);
    assert_eq!(other.texts(2).len(), 2);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(server.log().contains("sessions share one"));
}
