//! Data folders: filling one with orders, and reading what is in it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Client, Server, ordercast};

/// Orders in one request; the server takes up to 1,000.
const BATCH: usize = 500;

/// Posts `count` orders with the amount 1, of each built-in product in turn, each with a key of its own.
#[track_caller]
pub fn fill(server: &Server, count: usize) {
    const IDS: [&str; 3] = ["A1", "A2", "B1"];
    let line = |number: usize| format!("{{\"id\":\"{}\",\"amount\":1,\"key\":\"till-{number}\"}}\n", IDS[number % 3]);
    let lines: Vec<String> = (0..count).map(line).collect();
    let mut client = server.client();
    for batch in lines.chunks(BATCH) {
        let headers = [("Content-Type", "application/x-ndjson")];
        let reply = client.request("POST", "/orders", &headers, batch.concat().as_bytes());
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

/// Posts as many orders of A1 as [`fill`] posts at a time, without keys.
#[track_caller]
pub fn post_batch(client: &mut Client) {
    let lines = "{\"id\":\"A1\",\"amount\":1}\n".repeat(BATCH);
    let reply = client.request("POST", "/orders", &[("Content-Type", "application/x-ndjson")], lines.as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// The files of a folder with their bytes, without the lock file, which names the last process.
#[track_caller]
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file")))
        .filter(|(name, _)| name != "ordercast.lock")
        .collect();
    files.sort();
    files
}

/// The orders that `ordercast export` prints.
#[track_caller]
pub fn exported(folder: &Path) -> Vec<Value> {
    let run = ordercast(folder, &["export", "--data", "."], &[]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    run.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}
