//! 20,000 orders from 16 posters to 200 subscribers: all see the same history.

use crate::common::load::{follow, parse_total, spawn, turn};
use crate::common::{DEADLINE, Server, WebSocket};
use crate::paced_load::{Pace, Plan, post_all};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const SUBSCRIBERS: usize = 200;
const POSTERS: usize = 16;
const ORDERS_EACH: usize = 1_250;
const ORDERS: usize = POSTERS * ORDERS_EACH;
/// How far the paced load may run ahead of the slowest subscriber, in totals. With the orders in flight it is less than
/// the 64 buffers of a subscriber's channel, so no subscriber lags.
const WINDOW: usize = 40;
const LOAD_DEADLINE: Duration = Duration::from_secs(120);

/// The totals of A1 and A2.
type Totals = [i64; 2];
const START: Totals = [3, 7];

/// The index of the product in a message, and its total.
#[track_caller]
fn electronics(message: &[u8]) -> (usize, i64) {
    match parse_total(message) {
        Some(("A1", total)) => (0, total),
        Some(("A2", total)) => (1, total),
        _ => panic!("not a total of electronics: {:?}", String::from_utf8_lossy(message)),
    }
}

fn open_all(addr: SocketAddr, path: &str, count: usize) -> Vec<WebSocket> {
    (0..count).map(|_| WebSocket::open(addr, path)).collect()
}

/// Checks that these subscribers of another category have received their snapshot and nothing else.
#[track_caller]
fn expect_only_the_snapshot(subscribers: &mut [WebSocket]) {
    for subscriber in subscribers {
        assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":101}");
        subscriber.expect_nothing_but_a_pong();
    }
}

/// Every amount is used once, so the change of a total identifies the order.
fn unique_amount(poster: usize, number: usize) -> i64 {
    let amount = (number * POSTERS + poster + 1) as i64;
    if (poster + number).is_multiple_of(3) { -amount } else { amount }
}

/// Visits of subscribers that join and leave during the load: each begins with a snapshot, then come some live totals.
fn come_and_go(addr: SocketAddr, done: &AtomicBool) -> Vec<Vec<(usize, i64)>> {
    let mut visits = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let mut seen = Vec::new();
        let subscriber = WebSocket::open(addr, "/orders/electronics");
        // A visitor leaves after some orders; the last one leaves after the load.
        let visit = follow(subscriber, DEADLINE, |message| {
            seen.push(electronics(message));
            seen.len() < 60 && !(done.load(Ordering::Relaxed) && seen.len() >= 2)
        });
        assert!(
            visit.is_ok() || done.load(Ordering::Relaxed),
            "a visitor received nothing more: {visit:?} after {} totals",
            seen.len()
        );
        visits.push(seen);
    }
    visits
}

#[test]
fn a_paced_load_reaches_every_subscriber_whole_and_in_commit_order() {
    let _turn = turn();
    let server = Server::start();
    let addr = server.addr();
    let subscribers = open_all(addr, "/orders/electronics", SUBSCRIBERS);
    let mut others = open_all(addr, "/orders/confectionery", 5);
    let plans: Vec<Plan> = (0..POSTERS)
        .map(|poster| {
            let id = |number: usize| if (number + poster).is_multiple_of(2) { "A1" } else { "A2" };
            (0..ORDERS_EACH).map(|number| (id(number), unique_amount(poster, number))).collect()
        })
        .collect();

    let pace = Pace::new(SUBSCRIBERS, WINDOW);
    let done = AtomicBool::new(false);
    let (streams, visits) = thread::scope(|scope| {
        let followers: Vec<_> = (subscribers.into_iter().enumerate())
            .map(|(number, subscriber)| {
                let pace = &pace;
                spawn(scope, move || {
                    let (mut stream, mut count) = (Vec::new(), 0);
                    let mut end = follow(subscriber, LOAD_DEADLINE, |message| {
                        stream.extend_from_slice(message);
                        stream.push(b'\n');
                        count += 1;
                        if count > START.len() {
                            pace.received(number);
                        }
                        count < START.len() + ORDERS + 1
                    })
                    .map_err(|error| format!("{error} after {count} totals"))?;
                    match end.texts_until_quiet() {
                        texts if texts.is_empty() => Ok(stream),
                        texts => Err(format!("nobody ordered {texts:?}")),
                    }
                })
            })
            .collect();
        let visitors: Vec<_> = (0..3).map(|_| spawn(scope, || come_and_go(addr, &done))).collect();
        post_all(addr, &plans, || pace.wait());
        done.store(true, Ordering::Relaxed);
        // One more order with the amount 0, for visitors that wait for one.
        server.client().order("A1", 0);
        let streams = followers.into_iter().map(|it| it.join().expect("no panic"));
        let streams: Vec<Vec<u8>> = streams.collect::<Result<_, String>>().expect("whole streams");
        let visits: Vec<_> = visitors.into_iter().flat_map(|it| it.join().expect("whole visits")).collect();
        (streams, visits)
    });

    let first = &streams[0];
    for (number, stream) in streams.iter().enumerate() {
        assert!(stream == first, "subscribers {number} and 0 have received different bytes");
    }
    let seen: Vec<(usize, i64)> =
        first.split(|&byte| byte == b'\n').filter(|it| !it.is_empty()).map(electronics).collect();
    assert_eq!(seen[..2], [(0, START[0]), (1, START[1])]);
    let (seen, closing) = seen[2..].split_at(ORDERS);
    let history = check_every_order_once(&plans, seen);
    assert_eq!(closing, [(0, history[ORDERS][0])]);
    assert!(visits.len() >= 10, "only {} visits", visits.len());
    for visit in &visits {
        check_visit(&history, seen, visit);
    }
    expect_only_the_snapshot(&mut others);
}

