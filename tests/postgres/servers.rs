//! Several servers in one address.

use std::time::{Duration, Instant};

use ordercast::internal::store::postgres::{Session, Target};

use crate::common::postgres::free_port;
use crate::common::{Cluster, DEADLINE, wait_until};
use crate::{connect, expect_away, later, row, try_connect};

/// The address of several servers.
fn url(clusters: &[&Cluster], parameters: &str) -> String {
    let hosts: Vec<String> = clusters.iter().map(|cluster| cluster.address()).collect();
    format!("postgres://postgres@{}/postgres?{parameters}", hosts.join(","))
}

#[test]
fn a_standby_is_passed_over_until_it_is_promoted() {
    let Some(mut primary) = Cluster::start() else { return };
    let standby = primary.standby();
    let takes_changes = "SELECT pg_is_in_recovery()";
    let any = url(&[&standby, &primary], "");
    let read_write = url(&[&standby, &primary], "target_session_attrs=read-write");
    assert_eq!(row(&mut connect(&any), takes_changes).bool(0), Ok(true));
    assert_eq!(row(&mut connect(&read_write), takes_changes).bool(0), Ok(false));
    // A change on a standby is the same as a server that is away.
    let mut reader = connect(&any);
    expect_away(reader.script("CREATE TABLE a (n int)", later()), false);
    assert!(reader.is_broken());

    primary.kill();
    let error = expect_away(try_connect(&read_write), false);
    assert!(error.contains("takes no changes") && error.contains(&primary.address()), "{error}");
    standby.promote();
    wait_until(DEADLINE, "the standby takes changes", || try_connect(&read_write).is_ok());
}

#[test]
fn a_server_that_is_away_is_passed_over_in_its_share_of_the_time() {
    let Some(paused) = Cluster::start() else { return };
    let Some(running) = Cluster::start() else { return };
    paused.pause();
    let nobody = free_port();
    let url = format!("postgres://postgres@127.0.0.1:{nobody},{},{}/postgres", paused.address(), running.address());
    let start = Instant::now();
    Session::connect(&Target::parse(&url).expect("an address"), start + Duration::from_secs(4)).expect("the third");
    assert!(start.elapsed() < Duration::from_secs(4));
    let url = format!("{url}?connect_timeout=1");
    let start = Instant::now();
    connect(&url);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    paused.resume();
}
