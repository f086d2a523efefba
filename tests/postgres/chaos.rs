//! Everything at once over three nodes: nodes and the database are killed, hang and lose their connections, and another
//! primary takes over, while posters repeat what was not answered at another node, and subscribers go on at another node
//! where they were. Every answered order counts exactly once, and no subscriber sees anything else than the log.
//!
//! `ORDERCAST_NODE_ROUNDS` is the number of faults (`make nodes-torture`), `ORDERCAST_SEED` repeats the choices of a run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::load::{spawn, turn};
use crate::common::order_log::{self, is_of};
use crate::common::parcels::{self, Parcel, Poster, STARTS, Servers, ways};
use crate::common::{Cluster, DEADLINE, Form, Line, Positional, Random, Relay, Server, Step, seed, wait_until};
use crate::nodes::migrate;

/// Faults in an ordinary run, and how long the database hangs in it.
const ROUNDS: usize = 10;
const SHORT_HANG: Duration = Duration::from_millis(2_500);
/// How long it hangs in a long run.
const LONG_HANG: Duration = Duration::from_secs(5);
const NODES: usize = 3;
/// The longest time between two faults.
const LONGEST_PEACE: Duration = Duration::from_millis(700);
/// How long an order or a total may be on its way, faults included.
const PATIENCE: Duration = Duration::from_secs(90);
const FEEDS: [&str; 3] = ["/orders", "/orders/electronics", "/orders/confectionery"];

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Blow {
    KillNode,
    KillDatabase,
    HangDatabase,
    CutConnections,
    /// Answers are held before connections are cut.
    LoseAnswers,
    /// The connections of now lead nowhere, and are never closed.
    StrandConnections,
    EndSessions,
    TakeOver,
}

const BLOWS: [Blow; 8] = [
    Blow::KillNode,
    Blow::KillDatabase,
    Blow::HangDatabase,
    Blow::CutConnections,
    Blow::LoseAnswers,
    Blow::StrandConnections,
    Blow::EndSessions,
    Blow::TakeOver,
];

/// The databases and the nodes, with relays between each of them.
struct World {
    primary: Cluster,
    standby: Cluster,
    /// Which relay of each node leads to the primary.
    primary_at: usize,
    relays: Vec<[Relay; 2]>,
    nodes: Vec<Server>,
    hang: Duration,
}

