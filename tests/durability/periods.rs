//! Periods are closed while orders come, the server is killed, and the disk fails: every order is in exactly one report,
//! and a report never changes once its period is closed.
//!
//! `ORDERCAST_SEED` repeats the choices of a run.

use crate::common::disk::{Call, EIO, ENOSPC, LOG};
use crate::common::load::{spawn, turn};
use crate::common::periods::{Amounts, all_reports, amounts, close, report, sums, try_close};
use crate::common::{
    Client, DEADLINE, Disk, Fault, Random, Reply, Server, SharedStore, order_log, ordercast, seed, wait_until,
};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const POSTERS: usize = 16;
const CLOSES: u64 = 50;
/// The longest time between two closes.
const LONGEST_PERIOD: Duration = Duration::from_millis(160);
/// The longest time from a close to the kill that may hit it.
const LONGEST_CLOSE: Duration = Duration::from_millis(3);
pub const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
const IDS: [&str; 3] = ["A1", "A2", "B1"];

/// Ends the posters, also when the test fails: it waits for them.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Posts orders until `done`, each under its key until it is answered. Returns their sums.
fn post(addr: SocketAddr, poster: usize, mut random: Random, done: &AtomicBool) -> Amounts {
    let (mut client, mut sums, mut number) = (None, Amounts::new(), 0);
    while !done.load(Ordering::Relaxed) {
        let (id, amount) = (*random.pick(&IDS), random.below(19) as i64 - 4);
        let body = format!("{{\"amount\":{amount},\"key\":\"{poster}-{number}\"}}");
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < DEADLINE, "{body} is never answered");
            let connection = client.take().map_or_else(|| Client::try_connect(addr), Ok);
            let reply = connection.and_then(|mut connection| {
                let reply = connection.try_post(&format!("/orders/{id}"), &body)?;
                client = Some(connection);
                Ok(reply)
            });
            match reply {
                Ok(reply) if reply.status == 200 => break,
                Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
                // The server is down. Pause, so that it can start.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        *sums.entry(id.to_owned()).or_default() += amount;
        number += 1;
    }
    sums
}

/// Closes the period, after an attempt whose answer may be lost, and returns its report.
#[track_caller]
fn close_for_certain(addr: SocketAddr, number: u64, first: Option<Reply>, was_killed: bool) -> Value {
    let mut client = Client::connect(addr);
    let answered = first.filter(|reply| reply.status == 200).map(|reply| reply.json());
    let reply = try_close(&mut client, number).expect("the server answers");
    match reply.status {
        200 => assert_eq!(answered, None, "period {number} was closed twice"),
        _ => {
            reply.problem(409);
            assert!(was_killed, "period {number} was closed by nobody");
        }
    }
    let stored = report(&mut client, &number.to_string());
    let told = answered.or_else(|| (reply.status == 200).then(|| reply.json()));
    assert!(told.is_none_or(|told| told == stored), "period {number}: {stored} was answered otherwise");
    stored
}

/// Closes periods at random moments, some of them while the server is killed. Returns the sums of all orders, and the
/// reports.
pub fn run(server: &mut Server, closes: u64, seed: u64) -> (Amounts, Vec<Value>) {
    let (addr, done) = (server.addr(), AtomicBool::new(false));
    let mut random = Random::new(seed, 1_000);
    let mut reports = Vec::new();
    let mut ordered = Amounts::new();
    thread::scope(|scope| {
        let posters: Vec<_> = (0..POSTERS)
            .map(|poster| {
                let (random, done) = (Random::new(seed, poster as u64), &done);
                spawn(scope, move || post(addr, poster, random, done))
            })
            .collect();
        let ends = Ends(&done);
        for number in 1..=closes {
            // A random moment, not an event to wait for.
            thread::sleep(Duration::from_micros(random.below(LONGEST_PERIOD.as_micros() as u64)));
            if posters.iter().any(|poster| poster.is_finished()) {
                break;
            }
            let (mut first, was_killed) = (None, random.once_in(4));
            if was_killed {
                let asked = spawn(scope, move || try_close(&mut Client::try_connect(addr)?, number));
                thread::sleep(Duration::from_micros(random.below(LONGEST_CLOSE.as_micros() as u64)));
                server.restart_on_the_same_ports();
                first = asked.join().expect("no panic").ok();
            }
            reports.push(close_for_certain(addr, number, first, was_killed));
        }
        drop(ends);
        for poster in posters {
            for (id, amount) in poster.join().expect("every order is answered") {
                *ordered.entry(id).or_default() += amount;
            }
        }
    });
    ordered.retain(|_, amount| *amount != 0);
    (ordered, reports)
}

/// The sum of all reports is what was ordered, and is in the totals beside what they started from.
#[track_caller]
fn expect_exact(server: &Server, ordered: &Amounts, closed: &[Value]) {
    let reports = all_reports(server.addr());
    assert_eq!(reports[..reports.len() - 1], *closed, "a closed report has changed");
    assert_eq!(&sums(&reports), ordered);
    let totals = STARTS.map(|(id, start)| (id.to_owned(), start + ordered.get(id).copied().unwrap_or(0)));
    assert_eq!(server.totals(), totals);
}

