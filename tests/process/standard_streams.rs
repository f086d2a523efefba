//! The server works even if nothing reads its standard output and standard error.

use crate::common::{DEADLINE, Server, wait_until};
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::process;
use std::time::{Duration, Instant};

/// How often a repeated event is logged.
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_server_whose_standard_output_is_closed_still_serves() {
    let (stdout, reader) = UnixStream::pair().expect("a pair of sockets");
    drop(reader);
    // A loopback address that only this process uses, so its port is free.
    let [_, high, middle, low] = process::id().to_be_bytes();
    let addr = format!("127.{}.{middle}.{low}:47013", 64 + high);
    let mut server = Server::builder().listen(&addr).stdout(stdout).start();
    server.client().order("A1", 1);
    assert!(server.is_running());
    assert_eq!(server.terminate().code(), Some(0));
}

/// The server logs at the start, because few descriptors lower the cap on connections, and when the first commit fails.
/// The buffer of standard error is full, so it takes neither line.
#[test]
fn a_standard_error_that_is_not_read_delays_nothing() {
    let (stderr, _never_read) = UnixStream::pair().expect("a pair of sockets");
    fill(&stderr);
    let mut server = Server::builder().shell("ulimit -n 64; trap '' XFSZ; ulimit -S -f 1024").stderr(stderr).start();
    let mut client = server.client();
    let mut taken = 0;
    let refused = loop {
        let reply = client.post("/orders/A1", "{\"amount\":1}");
        if reply.status != 200 {
            break reply;
        }
        taken += 1;
    };
    refused.problem(503);
    client.post("/orders/A1", "{\"amount\":1}").problem(503);
    assert_eq!(client.total("A1"), 3 + taken);
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "only after {:?}", start.elapsed());
}

/// Writes until the buffer of the stream is full.
fn fill(mut stream: &UnixStream) {
    stream.set_nonblocking(true).expect("a mode can be set");
    // To the last byte, so that even a short line does not fit.
    for piece in [&[b'x'; 4096][..], b"x"] {
        let error = loop {
            if let Err(error) = stream.write(piece) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    stream.set_nonblocking(false).expect("a mode can be set");
}

/// The sum comes without a further request.
#[test]
fn rejected_origins_are_logged_once_and_summed_up_a_minute_later() {
    let server = Server::start();
    let headers = [("Host", "localhost:3000"), ("Origin", "http://evil.example")];
    let mut client = server.client();
    for _ in 0..8 {
        client.request("GET", "/electronics", &headers, b"").problem(403);
    }
    wait_until(MINUTE + DEADLINE, "the sum is logged", || server.log().contains("7 requests were rejected"));
    assert_eq!(server.log().matches("rejected").count(), 2, "{}", server.log());
    wait_until(DEADLINE, "the statuses are logged", || server.log().contains("refused in the last minute: 403 ×8"));
    assert_eq!(server.log().matches("refused").count(), 1, "{}", server.log());
}
