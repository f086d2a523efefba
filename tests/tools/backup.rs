//! `ordercast backup`: a consistent copy, made while the server works, and its restore.

use crate::common::folder::{exported, files, fill};
use crate::common::load::spawn;
use crate::common::{Client, DEADLINE, Finished, Server, SmallDisk, TempDir, WebSocket, ordercast, wait_until};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

fn backup(data: &Path, file: &Path) -> Finished {
    let (data, file) = (data.display().to_string(), file.display().to_string());
    ordercast(Path::new("/"), &["backup", &file, "--data", &data], &[])
}

/// Makes a backup of a folder.
#[track_caller]
fn expect_backup(data: &Path, file: &Path) {
    let run = backup(data, file);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    assert!(run.stdout.contains(&file.display().to_string()), "{run:?}");
}

/// Copies a backup into an empty folder and starts a server on it.
#[track_caller]
fn restore(file: &Path, data: &Path) -> Server {
    fs::create_dir(data).expect("a folder");
    fs::copy(file, data.join("ordercast.sqlite3")).expect("a copy");
    Server::builder().data(data).start()
}

#[test]
fn a_backup_under_load_has_every_order_that_was_answered_before_and_agrees_with_itself() {
    let server = Server::start();
    let temp = TempDir::new();
    let (answered, enough) = (AtomicI64::new(0), AtomicBool::new(false));
    let addr = server.addr();
    thread::scope(|scope| {
        for _ in 0..4 {
            spawn(scope, || {
                let mut client = Client::connect(addr);
                while !enough.load(Ordering::Relaxed) {
                    client.order("A1", 1);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=3 {
            wait_until(DEADLINE, "orders are answered", || answered.load(Ordering::Relaxed) > 100 * round);
            let before = answered.load(Ordering::Relaxed);
            let file = temp.path().join(format!("backup-{round}"));
            expect_backup(&server.data(), &file);
            // Each of four posters may have an answer that it has not counted yet.
            let after = answered.load(Ordering::Relaxed) + 4;

            let data = temp.path().join(format!("restored-{round}"));
            let mut restored = restore(&file, &data);
            let total = restored.totals()[0].1 - 3;
            assert!((before..=after).contains(&total), "{total} orders, {before} answered before and {after} after");
            restored.terminate();
            let log = exported(&data);
            let sum: i64 = log.iter().map(|line| line["amount"].as_i64().expect("a number")).sum();
            assert_eq!((sum, log.len() as i64), (total, total));
            let check = ordercast(&data, &["check", "--data", "."], &[]);
            assert_eq!(check.code, Some(0), "{check:?}");
        }
        enough.store(true, Ordering::Relaxed);
    });
    let made: Vec<_> = files_of(temp.path());
    assert_eq!(made, ["backup-1", "backup-2", "backup-3"], "each backup is one file");
}

fn files_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<_> = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_killed_and_a_stopped_folder_are_copied_completely_and_not_changed() {
    let mut server = Server::start();
    let temp = TempDir::new();
    fill(&server, 600);
    let told = server.totals();
    server.kill();
    expect_backup(&server.data(), &temp.path().join("killed"));
    server.restart();
    server.terminate();
    let before = files(&server.data());
    expect_backup(&server.data(), &temp.path().join("stopped"));
    assert!(before == files(&server.data()), "the backup has changed the folder");
    for name in ["killed", "stopped"] {
        let file = temp.path().join(name);
        // The original may need its WAL; the copy is a single file.
        assert_eq!(fs::read(&file).expect("a file")[18..20], [1, 1], "{name}");
        let restored = restore(&file, &temp.path().join(format!("{name}-restored")));
        assert_eq!(restored.totals(), told);
        // It has the keys too.
        fill(&restored, 600);
        assert_eq!(restored.totals(), told);
    }
}

/// Resumes a feed from this position.
#[track_caller]
fn feed(server: &Server, since: &str) -> WebSocket {
    WebSocket::open(server.addr(), &format!("/orders?since={since}"))
}

fn position(message: &str) -> String {
    let message: serde_json::Value = serde_json::from_str(message).expect("JSON");
    message["position"].as_str().expect("a position").to_owned()
}

/// The position after one more order for A1.
#[track_caller]
fn position_after_an_order(server: &Server) -> String {
    let mut feed = feed(server, "");
    feed.texts(3);
    server.client().order("A1", 1);
    position(&feed.text())
}

/// Whether a feed that resumes from this position gets a fresh snapshot: only that has A2, for which there are no
/// orders.
#[track_caller]
fn is_foreign(server: &Server, position: &str) -> bool {
    let mut feed = feed(server, position);
    server.client().order("B1", 1);
    let (id, total) = server.totals().pop().expect("three products");
    let last = format!("{{\"id\":\"{id}\",\"total\":{total},");
    loop {
        let text = feed.text();
        if text.starts_with("{\"id\":\"A2\",") {
            return true;
        }
        if text.starts_with(&last) {
            return false;
        }
    }
}

/// Two restores of one backup and the original have only the orders before the backup in common.
#[test]
fn positions_are_valid_where_their_orders_are_and_foreign_elsewhere() {
    let server = Server::start();
    let temp = TempDir::new();
    let common = position_after_an_order(&server);
    let last_common = position_after_an_order(&server);
    let file = temp.path().join("backup");
    expect_backup(&server.data(), &file);
    let of_the_original = position_after_an_order(&server);
    let mut first = restore(&file, &temp.path().join("first"));
    let mut second = restore(&file, &temp.path().join("second"));
    let of_the_first = position_after_an_order(&first);
    let of_the_second = position_after_an_order(&second);
    for again in [false, true] {
        for (server, own) in [(&server, &of_the_original), (&first, &of_the_first), (&second, &of_the_second)] {
            let text = feed(server, &common).text();
            assert!(text.starts_with("{\"id\":\"A1\",\"total\":5,"), "{text}");
            let text = feed(server, &last_common).text();
            assert!(text.starts_with("{\"id\":\"A1\",\"total\":6,"), "{text}");
            for other in [&of_the_original, &of_the_first, &of_the_second] {
                assert_eq!(is_foreign(server, other), other != own, "{other}, again: {again}");
            }
        }
        if !again {
            first.restart();
            second.restart();
        }
    }
}

/// A plain copy of a stopped server's data file: from then on the copy and the original are different logs.
#[test]
fn a_plain_copy_of_a_stopped_file_is_as_good_as_a_backup() {
    let mut server = Server::start();
    let temp = TempDir::new();
    let common = position_after_an_order(&server);
    server.terminate();
    let file = temp.path().join("copy");
    fs::copy(server.data().join("ordercast.sqlite3"), &file).expect("a copy");
    server.restart();
    let copy = restore(&file, &temp.path().join("restored"));
    let (of_the_original, of_the_copy) = (position_after_an_order(&server), position_after_an_order(&copy));
    for (server, own, other) in [(&server, &of_the_original, &of_the_copy), (&copy, &of_the_copy, &of_the_original)] {
        assert!(is_foreign(server, other) && !is_foreign(server, own));
        assert!(feed(server, &common).text().starts_with("{\"id\":\"A1\",\"total\":5,"));
    }
}

#[test]
fn what_cannot_be_backed_up_is_named_and_no_file_is_left() {
    let temp = TempDir::new();
    let data = temp.path().join("data");
    let file = temp.path().join("backup");
    let expect_refusal = |run: Finished, words: &[&str]| {
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
        for word in words {
            assert!(run.stderr.contains(word), "{word:?} is missing: {run:?}");
        }
    };
    expect_refusal(backup(&data, &file), &["data/ordercast.sqlite3", "--data"]);
    let mut server = Server::builder().data(&data).start();
    fill(&server, 600);
    expect_refusal(backup(&data, &temp.path().join("missing/backup")), &["/missing does not exist"]);
    expect_refusal(backup(&data, &data), &["is the data folder", "no place for a backup"]);
    fs::write(&file, "mine").expect("a file");
    expect_refusal(backup(&data, &file), &["backup", "already"]);
    assert_eq!(fs::read(&file).expect("a file"), b"mine");
    fs::remove_file(&file).expect("a file");

    // Not through a link to another file.
    let mine = temp.write("mine", "mine");
    symlink(&mine, temp.path().join("backup.ordercast-partial")).expect("a link");
    expect_refusal(backup(&data, &file), &["backup.ordercast-partial"]);
    assert_eq!(fs::read(&mine).expect("a file"), b"mine");
    fs::remove_file(temp.path().join("backup.ordercast-partial")).expect("a link");
    fs::remove_file(mine).expect("a file");

    // Names that the server or the next backup would overwrite.
    for name in ["last-backup", "ordercast.lock", "ordercast.sqlite3.ordercast-partial", "mine"] {
        expect_refusal(backup(&data, &data.join(name)), &[]);
    }
    expect_refusal(backup(&data, &temp.path().join("p.ordercast-partial")), &["name another file"]);

    server.terminate();
    let path = data.join("ordercast.sqlite3");
    let mut bytes = fs::read(&path).expect("a file");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(&path, bytes).expect("a file");
    expect_refusal(backup(&data, &file), &["damaged", "ordercast check"]);
    assert_eq!(files_of(temp.path()), Vec::<String>::new());

    let usage = ordercast(temp.path(), &["backup"], &[]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    assert!(usage.stderr.contains("ordercast backup"), "{usage:?}");
}

#[test]
fn no_command_writes_through_a_link_or_waits_for_a_pipe_in_the_folder() {
    let temp = TempDir::new();
    let data = temp.path().join("data");
    let mut server = Server::builder().data(&data).start();
    server.terminate();
    let mine = temp.write("mine", "mine, and longer than a number");
    let time = data.join("last-backup.ordercast-partial");
    let make_pipe = |path: &Path| {
        let made = Command::new("mkfifo").arg(path).status().expect("mkfifo is there");
        assert!(made.success());
    };
    symlink(&mine, &time).expect("a link");
    expect_backup(&data, &temp.path().join("one"));
    make_pipe(&time);
    expect_backup(&data, &temp.path().join("two"));
    assert!(fs::symlink_metadata(data.join("last-backup")).expect("the time").is_file());

    let lock = data.join("ordercast.lock");
    let folder = data.display().to_string();
    for command in ["compact", "repair", "serve"] {
        for is_pipe in [false, true] {
            fs::remove_file(&lock).expect("a lock");
            if is_pipe {
                make_pipe(&lock)
            } else {
                symlink(&mine, &lock).expect("a link")
            }
            let run = ordercast(temp.path(), &[command, "--data", &folder], &[]);
            assert!(run.code == Some(1) && run.stderr.contains("ordercast.lock"), "{command}: {run:?}");
        }
    }
    assert_eq!(fs::read(&mine).expect("a file"), b"mine, and longer than a number");
}

/// A stopped server's folder with a data file of more than 8 MB, which takes a while to copy.
fn large_folder(temp: &TempDir) -> std::path::PathBuf {
    const BATCHES: usize = 90;
    const BATCH: usize = 200;
    let data = temp.path().join("large");
    let mut server = Server::builder().data(&data).start();
    let mut client = server.client();
    for batch in 0..BATCHES {
        let key = |number: usize| format!("{:0>255}", batch * BATCH + number);
        let line = |number| format!("{{\"id\":\"A1\",\"amount\":1,\"key\":\"{}\"}}\n", key(number));
        let body: String = (0..BATCH).map(line).collect();
        let headers = [("Content-Type", "application/x-ndjson")];
        assert_eq!(client.request("POST", "/orders", &headers, body.as_bytes()).status, 200);
    }
    server.terminate();
    assert!(fs::metadata(data.join("ordercast.sqlite3")).expect("a file").len() > 8 << 20);
    data
}

/// A backup that has written some of its file, and has not ended.
fn begun_backup(data: &Path, folder: &Path) -> Child {
    let has_begun = || {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        entries.filter_map(|entry| entry.metadata().ok()).any(|file| file.is_file() && file.len() > 0)
    };
    loop {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ordercast"))
            .arg("backup")
            .args([&folder.join("backup"), Path::new("--data"), data])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary can be started");
        while !has_begun() && child.try_wait().expect("a state").is_none() {}
        signal("STOP", &child);
        if child.try_wait().expect("a state").is_none() && !folder.join("backup").exists() {
            return child;
        }
        // It was faster than this test: once more.
        signal("CONT", &child);
        child.wait().expect("its end");
        fs::remove_file(folder.join("backup")).expect("a complete backup");
    }
}

fn signal(name: &str, child: &Child) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).stderr(Stdio::null()).status();
    sent.expect("kill can be started");
}

#[test]
fn a_backup_that_was_killed_is_repeated_and_nothing_is_left_behind() {
    let temp = TempDir::new();
    let data = large_folder(&temp);
    let target = temp.path().join("target");
    fs::create_dir(&target).expect("a folder");
    // A file of somebody else that only looks like an unfinished backup.
    fs::write(target.join("backup.partial"), "").expect("a file");
    for _ in 0..5 {
        let mut child = begun_backup(&data, &target);
        let second = backup(&data, &target.join("backup"));
        assert!(second.code == Some(1) && second.stderr.contains("another backup"), "{second:?}");
        child.kill().expect("it runs");
        child.wait().expect("its end");
        // SQLite's journal of the unfinished file may be left too, until the next one.
        let mut left = files_of(&target);
        left.retain(|name| name != "backup.ordercast-partial-journal");
        assert_eq!(left, ["backup.ordercast-partial", "backup.partial"]);
        expect_backup(&data, &target.join("backup"));
        assert_eq!(files_of(&target), ["backup", "backup.partial"]);
        fs::remove_file(target.join("backup")).expect("a backup");
    }
}

#[test]
fn a_full_disk_fails_a_backup_and_nothing_is_left_behind() {
    let temp = TempDir::new();
    let data = large_folder(&temp);
    let Some(disk) = SmallDisk::mount() else { return };
    for _ in 0..2 {
        let run = backup(&data, &disk.path().join("backup"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
        assert!(run.stderr.contains("no space left"), "{run:?}");
        assert_eq!(files_of(disk.path()), Vec::<String>::new());
    }
}

#[track_caller]
fn expect_failure(run: &Finished, words: &str) {
    assert!(run.code == Some(1) && run.stderr.contains(words), "{run:?}");
}

/// Only what a backup has left is overwritten, and never made readable for others.
#[test]
fn a_foreign_file_under_the_name_of_an_unfinished_backup_is_left_alone() {
    let temp = TempDir::new();
    let server = Server::start();
    server.client().order("A1", 1);
    let (file, partial) = (temp.path().join("copy"), temp.path().join("copy.ordercast-partial"));
    fs::write(&partial, "foreign").expect("a file");
    expect_failure(&backup(&server.data(), &file), "is no unfinished backup");
    assert_eq!(fs::read(&partial).expect("a file"), b"foreign");
    fs::remove_file(&partial).expect("it goes");
    let made = Command::new("mkfifo").arg(&partial).status();
    assert!(made.is_ok_and(|status| status.success()), "a pipe");
    expect_failure(&backup(&server.data(), &file), "is no unfinished backup");
    fs::remove_file(&partial).expect("it goes");
    fs::write(&partial, b"SQLite format 3\0").expect("a file");
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o644)).expect("a mode");
    expect_backup(&server.data(), &file);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    expect_failure(&backup(&server.data(), &temp.path().join("ordercast.sqlite3-journal")), "name another file");
}

#[test]
fn only_its_owner_may_read_a_backup() {
    let mut server = Server::start();
    let temp = TempDir::new();
    let mode = |file: &Path| fs::metadata(file).expect("a file").permissions().mode() & 0o777;
    for (name, stop) in [("beside", false), ("stopped", true)] {
        if stop {
            server.terminate();
        }
        let file = temp.path().join(name);
        expect_backup(&server.data(), &file);
        assert_eq!(mode(&file), 0o600, "{name}");
    }
}

/// A kill between the two steps of giving a copy its name leaves both names; the next backup must not write to the first.
#[test]
fn a_complete_backup_that_still_has_its_first_name_too_is_not_overwritten() {
    let server = Server::start();
    let temp = TempDir::new();
    let (kept, file) = (temp.path().join("monday"), temp.path().join("backup"));
    expect_backup(&server.data(), &kept);
    let before = fs::read(&kept).expect("a backup");
    fs::hard_link(&kept, temp.path().join("backup.ordercast-partial")).expect("a second name");
    server.client().order("A1", 1);
    expect_backup(&server.data(), &file);
    assert!(fs::read(&kept).expect("a backup") == before, "the older backup has changed");
    assert_eq!(files_of(temp.path()), ["backup", "monday"]);
}

#[test]
fn the_time_of_a_backup_is_written_beside_the_data_and_only_a_remark_says_that_it_cannot_be() {
    let mut server = Server::start();
    let temp = TempDir::new();
    let told = server.data().join("last-backup");
    let now = || std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs();
    let before = now();
    expect_backup(&server.data(), &temp.path().join("one"));
    let text = fs::read_to_string(&told).expect("the time");
    let seconds: u64 = text.strip_suffix('\n').expect("a line").parse().expect("a number");
    assert!((before..=now()).contains(&seconds), "{seconds}");
    // Neither the server nor another command stumbles over it.
    server.restart();
    server.terminate();
    let check = ordercast(&server.data(), &["check", "--data", "."], &[]);
    assert_eq!(check.code, Some(0), "{check:?}");
    assert_eq!(files_of(&server.data()), ["last-backup", "ordercast.lock", "ordercast.sqlite3"]);
    // Nothing can be written there: a folder has its name.
    fs::remove_file(&told).expect("it goes");
    fs::create_dir_all(told.join("in the way")).expect("a folder");
    let run = backup(&server.data(), &temp.path().join("two"));
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("the backup is complete") && run.stderr.contains("last-backup"), "{run:?}");
    assert_eq!(files_of(temp.path()).len(), 2);
}
