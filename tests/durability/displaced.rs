//! The data folder's files are moved, deleted, replaced or truncated while the server runs: no order is answered that the
//! next start would not find.

use crate::common::disk::{Call, LOG};
use crate::common::{DEADLINE, Disk, Fault, Server, TempDir, WebSocket, ordercast, wait_until};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const DATA_FILE: &str = "ordercast.sqlite3";
const ORDER: &str = "{\"amount\":1}";
/// The server inspects its files every 30 s while no orders come.
const INSPECTED_WITHIN: Duration = Duration::from_secs(45);

fn path(server: &Server, suffix: &str) -> PathBuf {
    server.data().join(format!("{DATA_FILE}{suffix}"))
}

/// Orders and `/readyz` are rejected with a text that has these words; totals are served, and no subscriber sees more.
#[track_caller]
fn expect_rejected(server: &Server, words: &str, total: i64) {
    let mut client = server.client();
    wait_until(DEADLINE, "the server is not ready", || client.get("/readyz").status == 503);
    for reply in [client.post("/orders/A1", ORDER), client.get("/readyz"), client.post("/orders/A1", ORDER)] {
        let text = reply.text();
        assert!(text.contains(words), "{text}");
        reply.problem(503);
    }
    assert_eq!(server.total("A1"), total);
    assert_eq!(WebSocket::open(server.addr(), "/orders/electronics").texts(2).len(), 2);
    wait_until(DEADLINE, "the log says so", || server.log().contains(words));
}

#[test]
fn a_file_that_is_moved_away_stops_orders_until_it_is_back() {
    let mut server = Server::start();
    server.client().order("A1", 1);
    let moved = server.data().join("away");
    for (number, suffix) in (0..).zip(["", "-wal", "-shm"]) {
        let path = path(&server, suffix);
        fs::rename(&path, &moved).expect("it can be moved");
        expect_rejected(&server, &format!("{DATA_FILE}{suffix} was moved or deleted"), 4 + number);
        fs::rename(&moved, &path).expect("it can be moved back");
        wait_until(DEADLINE, "orders are back", || server.client().get("/readyz").status == 200);
        server.client().order("A1", 1);
        assert_eq!(server.total("A1"), 5 + number);
    }
    let lock = server.data().join("ordercast.lock");
    fs::rename(&lock, &moved).expect("it can be moved");
    expect_rejected(&server, "ordercast.lock was moved or deleted", 7);
    fs::rename(&moved, &lock).expect("it can be moved back");
    wait_until(DEADLINE, "orders are back", || server.client().post("/orders/A1", ORDER).status == 200);
    server.restart();
    assert_eq!(server.total("A1"), 8);
}

#[test]
fn a_folder_that_is_moved_away_stops_orders_until_it_is_back() {
    let mut server = Server::start();
    server.client().order("A1", 1);
    let away = server.data().with_file_name("away");
    fs::rename(server.data(), &away).expect("it can be moved");
    expect_rejected(&server, "was moved or deleted", 4);
    fs::rename(&away, server.data()).expect("it can be moved back");
    wait_until(DEADLINE, "orders are back", || server.client().get("/readyz").status == 200);
    server.client().order("A1", 1);
    server.terminate();
    server.restart();
    assert_eq!(server.total("A1"), 5);
}

/// Nothing that the server does at its end may harm what is at the paths by then.
#[test]
fn a_file_that_is_replaced_stops_orders_until_a_restart() {
    for suffix in ["", "-wal"] {
        let mut server = Server::start();
        server.client().order("A1", 1);
        let (path, kept) = (path(&server, suffix), server.data().join("kept"));
        let bytes = fs::read(&path).expect("a file");
        fs::rename(&path, &kept).expect("it can be moved");
        fs::write(&path, &bytes).expect("a copy");
        expect_rejected(&server, &format!("{DATA_FILE}{suffix} was replaced"), 4);
        fs::rename(&kept, &path).expect("it can be moved back");
        expect_rejected(&server, "was replaced", 4);
        assert_eq!(server.terminate().code(), Some(0));
        server.restart();
        server.client().order("A1", 1);
        assert_eq!(server.total("A1"), 5, "{suffix}");
    }
}

#[test]
fn a_file_that_is_truncated_stops_orders_until_a_restart() {
    for suffix in ["", "-wal", "-shm"] {
        let server = Server::start();
        if suffix.is_empty() {
            // Until the log has been moved into the data file, which has something to lose then.
            let log = path(&server, "-wal");
            wait_until(DEADLINE, "the log is empty", || fs::metadata(&log).expect("a log").len() == 0);
        }
        server.client().order("A1", 1);
        let file = fs::OpenOptions::new().write(true).open(path(&server, suffix)).expect("a file");
        file.set_len(0).expect("it can be truncated");
        expect_rejected(&server, &format!("{DATA_FILE}{suffix} was truncated"), 4);
        expect_rejected(&server, "was truncated", 4);
    }
}

