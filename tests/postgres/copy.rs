//! `ordercast migrate --from --to`: everything from a data folder into a database, and back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;

use crate::common::folder::{exported, files};
use crate::common::positions::{Form, Positional};
use crate::common::server::{Finished, binary, ordercast, without_environment_twins};
use crate::common::{Client, Cluster, DEADLINE, Server, TempDir, periods, wait_until};
use crate::nodes::{migrate, node};

/// Whatever a reader of a server can see.
const PATHS: [&str; 9] = [
    "/categories",
    "/electronics",
    "/garden",
    "/orders/electronics",
    "/periods",
    "/periods/1",
    "/periods/2",
    "/periods/current",
    "/log",
];
/// Lines of the log, and keys, that take some seconds to copy.
const MANY: u32 = 200_000;
/// How long a large copy may take on a machine that does other things too.
const LONG: Duration = Duration::from_secs(120);
/// How many rows a database has; the first period is there from the beginning.
const ROWS: &str = "SELECT (SELECT count(*) FROM ordercast.categories) + (SELECT count(*) FROM ordercast.products)
    + (SELECT count(*) FROM ordercast.totals) + (SELECT count(*) FROM ordercast.orders)
    + (SELECT count(*) FROM ordercast.keys) + (SELECT count(*) FROM ordercast.period_sums)
    + (SELECT count(*) FROM ordercast.changes) + (SELECT count(*) - 1 FROM ordercast.periods)
    + (SELECT seq FROM ordercast.head)";

fn copy(folder: &Path, from: &str, to: &str) -> Finished {
    ordercast(folder, &["migrate", "--from", from, "--to", to], &[])
}

#[track_caller]
fn expect_copy(folder: &Path, from: &str, to: &str) -> String {
    let done = copy(folder, from, to);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("how much is kept is not copied"), "{}", done.stderr);
    done.stdout
}

#[track_caller]
fn expect_refusal(done: &Finished, why: &str) {
    assert!(done.code == Some(1) && done.stderr.contains(why), "{done:?}");
}

