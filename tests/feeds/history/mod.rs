//! A recorded history of concurrent clients is linearizable: all answers and totals fit the order of the log, in which
//! each operation takes effect between its invocation and its answer. `linear.rs` has the check; here is the run. The
//! check must also reject the wrong histories of `forgeries.rs`.

mod forgeries;
mod linear;

use crate::common::load::{parse_total, spawn, turn};
use crate::common::{Client, DEADLINE, Form, Message, Positional, Random, Server, WebSocket, order_log, seed};
use forgeries::FORGERIES;
use linear::{History, Operation, Subscriber, What, check};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
const FEEDS: [(&str, usize); 3] = [("/orders", 3), ("/orders/electronics", 2), ("/orders/confectionery", 1)];
/// Pairs of posters that send the same orders at about the same time, so that each order is repeated.
const PAIRS: usize = 5;
const ORDERS_EACH: usize = 150;
/// One pair sends batches instead.
const BATCHES: usize = 40;
const READERS: usize = 3;
const LOG_READERS: usize = 2;

/// The operations of one thread.
struct Recorder {
    clock: Instant,
    operations: Vec<Operation>,
}

impl Recorder {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Runs `act` and records the operation that it returns.
    fn record(&mut self, act: impl FnOnce() -> What) {
        let invoked = self.now();
        let what = act();
        self.operations.push(Operation { invoked, returned: Some(self.now()), what });
    }

    fn told(&mut self, number: usize, total: (String, i64)) {
        let now = self.now();
        self.operations.push(Operation { invoked: now, returned: Some(now), what: What::Told(number, total) });
    }
}

/// One poster of a pair: sends the pair's orders in sequence. For each tenth key both also send another order, one of
/// them after the first order and the other before it: the server counts the one that comes first and rejects the
/// other.
fn post(addr: SocketAddr, poster: usize, seed: u64, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    let pair = poster / 2;
    // Both posters of a pair draw the same numbers, so they send the same orders.
    let mut random = Random::new(seed, pair as u64);
    for number in 0..ORDERS_EACH {
        let (key, id, amount) = (format!("{pair}-{number}"), random.pick(&STARTS).0, 1 + random.below(9) as i64);
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
        let amounts = match (number % 10, poster % 2) {
            (9, 0) => &[amount, 1000][..],
            (9, _) => &[1000, amount],
            _ => &[amount],
        };
        for amount in amounts {
            recorder.record(|| {
                let body = format!("{{\"amount\":{amount}}}");
                let reply = client.request("POST", &format!("/orders/{id}"), &headers, body.as_bytes());
                let sent = (key.clone(), id, *amount);
                match reply.status {
                    200 => What::Orders(vec![sent]),
                    422 => What::KeyReused(sent),
                    _ => panic!("{reply:?}"),
                }
            });
        }
    }
}

fn post_batches(addr: SocketAddr, seed: u64, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    let mut random = Random::new(seed, 1_000);
    for batch in 0..BATCHES {
        let count = 2 + random.below(8);
        let orders: Vec<_> = (0..count)
            .map(|place| (format!("b-{batch}-{place}"), random.pick(&STARTS).0, 1 + random.below(9) as i64))
            .collect();
        let one = |(key, id, amount): &(String, &str, i64)| {
            format!("{{\"id\":\"{id}\",\"amount\":{amount},\"key\":\"{key}\"}}")
        };
        let body = orders.iter().map(one).collect::<Vec<_>>().join("\n");
        recorder.record(|| {
            let headers = [("Content-Type", "application/x-ndjson")];
            let reply = client.request("POST", "/orders", &headers, body.as_bytes());
            assert_eq!(reply.status, 200, "{reply:?}");
            What::Orders(orders)
        });
    }
}

fn read(addr: SocketAddr, done: &AtomicBool, mut random: Random, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    while !done.load(Ordering::Relaxed) {
        let (feed, _) = *random.pick(&FEEDS);
        recorder.record(|| {
            let list = client.get(feed).json();
            let one = |it: &serde_json::Value| Some((it["id"].as_str()?.to_owned(), it["total"].as_i64()?));
            What::Read(feed, list.as_array().expect("an array").iter().map(|it| one(it).expect("a total")).collect())
        });
    }
}

/// Reads the log from its last position again and again.
fn read_log(addr: SocketAddr, done: &AtomicBool, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    let mut last = 0;
    while !done.load(Ordering::Relaxed) {
        recorder.record(|| {
            let page = client.get(&format!("/log?after={last}"));
            let lines = order_log::lines(&page);
            assert_eq!(order_log::next_page(&page), None, "all orders of this run fit in one page");
            last = lines.last().map_or(last, |line| line.seq);
            What::ReadLog(last)
        });
    }
}

/// How a subscriber follows its feed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ear {
    Plain,
    Positions(Form),
}

/// Returns the next total of a feed, or `None` after a short time.
type Feed = Box<dyn FnMut() -> Option<(String, i64)>>;