/// Checks that the totals contain every order once, and each poster's orders in sequence; returns the totals before
/// each order and after the last.
#[track_caller]
fn check_every_order_once(plans: &[Plan], seen: &[(usize, i64)]) -> Vec<Totals> {
    assert_eq!(seen.len(), ORDERS);
    let mut whose = HashMap::new();
    for (poster, plan) in plans.iter().enumerate() {
        for (number, &(id, amount)) in plan.iter().enumerate() {
            whose.insert((if id == "A1" { 0 } else { 1 }, amount), (poster, number));
        }
    }
    let mut next = [0; POSTERS];
    let mut totals = START;
    let mut history = vec![totals];
    for &(product, total) in seen {
        let amount = total - totals[product];
        let order = whose.get(&(product, amount));
        let &(poster, number) = order.unwrap_or_else(|| panic!("nobody ordered {amount}, but the total is {total}"));
        assert_eq!(number, next[poster], "an order of poster {poster} is missing, repeated or early");
        next[poster] += 1;
        totals[product] = total;
        history.push(totals);
    }
    history
}

/// Checks that a visitor received a snapshot and then exactly the orders that followed it.
#[track_caller]
fn check_visit(history: &[Totals], seen: &[(usize, i64)], visit: &[(usize, i64)]) {
    let [(0, a1), (1, a2), live @ ..] = visit else { panic!("no snapshot: {visit:?}") };
    // The order with the amount 0 after the load.
    let after = [(0, history[ORDERS][0])];
    let joins = (0..history.len()).any(|position| {
        let rest = seen[position..].iter().chain(&after);
        history[position] == [*a1, *a2] && live.len() <= ORDERS - position + 1 && rest.zip(live).all(|(a, b)| a == b)
    });
    assert!(joins, "a snapshot does not join its stream: {visit:?}");
}

/// Four posters share a product, and each has its own bits of the total, which therefore tells the number of its
/// orders.
const COUNTER_BITS: u32 = 12;
const PRODUCTS: [&str; 4] = ["A1", "A2", "A3", "A4"];
const POSTERS_A_PRODUCT: usize = POSTERS / PRODUCTS.len();

/// The amount of each order of that poster of a product. The last poster's is negative, so that totals go up and down.
fn weight(poster: usize) -> i64 {
    let weight = 1 << (COUNTER_BITS * poster as u32);
    if poster == POSTERS_A_PRODUCT - 1 { -weight } else { weight }
}

/// The number of orders of each poster in the change of a product's total.
fn counts(gained: i64) -> [i64; POSTERS_A_PRODUCT] {
    let low = 1 << (COUNTER_BITS * (POSTERS_A_PRODUCT as u32 - 1));
    let positive = gained.rem_euclid(low);
    std::array::from_fn(|poster| {
        if poster == POSTERS_A_PRODUCT - 1 {
            (positive - gained) / low
        } else {
            (positive >> (COUNTER_BITS * poster as u32)) % (1 << COUNTER_BITS)
        }
    })
}

/// The totals that one subscriber of the unpaced load has received.
#[derive(Default)]
struct View {
    /// The number of totals received, the snapshot's included.
    received: usize,
    totals: [Option<i64>; PRODUCTS.len()],
    /// Every total except the snapshot's, by product.
    seen: [Vec<i64>; PRODUCTS.len()],
}

const ZERO: [i64; PRODUCTS.len()] = [3, 7, 0, 0];

