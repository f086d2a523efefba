//! Several nodes on one database, while nothing fails: what one commits, every one shows.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::common::positions::{Form, Positional};
use crate::common::server::ordercast;
use crate::common::{Client, Cluster, DEADLINE, Relay, Server, TempDir, WebSocket, order_log, periods, wait_until};

/// Makes the tables with `ordercast migrate`; `options` come behind the address.
#[track_caller]
pub fn migrate(url: &str, options: &[&str]) {
    let folder = TempDir::new();
    let done = ordercast(folder.path(), &[&["migrate", "--store", url], options].concat(), &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// A node on a database with tables.
#[track_caller]
pub fn node(url: &str) -> Server {
    Server::builder().store(url).start()
}

/// A new cluster with tables and this many nodes.
pub fn nodes(number: usize) -> Option<(Cluster, Vec<Server>)> {
    let cluster = Cluster::start()?;
    migrate(&cluster.url(), &[]);
    let nodes = (0..number).map(|_| node(&cluster.url())).collect();
    Some((cluster, nodes))
}

fn post(addr: SocketAddr, path: &str, body: &str) -> (u16, Value) {
    let reply = Client::connect(addr).post(path, body);
    (reply.status, reply.json())
}

#[test]
fn a_database_without_tables_is_refused_with_what_to_do() {
    let Some(cluster) = Cluster::start() else { return };
    let why = Server::builder().store(&cluster.url()).try_start().unwrap_err();
    assert!(why.contains("run `ordercast migrate --store URL` once"), "{why}");
    let why = Server::builder().store(&cluster.url()).arg("--max-keys").arg("7").try_start().unwrap_err();
    assert!(why.contains("set it with `ordercast migrate --store URL`"), "{why}");
    // As often as one likes; the first node adds the sample.
    migrate(&cluster.url(), &[]);
    migrate(&cluster.url(), &["--keep-keys", "48", "--max-keys", "none"]);
    let server = node(&cluster.url());
    assert_eq!((server.total("A1"), server.total("A2")), (3, 7));
    assert!(!server.data().exists(), "a node has no data folder");
    let metrics = server.client().get("/metrics").text().to_owned();
    assert!(!metrics.contains("ordercast_disk_bytes"), "by this an alert rule knows who needs `ordercast backup`");
}

#[test]
fn every_node_shows_every_order_and_the_one_that_answers_shows_it_at_once() {
    let Some((_cluster, nodes)) = nodes(3) else { return };
    let mut feeds: Vec<_> = nodes.iter().map(|node| WebSocket::open(node.addr(), "/orders/electronics")).collect();
    for feed in &mut feeds {
        feed.texts(2);
    }
    let mut total = 3;
    for round in 0..30 {
        let mut client = nodes[round % 3].client();
        client.order("A1", 10);
        total += 10;
        assert_eq!(client.total("A1"), total, "a client that has an answer reads its own order");
    }
    let expected: Vec<String> =
        (1..=30).map(|number| format!(r#"{{"id":"A1","total":{}}}"#, 3 + 10 * number)).collect();
    for feed in &mut feeds {
        assert_eq!(feed.texts(30), expected);
    }
    // Every node has the same log.
    let logs: Vec<_> = nodes.iter().map(|node| order_log::read_whole(node.addr(), &[("A1", 3), ("A2", 7)])).collect();
    assert!(logs.iter().all(|log| log.len() == 30 && log == &logs[0]));
    // One that starts later has everything.
    assert_eq!(nodes[0].total("A1"), 303);
}

#[test]
fn posters_at_every_node_are_all_counted_and_every_subscriber_sees_the_same_order() {
    const EACH: i64 = 200;
    let Some((cluster, nodes)) = nodes(3) else { return };
    let addrs: Vec<_> = nodes.iter().map(Server::addr).collect();
    let mut feeds: Vec<_> =
        addrs.iter().map(|addr| Positional::open(Form::WebSocket, *addr, "/orders/electronics", None)).collect();
    // An order that comes before the snapshot is a part of it.
    feeds.iter_mut().for_each(|feed| drop(feed.take(2)));
    let seen: Vec<Vec<_>> = thread::scope(|scope| {
        for poster in 0..12 {
            let addr = addrs[poster % 3];
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                (0..EACH).for_each(|_| client.order(["A1", "A2"][poster / 3 % 2], 1));
            });
        }
        let follow = |mut feed: Positional| scope.spawn(move || feed.take(12 * EACH as usize));
        let followers: Vec<_> = feeds.into_iter().map(follow).collect();
        followers.into_iter().map(|follower| follower.join().unwrap()).collect()
    });
    let steps = |at: usize| seen[at].iter().map(|step| (step.seq(), step.pair())).collect::<Vec<_>>();
    assert_eq!(steps(0).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=12 * EACH as u64).collect::<Vec<_>>());
    assert!(steps(0) == steps(1) && steps(0) == steps(2));
    for node in &nodes {
        assert_eq!((node.total("A1"), node.total("A2")), (3 + 6 * EACH, 7 + 6 * EACH));
    }
    assert_eq!(cluster.sql("SELECT seq FROM ordercast.head"), (12 * EACH).to_string());
}

#[test]
fn a_key_counts_once_whichever_node_it_is_sent_to() {
    let Some((_cluster, nodes)) = nodes(2) else { return };
    let [first, second] = [nodes[0].addr(), nodes[1].addr()];
    let order = r#"{"amount":5,"key":"till-1"}"#;
    assert_eq!([first, second, first].map(|addr| post(addr, "/orders/A1", order).0), [200; 3]);
    assert_eq!(post(second, "/orders/A1", r#"{"amount":6,"key":"till-1"}"#).0, 422);
    assert_eq!(nodes[1].total("A1"), 8);
    // A batch under a key of its own, whole or not at all.
    let batch = r#"[{"id":"A1","amount":1,"key":"b-1"},{"id":"A2","amount":2}]"#;
    let send = |addr, body: &str| {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "batch-1")];
        Client::connect(addr).request("POST", "/orders", &headers, body.as_bytes()).status
    };
    assert_eq!([send(first, batch), send(second, batch)], [200; 2]);
    assert_eq!(send(second, r#"[{"id":"A1","amount":1}]"#), 422);
    let bad = r#"[{"id":"A1","amount":1},{"id":"A2","amount":9007199254740991}]"#;
    let (status, problem) = post(first, "/orders", bad);
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("order 2: "), "{problem}");
    for node in &nodes {
        wait_until(DEADLINE, "the node follows", || node.total("A1") == 9 && node.total("A2") == 9);
    }
}

#[test]
fn a_subscriber_goes_on_at_another_node_where_it_was() {
    let Some((_cluster, mut nodes)) = nodes(2) else { return };
    for form in [Form::WebSocket, Form::Events] {
        wait_until(DEADLINE, "the first node follows", || nodes[0].totals() == nodes[1].totals());
        let mut feed = Positional::open(form, nodes[0].addr(), "/orders/electronics", None);
        let snapshot = feed.take(2);
        let position = snapshot[1].position.clone().expect("the last one has a position");
        nodes[0].client().order("A1", 1);
        nodes[1].client().order("A2", 1);
        let totals = ["A1", "A2"].map(|id| (id.to_owned(), nodes[1].total(id)));
        let mut other = Positional::open(form, nodes[1].addr(), "/orders/electronics", Some(&position));
        let steps = other.take(2);
        assert_eq!(steps.iter().map(|step| step.pair()).collect::<Vec<_>>(), totals);
        assert_eq!(steps[1].seq(), steps[0].seq() + 1);
    }
    // A node that is started again is in the same run.
    wait_until(DEADLINE, "the first node follows", || nodes[0].totals() == nodes[1].totals());
    let mut feed = Positional::open(Form::WebSocket, nodes[0].addr(), "/orders/electronics", None);
    let position = feed.take(2)[1].position.clone().expect("the last one has a position");
    nodes[1].client().order("A1", 1);
    nodes[1].restart();
    let mut other = Positional::open(Form::WebSocket, nodes[1].addr(), "/orders/electronics", Some(&position));
    assert_eq!(other.next().id, "A1");
}

#[test]
fn a_subscriber_that_has_seen_more_than_a_node_waits_until_the_node_has_followed() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let relay = Relay::start(&cluster.address());
    let nodes = [node(&cluster.url()), node(&format!("postgres://postgres@{}/postgres", relay.address()))];
    let mut feed = Positional::open(Form::WebSocket, nodes[0].addr(), "/orders/electronics", None);
    feed.take(2);
    for (round, form) in [Form::WebSocket, Form::Events].into_iter().enumerate() {
        let round = round as i64;
        relay.hold();
        nodes[0].client().order("A1", 1);
        let position = feed.next().position.expect("a position");
        let mut other = Positional::open(form, nodes[1].addr(), "/orders/electronics", Some(&position));
        assert!(other.next_within(Duration::from_millis(300)).is_err(), "nothing that is older than the position");
        assert_eq!(nodes[1].total("A1"), 3 + 2 * round);
        relay.resume();
        wait_until(DEADLINE, "the node follows", || nodes[1].total("A1") == 4 + 2 * round);
        nodes[0].client().order("A1", 1);
        assert_eq!(other.next().pair(), ("A1".to_owned(), 5 + 2 * round));
        feed.next();
    }
}

#[test]
fn changes_of_the_catalogue_and_periods_reach_every_node() {
    let Some((_cluster, nodes)) = nodes(2) else { return };
    let [first, second] = [nodes[0].addr(), nodes[1].addr()];
    let mut told = WebSocket::open(second, "/orders/electronics?catalog=true");
    told.texts(2);
    let mut of_period = WebSocket::open(second, "/orders/electronics?period=current");
    of_period.texts(2);
    assert_eq!(post(first, "/electronics", r#"{"name":"Saw","rrp":1,"info":""}"#).0, 200);
    assert_eq!(told.texts(2), [r#"{"id":"A3","total":0}"#, r#"{"catalog":"electronics"}"#]);
    // The next one is made by the other node, which knows the first.
    assert_eq!(post(second, "/electronics", r#"{"name":"Axe","rrp":1,"info":""}"#).0, 200);
    assert_eq!(told.texts(2), [r#"{"id":"A4","total":0}"#, r#"{"catalog":"electronics"}"#]);
    assert_eq!(post(second, "/orders/A4", r#"{"amount":2}"#).0, 200);
    let patch = |addr, path: &str, body: &str| {
        let headers = [("Content-Type", "application/merge-patch+json")];
        Client::connect(addr).request("PATCH", path, &headers, body.as_bytes()).status
    };
    assert_eq!(patch(first, "/electronics/A3", r#"{"hidden":true}"#), 200);
    assert_eq!(post(first, "/orders/A3", r#"{"amount":2}"#).0, 410);
    wait_until(DEADLINE, "the other node follows", || !nodes[1].totals().iter().any(|(id, _)| id == "A3"));
    assert_eq!(post(second, "/orders/A3", r#"{"amount":2}"#).0, 410);
    let put = |addr, body: &str| {
        let headers = [("Content-Type", "application/json")];
        Client::connect(addr).request("PUT", "/garden", &headers, body.as_bytes()).status
    };
    assert_eq!(put(first, r#"{"title":"Garden","prefix":"G"}"#), 201);
    wait_until(DEADLINE, "the other node knows the category", || {
        nodes[1].client().categories().contains(&"garden".to_owned())
    });
    assert_eq!(put(second, r#"{"title":"The Garden","prefix":"G"}"#), 200);

    assert_eq!(post(second, "/orders/A1", r#"{"amount":4}"#).0, 200);
    wait_until(DEADLINE, "the first node follows", || nodes[0].total("A1") == 7);
    let report = periods::close(&mut Client::connect(first), 1);
    assert_eq!(periods::amounts(&report), periods::amounts(&periods::report(&mut Client::connect(second), "1")));
    assert_eq!(post(second, "/periods", r#"{"number":1}"#).0, 409);
    assert_eq!(post(second, "/orders/A1", r#"{"amount":1}"#).0, 200);
    wait_until(DEADLINE, "the count of the new period comes", || of_period.text() == r#"{"id":"A1","total":1}"#);
    assert_eq!(periods::list(first), periods::list(second));
}
