//! Several fan-out threads: a client cannot tell which one it has.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::load::{follow, parse_total, spawn, turn};
use crate::common::websocket::close_frame;
use crate::common::{Form, Message, Positional, Server, WebSocket, periods, wait_until};

const THREADS: usize = 3;
const ORDERS_EACH: usize = 400;
/// How many orders a poster posts between two looks at a new subscriber's snapshot.
const LOOK_EVERY: usize = 20;
const DEADLINE: Duration = Duration::from_secs(60);
/// Fewer moves than the 20 messages a second that a session may send.
const BETWEEN_MOVES: Duration = Duration::from_millis(70);
/// What the last order adds, so that its total is known from all others.
const LAST: i64 = 1_000_000;
const CHOCOLATE: i64 = 101;

/// A total, and the number of its order if it has one.
type Seen = (String, i64, Option<u64>);

fn total_of(text: &[u8]) -> (String, i64) {
    let (id, total) = parse_total(text).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(text)));
    (id.to_owned(), total)
}

fn totals_of<'a>(seen: &'a [(String, i64)], id: &'a str) -> impl Iterator<Item = i64> + 'a {
    seen.iter().filter(move |(other, _)| other == id).map(|(_, total)| *total)
}

/// Everything after the snapshot up to the total that `is_last` accepts.
fn follow_positions(form: Form, server: &Server, path: &str, is_last: impl Fn(i64) -> bool) -> Vec<Seen> {
    let mut feed = Positional::open(form, server.addr(), path, None);
    while !feed.next().can_resume() {}
    let mut seen: Vec<Seen> = Vec::new();
    while !seen.last().is_some_and(|(id, total, _)| id == "B1" && is_last(*total)) {
        let step = feed.next_within(DEADLINE).expect("the server sends");
        let seq = step.can_resume().then(|| step.seq());
        seen.push((step.id, step.total, seq));
    }
    seen
}

fn follow_plain(subscriber: WebSocket) -> Vec<(String, i64)> {
    let mut seen = Vec::new();
    let followed = follow(subscriber, DEADLINE, |text| {
        let (id, total) = total_of(text);
        let is_last = id == "B1" && total > LAST;
        seen.push((id, total));
        !is_last
    });
    followed.expect("the server sends");
    seen
}