#[test]
fn a_data_file_that_was_changed_while_it_was_away_stops_orders_until_a_restart() {
    let server = Server::start();
    let log = path(&server, "-wal");
    wait_until(DEADLINE, "the log is empty", || fs::metadata(&log).expect("a log").len() == 0);
    // The ledger has remembered how the data file is after that.
    assert_eq!(server.client().get("/readyz").status, 200);
    let (path, away) = (path(&server, ""), server.data().join("away"));
    fs::rename(&path, &away).expect("it can be moved");
    expect_rejected(&server, "was moved or deleted", 3);
    let bytes = fs::read(&away).expect("a file");
    fs::write(&away, bytes).expect("it can be written");
    fs::rename(&away, &path).expect("it can be moved back");
    expect_rejected(&server, "was changed while it was away", 3);
}

/// A second server can start on the folder when the lock is gone: the first must stop taking orders, and leave the
/// second's files alone when it ends.
#[test]
fn a_folder_without_its_lock_is_left_to_a_second_server() {
    let mut first = Server::start();
    first.client().order("A1", 1);
    fs::remove_file(first.data().join("ordercast.lock")).expect("it can be deleted");
    let mut second = Server::builder().data(&first.data()).start();
    second.client().order("A1", 1);
    expect_rejected(&first, "ordercast.lock was", 4);
    assert_eq!(first.terminate().code(), Some(0));
    second.client().order("A1", 1);
    second.restart();
    assert_eq!(second.total("A1"), 6);
}

/// The operator has named a link, and would find another folder behind it after a restart.
#[test]
fn a_link_to_the_folder_that_leads_elsewhere_stops_orders_until_it_leads_back() {
    let temp = TempDir::new();
    let [one, two, link] = ["one", "two", "link"].map(|name| temp.path().join(name));
    [&one, &two].into_iter().for_each(|folder| fs::create_dir(folder).expect("a folder"));
    symlink(&one, &link).expect("a link");
    let server = Server::builder().data(&link).start();
    server.client().order("A1", 1);
    let lead_to = |target: &Path| {
        fs::remove_file(&link).expect("the link goes");
        symlink(target, &link).expect("a link");
    };
    lead_to(&two);
    expect_rejected(&server, "was moved or deleted", 4);
    lead_to(&one);
    wait_until(DEADLINE, "orders are back", || server.client().get("/readyz").status == 200);
    server.client().order("A1", 1);
    drop(server);
    assert_eq!(Server::builder().data(&link).start().total("A1"), 5);
}

#[test]
fn a_missing_file_is_noticed_without_a_request() {
    let server = Server::start();
    fs::rename(path(&server, ""), server.data().join("away")).expect("it can be moved");
    wait_until(INSPECTED_WITHIN, "the log says so", || server.log().contains("was moved or deleted"));
}

/// The known orders that a repeat would be answered from are in a file that the next start would not find.
#[test]
fn a_repeated_order_is_not_answered_from_a_file_that_is_gone() {
    let server = Server::start();
    let keyed = "{\"amount\":1,\"key\":\"till-1\"}";
    assert_eq!(server.client().post("/orders/A1", keyed).status, 200);
    let (path, away) = (path(&server, ""), server.data().join("away"));
    fs::rename(&path, &away).expect("it can be moved");
    wait_until(DEADLINE, "the server is not ready", || server.client().get("/readyz").status == 503);
    server.client().post("/orders/A1", keyed).problem(503);
    fs::rename(&away, &path).expect("it can be moved back");
    wait_until(DEADLINE, "orders are back", || server.client().post("/orders/A1", keyed).status == 200);
    assert_eq!(server.total("A1"), 4);
}

/// The commit succeeds on a file that has been moved: its order is answered as unknown, and taken back when the file is
/// back, so that its repeat counts once.
#[test]
fn an_order_during_whose_commit_the_file_is_moved_counts_once_with_its_repeat() {
    let Some(disk) = Disk::new() else { return };
    let mut server = disk.builder().start();
    server.client().order("A1", 1);
    let (path, away) = (disk.folder().join(DATA_FILE), disk.folder().join("away"));
    let keyed = "{\"amount\":3,\"key\":\"till-1\"}";
    disk.arm(Fault::hangs(Call::Sync, LOG));
    thread::scope(|scope| {
        let order = scope.spawn(|| server.client().post("/orders/A1", keyed));
        disk.wait_for_hit();
        fs::rename(&path, &away).expect("it can be moved");
        disk.lift();
        order.join().expect("an answer").problem(500);
    });
    server.client().post("/orders/A1", keyed).problem(503);
    fs::rename(&away, &path).expect("it can be moved back");
    wait_until(DEADLINE, "orders are back", || server.client().get("/readyz").status == 200);
    assert_eq!(server.total("A1"), 4);
    for _ in 0..2 {
        assert_eq!(server.client().post("/orders/A1", keyed).status, 200);
        assert_eq!(server.total("A1"), 7);
    }
    server.client().order("A1", 1);
    server.restart();
    assert_eq!(server.total("A1"), 8);
    let check = ordercast(disk.folder(), &["check", "--data", "."], &[]);
    assert!(check.code == Some(0) && check.stdout.contains("3 orders"), "{check:?}");
}
