//! A recorded history of concurrent clients is linearizable: all answers, totals and counts of periods fit the order of
//! the log and of the closes in it, in which each operation takes effect between its invocation and its answer.
//! `linear.rs` has the check; here is the run, and `clients.rs` has its clients. The check must also reject the wrong
//! histories of `forgeries.rs`.

mod clients;
mod counts;
mod forgeries;
mod linear;
mod periods;

use crate::common::load::{spawn, turn};
use crate::common::periods::{all_reports, amounts};
use crate::common::{Form, Random, Server, order_log, seed};
use clients::{Ear, FEEDS, Followed, LastNumbers, Recorder};
use forgeries::FORGERIES;
use linear::{History, What, check};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
/// Pairs of posters that send the same orders at about the same time, so that each order is repeated.
const PAIRS: usize = 5;
const ORDERS_EACH: usize = 200;
/// One pair sends batches instead.
const BATCHES: usize = 40;
const READERS: usize = 3;
const LOG_READERS: usize = 2;
const CLOSERS: usize = 2;

/// Records a run.
fn run(seed: u64) -> History {
    let server = Server::start();
    let addr = server.addr();
    let clock = Instant::now();
    let recorder = || Recorder { clock, operations: Vec::new() };
    let (done, last, subscribed) = (AtomicBool::new(false), LastNumbers::default(), AtomicUsize::new(0));
    let ears = [Ear::Plain, Ear::Positions(Form::WebSocket), Ear::Positions(Form::Events)];
    // Those of totals come first.
    let followed: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|has_counts| ears.map(|ear| FEEDS.map(|feed| Followed { ear, feed, has_counts })))
        .flatten()
        .collect();
    let (operations, subscribers) = thread::scope(|scope| {
        let listeners: Vec<_> = (followed.iter().enumerate())
            .map(|(number, feed)| {
                let (last, subscribed, mut recorder) = (&last, &subscribed, recorder());
                spawn(scope, move || {
                    // One after the other during the load, so that snapshots are taken in the middle of it.
                    while subscribed.load(Ordering::Relaxed) < number {
                        thread::sleep(Duration::from_millis(1));
                    }
                    thread::sleep(Duration::from_millis(4));
                    subscribed.fetch_add(1, Ordering::Relaxed);
                    (clients::listen(addr, number, *feed, last, &mut recorder), recorder.operations)
                })
            })
            .collect();
        let posters: Vec<_> = (0..2 * PAIRS)
            .map(|poster| {
                let mut recorder = recorder();
                spawn(scope, move || {
                    match poster / 2 {
                        0 => clients::post_batches(addr, seed, &mut recorder),
                        _ => clients::post(addr, poster, seed, &mut recorder),
                    }
                    recorder.operations
                })
            })
            .collect();
        let readers: Vec<_> = (0..READERS + LOG_READERS + CLOSERS)
            .map(|reader| {
                let (done, random, mut recorder) = (&done, Random::new(seed, 2_000 + reader as u64), recorder());
                spawn(scope, move || {
                    if reader < READERS {
                        clients::read(addr, done, random, &mut recorder);
                    } else if reader < READERS + LOG_READERS {
                        clients::read_log(addr, done, &mut recorder);
                    } else {
                        clients::close(addr, done, random, &mut recorder);
                    }
                    recorder.operations
                })
            })
            .collect();
        let mut operations = Vec::new();
        posters.into_iter().for_each(|it| operations.extend(it.join().expect("orders are answered")));
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|it| operations.extend(it.join().expect("totals and reports are answered")));
        let mut recorder = recorder();
        clients::post_last(addr, &mut recorder);
        operations.extend(recorder.operations);
        let end = clients::read_end(addr);
        last.0.set(end).expect("once");
        let mut subscribers = Vec::new();
        for (subscriber, told) in listeners.into_iter().map(|it| it.join().expect("right endings")) {
            subscribers.push(subscriber);
            operations.extend(told);
        }
        (operations, subscribers)
    });
    let log = order_log::read_whole(addr, &STARTS);
    let mut reports: Vec<_> = all_reports(addr).iter().map(amounts).collect();
    // The current period has not ended.
    reports.pop();
    History { starts: STARTS.to_vec(), operations, log, reports, subscribers }
}

#[test]
fn what_concurrent_clients_did_and_saw_is_linearizable() {
    let _turn = turn();
    let history = run(seed());
    let count = |is: fn(&What) -> bool| history.operations.iter().filter(|operation| is(&operation.what)).count();
    println!(
        "{} orders counted, {} periods closed; {} requests, {} rejections, {} reads of totals, {} of counts, {} of the log, \
         {} numbers received",
        history.log.len(),
        history.reports.len(),
        count(|what| matches!(what, What::Orders(_))),
        count(|what| matches!(what, What::KeyReused(_))),
        count(|what| matches!(what, What::Read(..))),
        count(|what| matches!(what, What::ReadCounts(..))),
        count(|what| matches!(what, What::ReadLog(_))),
        count(|what| matches!(what, What::Told(..)))
    );
    check(&history).unwrap_or_else(|why| panic!("{why}"));
    for (name, forge) in FORGERIES {
        let mut forged = history.clone();
        forge(&mut forged);
        let refused = check(&forged).expect_err(name);
        println!("{name}: {refused}");
    }
}