fn hide(server: &Server, is_hidden: bool) {
    let body = format!("{{\"hidden\":{is_hidden}}}");
    let headers = [("Content-Type", "application/merge-patch+json")];
    let reply = server.client().request("PATCH", "/electronics/A2", &headers, body.as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Moves between the categories until `done`, and then to the one of the last order. No total goes down.
fn move_about(server: &Server, done: &AtomicBool) {
    let mut subscriber = WebSocket::open(server.addr(), "/orders/electronics");
    let move_to = |subscriber: &mut WebSocket, category: &str| {
        subscriber.send(&format!("{{\"cmd\":\"update-category\",\"payload\":{{\"category\":\"{category}\"}}}}"));
    };
    let mut highest = HashMap::new();
    for number in 0.. {
        let is_last = done.load(Ordering::Relaxed);
        let category = if is_last || number % 2 == 0 { "confectionery" } else { "electronics" };
        move_to(&mut subscriber, category);
        let begun = Instant::now();
        while is_last || begun.elapsed() < BETWEEN_MOVES {
            let text = match subscriber.next_within(if is_last { DEADLINE } else { BETWEEN_MOVES }) {
                Ok(Message::Text(text)) => text,
                Err(error) if !is_last && error.kind() == ErrorKind::TimedOut => break,
                other => panic!("not a text: {other:?}"),
            };
            let (id, total) = total_of(text.as_bytes());
            let before = highest.insert(id, total);
            assert!(before.is_none_or(|before| before <= total), "{text} after {before:?}");
            if total > LAST {
                return;
            }
        }
    }
}

#[test]
fn subscribers_of_different_threads_see_the_same_orders_changes_and_closes_in_the_same_order() {
    let _turn = turn();
    let server = Server::builder().arg("--fanout-threads").arg(THREADS.to_string()).start();
    // A thread gives itself its name when it first runs.
    wait_until(DEADLINE, "all threads run", || server.threads_named("fanout") == THREADS);
    let (answered, done) = (AtomicI64::new(0), AtomicBool::new(false));
    let (server, answered, done) = (&server, &answered, &done);
    thread::scope(|scope| {
        let forms = [Form::WebSocket, Form::Events];
        let mut every_order = Vec::new();
        let (mut of_period, mut plain) = (Vec::new(), Vec::new());
        for number in 0..4 * THREADS {
            let form = forms[number % 2];
            every_order.push(spawn(scope, move || follow_positions(form, server, "/orders", |total| total > LAST)));
            let path = "/orders/confectionery?period=current";
            of_period.push(spawn(scope, move || follow_positions(form, server, path, |total| total >= LAST)));
            let path = if number % 2 == 0 { "/orders" } else { "/orders?every=50" };
            plain.push(spawn(scope, move || follow_plain(WebSocket::open(server.addr(), path))));
        }
        let count = || {
            let text = server.client().get("/metrics").text().to_owned();
            let lines = text.lines().filter(|line| line.starts_with("ordercast_subscribers{"));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum::<usize>()
        };
        wait_until(DEADLINE, "all are listed", || count() == 12 * THREADS);
        let mover = spawn(scope, || move_about(server, done));
        let posters: Vec<_> = ["A1", "B1", "A1", "B1"]
            .into_iter()
            .map(|id| {
                spawn(scope, move || {
                    let mut client = server.client();
                    for number in 0..ORDERS_EACH {
                        client.order(id, 1);
                        answered.fetch_add(i64::from(id == "B1"), Ordering::SeqCst);
                        if number % LOOK_EVERY == 0 {
                            let known = CHOCOLATE + answered.load(Ordering::SeqCst);
                            let (_, first) =
                                total_of(WebSocket::open(server.addr(), "/orders/confectionery").text().as_bytes());
                            assert!(first >= known && client.total("B1") >= first, "{first} after {known}");
                        }
                    }
                })
            })
            .collect();
        let half = CHOCOLATE + ORDERS_EACH as i64;
        wait_until(DEADLINE, "half of the orders are counted", || server.total("B1") >= half);
        hide(server, true);
        // A thread that reads the catalogue later finds the product shown again, and has nothing to send.
        wait_until(DEADLINE, "every thread has hidden it", || {
            let mut new: Vec<_> = (0..2 * THREADS).map(|_| WebSocket::open(server.addr(), "/orders")).collect();
            new.iter_mut().all(|one| one.texts(2).iter().all(|text| !text.contains("A2")))
        });
        let closed = periods::close(&mut server.client(), 1);
        assert_eq!(server.client().post("/electronics", "{\"name\":\"Saw\"}").status, 200);
        hide(server, false);
        posters.into_iter().for_each(|poster| poster.join().expect("every snapshot has the orders before it"));
        server.client().order("B1", LAST);
        done.store(true, Ordering::Relaxed);

        let every_order: Vec<Vec<Seen>> = every_order.into_iter().map(|one| one.join().unwrap()).collect();
        let first = &every_order[0];
        let seqs: Vec<u64> = first.iter().filter_map(|(.., seq)| *seq).collect();
        assert!(seqs.windows(2).all(|pair| pair[1] > pair[0]), "{seqs:?}");
        let all: Vec<_> = first.iter().map(|(id, total, _)| (id.clone(), *total)).collect();
        let orders = |id| totals_of(&all, id);
        assert!(orders("A1").eq(4..=3 + 2 * ORDERS_EACH as i64), "every total of A1");
        assert!(orders("B1").take(2 * ORDERS_EACH).eq(102..=101 + 2 * ORDERS_EACH as i64), "every total of B1");
        assert!(orders("A2").eq([7]) && orders("A3").eq([0]), "a product that is shown again, and a new one");
        assert!(every_order.iter().all(|other| other == first), "the same order at each");

        // A close may come between other orders of a round, which the snapshot after it has.
        let last = 2 * ORDERS_EACH as i64 + LAST - periods::amounts(&closed)["B1"];
        for seen in of_period {
            assert_eq!(seen.join().unwrap().last().map(|(_, total, _)| *total), Some(last));
        }
        let known = |id: &str, total: i64| first.iter().any(|(other, number, _)| other == id && *number == total);
        for seen in plain.into_iter().map(|one| one.join().unwrap()) {
            let snapshot = [("A1".to_owned(), 3), ("A2".to_owned(), 7), ("B1".to_owned(), CHOCOLATE)];
            assert_eq!(seen[..3], snapshot);
            assert!(seen[3..].iter().all(|(id, total)| known(id, *total)), "totals that no order made");
            assert!(totals_of(&seen, "A1").is_sorted() && totals_of(&seen, "B1").is_sorted());
        }
        mover.join().expect("the moves are right");
    });
}

/// How often each fan-out thread has waited.
fn waits(server: &Server) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let of_fanout = statuses.filter(|status| status.starts_with("Name:\tfanout\n"));
    let waits =
        |status: String| status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:\t")?.parse().ok());
    of_fanout.map(|status| waits(status).expect("a number")).collect()
}

#[test]
fn subscribers_are_spread_over_all_threads_after_another_one_has_closed_its_session() {
    let _turn = turn();
    let server = Server::builder().arg("--fanout-threads").arg(THREADS.to_string()).start();
    wait_until(DEADLINE, "all threads run", || server.threads_named("fanout") == THREADS);
    let mut client = server.client();
    let mut closed = WebSocket::open(server.addr(), "/orders/electronics");
    closed.send_raw(&close_frame(1000));
    assert_eq!(closed.close_code(), Some(1000));
    drop(closed);
    wait_until(DEADLINE, "the session has ended", || {
        client.get("/metrics").text().contains("\nordercast_connections_open 1\n")
    });
    let mut subscribers: Vec<_> = (0..THREADS).map(|_| WebSocket::open(server.addr(), "/orders/electronics")).collect();
    subscribers.iter_mut().for_each(|subscriber| drop(subscriber.texts(2)));
    let before = waits(&server);
    for _ in 0..3 {
        client.order("A1", 1);
        subscribers.iter_mut().for_each(|subscriber| drop(subscriber.text()));
    }
    wait_until(DEADLINE, "each thread has sent its subscriber the totals", || {
        waits(&server).iter().zip(&before).all(|(now, before)| now > before)
    });
}
