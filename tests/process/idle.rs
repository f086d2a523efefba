//! A server that has nothing to do sleeps. `make idle` measures for longer.

use crate::common::websocket::{PONG, frame};
use crate::common::{DEADLINE, Message, Server, WebSocket, wait_until};
use crate::service::Manager;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long an idle server is watched in every test run.
const WATCHED: Duration = Duration::from_secs(12);
/// The most wake-ups in that time. The server looks at its files twice a minute; a thread that polls every second would
/// wake up twelve times.
const MOST: u64 = 6;
/// A server that has just started puts its data in order. It is idle when none of its threads has woken up for so long.
const SETTLED: Duration = Duration::from_millis(1_500);

/// How often each thread has gone to sleep and woken up again: each wake-up ends in a voluntary switch.
fn switches(pid: u32) -> BTreeMap<String, u64> {
    let mut switches = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs").flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let number = field("voluntary_ctxt_switches:").and_then(|number| number.parse::<u64>().ok());
        if let (Some(name), Some(number)) = (field("Name:"), number) {
            *switches.entry(name.to_owned()).or_default() += number;
        }
    }
    switches
}

/// The bytes that the process has caused to be written to the disk.
fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

/// Watches the server for so long. Returns the number of wake-ups, after printing where they were.
fn watch(server: &Server, what: &str, time: Duration) -> u64 {
    let pid = server.pid();
    let mut last = (switches(pid), Instant::now());
    wait_until(DEADLINE, "the server settles", || {
        let now = switches(pid);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() >= SETTLED
    });
    let (before, bytes) = (switches(pid), written(pid));
    // The time that is measured, not one for something to happen in.
    thread::sleep(time);
    let (after, bytes) = (switches(pid), written(pid) - bytes);
    let woken = after.iter().map(|(name, count)| (name, count - before.get(name).unwrap_or(&0)));
    let woken: BTreeMap<_, _> = woken.filter(|(_, count)| *count > 0).collect();
    let total = woken.values().sum();
    let minutes = time.as_secs_f64() / 60.0;
    println!(
        "{what}, {time:?}: {total} wake-ups, {:.1} a minute {woken:?}; {:.0} bytes written an hour; {} KiB resident, {} \
         threads",
        total as f64 / minutes,
        bytes as f64 / minutes * 60.0,
        server.memory_kib(),
        server.threads(),
    );
    total
}

#[test]
fn an_idle_server_sleeps() {
    let minutes: Option<u64> = env::var("ORDERCAST_IDLE_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    // As its unit starts it, with a watchdog of 5 minutes.
    let manager = Manager::new(true);
    let builder = Server::builder().listen("127.0.0.1:0").listen("127.0.0.1:0");
    let server = builder.env("NOTIFY_SOCKET", &manager.name).env("WATCHDOG_USEC", "300000000").start();
    // A connection between two requests, and after an answer that the ledger thread has written.
    let mut client = server.client();
    client.order("A1", 1);
    let Some(minutes) = minutes else {
        let woken = watch(&server, "idle", WATCHED);
        assert!(woken <= MOST, "{woken} wake-ups in {WATCHED:?}");
        return;
    };
    drop(client);
    let time = Duration::from_secs(60 * minutes);
    let woken = watch(&server, "idle", time);
    assert!(woken <= 5 * minutes, "{woken} wake-ups in {minutes} minutes");
    let mut board = WebSocket::open(server.addr(), "/orders?status=true&catalog=true");
    let board = thread::spawn(move || {
        loop {
            match board.next_within(Duration::from_secs(60)) {
                Ok(Message::Ping(payload)) => board.try_send_raw(&frame(PONG, true, &payload)),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    watch(&server, "with an open board", time);
    drop(server);
    board.join().expect("the board does not panic");
}
