//! Recorded histories of concurrent clients, and the check that they are linearizable: all answers, totals and counts of
//! periods fit the order of the log and of the closes in it, in which each operation takes effect between its invocation
//! and its answer. `linear.rs` has the check for one server, `nodes.rs` for several; here is a run, and `clients.rs` and
//! `listeners.rs` have its clients. The checks must also reject the wrong histories of `forgeries.rs`.

pub mod clients;
mod counts;
pub mod forgeries;
pub mod linear;
mod listeners;
pub mod nodes;
mod periods;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::load::spawn;
use super::periods::{all_reports, amounts};
use super::{DEADLINE, Form, Random, order_log};
use clients::{FEEDS, LastNumbers, Links, Recorder};
use linear::{History, What};
use listeners::{Ear, Followed};

const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];
const READERS: usize = 3;
const LOG_READERS: usize = 2;
const CLOSERS: usize = 2;
/// How long an answer or a number may be on its way, faults included.
const PATIENCE: Duration = Duration::from_secs(4 * DEADLINE.as_secs());

/// How much a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Pairs of posters that send the same orders at about the same time, so that each order is repeated. One pair sends
    /// batches instead.
    pub pairs: usize,
    pub orders_each: usize,
    pub batches: usize,
    /// The longest pause of a poster between two requests; none if it is zero.
    pub longest_pause: Duration,
    /// The longest time between two closes.
    pub longest_period: Duration,
    /// A subscriber resumes its feed after so many numbers.
    pub numbers_a_connection: usize,
}

impl Plan {
    fn pause(&self, random: &mut Random) {
        if !self.longest_pause.is_zero() {
            thread::sleep(Duration::from_micros(random.below(self.longest_pause.as_micros() as u64)));
        }
    }
}

/// Records a run over servers that share a tally. `disturb` is called during the load, with whether all orders are
/// answered.
pub fn record(addrs: &[SocketAddr], plan: &Plan, seed: u64, disturb: impl FnOnce(&dyn Fn() -> bool)) -> History {
    let clock = Instant::now();
    let (done, last, subscribed) = (AtomicBool::new(false), LastNumbers::default(), AtomicUsize::new(0));
    let ears = [Ear::Plain, Ear::Positions(Form::WebSocket), Ear::Positions(Form::Events)];
    // Those of totals come first.
    let followed: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|has_counts| ears.map(|ear| FEEDS.map(|feed| Followed { ear, feed, has_counts })))
        .flatten()
        .collect();
    let mut history = thread::scope(|scope| {
        let listeners: Vec<_> = (followed.iter().enumerate())
            .map(|(number, feed)| {
                let (last, subscribed, mut recorder) = (&last, &subscribed, Recorder::new(clock));
                let random = Random::new(seed, 3_000 + number as u64);
                spawn(scope, move || {
                    // One after the other during the load, so that snapshots are taken in the middle of it.
                    while subscribed.load(Ordering::Relaxed) < number {
                        thread::sleep(Duration::from_millis(1));
                    }
                    thread::sleep(Duration::from_millis(4));
                    subscribed.fetch_add(1, Ordering::Relaxed);
                    (listeners::listen(addrs, *feed, plan, last, random, &mut recorder), recorder)
                })
            })
            .collect();
        let links = |stream: usize| Links::new(addrs, Random::new(seed, stream as u64));
        let posters: Vec<_> = (0..2 * plan.pairs)
            .map(|poster| {
                let (links, mut recorder) = (links(4_000 + poster), Recorder::new(clock));
                spawn(scope, move || {
                    match poster / 2 {
                        0 => clients::post_batches(links, plan, seed, &mut recorder),
                        _ => clients::post(links, poster, plan, seed, &mut recorder),
                    }
                    recorder
                })
            })
            .collect();
        let readers: Vec<_> = (0..READERS + LOG_READERS + CLOSERS)
            .map(|reader| {
                let (done, random, mut recorder) =
                    (&done, Random::new(seed, 2_000 + reader as u64), Recorder::new(clock));
                let links = links(5_000 + reader);
                spawn(scope, move || {
                    if reader < READERS {
                        clients::read(links, done, random, &mut recorder);
                    } else if reader < READERS + LOG_READERS {
                        clients::read_log(links, done, &mut recorder);
                    } else {
                        clients::close(links, done, plan, &mut recorder);
                    }
                    recorder
                })
            })
            .collect();
        disturb(&|| posters.iter().all(|poster| poster.is_finished()));
        let mut history = History { starts: STARTS.to_vec(), ..History::default() };
        posters.into_iter().for_each(|it| history.add(Vec::new(), it.join().expect("orders are answered")));
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|it| history.add(Vec::new(), it.join().expect("totals and reports are answered")));
        let mut recorder = Recorder::new(clock);
        clients::post_last(addrs[0], &mut recorder);
        history.add(Vec::new(), recorder);
        last.0.set(clients::read_end(addrs[0])).expect("once");
        for (subscribers, recorder) in listeners.into_iter().map(|it| it.join().expect("right endings")) {
            history.add(subscribers, recorder);
        }
        history
    });
    history.log = order_log::read_whole(addrs[0], &STARTS);
    history.reports = all_reports(addrs[0]).iter().map(amounts).collect();
    // The current period has not ended.
    history.reports.pop();
    history
}

impl History {
    /// Adds what one thread recorded, with its subscribers.
    fn add(&mut self, subscribers: Vec<linear::Subscriber>, recorder: Recorder) {
        let before = self.subscribers.len();
        self.subscribers.extend(subscribers);
        self.lost += recorder.lost;
        self.operations.extend(recorder.operations.into_iter().map(|mut operation| {
            if let What::Told(number, _) | What::Resumed(number, _) = &mut operation.what {
                *number += before;
            }
            operation
        }));
    }

    /// What a run did, for people.
    pub fn summary(&self) -> String {
        let count = |is: fn(&What) -> bool| self.operations.iter().filter(|operation| is(&operation.what)).count();
        format!(
            "{} orders counted, {} periods closed; {} requests, {} rejections, {} reads of totals, {} of counts, {} of the \
             log, {} numbers received by {} subscribers, {} resumed, {} with positions began anew, {} requests or feeds lost",
            self.log.len(),
            self.reports.len(),
            count(|what| matches!(what, What::Orders(_))),
            count(|what| matches!(what, What::KeyReused(_))),
            count(|what| matches!(what, What::Read(..))),
            count(|what| matches!(what, What::ReadCounts(..))),
            count(|what| matches!(what, What::ReadLog(_))),
            count(|what| matches!(what, What::Told(..))),
            self.subscribers.len(),
            count(|what| matches!(what, What::Resumed(..))),
            self.subscribers.iter().filter(|subscriber| subscriber.due_every_order && subscriber.has_left).count(),
            self.lost,
        )
    }
}
