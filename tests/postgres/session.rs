//! Statements, values, notifications and deadlines of one session.

use std::time::{Duration, Instant};

use ordercast::internal::store::postgres::{Notification, Param, PgError, Session, Target};

use crate::common::{Cluster, Stop, wait_until};
use crate::{connect, expect_away, later, row, soon, try_connect};

#[test]
fn every_kind_of_value_comes_back_as_it_was_sent() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = connect(&cluster.url());
    let (int2s, int4s, int8s) = ([i16::MIN, 0, 7], [i32::MAX, -1], [1 << 53, i64::MIN]);
    let (nullable, texts) = ([Some(4), None], [Some("ü"), None, Some("")]);
    let params = [
        Param::Bool(true),
        Param::Int2(-2),
        Param::Int4(i32::MIN),
        Param::Int8(i64::MAX),
        Param::Int8OrNull(None),
        Param::Text("a\"'\\{}, µ€😀"),
        Param::TextOrNull(None),
        Param::Int2s(&int2s),
        Param::Int4s(&int4s),
        Param::Int8s(&int8s),
        Param::Int8sOrNull(&nullable),
        Param::Texts(&texts),
        Param::Int4OrNull(Some(5)),
        Param::Int8s(&[]),
    ];
    let sql = "SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14";
    // The second time the statement is prepared already.
    for _ in 0..2 {
        let rows = session.query(sql, &params, later()).expect("a row");
        let row = &rows[0];
        assert_eq!((rows.len(), row.len()), (1, params.len()));
        assert_eq!((row.bool(0), row.int2(1), row.int4(2)), (Ok(true), Ok(-2), Ok(i32::MIN)));
        assert_eq!((row.int8(3), row.int8_or_null(4)), (Ok(i64::MAX), Ok(None)));
        assert_eq!((row.text(5), row.text_or_null(6)), (Ok("a\"'\\{}, µ€😀"), Ok(None)));
        assert_eq!((row.int2s(7), row.int4s(8)), (Ok(int2s.to_vec()), Ok(int4s.to_vec())));
        assert_eq!((row.int8s(9), row.int8s_or_null(10)), (Ok(int8s.to_vec()), Ok(nullable.to_vec())));
        assert_eq!((row.texts_or_null(11), row.int4_or_null(12)), (Ok(texts.to_vec()), Ok(Some(5))));
        assert_eq!(row.int8s(13), Ok(Vec::new()));
        // Another type, null, and a column that is not there.
        for wrong in [row.int8(2), row.int8(4), row.int8(9), row.int8(14)] {
            assert!(matches!(wrong, Err(PgError::Unexpected(_))), "{wrong:?}");
        }
        assert!(row.int8s(8).is_err() && row.int8s(10).is_err() && row.bool(1).is_err());
    }
}

#[test]
fn an_error_of_sql_leaves_the_session_usable() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = connect(&cluster.url());
    let code = |result: Result<_, PgError>| match result {
        Err(PgError::Server { code, message }) => (code, message.is_empty()),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(session.query("SELEC 1", &[], later())), ("42601".to_owned(), false));
    for (divisor, expected) in [(0, None), (1, Some(8)), (0, None), (2, Some(4))] {
        let result = session.query("SELECT 8 / $1", &[Param::Int4(divisor)], later());
        match expected {
            Some(quotient) => assert_eq!(result.expect("a row")[0].int4(0), Ok(quotient)),
            None => assert_eq!(code(result).0, "22012"),
        }
    }
    assert!(matches!(session.script("CREATE TABLE a (n int); SELECT 1/0", later()), Err(PgError::Server { .. })));
    assert_eq!(row(&mut session, "SELECT to_regclass('a') IS NULL").bool(0), Ok(true));
    assert!(!session.is_broken());
}