impl View {
    /// Adds a total, which must contain at least the orders of the one before.
    #[track_caller]
    fn take(&mut self, message: &[u8]) {
        let parsed =
            parse_total(message).and_then(|(id, total)| Some((PRODUCTS.iter().position(|it| *it == id)?, total)));
        let (product, total) = parsed.unwrap_or_else(|| panic!("not a total: {:?}", String::from_utf8_lossy(message)));
        self.received += 1;
        let new = counts(total - ZERO[product]);
        assert!(new.iter().all(|count| (0..=ORDERS_EACH as i64).contains(count)), "a wrong total: {total} is {new:?}");
        if let Some(before) = self.totals[product].replace(total) {
            let old = counts(before - ZERO[product]);
            assert!(old.iter().zip(&new).all(|(old, new)| old <= new), "an older total: {new:?} after {old:?}");
            self.seen[product].push(total);
        }
    }

    fn is_last(&self) -> bool {
        let last =
            |product: usize| ZERO[product] + (0..POSTERS_A_PRODUCT).map(weight).sum::<i64>() * ORDERS_EACH as i64;
        (0..PRODUCTS.len()).all(|product| self.totals[product] == Some(last(product)))
    }
}

#[test]
fn an_unpaced_load_never_shows_a_wrong_or_an_older_total_and_ends_right_everywhere() {
    let _turn = turn();
    let server = Server::start();
    let addr = server.addr();
    for _ in 2..PRODUCTS.len() {
        let added = server.client().post("/electronics", "{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"\"}");
        assert_eq!(added.status, 200);
    }
    let subscribers = open_all(addr, "/orders/electronics", SUBSCRIBERS);
    let mut others = open_all(addr, "/orders/confectionery", 5);
    let plans: Vec<Plan> = (0..POSTERS)
        .map(|poster| vec![(PRODUCTS[poster % PRODUCTS.len()], weight(poster / PRODUCTS.len())); ORDERS_EACH])
        .collect();

    let done = AtomicBool::new(false);
    let visits = AtomicUsize::new(0);
    let views: Vec<View> = thread::scope(|scope| {
        let followers: Vec<_> = (subscribers.into_iter())
            .map(|subscriber| {
                spawn(scope, move || {
                    let mut view = View::default();
                    let mut end = follow(subscriber, LOAD_DEADLINE, |message| {
                        view.take(message);
                        !view.is_last()
                    })
                    .map_err(|error| format!("{error} after {} totals", view.received))?;
                    // The rest of a snapshot may follow; it is checked too.
                    end.texts_until_quiet().iter().for_each(|text| view.take(text.as_bytes()));
                    if view.is_last() { Ok(view) } else { Err(format!("the end is {:?}", view.totals)) }
                })
            })
            .collect();
        for _ in 0..3 {
            spawn(scope, || {
                while !done.load(Ordering::Relaxed) {
                    let mut view = View::default();
                    let subscriber = WebSocket::open(addr, "/orders/electronics");
                    let visit = follow(subscriber, DEADLINE, |message| {
                        view.take(message);
                        view.received < 60 && !view.is_last()
                    });
                    let timed_out = visit.is_err_and(|error| error.kind() == ErrorKind::TimedOut);
                    assert!(!timed_out, "a visitor received nothing more after {} totals", view.received);
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        post_all(addr, &plans, || {});
        let views = followers.into_iter().map(|it| it.join().expect("no panic")).collect::<Result<_, String>>();
        done.store(true, Ordering::Relaxed);
        views.expect("right endings")
    });

    // All saw states of the same history: sorted, the totals of a product form a chain.
    for (product, zero) in ZERO.iter().enumerate() {
        let mut all: Vec<[i64; POSTERS_A_PRODUCT]> =
            views.iter().flat_map(|view| &view.seen[product]).map(|total| counts(total - zero)).collect();
        all.sort_unstable_by_key(|counts| counts.iter().sum::<i64>());
        all.dedup();
        for pair in all.windows(2) {
            assert!(
                pair[0].iter().zip(&pair[1]).all(|(old, new)| old <= new),
                "neither of {pair:?} contains the other"
            );
        }
    }
    let whole = PRODUCTS.len() + ORDERS;
    let skipped: usize = views.iter().map(|view| whole.saturating_sub(view.received)).sum();
    let lagged = views.iter().filter(|view| view.received < whole).count();
    println!(
        "{lagged} of {SUBSCRIBERS} subscribers lagged; {skipped} of {} totals were skipped; {} visits",
        ORDERS * SUBSCRIBERS,
        visits.load(Ordering::Relaxed)
    );
    for view in &views {
        assert!(view.received <= whole + PRODUCTS.len() * ORDERS, "more totals than orders and snapshots");
    }
    assert!(visits.load(Ordering::Relaxed) >= 3, "too few visits");
    expect_only_the_snapshot(&mut others);
}
