//! Another primary takes over: nothing that was answered is lost with a synchronous standby, and what an asynchronous one
//! has lost is said and shown.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::away::order_when_ready;
use crate::common::load::turn;
use crate::common::postgres::CLUSTER_DEADLINE;
use crate::common::{Client, Cluster, DEADLINE, Form, Positional, Server, Step, order_log, wait_until};
use crate::feeds::{Told, told_by};
use crate::nodes::{migrate, node};

const STARTS: [(&str, i64); 2] = [("A1", 3), ("A2", 7)];

/// The address of two servers of which one takes changes.
pub fn url(first: &Cluster, second: &Cluster) -> String {
    format!("postgres://postgres@{},{}/postgres?target_session_attrs=read-write", first.address(), second.address())
}

/// The run in a position.
fn run(step: &Step) -> &str {
    let position = step.position.as_deref().expect("a position");
    position.rsplit_once('.').expect("a run and a number").0
}

/// Reads a feed of electronics up to this number, and checks it against the log: every order once within a run, and in
/// every run after the first a snapshot before its orders. Returns the numbers of runs.
#[track_caller]
fn check_feed(feed: &mut Positional, end: u64, log: &[order_log::Line]) -> usize {
    let mut runs: Vec<String> = Vec::new();
    let mut last = 0;
    loop {
        let step = feed.next();
        if !step.can_resume() {
            continue;
        }
        let seq = step.seq();
        if runs.last().map(String::as_str) == Some(run(&step)) {
            assert_eq!(seq, last + 1, "{step:?} in a run");
        } else {
            runs.push(run(&step).to_owned());
        }
        last = seq;
        if seq > 0 && runs.len() > 1 {
            let expected = log[..seq as usize].iter().rev().find(|line| line.id == step.id).map(|line| line.total);
            let start = STARTS.iter().find(|(id, _)| *id == step.id).map(|(_, start)| *start);
            assert_eq!(Some(step.total), expected.or(start), "{step:?}");
        }
        if seq >= end && runs.len() > 1 {
            return runs.len();
        }
    }
}

#[test]
fn no_answered_order_is_lost_when_a_synchronous_standby_takes_over_from_a_killed_primary() {
    check_takeover(Cluster::kill);
}

/// Its connections stay open.
#[test]
fn no_answered_order_is_lost_when_a_synchronous_standby_takes_over_from_one_that_hangs() {
    check_takeover(|cluster| cluster.pause());
}

fn check_takeover(fail: impl Fn(&mut Cluster)) {
    const POSTERS: usize = 8;
    let _turn = turn();
    let Some(mut primary) = Cluster::start() else { return };
    migrate(&primary.url(), &[]);
    let standby = primary.synchronous_standby();
    let url = url(&primary, &standby);
    let nodes = [node(&url), node(&url)];
    let open = |form, node: &Server| Positional::open(form, node.addr(), "/orders/electronics", None);
    let mut feeds = [open(Form::WebSocket, &nodes[0]), open(Form::Events, &nodes[1])];
    nodes[0].client().order("A2", 1);
    let former = feeds[0].take(3).pop().and_then(|step| step.position).expect("a position");
    let done = AtomicBool::new(false);
    let answered: Vec<String> = thread::scope(|scope| {
        let posters: Vec<_> = (0..POSTERS)
            .map(|poster| {
                let (done, addrs) = (&done, [nodes[0].addr(), nodes[1].addr()]);
                scope.spawn(move || {
                    let (mut answered, mut tries) = (Vec::new(), poster);
                    while !done.load(Ordering::Relaxed) {
                        let key = format!("{poster}-{}", answered.len());
                        let body = format!("{{\"amount\":1,\"key\":\"{key}\"}}");
                        // Until it is answered, at another node each time.
                        loop {
                            tries += 1;
                            match Client::connect(addrs[tries % 2]).post("/orders/A1", &body).status {
                                200 => break,
                                503 => thread::sleep(Duration::from_millis(20)),
                                status => panic!("{body}: {status}"),
                            }
                        }
                        answered.push(key);
                    }
                    answered
                })
            })
            .collect();
        wait_until(DEADLINE, "orders come", || nodes[0].total("A1") > 100);
        assert!(nodes.iter().all(|node| node.client().get("/log").status == 200));
        fail(&mut primary);
        standby.promote();
        let begun = Instant::now();
        wait_until(CLUSTER_DEADLINE, "orders come again", || {
            nodes.iter().all(|node| node.client().get("/readyz").status == 200)
        });
        let before = nodes[0].total("A1");
        println!("ready after {} ms", begun.elapsed().as_millis());
        wait_until(DEADLINE, "orders go on", || nodes[0].total("A1") > before + 100);
        done.store(true, Ordering::Relaxed);
        posters.into_iter().flat_map(|poster| poster.join().expect("every order is answered")).collect()
    });
    let count = answered.len() as i64;
    println!("{count} orders");
    wait_until(DEADLINE, "both nodes show them", || nodes.iter().all(|node| node.total("A1") == 3 + count));
    // Nobody waits for the former primary any more.
    let begun = Instant::now();
    let log = order_log::read_whole(nodes[0].addr(), &STARTS);
    assert!(begun.elapsed() < Duration::from_secs(4), "the log was read after {:?}", begun.elapsed());
    assert_eq!(log, order_log::read_whole(nodes[1].addr(), &STARTS));
    let keys: HashSet<&str> = log.iter().filter_map(|line| line.key.as_deref()).collect();
    assert!(keys.len() == answered.len() && answered.iter().all(|key| keys.contains(key.as_str())));
    for feed in &mut feeds {
        assert_eq!(check_feed(feed, log.len() as u64, &log), 2);
    }
    // Up to the takeover both runs are the same, so that a position in it is still known or answered with a snapshot; a
    // subscriber has the right totals either way.
    let mut resumed = Positional::open(Form::WebSocket, nodes[1].addr(), "/orders/electronics", Some(&former));
    let mut totals = HashMap::from([("A2".to_owned(), 8)]);
    loop {
        let step = resumed.next();
        totals.extend([step.pair()]);
        if step.can_resume() && step.seq() == log.len() as u64 {
            break;
        }
    }
    assert_eq!((totals["A1"], totals["A2"]), (3 + count, 8));
}

