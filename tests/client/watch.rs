//! Totals in a pipe: `watch`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Running, expect, killed_server, run, url_of, with_server};
use crate::common::server::{BINARY, without_environment_twins};
use crate::common::{DEADLINE, Server};
use crate::peer::Peer;

#[track_caller]
fn start(server: &Server, words: &[&str]) -> Running {
    Running::start(with_server(words, &url_of(server.addr())), Stdio::null())
}

fn line(id: &str, total: i64) -> String {
    format!("{{\"id\":\"{id}\",\"total\":{total}}}")
}

#[test]
fn the_current_totals_come_first_and_then_a_line_a_change() {
    let server = Server::start();
    let (all, one) = (start(&server, &["watch"]), start(&server, &["watch", "confectionery"]));
    for (id, total) in server.totals() {
        assert_eq!(all.line(), line(&id, total));
    }
    assert_eq!(one.line(), line("B1", 101));
    let mut client = server.client();
    for total in 102..=110 {
        client.order("B1", 1);
        assert_eq!((one.line(), all.line()), (line("B1", total), line("B1", total)));
    }
    client.order("A1", -1);
    assert_eq!(all.line(), line("A1", 2));
    assert_eq!((all.errors(), one.errors()), (String::new(), String::new()));
}

#[test]
fn no_change_is_missed_or_repeated_however_often_the_server_is_killed() {
    let mut server = Server::start();
    let watch = start(&server, &["watch", "confectionery"]);
    let mut total = 101;
    assert_eq!(watch.line(), line("B1", total));
    for _ in 0..3 {
        for _ in 0..20 {
            server.client().order("B1", 1);
        }
        server.restart_on_the_same_ports();
        for _ in 0..20 {
            server.client().order("B1", 1);
        }
        for _ in 0..40 {
            total += 1;
            assert_eq!(watch.line(), line("B1", total));
        }
    }
    let errors = watch.errors();
    assert!(errors.contains("trying again") && errors.contains("connected again"), "{errors}");
}

#[test]
fn a_server_that_is_away_is_waited_for_or_given_up_after_the_time_that_is_given() {
    let (mut server, addr) = killed_server();
    let watch = start(&server, &["watch"]);
    let timed = start(&server, &["watch", "--timeout", "1"]);
    watch.wait_for_error("trying again");
    expect(&timed.finish(), 3, &["no connection to", "given up after 1 s"]);
    server.restart_on_the_same_ports();
    assert_eq!(watch.line(), line("A1", 3));
    // The time begins when the connection is lost.
    let timed = start(&server, &["watch", "--timeout", "1"]);
    timed.line();
    server.kill();
    let run = timed.finish();
    expect(&run, 3, &["given up after 1 s"]);
    assert!(run.stderr.matches('\n').count() <= 2, "{run:?}");
    assert_eq!(run_code(addr), Some(3));
}

fn run_code(addr: std::net::SocketAddr) -> Option<i32> {
    run(addr, &["watch", "electronics", "--timeout", "1"]).code
}

#[test]
fn an_orderly_stop_is_named_and_the_feed_goes_on_afterwards() {
    let mut server = Server::start();
    let watch = start(&server, &["watch", "confectionery"]);
    assert_eq!(watch.line(), line("B1", 101));
    server.terminate();
    watch.wait_for_error("(the server is shutting down); trying again");
    server.restart_on_the_same_ports();
    server.client().order("B1", 1);
    assert_eq!(watch.line(), line("B1", 102));
}

#[test]
fn the_end_of_the_outputs_reader_ends_it_quietly_even_without_an_order() {
    let server = Server::start();
    let url = url_of(server.addr());
    let mut shell = Command::new("sh");
    without_environment_twins(&mut shell);
    let script = "{ \"$0\" watch --server \"$1\"; echo code $? >&2; } | head -n 1";
    let start = Instant::now();
    let output = shell.arg("-c").arg(script).args([BINARY, &url]).output().expect("the shell runs");
    assert!(start.elapsed() < DEADLINE);
    assert_eq!(String::from_utf8_lossy(&output.stdout), line("A1", 3) + "\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "code 0\n");
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let server = Server::start();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(BINARY);
    without_environment_twins(&mut command);
    command.args(["watch", "--server", &url_of(server.addr())]).stdin(Stdio::null()).stdout(full);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("standard output cannot be written"), "{errors}");
}

#[test]
fn a_proxy_that_passes_on_no_upgrade_is_named() {
    let server = Server::start();
    // The head of a handshake without its upgrade: the server answers it as a request.
    let addr = server.addr();
    let peer = Peer::start(move |stream| {
        use std::io::{BufReader, Write};
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(request) = crate::peer::Request::read(&mut reader) {
            let path = request.line().split(' ').nth(1).unwrap().to_owned();
            let reply = crate::common::Client::connect(addr).get(&path);
            let answer = crate::peer::answer(&format!("{} x", reply.status), "", reply.text());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    expect(&run(peer.addr, &["watch"]), 1, &["does not open a WebSocket", "proxy"]);
    expect(&run(peer.addr, &["watch", "toys"]), 1, &["there is no category \"toys\""]);
}

#[test]
fn a_message_of_any_kind_is_no_reason_to_fail() {
    // 101 with the accept key cannot be made without SHA-1 here, so the messages come through the real server's handshake.
    let server = Server::start();
    let frame = |text: &str| [&[0x81, text.len() as u8], text.as_bytes()].concat();
    let odd =
        [frame("[]"), frame("{\"id\":7,\"total\":1}"), frame("{\"news\":\"later version\"}"), vec![0x8a, 0]].concat();
    let relay = Peer::relay(server.addr(), move |part| {
        if part.windows(4).any(|bytes| bytes == b" 101") {
            let end = part.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
            part.splice(end..end, odd.clone());
        }
    });
    let watch = Running::start(with_server(&["watch", "confectionery"], &url_of(relay.addr)), Stdio::null());
    assert_eq!(watch.line(), line("B1", 101));
    server.client().order("B1", 1);
    assert_eq!(watch.line(), line("B1", 102));
    assert_eq!(watch.errors(), "");
    assert!(watch.lines.recv_timeout(Duration::from_millis(1)).is_err());
}
