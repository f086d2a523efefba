//! No space for the data: a small file system that is full, and a file that has reached `--max-data-bytes`. Orders are
//! rejected with 507, everything else goes on, and orders are accepted again as soon as there is space.

use crate::common::load::{parse_total, turn};
use crate::common::{DEADLINE, Form, Positional, Server, SmallDisk, TempDir, WebSocket, ordercast, skip, wait_until};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Orders in one batch: many, to fill the file fast.
const BATCH: usize = 500;
/// More batches than fit into a few megabytes.
const MOST_BATCHES: usize = 1_000;
/// How soon orders must be accepted when there is space.
const RECOVERED_WITHIN: Duration = Duration::from_secs(1);

/// An order of one piece.
const ONE: &str = "{\"amount\":1}";

/// Posts batches and then single orders until one is rejected for lack of space; returns the number of accepted orders.
#[track_caller]
fn fill(server: &Server) -> i64 {
    let mut client = server.client();
    let lines = "{\"id\":\"A1\",\"amount\":1}\n".repeat(BATCH);
    let mut taken = 0;
    for _ in 0..MOST_BATCHES {
        let reply = client.request("POST", "/orders", &[("Content-Type", "application/x-ndjson")], lines.as_bytes());
        match reply.status {
            200 => taken += BATCH as i64,
            _ => {
                reply.problem(507);
                break;
            }
        }
    }
    for _ in 0..BATCH * 10 {
        let reply = client.post("/orders/A1", ONE);
        if reply.status != 200 {
            reply.problem(507);
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            return taken;
        }
        taken += 1;
    }
    panic!("{taken} orders fit");
}

/// The sum of the amounts in the log, over all pages.
#[track_caller]
fn sum_of_log(server: &Server) -> i64 {
    let (mut client, mut sum, mut after) = (server.client(), 0, 0);
    loop {
        let page = client.get(&format!("/log?after={after}"));
        let lines: Vec<serde_json::Value> =
            page.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        let Some(last) = lines.last() else { return sum };
        after = last["seq"].as_i64().expect("a number");
        sum += lines.iter().map(|line| line["amount"].as_i64().expect("a number")).sum::<i64>();
    }
}

#[test]
fn a_full_disk_answers_507_while_feeds_go_on_and_orders_are_back_within_a_second_of_room() {
    let _turn = turn();
    let Some(disk) = SmallDisk::mount() else { return };
    // Leave little space to fill.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 1536 * 1024]).expect("there is room yet");
    let mut server = Server::builder().data(&disk.path().join("data")).start();
    let mut feed = WebSocket::open(server.addr(), "/orders/confectionery");
    feed.texts(1);
    let taken = fill(&server);
    assert!(taken > 0);
    let detail = server.client().get("/readyz").problem(503);
    assert!(detail.contains("no space is left"), "{detail}");
    // What needs no space goes on, for old and new connections.
    assert_eq!(server.total("A1"), 3 + taken);
    WebSocket::open(server.addr(), "/orders/electronics").texts(2);
    feed.expect_nothing_but_a_pong();

    fs::remove_file(&ballast).expect("the ballast goes");
    let room_at = Instant::now();
    let mut client = server.client();
    while client.post("/orders/B1", ONE).status != 200 {
        assert!(room_at.elapsed() < RECOVERED_WITHIN, "not back after {:?}", room_at.elapsed());
    }
    assert_eq!(parse_total(feed.text().as_bytes()), Some(("B1", 102)));
    wait_until(DEADLINE, "the server is ready", || server.client().get("/readyz").status == 200);
    assert_eq!((server.total("A1"), sum_of_log(&server)), (3 + taken, taken + 1));
    server.restart();
    assert_eq!((server.total("A1"), sum_of_log(&server)), (3 + taken, taken + 1));
}

#[test]
fn a_file_at_its_cap_answers_507_and_old_orders_make_room_when_they_may_go() {
    let _turn = turn();
    let folder = TempDir::new();
    let capped = || Server::builder().data(&folder.path().join("data")).arg("--max-data-bytes").arg("1048576");
    let mut server = capped().start();
    let mut feed = WebSocket::open(server.addr(), "/orders/confectionery");
    feed.texts(1);
    let taken = fill(&server);
    for detail in [server.client().get("/readyz").problem(503), server.client().post("/orders/A1", ONE).problem(507)] {
        assert!(detail.contains("reached --max-data-bytes") && !detail.contains("no space"), "{detail}");
    }
    wait_until(DEADLINE, "the log says so", || {
        server.log().contains("has reached --max-data-bytes 1048576; raise that")
    });
    feed.expect_nothing_but_a_pong();
    assert_eq!((server.total("A1"), sum_of_log(&server)), (3 + taken, taken));
    server.kill();

    let server = capped().arg("--keep-orders").arg("100").start();
    for ordered in 1..=200 {
        server.client().order("A1", 1);
        assert_eq!(server.total("A1"), 3 + taken + ordered);
    }
    assert_eq!(server.client().get("/readyz").status, 200);
}

