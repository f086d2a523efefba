//! Resuming under load: subscribers that are cut off a hundred times at random moments, by themselves and by kills of
//! the server, see each order of their feed exactly once, and so do subscribers that read slowly.

use crate::common::load::{pipeline_orders, spawn, turn};
use crate::common::order_log::{self, is_of};
use crate::common::{Client, DEADLINE, Form, Line, Positional, Random, Server, Step, seed, wait_until};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ELECTRONICS: &str = "/orders/electronics";
const CONFECTIONERY: &str = "/orders/confectionery";
const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
const PRODUCTS: [&str; 3] = ["A1", "A2", "B1"];
const CUTS: usize = 100;
const KILLS: usize = 4;
const POSTERS: usize = 4;
/// The maximum number of messages between two cuts.
const MOST_READ: u64 = 60;
/// Orders at most: a subscriber that is further behind than 10,000 gets a snapshot.
const MOST_ORDERS: usize = 9_000;
/// The deadline for the whole run, most of which is load.
const PATIENCE: Duration = Duration::from_secs(100);

/// A stretch of a feed that begins with a snapshot: its totals, its position, and every order since.
#[derive(Debug)]
struct Stretch {
    feed: &'static str,
    snapshot: Vec<(String, i64)>,
    start: u64,
    seen: Vec<(u64, String, i64)>,
}

/// A subscriber that is cut off repeatedly.
struct Follower {
    form: Form,
    feed: &'static str,
    position: Option<String>,
    /// The incomplete snapshot, if one has begun.
    partial: Option<Vec<(String, i64)>>,
    /// The feed that it has asked to move to.
    moving_to: Option<&'static str>,
    stretches: Vec<Stretch>,
}

impl Follower {
    fn new(form: Form, feed: &'static str) -> Follower {
        Follower { form, feed, position: None, partial: None, moving_to: None, stretches: Vec::new() }
    }

    fn open(&mut self, addr: SocketAddr) -> Option<Positional> {
        let can_resume = self.position.as_ref().is_some_and(|position| !position.ends_with(".snapshot"));
        self.partial = (!can_resume).then(Vec::new);
        self.moving_to = None;
        Positional::try_open(self.form, addr, self.feed, self.position.as_deref()).ok()
    }

    #[track_caller]
    fn take(&mut self, step: Step) {
        if let Some(feed) = self.moving_to.filter(|feed| is_of(&step.id, feed)) {
            // A total of the other category: it has moved, and this is its snapshot.
            (self.feed, self.moving_to, self.partial) = (feed, None, Some(Vec::new()));
        }
        assert!(is_of(&step.id, self.feed), "{step:?} is not of {}", self.feed);
        match (&mut self.partial, step.can_resume()) {
            (Some(partial), false) => partial.push(step.pair()),
            (Some(partial), true) => {
                let mut snapshot = std::mem::take(partial);
                snapshot.push(step.pair());
                self.stretches.push(Stretch { feed: self.feed, snapshot, start: step.seq(), seen: Vec::new() });
                self.partial = None;
            }
            (None, resumes) => {
                assert!(resumes, "an unexpected snapshot: {step:?}");
                let stretch = self.stretches.last_mut().expect("a snapshot comes first");
                stretch.seen.push((step.seq(), step.id.clone(), step.total));
            }
        }
        if step.position.is_some() {
            self.position = step.position;
        }
    }

    fn last_seen(&self) -> u64 {
        self.stretches.last().map_or(0, |it| it.seen.last().map_or(it.start, |(seq, ..)| *seq))
    }

