//! Files of other versions: the tools read an older one as it is, a server migrates it, and a newer one is rejected and
//! not changed.

use crate::common::folder::{exported, files};
use crate::common::{Server, TempDir, ordercast};
use std::fs;

/// Created with the SQL of schema 1: three products, and 300 orders for two of them with sums of 600 (T1) and −100
/// (Y1).
const SCHEMA_1: &[u8] = include_bytes!("schema-1.sqlite3");

fn expected() -> Vec<(String, i64)> {
    [("T1", 603), ("T2", 42), ("Y1", -100)].map(|(id, total)| (id.to_owned(), total)).to_vec()
}

#[test]
fn a_file_of_the_first_schema_is_read_as_it_is_and_keeps_its_totals_when_a_server_migrates_it() {
    let temp = TempDir::new();
    let data = temp.path().join("data");
    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("ordercast.sqlite3"), SCHEMA_1).expect("a file");
    let run = |args: &[&str]| ordercast(temp.path(), args, &[]);
    let check = run(&["check"]);
    assert!(check.code == Some(0) && check.stdout.contains("schema 1"), "{check:?}");
    let before = exported(&data);
    assert_eq!(before.len(), 300);
    assert_eq!((&before[0]["id"], &before[0]["total"]), (&"T1".into(), &6.into()));
    let repair = run(&["repair", "--output", "repaired"]);
    assert_eq!(repair.code, Some(0), "{repair:?}");
    let backup = run(&["backup", "backup"]);
    assert_eq!(backup.code, Some(0), "{backup:?}");
    assert_eq!(files(&data), [("ordercast.sqlite3".to_owned(), SCHEMA_1.to_vec())]);
    let restored = temp.path().join("restored");
    fs::create_dir(&restored).expect("a folder");
    fs::rename(temp.path().join("backup"), restored.join("ordercast.sqlite3")).expect("a file");

    for folder in [data, temp.path().join("repaired"), restored] {
        let mut server = Server::builder().data(&folder).start();
        let mut told = server.totals();
        told.sort();
        assert_eq!(told, expected());
        server.client().order("T2", 8);
        let path = "/orders";
        let keyed = server.client().post(path, "[{\"id\":\"T2\",\"amount\":1,\"key\":\"k\"}]");
        assert_eq!(keyed.status, 200, "{keyed:?}");
        server.terminate();
        let check = ordercast(&folder, &["check", "--data", "."], &[]);
        assert!(check.code == Some(0) && check.stdout.contains("schema 7"), "{check:?}");
        let after = exported(&folder);
        assert_eq!(after[..300], before[..]);
        assert_eq!((&after[301]["total"], &after[301]["key"]), (&51.into(), &"k".into()));
    }
}

#[test]
fn a_file_of_a_newer_schema_is_refused_and_not_changed() {
    let (temp, other) = (TempDir::new(), TempDir::new());
    let backup = other.path().join("backup").display().to_string();
    let mut newer = SCHEMA_1.to_vec();
    // The place of the version in SQLite's header.
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    temp.write("ordercast.sqlite3", &newer);
    for args in [
        &["--listen", "127.0.0.1:0", "--data", "."][..],
        &["export", "--data", "."],
        &["check", "--data", "."],
        &["repair", "--data", ".", "--output", "other"],
        &["backup", &backup, "--data", "."],
    ] {
        let run = ordercast(temp.path(), args, &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        let said = run.stdout + &run.stderr;
        assert!(said.contains("newer ordercast") && said.contains("schema 99"), "{args:?}: {said}");
        assert!(!said.contains("is damaged"), "{args:?}: {said}");
    }
    assert!(!other.path().join("backup").exists());
    let left: Vec<_> = fs::read_dir(temp.path()).expect("a folder").flatten().map(|it| it.file_name()).collect();
    assert_eq!(fs::read(temp.path().join("ordercast.sqlite3")).expect("a file"), newer, "{left:?}");
}
