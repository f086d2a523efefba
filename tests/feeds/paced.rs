//! `every=MS`: at most one message a product in that time, always the latest total.

use crate::common::load::{follow, parse_total, pipeline_orders, spawn, turn};
use crate::common::{DEADLINE, Form, Positional, Server, WebSocket};
use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(200);
/// How much closer two messages may come to each other than they were sent.
const JITTER: Duration = Duration::from_millis(100);
const PATH: &str = "/orders/electronics?every=200";

#[test]
fn the_first_order_comes_at_once_and_the_last_of_a_burst_within_the_interval() {
    let server = Server::start();
    let mut paced = WebSocket::open(server.addr(), "/orders/electronics?every=2000");
    assert_eq!(paced.texts(2), ["{\"id\":\"A1\",\"total\":3}", "{\"id\":\"A2\",\"total\":7}"]);
    let mut client = server.client();
    let begun = Instant::now();
    client.order("A1", 1);
    assert_eq!(paced.text(), "{\"id\":\"A1\",\"total\":4}");
    for _ in 0..10 {
        client.order("A1", 1);
    }
    client.order("A2", 1);
    // Another product does not wait for it.
    assert_eq!(paced.text(), "{\"id\":\"A2\",\"total\":8}");
    assert_eq!(paced.text(), "{\"id\":\"A1\",\"total\":14}");
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "after {:?}", begun.elapsed());
    paced.expect_nothing_but_a_pong();
    // After a rest an order comes at once.
    client.order("A2", 1);
    assert_eq!(paced.text(), "{\"id\":\"A2\",\"total\":9}");
}

/// What a subscriber has received: the time and the total of each message.
type Seen = Vec<(Instant, i64)>;

#[track_caller]
fn check(seen: &Seen, last: i64, ordered: Instant) {
    assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "totals go up: {seen:?}");
    // The first is the snapshot's, and the second may follow at any time.
    let changes = &seen[1..];
    let took = changes[changes.len() - 1].0.duration_since(changes[0].0) + JITTER;
    let most = took.as_millis() / EVERY.as_millis() + 1;
    assert!(changes.len() as u128 <= most, "{} messages in {took:?}", changes.len());
    let (end, total) = seen[seen.len() - 1];
    assert_eq!(total, last);
    let late = end.saturating_duration_since(ordered);
    assert!(late < EVERY + 10 * JITTER, "the last total came {late:?} after its order");
}

#[test]
fn a_load_reaches_paced_subscribers_in_few_messages_and_ends_on_the_latest_total() {
    let _turn = turn();
    const ORDERS: usize = 20_000;
    const LAST: i64 = 3 + ORDERS as i64;
    let server = Server::start();
    let addr = server.addr();
    thread::scope(|scope| {
        let plain: Vec<_> = (0..20)
            .map(|_| {
                let subscriber = WebSocket::open(addr, PATH);
                spawn(scope, move || {
                    let mut seen = Seen::new();
                    follow(subscriber, DEADLINE * 4, |message| {
                        match parse_total(message) {
                            Some(("A1", total)) => seen.push((Instant::now(), total)),
                            other => assert_eq!(other, Some(("A2", 7))),
                        }
                        seen.last().is_none_or(|last| last.1 < LAST)
                    })
                    .expect("the last total comes");
                    seen
                })
            })
            .collect();
        let with_positions: Vec<_> = [Form::Events, Form::WebSocket]
            .into_iter()
            .map(|form| {
                let mut feed = Positional::open(form, addr, PATH, None);
                spawn(scope, move || {
                    let mut seen = Seen::new();
                    while seen.last().is_none_or(|last| last.1 < LAST) {
                        let step = feed.next_within(DEADLINE * 4).expect("the last total comes");
                        if step.id == "A1" {
                            seen.push((Instant::now(), step.total));
                        }
                    }
                    seen
                })
            })
            .collect();
        pipeline_orders(addr, 4, ORDERS / 4);
        let ordered = Instant::now();
        for seen in plain.into_iter().chain(with_positions) {
            check(&seen.join().expect("no panic"), LAST, ordered);
        }
    });
}

#[test]
fn no_total_is_lost_by_resuming_a_paced_feed_from_any_position() {
    let _turn = turn();
    const IDS: [&str; 3] = ["A1", "A2", "B1"];
    let server = Server::start();
    let mut client = server.client();
    for form in [Form::WebSocket, Form::Events] {
        let open = |since: Option<&str>| Positional::open(form, server.addr(), "/orders?every=50", since);
        let mut feed = open(None);
        // What a client has seen that was cut off after each message from which it can resume.
        let mut seen: HashMap<String, i64> = HashMap::new();
        let mut cuts = Vec::new();
        let mut take = |feed: &mut Positional, seen: &mut HashMap<String, i64>| {
            let step = feed.next();
            seen.insert(step.id.clone(), step.total);
            if step.can_resume() {
                cuts.push((step.position.clone().expect("a position"), seen.clone()));
            }
        };
        (0..IDS.len()).for_each(|_| take(&mut feed, &mut seen));
        for number in 0..60 {
            client.order(IDS[number % 7 % IDS.len()], 1);
            if number % 3 == 0 {
                take(&mut feed, &mut seen);
            }
        }
        let last: HashMap<String, i64> = server.totals().into_iter().collect();
        while seen != last {
            take(&mut feed, &mut seen);
        }
        assert!(cuts.len() > 10, "{} positions", cuts.len());
        for (position, mut seen) in cuts {
            let mut feed = open(Some(&position));
            while seen != last {
                let step = feed.next();
                seen.insert(step.id, step.total);
            }
        }
    }
    // After a restart the orders before it are not known by product: the current totals.
    let position = Positional::open(Form::Events, server.addr(), PATH, None).take(2)[1].position.clone().unwrap();
    client.order("A2", 1);
    let mut server = server;
    server.restart();
    let mut feed = Positional::open(Form::Events, server.addr(), PATH, Some(&position));
    let steps = feed.take(2);
    assert_eq!(steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["A1", "A2"]);
    // The last of them is known exactly.
    let mut feed = Positional::open(Form::Events, server.addr(), PATH, steps[1].position.as_deref());
    server.client().order("A2", 1);
    assert_eq!(feed.next().id, "A2");
}

#[test]
fn an_interval_is_kept_when_the_subscription_moves() {
    let server = Server::start();
    let mut paced = WebSocket::open(server.addr(), "/orders/electronics?every=60000");
    paced.texts(2);
    paced.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}");
    assert_eq!(paced.text(), "{\"id\":\"B1\",\"total\":101}");
    let mut client = server.client();
    client.order("B1", 1);
    assert_eq!(paced.text(), "{\"id\":\"B1\",\"total\":102}");
    client.order("B1", 1);
    paced.expect_nothing_but_a_pong();
}
