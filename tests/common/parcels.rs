//! Posters that repeat what was not answered, and the check that every order of theirs counts exactly once.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Client, Line, Random, WebSocket, order_log};

/// The products that are ordered, with their starting totals.
pub const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
/// The maximum of orders in a batch: many, so that kills can hit the middle of one.
const MOST_IN_A_BATCH: u64 = 40;

/// How a poster sends orders.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Http,
    WebSocket,
    /// A key for the batch, none for its orders.
    NamedBatch,
    /// Keys for the orders, none for the batch.
    BatchOfNamed,
}

/// The number of posters for each way.
const POSTERS: [(usize, Way); 4] = [(8, Way::Http), (4, Way::WebSocket), (2, Way::NamedBatch), (2, Way::BatchOfNamed)];

pub fn ways() -> impl Iterator<Item = Way> {
    POSTERS.into_iter().flat_map(|(count, way)| std::iter::repeat_n(way, count))
}

pub type Orders = Vec<(&'static str, i64)>;

/// An order or a batch, which is repeated until it is answered.
#[derive(Debug)]
pub struct Parcel {
    pub key: String,
    pub orders: Orders,
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

/// Where and how patiently posters send.
#[derive(Clone, Copy, Debug)]
pub struct Servers<'a> {
    /// Each connection goes to one of them.
    pub addrs: &'a [SocketAddr],
    /// How long a parcel may take to be answered.
    pub deadline: Duration,
    /// The pause before a parcel is sent again, so that a server can start.
    pub pause: Duration,
    /// Whether 500 may be an answer: it is not known whether the parcel counts.
    pub may_not_know: bool,
}

/// A poster and its connection.
pub struct Poster<'a> {
    servers: Servers<'a>,
    number: usize,
    way: Way,
    random: Random,
    link: Link,
    sent_again: &'a AtomicU64,
}

impl<'a> Poster<'a> {
    /// The poster with this number; each has a [`Way`].
    pub fn new(servers: Servers<'a>, number: usize, way: Way, seed: u64, sent_again: &'a AtomicU64) -> Poster<'a> {
        let random = Random::new(seed, number as u64);
        Poster { servers, number, way, random, link: Link::None, sent_again }
    }

    /// Sends parcels until `done`, the last one until it is answered. Returns all accepted parcels.
    pub fn work(&mut self, done: &AtomicBool) -> Vec<Parcel> {
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
                    assert!(begun.elapsed() < self.servers.deadline, "{} is never answered", parcel.key);
                    self.link = Link::None;
                    self.sent_again.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(self.servers.pause);
                }
            }
        }
    }

    fn send(&mut self, parcel: &Parcel) -> io::Result<Answer> {
        if matches!(self.link, Link::None) {
            let client = Client::try_connect(*self.random.pick(self.servers.addrs))?;
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
                post(self.servers, client, &format!("/orders/{id}"), "application/json", Some(key), &body)
            }
            (Link::Http(client), Way::NamedBatch) => {
                post(self.servers, client, "/orders", "application/json", Some(key), &format!("[{}]", list.join(",")))
            }
            (Link::Http(client), _) => {
                post(self.servers, client, "/orders", "application/x-ndjson", None, &list.join("\n"))
            }
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

fn post(
    servers: Servers<'_>,
    client: &mut Client,
    path: &str,
    media_type: &str,
    key: Option<&str>,
    body: &str,
) -> io::Result<Answer> {
    let mut headers = vec![("Content-Type", media_type)];
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    let reply = client.try_request("POST", path, &headers, body.as_bytes())?;
    match reply.status {
        200 => Ok(Answer::Taken),
        422 => Ok(Answer::KeyReused),
        503 => Ok(Answer::Lost),
        500 if servers.may_not_know => Ok(Answer::Lost),
        _ => panic!("{reply:?}"),
    }
}

/// Checks that totals and the log are what was sent, and that every parcel counts exactly once.
#[track_caller]
pub fn check(addr: SocketAddr, parcels: &[Vec<Parcel>]) -> Vec<Line> {
    let log = order_log::read_whole(addr, &STARTS);
    let list = Client::connect(addr).get("/orders").json();
    for (id, start) in STARTS {
        let orders = parcels.iter().flatten().flat_map(|parcel| &parcel.orders).filter(|order| order.0 == id);
        let expected = start + orders.map(|order| order.1).sum::<i64>();
        let logged = start + log.iter().filter(|line| line.id == id).map(|line| line.amount).sum::<i64>();
        let told =
            list.as_array().and_then(|list| list.iter().find(|it| it["id"] == id)).map(|it| it["total"].as_i64());
        assert_eq!((told, logged), (Some(Some(expected)), expected), "{id}: shown and logged, of {expected} sent");
    }
    check_every_order_once(parcels, &log);
    log
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
