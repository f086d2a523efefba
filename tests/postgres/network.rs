//! A network between a session and the database that fails.

use std::time::{Duration, Instant};

use ordercast::internal::store::postgres::Param;

use crate::common::{Cluster, DEADLINE, Relay, wait_until};
use crate::{connect, expect_away, later, row, soon, try_connect};

/// The address of the cluster through the relay.
fn url(relay: &Relay) -> String {
    format!("postgres://postgres@{}/postgres", relay.address())
}

#[test]
fn a_statement_whose_answer_was_lost_may_have_run() {
    let Some(cluster) = Cluster::start() else { return };
    let relay = Relay::start(&cluster.address());
    let mut session = connect(&url(&relay));
    session.script("CREATE TABLE a (n int)", later()).expect("a table");
    relay.hold_answers();
    expect_away(session.query("INSERT INTO a VALUES ($1)", &[Param::Int4(1)], soon()), true);
    wait_until(DEADLINE, "the statement has run", || cluster.sql("SELECT count(*) FROM a") == "1");
    relay.cut();
    relay.resume();
    assert_eq!(row(&mut connect(&url(&relay)), "SELECT count(*) FROM a").int8(0), Ok(1));
}

#[test]
fn a_connection_that_is_cut_is_noticed_at_once() {
    let Some(cluster) = Cluster::start() else { return };
    let relay = Relay::start(&cluster.address());
    let (mut idle, mut asking) = (connect(&url(&relay)), connect(&url(&relay)));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| idle.notification(later()));
        let asked = scope.spawn(|| asking.query("SELECT pg_sleep(9)::text", &[], later()));
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        wait_until(DEADLINE, "the statement runs", || cluster.sql(sleeps) == "1");
        relay.refuse(true);
        relay.cut();
        expect_away(waiting.join().expect("no panic"), true);
        expect_away(asked.join().expect("no panic"), true);
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    expect_away(try_connect(&url(&relay)), false);
    relay.refuse(false);
    connect(&url(&relay));
}

#[test]
fn a_network_that_loses_everything_delays_a_call_only_up_to_its_deadline() {
    let Some(cluster) = Cluster::start() else { return };
    let relay = Relay::start(&cluster.address());
    let mut session = connect(&url(&relay));
    relay.hold();
    let start = Instant::now();
    expect_away(session.script("SELECT 1", soon()), true);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
