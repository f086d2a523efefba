//! The figures of `/metrics` after known actions.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::{Client, DEADLINE, Server, WebSocket, wait_until};
use crate::exposition::Scrape;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Posts an order with a key; returns the status.
#[track_caller]
fn order(client: &mut Client, id: &str, amount: i64, key: &str) -> u16 {
    let headers = [JSON, ("Idempotency-Key", key)];
    let body = format!("{{\"amount\":{amount}}}");
    client.request("POST", &format!("/orders/{id}"), &headers, body.as_bytes()).status
}

#[test]
fn orders_repeats_rejections_and_answers_are_counted() {
    let server = Server::start();
    let mut client = server.client();
    let before = Scrape::by(&mut client);
    client.order("A1", 2);
    for status in [200, 200, 422] {
        let amount = if status == 422 { 9 } else { 1 };
        assert_eq!(order(&mut client, "A1", amount, "one"), status);
    }
    let batch =
        "[{\"id\":\"A1\",\"amount\":1},{\"id\":\"A2\",\"amount\":1},{\"id\":\"A1\",\"amount\":1,\"key\":\"one\"}]";
    for _ in 0..2 {
        let headers = [JSON, ("Idempotency-Key", "all")];
        assert_eq!(client.request("POST", "/orders", &headers, batch.as_bytes()).status, 200);
    }
    let patch = client.request("PATCH", "/electronics/A2", &[JSON], b"{\"hidden\":true}");
    assert_eq!(patch.status, 200);
    client.post("/orders/A2", "{\"amount\":1}").problem(410);
    client.post("/orders", "[{\"id\":\"A1\",\"amount\":1},{\"id\":\"A2\",\"amount\":1}]").problem(410);
    client.post("/periods", "{\"number\":7}").problem(409);
    client.get("/orders/X9").problem(404);
    let after = Scrape::by(&mut client);
    let grown = |name: &str| after.value(name) - before.value(name);
    // Of the batch the last order is a repeat; the whole batch is repeated once.
    assert_eq!((grown("ordercast_orders_total"), grown("ordercast_repeats_total")), (4.0, 1.0 + 1.0 + 3.0));
    let rejections = [("key_reused", 1.0), ("hidden", 2.0), ("not_current_period", 1.0), ("store_full", 0.0)];
    for (reason, count) in rejections {
        assert_eq!(after.labelled("ordercast_rejections_total", "reason", reason), count, "{reason}");
    }
    assert_eq!(after.sum("ordercast_rejections_total"), 4.0);
    // The scrape before is one of those with 200; the one that answers is not counted yet.
    for (code, count) in [("200", 7.0), ("410", 2.0), ("409", 1.0), ("422", 1.0), ("404", 1.0), ("other", 0.0)] {
        assert_eq!(after.labelled("ordercast_responses_total", "code", code), count, "{code}");
    }
    // Orders, a change of the catalogue with its history; of the rejected batch and of repeats there is none.
    assert_eq!(grown("ordercast_commit_orders_count"), 3.0);
    assert_eq!(grown("ordercast_commit_orders_sum"), 4.0);
    assert_eq!(grown("ordercast_commit_seconds_count"), 4.0);
    assert_eq!(grown("ordercast_sync_seconds_count"), 4.0);
    let (commits, syncs) = (grown("ordercast_commit_seconds_sum"), grown("ordercast_sync_seconds_sum"));
    assert!(0.0 < syncs && syncs <= commits && commits < DEADLINE.as_secs_f64(), "{syncs} {commits}");
    assert!(after.value("ordercast_last_commit_age_seconds") < DEADLINE.as_secs_f64());
    assert_eq!(after.value("ordercast_failed_commits_total"), 0.0);
    assert_eq!((after.value("ordercast_ready"), after.sum("ordercast_refusing_orders")), (1.0, 0.0));
    assert_eq!(after.labelled("ordercast_build_info", "version", env!("CARGO_PKG_VERSION")), 1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let started = after.value("ordercast_start_time_seconds");
    assert!((now - 60.0..=now).contains(&started), "{started} at {now}");
}

#[test]
fn connections_and_rejected_ones_are_counted() {
    let server = Server::builder().arg("--max-connections").arg("2").start();
    let mut client = server.client();
    client.order("A1", 1);
    let second = server.client();
    wait_until(DEADLINE, "both are open", || Scrape::by(&mut client).value("ordercast_connections_open") == 2.0);
    for _ in 0..3 {
        server.client().get("/categories").problem(503);
    }
    let scrape = Scrape::by(&mut client);
    assert_eq!(scrape.labelled("ordercast_connections_rejected_total", "cap", "server"), 3.0);
    assert_eq!(scrape.labelled("ordercast_connections_rejected_total", "cap", "address"), 0.0);
    // The server's start is waited for by reading its output, not by connecting.
    assert_eq!(scrape.value("ordercast_connections_accepted_total"), 2.0);
    assert_eq!(scrape.value("ordercast_connections_max"), 2.0);
    drop(second);
    wait_until(DEADLINE, "one is open", || Scrape::by(&mut client).value("ordercast_connections_open") == 1.0);
    assert_eq!(Scrape::by(&mut client).value("ordercast_accept_pauses_total"), 0.0);

    let server = Server::builder().arg("--max-connections-per-ip").arg("1").start();
    let mut only = server.client();
    only.order("A1", 1);
    server.client().get("/categories").problem(503);
    assert_eq!(Scrape::by(&mut only).labelled("ordercast_connections_rejected_total", "cap", "address"), 1.0);
}

#[test]
fn subscribers_and_what_they_are_sent_are_counted() {
    let server = Server::start();
    let mut client = server.client();
    let subscribers = |client: &mut Client| {
        let scrape = Scrape::by(client);
        let formats = ["websocket", "websocket_positions", "events"];
        formats.map(|format| scrape.labelled("ordercast_subscribers", "format", format))
    };
    assert_eq!(subscribers(&mut client), [0.0; 3]);
    let mut plain: Vec<WebSocket> = (0..2).map(|_| WebSocket::open(server.addr(), "/orders")).collect();
    let mut positioned = WebSocket::open(server.addr(), "/orders?since=");
    let mut events = server.client();
    events.write("GET /orders HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    wait_until(DEADLINE, "all are listed", || subscribers(&mut client) == [2.0, 1.0, 1.0]);
    let scrape = Scrape::by(&mut client);
    assert_eq!(scrape.labelled("ordercast_responses_total", "code", "101"), 3.0);
    let products = server.totals().len() as f64;
    let delivered = |client: &mut Client| Scrape::by(client).value("ordercast_deliveries_total");
    wait_until(DEADLINE, "each has its snapshot", || delivered(&mut client) == 4.0 * products);
    let bytes = |client: &mut Client| Scrape::by(client).value("ordercast_sent_bytes_total");
    let before = bytes(&mut client);
    for _ in 0..10 {
        client.order("A1", 1);
    }
    wait_until(DEADLINE, "each has ten totals", || delivered(&mut client) == 4.0 * (products + 10.0));
    let text = plain[0].texts(products as usize + 10).pop().unwrap();
    let (sent, least) = (bytes(&mut client) - before, 4.0 * 10.0 * text.len() as f64);
    assert!((least..6.0 * least).contains(&sent), "{sent} bytes for 40 totals such as {text}");
    assert_eq!(Scrape::by(&mut client).value("ordercast_skipped_total"), 0.0);
    plain[1].send("{\"command\":\"update-category\",\"category\":\"electronics\"}");
    positioned.texts(1);
    drop((plain, positioned, events));
    wait_until(DEADLINE, "all have left", || subscribers(&mut client) == [0.0; 3]);
}

#[test]
fn rows_and_files_are_measured_and_pruned_rows_do_not_count() {
    let server = Server::builder().arg("--keep-orders").arg("5").start();
    let mut client = server.client();
    for number in 1..=12 {
        assert_eq!(order(&mut client, "A1", 1, &format!("key-{number}")), 200);
    }
    let rows = |client: &mut Client| {
        let scrape = Scrape::by(client);
        (scrape.find("ordercast_log_rows", &[]), scrape.find("ordercast_key_rows", &[]))
    };
    wait_until(DEADLINE, "the rows are measured", || rows(&mut client) == (Some(5.0), Some(12.0)));
    let log = client.get("/log");
    assert_eq!(log.text().lines().count(), 5);
    let size = |path: &str| fs::metadata(server.data().join(path)).expect("it is there").len() as f64;
    // Once no orders come, the log is moved into the data file.
    wait_until(DEADLINE, "the write-ahead log is empty", || size("ordercast.sqlite3-wal") == 0.0);
    wait_until(DEADLINE, "the sizes are those of the files", || {
        let scrape = Scrape::by(&mut client);
        scrape.value("ordercast_data_file_bytes") == size("ordercast.sqlite3")
            && scrape.value("ordercast_wal_bytes") == 0.0
    });
    let scrape = Scrape::by(&mut client);
    let (free, all) = (scrape.value("ordercast_data_file_free_bytes"), scrape.value("ordercast_data_file_bytes"));
    assert!(free < all && free % 4096.0 == 0.0, "{free} of {all}");
    let (free, all) = (scrape.value("ordercast_disk_free_bytes"), scrape.value("ordercast_disk_bytes"));
    assert!(0.0 < free && free < all, "{free} of {all}");
}

#[test]
fn the_age_of_the_last_backup_is_that_in_its_file_and_is_left_out_without_one() {
    let server = Server::start();
    let mut client = server.client();
    let age = |client: &mut Client| Scrape::by(client).find("ordercast_last_backup_age_seconds", &[]);
    assert_eq!(age(&mut client), None);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let file = server.data().join("last-backup");
    fs::write(&file, format!("{}\n", now - 3_600)).unwrap();
    let is_an_hour =
        |age: Option<f64>| age.is_some_and(|age| (3_600.0..3_600.0 + DEADLINE.as_secs_f64()).contains(&age));
    wait_until(DEADLINE, "the age is an hour", || is_an_hour(age(&mut client)));
    for content in [&b"soon\n"[..], b"", b"\xff", &b"1".repeat(1_000_000)] {
        fs::write(&file, format!("{}\n", now - 3_600)).unwrap();
        wait_until(DEADLINE, "the file is read again", || is_an_hour(age(&mut client)));
        fs::write(&file, content).unwrap();
        wait_until(DEADLINE, "there is no age", || age(&mut client).is_none());
    }
    // From the future, as after a clock was set back.
    fs::write(&file, format!("{}\n", now + 3_600)).unwrap();
    wait_until(DEADLINE, "the age is 0", || age(&mut client) == Some(0.0));
    client.order("A1", 1);
}

#[test]
fn no_client_can_add_a_line_or_a_label() {
    let server = Server::start();
    let mut client = server.client();
    let series = |client: &mut Client| {
        let scrape = Scrape::by(client);
        scrape.series.into_keys().collect::<BTreeSet<_>>()
    };
    client.order("A1", 1);
    let is_complete = |client: &mut Client| Scrape::by(client).types.contains_key("ordercast_log_rows");
    wait_until(DEADLINE, "the files are measured", || is_complete(&mut client));
    let before = series(&mut client);
    for request in [
        "GET /metrics/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "BREW /x{y=\"z\"} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /orders/evil\"name HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "GET /%22%7D%201%0a HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n",
        "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
    ] {
        let _ = crate::common::exchange(server.addr(), request);
    }
    assert_eq!(client.request("PUT", "/evil", &[JSON], b"{\"prefix\":\"E\"}").status, 201);
    assert_eq!(client.post("/evil", "{\"name\":\"x\"}").status, 200);
    assert_eq!(order(&mut client, "E1", 1, "ordercast_evil{x=\"y\"} 1"), 200);
    let mut session = WebSocket::open(server.addr(), "/orders/evil?since=");
    session.texts(1);
    assert_eq!(series(&mut client), before);
    assert_eq!(client.get("/metrics?x=1").status, 400);
    assert_eq!(client.post("/metrics", "{}").status, 405);
    let head = client.request("HEAD", "/metrics", &[], b"");
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
}

/// A scrape reads no table, so a long log makes it no slower, and orders are answered meanwhile.
#[test]
fn many_scrapes_at_once_are_answered_beside_orders() {
    const SCRAPERS: usize = 8;
    const EACH: usize = 50;
    let server = Server::start();
    let addr = server.addr();
    std::thread::scope(|scope| {
        for _ in 0..SCRAPERS {
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                for _ in 0..EACH {
                    Scrape::by(&mut client);
                }
            });
        }
        let mut poster = Client::connect(addr);
        for _ in 0..EACH {
            poster.order("A1", 1);
        }
    });
    let scrape = Scrape::of(&server);
    assert_eq!(scrape.value("ordercast_orders_total"), EACH as f64);
    assert_eq!(scrape.labelled("ordercast_responses_total", "code", "200"), (SCRAPERS * EACH + EACH) as f64);
    assert!(Duration::from_secs_f64(scrape.value("ordercast_last_commit_age_seconds")) < DEADLINE);
}
