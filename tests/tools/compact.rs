//! `ordercast compact`: the data file without its free pages, whatever happens meanwhile.

use crate::common::folder::{exported, files, fill};
use crate::common::{DEADLINE, Finished, Random, Server, SmallDisk, TempDir, WebSocket, ordercast, seed, wait_until};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Orders that fill some hundred pages, and those that a server keeps of them.
const ORDERS: usize = 40_000;
const KEPT: usize = 1_000;

/// Posts so many orders, in thousands, without keys, which are kept for a day.
fn post_many(server: &Server, orders: usize) {
    let batch = format!("[{}]", vec![r#"{"id":"A1","amount":1}"#; 1_000].join(","));
    for _ in 0..orders / 1_000 {
        assert_eq!(server.client().post("/orders", &batch).status, 200);
    }
}

/// A stopped server whose log was trimmed, so that most pages of its file are free.
fn trimmed(data: &Path) -> Server {
    let mut server = Server::builder().data(data).start();
    post_many(&server, ORDERS);
    server.terminate();
    let mut server = Server::builder().data(data).arg("--keep-orders").arg(KEPT.to_string()).start();
    // Each commit deletes twice as many orders as it adds, and 1,024 at least.
    for _ in 0..ORDERS / 1_000 {
        server.client().order("A1", 1);
    }
    assert_eq!(server.terminate().code(), Some(0));
    server
}

fn compact(data: &Path) -> Finished {
    ordercast(data, &["compact", "--data", "."], &[])
}

fn data_file(data: &Path) -> std::path::PathBuf {
    data.join("ordercast.sqlite3")
}

#[track_caller]
fn expect_sound(data: &Path) {
    let check = ordercast(data, &["check", "--data", "."], &[]);
    assert_eq!(check.code, Some(0), "{check:?}");
}

#[test]
fn free_pages_are_given_back_and_everything_else_stays() {
    let temp = TempDir::new();
    let data = temp.path().join("data");
    let mut server = trimmed(&data);
    fs::set_permissions(data_file(&data), fs::Permissions::from_mode(0o640)).expect("a mode");
    let (before, log) = (fs::metadata(data_file(&data)).expect("a file"), exported(&data));
    let run = compact(&data);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let after = fs::metadata(data_file(&data)).expect("a file");
    assert!(after.len() < before.len() / 2, "{} bytes before, {} after", before.len(), after.len());
    let megabytes = |bytes: u64| format!("{}.{} MB", bytes.div_ceil(100_000) / 10, bytes.div_ceil(100_000) % 10);
    let sizes = format!("{} before, {} after", megabytes(before.len()), megabytes(after.len()));
    assert!(run.stdout.contains(&sizes), "{run:?}");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    // In the mode of SQLite in which the server had left it, and alone.
    assert_eq!(fs::read(data_file(&data)).expect("a file")[18..20], [2, 2]);
    assert_eq!(files(&data).len(), 1);
    expect_sound(&data);
    assert_eq!(exported(&data), log);
    // The mark of a stop in order is kept, and so is what clients know of the log.
    let position = log.last().expect("an order")["seq"].as_u64().expect("a number");
    server.restart();
    assert!(!server.log().contains("being checked"), "{}", server.log());
    assert_eq!(server.client().get("/log?limit=1").json()["seq"], log[0]["seq"]);
    server.client().order("A1", 1);
    server.terminate();
    assert_eq!(exported(&data).last().expect("an order")["seq"], position + 1);
    // A second time there is nothing to give back.
    let size = fs::metadata(data_file(&data)).expect("a file").len();
    assert_eq!(compact(&data).code, Some(0));
    assert!(fs::metadata(data_file(&data)).expect("a file").len() <= size);
}

#[test]
fn positions_of_feeds_stay_valid() {
    let mut server = Server::start();
    let mut feed = WebSocket::open(server.addr(), "/orders?since=");
    feed.texts(3);
    server.client().order("A1", 1);
    let text = feed.text();
    let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let position = message["position"].as_str().expect("a position").to_owned();
    server.client().order("A2", 1);
    server.terminate();
    assert_eq!(compact(&server.data()).code, Some(0));
    server.restart();
    let mut feed = WebSocket::open(server.addr(), &format!("/orders?since={position}"));
    // The order that was missed, and no fresh snapshot, which would begin with A1.
    let text = feed.text();
    assert!(text.starts_with("{\"id\":\"A2\","), "{text}");
}

#[test]
fn what_a_killed_server_left_in_its_log_is_kept() {
    let mut server = Server::start();
    post_many(&server, 20_000);
    let totals = server.totals();
    server.kill();
    assert!(files(&server.data()).iter().any(|(name, bytes)| name.ends_with("-wal") && !bytes.is_empty()));
    let run = compact(&server.data());
    assert_eq!(run.code, Some(0), "{run:?}");
    // What was in the log counts as well: it is not the file that became larger.
    let sizes: Vec<f64> = run.stdout.split(" MB").filter_map(|it| it.rsplit(' ').next()?.parse().ok()).collect();
    assert!(sizes.len() == 2 && sizes[0] >= sizes[1], "{run:?}");
    assert_eq!(files(&server.data()).len(), 1);
    server.restart();
    assert_eq!(server.totals(), totals);
    // That end was not in order, so the file is checked as it would have been.
    wait_until(DEADLINE, "a check", || server.log().contains("sound"));
}

#[test]
fn a_folder_in_use_and_a_damaged_file_are_refused_and_stay_as_they_are() {
    let mut server = Server::start();
    fill(&server, 600);
    let run = compact(&server.data());
    assert!(run.code == Some(1) && run.stderr.contains("in use by process"), "{run:?}");
    server.client().order("A1", 1);
    server.terminate();
    let mut bytes = fs::read(data_file(&server.data())).expect("a file");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(data_file(&server.data()), &bytes).expect("a file");
    let run = compact(&server.data());
    assert!(run.code == Some(1) && run.stderr.contains("damaged"), "{run:?}");
    let left = files(&server.data());
    assert!(left.len() == 1 && left[0].1 == bytes, "the file has changed");
    let run = compact(TempDir::new().path());
    assert!(run.code == Some(1) && run.stderr.contains("--data"), "{run:?}");
}

#[test]
fn a_kill_at_any_moment_leaves_one_whole_file() {
    let temp = TempDir::new();
    let original = temp.path().join("original");
    drop(trimmed(&original));
    let (log, bytes) = (exported(&original), fs::read(data_file(&original)).expect("a file"));
    let data = temp.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let mut random = Random::new(seed(), 1);
    let started = Instant::now();
    fs::write(data_file(&data), &bytes).expect("a file");
    assert_eq!(compact(&data).code, Some(0));
    let whole = started.elapsed().as_micros() as u64;
    for round in 0..25 {
        fs::write(data_file(&data), &bytes).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ordercast"))
            .args(["compact", "--data"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary can be started");
        std::thread::sleep(Duration::from_micros(random.below(whole)));
        let _ = child.kill();
        child.wait().expect("its end");
        expect_sound(&data);
        assert_eq!(exported(&data), log, "round {round}");
    }
    // What is left is used or removed by the next one.
    assert_eq!(compact(&data).code, Some(0));
    assert_eq!(files(&data).len(), 1);
    let mut server = Server::builder().data(&data).start();
    server.client().order("A1", 1);
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_full_disk_changes_nothing_and_the_message_says_what_is_needed() {
    let Some(disk) = SmallDisk::of_megabytes(4) else { return };
    let data = disk.path().join("data");
    let mut server = Server::builder().data(&data).start();
    fill(&server, 10_000);
    server.terminate();
    let before = files(&data);
    let free = (4 << 20) - before[0].1.len() as u64;
    // Less room than the new file needs.
    fs::write(disk.path().join("other"), vec![7; free as usize - before[0].1.len() / 2]).expect("a file");
    let run = compact(&data);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    assert!(run.stderr.contains("no space left") && run.stderr.contains(" MB beside the old one"), "{run:?}");
    assert!(files(&data) == before, "the folder has changed");
    server.restart();
    server.client().order("A1", 1);
    server.terminate();
    fs::remove_file(disk.path().join("other")).expect("it goes");
    assert_eq!(compact(&data).code, Some(0));
    expect_sound(&data);
}
