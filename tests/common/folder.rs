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

/// The files of a folder with their bytes, without the lock file, which names the last process, and without the time of the
/// last backup.
#[track_caller]
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file")))
        .filter(|(name, _)| name != "ordercast.lock" && name != "last-backup")
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

/// The size of a page of the data file.
pub const PAGE_BYTES: usize = 4_096;

/// Whether a page is a leaf of the table of keys, with more than 20 of those that [`fill`] gives.
pub fn has_keys(page: &[u8]) -> bool {
    const TABLE_LEAF: u8 = 0x0d;
    // Five columns, each with a type of one byte, and the byte of this length: a row of an order has more.
    const HEADER_BYTES: u8 = 6;
    if page[0] != TABLE_LEAF {
        return false;
    }
    let first_cell = usize::from(u16::from_be_bytes([page[8], page[9]]));
    // Behind the length of the row and its number, of one to three bytes.
    let mut cell = page[first_cell..].iter().skip(1);
    let header = cell.by_ref().skip_while(|byte| **byte >= 0x80).nth(1);
    let keys = page.windows(5).filter(|five| five == b"till-").count();
    header == Some(&HEADER_BYTES) && keys > 20
}

/// Swaps two leaves of the table of keys in a data file that no server uses: rows and pages are readable, but their numbers
/// are not in order.
#[track_caller]
pub fn swap_leaves_of_keys(data_file: &Path) {
    let mut bytes = fs::read(data_file).expect("a file");
    let is_leaf = |at: &usize| has_keys(&bytes[*at..at + PAGE_BYTES]);
    let leaves: Vec<usize> = (0..bytes.len()).step_by(PAGE_BYTES).filter(is_leaf).collect();
    assert!(leaves.len() >= 2, "{leaves:?}");
    let (first, last) = bytes.split_at_mut(leaves[leaves.len() - 1]);
    first[leaves[0]..leaves[0] + PAGE_BYTES].swap_with_slice(&mut last[..PAGE_BYTES]);
    fs::write(data_file, bytes).expect("a file");
}
