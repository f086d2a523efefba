//! A server on a disk with faults, with posters and a subscriber, and a model of what they see: an order answered with
//! 200 counts exactly once, one answered with 503 or 507 never, and one with 500 or no answer once or not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::disk::MAIN;
use crate::common::load::{follow, parse_total, spawn};
use crate::common::{Client, DEADLINE, Disk, Fault, Random, Server, WebSocket, wait_until};
use crate::promises::{Orderers, Product, Promise, Promises, totals};
use crate::replay::{Loss, Replay};
use crate::trace::{Kind, Record, Trace};

const CATALOG: &str = r#"{"drinks":{"prefix":"D","products":[
    {"id":"D1","name":"Tea","rrp":"1.00","info":"","total":5},
    {"id":"D2","name":"Milk","rrp":"1.00","info":"","total":0},
    {"id":"D3","name":"Malt","rrp":"1.00","info":"","total":-7}]}}"#;
const PRODUCTS: [(&str, i64, i64); 3] = [("D1", 5, 3), ("D2", 0, -5), ("D3", -7, 11)];
/// The number of posters, one for each product.
pub const POSTERS: usize = PRODUCTS.len();
/// How long after the end of a fault an order may still be rejected.
const RECOVERY: Duration = Duration::from_secs(1);
/// Images that are opened in each trial.
const IMAGES: usize = 2;
/// Answers that each poster must get during a fault.
const ANSWERS: usize = 2;

/// How a trial ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The fault ends; the server goes on, and is killed when each poster has had an order accepted again.
    Lifted,
    /// The server is killed during the fault, and starts again without it.
    Killed,
}

/// Sets the flag and kills the server when dropped.
struct End<'a>(&'a Server, &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
        self.0.signal("KILL");
    }
}

pub struct Shop {
    pub disk: Disk,
    pub server: Server,
    products: Vec<Product>,
    /// What the clients know, by product.
    model: Vec<Mutex<Promise>>,
    orderers: Mutex<Orderers>,
    process: usize,
    trace: Trace,
    replay: Replay,
    promises: Promises,
    random: Random,
    turn: usize,
    pub images: usize,
}

impl Shop {
    /// Starts a server on the files of the disk, all of them synced.
    #[track_caller]
    pub fn open(disk: Disk) -> Shop {
        let products = PRODUCTS.map(|(id, start, amount)| Product { id: id.to_owned(), start, amount }).to_vec();
        let replay = Replay::of_folder(disk.folder());
        let server = disk.builder().catalog(CATALOG).start();
        let trace = Trace::open(&disk.trace());
        let mut shop = Shop {
            disk,
            server,
            model: products.iter().map(|_| Mutex::default()).collect(),
            promises: Promises::new(products.clone()),
            products,
            orderers: Mutex::default(),
            process: 0,
            trace,
            replay,
            random: Random::new(1, 0),
            turn: 0,
            images: 0,
        };
        shop.settle(&totals(&shop.server));
        shop.catch_up();
        shop
    }

    /// A client for orders of that product.
    #[track_caller]
    pub fn poster(&self, product: usize) -> Client {
        let client = self.server.client();
        let mut orderers = self.orderers.lock().expect("no poster panicked");
        orderers.add(self.process, &client, &self.disk.trace(), product);
        drop(orderers);
        client
    }

    /// Posts an order and updates the model; returns the status, or `None` without an answer.
    pub fn order(&self, client: &mut Client, product: usize) -> Option<u16> {
        let Product { id, amount, .. } = &self.products[product];
        let reply = client.try_post(&format!("/orders/{id}"), format!("{{\"amount\":{amount}}}"));
        let status = reply.ok().map(|reply| reply.status);
        let mut model = self.model[product].lock().expect("no poster panicked");
        match status {
            Some(200) => model.answered += 1,
            Some(500) | None => model.unknown += 1,
            Some(503 | 507) => {}
            Some(other) => panic!("an order was answered with {other}"),
        }
        status
    }

