//! The order log over HTTP: every order that counts, oldest first, page by page.

use crate::common::load::{pipeline_orders, spawn};
use crate::common::order_log::{self, Line, lines, next_page};
use crate::common::{Client, DEADLINE, Server, TempDir, ordercast, wait_until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

const STARTS: [(&str, i64); 3] = [("A1", 3), ("A2", 7), ("B1", 101)];

#[track_caller]
fn page(client: &mut Client, path: &str) -> (Vec<Line>, Option<String>) {
    let page = client.get(path);
    (lines(&page), next_page(&page))
}

fn seqs(lines: &[Line]) -> Vec<u64> {
    lines.iter().map(|line| line.seq).collect()
}

#[test]
fn an_empty_log_is_an_empty_page() {
    let server = Server::start();
    let reply = server.client().get("/log");
    assert_eq!((reply.status, reply.text(), reply.header("link")), (200, "", None));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
}

#[test]
fn every_order_that_counts_is_a_line_and_no_other_is() {
    let server = Server::start();
    let mut client = server.client();
    client.order("A1", 10);
    client.post("/orders/A1", "{\"amount\":1.5}").problem(422);
    client.post("/orders/A9", "{\"amount\":1}").problem(404);
    client.order("B1", -1);
    client.order("A1", 0);
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "till \\\"7\"")];
    for _ in 0..2 {
        assert_eq!(client.request("POST", "/orders/A2", &headers, b"{\"amount\":5}").status, 200);
    }
    let log = order_log::read_whole(server.addr(), &STARTS);
    let told: Vec<_> = log.iter().map(|it| (it.id.as_str(), it.amount, it.total, it.key.as_deref())).collect();
    let expected =
        [("A1", 10, 13, None), ("B1", -1, 100, None), ("A1", 0, 13, None), ("A2", 5, 12, Some("till \\\"7\""))];
    assert_eq!(told, expected);
}

#[test]
fn a_line_has_its_time_in_utc() {
    let server = Server::start();
    // The system time before and after the order, in whole seconds.
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let before = now();
    server.client().order("A1", 1);
    let after = now();
    let line = order_log::read_whole(server.addr(), &STARTS).remove(0);
    // 2026-01-31T12:00:00.000Z
    let shape: String = line.time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let number = |from: usize, to: usize| line.time[from..to].parse::<i64>().expect("digits");
    // Days since 1970 of a Gregorian date, by Howard Hinnant's algorithm.
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era_year = year.rem_euclid(400);
    let days = year.div_euclid(400) * 146_097 + era_year * 365 + era_year / 4 - era_year / 100 + day_of_year - 719_468;
    let told = days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    assert!((before..=after).contains(&(told as u64)), "{} is not between {before} and {after}", line.time);
}

#[test]
fn pages_are_as_long_as_asked_for_and_lead_to_the_next_while_they_are_full() {
    let server = Server::start();
    pipeline_orders(server.addr(), 5, 450);
    let mut client = server.client();
    let (first, next) = page(&mut client, "/log");
    assert_eq!((first.len(), next.as_deref()), (1_000, Some("/log?after=1000")));
    let (second, next) = page(&mut client, &next.unwrap());
    assert_eq!((second.len(), next.as_deref()), (1_000, Some("/log?after=2000")));
    let (third, next) = page(&mut client, &next.unwrap());
    assert_eq!((third.len(), next), (250, None));
    order_log::check(&[first, second, third].concat(), &STARTS);

    let (some, next) = page(&mut client, "/log?limit=3");
    assert_eq!((seqs(&some), next.as_deref()), (vec![1, 2, 3], Some("/log?after=3&limit=3")));
    let (some, next) = page(&mut client, &next.unwrap());
    assert_eq!((seqs(&some), next.as_deref()), (vec![4, 5, 6], Some("/log?after=6&limit=3")));
    let (some, next) = page(&mut client, "/log?limit=2&after=2247");
    assert_eq!((seqs(&some), next.as_deref()), (vec![2_248, 2_249], Some("/log?after=2249&limit=2")));
    let (some, next) = page(&mut client, "/log?after=2249&limit=2");
    assert_eq!((seqs(&some), next), (vec![2_250], None));
    // A page that is exactly full links to a next page, which is empty.
    let (some, next) = page(&mut client, "/log?after=2249&limit=1");
    assert_eq!((seqs(&some), next.as_deref()), (vec![2_250], Some("/log?after=2250&limit=1")));
    assert_eq!(page(&mut client, &next.unwrap()), (vec![], None));
    // A limit above the maximum is the maximum; behind the end of the log is an empty page.
    assert_eq!(page(&mut client, "/log?limit=9999").0.len(), 1_000);
    assert_eq!(page(&mut client, "/log?after=9223372036854775807"), (vec![], None));
}

