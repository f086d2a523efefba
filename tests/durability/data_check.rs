//! When the whole data file is checked: not after a stop in order, beside serving after any other end, and before serving
//! with `--check`.

use crate::common::folder::{PAGE_BYTES, fill, has_keys, post_batch, swap_leaves_of_keys};
use crate::common::{DEADLINE, Server, TempDir, WebSocket, ordercast, wait_until};
use std::fs;
use std::path::Path;

const DATA_FILE: &str = "ordercast.sqlite3";
const ORDER: &str = "{\"amount\":1}";

#[track_caller]
fn damage(data: &Path) {
    swap_leaves_of_keys(&data.join(DATA_FILE));
}

/// Overwrites pages of one kind in the data file of a server that has stopped: of those at places from 0 to the number of
/// pages, the ones that `is_hit` names.
#[track_caller]
fn overwrite(data: &Path, is_of_kind: fn(&[u8]) -> bool, is_hit: fn(usize, usize) -> bool) {
    let path = data.join(DATA_FILE);
    let mut bytes = fs::read(&path).expect("a file");
    let pages: Vec<_> = bytes.chunks_mut(PAGE_BYTES).filter(|page| is_of_kind(page)).collect();
    let count = pages.len();
    assert!(count > 2);
    let hit = pages.into_iter().enumerate().filter(|(place, _)| is_hit(*place, count));
    hit.for_each(|(_, page)| page.fill(0xff));
    fs::write(&path, bytes).expect("a file");
}

fn start(data: &Path) -> Server {
    Server::builder().data(data).start()
}

/// A server with two thousand keyed orders, all of them in the data file itself.
fn filled(data: &Path) -> Server {
    let server = start(data);
    fill(&server, 2_000);
    let log = data.join(format!("{DATA_FILE}-wal"));
    wait_until(DEADLINE, "the log is in the data file", || fs::metadata(&log).expect("a log").len() == 0);
    server
}