/// The built-in catalogue, with two products in every category: the snapshot of a feed with one looks like an order. Nobody
/// orders the other one, which is before it.
fn catalog() -> String {
    let sample = include_str!("../../src/config/catalog.json");
    let other = r#"{"id": "B0", "name": "Toffee", "rrp": "1", "info": "", "total": 0}"#;
    let with = sample.replace(r#"{"id": "B1""#, &format!(r#"{other}, {{"id": "B1""#));
    assert!(with.contains(other), "{sample}");
    with
}

impl World {
    fn start(hang: Duration) -> Option<World> {
        let primary = Cluster::start()?;
        migrate(&primary.url(), &[]);
        let standby = primary.synchronous_standby();
        let relays: Vec<[Relay; 2]> =
            (0..NODES).map(|_| [Relay::start(&primary.address()), Relay::start(&standby.address())]).collect();
        let nodes = relays.iter().map(|[first, second]| {
            let (first, second) = (first.address(), second.address());
            let url = format!("postgres://postgres@{first},{second}/postgres?target_session_attrs=read-write");
            Server::builder().store(&url).catalog(&catalog()).start()
        });
        let nodes = nodes.collect();
        Some(World { primary, standby, primary_at: 0, relays, nodes, hang })
    }

    fn strike(&mut self, blow: Blow, random: &mut Random) {
        let at = random.below(NODES as u64) as usize;
        match blow {
            Blow::KillNode => {
                self.ready();
                self.nodes[at].restart_on_the_same_ports();
            }
            Blow::KillDatabase => {
                self.primary.kill();
                self.primary.restart();
            }
            Blow::HangDatabase => {
                self.primary.pause();
                thread::sleep(self.hang);
                self.primary.resume();
            }
            Blow::CutConnections => {
                for _ in 0..1 + random.below(5) {
                    thread::sleep(Duration::from_millis(random.below(100)));
                    self.relays[random.below(NODES as u64) as usize].iter().for_each(Relay::cut);
                }
            }
            Blow::LoseAnswers => {
                self.relays[at].iter().for_each(Relay::hold_answers);
                thread::sleep(Duration::from_millis(random.below(1_000)));
                self.relays[at].iter().for_each(Relay::cut);
                self.relays[at].iter().for_each(Relay::resume);
            }
            Blow::StrandConnections => self.relays[at].iter().for_each(Relay::strand),
            Blow::EndSessions => {
                // One that waits for the standby would end with its orders visible and not on the standby, as PostgreSQL
                // warns: subscribers would see orders that nobody was answered and that a takeover loses.
                let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                     AND wait_event IS DISTINCT FROM 'SyncRep'";
                self.primary.sql(end);
            }
            Blow::TakeOver => {
                self.primary.kill();
                self.standby.promote();
                let standby = self.standby.synchronous_standby();
                self.relays.iter().for_each(|relays| relays[self.primary_at].redirect(&standby.address()));
                self.primary_at = 1 - self.primary_at;
                self.primary = std::mem::replace(&mut self.standby, standby);
            }
        }
    }

    /// Waits until every node takes orders.
    #[track_caller]
    fn ready(&self) {
        wait_until(PATIENCE, "every node is ready", || {
            self.nodes.iter().all(|node| node.client().get("/readyz").status == 200)
        });
    }
}

/// What a subscriber received that can be resumed from, each with whether it begins anew: its run, or behind a snapshot.
type Seen = Vec<(bool, Step)>;

/// Follows a feed up to the line with the number `end`, at another node from its position whenever the feed ends.
fn follow(addrs: &[SocketAddr], form: Form, feed: &str, mut random: Random, end: &OnceLock<u64>) -> Seen {
    let (mut seen, mut position): (Seen, Option<String>) = (Vec::new(), None);
    let mut last_news = Instant::now();
    'connections: loop {
        let Ok(mut stream) = Positional::try_open(form, *random.pick(addrs), feed, position.as_deref()) else {
            assert!(last_news.elapsed() < PATIENCE, "no node takes the subscriber");
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let (mut is_anew, mut is_first) = (position.is_none(), true);
        let moves_at = Instant::now() + Duration::from_millis(500 + random.below(4_000));
        loop {
            let is_whole = seen.last().is_some_and(|(_, step)| end.get().is_some_and(|end| step.seq() >= *end));
            if is_whole {
                return seen;
            }
            assert!(last_news.elapsed() < PATIENCE, "nothing more comes behind {:?}", seen.last());
            match stream.next_within(Duration::from_millis(200)) {
                Ok(step) => {
                    last_news = Instant::now();
                    if step.can_resume() {
                        is_anew |= position.as_deref().map(run) != step.position.as_deref().map(run);
                        // A node that has not followed as far begins with what it has.
                        is_anew |= is_first && seen.last().is_some_and(|(_, last)| step.seq() <= last.seq());
                        position.clone_from(&step.position);
                        seen.push((is_anew, step));
                        (is_anew, is_first) = (false, false);
                    } else {
                        is_anew = true;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
                Err(_) => continue 'connections,
            }
            if Instant::now() >= moves_at && end.get().is_none() {
                continue 'connections;
            }
        }
    }
}

/// The run in a position.
fn run(position: &str) -> &str {
    position.split('.').next().unwrap_or_default()
}

/// Checks that a subscriber saw every line of its feed in the order of the log, from each beginning on. Returns how often
/// it began anew, and how often at a node that had followed less than the one it came from.
#[track_caller]
fn check_seen(seen: &Seen, feed: &str, log: &[Line]) -> (usize, usize) {
    let lines: Vec<&Line> = log.iter().filter(|line| line.is_of(feed)).collect();
    let (mut last, mut behind) = (0, 0);
    for (is_anew, step) in seen {
        let seq = step.seq();
        behind += usize::from(seq < last);
        assert!(*is_anew || seq > last, "{step:?} goes back behind {last}");
        if *is_anew {
            // The last total of a snapshot, which may be that of another product than the last line's.
            let known = lines[..lines.partition_point(|line| line.seq <= seq)].iter().rev();
            let total = known.clone().find(|line| line.id == step.id).map(|line| line.total);
            let start = STARTS.iter().find(|(id, _)| *id == step.id && is_of(id, feed)).map(|(_, start)| *start);
            assert_eq!(Some(step.total), total.or(start), "{feed}: {step:?} in a snapshot");
        } else {
            let next = lines[lines.partition_point(|line| line.seq <= last)];
            assert_eq!((seq, step.pair()), (next.seq, (next.id.clone(), next.total)), "{feed}: behind {last}");
        }
        last = seq;
    }
    assert_eq!(Some(last), lines.last().map(|line| line.seq), "{feed}");
    (seen.iter().filter(|(is_anew, _)| *is_anew).count(), behind)
}

#[test]
fn every_answered_order_counts_once_and_is_seen_once_whatever_fails() {
    let _turn = turn();
    let long = std::env::var("ORDERCAST_NODE_ROUNDS").ok().and_then(|text| text.parse().ok());
    let (rounds, hang) = (long.unwrap_or(ROUNDS), if long.is_some() { LONG_HANG } else { SHORT_HANG });
    let seed = seed();
    let Some(mut world) = World::start(hang) else { return };
    let addrs: Vec<SocketAddr> = world.nodes.iter().map(Server::addr).collect();
    let servers = Servers { addrs: &addrs, deadline: PATIENCE, pause: Duration::from_millis(20), may_not_know: true };
    let (done, sent_again) = (AtomicBool::new(false), AtomicU64::new(0));
    let ends: [OnceLock<u64>; 3] = Default::default();
    let begun = Instant::now();
    let mut blows: HashMap<Blow, usize> = HashMap::new();
    let (parcels, seen, log) = thread::scope(|scope| {
        let posters: Vec<_> = (ways().enumerate())
            .map(|(number, way)| {
                let mut poster = Poster::new(servers, number, way, seed, &sent_again);
                let done = &done;
                spawn(scope, move || poster.work(done))
            })
            .collect();
        let subscribers: Vec<_> = (0..2 * FEEDS.len())
            .map(|number| {
                let (feed, form) = (FEEDS[number / 2], [Form::WebSocket, Form::Events][number % 2]);
                let random = Random::new(seed, 2_000 + number as u64);
                let (addrs, end) = (&addrs, &ends[number / 2]);
                (feed, spawn(scope, move || follow(addrs, form, feed, random, end)))
            })
            .collect();
        let mut random = Random::new(seed, 1_000);
        // All of them, in a random order again and again.
        let mut left: Vec<Blow> = Vec::new();
        for round in 0..rounds {
            if left.is_empty() {
                left = BLOWS.to_vec();
            }
            let blow = left.swap_remove(random.below(left.len() as u64) as usize);
            thread::sleep(Duration::from_micros(random.below(LONGEST_PEACE.as_micros() as u64)));
            if long.is_some() {
                println!("{round}: {blow:?} after {:?}", begun.elapsed());
            }
            world.strike(blow, &mut random);
            *blows.entry(blow).or_default() += 1;
            assert!(world.nodes.iter_mut().all(Server::is_running), "a node has ended");
            if posters.iter().any(|poster| poster.is_finished()) {
                break;
            }
            if random.once_in(2) {
                world.ready();
            }
        }
        world.ready();
        done.store(true, Ordering::Relaxed);
        let parcels: Vec<Vec<Parcel>> =
            posters.into_iter().map(|it| it.join().expect("every order is answered")).collect();
        let log = order_log::read_whole(addrs[0], &STARTS);
        for (feed, end) in FEEDS.iter().zip(&ends) {
            let last = log.iter().rev().find(|line| line.is_of(feed)).expect("orders of every feed");
            end.set(last.seq).expect("once");
        }
        let seen: Vec<_> =
            subscribers.into_iter().map(|(feed, it)| (feed, it.join().expect("every total comes"))).collect();
        (parcels, seen, log)
    });
    let took = begun.elapsed();
    for addr in &addrs {
        let count = || order_log::read_from(*addr, log.len() as u64 - 1).expect("the log can be read").len();
        wait_until(DEADLINE, "the node has everything", || count() == 1);
        assert!(parcels::check(*addr, &parcels) == log, "seed {seed}: a node has another log");
    }
    let began = seen.iter().map(|(feed, seen)| check_seen(seen, feed, &log));
    let (began, behind) = began.fold((0, 0), |(began, behind), one| (began + one.0, behind + one.1));
    println!(
        "{rounds} rounds in {took:?}: {} orders in {} requests, {} sent again; {} totals seen, {began} snapshots, {behind} of them older than what was seen; {blows:?}",
        log.len(),
        parcels.iter().flatten().count(),
        sent_again.into_inner(),
        seen.iter().map(|(_, seen)| seen.len()).sum::<usize>(),
    );
}
