//! The clients of a run: each records what it asked and what it was answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::linear::{Operation, Subscriber, What};
use super::{BATCHES, ORDERS_EACH, STARTS};
use crate::common::load::parse_total;
use crate::common::periods::{amounts, report, try_close};
use crate::common::{Client, DEADLINE, Form, Message, Positional, Random, WebSocket, order_log};

/// The feeds, and how many products each has.
pub const FEEDS: [(&str, usize); 3] = [("/orders", 3), ("/orders/electronics", 2), ("/orders/confectionery", 1)];
/// The longest time between two closes.
const LONGEST_PERIOD: Duration = Duration::from_millis(60);

/// The operations of one thread.
pub struct Recorder {
    pub clock: Instant,
    pub operations: Vec<Operation>,
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

    fn note(&mut self, what: What) {
        let now = self.now();
        self.operations.push(Operation { invoked: now, returned: Some(now), what });
    }
}

/// One poster of a pair: sends the pair's orders in sequence. For each tenth key both also send another order, one of
/// them after the first order and the other before it: the server counts the one that comes first and rejects the
/// other.
pub fn post(addr: SocketAddr, poster: usize, seed: u64, recorder: &mut Recorder) {
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

pub fn post_batches(addr: SocketAddr, seed: u64, recorder: &mut Recorder) {
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

/// Orders more of each product, when everything else is done, than all others together: the last numbers are no earlier
/// ones, so that a subscriber knows them when it sees them.
pub fn post_last(addr: SocketAddr, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    for (id, _) in STARTS {
        recorder.record(|| {
            let key = format!("last-{id}");
            let body = format!("{{\"amount\":1000000,\"key\":\"{key}\"}}");
            assert_eq!(client.post(&format!("/orders/{id}"), body).status, 200);
            What::Orders(vec![(key, id, 1_000_000)])
        });
    }
}

pub fn read(addr: SocketAddr, done: &AtomicBool, mut random: Random, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    while !done.load(Ordering::Relaxed) {
        let (feed, _) = *random.pick(&FEEDS);
        recorder.record(|| match random.below(6) {
            0..3 => What::Read(feed, totals(&client.get(feed).json())),
            3 | 4 => What::ReadCounts(feed, None, totals(&client.get(&address(feed, true)).json())),
            _ => {
                let report = report(&mut client, "current");
                let amounts = amounts(&report);
                let count = |id: &str| amounts.get(id).copied().unwrap_or(0);
                let counts = STARTS.iter().map(|(id, _)| ((*id).to_owned(), count(id))).collect();
                What::ReadCounts("/orders", report["number"].as_u64(), counts)
            }
        });
    }
}

/// The numbers of a feed as a JSON array.
fn totals(list: &Value) -> Vec<(String, i64)> {
    let one = |it: &Value| Some((it["id"].as_str()?.to_owned(), it["total"].as_i64()?));
    list.as_array().expect("an array").iter().map(|it| one(it).expect("a total")).collect()
}

/// Where a feed is, of totals or of counts of the current period.
fn address(feed: &str, has_counts: bool) -> String {
    if has_counts { format!("{feed}?period=current") } else { feed.to_owned() }
}

/// Closes one period after another at random moments, and reads their reports. Two of them do that with the same numbers.
pub fn close(addr: SocketAddr, done: &AtomicBool, mut random: Random, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    let mut number = 1;
    while !done.load(Ordering::Relaxed) {
        // A random moment, not an event to wait for.
        thread::sleep(Duration::from_micros(random.below(LONGEST_PERIOD.as_micros() as u64)));
        recorder.record(|| {
            let reply = try_close(&mut client, number).expect("the server answers");
            if reply.status != 200 {
                reply.problem(409);
            }
            What::Closed(number, reply.status == 200)
        });
        recorder.record(|| What::ReadReport(number, amounts(&report(&mut client, &number.to_string()))));
        number += 1;
    }
}

/// Reads the log from its last position again and again.
pub fn read_log(addr: SocketAddr, done: &AtomicBool, recorder: &mut Recorder) {
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
pub enum Ear {
    Plain,
    Positions(Form),
}

/// Returns the next number of a feed, or `None` after a short time. If the feed was resumed behind it, with the sequence
/// number in its position.
type Feed = Box<dyn FnMut() -> Option<((String, i64), Option<u64>)>>;

/// Opens a feed. With positions, the connection is cut after every 100 numbers from which the feed can be resumed.
fn open(addr: SocketAddr, ear: Ear, path: String) -> Feed {
    match ear {
        Ear::Plain => {
            let mut socket = WebSocket::open(addr, &path);
            Box::new(move || match socket.next_within(Duration::from_millis(100)) {
                Ok(Message::Text(text)) => {
                    let (id, total) = parse_total(text.as_bytes()).expect("a total");
                    Some(((id.to_owned(), total), None))
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            })
        }
        Ear::Positions(form) => {
            let mut socket = Positional::open(form, addr, &path, None);
            let mut count = 0;
            Box::new(move || {
                let step = socket.next_within(Duration::from_millis(100)).ok()?;
                count += u32::from(step.can_resume());
                let is_cut = step.can_resume() && count.is_multiple_of(100);
                if is_cut {
                    socket = Positional::open(form, addr, &path, step.position.as_deref());
                }
                Some((step.pair(), is_cut.then(|| step.seq())))
            })
        }
    }
}

/// A feed, and how a subscriber follows it.
#[derive(Clone, Copy)]
pub struct Followed {
    pub ear: Ear,
    pub feed: (&'static str, usize),
    pub has_counts: bool,
}

/// Follows a feed until every product has its last number.
pub fn listen(
    addr: SocketAddr,
    number: usize,
    Followed { ear, feed: (path, products), has_counts }: Followed,
    last: &LastNumbers,
    recorder: &mut Recorder,
) -> Subscriber {
    let mut snapshot = Vec::new();
    let mut next = None;
    recorder.record(|| {
        // The opening is part of the operation: the snapshot is of a moment since then.
        let next = next.insert(open(addr, ear, address(path, has_counts)));
        while snapshot.len() < products {
            snapshot.extend(next().map(|(number, _)| number));
        }
        if has_counts { What::ReadCounts(path, None, snapshot.clone()) } else { What::Read(path, snapshot.clone()) }
    });
    let mut next = next.expect("opened above");
    let mut totals = snapshot.clone();
    let begun = Instant::now();
    while !last.are(has_counts, &totals) {
        match next() {
            Some((total, resumed)) => {
                totals.retain(|(id, _)| *id != total.0);
                totals.push(total.clone());
                recorder.note(What::Told(number, total));
                if let Some(seq) = resumed {
                    recorder.note(What::Resumed(number, seq));
                }
            }
            None => assert!(begun.elapsed() < 4 * DEADLINE, "subscriber {number} never receives the last numbers"),
        }
    }
    Subscriber { feed: path, has_counts, snapshot, due_every_order: ear != Ear::Plain }
}

/// Reads the totals and the counts of the current period when all orders and closes are answered.
#[track_caller]
pub fn read_end(addr: SocketAddr) -> [Vec<(String, i64)>; 2] {
    let mut totals = BTreeMap::from(STARTS.map(|(id, start)| (id.to_owned(), start)));
    totals.extend(order_log::read_whole(addr, &STARTS).into_iter().map(|line| (line.id, line.total)));
    let reported = amounts(&report(&mut Client::connect(addr), "current"));
    let counts = STARTS.map(|(id, _)| (id.to_owned(), reported.get(id).copied().unwrap_or(0)));
    [totals.into_iter().collect(), counts.to_vec()]
}

/// The last totals and the last counts of the current period, set when all orders and closes are answered.
#[derive(Default)]
pub struct LastNumbers(pub OnceLock<[Vec<(String, i64)>; 2]>);

impl LastNumbers {
    fn are(&self, has_counts: bool, numbers: &[(String, i64)]) -> bool {
        self.0.get().is_some_and(|last| numbers.iter().all(|one| last[usize::from(has_counts)].contains(one)))
    }
}