#[test]
fn a_malformed_page_query_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    for query in [
        "after=",
        "after=x",
        "after=-1",
        "after=1.5",
        "after=9223372036854775808",
        "after=99999999999999999999999",
        "limit=0",
        "limit=",
        "limit=-5",
        "limit=ten",
    ] {
        let name = query.split('=').next().unwrap_or_default();
        let detail = client.get(&format!("/log?{query}")).problem(400);
        assert!(detail.contains(name), "{query}: {detail}");
    }
    let refused = client.post("/log", "{}");
    refused.problem(405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(client.get("/log/1").status, 404);
}

#[test]
fn a_head_request_for_a_page_gets_the_same_headers() {
    let server = Server::start();
    server.client().order("A1", 1);
    let mut client = server.client();
    let whole = client.get("/log?limit=1");
    let head = client.request("HEAD", "/log?limit=1", &[], b"");
    for name in ["content-type", "content-length", "link"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    assert!(head.body.is_empty());
    // The connection is still in step.
    client.order("A1", 1);
}

#[test]
fn an_order_is_in_the_log_as_soon_as_it_is_answered() {
    let server = Server::start();
    let addr = server.addr();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for poster in 0..6 {
            let done = &done;
            spawn(scope, move || {
                let mut client = Client::connect(addr);
                let mut last = 0;
                for number in 0..60 {
                    let key = format!("{poster}-{number}");
                    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
                    assert_eq!(client.request("POST", "/orders/A1", &headers, b"{\"amount\":1}").status, 200);
                    let behind = order_log::read_from(addr, last).expect("the log can be read");
                    let own = behind.iter().find(|line| line.key.as_deref() == Some(&key));
                    last = own.unwrap_or_else(|| panic!("{key} is answered and not in the log")).seq;
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        // Meanwhile every reader sees a log without gaps.
        spawn(scope, || {
            while !done.load(Ordering::Relaxed) {
                order_log::read_whole(addr, &STARTS);
            }
        });
    });
    assert_eq!(order_log::read_whole(addr, &STARTS).len(), 360);
}

#[test]
fn the_log_survives_a_kill() {
    let mut server = Server::start();
    pipeline_orders(server.addr(), 2, 100);
    let before = order_log::read_whole(server.addr(), &STARTS);
    server.restart();
    assert_eq!(order_log::read_whole(server.addr(), &STARTS), before);
    server.client().order("B1", 1);
    let after = order_log::read_whole(server.addr(), &STARTS);
    assert_eq!((&after[..200], after[200].seq, after.len()), (&before[..], 201, 201));
}

#[test]
fn a_log_with_a_bound_keeps_the_last_orders_and_every_total() {
    let mut server = Server::builder().arg("--keep-orders").arg("100").start();
    let addr = server.addr();
    pipeline_orders(addr, 4, 500);
    // Old orders are deleted by later commits.
    let kept = || order_log::read_from(addr, 0).expect("the log can be read");
    wait_until(DEADLINE, "the old orders are deleted", || {
        server.client().order("A1", 1);
        kept().len() <= 100
    });
    let log = kept();
    let last = log.last().expect("the last orders are kept").clone();
    assert_eq!(seqs(&log), (last.seq - 99..=last.seq).collect::<Vec<_>>(), "the last 100 are kept");
    assert_eq!(last.total, 3 + last.seq as i64, "every order counts, kept or not");
    assert_eq!(seqs(&order_log::read_from(addr, last.seq - 2).unwrap()), [last.seq - 1, last.seq]);
    server.restart();
    assert_eq!(order_log::read_from(server.addr(), 0).unwrap(), log);
    server.client().order("A1", 1);
    let totals = server.client().get("/orders/electronics").json();
    assert_eq!(totals[0]["total"], last.total + 1);
}

#[test]
fn an_invalid_bound_is_refused_at_the_start() {
    let folder = TempDir::new();
    for wrong in ["0", "-1", "many"] {
        let run = ordercast(folder.path(), &["--keep-orders", wrong], &[]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("--keep-orders"), "{run:?}");
    }
}

#[test]
fn the_probes_answer_that_orders_are_taken() {
    let server = Server::start();
    let mut client = server.client();
    for path in ["/healthz", "/readyz"] {
        let reply = client.get(path);
        assert_eq!((reply.status, reply.text()), (200, "{\"ok\":true}"), "{path}");
        assert_eq!(client.request("HEAD", path, &[], b"").status, 200);
        client.post(path, "{}").problem(405);
    }
}
