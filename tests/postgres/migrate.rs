//! The schema: made once, by its owner, and refused when it is newer.

use std::thread;

use ordercast::internal::store::postgres::load::load;
use ordercast::internal::store::postgres::migrate::{VERSION, check, migrate};

use crate::common::Cluster;
use crate::{connect, later, migrated, rights};

#[test]
fn nodes_that_start_at_the_same_time_make_one_schema() {
    let Some(cluster) = Cluster::start() else { return };
    let url = cluster.url();
    thread::scope(|scope| {
        let nodes: Vec<_> = (0..4).map(|_| scope.spawn(|| migrate(&mut connect(&url), later()))).collect();
        for node in nodes {
            node.join().unwrap().unwrap();
        }
    });
    assert_eq!(cluster.sql("SELECT version FROM ordercast.version"), VERSION.to_string());
    let mut session = connect(&url);
    // It is left as it is.
    cluster.sql("UPDATE ordercast.settings SET max_keys = 5");
    migrate(&mut session, later()).unwrap();
    assert_eq!(cluster.sql("SELECT max_keys FROM ordercast.settings"), "5");
    let stored = load(&mut session, later()).unwrap().stored;
    assert_eq!((stored.totals.len(), stored.last_seq, stored.period.number), (0, 0, 1));
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = migrated(&cluster);
    cluster.sql("UPDATE ordercast.version SET version = 99");
    let error = migrate(&mut session, later()).unwrap_err();
    assert!(error.to_string().starts_with("the database has schema 99, which a newer version"), "{error}");
    assert_eq!(cluster.sql("SELECT version FROM ordercast.version"), "99");
}

#[test]
fn a_failed_migration_changes_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("CREATE SCHEMA ordercast; CREATE TABLE ordercast.mine (x int)");
    let mut session = connect(&cluster.url());
    let error = migrate(&mut session, later()).unwrap_err();
    assert!(format!("{error:#}").contains("already exists"), "{error:#}");
    assert_eq!(cluster.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'ordercast'::regnamespace"), "1");
    assert_eq!(session.query("SELECT 1", &[], later()).unwrap().len(), 1, "the session is outside of a transaction");
}

#[test]
fn a_database_that_cannot_keep_every_text_is_refused_with_what_to_do() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    let error = migrate(&mut connect(&cluster.url_of("postgres", "latin")), later()).unwrap_err().to_string();
    assert!(error.contains("encoding LATIN1") && error.contains("ENCODING 'UTF8'"), "{error}");
    // As after a backup was restored there: a node does not start on it either.
    let version =
        "CREATE SCHEMA ordercast CREATE TABLE version (version int); INSERT INTO ordercast.version VALUES (1)";
    connect(&cluster.url_of("postgres", "latin")).script(version, later()).unwrap();
    let error = check(&mut connect(&cluster.url_of("postgres", "latin")), later()).unwrap_err().to_string();
    assert!(error.contains("encoding LATIN1"), "{error}");
}

#[test]
fn a_role_without_the_right_to_change_the_schema_uses_it_and_is_told_who_makes_it() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("CREATE ROLE node LOGIN");
    let url = cluster.url_of("node", "postgres");
    let error = migrate(&mut connect(&url), later()).unwrap_err();
    assert!(error.to_string().contains("run `ordercast migrate` as the owner"), "{error}");
    migrated(&cluster);
    let error = migrate(&mut connect(&url), later()).unwrap_err();
    assert!(error.to_string().contains("grant it what docs/scaling.md lists"), "{error}");
    rights::grant(&cluster);
    let mut session = connect(&url);
    migrate(&mut session, later()).unwrap();
    let join = "SELECT run, has_begun FROM ordercast.join('r')";
    let rows = session.query(join, &[], later()).unwrap();
    assert_eq!((rows[0].text(0), rows[0].bool(1)), (Ok("r"), Ok(true)));
    load(&mut session, later()).unwrap();
    session.query("SELECT ordercast.prune(1)", &[], later()).unwrap();
}
