//! Requests that two readers could read differently, and the check that this server reads them not at all.

mod bodies;
mod chunks;
mod heads;
mod targets;

use crate::common::{Client, DEADLINE, Server};
use std::time::{Duration, Instant};

/// What an attacker would hide behind a request: a whole order, pipelined. It must never be counted.
pub const SMUGGLED: &str = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 12\r\n\r\n{\"amount\":1}";
/// How soon a valid request on a connection of its own is answered while a bad one is refused.
const PROMPT: Duration = Duration::from_millis(100);
/// How often the valid request is measured before it counts as slow. The scheduler of a busy machine may hold any of
/// them back for longer than that, and several in a row; a server that is held up by the bad request holds up each.
const ATTEMPTS: usize = 20;

/// A request that is refused.
#[derive(Debug)]
pub struct Shape {
    bytes: Vec<u8>,
    /// With one of these.
    statuses: &'static [u16],
}

impl Shape {
    pub fn new(bytes: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Shape {
        Shape { bytes: bytes.into(), statuses }
    }

    /// Sends it with an order hidden behind it, and a valid request right after on another connection. Returns how
    /// long the valid one took, and what is wrong.
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
                Some(format!("refused without a word: {reply:?}"))
            }
            (_, Ok(reply)) if !reply.says_close() => Some(format!("refused with {}, but not closed", reply.status)),
            (_, Ok(_)) if !bad.is_closed_within(DEADLINE) => Some("something follows the refusal".to_owned()),
            (_, Ok(_)) => None,
        };
        (took, wrong)
    }
}

/// Every shape is refused and its connection closed, nothing behind it is counted, and meanwhile whoever sends a valid
/// request is answered promptly.
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

/// As much of the request as tells which one it is.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(240)]).into_owned()
}