#[test]
fn a_statement_is_prepared_anew_when_the_schema_has_changed() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = connect(&cluster.url());
    session.script("CREATE TABLE a (n int); INSERT INTO a VALUES (1)", later()).expect("a table");
    assert_eq!(row(&mut session, "SELECT * FROM a").int4(0), Ok(1));
    session.script("ALTER TABLE a ALTER n TYPE bigint", later()).expect("a change");
    assert!(matches!(session.query("SELECT * FROM a", &[], later()), Err(PgError::Server { .. })));
    assert_eq!(row(&mut session, "SELECT * FROM a").int8(0), Ok(1));
    session.script("DISCARD ALL", later()).expect("no statement is left");
    assert!(matches!(session.query("SELECT * FROM a", &[], later()), Err(PgError::Server { .. })));
    assert_eq!(row(&mut session, "SELECT * FROM a").int8(0), Ok(1));
}

#[test]
fn a_transaction_of_several_statements_is_committed_or_not_at_all() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = connect(&cluster.url());
    session.script("CREATE TABLE a (n int)", later()).expect("a table");
    for (end, count) in [("ROLLBACK", 0), ("COMMIT", 1)] {
        session.script("BEGIN", later()).expect("a transaction");
        session.query("INSERT INTO a VALUES ($1)", &[Param::Int4(1)], later()).expect("a change");
        session.script(end, later()).expect("the end");
        assert_eq!(row(&mut session, "SELECT count(*) FROM a").int8(0), Ok(count));
    }
}

#[test]
fn notifications_arrive_while_waiting_and_with_answers() {
    let Some(cluster) = Cluster::start() else { return };
    let (mut listener, mut sender) = (connect(&cluster.url()), connect(&cluster.url()));
    listener.script("LISTEN ordercast", later()).expect("it listens");
    assert_eq!(listener.notification(soon()), Ok(None));
    let mut notify = |payload| {
        sender.query("SELECT pg_notify('ordercast', $1)", &[Param::Text(payload)], later()).expect("sent");
    };
    let expected = |payload: &str| Notification { channel: "ordercast".to_owned(), payload: payload.to_owned() };
    notify("1");
    assert_eq!(listener.notification(later()), Ok(Some(expected("1"))));
    notify("2");
    notify("3");
    assert_eq!(row(&mut listener, "SELECT 1").int4(0), Ok(1));
    for payload in ["2", "3"] {
        // A moment that has passed finds what has arrived.
        let mut found = None;
        wait_until(Duration::from_secs(5), "a notification", || {
            found = listener.notification(Instant::now()).expect("a connection");
            found.is_some()
        });
        assert_eq!(found, Some(expected(payload)));
    }
    assert_eq!(listener.notification(Instant::now()), Ok(None));
    assert!(!listener.is_broken());
}

#[test]
fn a_call_ends_at_its_deadline_and_breaks_the_session() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = connect(&cluster.url());
    let start = Instant::now();
    expect_away(session.query("SELECT pg_sleep(5)::text", &[], soon()), true);
    assert!(start.elapsed() < Duration::from_secs(3));
    expect_away(session.query("SELECT 1", &[], later()), false);
    expect_away(session.script("SELECT 1", later()), false);
    expect_away(session.notification(later()), false);

    // A moment that has passed sends nothing.
    let mut session = connect(&cluster.url());
    expect_away(session.query("SELECT 1", &[], Instant::now()), false);
    assert!(session.is_broken());
}

#[test]
fn a_paused_server_delays_a_call_only_up_to_its_deadline() {
    let Some(cluster) = Cluster::start() else { return };
    let (mut asking, mut listening) = (connect(&cluster.url()), connect(&cluster.url()));
    assert_eq!(row(&mut asking, "SELECT 1").int4(0), Ok(1));
    cluster.pause();
    let start = Instant::now();
    expect_away(asking.query("SELECT 1", &[], soon()), true);
    let target = Target::parse(&cluster.url()).expect("an address");
    expect_away(Session::connect(&target, soon()), false);
    assert_eq!(listening.notification(soon()), Ok(None));
    // More than the buffers of the kernel hold.
    let text = "x".repeat(32 << 20);
    expect_away(listening.query("SELECT length($1)", &[Param::Text(&text)], soon()), true);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    cluster.resume();
    assert_eq!(row(&mut connect(&cluster.url()), "SELECT 1").int4(0), Ok(1));
}

