//! A database that answers, and refuses: a node says so once, waits, and goes on when it does not any more. Each error says
//! what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use crate::away::order_when_ready;
use crate::common::server::ordercast;
use crate::common::{Cluster, DEADLINE, Server, TempDir, wait_until};
use crate::nodes::{migrate, node};
use crate::rights;

/// In this time a node that does not wait longer and longer asks a database some thirty times.
const MANY_TRIES: Duration = Duration::from_secs(6);
const BACK: &str = "the database can be reached again";

#[track_caller]
fn wait_for_status(node: &Server, status: u16) {
    wait_until(DEADLINE, "the node's readiness", || node.client().get("/readyz").status == status);
}

/// Waits until the node says that it takes no orders, and checks that it logs this once, with this reason.
#[track_caller]
fn expect_one_line(node: &Server, reason: &str) {
    let before = node.log().matches(BACK).count();
    wait_for_status(node, 503);
    thread::sleep(MANY_TRIES);
    let log = node.log();
    assert_eq!(log.matches(BACK).count(), before, "{log}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("until that is over")).collect();
    assert_eq!(lines.iter().filter(|line| line.contains(reason)).count(), 1, "{log}");
    // What ends its connections is a reason of its own.
    assert!(lines.len() <= 2, "{log}");
    assert_eq!(node.client().get("/readyz").status, 503);
    assert_eq!(node.client().post("/orders/A1", "{\"amount\":1}").status, 503);
    assert_eq!(node.client().get("/log?limit=1").status, 503);
}

#[test]
fn a_node_whose_role_has_lost_its_rights_says_so_once_and_goes_on_when_it_has_them() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let node = node(&rights::role(&cluster));
    node.client().order("A1", 1);
    cluster.sql("REVOKE SELECT ON ALL TABLES IN SCHEMA ordercast FROM node");
    expect_one_line(&node, "may not use the tables");
    assert!(node.log().contains("docs/scaling.md"), "{}", node.log());
    cluster.sql("GRANT SELECT ON ALL TABLES IN SCHEMA ordercast TO node");
    order_when_ready(node.addr(), "A1", 1);
    wait_for_status(&node, 200);
    assert_eq!((node.total("A1"), node.log().matches(BACK).count()), (5, 1));
}

#[test]
fn a_node_takes_no_orders_while_the_tables_are_gone_or_of_another_version() {
    let Some(cluster) = Cluster::start() else { return };
    migrate(&cluster.url(), &[]);
    let node = node(&cluster.url());
    node.client().order("A1", 1);
    // The connections that it has are not all asked, but each new one looks.
    cluster.sql("UPDATE ordercast.version SET version = 99");
    wait_for_status(&node, 503);
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ordercast'");
    expect_one_line(&node, "the database has schema 99, which a newer version of ordercast has made");
    assert_eq!(cluster.sql("SELECT seq FROM ordercast.head"), "1");
    cluster.sql("UPDATE ordercast.version SET version = 1");
    order_when_ready(node.addr(), "A1", 1);
    wait_for_status(&node, 200);
    assert_eq!(node.log().matches(BACK).count(), 1);
    cluster.sql("ALTER SCHEMA ordercast RENAME TO elsewhere");
    wait_for_status(&node, 503);
    cluster.sql("ALTER SCHEMA elsewhere RENAME TO ordercast");
    order_when_ready(node.addr(), "A1", 1);
    assert_eq!(cluster.sql("SELECT seq FROM ordercast.head"), "3");
}

#[test]
fn the_role_of_nodes_sets_nothing_for_all_of_them_and_is_told_who_does() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = TempDir::new();
    cluster.sql("CREATE ROLE other LOGIN");
    let refused = |user: &str, more: &[&str], why: &str| {
        let url = cluster.url_of(user, "postgres");
        let done = ordercast(folder.path(), &[&["migrate", "--store", &url], more].concat(), &[]);
        assert!(done.code == Some(1) && done.stderr.contains(why), "{done:?}");
    };
    refused("other", &[], "run `ordercast migrate` as the owner of the database (permission denied");
    migrate(&cluster.url(), &[]);
    refused("other", &[], "grant it what docs/scaling.md lists (permission denied");
    rights::role(&cluster);
    refused("node", &["--keep-orders", "1"], "nor what they keep: run `ordercast migrate` as the owner");
    assert!(cluster.sql("SELECT keep_orders IS NULL FROM ordercast.settings") == "t");
}

#[test]
fn an_error_names_what_cannot_be_reached_found_or_read() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = TempDir::new();
    cluster.sql("CREATE ROLE node LOGIN PASSWORD 'hush'");
    cluster.set_access("host all node 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust");
    let empty = folder.write("pgpass", "127.0.0.1:1:*:*:other\n");
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).expect("the owner may");
    let (empty, missing) = (empty.display().to_string(), folder.path().join("missing").display().to_string());
    let node = |file: &str| format!("{}?passfile={file}", cluster.url_of("node", "postgres"));
    let wanted = format!("127.0.0.1:{}:postgres:node", cluster.port());
    for (url, why) in [
        ("postgres://u@127.0.0.1:1/d".to_owned(), "cannot be reached: 127.0.0.1:1: Connection refused".to_owned()),
        (cluster.url_of("postgres", "missing"), "there is no such database: create it, or correct its name".to_owned()),
        (node(&empty), format!("the password file {empty} has no line for {wanted}")),
        (node(&missing), format!("the password file {missing} is missing, with a line for {wanted}")),
    ] {
        for arguments in [&["export"][..], &["migrate"], &["--listen", "127.0.0.1:0"]] {
            let done = ordercast(folder.path(), &[arguments, &["--store", &url]].concat(), &[]);
            assert!(done.code == Some(1) && done.stderr.contains(&why), "{arguments:?}: {done:?}");
        }
    }
}
