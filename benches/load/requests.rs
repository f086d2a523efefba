//! Requests one after another over one connection that waits for each answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::answer;

/// The longest time to one answer: longer than any server may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of one read: some pages of a log are larger, and then read in parts.
const READ_BYTES: usize = 64 * 1024;

/// A connection.
pub struct Client {
    address: SocketAddr,
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Connects to the server at this address.
    pub fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).and_then(|stream| {
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let stream = stream.map_err(|error| format!("connecting to {address}: {error}"))?;
        Ok(Self { address, stream, request: Vec::new(), answer: Vec::new() })
    }

    /// The body at this path; an error unless its status is 200.
    pub fn get(&mut self, path: &str) -> Result<&[u8], String> {
        self.ask("GET", path, "", "")
    }

    /// Posts a body of this content type; an error unless the answer has status 200.
    pub fn post(&mut self, path: &str, content_type: &str, body: &str) -> Result<&[u8], String> {
        let length = body.len();
        self.ask("POST", path, &format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n"), body)
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<&[u8], String> {
        let fail = |error: std::io::Error| format!("{method} {path}: {error}");
        self.request.clear();
        write!(self.request, "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n{body}", self.address)
            .and_then(|()| self.stream.write_all(&self.request))
            .map_err(fail)?;
        self.answer.clear();
        let mut buffer = [0; READ_BYTES];
        loop {
            let count = self.stream.read(&mut buffer).map_err(fail)?;
            self.answer.extend(&buffer[..count]);
            match answer::is_whole_and_ok(&self.answer) {
                Some(true) => break,
                None if count > 0 => {}
                _ => return Err(format!("{method} {path}: wrong answer: {}", String::from_utf8_lossy(&self.answer))),
            }
        }
        Ok(&self.answer[answer::head_length(&self.answer).unwrap_or(0)..])
    }
}