/// The standby hears nothing of later orders.
#[track_caller]
pub fn cut_stream(primary: &Cluster, standby: &Cluster) {
    standby.sql("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'");
    standby.reload();
    let streams = || primary.sql("SELECT count(*) FROM pg_stat_replication");
    wait_until(CLUSTER_DEADLINE, "the stream is cut", || streams() == "0");
}

#[test]
fn orders_that_an_asynchronous_standby_has_lost_are_named_and_every_subscriber_gets_the_totals_as_they_are() {
    let Some(mut primary) = Cluster::start() else { return };
    migrate(&primary.url(), &[]);
    let standby = primary.standby();
    let url = url(&primary, &standby);
    let mut nodes = [node(&url), node(&url)];
    let mut told = told_by(&nodes);
    let open = |form, node: &Server| Positional::open(form, node.addr(), "/orders/electronics", None);
    let mut feeds = [open(Form::WebSocket, &nodes[0]), open(Form::Events, &nodes[1])];
    // An order that comes before the snapshot is a part of it.
    feeds.iter_mut().for_each(|feed| drop(feed.take(2)));
    let (mut client, mut other) = (nodes[0].client(), nodes[1].client());
    for _ in 0..5 {
        client.order("A1", 1);
    }
    let head = || standby.try_sql("SELECT seq FROM ordercast.head").unwrap_or_default();
    wait_until(DEADLINE, "the standby follows", || head() == "5");
    cut_stream(&primary, &standby);
    for _ in 0..4 {
        client.order("A1", 1);
        other.order("A2", 1);
    }
    let former: Vec<Step> = feeds.iter_mut().map(|feed| feed.take(13).pop().expect("steps")).collect();
    assert!(former.iter().all(|step| step.seq() == 13), "{former:?}");
    primary.kill();
    told.iter_mut().for_each(|feed| feed.until_stale(DEADLINE));
    standby.promote();
    told.iter_mut().for_each(|feed| feed.until_live(CLUSTER_DEADLINE));
    for (node, feed) in nodes.iter().zip(&mut feeds) {
        assert_eq!((node.total("A1"), node.total("A2")), (8, 7));
        let lost = "the database has lost the orders from number 6 to 13, although they were answered";
        assert!(node.log().lines().any(|line| line.contains(" error ") && line.contains(lost)), "{}", node.log());
        let snapshot: Vec<(String, i64)> = feed.take(2).iter().map(Step::pair).collect();
        assert_eq!(snapshot, [("A1".to_owned(), 8), ("A2".to_owned(), 7)]);
    }
    // Everybody goes on, also with numbers that were used before.
    for (at, node) in nodes.iter().enumerate() {
        order_when_ready(node.addr(), "A2", 1);
        for feed in &mut feeds {
            let step = feed.next();
            assert_eq!((step.seq(), step.pair()), (6 + at as u64, ("A2".to_owned(), 8 + at as i64)));
        }
    }
    // Positions of lost orders are answered with a snapshot, those before them are still known.
    for (node, step) in nodes.iter().zip(&former) {
        let since = step.position.as_deref();
        let mut late = Positional::open(Form::WebSocket, node.addr(), "/orders/electronics", since);
        let snapshot: Vec<(String, i64)> = late.take(2).iter().map(Step::pair).collect();
        assert_eq!(snapshot, [("A1".to_owned(), 8), ("A2".to_owned(), 9)]);
    }
    Told::open(Form::Events, nodes[0].addr(), "live");
    assert_eq!(order_log::read_whole(nodes[0].addr(), &STARTS).len(), 7);
    // Each has taken its own orders, of which some were lost.
    for (node, taken) in nodes.iter_mut().zip([10, 5]) {
        assert!(node.terminate().success(), "{}", node.log());
        assert!(node.log().contains(&format!("; {taken} orders taken in this run")), "{}", node.log());
    }
}
