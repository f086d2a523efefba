//! The server is killed under load twenty times, and every answered order is on disk.

use crate::common::load::{follow, parse_total, spawn, turn};
use crate::common::{Client, DEADLINE, Server, WebSocket, wait_until};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

const ROUNDS: usize = 20;
const PRODUCTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
const POSTERS_A_PRODUCT: usize = 3;
const POSTERS: usize = PRODUCTS.len() * POSTERS_A_PRODUCT;
/// Each poster has its own bits of a total, which therefore tells the number of its orders.
const COUNTER_BITS: u32 = 16;
/// With this bound twenty rounds stay within those bits.
const MOST_ORDERS_A_ROUND: i64 = 3_000;

fn id(poster: usize) -> &'static str {
    PRODUCTS[poster / POSTERS_A_PRODUCT].0
}

fn weight(poster: usize) -> i64 {
    1 << (COUNTER_BITS * (poster % POSTERS_A_PRODUCT) as u32)
}

/// The number of orders of each poster in the totals.
fn counts(totals: &HashMap<String, i64>) -> [i64; POSTERS] {
    std::array::from_fn(|poster| {
        let (id, start) = PRODUCTS[poster / POSTERS_A_PRODUCT];
        ((totals[id] - start) / weight(poster)) % (1 << COUNTER_BITS)
    })
}

#[test]
fn every_answered_order_survives_being_killed_under_load_twenty_times() {
    let _turn = turn();
    let mut server = Server::start();
    let sent: [AtomicI64; POSTERS] = Default::default();
    let answered: [AtomicI64; POSTERS] = Default::default();
    for round in 0..ROUNDS {
        let addr = server.addr();
        let before: i64 = answered.iter().map(|it| it.load(Ordering::Relaxed)).sum();
        let feed = WebSocket::open(addr, "/orders");
        let shown = thread::scope(|scope| {
            for poster in 0..POSTERS {
                let (sent, answered) = (&sent[poster], &answered[poster]);
                spawn(scope, move || {
                    let mut client = Client::connect(addr);
                    let (path, body) =
                        (format!("/orders/{}", id(poster)), format!("{{\"amount\":{}}}", weight(poster)));
                    for _ in 0..MOST_ORDERS_A_ROUND {
                        sent.fetch_add(1, Ordering::Relaxed);
                        match client.try_post(&path, &body) {
                            Ok(reply) => assert_eq!(reply.text(), "{\"ok\":true}"),
                            Err(_) => return,
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let feed = spawn(scope, || {
                let mut shown = HashMap::new();
                let _killed = follow(feed, Duration::from_secs(30), |message| {
                    let (id, total) = parse_total(message).expect("a total");
                    shown.insert(id.to_owned(), total);
                    true
                });
                shown
            });
            // Each kill is at another moment of the load.
            let enough = before + 50 + 37 * round as i64;
            wait_until(DEADLINE, "orders are answered", || {
                answered.iter().map(|it| it.load(Ordering::Relaxed)).sum::<i64>() >= enough
            });
            server.kill();
            feed.join().expect("a right feed")
        });

        server.restart();
        let kept = counts(&server.totals().into_iter().collect());
        for poster in 0..POSTERS {
            let (sent, answered) = (sent[poster].load(Ordering::Relaxed), answered[poster].load(Ordering::Relaxed));
            assert!(
                (answered..=sent).contains(&kept[poster]),
                "round {round}: of poster {poster}, {answered} orders were answered and {sent} sent; {} were kept",
                kept[poster]
            );
        }
        // Totals that a subscriber has received are kept too.
        let shown = counts(&shown);
        assert!(shown.iter().zip(&kept).all(|(shown, kept)| shown <= kept), "shown {shown:?}, kept {kept:?}");
        // The next round begins with the orders that were kept.
        for poster in 0..POSTERS {
            sent[poster].store(kept[poster], Ordering::Relaxed);
            answered[poster].store(kept[poster], Ordering::Relaxed);
        }
    }
    let kept: i64 = counts(&server.totals().into_iter().collect()).iter().sum();
    println!("{kept} orders over {ROUNDS} kills");
}

#[test]
fn a_killed_server_starts_again_at_once_on_the_same_port() {
    let mut server = Server::start();
    let addr = server.addr();
    let mut subscriber = WebSocket::open(addr, "/orders/electronics");
    subscriber.texts(2);
    server.client().order("A1", 10);
    server.restart_on_the_same_ports();
    assert_eq!(server.addr(), addr);
    let mut again = WebSocket::open(addr, "/orders/electronics");
    assert_eq!(again.text(), "{\"id\":\"A1\",\"total\":13}");
}
