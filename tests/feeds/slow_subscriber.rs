//! Subscribers that do not read: they delay no other client, and they are closed.

use crate::common::load::{follow, parse_total, pipeline_orders, spawn, turn};
use crate::common::{Client, DEADLINE, Server, WebSocket, wait_until};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const POSTERS: usize = 8;
const READERS: usize = 20;
/// A total with many digits, which fills the socket buffers sooner.
const BASE: i64 = 1_000_000_000_000_000;
const STALL: Duration = Duration::from_secs(3);
/// How long an order may take to be shown while a subscriber stalls: a few syncs. A server that waited for the stalled
/// subscriber would take as long as the stall.
const PROMPT: Duration = Duration::from_millis(1_000);

/// More totals than the socket buffers hold for a client that does not read: more than a megabyte.
const ENOUGH: usize = 30_000;
const PIPELINES: usize = 6;

/// Posts orders for A1 with the amount 1 over `POSTERS` connections until `done`; returns their number and the longest
/// time for one.
fn load(server: &Server, done: &AtomicBool) -> (i64, Duration) {
    let addr = server.addr();
    let posted = AtomicI64::new(0);
    let longest = thread::scope(|scope| {
        let posters: Vec<_> = (0..POSTERS)
            .map(|_| {
                spawn(scope, || {
                    let mut client = Client::connect(addr);
                    let mut longest = Duration::ZERO;
                    while !done.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        client.order("A1", 1);
                        longest = longest.max(start.elapsed());
                        posted.fetch_add(1, Ordering::Relaxed);
                    }
                    longest
                })
            })
            .collect();
        posters.into_iter().map(|it| it.join().expect("orders are answered")).max()
    });
    (posted.into_inner(), longest.unwrap_or_default())
}

/// Follows the feed until A1 has the total `last`, each total larger than the one before; returns the number of totals.
#[track_caller]
fn read_up_to(subscriber: WebSocket, last: i64) -> usize {
    let (mut count, mut before) = (0, 0);
    let mut end = follow(subscriber, DEADLINE, |message| {
        let (id, total) = parse_total(message).expect("a total");
        if id != "A1" {
            return true;
        }
        assert!(total >= before, "an older total: {total} after {before}");
        (count, before) = (count + 1, total);
        assert!(total <= last, "a wrong total: {total}, with only {last} ordered");
        total < last
    })
    .unwrap_or_else(|error| panic!("{error} at {before}, after {count} totals; the last would be {last}"));
    // The rest of a snapshot may follow, which may contain the last total again.
    for text in end.texts_until_quiet() {
        let total = parse_total(text.as_bytes());
        assert!(total == Some(("A1", last)) || total == Some(("A2", 7)), "{text} after the last");
    }
    count
}

/// Measures the longest pause between two totals of each reader, and the longest response to each poster. Posters never
/// pause, so both would show a server that waits for the stalled subscriber.
#[test]
fn a_subscriber_that_stops_reading_delays_nobody_and_ends_on_the_right_totals() {
    let _turn = turn();
    let server = Server::start();
    server.client().order("A1", BASE);
    let stalled = WebSocket::open(server.addr(), "/orders/electronics");
    let readers: Vec<WebSocket> = (0..READERS).map(|_| WebSocket::open(server.addr(), "/orders/electronics")).collect();

    let done = AtomicBool::new(false);
    let latest: Vec<AtomicI64> = (0..READERS).map(|_| AtomicI64::new(0)).collect();
    let last = AtomicI64::new(i64::MAX);
    let (posted, slowest_answer, longest_pause, received) = thread::scope(|scope| {
        let followers: Vec<_> = (readers.into_iter().zip(&latest))
            .map(|(reader, latest)| {
                let last = &last;
                spawn(scope, move || {
                    let mut before: Option<Instant> = None;
                    let mut longest = Duration::ZERO;
                    follow(reader, Duration::from_secs(60), |message| {
                        let (id, total) = parse_total(message).expect("a total");
                        if id == "A1" {
                            assert!(total >= latest.load(Ordering::Relaxed), "an older total: {total}");
                            latest.store(total, Ordering::Relaxed);
                            let now = Instant::now();
                            if let Some(before) = before.replace(now) {
                                longest = longest.max(now - before);
                            }
                        }
                        total != last.load(Ordering::Relaxed)
                    })
                    .unwrap_or_else(|error| panic!("{error} at {}", latest.load(Ordering::Relaxed)));
                    longest
                })
            })
            .collect();
        let posters = scope.spawn(|| load(&server, &done));
        // The stall begins with the first order; the stalled subscriber reads nothing meanwhile.
        wait_until(DEADLINE, "the load has begun", || latest[0].load(Ordering::Relaxed) > BASE + 3);
        thread::sleep(STALL);
        done.store(true, Ordering::Relaxed);
        let (posted, slowest_answer) = posters.join().expect("orders are answered");
        // One more order, after every reader knows the last total.
        last.store(3 + BASE + posted + 1, Ordering::Relaxed);
        server.client().order("A1", 1);
        let received = read_up_to(stalled, 3 + BASE + posted + 1);
        let pauses = followers.into_iter().map(|it| it.join().expect("the right last total"));
        (posted, slowest_answer, pauses.max().unwrap_or_default(), received)
    });
    println!(
        "{posted} orders in {STALL:?}; longest answer {slowest_answer:?}, longest pause of {READERS} readers \
         {longest_pause:?}; the stalled one received {received} totals"
    );
    assert!(slowest_answer < PROMPT, "an order took {slowest_answer:?}");
    assert!(longest_pause < PROMPT, "a reader waited {longest_pause:?}");
}

