//! The power goes out: what was answered or shown is there when the machine is back, whatever of the unsynced writes the
//! disk has kept. Real runs of the server are recorded call by call; then the real server opens what the disk may hold
//! at many points of them.
//!
//! `ORDERCAST_POWER_RUNS` says how many images are opened, and `ORDERCAST_POWER_SEED` repeats the choice of points and
//! losses. The recording itself is not the same twice, so the folder of a failure is kept.

use crate::common::disk::{FOLDER, LOG, MAIN};
use crate::common::load::spawn;
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
/// In the catalogue, and the one that is added.
const STARTS: [i64; 6] = [5, 0, -7, 0, 0, 0];
const IMAGES: usize = 100;
/// A recording is looked at so many times at most, so that a long run sees several.
const IMAGES_A_RECORDING: usize = 250;
/// How many are opened at a time.
const OPENERS: usize = 2;
/// Enough for a log to grow until it is written back, on a machine with other things to do.
const RECORDING_DEADLINE: Duration = Duration::from_secs(120);

fn products() -> Vec<Product> {
    let product = |(place, start): (usize, &i64)| Product {
        id: format!("D{}", place + 1),
        start: *start,
        // No two have the same, so that no order counts for another product unseen.
        amount: [3, -5, 7, 11, -13, 17][place],
    };
    STARTS.iter().enumerate().map(product).collect()
}

/// A run of the server.
struct Recording {
    records: Vec<Record>,
    orderers: Orderers,
}

/// Those who post, each to a product of their own, and what they have done.
#[derive(Default)]
struct Posters {
    orderers: Mutex<Orderers>,
    answered: AtomicI64,
    process: AtomicUsize,
    trace: PathBuf,
}

impl Posters {
    /// Posts order after order until the server is gone.
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

/// The server starts on an empty folder and takes orders until the log has been written back; a product is added, and
/// ordered; the server is killed under load and starts again; it ends in order and starts again; it is killed.
fn record(disk: &Disk) -> Recording {
    let posters = Posters { trace: disk.trace(), ..Posters::default() };
    let mut records = Vec::new();
    let mut server = disk.builder().catalog(CATALOG).start();
    let mut trace = Trace::open(&disk.trace());
    for process in 0..3 {
        posters.process.store(process, Ordering::Relaxed);
        // What a new process lists is what the posters go on from.
        totals(&server);
        let mut feed = WebSocket::open(server.addr(), "/orders");
        let bound = if process == 1 { 60 } else { i64::MAX };
        thread::scope(|scope| {
            let (posters, server) = (&posters, &server);
            // Reads on until the server is gone: a feed that is not read would be closed.
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
                    wait_until(RECORDING_DEADLINE, "the log is written back", || {
                        let more = trace.more();
                        // The file is synced twice before: when it is made, and turned to the log.
                        written_back += more.iter().filter(|it| it.kind == Kind::Sync && it.target == MAIN).count();
                        records.extend(more);
                        written_back >= 3
                    });
                    posters.wait_for(200);
                    server.signal("KILL");
                }
                // Ends in order once everybody has posted what they want.
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

/// Points of a recording, in order: half of them anywhere, and half where something happens that is rare.
fn points(recording: &Recording, count: usize, random: &mut Random) -> Vec<usize> {
    let records = &recording.records;
    // A start, an end, and the log being written back.
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

/// Opens so many images of a recording, and returns those that were wrong, each with what was.
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
                    // A server that does not answer at all is a failure like any other, and the rest goes on.
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

/// The checks above are worth something only if they find out a disk that breaks its word.
#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let Some(disk) = Disk::new() else { return };
    let recording = record(&disk);
    for (lie, count) in [(MAIN | LOG, 20), (LOG, 20), (MAIN, 60)] {
        let failures = failures(&recording, Replay::of_a_liar(lie), count, seed());
        assert!(!failures.is_empty(), "{count} images of a disk that lies about {lie} were taken for good");
        println!("a lie about {lie} was seen in {} of {count} images, {} for one", failures.len(), failures[0].0);
    }
}
