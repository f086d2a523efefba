//! `ordercast export`: the whole log, from a folder in any state, without a change to it.

use crate::common::folder::{exported, files, fill};
use crate::common::{Server, TempDir, ordercast};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// More than two pages of the export.
const ORDERS: usize = 2_500;

#[track_caller]
fn expect_all(lines: &[Value], count: usize) {
    assert_eq!(lines.len(), count);
    for (number, line) in (1..).zip(lines) {
        assert_eq!(line["seq"], number);
        assert_eq!(line["key"], format!("till-{}", number - 1));
    }
}

#[test]
fn the_log_is_the_same_from_a_live_a_killed_and_a_stopped_folder() {
    let mut server = Server::start();
    fill(&server, ORDERS);
    let live = exported(&server.data());
    expect_all(&live, ORDERS);
    let first = server.client().get("/log?after=0&limit=1").json();
    assert_eq!(live[0], first);
    let last = server.client().get(&format!("/log?after={}", ORDERS - 1)).json();
    assert_eq!(live[ORDERS - 1], last);

    server.kill();
    let before = files(&server.data());
    assert!(before.iter().any(|(name, bytes)| name.ends_with("-wal") && !bytes.is_empty()), "the WAL is empty");
    assert_eq!(exported(&server.data()), live);
    // SQLite may change the `-shm` file, which has the locks of readers; the data is unchanged.
    let tally = |files: Vec<(String, Vec<u8>)>| files.into_iter().filter(|(name, _)| !name.ends_with("-shm")).collect();
    let (before, after): (Vec<_>, Vec<_>) = (tally(before), tally(files(&server.data())));
    assert!(before == after, "the export has changed the folder");

    server.restart();
    server.terminate();
    let before = files(&server.data());
    assert_eq!(before.len(), 1, "an orderly end leaves one file");
    assert_eq!(exported(&server.data()), live);
    assert!(before == files(&server.data()), "the export has changed the folder");
}

#[test]
fn a_server_that_starts_and_works_meanwhile_is_not_disturbed() {
    let mut server = Server::start();
    fill(&server, ORDERS);
    server.terminate();
    // Its output is not read, so this export blocks in the middle of the log.
    let mut export = Command::new(env!("CARGO_BIN_EXE_ordercast"))
        .args(["export", "--data"])
        .arg(server.data())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let mut output = BufReader::new(export.stdout.take().expect("stdout is piped"));
    let mut first = String::new();
    output.read_line(&mut first).expect("a line");
    server.restart();
    fill(&server, 1);
    server.client().order("A1", 1);
    server.terminate();
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert!(export.wait().expect("an end").success());
    let lines: Vec<Value> =
        first.lines().chain(rest.lines()).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    expect_all(&lines, ORDERS);
}

#[test]
fn csv_is_quoted_where_it_must_be_and_keys_are_as_they_were() {
    let server = Server::start();
    let mut client = server.client();
    for (amount, key) in [(2, "a,b"), (-1, "say ä"), (3, "=1+1"), (4, "q\\\"q")] {
        let body = format!("[{{\"id\":\"A1\",\"amount\":{amount},\"key\":\"{key}\"}}]");
        assert_eq!(client.post("/orders", body).status, 200);
    }
    client.order("B1", 9);
    let data = server.data().display().to_string();
    let run = ordercast(Path::new("/"), &["export", "--format", "csv", "--data", &data], &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let mut lines = run.stdout.split("\r\n");
    assert_eq!(lines.next(), Some("seq,time,id,amount,total,key"));
    let ends = ["A1,2,5,\"a,b\"", "A1,-1,4,say ä", "A1,3,7,=1+1", "A1,4,11,\"q\"\"q\"", "B1,9,110,"];
    for (number, end) in (1..).zip(ends) {
        let line = lines.next().expect("a line");
        let (seq, rest) = line.split_once(',').expect("a comma");
        let (time, rest) = rest.split_once(',').expect("a comma");
        assert_eq!((seq, rest), (number.to_string().as_str(), end));
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }
    assert_eq!((lines.next(), lines.next()), (Some(""), None));

    // The same by environment variables.
    let twins = [("ORDERCAST_FORMAT", "csv"), ("ORDERCAST_DATA", data.as_str())];
    assert_eq!(ordercast(Path::new("/"), &["export"], &twins).stdout, run.stdout);
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_export_without_an_error() {
    let server = Server::start();
    fill(&server, ORDERS);
    for format in ["ndjson", "csv"] {
        let mut export = Command::new(env!("CARGO_BIN_EXE_ordercast"))
            .args(["export", "--format", format, "--data"])
            .arg(server.data())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        drop(export.stdout.take());
        let mut said = String::new();
        export.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("text");
        assert_eq!((export.wait().expect("an end").code(), said.as_str()), (Some(0), ""));
    }
}

#[test]
fn deleted_old_orders_are_no_gap_and_an_empty_log_is_empty() {
    let mut server = Server::builder().arg("--keep-orders").arg("10").start();
    assert_eq!(exported(&server.data()), Vec::<Value>::new());
    fill(&server, 1_000);
    fill(&server, 1);
    server.terminate();
    let lines = exported(&server.data());
    assert!(lines.len() < 1_000 && lines[lines.len() - 1]["seq"] == 1_000, "{}", lines.len());
}

#[test]
fn what_cannot_be_exported_is_named() {
    let folder = TempDir::new();
    let run = |args: &[&str]| ordercast(folder.path(), args, &[]);
    let missing = run(&["export"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("data/ordercast.sqlite3") && missing.stderr.contains("--data"), "{missing:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "no file is created");
    folder.write("ordercast.sqlite3", "this is not a database, however long it may be. ".repeat(200));
    let foreign = run(&["export", "--data", "."]);
    assert_eq!((foreign.code, foreign.stdout.as_str()), (Some(1), ""), "{foreign:?}");
    assert!(foreign.stderr.contains("ordercast check"), "{foreign:?}");
    for wrong in [&["export", "--format", "xml"][..], &["export", "x"], &["export", "--listen", "127.0.0.1:0"]] {
        let wrong = run(wrong);
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{wrong:?}");
    }
}
