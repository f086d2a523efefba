//! The size of SQLite's write-ahead log: empty after a second without orders, and not at its peak for ever.

use crate::common::folder::post_batch;
use crate::common::{DEADLINE, Server, TempDir, wait_until};
use std::fs;
use std::path::{Path, PathBuf};

const DATA_FILE: &str = "ordercast.sqlite3";
/// What the log may keep: 4 MiB, and the frames of one commit.
const LOG_BYTES: u64 = 4 * 1024 * 1024 + 512 * 1024;

fn log(data: &Path) -> PathBuf {
    data.join(format!("{DATA_FILE}-wal"))
}

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").len()
}

#[test]
fn the_log_is_empty_a_second_after_a_start_without_orders() {
    let temp = TempDir::new();
    let mut server = Server::builder().data(temp.path()).start();
    wait_until(DEADLINE, "the catalogue is in the data file", || bytes(&log(temp.path())) == 0);
    server.client().order("A1", 1);
    assert!(bytes(&log(temp.path())) > 0);
    server.kill();
    let server = Server::builder().data(temp.path()).start();
    wait_until(DEADLINE, "the order is in the data file", || bytes(&log(temp.path())) == 0);
    assert_eq!(server.total("A1"), 4);
}

/// People copy the one file that they see.
#[test]
fn a_copy_of_the_data_file_alone_is_complete_after_a_second_without_orders() {
    let server = Server::start();
    for round in 1..=2 {
        server.client().order("A1", 1);
        assert!(bytes(&log(&server.data())) > 0);
        wait_until(DEADLINE, "the log is empty", || bytes(&log(&server.data())) == 0);
        let temp = TempDir::new();
        fs::copy(server.data().join(DATA_FILE), temp.path().join(DATA_FILE)).expect("a copy");
        assert_eq!(Server::builder().data(temp.path()).start().total("A1"), 3 + round);
    }
}

#[test]
fn a_log_that_a_reader_has_let_grow_becomes_small_again_while_orders_go_on() {
    let server = Server::start();
    let mut client = server.client();
    post_batch(&mut client);
    let reader = rusqlite::Connection::open(server.data().join(DATA_FILE)).expect("a reader");
    reader.execute_batch("BEGIN; SELECT count(*) FROM orders;").expect("a transaction");
    while bytes(&log(&server.data())) < 2 * LOG_BYTES {
        post_batch(&mut client);
    }
    reader.execute_batch("COMMIT;").expect("the reader ends");
    wait_until(DEADLINE, "the log is small", || {
        post_batch(&mut client);
        bytes(&log(&server.data())) <= LOG_BYTES
    });
    wait_until(DEADLINE, "the log is empty", || bytes(&log(&server.data())) == 0);
    server.client().order("A1", 1);
}
