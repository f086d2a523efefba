//! A chain of servers under random orders, changes and kills: every message at its end is right.

use crate::common::{Form, Positional, Random, Server, periods, seed};

#[track_caller]
fn edge_of(server: &Server) -> Server {
    Server::builder().follow(server.addr()).start()
}

#[track_caller]
fn hide(server: &Server, is_hidden: bool) {
    let body = format!("{{\"hidden\":{is_hidden}}}");
    let headers = [("Content-Type", "application/json")];
    let reply = server.client().request("PATCH", "/electronics/A1", &headers, body.as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn every_message_at_the_end_of_a_chain_is_right_whatever_happens_before_it() {
    let seed = seed();
    let mut random = Random::new(seed, 0);
    let mut server = Server::start();
    let mut middle = edge_of(&server);
    let last = edge_of(&middle);
    let path = |counts: &str| format!("/orders/confectionery{counts}");
    let open = |counts: &str| Positional::open(Form::WebSocket, last.addr(), &path(counts), None);
    let (mut lifetime, mut period) = (open(""), open("?period=current"));
    // The total after each entry of the log, and the number of the last one before each period.
    let (mut totals, mut openings) = (vec![101], vec![0]);
    for round in 0..60 {
        for _ in 0..random.below(12) {
            server.client().order("B1", 1);
            totals.push(totals.last().unwrap() + 1);
        }
        match random.below(7) {
            0 => server.restart_on_the_same_ports(),
            1 => middle.restart_on_the_same_ports(),
            2 => {
                let reply = server.client().post("/electronics", format!("{{\"name\":\"x\",\"id\":\"N{round}\"}}"));
                assert_eq!(reply.status, 200, "{reply:?}");
                totals.push(*totals.last().unwrap());
            }
            3 => hide(&server, round % 2 == 0),
            _ => {
                periods::close(&mut server.client(), openings.len() as u64);
                openings.push(totals.len() - 1);
            }
        }
    }
    server.client().order("B1", 1);
    totals.push(totals.last().unwrap() + 1);
    let end = totals.len() - 1;
    let mut before = None;
    loop {
        let step = lifetime.next();
        let seq = step.seq() as usize;
        assert_eq!(step.total, totals[seq], "{step:?}, seed {seed}");
        // Every order, and no other.
        assert!(before.is_none_or(|before| step.total == before + 1), "{step:?} after {before:?}, seed {seed}");
        before = Some(step.total);
        if seq == end {
            break;
        }
    }
    loop {
        let step = period.next();
        let seq = step.seq() as usize;
        let count = |opened: usize| totals[seq] - totals[opened];
        // Behind the last order before a period comes its first count too.
        let closed = openings.iter().rfind(|opened| **opened < seq).map(|opened| count(*opened));
        let opened = openings.contains(&seq).then_some(0);
        let is_right = closed == Some(step.total) || opened == Some(step.total);
        assert!(is_right, "{step:?} instead of {closed:?} or {opened:?}, seed {seed}");
        if seq == end {
            break;
        }
    }
}
