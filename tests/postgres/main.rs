//! Many nodes on PostgreSQL: the client of the database, and nodes that share one. They need PostgreSQL (`make deps`);
//! without it a test is skipped with a message, and fails under CI.
//!
//! A test belongs here if it needs the feature `postgres`. `suite.sh` runs tests of other folders on nodes.

#[path = "../common/mod.rs"]
mod common;

mod away;
mod chaos;
mod cluster;
mod commit;
mod copy;
mod edges;
mod failover;
mod feeds;
mod histories;
mod hostile;
mod login;
mod lost_answers;
mod migrate;
mod namespaces;
mod network;
mod nodes;
mod refusals;
mod restored;
mod rights;
mod servers;
mod session;
mod starved;
mod stored;
mod tls;

use std::time::{Duration, Instant};

use ordercast::internal::store::postgres::migrate::migrate;
use ordercast::internal::store::postgres::{PgError, Row, Session, Target};

use common::{Cluster, DEADLINE};

/// A deadline that no test should reach.
fn later() -> Instant {
    Instant::now() + DEADLINE
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

fn try_connect(url: &str) -> Result<Session, PgError> {
    Session::connect(&Target::parse(url).expect("an address"), later())
}

#[track_caller]
fn connect(url: &str) -> Session {
    try_connect(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// A session with a database that has the schema and nothing else.
#[track_caller]
fn migrated(cluster: &Cluster) -> Session {
    let mut session = connect(&cluster.url());
    migrate(&mut session, later()).unwrap_or_else(|error| panic!("{error:#}"));
    session
}

/// The only row of a statement without parameters.
#[track_caller]
fn row(session: &mut Session, sql: &'static str) -> Row {
    let mut rows = session.query(sql, &[], later()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(rows.len(), 1, "{sql}");
    rows.remove(0)
}

/// Checks that a call failed because the database is away, and whether it may have run.
#[track_caller]
fn expect_away<T: std::fmt::Debug>(result: Result<T, PgError>, may_have_run: bool) -> String {
    match result {
        Err(error @ PgError::Away { .. }) => {
            assert_eq!(error.may_have_run(), may_have_run, "{error:?}");
            error.to_string()
        }
        other => panic!("the database should be away: {other:?}"),
    }
}