    /// Posts an order over a new connection and expects that status.
    #[track_caller]
    pub fn expect(&self, product: usize, status: u16) {
        assert_eq!(self.order(&mut self.poster(product), product), Some(status));
    }

    /// Checks the current totals, with up to `under_way` unanswered orders of each poster, and returns them.
    #[track_caller]
    pub fn check(&self, what: &str, under_way: i64) -> BTreeMap<String, i64> {
        let read = |it: &Mutex<Promise>| *it.lock().expect("no poster panicked");
        let before: Vec<Promise> = self.model.iter().map(read).collect();
        let totals = totals(&self.server);
        let after: Vec<Promise> = self.model.iter().map(read).collect();
        for ((product, before), after) in self.products.iter().zip(before).zip(after) {
            let kept = product.count(totals[&product.id]).unwrap_or_else(|why| panic!("{what}: {why}"));
            // Orders answered before must be there, and orders answered afterwards may be.
            let bounds = Promise {
                answered: before.answered,
                unknown: after.unknown + after.answered - before.answered,
                ..before
            };
            assert!(bounds.allows(kept, under_way), "{what}: of {} there are {kept}: {before:?} {after:?}", product.id);
        }
        totals
    }

    /// Kills the server if it runs, ends the fault, and starts it again. Its totals are checked, and settle the model.
    #[track_caller]
    pub fn restart(&mut self, what: &str) -> BTreeMap<String, i64> {
        self.server.kill();
        self.disk.lift();
        self.server.restart();
        self.process += 1;
        let totals = self.check(what, 0);
        self.settle(&totals);
        totals
    }

    fn settle(&mut self, totals: &BTreeMap<String, i64>) {
        for (product, model) in self.products.iter().zip(&mut self.model) {
            let kept = product.count(totals[&product.id]).unwrap_or_else(|why| panic!("{why}"));
            model.get_mut().expect("no poster panicked").settle(kept);
        }
    }

    /// Posts and follows the feed during a fault. Orders may be answered with 200 or one of `refusals`. The model is
    /// checked during the fault, after it, after a restart, and after power cuts at points of all that.
    #[track_caller]
    pub fn trial(&mut self, fault: Fault, ending: Ending, refusals: &[u16]) {
        self.turn += 1;
        let what = format!("{fault:?}, {ending:?}");
        let feed = WebSocket::open(self.server.addr(), "/orders");
        self.disk.arm(fault);
        let lifted: Mutex<Option<Instant>> = Mutex::default();
        let answers: [AtomicUsize; POSTERS] = Default::default();
        let ended = AtomicBool::new(false);
        let live = thread::scope(|scope| {
            let (shop, what, lifted, answers, ended) = (&*self, &what, &lifted, &answers, &ended);
            // Kills the server, and so ends the threads, even if this panics.
            let end = End(&self.server, ended);
            // All connect before the first order, because the server may end soon after it.
            let clients: Vec<Client> = (0..POSTERS).map(|product| shop.poster(product)).collect();
            let posters: Vec<_> = (clients.into_iter().enumerate())
                .map(|(product, mut client)| {
                    spawn(scope, move || {
                        loop {
                            let whole =
                                lifted.lock().expect("nobody panicked").is_some_and(|at| at.elapsed() > RECOVERY);
                            let first = lifted.lock().expect("nobody panicked").is_some();
                            let Some(status) = shop.order(&mut client, product) else { return };
                            assert!(status == 200 || refusals.contains(&status), "{what}: answered with {status}");
                            assert!(status == 200 || !whole, "{what}: still answered with {status}");
                            answers[product].fetch_add(1, Ordering::Relaxed);
                            if first && status == 200 {
                                return;
                            }
                        }
                    })
                })
                .collect();
            let feed = spawn(scope, move || shop.watch(feed, what, ended));
            self.disk.wait_for_hit();
            if !fault.is_hang() {
                let before: Vec<usize> = answers.iter().map(|it| it.load(Ordering::Relaxed)).collect();
                wait_until(DEADLINE, "the posters are answered", || {
                    answers.iter().zip(&before).all(|(it, before)| it.load(Ordering::Relaxed) >= before + ANSWERS)
                });
            }
            shop.check(what, 1);
            let mut live = None;
            if ending == Ending::Lifted {
                self.disk.lift();
                *lifted.lock().expect("nobody panicked") = Some(Instant::now());
                posters.into_iter().for_each(|poster| poster.join().expect("a right answer"));
                live = Some(shop.check(what, 0));
            }
            drop(end);
            feed.join().expect("a right feed");
            live
        });
        let kept = self.restart(&what);
        // The last commit has succeeded, so no outcome before it is open any more.
        assert!(live.is_none_or(|live| live == kept), "{what}: a restart has changed the totals");
        (0..POSTERS).for_each(|product| self.expect(product, 200));
        self.cut_the_power(&what, IMAGES);
    }

