//! The orders on standard input: `post -`.

use std::fs;
use std::io::BufReader;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::command::{Running, expect, killed_server, orders, post_file, post_input, url_of, with_server};
use crate::common::{Server, TempDir, ordercast, wait_until};
use crate::peer::{Peer, Request, answer};

/// What the products have at the start: A1 3, B1 101.
const START: [(&str, i64); 2] = [("A1", 3), ("B1", 101)];

/// How many orders of one piece each are counted.
fn counted(server: &Server) -> i64 {
    START.iter().map(|(id, start)| server.total(id) - start).sum()
}

#[test]
fn every_line_is_counted_and_nothing_is_printed() {
    let server = Server::start();
    let run = post_input(server.addr(), orders(2_500, &["A1", "B1"]), &[]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "", ""), "{run:?}");
    assert_eq!((server.total("A1"), server.total("B1")), (1_253, 1_351));
    // Their sequence is that of the lines, each under its own key.
    let log = server.client().get("/log?after=2499").text().to_owned();
    assert!(log.contains("\"key\":\"post-") && log.contains("-2500\""), "{log}");
    for nothing in ["", "\n \r\n"] {
        let run = post_input(server.addr(), nothing, &[]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    }
}

#[test]
fn amounts_and_keys_of_their_own_are_sent() {
    let server = Server::start();
    let key = "x".repeat(255);
    let mut input =
        "{\"id\":\"A1\",\"amount\":-2e0,\"key\":\"till \\\"7\\\"\"}\r\n\n{\"id\":\"A1\",\"amount\":5}".to_owned();
    // Requests of 64 KiB have fewer than 1,000 of these orders.
    for index in 0..1_500 {
        input += &format!("\n{{\"id\":\"B1\",\"amount\":1,\"key\":\"{index:04}{}\"}}", &key[4..]);
    }
    for _ in 0..2 {
        let run = post_input(server.addr(), &input, &["--key", "shift"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    }
    assert_eq!((server.total("A1"), server.total("B1")), (3 + 3, 1_601));
    let log = server.client().get("/log?limit=2");
    assert!(log.text().contains(r#""key":"till \"7\"""#) && log.text().contains(r#""key":"shift-3""#), "{log:?}");
}

#[test]
fn a_line_is_counted_while_the_input_is_still_open() {
    let server = Server::start();
    let url = url_of(server.addr());
    let mut command = Running::start(with_server(&["post", "-"], &url), Stdio::piped());
    for index in 1..=3 {
        command.write("{\"id\":\"A1\",\"amount\":1}\n");
        wait_until(Duration::from_secs(15), "the line is counted", || server.total("A1") == 3 + index);
    }
    // A line without an end is one when the input ends.
    command.write("{\"id\":\"A1\",\"amount\":1}");
    command.close();
    assert_eq!(command.finish().code, Some(0));
    assert_eq!(server.total("A1"), 7);
}

#[test]
fn every_line_is_counted_once_however_often_the_server_is_killed() {
    const ORDERS: i64 = 12_000;
    let mut server = Server::start();
    let folder = TempDir::new();
    let path = folder.write("orders", orders(ORDERS as usize, &["A1", "B1"]));
    let mut command = post_file(server.addr(), &path, &[]);
    for kill in 1..=3 {
        let start = Instant::now();
        // The totals are asked for only now and then, since a server that was killed has to read its file again.
        wait_until(Duration::from_secs(60), "a fourth is counted", || {
            std::thread::sleep(Duration::from_millis(2));
            counted(&server) >= ORDERS * kill / 4 || !command.is_running()
        });
        assert!(command.is_running(), "it ended after {:?}: {}", start.elapsed(), command.errors());
        server.restart_on_the_same_ports();
    }
    let run = command.finish();
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{run:?}");
    assert!(run.stderr.contains("trying again") && run.stderr.contains("answers again"), "{run:?}");
    assert_eq!(counted(&server), ORDERS);
}

#[test]
fn the_first_wrong_line_ends_it_and_those_before_are_counted() {
    let server = Server::start();
    let folder = TempDir::new();
    let long = format!("{{\"id\":\"A1\",\"amount\":1,\"note\":\"{}\"}}", "x".repeat(70_000));
    let binary = "\u{1b}[2J\u{0}\u{7}";
    for (round, (wrong, reason)) in (1..).zip([
        ("{\"id\":\"A9\",\"amount\":1}", "there is no product \"A9\""),
        ("{\"id\":\"A1\"}", "amount is missing"),
        ("A1 10", "not valid JSON"),
        (&long, "more than 65536 bytes"),
        (binary, "not valid JSON"),
        ("{\"id\":\"B1\",\"amount\":9007199254740991}", "range"),
    ]) {
        let lines = orders(1_200, &["A1"]);
        let input = format!("{lines}{wrong}\n{}", orders(10, &["B1"]));
        let run = post_input(server.addr(), &input, &["--key", &format!("round {round}")]);
        expect(&run, 1, &["line 1201: ", reason, "everything up to line 1200 is counted, and nothing behind it"]);
        assert!(run.stderr.contains(&format!("--key 'round {round}'")), "{run:?}");
        assert_eq!(server.totals()[0], ("A1".to_owned(), 3 + 1_200 * round), "{reason}");
        assert_eq!(server.total("B1"), 101, "{reason}");
        // The same input, corrected.
        let input = folder.write("corrected", input.replace(wrong, "{\"id\":\"A2\",\"amount\":1}"));
        let run = post_file(server.addr(), &input, &["--key", &format!("round {round}")]).finish();
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!((server.total("A1"), server.total("B1")), (3 + 1_200 * round, 101 + 10));
        let back = "{\"id\":\"B1\",\"amount\":-10}";
        assert_eq!(post_input(server.addr(), back, &[]).code, Some(0));
    }
    let run = post_input(server.addr(), b"\xff\xfe\x80", &[]);
    expect(&run, 1, &["line 1: ", "no line is counted"]);
}

#[test]
fn an_input_that_is_sent_again_under_its_prefix_is_counted_once() {
    const ORDERS: i64 = 5_000;
    let server = Server::start();
    let folder = TempDir::new();
    let path = folder.write("orders", orders(ORDERS as usize, &["A1", "B1"]));
    // The sender is killed.
    let command = post_file(server.addr(), &path, &["--key", "monday"]);
    wait_until(Duration::from_secs(30), "something is counted", || counted(&server) > 0);
    command.signal("KILL");
    assert_eq!(command.finish().code, None);
    for _ in 0..2 {
        let run = post_file(server.addr(), &path, &["--key", "monday"]).finish();
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(counted(&server), ORDERS);
    }
    // Under the same prefix another input is noticed.
    let run = post_input(server.addr(), "{\"id\":\"A1\",\"amount\":2}\n", &["--key", "monday"]);
    expect(&run, 1, &["line 1: ", "key was used for another order"]);
}

#[test]
fn an_interrupt_ends_it_behind_the_answer_and_says_what_is_counted() {
    let server = Server::start();
    let url = url_of(server.addr());
    let mut command = Running::start(with_server(&["post", "-"], &url), Stdio::piped());
    command.write(&orders(7, &["A1"]));
    wait_until(Duration::from_secs(15), "the lines are counted", || server.total("A1") == 10);
    command.signal("INT");
    // The end of the input would end it too.
    wait_until(Duration::from_secs(15), "it ends", || !command.is_running());
    let run = command.finish();
    expect(&run, 130, &["interrupted\nordercast: everything up to line 7 is counted, and", "to go on", "--key post-"]);
    assert!(!run.stderr.contains("not known"), "{run:?}");
}

#[test]
fn an_interrupt_while_the_server_is_away_ends_it_at_once() {
    let (_server, addr) = killed_server();
    let folder = TempDir::new();
    let command = post_file(addr, &folder.write("orders", orders(7, &["A1"])), &[]);
    command.wait_for_error("trying again");
    command.signal("TERM");
    expect(&command.finish(), 143, &["no line is counted\nordercast: to go on"]);
}

#[test]
fn a_second_interrupt_does_not_wait_for_the_answer() {
    // The peer takes the request and never answers. How many lines come with it depends on how fast they are read.
    let sent: &'static Mutex<Vec<usize>> = Box::leak(Box::default());
    let peer = Peer::start(|stream| {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            sent.lock().unwrap().push(request.body.lines().count());
        }
    });
    let folder = TempDir::new();
    let command = post_file(peer.addr, &folder.write("orders", orders(7, &["A1"])), &["--key", "k"]);
    wait_until(Duration::from_secs(15), "the request comes", || sent.lock().unwrap().len() == 1);
    command.signal("INT");
    command.wait_for_error("a second signal ends this at once");
    command.signal("INT");
    let run = command.finish();
    let [lines] = sent.lock().unwrap()[..] else { panic!("one request is sent: {sent:?}") };
    let unknown = format!("of the lines up to {lines} it is not known whether they are counted");
    expect(&run, 130, &[&unknown, "--key k:"]);
}

#[test]
fn a_server_that_takes_no_order_is_given_up_only_if_a_time_is_given() {
    let server = Server::builder().arg("--max-keys").arg("1000").start();
    let run = post_input(server.addr(), orders(1_500, &["A1"]), &["--timeout", "2"]);
    // How many come with the first request depends on how fast they are read.
    let counted = server.total("A1") - 3;
    let up_to = format!("everything up to line {counted} is counted");
    expect(&run, 3, &["--max-keys", "status 507", "given up after 2 s", &up_to]);
    assert!(counted <= 1_000, "{counted}");
    let (_server, addr) = killed_server();
    let run = post_input(addr, orders(1, &["A1"]), &["--timeout", "1"]);
    expect(&run, 3, &["trying again", "no line is counted"]);
}

#[test]
fn an_answer_to_other_orders_is_not_taken_for_this_one() {
    let (peer, _) = Peer::answering(vec![answer("200 OK", "", "{\"ok\":true,\"key\":\"another\"}\n")]);
    expect(&post_input(peer.addr, orders(1, &["A1"]), &[]), 1, &["not as an ordercast server"]);
}

#[test]
fn an_input_that_cannot_be_read_and_a_prefix_that_is_too_long_are_named() {
    let server = Server::start();
    let url = url_of(server.addr());
    let folder = TempDir::new();
    let input = fs::File::open(folder.path()).unwrap();
    let run = Running::start(with_server(&["post", "-"], &url), input.into()).finish();
    expect(&run, 1, &["standard input cannot be read behind line 0", "Is a directory"]);
    let run = ordercast(folder.path(), &["post", "-", "--key", &"x".repeat(235)], &[]);
    expect(&run, 2, &["--key has at most 234 bytes"]);
}
