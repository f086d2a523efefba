//! The server is killed at random moments while sixteen clients send orders with keys and repeat those that were not
//! answered: in the end every order counts exactly once.
//!
//! `ORDERCAST_TORTURE_ROUNDS` is the number of kills (`make torture`), `ORDERCAST_SEED` repeats the choices of a run.

use crate::common::load::{spawn, turn};
use crate::common::{Client, DEADLINE, Line, Random, Server, WebSocket, order_log, seed};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Kills in an ordinary run.
const ROUNDS: usize = 8;
/// The longest time between two kills. Starting takes about a tenth of it, so most kills hit the load.
const LONGEST_LIFE: Duration = Duration::from_millis(400);
const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
/// The maximum of orders in a batch: many, so that kills can hit the middle of one.
const MOST_IN_A_BATCH: u64 = 40;

/// How a poster sends orders.
#[derive(Clone, Copy, Debug)]
enum Way {
    Http,
    WebSocket,
    /// A key for the batch, none for its orders.
    NamedBatch,
    /// Keys for the orders, none for the batch.
    BatchOfNamed,
}

/// The number of posters for each way.
const POSTERS: [(usize, Way); 4] = [(8, Way::Http), (4, Way::WebSocket), (2, Way::NamedBatch), (2, Way::BatchOfNamed)];

fn ways() -> impl Iterator<Item = Way> {
    POSTERS.into_iter().flat_map(|(count, way)| std::iter::repeat_n(way, count))
}

type Orders = Vec<(&'static str, i64)>;

/// An order or a batch, which is repeated until it is answered.
struct Parcel {
    key: String,
    orders: Orders,
}

/// The answer to a parcel.
enum Answer {
    Taken,
    /// Its key was used for another one.
    KeyReused,
    /// Unknown: to be repeated.
    Lost,
}

/// A connection, if there is one.
enum Link {
    None,
    Http(Client),
    WebSocket(WebSocket),
}

/// A poster and its connection.
struct Poster<'a> {
    addr: SocketAddr,
    number: usize,
    way: Way,
    random: Random,
    link: Link,
    sent_again: &'a AtomicU64,
}