#[test]
fn after_a_stop_in_order_the_file_is_not_checked() {
    let temp = TempDir::new();
    filled(temp.path()).terminate();
    damage(temp.path());
    let mut server = start(temp.path());
    server.client().order("A1", 1);
    assert_eq!(server.client().get("/readyz").status, 200);
    assert!(!server.log().contains("being checked"), "{}", server.log());
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn after_a_kill_the_file_is_checked_beside_serving_until_it_is_known_to_be_sound() {
    let temp = TempDir::new();
    let mut server = filled(temp.path());
    server.kill();
    for _ in 0..2 {
        let mut server = start(temp.path());
        server.client().order("A1", 1);
        wait_until(DEADLINE, "the check ends", || server.log().contains("the data file is sound"));
        server.kill();
    }
    let mut server = start(temp.path());
    wait_until(DEADLINE, "the check ends", || server.log().contains("the data file is sound"));
    server.terminate();
    let server = start(temp.path());
    server.client().order("A1", 1);
    assert!(!server.log().contains("being checked"), "{}", server.log());
}

#[test]
fn damage_that_the_check_finds_stops_orders_and_nothing_else_until_it_is_repaired() {
    let temp = TempDir::new();
    let mut server = filled(temp.path());
    let totals = server.totals();
    server.kill();
    damage(temp.path());
    // A stop in order does not make a damaged file pass for a sound one.
    for _ in 0..2 {
        let mut server = start(temp.path());
        // The first commit may meet the damage, and be refused, before the check says what it is.
        wait_until(DEADLINE, "the damage is found", || server.client().get("/readyz").text().contains("is damaged"));
        let mut client = server.client();
        for reply in [client.post("/orders/A1", ORDER), client.get("/readyz")] {
            assert!(reply.text().contains("is damaged"), "{reply:?}");
            reply.problem(503);
        }
        client.post("/electronics", "{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"\"}").problem(503);
        wait_until(DEADLINE, "the log says so", || server.log().contains("ordercast repair"));
        assert_eq!(WebSocket::open(server.addr(), "/orders").texts(3).len(), 3);
        assert_eq!(client.get("/log?limit=1").status, 200);
        assert_eq!(server.terminate().code(), Some(0));
    }
    let output = temp.path().join("repaired");
    let repair = ordercast(temp.path(), &["repair", "--data", ".", "--output", "repaired"], &[]);
    assert_eq!(repair.code, Some(0), "{repair:?}");
    let repaired = start(&output);
    let repeat = repaired.client().post("/orders/A1", "{\"amount\":1,\"key\":\"till-0\"}");
    assert_eq!(repeat.status, 200, "{repeat:?}");
    assert_eq!(repaired.totals(), totals, "every key is known");
}

#[test]
fn with_check_a_damaged_file_is_refused_and_a_sound_one_served() {
    let temp = TempDir::new();
    let mut server = filled(temp.path());
    let totals = server.totals();
    server.terminate();
    let mut server = Server::builder().data(temp.path()).arg("--check").start();
    assert_eq!(server.totals(), totals);
    wait_until(DEADLINE, "the log says so", || server.log().contains("the data file is sound"));
    server.kill();
    // It is known to be sound, so that it is not checked once more beside serving.
    let mut server = Server::builder().data(temp.path()).env("ORDERCAST_CHECK", "1").start();
    assert!(!server.log().contains("is being checked while"), "{}", server.log());
    server.terminate();
    damage(temp.path());
    let run = ordercast(temp.path(), &["--listen", "127.0.0.1:0", "--data", ".", "--check"], &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("is damaged"), "{run:?}");
}

/// A check keeps the write-ahead log from beginning again. Under kill after kill the log would fill the disk.
#[test]
fn the_check_waits_while_the_log_is_large() {
    const LARGE: u64 = 9 * 1024 * 1024;
    let temp = TempDir::new();
    let mut server = filled(temp.path());
    let (file, log) = (temp.path().join(DATA_FILE), temp.path().join(format!("{DATA_FILE}-wal")));
    let hold = |file: &Path| {
        let reader = rusqlite::Connection::open(file).expect("a reader");
        reader.execute_batch("BEGIN; SELECT count(*) FROM orders;").expect("a transaction");
        reader
    };
    let (reader, mut client) = (hold(&file), server.client());
    while fs::metadata(&log).expect("a log").len() < LARGE {
        post_batch(&mut client);
    }
    let totals = server.totals();
    server.kill();
    // The end of the reader would empty the log, as that of the server has not.
    let copied = TempDir::new();
    for path in [&file, &log] {
        fs::copy(path, copied.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    drop(reader);
    let reader = hold(&copied.path().join(DATA_FILE));
    let server = start(copied.path());
    assert_eq!(server.totals(), totals);
    wait_until(DEADLINE, "the check waits", || server.log().contains("waits until the write-ahead log is small"));
    server.client().order("A1", 1);
    assert!(!server.log().contains("is sound"), "{}", server.log());
    reader.execute_batch("COMMIT;").expect("the reader ends");
    wait_until(DEADLINE, "the check ends", || server.log().contains("the data file is sound"));
}

/// A damaged page that only an order meets: nothing else reads it.
#[test]
fn damage_that_an_order_meets_stops_orders_and_is_logged() {
    let temp = TempDir::new();
    filled(temp.path()).terminate();
    // All but the first and the last one, which a start reads.
    overwrite(temp.path(), has_keys, |place, count| (1..count - 1).contains(&place));
    let server = start(temp.path());
    let mut client = server.client();
    assert_eq!(client.get("/readyz").status, 200, "not known yet");
    let keyed = "{\"amount\":1,\"key\":\"till-2001\"}";
    for reply in [client.post("/orders/A1", keyed), client.post("/orders/A1", ORDER), client.get("/readyz")] {
        assert!(reply.text().contains("is damaged"), "{reply:?}");
        reply.problem(503);
    }
    wait_until(DEADLINE, "the log says so", || server.log().contains("ordercast repair"));
    assert_eq!(server.totals().len(), 3);
}

/// Whether a page is a leaf of the log with orders that [`fill`] posts.
fn has_keyed_orders(page: &[u8]) -> bool {
    page.windows(5).filter(|five| five == b"till-").count() > 20 && !has_keys(page)
}

/// A damaged page of the log, which a start after a stop in order does not read but for the rates of the last hour.
#[test]
fn damage_that_a_reader_of_the_log_meets_stops_orders_and_is_logged() {
    let temp = TempDir::new();
    filled(temp.path()).terminate();
    // The second one: a start reads the first and the last.
    overwrite(temp.path(), has_keyed_orders, |place, _| place == 1);
    let server = start(temp.path());
    let mut client = server.client();
    client.get("/log").problem(503);
    wait_until(DEADLINE, "the server is not ready", || client.get("/readyz").text().contains("is damaged"));
    client.post("/orders/A1", ORDER).problem(503);
    wait_until(DEADLINE, "the log says so", || server.log().contains("no order is taken any more"));
    assert_eq!(server.totals().len(), 3);
}
