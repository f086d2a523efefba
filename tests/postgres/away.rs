//! The database stops, hangs and comes back: nodes say so within 2 s, keep their feeds, and go on without a total lost
//! or repeated.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::server::ordercast;
use crate::common::{
    Client, Cluster, DEADLINE, Form, Positional, Relay, Server, Stop, TempDir, WebSocket, periods, wait_until,
};
use crate::feeds::{Told, all_stale, told_by};
use crate::nodes::{migrate, node, nodes};

/// How long the return of the database may take to be noticed: two waits, and an attempt that fails between them.
const LIVE_WITHIN: Duration = Duration::from_secs(8);

/// The value of a sample of a node's metrics.
#[track_caller]
pub fn sample(node: &Server, name: &str) -> f64 {
    let text = node.client().get("/metrics").text().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Checks that a node takes no order, and says that the database is why.
#[track_caller]
fn expect_away(node: &Server) {
    let mut client = node.client();
    // One that waits for orders of others is stale before the database counts as away.
    wait_until(DEADLINE, "the node says why", || {
        client.get("/readyz").problem(503).contains("the database does not answer as it should")
    });
    let reason = "ordercast_refusing_orders{reason=\"store_away\"}";
    assert_eq!((sample(node, "ordercast_ready"), sample(node, reason)), (0.0, 1.0));
    let begun = Instant::now();
    let reply = client.post("/orders/A1", "{\"amount\":1000}");
    assert!(reply.problem(503).contains("nothing was counted"), "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "refused after {:?}", begun.elapsed());
    // What is known is still told, also to new subscribers, after the status.
    assert_eq!(client.get("/orders").status, 200);
    assert_eq!(client.get("/healthz").status, 200);
    Told::open(Form::WebSocket, node.addr(), "stale");
}

/// Posts until the node takes the order.
#[track_caller]
pub fn order_when_ready(addr: SocketAddr, id: &str, amount: i64) {
    let mut last = None;
    let begun = Instant::now();
    while begun.elapsed() < 2 * DEADLINE {
        let reply = Client::connect(addr).post(&format!("/orders/{id}"), format!("{{\"amount\":{amount}}}"));
        match reply.status {
            200 => return,
            503 => last = Some(reply),
            _ => panic!("{reply:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("no order is taken: {last:?}");
}

/// Stops the database in one way and brings it back in another, three times.
fn check(stop: impl Fn(&mut Cluster) + Sync, come_back: impl Fn(&mut Cluster)) {
    let Some((mut cluster, mut nodes)) = nodes(2) else { return };
    let mut told = told_by(&nodes);
    let path = "/orders/electronics";
    let open = |form, node: &Server| Positional::open(form, node.addr(), path, None);
    let mut feeds = [open(Form::WebSocket, &nodes[0]), open(Form::Events, &nodes[1])];
    feeds.iter_mut().for_each(|feed| drop(feed.take(2)));
    let mut posting = WebSocket::open(nodes[1].addr(), path);
    posting.texts(2);
    let mut expected = 0;
    for _ in 0..3 {
        nodes[0].client().order("A1", 1);
        expected += 1;
        let begun = Instant::now();
        thread::scope(|scope| {
            // A kill waits for the end of all processes.
            scope.spawn(|| stop(&mut cluster));
            all_stale(&mut told, begun);
        });
        nodes.iter().for_each(expect_away);
        let order = "{\"cmd\":\"add-order\",\"payload\":{\"id\":\"A1\",\"amount\":1000,\"key\":\"away\"}}";
        posting.send(order);
        let mut answer = posting.text();
        while answer.contains("\"total\"") {
            answer = posting.text();
        }
        assert!(answer.contains("cannot be reached"), "{answer}");
        come_back(&mut cluster);
        told.iter_mut().for_each(|feed| feed.until_live(LIVE_WITHIN));
        for node in &nodes {
            order_when_ready(node.addr(), "A2", 1);
            expected += 1;
            wait_until(DEADLINE, "the node is ready", || node.client().get("/readyz").status == 200);
            assert_eq!(sample(node, "ordercast_refusing_orders{reason=\"store_away\"}"), 0.0);
        }
    }
    for feed in &mut feeds {
        let steps = feed.take(expected as usize);
        let seqs: Vec<u64> = steps.iter().map(|step| step.seq()).collect();
        assert_eq!(seqs, (1..=expected).collect::<Vec<_>>());
        assert_eq!((steps[expected as usize - 1].total, steps[expected as usize - 3].total), (13, 6));
    }
    assert_eq!(cluster.sql("SELECT seq FROM ordercast.head"), expected.to_string());
    assert!(nodes.iter_mut().all(Server::is_running));
    for node in &nodes {
        assert_eq!((node.total("A1"), node.total("A2")), (6, 13));
    }
}

#[test]
fn a_database_that_is_stopped_and_started_again_is_noticed_and_nothing_is_lost() {
    check(|cluster| cluster.stop(Stop::Fast), Cluster::restart);
}

#[test]
fn a_database_that_ends_at_once_is_noticed_and_nothing_is_lost() {
    check(|cluster| cluster.stop(Stop::Immediate), Cluster::restart);
}

#[test]
fn a_database_that_is_killed_is_noticed_and_nothing_is_lost() {
    check(Cluster::kill, Cluster::restart);
}

#[test]
fn a_database_that_hangs_is_noticed_and_nothing_is_lost() {
    check(|cluster| cluster.pause(), |cluster| cluster.resume());
}

#[test]
fn an_order_that_is_under_way_when_the_database_hangs_is_answered_truthfully() {
    let Some((cluster, nodes)) = nodes(2) else { return };
    let mut told = told_by(&nodes);
    let done = AtomicBool::new(false);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let posters: Vec<_> = (0..8)
            .map(|poster| {
                let (addr, done) = (nodes[poster % 2].addr(), &done);
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let status = Client::connect(addr).post("/orders/A1", "{\"amount\":1}").status;
                        statuses.push(status);
                        if status != 200 {
                            thread::sleep(Duration::from_millis(20));
                        }
                    }
                    statuses
                })
            })
            .collect();
        wait_until(DEADLINE, "orders come", || nodes[0].total("A1") > 100);
        let begun = Instant::now();
        cluster.pause();
        all_stale(&mut told, begun);
        // The five seconds are the fault.
        thread::sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
        cluster.resume();
        told.iter_mut().for_each(|feed| feed.until_live(LIVE_WITHIN));
        let before = nodes[1].total("A1");
        wait_until(DEADLINE, "orders come again", || nodes[1].total("A1") > before + 20);
        done.store(true, Ordering::Relaxed);
        posters.into_iter().flat_map(|poster| poster.join().expect("every order is answered")).collect()
    });
    let count = |status| statuses.iter().filter(|answer| **answer == status).count();
    println!("{} orders were taken, {} refused", count(200), count(503));
    assert_eq!(count(200) + count(503), statuses.len(), "{statuses:?}");
    assert_eq!(cluster.sql("SELECT seq FROM ordercast.head"), count(200).to_string());
    wait_until(DEADLINE, "both nodes show them", || nodes.iter().all(|node| node.total("A1") == 3 + count(200) as i64));
}