impl Poster<'_> {
    /// Sends parcels until `done`, the last one until it is answered. Returns all accepted parcels.
    fn work(&mut self, done: &AtomicBool) -> Vec<Parcel> {
        let mut taken = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let count = match self.way {
                Way::Http | Way::WebSocket => 1,
                Way::NamedBatch | Way::BatchOfNamed => 1 + self.random.below(MOST_IN_A_BATCH),
            };
            let order = |random: &mut Random| (random.pick(&STARTS).0, random.below(19) as i64 - 4);
            let orders = (0..count).map(|_| order(&mut self.random)).collect();
            let parcel = Parcel { key: format!("{}-{}", self.number, taken.len()), orders };
            self.send_until_answered(&parcel);
            // Sometimes repeat an answered parcel, or use a key for another parcel.
            if self.random.once_in(8) {
                self.send_until_answered(&parcel);
            }
            if self.random.once_in(16) {
                let mut other = parcel.orders.clone();
                other[0].1 += 1;
                let other = Parcel { key: parcel.key.clone(), orders: other };
                match self.send(&other) {
                    Ok(Answer::KeyReused) => {}
                    Ok(Answer::Taken) => panic!("{} was accepted for two different orders", other.key),
                    Ok(Answer::Lost) | Err(_) => self.link = Link::None,
                }
            }
            taken.push(parcel);
        }
        taken
    }

    fn send_until_answered(&mut self, parcel: &Parcel) {
        let begun = Instant::now();
        loop {
            match self.send(parcel) {
                Ok(Answer::Taken) => return,
                Ok(Answer::KeyReused) => panic!("{} was rejected as the key of another order", parcel.key),
                Ok(Answer::Lost) | Err(_) => {
                    assert!(begun.elapsed() < DEADLINE, "{} is never answered", parcel.key);
                    self.link = Link::None;
                    self.sent_again.fetch_add(1, Ordering::Relaxed);
                    // The server is down. Pause, so that it can start.
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    fn send(&mut self, parcel: &Parcel) -> io::Result<Answer> {
        if matches!(self.link, Link::None) {
            let client = Client::try_connect(self.addr)?;
            self.link = match self.way {
                Way::WebSocket => Link::WebSocket(WebSocket::try_upgrade(client, "/orders/confectionery")?),
                _ => Link::Http(client),
            };
        }
        let Parcel { key, orders } = parcel;
        let order = |(id, amount): &(&str, i64), place: usize| match self.way {
            Way::BatchOfNamed => format!("{{\"id\":\"{id}\",\"amount\":{amount},\"key\":\"{key}.{place}\"}}"),
            _ => format!("{{\"id\":\"{id}\",\"amount\":{amount}}}"),
        };
        let list: Vec<String> = orders.iter().zip(0..).map(|(one, place)| order(one, place)).collect();
        let (id, amount) = orders[0];
        match (&mut self.link, self.way) {
            (Link::Http(client), Way::Http) => {
                let body = format!("{{\"amount\":{amount}}}");
                post(client, &format!("/orders/{id}"), "application/json", Some(key), &body)
            }
            (Link::Http(client), Way::NamedBatch) => {
                post(client, "/orders", "application/json", Some(key), &format!("[{}]", list.join(",")))
            }
            (Link::Http(client), _) => post(client, "/orders", "application/x-ndjson", None, &list.join("\n")),
            (Link::WebSocket(socket), _) => {
                socket.try_send(&format!(
                    "{{\"cmd\":\"add-order\",\"payload\":{{\"id\":\"{id}\",\"amount\":{amount},\"key\":\"{key}\"}}}}"
                ))?;
                loop {
                    let text = socket.try_text()?;
                    if text.contains("\"total\":") {
                        continue;
                    }
                    let answer: serde_json::Value = serde_json::from_str(&text).map_err(io::Error::other)?;
                    assert_eq!(answer["key"], key.as_str(), "the answer to another client");
                    return Ok(match answer["error"].as_str() {
                        None => Answer::Taken,
                        Some(why) if why.contains("another order") => Answer::KeyReused,
                        Some(_) => Answer::Lost,
                    });
                }
            }
            (Link::None, _) => Err(ErrorKind::NotConnected.into()),
        }
    }
}

fn post(client: &mut Client, path: &str, media_type: &str, key: Option<&str>, body: &str) -> io::Result<Answer> {
    let mut headers = vec![("Content-Type", media_type)];
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    let reply = client.try_request("POST", path, &headers, body.as_bytes())?;
    match reply.status {
        200 => Ok(Answer::Taken),
        422 => Ok(Answer::KeyReused),
        503 => Ok(Answer::Lost),
        _ => panic!("{reply:?}"),
    }
}

#[test]
fn every_order_that_is_sent_until_it_is_answered_counts_exactly_once() {
    let _turn = turn();
    let rounds = std::env::var("ORDERCAST_TORTURE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let seed = seed();
    let mut server = Server::builder().listen("127.0.0.2:0").start();
    let addr = server.addr();
    let (done, sent_again) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let parcels: Vec<Vec<Parcel>> = thread::scope(|scope| {
        let posters: Vec<_> = (ways().enumerate())
            .map(|(number, way)| {
                let (done, sent_again) = (&done, &sent_again);
                let random = Random::new(seed, number as u64);
                let mut poster = Poster { addr, number, way, random, link: Link::None, sent_again };
                spawn(scope, move || poster.work(done))
            })
            .collect();
        let mut random = Random::new(seed, 1_000);
        let mut log: Vec<Line> = Vec::new();
        for round in 0..rounds {
            // A random moment, not an event to wait for.
            thread::sleep(Duration::from_micros(random.below(LONGEST_LIFE.as_micros() as u64)));
            if posters.iter().any(|poster| poster.is_finished()) {
                break;
            }
            // Sometimes it gets SIGTERM instead, and answers what is in flight.
            if random.once_in(5) {
                assert_eq!(server.terminate().code(), Some(0), "round {round}");
            }
            server.restart_on_the_same_ports();
            // The log after a kill begins with the log before it.
            let seen = log.len() as u64;
            let overlap = seen.saturating_sub(20);
            let behind = order_log::read_from(addr, overlap).expect("the log can be read");
            let known = &log[overlap as usize..];
            assert!(behind.starts_with(known), "round {round}: {behind:?} does not go on from {known:?}");
            let new = behind[known.len()..].to_vec();
            log.extend(new);
        }
        done.store(true, Ordering::Relaxed);
        posters.into_iter().map(|it| it.join().expect("every order is answered")).collect()
    });
    let took = begun.elapsed();

    let log = order_log::read_whole(addr, &STARTS);
    let list = server.client().get("/orders").json();
    for (id, start) in STARTS {
        let orders = parcels.iter().flatten().flat_map(|parcel| &parcel.orders).filter(|order| order.0 == id);
        let expected = start + orders.map(|order| order.1).sum::<i64>();
        let logged = start + log.iter().filter(|line| line.id == id).map(|line| line.amount).sum::<i64>();
        let told =
            list.as_array().and_then(|list| list.iter().find(|it| it["id"] == id)).map(|it| it["total"].as_i64());
        assert_eq!((told, logged), (Some(Some(expected)), expected), "{id}: shown and logged, of {expected} sent");
    }
    check_every_order_once(&parcels, &log);
    println!(
        "{rounds} rounds in {took:?}: {} orders in {} requests, {} sent again",
        log.len(),
        parcels.iter().flatten().count(),
        sent_again.into_inner()
    );
}

/// Sums could agree by chance, so every order is searched in the log. Orders without a key of their own are found by
/// their position: a batch is complete and consecutive.
#[track_caller]
fn check_every_order_once(parcels: &[Vec<Parcel>], log: &[Line]) {
    let mut named: HashMap<&str, (&str, i64)> = HashMap::new();
    for line in log {
        if let Some(key) = &line.key {
            let before = named.insert(key, (&line.id, line.amount));
            assert_eq!(before, None, "{key} counts twice");
        }
    }
    for (parcels, way) in parcels.iter().zip(ways()) {
        for Parcel { key, orders } in parcels {
            match way {
                Way::Http | Way::WebSocket => assert_eq!(named.remove(key.as_str()), Some(orders[0]), "{key}"),
                Way::BatchOfNamed => {
                    for (place, order) in orders.iter().enumerate() {
                        let key = format!("{key}.{place}");
                        assert_eq!(named.remove(key.as_str()), Some(*order), "{key}");
                    }
                }
                Way::NamedBatch => {}
            }
        }
    }
    assert!(named.is_empty(), "not sent: {named:?}");
    let unnamed: Vec<(&str, i64)> =
        log.iter().filter(|line| line.key.is_none()).map(|line| (line.id.as_str(), line.amount)).collect();
    // Each poster of batches sends them in sequence, so the batches of the posters are interleaved as a whole.
    let batches: Vec<&[Parcel]> =
        parcels.iter().zip(ways()).filter(|(_, way)| matches!(way, Way::NamedBatch)).map(|(it, _)| &**it).collect();
    assert_eq!(shuffled(&unnamed, &batches), Ok(()));
}

/// Checks that the orders are those of the two senders' parcels, each sender's in order and each parcel consecutive.
/// Where two parcels begin alike both may fit, so all reachable pairs of positions are kept.
fn shuffled(orders: &[(&str, i64)], senders: &[&[Parcel]]) -> Result<(), String> {
    let [first, second] = senders else { return Err(format!("{} senders of batches", senders.len())) };
    let mut reached = std::collections::BTreeSet::from([(0, 0, 0)]);
    while let Some((place, a, b)) = reached.pop_first() {
        if (place, a, b) == (orders.len(), first.len(), second.len()) {
            return Ok(());
        }
        for (parcel, next) in [(first.get(a), (a + 1, b)), (second.get(b), (a, b + 1))] {
            if let Some(parcel) = parcel.filter(|parcel| orders[place..].starts_with(&parcel.orders)) {
                reached.insert((place + parcel.orders.len(), next.0, next.1));
            }
        }
    }
    Err("a batch is split, lost or repeated".to_owned())
}
