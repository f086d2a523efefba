//! The server is killed at random moments while sixteen clients send orders with keys and repeat those that were not
//! answered: in the end every order counts exactly once.
//!
//! `ORDERCAST_TORTURE_ROUNDS` is the number of kills (`make torture`), `ORDERCAST_SEED` repeats the choices of a run.

use crate::common::load::{spawn, turn};
use crate::common::parcels::{self, Parcel, Poster, Servers, ways};
use crate::common::{DEADLINE, Line, Random, Server, order_log, seed};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Kills in an ordinary run.
const ROUNDS: usize = 8;
/// The longest time between two kills. Starting takes about a tenth of it, so most kills hit the load.
const LONGEST_LIFE: Duration = Duration::from_millis(400);
#[test]
fn every_order_that_is_sent_until_it_is_answered_counts_exactly_once() {
    let _turn = turn();
    let rounds = std::env::var("ORDERCAST_TORTURE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let seed = seed();
    let mut server = Server::builder().listen("127.0.0.2:0").start();
    let addr = server.addr();
    let (done, sent_again) = (AtomicBool::new(false), AtomicU64::new(0));
    let addrs = [addr];
    let pause = Duration::from_millis(1);
    let servers = Servers { addrs: &addrs, deadline: DEADLINE, pause, may_not_know: false };
    let begun = Instant::now();
    let parcels: Vec<Vec<Parcel>> = thread::scope(|scope| {
        let posters: Vec<_> = (ways().enumerate())
            .map(|(number, way)| {
                let (done, sent_again) = (&done, &sent_again);
                let mut poster = Poster::new(servers, number, way, seed, sent_again);
                spawn(scope, move || poster.work(done))
            })
            .collect();
        let mut random = Random::new(seed, 1_000);
        let mut log: Vec<Line> = Vec::new();
        for round in 0..rounds {
            // A random moment, not an event to wait for.
            thread::sleep(Duration::from_micros(random.below(LONGEST_LIFE.as_micros() as u64)));
            if posters.iter().any(|poster| poster.is_finished()) {
                break;
            }
            // Sometimes it gets SIGTERM instead, and answers what is in flight.
            if random.once_in(5) {
                assert_eq!(server.terminate().code(), Some(0), "round {round}");
            }
            server.restart_on_the_same_ports();
            // The log after a kill begins with the log before it.
            let seen = log.len() as u64;
            let overlap = seen.saturating_sub(20);
            let behind = order_log::read_from(addr, overlap).expect("the log can be read");
            let known = &log[overlap as usize..];
            assert!(behind.starts_with(known), "round {round}: {behind:?} does not go on from {known:?}");
            let new = behind[known.len()..].to_vec();
            log.extend(new);
        }
        done.store(true, Ordering::Relaxed);
        posters.into_iter().map(|it| it.join().expect("every order is answered")).collect()
    });
    let took = begun.elapsed();

    let log = parcels::check(addr, &parcels);
    println!(
        "{rounds} rounds in {took:?}: {} orders in {} requests, {} sent again",
        log.len(),
        parcels.iter().flatten().count(),
        sent_again.into_inner()
    );
}