#[test]
fn a_node_says_that_it_is_live_only_when_it_has_followed_what_it_missed() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let relay = Relay::start(&cluster.address());
    let nodes = [node(&format!("postgres://postgres@{}/postgres", relay.address())), node(&cluster.url())];
    let mut told = told_by(&nodes[..1]);
    for round in 1..=3 {
        let begun = Instant::now();
        relay.strand();
        all_stale(&mut told, begun);
        nodes[1].client().order("A1", 1);
        // The ledger's connection would be waited for longer.
        told.iter_mut().for_each(|feed| feed.until_live(LIVE_WITHIN));
        println!("live after {} ms", begun.elapsed().as_millis());
        assert_eq!(nodes[0].total("A1"), 3 + round);
        order_when_ready(nodes[0].addr(), "A2", 1);
    }
}

/// More orders than a node reads at a time.
const MANY: u64 = 25_000;

/// Posts them for B1, each with the amount 1.
#[track_caller]
fn post_many(node: &Server) {
    const EACH: u64 = 1_000;
    let mut poster = node.client();
    let batch = vec!["{\"id\":\"B1\",\"amount\":1}"; EACH as usize].join("\n");
    for _ in 0..MANY / EACH {
        let reply = poster.request("POST", "/orders", &[("Content-Type", "application/x-ndjson")], batch.as_bytes());
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[test]
fn a_node_that_missed_many_orders_shows_each_of_them_when_it_is_back() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let relay = Relay::start(&cluster.address());
    let nodes = [node(&format!("postgres://postgres@{}/postgres", relay.address())), node(&cluster.url())];
    let mut told = told_by(&nodes[..1]);
    // With one product a snapshot looks like an order.
    let path = "/orders/confectionery";
    let mut feeds = [Form::WebSocket, Form::Events].map(|form| Positional::open(form, nodes[0].addr(), path, None));
    feeds.iter_mut().for_each(|feed| drop(feed.next()));
    let begun = Instant::now();
    relay.refuse(true);
    relay.cut();
    all_stale(&mut told, begun);
    post_many(&nodes[1]);
    relay.refuse(false);
    told.iter_mut().for_each(|feed| feed.until_live(LIVE_WITHIN));
    for feed in &mut feeds {
        for seq in 1..=MANY {
            let step = feed.next();
            assert_eq!((step.seq(), step.total), (seq, 101 + seq as i64));
        }
    }
    order_when_ready(nodes[0].addr(), "B1", 1);
    feeds.iter_mut().for_each(|feed| assert_eq!(feed.next().seq(), MANY + 1));
}

#[test]
fn a_period_that_is_closed_at_a_node_that_is_far_behind_has_everything_before() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let relay = Relay::start(&cluster.address());
    let nodes = [node(&format!("postgres://postgres@{}/postgres", relay.address())), node(&cluster.url())];
    relay.hold();
    let report = thread::scope(|scope| {
        let closed = scope.spawn(|| {
            // On a busy machine the node may notice meanwhile that nothing is answered.
            let mut closed = None;
            wait_until(2 * DEADLINE, "the period is closed", || {
                let reply = periods::try_close(&mut nodes[0].client(), 1).expect("the node answers");
                closed = (reply.status == 200).then_some(reply);
                closed.is_some()
            });
            closed.expect("an answer")
        });
        post_many(&nodes[1]);
        relay.resume();
        closed.join().expect("an answer")
    });
    assert_eq!(periods::amounts(&report.json())["B1"], MANY as i64);
    assert_eq!(nodes[0].total("B1"), 101 + MANY as i64);
}

#[test]
fn a_node_that_starts_while_the_database_is_away_says_so_and_ends() {
    let Some((mut cluster, mut others)) = nodes(1) else { return };
    let url = cluster.url();
    let start = || {
        let folder = TempDir::new();
        let done = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--store", &url], &[]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{}", done.stderr);
        assert!(done.stderr.contains("the database cannot be reached"), "{}", done.stderr);
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder is there").count(), 0);
    };
    cluster.pause();
    start();
    cluster.kill();
    start();
    cluster.restart();
    others[0].restart();
    others[0].client().order("A1", 1);
}