#[test]
fn a_subscriber_far_behind_skips_to_the_current_total() {
    let _turn = turn();
    let server = Server::start();
    server.client().order("A1", BASE);
    let stalled = WebSocket::open(server.addr(), "/orders/electronics");
    // Several times what the socket buffers hold; posting them takes less than the time after which the server closes a
    // subscriber that takes nothing.
    let count = ENOUGH / 4;
    pipeline_orders(server.addr(), PIPELINES, count / PIPELINES);
    let received = read_up_to(stalled, 3 + BASE + count as i64);
    println!("{received} of {count} totals received");
    assert!(received < count, "nothing was skipped, so nothing was tested");
}

#[test]
fn subscribers_that_never_read_are_closed_and_their_memory_is_freed() {
    const SILENT: usize = 50;
    let server = Server::start();
    server.client().order("A1", BASE);
    let reader = WebSocket::open(server.addr(), "/orders/electronics");
    let count = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let follower = scope.spawn(|| {
            follow(reader, Duration::from_secs(60), |_| {
                count.fetch_add(1, Ordering::Relaxed);
                !done.load(Ordering::Relaxed)
            })
        });
        // The memory that the load itself takes is allocated before the measurement.
        pipeline_orders(server.addr(), PIPELINES, 1_000);
        let (threads, descriptors, memory) = (server.threads(), server.descriptors(), server.memory_kib());

        let mut after_each = Vec::new();
        for _ in 0..2 {
            let silent: Vec<WebSocket> =
                (0..SILENT).map(|_| WebSocket::open(server.addr(), "/orders/electronics")).collect();
            let start = Instant::now();
            pipeline_orders(server.addr(), PIPELINES, ENOUGH / PIPELINES);
            let most = server.memory_kib();
            wait_until(Duration::from_secs(30), "subscribers that never read are closed", || {
                server.descriptors() <= descriptors && server.threads() <= threads
            });
            let closed = start.elapsed();
            let after = server.memory_kib();
            println!("memory before {memory} KiB, at most {most}, after {after}; closed after {closed:?}");
            assert!(closed > Duration::from_secs(9), "closed already after {closed:?}");
            assert!(most < memory + 16 * 1024, "{SILENT} subscribers that do not read cost {} KiB", most - memory);
            after_each.push(after);
            drop(silent);
        }
        // The allocator keeps some freed memory; a leak would grow with every round.
        assert!(after_each[1] < after_each[0] + 2 * 1024, "memory is not given back: {after_each:?} KiB");

        // The subscriber that reads was served all the time, and still is.
        let before = count.load(Ordering::Relaxed);
        server.client().order("A1", 1);
        wait_until(DEADLINE, "the reader receives the order", || count.load(Ordering::Relaxed) > before);
        done.store(true, Ordering::Relaxed);
        server.client().order("A1", 1);
        follower.join().expect("no panic").expect("the reader was never closed");
    });
}

#[test]
fn a_subscriber_that_does_not_read_does_not_delay_the_end_of_the_server() {
    let _turn = turn();
    let mut server = Server::start();
    server.client().order("A1", BASE);
    let _silent: Vec<WebSocket> = (0..5).map(|_| WebSocket::open(server.addr(), "/orders/electronics")).collect();
    pipeline_orders(server.addr(), PIPELINES, ENOUGH / PIPELINES);
    let start = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    // 5 s to drain; the rest is for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(9), "only after {:?}", start.elapsed());
}
