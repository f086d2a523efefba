//! Answers of the database that do not arrive: an order is counted once, and its answer is true.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::load::turn;
use crate::common::{Client, Cluster, DEADLINE, Random, Relay, Reply, Server, seed, wait_until};
use crate::nodes::{migrate, node};

/// A cluster with tables, a relay before it, and a node behind the relay.
fn behind_a_relay() -> Option<(Cluster, Relay, Server)> {
    let cluster = Cluster::start()?;
    migrate(&cluster.url(), &[]);
    let relay = Relay::start(&cluster.address());
    let node = node(&url(&relay));
    // Its connections are made.
    node.client().order("A2", 1);
    Some((cluster, relay, node))
}

fn url(relay: &Relay) -> String {
    format!("postgres://postgres@{}/postgres", relay.address())
}

/// Posts an order without a key, and waits for its answer longer than a node asks for it.
fn post_patiently(node: &Server) -> Reply {
    let mut client = node.client();
    client.stream().set_read_timeout(Some(Duration::from_secs(40))).expect("a deadline can be set");
    client.post("/orders/A1", "{\"amount\":1}")
}

/// Posts an order whose answer is held, until its commit is what waits for an answer, and not another call of the node. Then
/// does what is to happen, and returns the answer and how many orders counted before this one.
fn post_held(cluster: &Cluster, relay: &Relay, node: &Server, then: impl Fn()) -> (Reply, u64) {
    thread::scope(|scope| {
        loop {
            let before = counted(cluster);
            relay.hold_answers();
            let order = scope.spawn(|| post_patiently(node));
            let begun = Instant::now();
            while counted(cluster) == before && begun.elapsed() < Duration::from_secs(1) {
                thread::sleep(Duration::from_millis(5));
            }
            if counted(cluster) > before {
                then();
                return (order.join().expect("an answer"), before);
            }
            relay.cut();
            relay.resume();
            let reply = order.join().expect("an answer");
            // On a busy machine it was sent only now, and may be taken.
            assert!(reply.status == 503 || reply.status == 200, "{reply:?}");
            assert_eq!(counted(cluster), before + u64::from(reply.status == 200), "{reply:?}");
            ready(node);
        }
    })
}

/// Waits until a node takes orders.
#[track_caller]
fn ready(node: &Server) {
    wait_until(DEADLINE, "the node is ready", || node.client().get("/readyz").status == 200);
}

/// How many orders for A1 count.
fn counted(cluster: &Cluster) -> u64 {
    cluster.sql("SELECT count(*) FROM ordercast.orders WHERE product = 1").parse().expect("a number")
}

#[test]
fn an_order_whose_answer_is_lost_is_asked_for_again_and_counts_once() {
    let Some((cluster, relay, node)) = behind_a_relay() else { return };
    for _ in 0..5 {
        let (reply, before) = post_held(&cluster, &relay, &node, || {
            relay.cut();
            relay.resume();
        });
        assert_eq!(reply.text(), "{\"ok\":true}", "{reply:?}");
        assert_eq!((counted(&cluster), node.total("A1")), (before + 1, 4 + before as i64));
        ready(&node);
    }
}

#[test]
fn an_order_that_did_not_arrive_is_asked_for_again_and_counts_once() {
    let Some((cluster, relay, node)) = behind_a_relay() else { return };
    let reply = thread::scope(|scope| {
        relay.hold();
        let order = scope.spawn(|| post_patiently(&node));
        // Nothing tells when it was sent.
        thread::sleep(Duration::from_millis(200));
        relay.cut();
        relay.resume();
        order.join().expect("an answer")
    });
    // Another call of the node may have been under way instead.
    let orders = if reply.status == 503 { 0 } else { 1 };
    assert!(orders == 0 || reply.text() == "{\"ok\":true}", "{reply:?}");
    assert_eq!((counted(&cluster), node.total("A1")), (orders, 3 + orders as i64));
}

/// The database stays away for more than 20 s while an order is under way.
fn check_unknown(arrives: bool) {
    let Some((cluster, relay, mut node)) = behind_a_relay() else { return };
    let vanished = Cell::new(Instant::now());
    let vanish = || {
        vanished.set(Instant::now());
        relay.refuse(true);
        relay.cut();
    };
    let (reply, before) = if arrives {
        post_held(&cluster, &relay, &node, vanish)
    } else {
        relay.hold();
        thread::scope(|scope| {
            let order = scope.spawn(|| post_patiently(&node));
            // Nothing tells when it was sent.
            thread::sleep(Duration::from_millis(200));
            vanish();
            (order.join().expect("an answer"), 0)
        })
    };
    let took = vanished.get().elapsed();
    assert!(node.is_running());
    relay.resume();
    relay.refuse(false);
    ready(&node);
    let orders = counted(&cluster);
    // Another call of the node may have been under way instead.
    if arrives || reply.status == 500 {
        assert!(reply.problem(500).contains("whether it counts is not known"), "{reply:?}");
        assert!(took > Duration::from_secs(18) && took < Duration::from_secs(30), "answered {took:?} after the cut");
    }
    assert_eq!(orders, before + u64::from(arrives), "{reply:?}");
    wait_until(DEADLINE, "the node shows the truth", || node.total("A1") == 3 + orders as i64);
    node.client().order("A1", 1);
    assert_eq!((counted(&cluster), node.total("A1")), (orders + 1, 4 + orders as i64));
}

#[test]
fn an_order_that_counts_unheard_for_more_than_20_seconds_is_answered_with_500() {
    check_unknown(true);
}

#[test]
fn an_order_that_is_unheard_of_for_more_than_20_seconds_is_answered_with_500() {
    check_unknown(false);
}

#[test]
fn orders_without_keys_count_once_each_while_connections_are_cut_all_the_time() {
    let _turn = turn();
    let Some((cluster, relay, node)) = behind_a_relay() else { return };
    let second = Relay::start(&cluster.address());
    let other = crate::nodes::node(&url(&second));
    let (seed, done) = (seed(), AtomicBool::new(false));
    let mut random = Random::new(seed, 0);
    let answers: Vec<u16> = thread::scope(|scope| {
        let posters: Vec<_> = (0..6)
            .map(|poster| {
                let (addr, done) = ([node.addr(), other.addr()][poster % 2], &done);
                scope.spawn(move || {
                    let mut answers = Vec::new();
                    let mut client = Client::connect(addr);
                    while !done.load(Ordering::Relaxed) {
                        answers.push(client.post("/orders/A1", "{\"amount\":1}").status);
                        if answers.last() != Some(&200) {
                            thread::sleep(Duration::from_millis(10));
                        }
                    }
                    answers
                })
            })
            .collect();
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(random.below(120)));
            let relay = [&relay, &second][random.below(2) as usize];
            if random.once_in(2) {
                relay.hold_answers();
                thread::sleep(Duration::from_millis(random.below(40)));
            }
            relay.cut();
            relay.resume();
        }
        done.store(true, Ordering::Relaxed);
        posters.into_iter().flat_map(|poster| poster.join().expect("every order is answered")).collect()
    });
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    println!("{} orders were taken, {} refused", count(200), count(503));
    assert_eq!(count(200) + count(503), answers.len(), "seed {seed}: {answers:?}");
    assert_eq!(counted(&cluster), count(200) as u64, "seed {seed}");
    let total = 3 + count(200) as i64;
    wait_until(DEADLINE, "both nodes show them", || node.total("A1") == total && other.total("A1") == total);
}
