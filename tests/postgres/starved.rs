//! What a node and its database run out of: descriptors, sessions, disk, rights, and time for the lock.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, chown};
use std::thread;
use std::time::{Duration, Instant};

use crate::away::{order_when_ready, sample};
use crate::common::server::ordercast;
use crate::common::{Client, Cluster, DEADLINE, Server, SmallDisk, TempDir, wait_until};
use crate::nodes::{migrate, node, nodes};
use crate::{connect, later, rights};

fn seq(cluster: &Cluster) -> String {
    cluster.sql("SELECT seq FROM ordercast.head")
}

/// The sessions of clients.
fn sessions(cluster: &Cluster) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    cluster.sql(sql).parse().expect("a number")
}

#[test]
fn a_lock_that_somebody_holds_does_not_fill_the_database_with_sessions_of_nodes() {
    const HELD: Duration = Duration::from_secs(12);
    let Some((cluster, nodes)) = nodes(2) else { return };
    let mut holder = connect(&cluster.url());
    // As a person's: the server does not end it.
    holder.script("SET idle_in_transaction_session_timeout = 0", later()).expect("a setting");
    holder.script("BEGIN; SELECT FROM ordercast.head FOR UPDATE", later()).expect("the lock");
    let begun = Instant::now();
    // Their answers come when the lock is free, or after 20 s.
    let mut posts = Vec::new();
    let mut most = 0;
    while begun.elapsed() < HELD {
        for node in &nodes {
            let mut stream = TcpStream::connect(node.addr()).expect("a connection");
            let body = "{\"amount\":1}";
            let length = body.len();
            let json = "Content-Type: application/json";
            write!(
                stream,
                "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .expect("an order can be sent");
            posts.push(stream);
        }
        // Each node connects anew, and waits for the lock with every try.
        cluster.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE query LIKE '%ordercast.commit%' AND pid <> pg_backend_pid()",
        );
        most = most.max(sessions(&cluster));
        thread::sleep(Duration::from_millis(200));
    }
    println!("at most {most} sessions");
    holder.script("ROLLBACK", later()).expect("the end of the lock");
    assert!(most <= 2 + 4 * nodes.len(), "{most} sessions");
    for node in &nodes {
        order_when_ready(node.addr(), "A2", 1);
        assert_eq!(node.client().get("/orders").status, 200);
    }
}

#[test]
fn a_node_without_a_descriptor_for_the_database_takes_orders_again_when_it_has_some() {
    let Some(mut cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let node = Server::builder().store(&cluster.url()).shell("ulimit -n 64").start();
    node.client().order("A1", 1);
    // Clients take what they can get, and the database cuts the connections that the node has.
    let mut clients: Vec<Client> = Vec::new();
    while let Ok(client) = Client::try_connect(node.addr()) {
        clients.push(client);
        if clients.len() > 80 {
            break;
        }
    }
    cluster.restart();
    thread::sleep(Duration::from_millis(500));
    drop(clients);
    order_when_ready(node.addr(), "A1", 1);
    assert_eq!((seq(&cluster).as_str(), node.total("A1")), ("2", 5));
}

#[test]
fn a_database_without_a_free_session_is_away_until_it_has_one() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let node = node(&rights::role(&cluster));
    node.client().order("A1", 1);
    // It has the error code of a server without room.
    cluster.sql("ALTER ROLE node CONNECTION LIMIT 0");
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'node'");
    wait_until(DEADLINE, "the node says so", || node.client().get("/readyz").status == 503);
    let reply = node.client().post("/orders/A1", "{\"amount\":1}");
    assert_eq!(reply.status, 503, "{reply:?}");
    cluster.sql("ALTER ROLE node CONNECTION LIMIT -1");
    order_when_ready(node.addr(), "A1", 1);
    assert_eq!(seq(&cluster), "2");
}

#[test]
fn a_role_without_rights_is_refused_by_name_and_one_that_loses_them_counts_nothing() {
    let Some((cluster, others)) = nodes(1) else { return };
    cluster.sql("CREATE ROLE node LOGIN");
    let url = cluster.url_of("node", "postgres");
    let start = || {
        let folder = TempDir::new();
        ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--store", &url], &[])
    };
    let done = start();
    assert!(done.code == Some(1) && done.stderr.contains("permission denied"), "{done:?}");
    rights::grant(&cluster);
    let node = node(&url);
    node.client().order("A1", 1);
    cluster.sql("REVOKE INSERT ON ordercast.orders FROM node");
    let reply = node.client().post("/orders/A1", "{\"amount\":1}");
    assert!(reply.problem(503).contains("nothing was counted"), "{reply:?}");
    wait_until(DEADLINE, "the node says why", || node.log().contains("permission denied"));
    // It follows what others count.
    others[0].client().order("A1", 1);
    wait_until(DEADLINE, "the node follows", || node.total("A1") == 5);
    cluster.sql("GRANT INSERT ON ordercast.orders TO node");
    order_when_ready(node.addr(), "A1", 1);
    assert_eq!(seq(&cluster), "3");
}

