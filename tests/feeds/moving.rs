//! Subscriptions that move to another category while orders come in.

use crate::common::load::{parse_total, pipeline_orders, spawn, turn};
use crate::common::{DEADLINE, Server, WebSocket, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MOVES: usize = 40;
/// Fewer moves than the 20 messages a second that a session may send.
const BETWEEN_MOVES: Duration = Duration::from_millis(70);

#[test]
fn every_move_under_load_begins_with_a_snapshot_that_joins_what_follows() {
    let _turn = turn();
    let server = Server::start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Every order adds 1, so the next total shows a gap or a repeat.
        for id in ["A1", "A1", "A2", "B1", "B1", "B1"] {
            let (server, done) = (&server, &done);
            spawn(scope, move || {
                let mut client = server.client();
                while !done.load(Ordering::Relaxed) {
                    client.order(id, 1);
                }
            });
        }
        let mut subscriber = WebSocket::open(server.addr(), "/orders/electronics");
        let mut ids: &[&str] = &["A1", "A2"];
        let mut totals = snapshot(&mut subscriber, ids);
        for number in 0..MOVES {
            let start = Instant::now();
            while start.elapsed() < BETWEEN_MOVES {
                assert!(live(&subscriber.text(), ids, &mut totals), "totals of another category before the move");
            }
            let (category, next): (&str, &[&str]) =
                if number % 2 == 0 { ("confectionery", &["B1"]) } else { ("electronics", &["A1", "A2"]) };
            subscriber.send(&format!("{{\"cmd\":\"update-category\",\"payload\":{{\"category\":\"{category}\"}}}}"));
            // Totals that were in flight come first; then the snapshot, and nothing of the old category any more.
            let first = loop {
                let text = subscriber.text();
                if !live(&text, ids, &mut totals) {
                    break total(&text, next).1;
                }
            };
            let mut rest = snapshot(&mut subscriber, &next[1..]);
            rest.insert(0, first);
            (ids, totals) = (next, rest);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_subscriber_that_moves_while_it_is_far_behind_gets_the_whole_snapshot_once_it_reads_again() {
    let _turn = turn();
    /// More totals than the socket buffers hold for a client that does not read.
    const ENOUGH: usize = 30_000;
    /// Many, so that orders share their commits and the load ends long before the write deadline, on a busy machine
    /// too.
    const PIPELINES: usize = 30;
    let server = Server::start();
    let mut client = server.client();
    for name in ["Lollipop", "Toffee"] {
        assert_eq!(client.post("/confectionery", format!("{{\"name\":\"{name}\"}}")).status, 200);
    }
    // A total with many digits fills the socket buffers sooner.
    client.order("A1", 1_000_000_000_000_000);
    let mut subscriber = WebSocket::open(server.addr(), "/orders/electronics");
    pipeline_orders(server.addr(), PIPELINES, ENOUGH / PIPELINES);
    subscriber.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}");
    // Commands are executed in sequence: once this order is counted, the subscription has moved.
    subscriber.send("{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B2\",\"amount\":5,\"key\":\"k\"}}");
    wait_until(DEADLINE, "the order is counted", || client.get("/orders/confectionery").json()[1]["total"] == 5);

    let (mut behind, mut answered, mut totals) = (0, false, Vec::new());
    while totals.len() < 3 || !answered {
        let text = subscriber.text();
        match parse_total(text.as_bytes()) {
            Some(("A1" | "A2", _)) if totals.is_empty() => behind += 1,
            // The order after the move may come twice.
            Some(("B2", total)) if total == 0 || totals.contains(&"{\"id\":\"B2\",\"total\":5}".to_owned()) => {}
            Some(_) => totals.push(text),
            None => {
                assert_eq!(text, "{\"ok\":true,\"key\":\"k\"}");
                answered = true;
            }
        }
    }
    assert!(behind < ENOUGH, "nothing was skipped, so nothing was tested");
    totals.sort();
    let expected = ["{\"id\":\"B1\",\"total\":101}", "{\"id\":\"B2\",\"total\":5}", "{\"id\":\"B3\",\"total\":0}"];
    assert_eq!(totals, expected);
    client.order("A1", 1);
    client.order("B1", 1);
    let next = loop {
        let text = subscriber.text();
        if text != expected[1] {
            break text;
        }
    };
    assert_eq!(next, "{\"id\":\"B1\",\"total\":102}");
}

/// The product's index in `ids`, and its total.
#[track_caller]
fn total(text: &str, ids: &[&str]) -> (usize, i64) {
    let (id, total) = parse_total(text.as_bytes()).expect("a total");
    let place = ids.iter().position(|known| *known == id);
    (place.unwrap_or_else(|| panic!("{text} is none of {ids:?}")), total)
}

#[track_caller]
fn snapshot(subscriber: &mut WebSocket, ids: &[&str]) -> Vec<i64> {
    (0..ids.len())
        .map(|place| {
            let (found, total) = total(&subscriber.text(), ids);
            assert_eq!(found, place, "a snapshot is complete and in order");
            total
        })
        .collect()
}

/// Checks a live total of one of `ids`, which is 1 more than the one before; false if it is of another category.
#[track_caller]
fn live(text: &str, ids: &[&str], totals: &mut [i64]) -> bool {
    let (id, new) = parse_total(text.as_bytes()).expect("a total");
    let Some(place) = ids.iter().position(|known| *known == id) else { return false };
    assert_eq!(new, totals[place] + 1, "a gap or a repeat of {id}");
    totals[place] = new;
    true
}
