//! Asks a server for its metrics while it is under load, as Prometheus does, only more often.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The time between two scrapes: 1 s, a fifteenth of what is usual.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The scrapes of one run.
pub struct Scrapes {
    address: SocketAddr,
    last: Option<Instant>,
}

impl Scrapes {
    /// Scrapes of the server at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, last: None }
    }

    /// Asks for the metrics and reads them, if it is time. A server without metrics answers 404, which is no error.
    pub fn scrape_if_due(&mut self) -> io::Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        let mut stream = TcpStream::connect_timeout(&self.address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.1 404") {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
    }
}