#[test]
fn the_end_of_a_server_is_noticed_by_every_call() {
    let Some(mut cluster) = Cluster::start() else { return };
    for end in ["kill", "fast", "immediate"] {
        let (mut idle, mut waiting) = (connect(&cluster.url()), connect(&cluster.url()));
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| waiting.query("SELECT pg_sleep(30)::text", &[], later()));
            wait_until(Duration::from_secs(5), "the statement runs", || {
                cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
            });
            match end {
                "kill" => cluster.kill(),
                "fast" => cluster.stop(Stop::Fast),
                _ => cluster.stop(Stop::Immediate),
            }
            expect_away(asked.join().expect("no panic"), true);
        });
        expect_away(idle.notification(later()), true);
        expect_away(try_connect(&cluster.url()), false);
        cluster.restart();
    }
}

#[test]
fn a_session_that_an_operator_ends_is_away() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = connect(&cluster.url());
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ordercast'");
    let error = expect_away(session.query("SELECT 1", &[], later()), true);
    assert!(error.contains("57P01") || error.contains("ended") || error.contains("reset"), "{error}");
}

#[test]
fn a_large_answer_arrives_whole() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = connect(&cluster.url());
    let rows = session.query("SELECT repeat('x', 1000) FROM generate_series(1, 5000)", &[], later()).expect("rows");
    assert!(rows.len() == 5000 && rows.iter().all(|row| row.text(0).is_ok_and(|text| text.len() == 1000)));
    let numbers = row(&mut session, "SELECT array_agg(n) FROM generate_series(1::bigint, 200000) n").int8s(0);
    assert!(numbers.expect("an array").into_iter().eq(1..=200_000));
    // Beyond the limit it is an error.
    let many = session.query("SELECT repeat('x', 1000000) FROM generate_series(1, 70)", &[], later());
    assert!(matches!(many, Err(PgError::Unexpected(_))) && session.is_broken());
}

#[test]
fn defaults_of_a_role_do_not_weaken_a_commit() {
    let Some(cluster) = Cluster::start() else { return };
    let defaults = [
        "synchronous_commit = off",
        "statement_timeout = '9s'",
        "lock_timeout = '1ms'",
        "default_transaction_isolation = serializable",
    ];
    defaults.iter().for_each(|default| {
        cluster.sql(&format!("ALTER ROLE postgres SET {default}"));
    });
    let mut session = connect(&cluster.url());
    let shown = "SELECT current_setting('synchronous_commit'), current_setting('statement_timeout'), \
                 current_setting('transaction_isolation')";
    let row = row(&mut session, shown);
    assert_eq!((row.text(0), row.text(1), row.text(2)), (Ok("on"), Ok("0"), Ok("read committed")));
    let waits = "SELECT current_setting('lock_timeout'), \
                 coalesce(current_setting('client_connection_check_interval', true), '1s')";
    let row = crate::row(&mut session, waits);
    assert_eq!((row.text(0), row.text(1)), (Ok("9s"), Ok("1s")));
}

#[test]
fn a_transaction_that_is_left_open_is_ended_by_the_server() {
    let Some(cluster) = Cluster::start() else { return };
    let (mut idle, mut other) = (connect(&cluster.url()), connect(&cluster.url()));
    idle.script("CREATE TABLE a (n int); SET idle_in_transaction_session_timeout = '200ms'", later()).expect("a table");
    idle.script("BEGIN; LOCK TABLE a", later()).expect("a lock");
    assert!(other.query("SELECT n FROM a", &[], later()).is_ok_and(|rows| rows.is_empty()));
    assert!(expect_away(idle.notification(later()), true).contains("25P03"));
    expect_away(idle.script("COMMIT", later()), false);
}