/// Opens a feed. With positions, the connection is cut every 100 totals and the feed resumes.
fn open(addr: SocketAddr, ear: Ear, path: &'static str) -> Feed {
    match ear {
        Ear::Plain => {
            let mut socket = WebSocket::open(addr, path);
            Box::new(move || match socket.next_within(Duration::from_millis(100)) {
                Ok(Message::Text(text)) => {
                    let (id, total) = parse_total(text.as_bytes()).expect("a total");
                    Some((id.to_owned(), total))
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            })
        }
        Ear::Positions(form) => {
            let mut socket = Positional::open(form, addr, path, None);
            let mut count = 0;
            Box::new(move || {
                let step = socket.next_within(Duration::from_millis(100)).ok()?;
                count += 1;
                if count % 100 == 0 {
                    socket = Positional::open(form, addr, path, step.position.as_deref());
                }
                Some(step.pair())
            })
        }
    }
}

/// Follows a feed until every product has its last total.
fn listen(
    addr: SocketAddr,
    number: usize,
    ear: Ear,
    feed: (&'static str, usize),
    last: &LastTotals,
    recorder: &mut Recorder,
) -> Subscriber {
    let (path, products) = feed;
    let mut snapshot = Vec::new();
    let mut next = None;
    recorder.record(|| {
        // The opening is part of the operation: the snapshot is of a moment since then.
        let next = next.insert(open(addr, ear, path));
        while snapshot.len() < products {
            snapshot.extend(next());
        }
        What::Read(path, snapshot.clone())
    });
    let mut next = next.expect("opened above");
    let mut totals = snapshot.clone();
    let begun = Instant::now();
    while !last.are(&totals) {
        match next() {
            Some(total) => {
                totals.retain(|(id, _)| *id != total.0);
                totals.push(total.clone());
                recorder.told(number, total);
            }
            None => assert!(begun.elapsed() < 4 * DEADLINE, "subscriber {number} never receives the last totals"),
        }
    }
    Subscriber { feed: path, snapshot, due_every_order: ear != Ear::Plain }
}

/// The last totals, set when all orders are answered.
#[derive(Default)]
struct LastTotals(std::sync::OnceLock<Vec<(String, i64)>>);

impl LastTotals {
    fn are(&self, totals: &[(String, i64)]) -> bool {
        self.0.get().is_some_and(|last| totals.iter().all(|total| last.contains(total)))
    }
}

/// Records a run.
fn run(seed: u64) -> History {
    let server = Server::start();
    let addr = server.addr();
    let clock = Instant::now();
    let recorder = || Recorder { clock, operations: Vec::new() };
    let (done, last, subscribed) = (AtomicBool::new(false), LastTotals::default(), AtomicUsize::new(0));
    let ears = [Ear::Plain, Ear::Positions(Form::WebSocket), Ear::Positions(Form::Events)];
    let followed: Vec<_> = ears.into_iter().flat_map(|ear| FEEDS.map(|feed| (ear, feed))).collect();
    let (operations, subscribers) = thread::scope(|scope| {
        let listeners: Vec<_> = (followed.iter().enumerate())
            .map(|(number, (ear, feed))| {
                let (last, subscribed, mut recorder) = (&last, &subscribed, recorder());
                spawn(scope, move || {
                    // One after the other during the load, so that snapshots are taken in the middle of it.
                    while subscribed.load(Ordering::Relaxed) < number {
                        thread::sleep(Duration::from_millis(1));
                    }
                    thread::sleep(Duration::from_millis(10));
                    subscribed.fetch_add(1, Ordering::Relaxed);
                    (listen(addr, number, *ear, *feed, last, &mut recorder), recorder.operations)
                })
            })
            .collect();
        let posters: Vec<_> = (0..2 * PAIRS)
            .map(|poster| {
                let mut recorder = recorder();
                spawn(scope, move || {
                    match poster / 2 {
                        0 => post_batches(addr, seed, &mut recorder),
                        _ => post(addr, poster, seed, &mut recorder),
                    }
                    recorder.operations
                })
            })
            .collect();
        let readers: Vec<_> = (0..READERS + LOG_READERS)
            .map(|reader| {
                let (done, random, mut recorder) = (&done, Random::new(seed, 2_000 + reader as u64), recorder());
                spawn(scope, move || {
                    if reader < READERS {
                        read(addr, done, random, &mut recorder);
                    } else {
                        read_log(addr, done, &mut recorder);
                    }
                    recorder.operations
                })
            })
            .collect();
        let mut operations = Vec::new();
        posters.into_iter().for_each(|it| operations.extend(it.join().expect("orders are answered")));
        done.store(true, Ordering::Relaxed);
        let mut ends = Vec::new();
        for line in order_log::read_whole(addr, &STARTS).into_iter().rev() {
            if ends.iter().all(|(id, _)| *id != line.id) {
                ends.push((line.id, line.total));
            }
        }
        last.0.set(ends).expect("once");
        readers.into_iter().for_each(|it| operations.extend(it.join().expect("totals are answered")));
        let mut subscribers = Vec::new();
        for (subscriber, told) in listeners.into_iter().map(|it| it.join().expect("right endings")) {
            subscribers.push(subscriber);
            operations.extend(told);
        }
        (operations, subscribers)
    });
    let log = order_log::read_whole(addr, &STARTS);
    History { starts: STARTS.to_vec(), operations, log, subscribers }
}

#[test]
fn what_concurrent_clients_did_and_saw_is_linearizable() {
    let _turn = turn();
    let history = run(seed());
    let count = |is: fn(&What) -> bool| history.operations.iter().filter(|operation| is(&operation.what)).count();
    println!(
        "{} orders counted; {} requests, {} rejections, {} reads of totals, {} of the log, {} totals received",
        history.log.len(),
        count(|what| matches!(what, What::Orders(_))),
        count(|what| matches!(what, What::KeyReused(_))),
        count(|what| matches!(what, What::Read(..))),
        count(|what| matches!(what, What::ReadLog(_))),
        count(|what| matches!(what, What::Told(..)))
    );
    check(&history).unwrap_or_else(|why| panic!("{why}"));
    for (name, forge) in FORGERIES {
        let mut forged = history.clone();
        forge(&mut forged);
        let refused = check(&forged).expect_err(name);
        println!("{name}: {refused}");
    }
}