    /// Reads a few messages and disconnects, until it was cut off often enough and has seen the last order of its feed.
    fn live(&mut self, addr: SocketAddr, mut random: Random, moves: bool, cuts: &AtomicUsize, last: &LastOrders) {
        let begun = Instant::now();
        while cuts.load(Ordering::Relaxed) < CUTS || last.of(self.feed).is_none_or(|seq| self.last_seen() < seq) {
            assert!(begun.elapsed() < PATIENCE, "{:?} at {:?} receives nothing more", self.form, self.position);
            // Rejected or reset: the server is being killed.
            let Some(mut feed) = self.open(addr) else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            if moves && random.once_in(2) && cuts.load(Ordering::Relaxed) < CUTS {
                let (next, name) = if self.feed == ELECTRONICS {
                    (CONFECTIONERY, "confectionery")
                } else {
                    (ELECTRONICS, "electronics")
                };
                let command = format!("{{\"cmd\":\"update-category\",\"payload\":{{\"category\":\"{name}\"}}}}");
                if feed.try_send(&command).is_ok() {
                    self.moving_to = Some(next);
                }
            }
            // Most followers stay until they have moved, because moves would be rare otherwise.
            let stays = !random.once_in(4);
            let mut left = random.below(MOST_READ);
            while left > 0 || (stays && self.moving_to.is_some()) {
                match feed.next_within(Duration::from_millis(300)) {
                    Ok(step) => self.take(step),
                    Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::UnexpectedEof) => break,
                    Err(error) => panic!("{:?}: {error}", self.form),
                }
                left = left.saturating_sub(1);
            }
            cuts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Compares every stretch with the log: the snapshot is the sum of the orders before it, then comes every order.
    fn check(&self, log: &[Line]) -> usize {
        let mut compared = 0;
        for stretch in &self.stretches {
            let mut totals: HashMap<&str, i64> = STARTS.into_iter().filter(|(id, _)| is_of(id, stretch.feed)).collect();
            let (before, behind) = log.split_at(stretch.start as usize);
            totals.extend(before.iter().filter(|it| it.is_of(stretch.feed)).map(|it| (it.id.as_str(), it.total)));
            let snapshot = stretch.snapshot.iter().map(|(id, total)| (id.as_str(), *total));
            assert_eq!(snapshot.collect::<HashMap<_, _>>(), totals, "the snapshot at {}", stretch.start);
            let orders = behind.iter().filter(|line| line.is_of(stretch.feed));
            for (seen, line) in stretch.seen.iter().zip(orders.clone()) {
                assert_eq!(*seen, (line.seq, line.id.clone(), line.total), "{:?} of {}", self.form, stretch.feed);
            }
            assert!(stretch.seen.len() <= orders.count(), "more totals than orders");
            compared += stretch.seen.len();
        }
        compared
    }
}

/// The last order of each feed, set after the load.
#[derive(Default)]
struct LastOrders([AtomicU64; 3]);

impl LastOrders {
    const FEEDS: [&'static str; 3] = ["/orders", ELECTRONICS, CONFECTIONERY];

    fn set(&self, log: &[Line]) {
        for (feed, last) in Self::FEEDS.iter().zip(&self.0) {
            let found = log.iter().rfind(|line| line.is_of(feed)).expect("every feed has orders");
            last.store(found.seq, Ordering::Release);
        }
    }

    fn of(&self, feed: &str) -> Option<u64> {
        let at = Self::FEEDS.iter().position(|it| *it == feed).expect("a feed");
        Some(self.0[at].load(Ordering::Acquire)).filter(|seq| *seq > 0)
    }
}

/// Posts orders of random products, each with a key and repeated until it is answered.
fn post_until(addr: SocketAddr, poster: usize, mut random: Random, done: &AtomicBool) {
    let mut client = Client::try_connect(addr);
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        if number == MOST_ORDERS / POSTERS {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let key = format!("{poster}-{number}");
        let path = format!("/orders/{}", random.pick(&PRODUCTS));
        let body = format!("{{\"amount\":{}}}", random.below(9) as i64 - 2);
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
        let begun = Instant::now();
        loop {
            let answer = client.as_mut().ok().map(|it| it.try_request("POST", &path, &headers, body.as_bytes()));
            match answer {
                Some(Ok(reply)) if reply.status == 200 => break,
                Some(Ok(reply)) => panic!("{key}: {reply:?}"),
                Some(Err(_)) | None => {
                    assert!(begun.elapsed() < DEADLINE, "{key} is never answered");
                    thread::sleep(Duration::from_millis(1));
                    client = Client::try_connect(addr);
                }
            }
        }
        number += 1;
    }
}

#[test]
fn subscribers_cut_off_a_hundred_times_see_every_order_of_their_feed_once() {
    let _turn = turn();
    let seed = seed();
    // An address of its own, so that no client can get the server's port while the server is down.
    let mut server = Server::builder().listen("127.0.0.2:0").start();
    let addr = server.addr();
    let who = [
        (Form::WebSocket, ELECTRONICS, false),
        (Form::WebSocket, "/orders", false),
        (Form::Events, ELECTRONICS, false),
        (Form::Events, "/orders", false),
        (Form::WebSocket, CONFECTIONERY, true),
    ];
    let cuts: [AtomicUsize; 5] = Default::default();
    let fewest = || cuts.iter().map(|it| it.load(Ordering::Relaxed)).min().unwrap_or_default();
    let (done, last) = (AtomicBool::new(false), LastOrders::default());
    let (followers, log) = thread::scope(|scope| {
        let posters: Vec<_> = (0..POSTERS)
            .map(|poster| {
                let (random, done) = (Random::new(seed, 100 + poster as u64), &done);
                spawn(scope, move || post_until(addr, poster, random, done))
            })
            .collect();
        let followers: Vec<_> = (who.into_iter().zip(&cuts).zip(0..))
            .map(|(((form, feed, moves), cuts), number)| {
                let (random, last) = (Random::new(seed, number), &last);
                spawn(scope, move || {
                    let mut follower = Follower::new(form, feed);
                    follower.live(addr, random, moves, cuts, last);
                    follower
                })
            })
            .collect();
        let mut random = Random::new(seed, 1_000);
        for kill in 0..KILLS {
            let moment = (CUTS * kill / KILLS) + random.below((CUTS / KILLS) as u64) as usize;
            wait_until(PATIENCE, "subscribers are cut off", || fewest() >= moment);
            server.restart_on_the_same_ports();
        }
        wait_until(PATIENCE, "subscribers are cut off often enough", || fewest() >= CUTS);
        done.store(true, Ordering::Relaxed);
        posters.into_iter().for_each(|it| it.join().expect("every order is answered"));
        let log = order_log::read_whole(addr, &STARTS);
        last.set(&log);
        let followers: Vec<Follower> =
            followers.into_iter().map(|it| it.join().expect("every order is received")).collect();
        (followers, log)
    });
    for follower in &followers {
        let seen = follower.check(&log);
        println!("{:?} {}: {seen} of {} orders in {} stretches", follower.form, follower.feed, log.len(), {
            follower.stretches.len()
        });
    }
    // A follower that does not move never gets a second snapshot.
    assert!(followers[..4].iter().all(|follower| follower.stretches.len() == 1));
    assert!(followers[4].stretches.len() >= 5, "too few moves");
}

/// Reads a few bytes at a time while thousands of orders come, so that the server has to read the log for it; then the
/// rest.
#[test]
fn a_subscriber_that_reads_too_slowly_still_gets_every_order() {
    let _turn = turn();
    /// More totals than the socket buffers hold.
    const ORDERS: usize = 40_000;
    let server = Server::start();
    let mut feeds = [Form::WebSocket, Form::Events].map(|form| {
        let mut feed = Positional::open(form, server.addr(), ELECTRONICS, None);
        feed.take(2);
        feed
    });
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for feed in &mut feeds {
            let done = &done;
            spawn(scope, move || {
                while !done.load(Ordering::Relaxed) {
                    feed.read_some(64, Duration::from_millis(50)).or_else(ignore_timeout).expect("the server sends");
                    thread::sleep(Duration::from_millis(2));
                }
                for number in 1..=ORDERS as i64 {
                    assert_eq!(feed.next().pair(), ("A1".to_owned(), 3 + number));
                }
            });
        }
        pipeline_orders(server.addr(), 40, ORDERS / 40);
        done.store(true, Ordering::Relaxed);
    });
}

fn ignore_timeout(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::TimedOut { Ok(()) } else { Err(error) }
}
