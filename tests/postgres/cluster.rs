//! The clusters of the tests: started, stopped, killed, paused, and followed by standbys.

use std::time::Duration;

use crate::common::{Cluster, DEADLINE, Stop, wait_until};

#[test]
fn a_cluster_keeps_what_was_committed_over_every_kind_of_end() {
    let Some(mut cluster) = Cluster::start() else { return };
    let port = cluster.port();
    cluster.sql("CREATE TABLE kept (n int)");
    for (number, end) in [Stop::Smart, Stop::Fast, Stop::Immediate].into_iter().enumerate() {
        cluster.sql(&format!("INSERT INTO kept VALUES ({number})"));
        cluster.stop(end);
        assert!(cluster.try_sql("SELECT 1").is_err());
        cluster.restart();
    }
    cluster.sql("INSERT INTO kept VALUES (3)");
    cluster.kill();
    cluster.restart();
    assert_eq!((cluster.sql("SELECT count(*), max(n) FROM kept").as_str(), cluster.port()), ("4|3", port));
}

#[test]
fn a_paused_cluster_answers_nothing_until_it_goes_on() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.pause();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| cluster.sql("SELECT 7"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!asked.is_finished());
        cluster.resume();
        assert_eq!(asked.join().expect("an answer"), "7");
    });
}

#[test]
fn a_synchronous_standby_has_every_commit_and_can_be_promoted() {
    let Some(mut cluster) = Cluster::start() else { return };
    let standby = cluster.synchronous_standby();
    cluster.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)");
    assert_eq!(standby.sql("SHOW transaction_read_only"), "on");
    cluster.kill();
    standby.promote();
    wait_until(DEADLINE, "the standby takes changes", || standby.try_sql("INSERT INTO kept VALUES (2)").is_ok());
    assert_eq!(standby.sql("SELECT count(*) FROM kept"), "2");
}
