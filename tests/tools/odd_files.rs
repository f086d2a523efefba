//! Data files in unusual states: behind a link, missing while the WAL is there, with rows in the wrong order.

use crate::common::folder::{exported, files, fill, swap_leaves_of_keys};
use crate::common::{Finished, Server, TempDir, ordercast};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const DATA_FILE: &str = "ordercast.sqlite3";

fn run(folder: &Path, args: &[&str]) -> Finished {
    ordercast(folder, args, &[])
}

/// The message of a command that must fail.
#[track_caller]
fn refusal(folder: &Path, args: &[&str]) -> String {
    let run = run(folder, args);
    assert_eq!(run.code, Some(1), "{args:?}: {run:?}");
    run.stdout + &run.stderr
}

const START: [&str; 4] = ["--listen", "127.0.0.1:0", "--data", "."];

/// SQLite keeps the WAL beside the file, not beside the link.
#[test]
fn a_data_file_behind_a_link_is_read_with_its_log_and_has_one_server() {
    let temp = TempDir::new();
    let [home, linked] = ["home", "linked"].map(|name| temp.path().join(name));
    fs::create_dir(&linked).expect("a folder");
    symlink(home.join(DATA_FILE), linked.join(DATA_FILE)).expect("a link");
    assert!(refusal(&linked, &START).contains(DATA_FILE), "a broken link");
    Server::builder().data(&home).start().terminate();

    let mut server = Server::builder().data(&linked).start();
    fill(&server, 300);
    let told = server.totals();
    for folder in [&home, &linked] {
        assert!(refusal(folder, &START).contains(&format!("process {}", server.pid())));
    }
    let expect_all = |folder: &Path, copy: &str| {
        assert_eq!(exported(folder).len(), 300);
        let check = run(folder, &["check", "--data", "."]);
        assert!(check.code == Some(0) && check.stdout.contains("300 orders"), "{check:?}");
        let backup = run(folder, &["backup", copy, "--data", "."]);
        assert!(backup.code == Some(0) && backup.stdout.contains("up to order 300"), "{backup:?}");
    };
    expect_all(&linked, "live");
    server.kill();
    expect_all(&linked, "killed");
    let repair = run(&linked, &["repair", "--data", ".", "--output", "../repaired"]);
    assert!(repair.code == Some(0) && repair.stdout.contains("300 orders"), "{repair:?}");
    assert_eq!(Server::builder().data(&temp.path().join("repaired")).start().totals(), told);
    server.restart();
    assert_eq!(server.totals(), told);
}

/// As with the file of a backup.
#[test]
fn a_file_in_place_of_the_data_folder_is_called_one() {
    let temp = TempDir::new();
    temp.write("orders.db", "");
    for args in [&["check"][..], &["export"], &["report"], &["backup", "copy"], &["compact"], &["repair"]] {
        let said = refusal(temp.path(), &[args, &["--data", "orders.db"]].concat());
        assert!(said.contains("orders.db is not a folder; to read a backup, put it as ordercast.sqlite3"), "{said}");
    }
}

/// SQLite would delete a WAL without a data file.
#[test]
fn a_log_whose_data_file_is_gone_is_left_alone_and_can_be_saved() {
    for is_removed in [false, true] {
        let mut server = Server::start();
        fill(&server, 300);
        server.kill();
        let data = server.data();
        if is_removed {
            fs::remove_file(data.join(DATA_FILE)).expect("a file");
        } else {
            fs::write(data.join(DATA_FILE), "").expect("a file");
        }
        let before = files(&data);
        assert!(before.iter().any(|(name, bytes)| name.ends_with("-wal") && !bytes.is_empty()));
        for args in [&START[..], &["export", "--data", "."], &["backup", "../copy", "--data", "."]] {
            let said = refusal(&data, args);
            assert!(said.contains("-wal") && said.contains("repair"), "{args:?}: {said}");
        }
        let said = refusal(&data, &["check", "--data", "."]);
        assert!(said.contains("-wal") && said.contains("readable all the same: 2 categories, 3 products"), "{said}");
        assert!(before == files(&data), "the folder has changed");
        let repair = run(&data, &["repair", "--data", ".", "--output", "../repaired"]);
        assert_eq!(repair.code, Some(0), "{repair:?}");
        let repaired = Server::builder().data(&data.with_file_name("repaired")).start();
        assert_eq!(
            repaired.totals(),
            [("A1", 103), ("A2", 107), ("B1", 201)].map(|(id, total)| (id.to_owned(), total))
        );
    }
}

/// An order whose key is not found by its number would count again.
#[test]
fn a_file_whose_rows_of_keys_are_in_the_wrong_order_is_refused() {
    let mut server = Server::start();
    fill(&server, 2_000);
    server.terminate();
    swap_leaves_of_keys(&server.data().join(DATA_FILE));
    let start = [&START[..], &["--check"]].concat();
    for args in [&start[..], &["check", "--data", "."], &["backup", "../copy", "--data", "."]] {
        let said = refusal(&server.data(), args);
        assert!(said.contains("damaged"), "{args:?}: {said}");
    }
    let repair = run(&server.data(), &["repair", "--data", ".", "--output", "../repaired"]);
    assert_eq!(repair.code, Some(0), "{repair:?}");
    let repaired = Server::builder().data(&server.data().with_file_name("repaired")).start();
    let told = repaired.totals();
    fill(&repaired, 2_000);
    assert_eq!(repaired.totals(), told, "every key is known");
}
