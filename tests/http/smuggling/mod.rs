//! Requests that two parsers could read differently. Each is rejected, a request hidden behind it is not read, and
//! other clients do not wait.

mod bodies;
mod chunks;
mod heads;
mod targets;

use crate::common::{Client, DEADLINE, Server};
use std::time::{Duration, Instant};

/// A pipelined order that an attacker hides behind a request. It must never be counted.
pub const SMUGGLED: &str = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 12\r\n\r\n{\"amount\":1}";
/// The time within which a valid request on another connection is answered while a bad one is rejected.
const PROMPT: Duration = Duration::from_millis(100);
/// The valid request counts as slow if it is slow this many times. On a busy machine the scheduler may delay several in
/// a row; a server that the bad request delays would delay each.
const ATTEMPTS: usize = 20;

/// A request that must be rejected.
#[derive(Debug)]
pub struct Shape {
    bytes: Vec<u8>,
    /// One of these statuses is expected.
    statuses: &'static [u16],
}

impl Shape {
    pub fn new(bytes: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Shape {
        Shape { bytes: bytes.into(), statuses }
    }

    /// Sends it with an order hidden behind it, and then a valid request over another connection. Returns how long the
    /// valid one took, and what is wrong.
    fn send(&self, server: &Server) -> (Duration, Option<String>) {
        let mut bad = server.client();
        bad.write([&self.bytes, SMUGGLED.as_bytes()].concat());
        let start = Instant::now();
        let valid = Client::try_connect(server.addr())
            .and_then(|mut client| client.try_request("GET", "/orders/electronics", &[("Connection", "close")], b""));
        let took = start.elapsed();
        let wrong = match (valid, bad.try_reply(true)) {
            (Err(error), _) => Some(format!("the valid request was not answered: {error}")),
            (Ok(valid), _) if valid.status != 200 => Some(format!("the valid request was answered {}", valid.status)),
            (_, Err(error)) => Some(format!("not answered: {error}")),
            (_, Ok(reply)) if !self.statuses.contains(&reply.status) => {
                Some(format!("answered {}: {}", reply.status, String::from_utf8_lossy(&reply.body)))
            }
            (_, Ok(reply)) if reply.header("content-type") != Some("application/problem+json") => {
                Some(format!("rejected without a problem: {reply:?}"))
            }
            (_, Ok(reply)) if !reply.says_close() => Some(format!("rejected with {}, but not closed", reply.status)),
            (_, Ok(_)) if !bad.is_closed_within(DEADLINE) => Some("bytes follow the rejection".to_owned()),
            (_, Ok(_)) => None,
        };
        (took, wrong)
    }
}

/// Checks that every shape is rejected and its connection closed, that nothing behind it is counted, and that valid
/// requests are answered promptly meanwhile.
#[track_caller]
pub fn expect_all_refused(what: &str, shapes: &[Shape]) {
    let server = Server::start();
    let mut wrong = Vec::new();
    let mut slowest = Duration::ZERO;
    for shape in shapes {
        let mut best = Duration::MAX;
        for _ in 0..ATTEMPTS {
            let (took, found) = shape.send(&server);
            best = best.min(took);
            if let Some(found) = found {
                wrong.push(format!("{:?}: {found}", shown(&shape.bytes)));
                break;
            }
            if best < PROMPT {
                break;
            }
        }
        if best >= PROMPT {
            wrong.push(format!("{:?}: a valid request beside it took {best:?}", shown(&shape.bytes)));
        }
        slowest = slowest.max(best);
    }
    let total = server.total("A1");
    println!("{what}: {} shapes; slowest valid request beside them {slowest:?}", shapes.len());
    assert!(
        wrong.is_empty(),
        "{} of {} shapes, slowest valid request {slowest:?}:\n{}",
        wrong.len(),
        shapes.len(),
        wrong.join("\n")
    );
    assert_eq!(total, 3, "a smuggled order was counted");
}

/// The start of the request, to identify it.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(240)]).into_owned()
}