/// Fills the file system to the last byte.
fn fill_up(disk: &SmallDisk) -> PathBuf {
    let ballast = disk.path().join("ballast");
    let mut file = fs::File::create(&ballast).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    ballast
}

/// SQLite needs new files to open one, for which a full disk has no room.
#[test]
fn a_server_starts_on_a_full_disk_and_takes_orders_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut server = Server::builder().data(&disk.path().join("data")).start();
    let mut feed = Positional::open(Form::WebSocket, server.addr(), "/orders/electronics", None);
    feed.take(2);
    server.client().order("A1", 4);
    let position = feed.take(1).pop().and_then(|step| step.position).expect("a position");
    server.client().order("B1", 1);
    server.client().order("B1", -1);
    for ending in ["TERM", "KILL"] {
        server.signal(ending);
        server.wait(DEADLINE);
        let ballast = fill_up(&disk);
        server.restart();
        assert_eq!(server.total("A1"), 7, "{ending}");
        WebSocket::open(server.addr(), "/orders/electronics").texts(2);
        if ending == "TERM" {
            // A client that was there before gets totals too, although the log cannot be read.
            WebSocket::open(server.addr(), &format!("/orders/electronics?since={position}")).texts(2);
        }
        wait_until(DEADLINE, "the server is not ready", || server.client().get("/readyz").status == 503);
        let reply = server.client().post("/orders/A1", "{\"amount\":1,\"key\":\"k\"}");
        reply.problem(507);
        let ready = server.client().get("/readyz");
        assert!(ready.text().contains("no space"), "{ready:?}");
        ready.problem(503);
        wait_until(DEADLINE, "the log says so", || server.log().contains("no space left"));

        let mut feed = WebSocket::open(server.addr(), "/orders/confectionery");
        feed.texts(1);
        fs::remove_file(&ballast).expect("the ballast goes");
        wait_until(DEADLINE, "the server is ready", || server.client().get("/readyz").status == 200);
        server.client().order("B1", 1);
        feed.texts(1);
        server.client().order("B1", -1);
        assert_eq!((server.total("A1"), server.total("B1")), (7, 101));
    }
    server.restart();
    assert_eq!((server.total("A1"), server.total("B1")), (7, 101));
}

/// A folder as a power cut or a copy leaves it: the write-ahead log without its index, which SQLite has to make.
#[test]
fn a_sound_file_on_a_full_disk_is_not_called_damaged() {
    let Some(disk) = SmallDisk::mount() else { return };
    let data = disk.path().join("data");
    let mut server = Server::builder().data(&data).start();
    server.client().order("A1", 4);
    server.kill();
    fs::remove_file(data.join("ordercast.sqlite3-shm")).expect("the index goes");
    let ballast = fill_up(&disk);
    let check = ordercast(&data, &["check", "--data", "."], &[]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stderr.contains("cannot be read now") && !check.stdout.contains("damaged"), "{check:?}");
    fs::remove_file(&ballast).expect("the ballast goes");
    let check = ordercast(&data, &["check", "--data", "."], &[]);
    assert!(check.code == Some(0) && check.stdout.contains("is sound"), "{check:?}");
}

/// SQLite maps a file into memory that has one byte allocated in each page of memory.
#[test]
fn a_file_system_with_blocks_smaller_than_a_page_is_refused() {
    let temp = TempDir::new();
    let (image, folder) = (temp.path().join("image"), temp.path().join("disk"));
    fs::File::create(&image).and_then(|file| file.set_len(4 * 1024 * 1024)).expect("a file");
    fs::create_dir(&folder).expect("a folder");
    let runs = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let made = runs(Command::new("mkfs.ext4").args(["-q", "-b", "1024"]).arg(&image));
    if !made || !runs(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&folder)) {
        return skip("this user may not mount a file system from a file", false);
    }
    let run = ordercast(&folder, &["--listen", "127.0.0.1:0", "--data", "data"], &[]);
    let left: Vec<_> =
        fs::read_dir(folder.join("data")).expect("a folder").flatten().map(|it| it.file_name()).collect();
    let _ = Command::new("umount").arg("--lazy").arg(&folder).status();
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("blocks of 1024 bytes"), "{run:?}");
    assert_eq!(left, ["ordercast.lock"]);
}
