//! The clients of a run: each records what it asked and what it was answered. With several servers each request may go to
//! another one. What was not answered is sent again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::linear::{Operation, What};
use super::{PATIENCE, Plan, STARTS};
use crate::common::periods::{amounts, report};
use crate::common::{Client, Random, Reply, order_log};

/// The feeds, and how many products each has.
pub const FEEDS: [(&str, usize); 3] = [("/orders", 3), ("/orders/electronics", 2), ("/orders/confectionery", 1)];
/// The pause before something is sent again, so that a server can start.
pub const PAUSE: Duration = Duration::from_millis(20);

/// A client's connections, one for each server.
pub struct Links<'a> {
    addrs: &'a [SocketAddr],
    clients: Vec<Option<Client>>,
    pub random: Random,
    /// The server that is asked.
    pub at: usize,
}

impl<'a> Links<'a> {
    pub fn new(addrs: &'a [SocketAddr], random: Random) -> Links<'a> {
        let mut links = Links { addrs, clients: addrs.iter().map(|_| None).collect(), random, at: 0 };
        links.move_on();
        links
    }

    /// Goes to a random server.
    pub fn move_on(&mut self) {
        self.at = self.random.place(self.addrs.len());
    }

    /// Asks the server. `None` without an answer; 500 and 503 are none.
    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
        let client = &mut self.clients[self.at];
        if client.is_none() {
            *client = Client::try_connect(self.addrs[self.at]).ok();
        }
        let reply = client.as_mut()?.try_request(method, path, headers, body.as_bytes()).ok();
        let reply = reply.filter(|reply| ![500, 503].contains(&reply.status));
        if reply.is_none() {
            *client = None;
        }
        reply
    }

    fn get(&mut self, path: &str) -> Option<Reply> {
        self.ask("GET", path, &[], "")
    }

    fn get_json(&mut self, path: &str) -> Option<Value> {
        let reply = self.get(path)?;
        assert_eq!(reply.status, 200, "{reply:?}");
        Some(reply.json())
    }
}

/// The operations of one thread.
pub struct Recorder {
    clock: Instant,
    pub operations: Vec<Operation>,
    /// Requests without an answer, and feeds that ended.
    pub lost: usize,
}

impl Recorder {
    pub fn new(clock: Instant) -> Recorder {
        Recorder { clock, operations: Vec::new(), lost: 0 }
    }

    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Records an operation that is answered now.
    pub fn record(&mut self, node: usize, invoked: u64, what: What) {
        self.operations.push(Operation { node, invoked, returned: Some(self.now()), what });
    }

    /// Records what was received now.
    pub fn note(&mut self, node: usize, what: What) {
        self.record(node, self.now(), what);
    }

    /// Asks at one server after the other until there is an answer. `what` stands for each request without one.
    fn until_answered(&mut self, links: &mut Links, what: &What, ask: impl Fn(&mut Links) -> Option<What>) {
        let begun = Instant::now();
        loop {
            let (node, invoked) = (links.at, self.now());
            if let Some(what) = ask(links) {
                return self.record(node, invoked, what);
            }
            assert!(begun.elapsed() < PATIENCE, "never answered: {what:?}");
            self.operations.push(Operation { node, invoked, returned: None, what: what.clone() });
            self.lost += 1;
            thread::sleep(PAUSE);
            links.move_on();
        }
    }

    /// Asks a random server for something that changes nothing. Without an answer it is not recorded.
    fn once(&mut self, links: &mut Links, ask: impl FnOnce(&mut Links) -> Option<What>) {
        links.move_on();
        let (node, invoked) = (links.at, self.now());
        match ask(links) {
            Some(what) => self.record(node, invoked, what),
            None => {
                self.lost += 1;
                thread::sleep(PAUSE);
            }
        }
    }
}

/// One poster of a pair: sends the pair's orders in sequence. For each tenth key both also send another order, one of
/// them after the first order and the other before it: the server counts the one that comes first and rejects the
/// other.
pub fn post(mut links: Links, poster: usize, plan: &Plan, seed: u64, recorder: &mut Recorder) {
    let pair = poster / 2;
    // Both posters of a pair draw the same numbers, so they send the same orders.
    let mut random = Random::new(seed, pair as u64);
    for number in 0..plan.orders_each {
        let (key, id, amount) = (format!("{pair}-{number}"), random.pick(&STARTS).0, 1 + random.below(9) as i64);
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
        let amounts = match (number % 10, poster % 2) {
            (9, 0) => &[amount, 1000][..],
            (9, _) => &[1000, amount],
            _ => &[amount],
        };
        for amount in amounts {
            let sent = (key.clone(), id, *amount);
            recorder.until_answered(&mut links, &What::Orders(vec![sent.clone()]), |links| {
                let reply =
                    links.ask("POST", &format!("/orders/{id}"), &headers, &format!("{{\"amount\":{amount}}}"))?;
                match reply.status {
                    200 => Some(What::Orders(vec![sent.clone()])),
                    422 => Some(What::KeyReused(sent.clone())),
                    _ => panic!("{reply:?}"),
                }
            });
        }
        plan.pause(&mut links.random);
    }
}

