//! Everything at once: posters that repeat keyed orders until they are answered, while the server is killed, stopped,
//! suspended, its disk filled and its data file moved away. Every answered order counts exactly once.
//!
//! `ORDERCAST_CHAOS_SECONDS` is how long (`make torture`), `ORDERCAST_SEED` repeats the choices of a run.

use crate::common::load::{spawn, turn};
use crate::common::{Client, DEADLINE, Random, Server, SmallDisk, order_log, seed, wait_until};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long an ordinary run takes.
const SECONDS: u64 = 6;
/// Room for the orders of some minutes.
const DISK_MEGABYTES: u32 = 256;
const POSTERS: usize = 8;
/// The longest pause between two faults, and the longest fault.
const LONGEST: Duration = Duration::from_millis(400);
const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];

/// What a poster was answered, by status; 0 is no answer.
type Answers = HashMap<u16, u64>;

/// Posts orders of one piece until `done`, each under its own key until it is accepted. Returns how many were, and all
/// answers.
fn post(addr: SocketAddr, poster: usize, done: &AtomicBool) -> (u64, Answers) {
    let (mut client, mut answers, mut accepted) = (None, Answers::new(), 0);
    let (id, _) = STARTS[poster % STARTS.len()];
    while !done.load(Ordering::Relaxed) {
        let body = format!("{{\"amount\":1,\"key\":\"{poster}-{accepted}\"}}");
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < 2 * DEADLINE, "{body} is never accepted: {answers:?}");
            let mut connection = match client.take().map_or_else(|| Client::try_connect(addr), Ok) {
                Ok(connection) => connection,
                Err(_) => {
                    // The server is down. Pause, so that it can start.
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
            };
            let reply = connection.try_post(&format!("/orders/{id}"), &body);
            let status = reply.as_ref().map_or(0, |reply| reply.status);
            assert!([0, 200, 500, 503, 507].contains(&status), "{reply:?}");
            *answers.entry(status).or_default() += 1;
            if reply.is_ok_and(|reply| !reply.says_close()) {
                client = Some(connection);
            }
            if status == 200 {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        accepted += 1;
    }
    (accepted, answers)
}

/// Fills the disk for a moment.
fn fill(disk: &Path, pause: impl FnOnce()) {
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).expect("a file");
    while file.write_all(&[0; 16 * 1024]).is_ok() {}
    pause();
    fs::remove_file(&ballast).expect("the ballast goes");
}

#[test]
fn every_accepted_order_counts_once_through_kills_stops_full_disks_and_a_moved_file() {
    let _turn = turn();
    let Some(disk) = SmallDisk::of_megabytes(DISK_MEGABYTES) else { return };
    let seconds = std::env::var("ORDERCAST_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let mut random = Random::new(seed(), 0);
    let data = disk.path().join("data");
    let mut server = Server::builder().listen("127.0.0.3:0").data(&data).start();
    let (addr, done) = (server.addr(), AtomicBool::new(false));
    let mut faults: HashMap<&str, u32> = HashMap::new();
    let posted: Vec<(u64, Answers)> = thread::scope(|scope| {
        let done = &done;
        let posters: Vec<_> = (0..POSTERS).map(|poster| spawn(scope, move || post(addr, poster, done))).collect();
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut moved_at = Some(end - Duration::from_secs(seconds) / 2);
        while Instant::now() < end && !posters.iter().any(|poster| poster.is_finished()) {
            // A random moment, not an event to wait for.
            let micros = random.below(LONGEST.as_micros() as u64);
            let pause = || thread::sleep(Duration::from_micros(micros));
            pause();
            let fault = if moved_at.take_if(|due| *due <= Instant::now()).is_some() {
                let (path, away) = (data.join("ordercast.sqlite3"), data.join("away"));
                fs::rename(&path, &away).expect("it can be moved");
                pause();
                wait_until(DEADLINE, "orders are rejected", || server.client().get("/readyz").status == 503);
                fs::rename(&away, &path).expect("it can be moved back");
                "file moved"
            } else {
                match random.below(5) {
                    0 | 1 => {
                        server.restart_on_the_same_ports();
                        "kill -9"
                    }
                    2 => {
                        assert_eq!(server.terminate().code(), Some(0));
                        server.restart_on_the_same_ports();
                        "SIGTERM"
                    }
                    3 => {
                        server.signal("STOP");
                        pause();
                        server.signal("CONT");
                        "SIGSTOP"
                    }
                    _ => {
                        fill(disk.path(), || {
                            pause();
                            if micros.is_multiple_of(2) {
                                server.restart_on_the_same_ports();
                            }
                        });
                        "full disk"
                    }
                }
            };
            *faults.entry(fault).or_default() += 1;
        }
        done.store(true, Ordering::Relaxed);
        posters.into_iter().map(|it| it.join().expect("every order is accepted")).collect()
    });

    let log = order_log::read_whole(addr, &STARTS);
    let mut keys: HashMap<&str, u32> = HashMap::new();
    for line in &log {
        *keys.entry(line.key.as_deref().expect("every order has a key")).or_default() += 1;
    }
    for (poster, (accepted, _)) in posted.iter().enumerate() {
        for number in 0..*accepted {
            let key = format!("{poster}-{number}");
            assert_eq!(keys.remove(key.as_str()), Some(1), "{key}");
        }
    }
    assert!(keys.is_empty(), "never accepted: {keys:?}");
    for (place, (id, start)) in STARTS.iter().enumerate() {
        let accepted: u64 = posted.iter().skip(place).step_by(STARTS.len()).map(|(accepted, _)| accepted).sum();
        assert_eq!(server.total(id), start + accepted as i64, "{id}");
    }
    assert_eq!(faults.get("file moved"), Some(&1));
    let mut answers = Answers::new();
    posted.iter().flat_map(|(_, own)| own).for_each(|(status, count)| *answers.entry(*status).or_default() += count);
    println!("{seconds} s: {} orders, faults {faults:?}, answers {answers:?}", log.len());
}