#[track_caller]
fn output(folder: &Path, arguments: &[&str]) -> String {
    let run = ordercast(folder, arguments, &[]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{arguments:?}: {run:?}");
    run.stdout
}

#[track_caller]
fn send(client: &mut Client, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
    let reply = client.request(method, path, headers, body.as_bytes());
    assert!((200..300).contains(&reply.status), "{method} {path}: {reply:?}");
}

/// Orders with keys and batches, a hidden product and one that was shown again, products and a category that were added, a
/// category with another title, and two closed periods.
fn fill(server: &Server) {
    let mut client = server.client();
    let client = &mut client;
    let json = ("Content-Type", "application/json");
    let patch = [("Content-Type", "application/merge-patch+json")];
    for number in 0..40 {
        let body = format!(r#"{{"amount":{},"key":"till-{number}"}}"#, number % 7 - 2);
        send(client, "POST", "/orders/A1", &[json], &body);
    }
    send(
        client,
        "POST",
        "/orders",
        &[json, ("Idempotency-Key", "batch-1")],
        r#"[{"id":"A1","amount":9},{"id":"B1","amount":4}]"#,
    );
    periods::close(client, 1);
    send(client, "PATCH", "/electronics/A2", &patch, r#"{"hidden":true}"#);
    send(client, "PATCH", "/electronics/A1", &patch, r#"{"hidden":true}"#);
    send(client, "PATCH", "/electronics/A1", &patch, r#"{"hidden":false,"name":"Säge \"neu\""}"#);
    send(client, "PUT", "/garden", &[json], r#"{"title":"Garden","prefix":"G"}"#);
    send(client, "PUT", "/garden", &[json], r#"{"title":"The Garden","prefix":"G"}"#);
    send(client, "POST", "/garden", &[json], r#"{"name":"Rake","rrp":"9.90","info":"wood, iron"}"#);
    send(client, "POST", "/orders/G1", &[json], r#"{"amount":12}"#);
    periods::close(client, 2);
    send(client, "POST", "/orders/G1", &[json], r#"{"amount":-3,"key":"last"}"#);
}

fn bodies(server: &Server) -> Vec<String> {
    let mut client = server.client();
    PATHS.iter().map(|path| client.get(path).text().to_owned()).collect()
}

#[test]
fn everything_is_copied_into_a_database_and_back_and_clients_go_on() {
    let Some(cluster) = Cluster::start() else { return };
    let (url, temp) = (cluster.url(), TempDir::new());
    let data = temp.path().join("data");
    let mut server = Server::builder().data(&data).start();
    fill(&server);
    let mut feed = Positional::open(Form::WebSocket, server.addr(), "/orders/garden", None);
    let position = feed.take(1)[0].position.clone().expect("the last one has a position");
    server.client().order("G1", 5);
    let before = bodies(&server);
    server.terminate();
    let source = files(&data);

    let text = expect_copy(temp.path(), "data", &url);
    assert!(text.contains("3 periods") && text.contains("read again and equal"), "{text}");
    assert_eq!(files(&data), source, "the source is only read");
    let text = expect_copy(temp.path(), &url, "new/back");
    assert!(text.contains("42 keys"), "{text}");
    let back = temp.path().join("new/back");
    let checked = output(temp.path(), &["check", "--data", "new/back"]);
    assert!(checked.contains("is sound"), "{checked}");
    assert_eq!(exported(&back), exported(&data));
    for arguments in [
        &["export"][..],
        &["export", "--format", "csv"],
        &["report", "--by", "period", "--csv"],
        &["report", "--by", "day", "--json"],
        &["report", "--by", "hour"],
    ] {
        let of = |place: &[&str]| output(temp.path(), &[arguments, place].concat());
        let expected = of(&["--data", "data"]);
        assert!(expected.len() > 100, "{expected}");
        assert_eq!(of(&["--store", &url]), expected);
        assert_eq!(of(&["--data", "new/back"]), expected);
    }
    let columns = "SELECT key, at_ms, product, amount FROM keys ORDER BY at_ms, key";
    assert_eq!(rows(&back, columns), rows(&data, columns));
    for columns in [
        "SELECT n, at_ms, line, '' FROM changes",
        "SELECT id, hidden, opening, ordered_ms FROM products",
        "SELECT id, added_seq, total, category FROM products",
        "SELECT key, value, '', '' FROM meta WHERE key = 'shown_after'",
    ] {
        let expected = rows(&data, columns);
        assert!(!expected.is_empty());
        assert_eq!(rows(&back, columns), expected, "{columns}");
    }

    // Servers on both copies, as the one before.
    let servers = [node(&url), Server::builder().data(&back).start()];
    for server in &servers {
        assert_eq!(bodies(server), before);
        let mut client = server.client();
        let json = ("Content-Type", "application/json");
        send(&mut client, "POST", "/orders/A1", &[json], r#"{"amount":-2,"key":"till-0"}"#);
        let batch = r#"[{"id":"A1","amount":9},{"id":"B1","amount":4}]"#;
        send(&mut client, "POST", "/orders", &[json, ("Idempotency-Key", "batch-1")], batch);
        assert_eq!(client.post("/orders/A1", r#"{"amount":8,"key":"till-0"}"#).status, 422);
        assert_eq!(bodies(server), before, "repeats count once");
        let mut feed = Positional::open(Form::WebSocket, server.addr(), "/orders/garden", Some(&position));
        assert_eq!(feed.next().pair(), ("G1".to_owned(), 14), "from the position of the server before");
        client.order("G1", 1);
        assert_eq!(feed.next().pair(), ("G1".to_owned(), 15));
    }
}

/// A server that was killed has left the keys of its last orders in the log alone.
#[test]
fn keys_of_a_killed_server_are_copied_wherever_they_are_stored() {
    let Some(cluster) = Cluster::start() else { return };
    let (url, temp) = (cluster.url(), TempDir::new());
    let mut server = Server::builder().data(&temp.path().join("data")).start();
    let mut client = server.client();
    let order = |number: u32| format!(r#"{{"amount":1,"key":"till-{number}"}}"#);
    // More than are moved to their table at a time, and some more.
    for number in 0..600 {
        assert_eq!(client.post("/orders/A1", order(number)).status, 200);
    }
    server.kill();
    assert!(expect_copy(temp.path(), "data", &url).contains("600 keys"));
    assert!(expect_copy(temp.path(), &url, "back").contains("600 keys"));
    for server in [node(&url), Server::builder().data(&temp.path().join("back")).start()] {
        let mut client = server.client();
        for number in 0..600 {
            assert_eq!(client.post("/orders/A1", order(number)).status, 200);
        }
        assert_eq!(client.total("A1"), 603, "repeats count once");
    }
}

/// The rows of a data file, four columns each.
fn rows(folder: &Path, sql: &str) -> Vec<[rusqlite::types::Value; 4]> {
    let file = Connection::open(folder.join("ordercast.sqlite3")).expect("a data file");
    let mut statement = file.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]));
    rows.expect("rows").collect::<Result<_, _>>().expect("rows")
}

/// A folder of a server that has stopped, with some orders.
fn small_folder(temp: &TempDir) -> Server {
    let mut server = Server::builder().data(&temp.path().join("data")).start();
    server.client().order("A1", 5);
    server.terminate();
    server
}

#[test]
fn a_destination_that_is_not_empty_is_refused_and_unchanged() {
    let Some(cluster) = Cluster::start() else { return };
    let (url, temp) = (cluster.url(), TempDir::new());
    let _server = small_folder(&temp);
    expect_copy(temp.path(), "data", &url);
    let rows = cluster.sql(ROWS);
    expect_refusal(&copy(temp.path(), "data", &url), "is not empty, so nothing is copied into it");
    assert_eq!(cluster.sql(ROWS), rows);
    let before = files(&temp.path().join("data"));
    expect_refusal(&copy(temp.path(), &url, "data"), "has a data file, so nothing is copied into it");
    assert_eq!(files(&temp.path().join("data")), before);
    // A node has added the sample.
    cluster.sql("DROP SCHEMA ordercast CASCADE");
    migrate(&url, &[]);
    drop(node(&url));
    expect_refusal(&copy(temp.path(), "data", &url), "is not empty");
}

#[test]
fn a_source_that_is_in_use_damaged_or_missing_is_refused_and_the_database_stays_empty() {
    let Some(cluster) = Cluster::start() else { return };
    let (url, temp) = (cluster.url(), TempDir::new());
    expect_refusal(&copy(temp.path(), "data", &url), "data has no data file");
    expect_refusal(&copy(temp.path(), &url, "new"), "run `ordercast migrate --store URL` once");
    assert!(!temp.path().join("new").exists());
    let mut server = small_folder(&temp);
    server.restart();
    let done = copy(temp.path(), "data", &url);
    expect_refusal(&done, "in use by process");
    assert!(!done.stderr.contains("--data"), "{done:?}");
    server.terminate();
    assert_eq!(cluster.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'ordercast'"), "0");
    let file = Connection::open(temp.path().join("data/ordercast.sqlite3")).expect("a data file");
    file.execute_batch("UPDATE products SET total = total + 1 WHERE id = 'A1'").expect("a change");
    drop(file);
    expect_refusal(&copy(temp.path(), "data", &url), "is damaged (the total of A1 is 9");
    // A database that is not consistent.
    let file = Connection::open(temp.path().join("data/ordercast.sqlite3")).expect("a data file");
    file.execute_batch("UPDATE products SET total = total - 1 WHERE id = 'A1'").expect("a change");
    drop(file);
    expect_copy(temp.path(), "data", &url);
    cluster.sql("UPDATE ordercast.totals SET total = total + 1");
    expect_refusal(&copy(temp.path(), &url, "new"), "is not consistent (the total of A1 is 9");
    cluster.sql("UPDATE ordercast.totals SET total = total - 1; UPDATE ordercast.head SET seq = seq + 1");
    expect_refusal(&copy(temp.path(), &url, "new"), "the log ends with entry 1, but 2 was the last one");
    assert_eq!(files(&temp.path().join("new")), Vec::new(), "nothing is left");
}

#[test]
fn a_copy_that_is_killed_leaves_the_destination_empty_and_can_be_made_again() {
    let Some(cluster) = Cluster::start() else { return };
    let (url, temp) = (cluster.url(), TempDir::new());
    let _server = small_folder(&temp);
    let file = Connection::open(temp.path().join("data/ordercast.sqlite3")).expect("a data file");
    file.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY})
             INSERT INTO orders (seq, at_ms, product, amount, total, key) SELECT n, 1000, 1, 1, 7 + n, 'key-' || n FROM n;
         INSERT INTO keys (key, at_ms, product, amount) SELECT key, at_ms, 1, 1 FROM orders WHERE seq > 1;
         UPDATE products SET total = 7 + {MANY} WHERE row = 1;
         COMMIT"
    ))
    .expect("a large log");
    drop(file);
    let start = |from: &str, to: &str| {
        let mut command = Command::new(binary());
        without_environment_twins(&mut command);
        let command = command.args(["migrate", "--from", from, "--to", to]).current_dir(temp.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
    };
    let is_writing = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO ordercast.orders%'";
    let mut killed = start("data", &url);
    wait_until(LONG, "the log is written", || cluster.sql(is_writing) == "1");
    killed.kill().expect("it runs");
    assert!(!killed.wait().expect("it ends").success());
    wait_until(DEADLINE, "its session ends", || {
        cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ordercast'") == "0"
    });
    assert_eq!(cluster.sql(ROWS), "0");
    wait_for(start("data", &url));
    assert_eq!(cluster.sql("SELECT seq || ' ' || keys FROM ordercast.head"), format!("{MANY} {}", MANY - 1));

    let is_read = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'FETCH 5000 FROM copy_orders%'";
    let mut killed = start(&url, "back");
    wait_until(LONG, "the log is read", || cluster.sql(is_read) == "1");
    killed.kill().expect("it runs");
    assert!(!killed.wait().expect("it ends").success());
    let back = temp.path().join("back");
    assert!(!back.join("ordercast.sqlite3").exists());
    wait_for(start(&url, "back"));
    let names: Vec<_> = files(&back).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ordercast.sqlite3"]);
    let length = |folder: &str| fs::metadata(temp.path().join(folder).join("ordercast.sqlite3")).expect("a file").len();
    assert!(length("back") > length("data") / 2, "{} {}", length("back"), length("data"));
}

#[track_caller]
fn wait_for(mut child: std::process::Child) {
    let status = crate::common::server::wait_for_exit(&mut child, LONG);
    assert!(status.success(), "{status}");
}

#[test]
fn commands_for_the_files_of_a_folder_say_what_a_database_has_instead() {
    let temp = TempDir::new();
    for (command, instead) in
        [("check", "pg_amcheck"), ("backup", "pg_dump"), ("compact", "autovacuum"), ("repair", "pg_restore")]
    {
        let run = ordercast(temp.path(), &[command, "--store", "postgres://u@127.0.0.1/x"], &[]);
        assert!(run.code == Some(2) && run.stderr.contains(instead), "{run:?}");
    }
    for (arguments, why) in [
        (&["--from", "a"][..], "needs --store URL to make tables"),
        (&["--from", "a", "--to", "b"], "`ordercast backup --data a` copies a folder"),
        (&["--from", "a", "--to", "postgres://u@h/d", "--keep-keys", "3"], "then set it with --store URL"),
        (&["--from", "a", "--to", "postgres://u@h/d", "--store", "postgres://u@h/d"], "leave one out"),
        (&["--from", "a", "--to", "mysql://u@h/d"], "--to: "),
    ] {
        let run = ordercast(temp.path(), &[&["migrate"], arguments].concat(), &[]);
        assert!(run.code == Some(2) && run.stderr.contains(why), "{arguments:?}: {run:?}");
    }
}