    /// Follows a feed to the end of the server. Every total must be one order more than the one before.
    fn watch(&self, feed: WebSocket, what: &str, ended: &AtomicBool) {
        let mut last: HashMap<String, i64> = HashMap::new();
        let end = follow(feed, 2 * DEADLINE, |message| {
            let (id, total) = parse_total(message).expect("a total");
            let place = self.products.iter().position(|product| product.id == id).expect("a product");
            let count = self.products[place].count(total).unwrap_or_else(|why| panic!("{what}: {why}"));
            if let Some(before) = last.insert(id.to_owned(), count) {
                assert_eq!(count, before + 1, "{what}: the feed of {id} skips");
            }
            let mut model = self.model[place].lock().expect("no poster panicked");
            model.shown = count.max(model.shown);
            true
        });
        assert!(ended.load(Ordering::Relaxed), "{what}: the feed has ended: {end:?}");
    }

    /// Processes the new records of the trace.
    pub fn catch_up(&mut self) -> Vec<Record> {
        let records = self.trace.more();
        for record in &records {
            self.replay.feed(record);
            self.promises.feed(record, self.orderers.get_mut().expect("no poster panicked"));
        }
        records
    }

    /// Opens images of the disk at random points of the new records, and at their end.
    #[track_caller]
    pub fn cut_the_power(&mut self, what: &str, images: usize) {
        let records = self.trace.more();
        let mut points: Vec<usize> = (1..images).map(|_| self.random.place(records.len() + 1)).collect();
        points.push(records.len());
        points.sort_unstable();
        let mut fed = 0;
        for point in points {
            for record in &records[fed..point] {
                self.replay.feed(record);
                self.promises.feed(record, self.orderers.get_mut().expect("no poster panicked"));
            }
            fed = point;
            self.open_image(what, &format!("after {point} of {} calls", records.len()));
        }
    }

    /// Opens `images` images of the disk at the end of the trace.
    #[track_caller]
    pub fn cut_the_power_now(&mut self, what: &str, images: usize) {
        self.catch_up();
        (0..images).for_each(|_| self.open_image(what, "now"));
    }

    #[track_caller]
    fn open_image(&mut self, what: &str, moment: &str) {
        let loss = Loss::of(self.images);
        self.images += 1;
        let image = self.replay.image(&mut self.random, loss);
        if let Err(why) = self.promises.check_image(&image, CATALOG) {
            panic!("{what}; power cut {moment}, {loss:?}: {why}");
        }
    }

    /// Posts until the WAL is checkpointed into the file.
    #[track_caller]
    pub fn post_until_written_back(&mut self) {
        let mut client = self.poster(0);
        let start = Instant::now();
        while !self.catch_up().iter().any(|it| it.kind == Kind::Sync && it.target == MAIN) {
            assert_eq!(self.order(&mut client, 0), Some(200));
            assert!(start.elapsed() < DEADLINE, "the WAL is never checkpointed");
        }
    }
}
