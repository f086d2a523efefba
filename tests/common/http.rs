//! An HTTP/1.1 client on a bare socket, which sends exactly the bytes that a test gives it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::DEADLINE;

/// A response, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of that name; names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether a header that is a comma-separated list contains this word.
    pub fn lists(&self, name: &str, word: &str) -> bool {
        (self.headers.iter())
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .flat_map(|(_, value)| value.split(','))
            .any(|found| found.trim().eq_ignore_ascii_case(word))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that this is a problem (RFC 9457) with the given status, and returns its `detail`.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        // One word does not tell what to do.
        assert!(detail.split_whitespace().count() >= 2, "{problem}");
        detail.to_owned()
    }

    /// Whether the server announces that it closes the connection after this response.
    pub fn says_close(&self) -> bool {
        let keeps = self.version != "HTTP/1.0" || self.lists("connection", "keep-alive");
        self.lists("connection", "close") || !keeps
    }
}

/// Sends bytes over a new connection and reads one response.
#[track_caller]
pub fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> Reply {
    let mut client = Client::connect(addr);
    client.write(request);
    client.reply()
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    host: String,
    /// Bytes that came after the last response.
    rest: Vec<u8>,
}

impl Client {
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).expect("the server accepts")
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Client { stream, host: addr.to_string(), rest: Vec::new() })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are. An error is ignored, because a server that has closed has sent a response before.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_write(bytes);
    }

    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Shuts down the sending side.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    /// Posts JSON.
    #[track_caller]
    pub fn post(&mut self, path: &str, json: impl AsRef<[u8]>) -> Reply {
        self.try_post(path, json).expect("the server answers")
    }

    pub fn try_post(&mut self, path: &str, json: impl AsRef<[u8]>) -> io::Result<Reply> {
        let headers = [("Content-Type", "application/json")];
        self.try_request("POST", path, &headers, json.as_ref())
    }

    /// Posts an order and expects exactly `{"ok":true}`.
    #[track_caller]
    pub fn order(&mut self, id: &str, amount: i64) {
        let reply = self.post(&format!("/orders/{id}"), format!("{{\"amount\":{amount}}}"));
        assert_eq!(reply.text(), "{\"ok\":true}");
        assert_eq!(reply.status, 200);
    }

    /// All totals, in the order of the list.
    #[track_caller]
    pub fn totals(&mut self) -> Vec<(String, i64)> {
        let list = self.get("/orders").json();
        let list = list.as_array().expect("an array").iter();
        list.map(|it| (it["id"].as_str().expect("an id").to_owned(), it["total"].as_i64().expect("an integer")))
            .collect()
    }

    /// The names of the listed categories, in their order.
    #[track_caller]
    pub fn categories(&mut self) -> Vec<String> {
        let list = self.get("/categories").json();
        let list = list.as_array().expect("an array").iter();
        list.map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// The total of one product.
    #[track_caller]
    pub fn total(&mut self, id: &str) -> i64 {
        let found = self.totals().into_iter().find(|(listed, _)| listed == id);
        found.expect("the product is listed").1
    }

    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_request(method, path, headers, body).expect("the server answers")
    }

    pub fn try_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("Host") {
            request += &format!("Host: {}\r\n", self.host);
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() && !has("Content-Length") && !has("Transfer-Encoding") {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        // A server that rejects a request may respond and close before it has read all of it.
        let written = self.try_write(request);
        let reply = self.try_reply(method != "HEAD");
        match written {
            Err(error) if reply.is_err() => Err(error),
            _ => reply,
        }
    }

    /// The next response.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply(true).expect("the server answers")
    }

    /// The next response; without a body after HEAD, whatever `Content-Length` says.
    pub fn try_reply(&mut self, has_body: bool) -> io::Result<Reply> {
        let end = loop {
            match find(&self.rest, b"\r\n\r\n") {
                Some(end) => break end,
                None => self.fill()?,
            }
        };
        let head: Vec<u8> = self.rest.drain(..end + 4).collect();
        let head = String::from_utf8(head).map_err(|_| broken("the head is not UTF-8"))?;
        let mut lines = head.trim_end().split("\r\n");
        let mut first = lines.next().unwrap_or_default().splitn(3, ' ');
        let version = first.next().unwrap_or_default().to_owned();
        let status = first.next().and_then(|status| status.parse().ok());
        let mut reply = Reply {
            version,
            status: status.ok_or_else(|| broken("no status"))?,
            headers: Vec::new(),
            body: Vec::new(),
        };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| broken(line))?;
            let header = (name.to_owned(), value.trim().to_owned());
            reply.headers.push(header);
        }
        if has_body && reply.status >= 200 && !matches!(reply.status, 204 | 304) {
            reply.body = self.body(&reply)?;
        }
        Ok(reply)
    }

    fn body(&mut self, reply: &Reply) -> io::Result<Vec<u8>> {
        if reply.lists("transfer-encoding", "chunked") {
            let mut body = Vec::new();
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(|_| broken(&line))?;
                let chunk = self.take(size + 2)?;
                if size == 0 {
                    return Ok(body);
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        match reply.header("content-length") {
            Some(length) => self.take(length.parse().map_err(|_| broken(length))?),
            None => loop {
                match self.fill() {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                        break Ok(std::mem::take(&mut self.rest));
                    }
                    Err(error) => break Err(error),
                }
            },
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let end = loop {
            match find(&self.rest, b"\r\n") {
                Some(end) => break end,
                None => self.fill()?,
            }
        };
        let line: Vec<u8> = self.rest.drain(..end + 2).collect();
        String::from_utf8(line).map_err(|_| broken("a line is not UTF-8"))
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < length {
            self.fill()?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    /// Waits for more bytes.
    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match super::read(&self.stream, &mut bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => {
                self.rest.extend_from_slice(&bytes[..length]);
                Ok(())
            }
        }
    }

    /// Whether the peer closes within `deadline` without sending another byte.
    pub fn is_closed_within(&mut self, deadline: Duration) -> bool {
        self.stream.set_read_timeout(Some(deadline)).expect("a deadline can be set");
        let result = self.fill();
        self.stream.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        match result {
            Ok(()) => false,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Checks that the response announces the close of the connection, and that the server closes it.
    #[track_caller]
    pub fn expect_close_after(&mut self, reply: &Reply) {
        assert!(reply.says_close(), "{reply:?}");
        assert!(self.is_closed_within(DEADLINE), "the connection stays open");
    }

    /// The socket, and the bytes that came after the last response.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.rest)
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed response: {what}"))
}