#[test]
fn sessions_that_are_ended_under_load_are_made_anew_and_every_answer_is_true() {
    let Some((cluster, nodes)) = nodes(1) else { return };
    let addr = nodes[0].addr();
    let answers: Vec<u16> = thread::scope(|scope| {
        let posters: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = Client::connect(addr);
                    let begun = Instant::now();
                    let mut answers = Vec::new();
                    while begun.elapsed() < Duration::from_secs(3) {
                        answers.push(client.post("/orders/A1", "{\"amount\":1}").status);
                        let page = client.get("/log?limit=1");
                        assert_eq!(page.status, 200, "the log is read over another session: {}", page.text());
                    }
                    answers
                })
            })
            .collect();
        // Often enough that some are ended while they begin.
        for _ in 0..200 {
            thread::sleep(Duration::from_millis(10));
            // One of the three.
            cluster.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'
                 AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1",
            );
        }
        posters.into_iter().flat_map(|poster| poster.join().expect("every order is answered")).collect()
    });
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    println!("{} orders were taken, {} refused", count(200), count(503));
    assert_eq!(count(200) + count(503), answers.len(), "{answers:?}");
    assert_eq!(seq(&cluster), count(200).to_string());
    wait_until(DEADLINE, "the node shows them", || nodes[0].total("A1") == 3 + count(200) as i64);
}

#[test]
fn orders_wait_for_a_lock_that_another_holds_for_some_seconds_and_the_node_stays_live() {
    let Some((cluster, nodes)) = nodes(2) else { return };
    let took: Vec<Duration> = thread::scope(|scope| {
        let hold = scope.spawn(|| cluster.sql("BEGIN; SELECT ordercast.lock(); SELECT pg_sleep(3); COMMIT"));
        let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        wait_until(DEADLINE, "the lock is held", || cluster.sql(held) == "1");
        let order = |node: &Server| {
            let begun = Instant::now();
            node.client().order("A1", 1);
            begun.elapsed()
        };
        let orders: Vec<_> = nodes.iter().map(|node| scope.spawn(move || order(node))).collect();
        for node in &nodes {
            assert_eq!(sample(node, "ordercast_refusing_orders{reason=\"store_away\"}"), 0.0);
        }
        hold.join().expect("the lock is given back");
        orders.into_iter().map(|order| order.join().expect("an answer")).collect()
    });
    assert!(took.iter().all(|took| *took > Duration::from_secs(2)), "{took:?}");
    assert_eq!(seq(&cluster), "2");
    wait_until(DEADLINE, "both nodes show them", || nodes.iter().all(|node| node.total("A1") == 5));
}

#[test]
fn a_database_whose_disk_is_full_takes_no_orders_until_it_has_room() {
    let Some((cluster, nodes)) = nodes(1) else { return };
    let Some(disk) = SmallDisk::mount() else { return };
    let owner = fs::metadata(cluster.data()).expect("the cluster has files");
    chown(disk.path(), Some(owner.uid()), Some(owner.gid())).expect("root may give files away");
    cluster.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()));
    cluster.sql("ALTER TABLE ordercast.orders SET TABLESPACE small");
    let fill = disk.path().join("fill");
    let mut file = fs::File::create(&fill).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    let batch = vec!["{\"id\":\"A1\",\"amount\":1}"; 1_000].join("\n");
    let post = || {
        let headers = [("Content-Type", "application/x-ndjson")];
        nodes[0].client().request("POST", "/orders", &headers, batch.as_bytes())
    };
    assert!(post().problem(507).contains("nothing was counted"));
    assert_eq!((seq(&cluster).as_str(), nodes[0].total("A1")), ("0", 3));
    drop(file);
    fs::remove_file(&fill).expect("the file can be removed");
    wait_until(DEADLINE, "the node is ready", || nodes[0].client().get("/readyz").status == 200);
    assert_eq!(post().status, 200);
    assert_eq!((seq(&cluster).as_str(), nodes[0].total("A1")), ("1000", 1003));
}
