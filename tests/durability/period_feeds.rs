//! Subscribers that count the current period, while orders come, periods are closed and the server is killed: each number
//! that they get is the count of one period at one order, the periods never go back, and all end on the report.
//!
//! `ORDERCAST_SEED` repeats the choices of a run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::load::{spawn, turn};
use crate::common::periods::{Amounts, amounts, report};
use crate::common::positions::{Form, Positional, Step};
use crate::common::{DEADLINE, Server, order_log, seed};
use crate::periods::{STARTS, run};

const SUBSCRIBERS: usize = 20;
const CLOSES: u64 = 50;
const FEED: &str = "/orders?period=current";
/// How often a subscriber looks whether the run is over.
const TICK: Duration = Duration::from_millis(20);

/// Follows the feed, and resumes it from its last position whenever it ends, until the last numbers are those of `end`.
fn follow(addr: SocketAddr, form: Form, end: &Mutex<Option<Amounts>>) -> Vec<Step> {
    let (mut steps, mut last, mut since) = (Vec::<Step>::new(), Amounts::new(), None::<String>);
    let mut overdue = None;
    loop {
        let Ok(mut feed) = Positional::try_open(form, addr, FEED, since.as_deref()) else {
            // The server is down.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        loop {
            match feed.next_within(TICK) {
                Ok(step) => {
                    if step.can_resume() {
                        since.clone_from(&step.position);
                    }
                    last.insert(step.id.clone(), step.total);
                    steps.push(step);
                }
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
                    break;
                }
            }
            let Some(expected) = &*end.lock().expect("no panic") else { continue };
            let shown: Amounts =
                last.iter().filter(|(_, count)| **count != 0).map(|(id, n)| (id.clone(), *n)).collect();
            if shown == *expected {
                return steps;
            }
            let begun = *overdue.get_or_insert_with(Instant::now);
            assert!(begun.elapsed() < DEADLINE, "{shown:?} instead of {expected:?}");
        }
    }
}

/// The total of each product after each order, by sequence number.
struct Totals(BTreeMap<String, BTreeMap<u64, i64>>);

impl Totals {
    fn read(addr: SocketAddr) -> Totals {
        let mut totals = BTreeMap::from(STARTS.map(|(id, start)| (id.to_owned(), BTreeMap::from([(0, start)]))));
        for line in order_log::read_whole(addr, &STARTS) {
            totals.get_mut(&line.id).expect("a product of the catalogue").insert(line.seq, line.total);
        }
        Totals(totals)
    }

    fn after(&self, id: &str, seq: u64) -> i64 {
        *self.0[id].range(..=seq).next_back().expect("a starting total").1
    }
}

/// Each number with a position is the total after that order minus an opening, and the openings are those of one period
/// after the other.
#[track_caller]
fn expect_counts(steps: &[Step], totals: &Totals, openings: &[Amounts]) {
    let mut period = 0;
    for step in steps.iter().filter(|step| step.can_resume()) {
        let opening = totals.after(&step.id, step.seq()) - step.total;
        let found = openings[period..].iter().position(|openings| openings[&step.id] == opening);
        let found = found.unwrap_or_else(|| panic!("{step:?} counts from {opening}, which no later period does"));
        period += found;
    }
}

/// Ends the subscribers, also when the run fails: they wait for its end.
struct Ends<'a>(&'a Mutex<Option<Amounts>>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.lock().expect("no panic").get_or_insert_with(Amounts::new);
    }
}

#[test]
fn a_subscriber_of_the_current_period_is_exact_through_closes_kills_and_resumes() {
    let _turn = turn();
    let mut server = Server::builder().listen("127.0.0.5:0").start();
    let (addr, end) = (server.addr(), Mutex::new(None));
    let (seen, reports) = thread::scope(|scope| {
        let followers: Vec<_> = (0..SUBSCRIBERS)
            .map(|number| {
                let form = if number % 2 == 0 { Form::WebSocket } else { Form::Events };
                let end = &end;
                spawn(scope, move || follow(addr, form, end))
            })
            .collect();
        let ends = Ends(&end);
        let (_, reports) = run(&mut server, CLOSES, seed());
        *end.lock().expect("no panic") = Some(amounts(&report(&mut server.client(), "current")));
        drop(ends);
        let seen: Vec<_> = followers.into_iter().map(|one| one.join().expect("every subscriber ends right")).collect();
        (seen, reports)
    });
    let totals = Totals::read(addr);
    let mut openings = vec![Amounts::from(STARTS.map(|(id, start)| (id.to_owned(), start)))];
    for report in &reports {
        let mut next = openings.last().expect("the first one").clone();
        amounts(report).into_iter().for_each(|(id, amount)| *next.get_mut(&id).expect("a product") += amount);
        openings.push(next);
    }
    for steps in &seen {
        expect_counts(steps, &totals, &openings);
    }
    println!("{} numbers at {SUBSCRIBERS} subscribers", seen.iter().map(Vec::len).sum::<usize>());
}
