//! One order: `post ID AMOUNT`.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::command::{Running, expect, killed_server, run, url_of, with_server};
use crate::common::{Finished, Server, TempDir, ordercast};
use crate::peer::{Peer, answer, ok};

#[track_caller]
fn expect_ok(run: &Finished) {
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "{\"ok\":true}\n", ""), "{run:?}");
}

#[test]
fn an_order_is_counted_and_the_answer_is_printed() {
    let server = Server::start();
    expect_ok(&run(server.addr(), &["post", "A1", "10"]));
    expect_ok(&run(server.addr(), &["post", "A1", "-3"]));
    expect_ok(&run(server.addr(), &["post", "A1", "1e1", "--timeout", "5"]));
    assert_eq!(server.total("A1"), 3 + 17);
    // Two runs under one key are one order.
    for _ in 0..2 {
        expect_ok(&run(server.addr(), &["post", "--key", "till 7 'x' ä", "B1", "1"]));
    }
    assert_eq!(server.total("B1"), 102);
    let log = server.client().get("/log");
    assert!(log.text().contains("\"key\":\"till 7 'x' ä\""), "{}", log.text());
}

#[test]
fn the_server_may_come_from_the_environment_and_have_a_base_path() {
    let server = Server::start();
    let url = url_of(server.addr());
    let folder = TempDir::new();
    expect_ok(&ordercast(folder.path(), &["post", "A1", "1"], &[("ORDERCAST_SERVER", &url)]));
    assert_eq!(server.total("A1"), 4);
    let (peer, requests) = Peer::answering(vec![ok()]);
    let url = format!("{}/shop/", url_of(peer.addr));
    expect_ok(&ordercast(folder.path(), &["post", "A1", "-7", "--server", &url], &[("ORDERCAST_KEY", "k")]));
    let request = requests.lock().unwrap()[0].clone();
    assert_eq!(request.line(), "POST /shop/orders/A1 HTTP/1.1");
    assert_eq!(request.body, "{\"amount\":-7,\"key\":\"k\"}");
    // A proxy for the web is not used: nothing listens there.
    let proxy = [("http_proxy", "http://127.0.0.1:1"), ("ORDERCAST_SERVER", &url)];
    expect_ok(&ordercast(folder.path(), &["post", "A1", "1"], &proxy));
}

#[test]
fn wrong_usage_is_named_with_exit_code_2() {
    let folder = TempDir::new();
    for (args, words) in [
        (&["post"][..], &["post A1 10"][..]),
        (&["post", "A1"], &["post A1 10"]),
        (&["post", "A1", "1", "2"], &["unknown argument \"2\""]),
        (&["post", "A1", "ten"], &["ten", "a whole number"]),
        (&["post", "A1", "1.5"], &["1.5", "whole number"]),
        (&["post", "A1", "-9007199254740992"], &["must lie between"]),
        (&["post", "a/b", "1"], &["a/b", "product's id"]),
        (&["post", "A1", "1", "--key", ""], &["--key"]),
        (&["post", "A1", "1", "--timeout", "0"], &["--timeout 0", "seconds"]),
        (&["post", "A1", "1", "--data", "x"], &["--data"]),
        (&["post", "A1", "1", "--server", "https://box.lan"], &["no TLS", "proxy", "curl"]),
        (&["post", "A1", "1", "--server", "box.lan:3000"], &["http://127.0.0.1:3000"]),
        (&["watch", "a", "b"], &["unknown argument \"b\""]),
        (&["watch", "a/b"], &["a/b", "category's name"]),
        (&["watch", "--key", "x"], &["--key"]),
        (&["serve", "--server", "http://box.lan"], &["--server"]),
    ] {
        expect(&ordercast(folder.path(), args, &[]), 2, words);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn without_a_server_it_gives_up_in_time_and_says_how_to_go_on() {
    let (_server, addr) = killed_server();
    let start = Instant::now();
    let folder = TempDir::new();
    let file = folder.write("my tokens", "0123456789abcdef\n");
    let file = file.to_str().expect("UTF-8");
    let run = run(addr, &["post", "A1", "-10", "--timeout", "1", "--token-file", file]);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let again = format!(" --server http://{addr} --token-file '{file}'\n");
    expect(
        &run,
        3,
        &[
            "trying again",
            "given up after 1 s",
            "the order is not counted",
            "ordercast post A1 -10 --key post-",
            &again,
        ],
    );
    assert_eq!(run.stdout, "");
}

#[test]
fn an_order_waits_for_its_server_and_is_counted_once() {
    let (mut server, addr) = killed_server();
    let command = Running::start(with_server(&["post", "A1", "10"], &url_of(addr)), Stdio::null());
    command.wait_for_error("trying again");
    server.restart_on_the_same_ports();
    let run = command.finish();
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "{\"ok\":true}\n"), "{run:?}");
    assert_eq!(server.total("A1"), 13);
}

#[test]
fn an_order_whose_answer_is_lost_is_sent_again_under_its_key() {
    let server = Server::start();
    let answers = AtomicUsize::new(0);
    // The first two answers do not arrive.
    let relay = Peer::relay(server.addr(), move |part| {
        if answers.fetch_add(1, Ordering::Relaxed) < 2 {
            part.clear();
        }
    });
    let run = run(relay.addr, &["post", "A1", "10"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("trying again for 30 s, under the key post-"), "{run:?}");
    assert_eq!(server.total("A1"), 13);
}

#[test]
fn answers_that_may_change_are_waited_for_as_long_as_they_ask() {
    let problem = |status: &str, after: u32| {
        let body = format!("{{\"title\":\"x\",\"status\":{},\"detail\":\"a \\u001b[2J reason\"}}", &status[..3]);
        answer(status, &format!("Content-Type: application/problem+json\r\nRetry-After: {after}\r\n"), &body)
    };
    let (peer, requests) = Peer::answering(vec![
        problem("507 Insufficient Storage", 1),
        answer("429 Too Many Requests", "Retry-After: soon\r\n", ""),
        String::new(),
        problem("503 Service Unavailable", 1),
        answer("502 Bad Gateway", "Retry-After: 0\r\n", "<html>"),
        problem("500 Internal Server Error", 0),
        ok(),
    ]);
    let start = Instant::now();
    let run = run(peer.addr, &["post", "A1", "10"]);
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "{\"ok\":true}\n"), "{run:?}");
    assert!(run.stderr.contains("a \u{fffd}[2J reason (status 507)"), "{run:?}");
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 7);
    assert!(requests.iter().all(|request| request.body == requests[0].body), "{requests:?}");
}

#[test]
fn a_refusal_after_a_lost_answer_says_that_the_order_may_count() {
    let (peer, _requests) = Peer::answering(vec![String::new(), answer("404 Not Found", "", "")]);
    let run = run(peer.addr, &["post", "A1", "10"]);
    expect(&run, 1, &["404", "whether an attempt before it counts is not known", "ordercast post A1 10 --key post-"]);
}

#[test]
fn a_server_that_does_not_answer_does_not_hold_it() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\""] {
        let peer = Peer::sending(bytes.to_vec());
        let start = Instant::now();
        let run = run(peer.addr, &["post", "A1", "10", "--timeout", "1"]);
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        expect(&run, 3, &["given up after 1 s", "whether the order counts is not known", "--key post-"]);
    }
}