/// `ordercast check` compares each report with the log's orders between the period's first and last.
#[track_caller]
fn expect_sound(server: &Server, periods: u64) {
    let data = server.data();
    let check =
        SharedStore::of(&data).map_or_else(|| ordercast(&data, &["check", "--data", "."], &[]), |it| it.check());
    assert!(check.code == Some(0) && check.stdout.contains(&format!("{periods} periods")), "{check:?}");
}

#[test]
fn every_order_is_in_one_report_through_closes_and_kills() {
    let _turn = turn();
    let seed = seed();
    let begun = Instant::now();
    let mut server = Server::builder().listen("127.0.0.4:0").start();
    let (ordered, closed) = run(&mut server, CLOSES, seed);
    assert_eq!(closed.len() as u64, CLOSES);
    expect_exact(&server, &ordered, &closed);
    expect_sound(&server, CLOSES + 1);
    let orders = order_log::read_whole(server.addr(), &STARTS).len();
    println!("{orders} orders in {CLOSES} periods in {:?}", begun.elapsed());
    server.terminate();
    server.restart();
    expect_exact(&server, &ordered, &closed);
}

#[test]
fn reports_stay_exact_while_the_log_forgets_their_orders() {
    const FEW: u64 = 10;
    let _turn = turn();
    let mut server = Server::builder().listen("127.0.0.4:0").arg("--keep-orders").arg("50").start();
    let (ordered, closed) = run(&mut server, FEW, seed());
    expect_exact(&server, &ordered, &closed);
    expect_sound(&server, FEW + 1);
}

#[test]
fn a_close_that_the_disk_refuses_leaves_the_period_open_with_all_of_its_orders() {
    let Some(disk) = Disk::new() else { return };
    let mut server = disk.builder().start();
    let (sync, write) = (Fault::fails(Call::Sync, LOG, EIO), Fault::fails(Call::Write, LOG, EIO));
    let full = Fault::fails(Call::Write, LOG, ENOSPC);
    let mut number = 1;
    let faults: [(Fault, &[u16]); 7] = [
        (sync.times(1), &[503]),
        (sync, &[503, 500]),
        (write.times(1), &[503]),
        (write, &[503]),
        (write.after(1), &[503]),
        (full, &[507]),
        (full.after(1), &[507]),
    ];
    for (fault, refusals) in faults {
        for is_killed in [false, true] {
            server.client().order("A1", 5);
            let before = report(&mut server.client(), "current");
            disk.arm(fault);
            let failed = try_close(&mut server.client(), number).expect("an answer");
            assert!(refusals.contains(&failed.status), "{fault:?}: {failed:?}");
            assert_eq!(report(&mut server.client(), "current"), before, "what was not closed is served");
            if is_killed {
                server.kill();
            }
            disk.lift();
            if is_killed {
                server.restart();
            }
            wait_until(DEADLINE, "the disk works", || server.client().get("/readyz").status == 200);
            let reply = try_close(&mut server.client(), number).expect("an answer");
            // Only where it was answered that it is not known, it may have been closed.
            let may_be_closed = is_killed && failed.status == 500;
            assert!(reply.status == 200 || may_be_closed && reply.status == 409, "{fault:?}: {failed:?} {reply:?}");
            let stored = report(&mut server.client(), &number.to_string());
            assert_eq!(stored["products"], before["products"], "{fault:?}");
            assert_eq!(amounts(&report(&mut server.client(), "current")), Amounts::new());
            number += 1;
        }
    }
    let reports = all_reports(server.addr());
    assert_eq!(sums(&reports)["A1"], server.total("A1") - 3);
    expect_sound(&server, number);
}

/// The commit succeeds on a file that has been moved: the close is answered as unknown, and taken back when the file is
/// back.
#[test]
fn a_close_during_whose_commit_the_file_is_moved_is_taken_back_with_the_file() {
    let Some(disk) = Disk::new() else { return };
    let mut server = disk.builder().start();
    server.client().order("A1", 4);
    let before = report(&mut server.client(), "current");
    let (path, away) = (disk.folder().join("ordercast.sqlite3"), disk.folder().join("away"));
    disk.arm(Fault::hangs(Call::Sync, LOG));
    thread::scope(|scope| {
        let asked = scope.spawn(|| try_close(&mut server.client(), 1).expect("an answer"));
        disk.wait_for_hit();
        fs::rename(&path, &away).expect("it can be moved");
        disk.lift();
        let detail = asked.join().expect("an answer").problem(500);
        assert!(detail.contains("whether the period is closed"), "{detail}");
    });
    // The file has the close and the next period. Neither is shown, and nobody is told that it is closed.
    assert_eq!(report(&mut server.client(), "1"), before);
    server.client().get("/periods/2").problem(404);
    try_close(&mut server.client(), 1).expect("an answer").problem(503);
    fs::rename(&away, &path).expect("it can be moved back");
    wait_until(DEADLINE, "orders are back", || server.client().get("/readyz").status == 200);
    server.client().order("A1", 2);
    assert_eq!(amounts(&close(&mut server.client(), 1))["A1"], 6);
    let reports = all_reports(server.addr());
    server.restart();
    assert_eq!(all_reports(server.addr()), reports);
    expect_sound(&server, 2);
}
