//! All attacks at the same time on one server with two well-behaved clients: the attacks do not affect these, and
//! afterwards the server uses what it used before.

use crate::attacks::Attacker;
use crate::common::load::{parse_total, spawn, turn};
use crate::common::{Client, DEADLINE, Server, WebSocket, wait_until};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The length of the measured run, and of the warm-up with the same attacks, after which the memory is as large as such
/// a run makes it.
const RUN: Duration = Duration::from_secs(8);
const WARM_UP: Duration = Duration::from_secs(5);
const ATTACKERS: usize = 3;
/// The pause between two orders of the well-behaved poster.
const BETWEEN_ORDERS: Duration = Duration::from_millis(5);
/// Bounds for the median and the maximum of the poster's response times. Usually they are a few milliseconds; the
/// attackers share two cores with the server.
const USUAL: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(2);
/// How much the memory may grow from the end of the warm-up to the end of the run.
const GROWTH_KIB: u64 = 4 * 1024;
/// How long after the attackers have left their threads and descriptors may last: the server lingers for 2 s.
const SETTLED: Duration = Duration::from_secs(15);
/// How long a thread whose connection has ended waits for another, 2 s, and a second more.
const SPARE: Duration = Duration::from_secs(3);

/// Attacks for `time`; returns the number of attacks.
fn attack(server: &Server, time: Duration) -> usize {
    let end = Instant::now() + time;
    let addr = server.addr();
    thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|number| {
                spawn(scope, move || {
                    let mut attacker = Attacker::new(addr, number);
                    let mut attacks = 0;
                    while Instant::now() < end {
                        attacker.attack();
                        attacks += 1;
                    }
                    attacks
                })
            })
            .collect();
        attackers.into_iter().map(|it| it.join().expect("an attacker does not fail")).sum()
    })
}

/// Posts orders in sequence until `done`; returns the time that each took.
fn post(server: &Server, posted: &AtomicI64, done: &AtomicBool) -> Vec<Duration> {
    let mut client = server.client();
    let mut times = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        client.order("A1", 1);
        times.push(start.elapsed());
        posted.fetch_add(1, Ordering::Relaxed);
        thread::sleep(BETWEEN_ORDERS);
    }
    times
}

/// Follows the feed to the last order: every total must be newer than the one before, and the last one exact.
fn follow(mut session: WebSocket, shown: &AtomicI64, last: &AtomicI64) -> usize {
    let mut heard = 0;
    while shown.load(Ordering::Relaxed) < last.load(Ordering::Relaxed) {
        let text = session.text();
        match parse_total(text.as_bytes()).expect("a total") {
            ("A1", total) => {
                assert!(total > shown.load(Ordering::Relaxed), "an older total: {total}");
                shown.store(total, Ordering::Relaxed);
                heard += 1;
            }
            other => assert_eq!(other, ("A2", 7)),
        }
    }
    session.expect_nothing_but_a_pong();
    heard
}

/// Ends the well-behaved clients when something has failed, so that the test ends and says what.
struct EndOnPanic<'a> {
    done: &'a AtomicBool,
    last: &'a AtomicI64,
}

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.done.store(true, Ordering::Relaxed);
            self.last.store(0, Ordering::Relaxed);
        }
    }
}

/// The numbers of threads and descriptors.
fn counts(server: &Server) -> (u64, usize) {
    (server.threads(), server.descriptors())
}

/// The counts once they have stayed the same for so long that no thread waits for another connection any more.
fn settled(server: &Server) -> (u64, usize) {
    let (mut last, mut since) = (counts(server), Instant::now());
    wait_until(SETTLED, "no thread is left over", || {
        let now = counts(server);
        if std::mem::replace(&mut last, now) != now {
            since = Instant::now();
        }
        since.elapsed() > SPARE
    });
    last
}

#[test]
fn all_attacks_at_once_do_not_affect_other_clients_and_leave_nothing_behind() {
    let _turn = turn();
    let server = Server::start();
    let (posted, done) = (AtomicI64::new(0), AtomicBool::new(false));
    let (shown, last) = (AtomicI64::new(0), AtomicI64::new(i64::MAX));
    let session = WebSocket::open(server.addr(), "/orders/electronics");
    thread::scope(|scope| {
        let poster = spawn(scope, || post(&server, &posted, &done));
        let follower = spawn(scope, || follow(session, &shown, &last));
        let _end = EndOnPanic { done: &done, last: &last };
        wait_until(DEADLINE, "orders are taken", || posted.load(Ordering::Relaxed) > 10);
        // Each of these counts includes only the two well-behaved clients.
        let at_first = settled(&server);

        let warm_up = attack(&server, WARM_UP);
        wait_until(SETTLED, "everything is given back after the warm-up", || counts(&server) == at_first);
        let before = server.memory_kib();
        let attacks = attack(&server, RUN);
        let at_most = server.peak_memory_kib();
        wait_until(SETTLED, "everything is given back after the run", || counts(&server) == at_first);
        let after = server.memory_kib();

        done.store(true, Ordering::Relaxed);
        let mut times = poster.join().expect("every order is answered");
        let posted = posted.load(Ordering::Relaxed);
        // One more order, after the follower knows the last total.
        last.store(3 + posted + 1, Ordering::Relaxed);
        server.client().order("A1", 1);
        let heard = follower.join().expect("a right feed");

        times.sort_unstable();
        let (half, most, slowest) = (times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]);
        println!(
            "{warm_up} attacks, then {attacks}; meanwhile {posted} orders: half within {half:?}, 99% within {most:?}, the \
             slowest {slowest:?}; {heard} totals shown; memory {before} KiB before, {at_most} at most, {after} after; \
             threads and descriptors {at_first:?}"
        );
        assert_eq!(
            server.client().get("/orders").json()[0]["total"],
            3 + posted + 1,
            "an attacker's order was counted"
        );
        assert_eq!(server.client().get("/orders").json()[2]["total"], 101, "an attacker's order was counted");
        assert!(half < USUAL && slowest < SLOWEST, "orders took {half:?} and up to {slowest:?}");
        assert!(after < before + GROWTH_KIB, "the memory grew from {before} to {after} KiB");
    });
    let log = server.log();
    assert!(!log.contains("panic"), "{log}");
    let mut client: Client = server.client();
    client.order("B1", 1);
}
