//! Power cuts: whatever was answered or shown is there after a power cut, whichever unsynced writes the disk has kept.
//! Runs of the server are recorded call by call; then the server opens images of what the disk may hold at many points
//! of them.
//!
//! `ORDERCAST_POWER_RUNS` is the number of images to open, and `ORDERCAST_POWER_SEED` repeats the choice of points and
//! losses. The recording itself differs from run to run, so the image of a failure is kept.

use crate::common::disk::{FOLDER, LOG, MAIN};
use crate::common::load::{spawn, turn};
use crate::common::{Client, DEADLINE, Disk, Random, Server, WebSocket, wait_until};
use crate::promises::{Orderers, Product, Promises, totals, write_image};
use crate::replay::{Image, Loss, Replay};
use crate::trace::{Kind, Record, Trace};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, thread};

const CATALOG: &str = r#"{"drinks":{"prefix":"D","products":[
    {"id":"D1","name":"Tea","rrp":"1.00","info":"","total":5},{"id":"D2","name":"Milk","rrp":"1.00","info":"","total":0},
    {"id":"D3","name":"Malt","rrp":"1.00","info":"","total":-7},{"id":"D4","name":"Mead","rrp":"1.00","info":"","total":0},
    {"id":"D5","name":"Must","rrp":"1.00","info":"","total":0}]}}"#;
const ADDED: &str = r#"{"name":"Mate","rrp":"1.00","info":""}"#;
/// The starting totals of the catalogue's products and of the added one.
const STARTS: [i64; 6] = [5, 0, -7, 0, 0, 0];
const IMAGES: usize = 100;
/// At most this many images of a recording, so that a long run has several recordings.
const IMAGES_A_RECORDING: usize = 250;
/// Images that are opened at a time.
const OPENERS: usize = 2;
/// Enough for the WAL to grow until its checkpoint, also on a busy machine.
const RECORDING_DEADLINE: Duration = Duration::from_secs(120);

fn products() -> Vec<Product> {
    let product = |(place, start): (usize, &i64)| Product {
        id: format!("D{}", place + 1),
        start: *start,
        // All different, so that an order that counts for another product is found.
        amount: [3, -5, 7, 11, -13, 17][place],
    };
    STARTS.iter().enumerate().map(product).collect()
}

/// A recorded run of the server.
struct Recording {
    records: Vec<Record>,
    orderers: Orderers,
}

/// The posters, each with a product of its own.
#[derive(Default)]
struct Posters {
    orderers: Mutex<Orderers>,
    answered: AtomicI64,
    process: AtomicUsize,
    trace: PathBuf,
}

