//! Metrics while something is wrong: the disk hangs or is full, a file was moved, a subscriber does not read.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::disk::{Call, ENOSPC, LOG};
use crate::common::{DEADLINE, Disk, Fault, Server, WebSocket, wait_until};
use crate::exposition::Scrape;

/// How long a scrape may take on a busy machine while the disk hangs; by itself it waits for 0.1 s.
const PROMPT: Duration = Duration::from_secs(3);
/// A total with many digits, which fills the socket buffers sooner.
const BASE: i64 = 1_000_000_000_000_000;

fn is_refusing(scrape: &Scrape, reason: &str) -> bool {
    scrape.value("ordercast_ready") == 0.0
        && scrape.labelled("ordercast_refusing_orders", "reason", reason) == 1.0
        && scrape.sum("ordercast_refusing_orders") == 1.0
}

#[test]
fn a_scrape_is_answered_while_the_disk_hangs() {
    let Some(disk) = Disk::new() else { return };
    let server = disk.builder().start();
    server.client().order("A1", 1);
    let mut before = Scrape::default();
    wait_until(DEADLINE, "the rows are measured", || {
        before = Scrape::of(&server);
        before.types.contains_key("ordercast_log_rows")
    });
    disk.arm(Fault::hangs(Call::Sync, LOG));
    let mut poster = server.client();
    let body = "{\"amount\":1}";
    let head = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    poster.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    disk.wait_for_hit();
    let mut client = server.client();
    for _ in 0..5 {
        let start = Instant::now();
        let scrape = Scrape::by(&mut client);
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        assert_eq!(scrape.value("ordercast_orders_total"), 1.0);
        assert_eq!(scrape.value("ordercast_log_rows"), before.value("ordercast_log_rows"), "what was last known");
    }
    wait_until(DEADLINE, "it counts as hanging", || is_refusing(&Scrape::by(&mut client), "store_hangs"));
    server.client().post("/orders/A1", body).problem(503);
    let rejected = Scrape::by(&mut client);
    assert_eq!(rejected.labelled("ordercast_rejections_total", "reason", "store_hangs"), 1.0);
    disk.lift();
    assert_eq!(poster.reply().status, 200);
    wait_until(DEADLINE, "orders are taken again", || Scrape::by(&mut client).value("ordercast_ready") == 1.0);
    let scrape = Scrape::by(&mut client);
    assert_eq!(scrape.value("ordercast_orders_total"), 2.0);
    assert!(scrape.value("ordercast_sync_seconds_sum") >= 5.0, "the sync that hung is in the histogram");
    wait_until(DEADLINE, "the rows are measured again", || {
        Scrape::by(&mut client).value("ordercast_log_rows") == before.value("ordercast_log_rows") + 1.0
    });
}

/// Scrapes come more often than the disk is tried again, and must not put that off.
#[test]
fn a_full_disk_is_shown_and_scrapes_do_not_keep_the_server_from_recovering() {
    let Some(disk) = Disk::new() else { return };
    let server = disk.builder().start();
    let mut client = server.client();
    client.order("A1", 1);
    disk.arm(Fault::fails(Call::Write, LOG, ENOSPC));
    client.post("/orders/A1", "{\"amount\":1}").problem(507);
    let scrape = Scrape::by(&mut client);
    assert!(is_refusing(&scrape, "store_full"), "{scrape:?}");
    assert_eq!(scrape.labelled("ordercast_rejections_total", "reason", "store_full"), 1.0);
    assert!(scrape.value("ordercast_failed_commits_total") >= 1.0);
    assert_eq!(scrape.value("ordercast_orders_total"), 1.0);
    disk.lift();
    wait_until(DEADLINE, "orders are taken again", || Scrape::by(&mut client).value("ordercast_ready") == 1.0);
    assert!(client.get("/readyz").status == 200);
}

#[test]
fn a_data_file_that_was_moved_is_shown() {
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", 1);
    let (file, away) = (server.data().join("ordercast.sqlite3"), server.data().join("away"));
    fs::rename(&file, &away).unwrap();
    client.post("/orders/A1", "{\"amount\":1}").problem(503);
    assert!(is_refusing(&Scrape::by(&mut client), "store_unusable"));
    fs::rename(&away, &file).unwrap();
    wait_until(DEADLINE, "orders are taken again", || Scrape::by(&mut client).value("ordercast_ready") == 1.0);
}

#[test]
fn a_subscriber_that_does_not_read_is_shown_with_what_it_skips_and_its_end() {
    const BATCH: usize = 1_000;
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", BASE);
    let silent = WebSocket::open(server.addr(), "/orders/electronics");
    let orders = vec!["{\"id\":\"A1\",\"amount\":1}"; BATCH].join(",");
    let batch = format!("[{orders}]");
    wait_until(DEADLINE * 2, "its socket is full and totals are skipped", || {
        assert_eq!(client.post("/orders", &batch).status, 200);
        let scrape = Scrape::by(&mut client);
        scrape.value("ordercast_slow_sockets") == 1.0 && scrape.value("ordercast_skipped_total") > 0.0
    });
    wait_until(DEADLINE, "each order was sent or skipped", || {
        let scrape = Scrape::by(&mut client);
        let all = scrape.value("ordercast_deliveries_total") + scrape.value("ordercast_skipped_total");
        // On a slow machine it is closed before the last orders come, which are nobody's then.
        all >= scrape.value("ordercast_orders_total") - 1.0
            || scrape.value("ordercast_slow_sockets_closed_total") == 1.0
    });
    // 10 s after it has taken nothing.
    wait_until(DEADLINE * 2, "it is closed", || {
        let scrape = Scrape::by(&mut client);
        scrape.value("ordercast_slow_sockets_closed_total") == 1.0 && scrape.value("ordercast_slow_sockets") == 0.0
    });
    wait_until(DEADLINE, "it has left", || Scrape::by(&mut client).sum("ordercast_subscribers") == 0.0);
    drop(silent);
}