pub fn post_batches(mut links: Links, plan: &Plan, seed: u64, recorder: &mut Recorder) {
    let mut random = Random::new(seed, 1_000);
    for batch in 0..plan.batches {
        let count = 2 + random.below(8);
        let orders: Vec<_> = (0..count)
            .map(|place| (format!("b-{batch}-{place}"), random.pick(&STARTS).0, 1 + random.below(9) as i64))
            .collect();
        let one = |(key, id, amount): &(String, &str, i64)| {
            format!("{{\"id\":\"{id}\",\"amount\":{amount},\"key\":\"{key}\"}}")
        };
        let body = orders.iter().map(one).collect::<Vec<_>>().join("\n");
        let sent = What::Orders(orders);
        recorder.until_answered(&mut links, &sent, |links| {
            let reply = links.ask("POST", "/orders", &[("Content-Type", "application/x-ndjson")], &body)?;
            assert_eq!(reply.status, 200, "{reply:?}");
            Some(sent.clone())
        });
        plan.pause(&mut links.random);
    }
}

/// Orders more of each product, when everything else is done, than all others together: the last numbers are no earlier
/// ones, so that a subscriber knows them when it sees them.
pub fn post_last(addr: SocketAddr, recorder: &mut Recorder) {
    let mut client = Client::connect(addr);
    for (id, _) in STARTS {
        let (invoked, key) = (recorder.now(), format!("last-{id}"));
        let body = format!("{{\"amount\":1000000,\"key\":\"{key}\"}}");
        assert_eq!(client.post(&format!("/orders/{id}"), body).status, 200);
        recorder.record(0, invoked, What::Orders(vec![(key, id, 1_000_000)]));
    }
}

pub fn read(mut links: Links, done: &AtomicBool, mut random: Random, recorder: &mut Recorder) {
    while !done.load(Ordering::Relaxed) {
        let (feed, _) = *random.pick(&FEEDS);
        let way = random.below(6);
        recorder.once(&mut links, |links| {
            Some(match way {
                0..3 => What::Read(feed, totals(&links.get_json(feed)?)),
                3 | 4 => What::ReadCounts(feed, None, totals(&links.get_json(&address(feed, true))?)),
                _ => counts(&links.get_json("/periods/current")?),
            })
        });
    }
}

/// The numbers of a feed as a JSON array.
fn totals(list: &Value) -> Vec<(String, i64)> {
    let one = |it: &Value| Some((it["id"].as_str()?.to_owned(), it["total"].as_i64()?));
    list.as_array().expect("an array").iter().map(|it| one(it).expect("a total")).collect()
}

/// The counts of all products in the report of a period that is not closed.
fn counts(report: &Value) -> What {
    let amounts = amounts(report);
    let count = |id: &str| amounts.get(id).copied().unwrap_or(0);
    let counts = STARTS.iter().map(|(id, _)| ((*id).to_owned(), count(id))).collect();
    What::ReadCounts("/orders", report["number"].as_u64(), counts)
}

/// Where a feed is, of totals or of counts of the current period.
pub fn address(feed: &str, has_counts: bool) -> String {
    if has_counts { format!("{feed}?period=current") } else { feed.to_owned() }
}

/// Closes one period after another at random moments, and reads their reports. Two of them do that with the same numbers.
pub fn close(mut links: Links, done: &AtomicBool, plan: &Plan, recorder: &mut Recorder) {
    let headers = [("Content-Type", "application/json")];
    let mut number = 1;
    while !done.load(Ordering::Relaxed) {
        // A random moment, not an event to wait for.
        thread::sleep(Duration::from_micros(links.random.below(plan.longest_period.as_micros() as u64)));
        let body = format!("{{\"number\":{number}}}");
        recorder.until_answered(&mut links, &What::Closed(number, true), |links| {
            let reply = links.ask("POST", "/periods", &headers, &body)?;
            if reply.status != 200 {
                reply.problem(409);
            }
            Some(What::Closed(number, reply.status == 200))
        });
        let closed_at = links.at;
        recorder.once(&mut links, |links| {
            let reply = links.get(&format!("/periods/{number}"))?;
            if reply.status == 404 {
                // Another server may not have followed as far.
                assert_ne!(links.at, closed_at, "period {number} was closed");
                return None;
            }
            assert_eq!(reply.status, 200, "{reply:?}");
            let report = reply.json();
            // Nor may it know of the close.
            let is_closed = report.get("closed").is_some();
            Some(if is_closed { What::ReadReport(number, amounts(&report)) } else { counts(&report) })
        });
        number += 1;
    }
}

/// Reads the log from its last position again and again, at each server from that server's.
pub fn read_log(mut links: Links, done: &AtomicBool, recorder: &mut Recorder) {
    let mut lasts = vec![0; links.addrs.len()];
    while !done.load(Ordering::Relaxed) {
        recorder.once(&mut links, |links| {
            let last = &mut lasts[links.at];
            let page = links.get(&format!("/log?after={last}"))?;
            let lines = order_log::lines(&page);
            assert_eq!(order_log::next_page(&page), None, "all orders since the last page fit in one");
            *last = lines.last().map_or(*last, |line| line.seq);
            Some(What::ReadLog(*last))
        });
    }
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
    pub fn are(&self, has_counts: bool, numbers: &[(String, i64)]) -> bool {
        self.0.get().is_some_and(|last| numbers.iter().all(|one| last[usize::from(has_counts)].contains(one)))
    }
}