impl Posters {
    /// Posts up to `bound` orders, or until the server has ended.
    fn post(&self, server: &Server, product: usize, bound: i64) {
        let Product { id, amount, .. } = &products()[product];
        let (path, body) = (format!("/orders/{id}"), format!("{{\"amount\":{amount}}}"));
        let mut client = Client::connect(server.addr());
        let process = self.process.load(Ordering::Relaxed);
        self.orderers.lock().expect("no poster panicked").add(process, &client, &self.trace, product);
        for _ in 0..bound {
            match client.try_post(&path, &body) {
                Ok(reply) => assert_eq!(reply.text(), "{\"ok\":true}"),
                Err(_) => return,
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wait_for(&self, more: i64) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        wait_until(RECORDING_DEADLINE, "orders are answered", || self.answered.load(Ordering::Relaxed) >= enough);
    }
}

/// Records three runs on one folder. The first starts empty, takes orders until a checkpoint, and adds a product; it is
/// killed under load. The second ends in order. The third is killed.
fn record(disk: &Disk) -> Recording {
    let posters = Posters { trace: disk.trace(), ..Posters::default() };
    let mut records = Vec::new();
    let mut server = disk.builder().catalog(CATALOG).start();
    let mut trace = Trace::open(&disk.trace());
    for process in 0..3 {
        posters.process.store(process, Ordering::Relaxed);
        // The totals that a new process lists are the start of its orders.
        totals(&server);
        let mut feed = WebSocket::open(server.addr(), "/orders");
        let bound = if process == 1 { 60 } else { i64::MAX };
        thread::scope(|scope| {
            let (posters, server) = (&posters, &server);
            // Read until the server has ended, because a feed that is not read would be closed.
            let feed = spawn(scope, move || while feed.next_within(RECORDING_DEADLINE).is_ok() {});
            let known = if process == 0 { 5 } else { 6 };
            let mut threads: Vec<_> =
                (0..known).map(|product| spawn(scope, move || posters.post(server, product, bound))).collect();
            match process {
                0 => {
                    posters.wait_for(100);
                    let list = server.client().post("/drinks", ADDED);
                    assert_eq!(list.json()[5]["id"], "D6");
                    threads.push(spawn(scope, move || posters.post(server, 5, bound)));
                    let mut written_back = 0;
                    wait_until(RECORDING_DEADLINE, "the WAL is checkpointed", || {
                        let more = trace.more();
                        // The file is synced twice before: when it is created, and when it is switched to WAL mode.
                        written_back += more.iter().filter(|it| it.kind == Kind::Sync && it.target == MAIN).count();
                        records.extend(more);
                        written_back >= 3
                    });
                    posters.wait_for(200);
                    server.signal("KILL");
                }
                // Ends in order once every poster has finished.
                1 => {
                    threads.drain(..).for_each(|thread| thread.join().expect("no poster panics"));
                    server.signal("TERM");
                }
                _ => {
                    posters.wait_for(100);
                    server.signal("KILL");
                }
            }
            feed.join().expect("no subscriber panics");
        });
        server.wait(DEADLINE);
        if process < 2 {
            server.restart();
        }
    }
    records.extend(trace.more());
    Recording { records, orderers: posters.orderers.into_inner().expect("no poster panicked") }
}

/// Points of a recording, sorted: half of them anywhere, and half near rare events.
fn points(recording: &Recording, count: usize, random: &mut Random) -> Vec<usize> {
    let records = &recording.records;
    // Starts, ends and checkpoints.
    let is_rare = |record: &Record| record.kind == Kind::Open || record.target & (MAIN | FOLDER) != 0;
    let rare: Vec<usize> = (0..records.len()).filter(|place| is_rare(&records[*place])).collect();
    let mut points: Vec<usize> = (0..count)
        .map(|turn| match turn % 2 {
            0 => random.place(records.len()),
            _ => (random.pick(&rare) + random.place(12)).min(records.len() - 1),
        })
        .collect();
    points.sort_unstable();
    points
}

/// Opens `count` images of a recording, and returns those that failed, each with a description.
fn failures(recording: &Recording, mut disk: Replay, count: usize, seed: u64) -> Vec<(String, Image)> {
    let mut random = Random::new(seed, 0);
    let points = points(recording, count, &mut random);
    let (sender, receiver) = mpsc::sync_channel(OPENERS);
    let (receiver, failures) = (Mutex::new(receiver), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..OPENERS {
            scope.spawn(|| {
                loop {
                    let next = receiver.lock().expect("no opener panicked").recv();
                    let Ok((what, image, promises)) = next else { return };
                    let promises: Promises = promises;
                    // A server that does not answer is a failure too; the other images are still checked.
                    let check = AssertUnwindSafe(|| promises.check_image(&image, CATALOG));
                    let checked = catch_unwind(check).unwrap_or_else(|_| Err("it does not answer".to_owned()));
                    if let Err(why) = checked {
                        failures.lock().expect("no opener panicked").push((format!("{what}: {why}"), image));
                    }
                }
            });
        }
        let mut promises = Promises::new(products());
        let mut fed = 0;
        for (turn, point) in points.into_iter().enumerate() {
            for record in &recording.records[fed..point] {
                disk.feed(record);
                promises.feed(record, &recording.orderers);
            }
            fed = point;
            let loss = Loss::of(random.place(8));
            let what =
                format!("seed {seed}, image {turn}, after {point} of {} calls, {loss:?}", recording.records.len());
            sender.send((what, disk.image(&mut random, loss), promises.clone())).expect("an opener is there");
        }
        drop(sender);
    });
    failures.into_inner().expect("no opener panicked")
}

fn number_from(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that goes").as_nanos() as u64;
    number_from("ORDERCAST_POWER_SEED").unwrap_or_else(now)
}

#[test]
fn what_was_answered_or_shown_is_there_after_the_power_went_out_at_any_moment() {
    let _turn = turn();
    let images = number_from("ORDERCAST_POWER_RUNS").map_or(IMAGES, |runs| runs as usize);
    let seed = seed();
    for (turn, first) in (0..images).step_by(IMAGES_A_RECORDING).enumerate() {
        let Some(disk) = Disk::new() else { return };
        let recording = record(&disk);
        let count = IMAGES_A_RECORDING.min(images - first);
        let failures = failures(&recording, Replay::default(), count, seed + turn as u64);
        if let Some((_, image)) = failures.first() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-loss");
            write_image(image, &kept);
            let what: Vec<&str> = failures.iter().map(|(what, _)| what.as_str()).collect();
            panic!("{} of {count}, the first in {}:\n{}", what.len(), kept.display(), what.join("\n"));
        }
        println!("seed {}: {count} images of {} calls", seed + turn as u64, recording.records.len());
    }
}

/// The check must detect a disk that reports syncs that it has not done.
#[test]
fn a_disk_that_lies_about_its_syncs_is_detected() {
    let _turn = turn();
    let Some(disk) = Disk::new() else { return };
    let recording = record(&disk);
    for (lie, count) in [(MAIN | LOG, 20), (LOG, 20), (MAIN, 60)] {
        let failures = failures(&recording, Replay::of_a_liar(lie), count, seed());
        assert!(!failures.is_empty(), "no failure in {count} images of a disk that lies about {lie}");
        println!("a lie about {lie} was seen in {} of {count} images, {} for one", failures.len(), failures[0].0);
    }
}
