//! Feeds with `status=true`, read as bytes: what a node says of itself, and when.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::positions::events_head;
use crate::common::websocket::UPGRADE;
use crate::common::{Client, DEADLINE, Form, Server, read};

/// How soon a node has to say that the database is away.
pub const STALE_WITHIN: Duration = Duration::from_secs(2);

/// A feed whose bytes are searched for texts. Those of a WebSocket's server are not masked.
#[derive(Debug)]
pub struct Told {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// What was searched already.
    seen: usize,
}

impl Told {
    /// Opens a feed of electronics, and waits for its first status and both totals.
    #[track_caller]
    pub fn open(form: Form, addr: SocketAddr, status: &str) -> Told {
        let mut client = Client::connect(addr);
        let path = "/orders/electronics?status=true";
        let reply = match form {
            Form::WebSocket => client.request("GET", path, &UPGRADE, b""),
            Form::Events => events_head(&mut client, path, None).expect("the node answers"),
        };
        assert!(matches!(reply.status, 101 | 200), "{reply:?}");
        let (stream, bytes) = client.into_parts();
        let mut told = Told { stream, bytes, seen: 0 };
        told.until(&format!("\"status\":\"{status}\""), DEADLINE);
        told.until("\"id\":\"A1\"", DEADLINE);
        told.until("\"id\":\"A2\"", DEADLINE);
        told
    }

    /// Reads on behind this text.
    #[track_caller]
    pub fn until(&mut self, text: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        loop {
            let unseen = &self.bytes[self.seen..];
            if let Some(place) = unseen.windows(text.len()).position(|bytes| bytes == text.as_bytes()) {
                self.seen += place + text.len();
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            let unseen = String::from_utf8_lossy(unseen);
            assert!(!left.is_zero(), "no {text} within {deadline:?} in {unseen:?}");
            self.stream.set_read_timeout(Some(left)).expect("a deadline can be set");
            let mut chunk = [0; 4096];
            match read(&self.stream, &mut chunk) {
                Ok(0) => panic!("the feed ended before {text}: {unseen:?}"),
                Ok(length) => self.bytes.extend_from_slice(&chunk[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("the feed ended before {text}: {error}"),
            }
        }
    }

    #[track_caller]
    pub fn until_stale(&mut self, deadline: Duration) {
        self.until("\"status\":\"stale\"", deadline);
    }

    #[track_caller]
    pub fn until_live(&mut self, deadline: Duration) {
        self.until("\"status\":\"live\"", deadline);
    }
}

/// Both forms of feeds on every node.
pub fn told_by(nodes: &[Server]) -> Vec<Told> {
    let forms = [Form::WebSocket, Form::Events];
    nodes.iter().flat_map(|node| forms.map(|form| Told::open(form, node.addr(), "live"))).collect()
}

/// Waits until every feed has said that the database is away; returns how long the last one took since `begun`.
#[track_caller]
pub fn all_stale(told: &mut [Told], begun: Instant) -> Duration {
    told.iter_mut().for_each(|feed| feed.until_stale(DEADLINE));
    let took = begun.elapsed();
    println!("stale after {} ms", took.as_millis());
    assert!(took <= STALE_WITHIN, "stale after {took:?}");
    took
}
