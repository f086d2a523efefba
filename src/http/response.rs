//! Answers, and their way to bytes. Owns which headers every answer carries; tiny_http's `Response` does the printing.

use std::borrow::Cow;
use std::sync::Arc;

use tiny_http::{HTTPVersion, Header, Response, StatusCode};

use super::handshake::Handshake;

/// The media type of every JSON answer.
pub const JSON: &str = "application/json";
/// The media type of problem details (RFC 9457, section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How long a client should wait before it tries again what was refused for a passing reason, in seconds.
pub const RETRY_AFTER_SECONDS: &str = "1";

/// Room for most heads.
const HEAD_BYTES: usize = 256;

/// What the `Server` line says.
const NAME: &str = "ordercast";

/// An answer's body.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes of the binary.
    Static(&'static [u8]),
    /// Bytes made for this answer.
    Owned(Vec<u8>),
    /// Bytes that many answers share.
    Shared(Arc<[u8]>),
}

impl Body {
    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// An answer to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    body: Body,
    is_endless: bool,
}

impl Answer {
    /// An answer with a body of the given media type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: Body) -> Self {
        Self { status, headers: vec![("Content-Type", Cow::Borrowed(content_type))], body, is_endless: false }
    }

    /// A JSON answer with status 200.
    #[must_use]
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, JSON, Body::Owned(body.into())).with("Cache-Control", "no-store")
    }

    /// A JSON answer with status 200, from bytes that several answers share.
    #[must_use]
    pub fn shared_json(body: Arc<[u8]>) -> Self {
        Self::new(200, JSON, Body::Shared(body)).with("Cache-Control", "no-store")
    }

    /// An answer without a body. Not for 204: its `Content-Length` would not be allowed (RFC 9110, section 8.6).
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Static(b""), is_endless: false }
    }

    /// The same answer with one more header line. A value that is no printable ASCII is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same answer without a length: it ends with its connection (RFC 9112, section 6.3, item 8), and what follows the head
    /// is up to the caller.
    #[must_use]
    pub fn endless(mut self) -> Self {
        self.is_endless = true;
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, which a 304 or an answer to HEAD does not send.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Prints head and body as the answer to an HTTP/1.1 request on a connection that goes on.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        let mut printed = self.head(HTTPVersion(1, 1), None);
        printed.extend_from_slice(self.body.bytes());
        printed
    }

    /// Prints the head. The body follows unless the request was a HEAD or the status is 304.
    #[must_use]
    pub fn head(&self, version: HTTPVersion, connection: Option<&'static str>) -> Vec<u8> {
        let mut headers = Vec::with_capacity(self.headers.len() + 2);
        for (name, value) in [("Server", NAME), ("X-Content-Type-Options", "nosniff")]
            .into_iter()
            .chain(self.headers.iter().map(|(name, value)| (*name, value.as_ref())))
        {
            // tiny_http would take line ends in a value for part of it.
            let is_text = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if let (true, Ok(header)) = (is_text, Header::from_bytes(name, value)) {
                headers.push(header);
            }
        }
        let length = self.body.bytes().len();
        let response = Response::new(StatusCode(self.status), headers, std::io::empty(), Some(length), None)
            .with_chunked_threshold(usize::MAX);
        // tiny_http drops this line too; who sends it lists it as a connection option (RFC 9110, section 7.8).
        let upgrade = self.headers.iter().find(|(name, _)| *name == "Upgrade");
        let connection = match (upgrade, connection) {
            (None, connection) => connection,
            (Some(_), Some("close")) => Some("close, upgrade"),
            (Some(_), _) => Some("upgrade"),
        };
        let mut head = print(response, version, connection);
        if let Some((name, value)) = upgrade {
            insert_line(&mut head, name, value);
        }
        if self.is_endless {
            // tiny_http prints one whatever it is told.
            const LENGTH: &[u8] = b"Content-Length: 0\r\n";
            if let Some(at) = head.windows(LENGTH.len()).position(|line| line == LENGTH) {
                head.drain(at..at + LENGTH.len());
            }
        }
        head
    }
}

/// The same answer, readable for the page that asked (CORS, Fetch standard section 3.2).
#[must_use]
pub fn share(answer: Answer, origin: Option<String>) -> Answer {
    match origin {
        Some(origin) => answer.with("Access-Control-Allow-Origin", origin).with("Vary", "Origin"),
        None => answer,
    }
}

/// The head of the answer to a WebSocket handshake (RFC 6455, section 4.2.2).
///
/// Not printed by tiny_http: its headers are some twenty small allocations, which the allocator keeps for the thread when
/// they are freed, so that each session would have 1.3 KB of them as long as it lives. There is no `Date` line, which
/// RFC 9110, section 6.6.1, leaves to the server in answers such as this one.
#[must_use]
pub fn switching_protocols(handshake: &Handshake) -> Vec<u8> {
    let mut head = String::with_capacity(HEAD_BYTES);
    head.push_str("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n");
    let accept_key = tungstenite::handshake::derive_accept_key(handshake.key.as_bytes());
    let lines = [
        Some(("Server", NAME)),
        Some(("Sec-WebSocket-Accept", &accept_key)),
        handshake.protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol)),
    ];
    for (name, value) in lines.into_iter().flatten() {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn print(response: Response<std::io::Empty>, version: HTTPVersion, connection: Option<&str>) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    // Writing to a Vec does not fail.
    let _ = response.raw_print(&mut head, version, &[], true, None);
    if let Some(value) = connection {
        insert_line(&mut head, "Connection", value);
    }
    head
}

/// tiny_http drops a `Connection` line that is set on a response, so it goes in behind the status line.
// Not inlined: it would make the frame larger from which tiny_http prints (see ARCHITECTURE.md on stacks).
#[inline(never)]
fn insert_line(head: &mut Vec<u8>, name: &str, value: &str) {
    if let Some(at) = head.windows(2).position(|pair| pair == b"\r\n") {
        let line = format!("\r\n{name}: {value}");
        head.splice(at..at, line.bytes());
    }
}

/// A refusal, answered as problem details (RFC 9457): the detail says what to do.
#[derive(Debug, Clone)]
pub struct Problem {
    status: u16,
    detail: Cow<'static, str>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Problem {
    /// A refusal with this status code.
    #[must_use]
    pub fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// 503 for a request that came too late.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(503, "the server is shutting down; nothing was counted, try again")
            .with("Retry-After", RETRY_AFTER_SECONDS)
    }

    /// 413 for a body beyond the bound.
    #[must_use]
    pub fn body_too_large() -> Self {
        let limit = super::request::MAX_BODY_BYTES;
        Self::new(413, format!("the body is too large; send at most {limit} bytes"))
    }

    /// 431 for a head beyond its bounds.
    #[must_use]
    pub fn head_too_large() -> Self {
        let (bytes, lines) = (super::request::MAX_HEAD_BYTES, super::request::MAX_HEADERS);
        Self::new(431, format!("the request head is too large; send at most {bytes} bytes and {lines} header lines"))
    }

    /// The same refusal with one more header line.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The answer, whose body `encode` makes of status, title and detail.
    #[must_use]
    pub fn answer(&self, encode: impl FnOnce(u16, &str, &str) -> String) -> Answer {
        let title = StatusCode(self.status).default_reason_phrase();
        let body = Body::Owned(encode(self.status, title, &self.detail).into_bytes());
        let mut answer = Answer::new(self.status, PROBLEM_JSON, body);
        answer.headers.extend(self.headers.iter().cloned());
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(head: &[u8]) -> String {
        String::from_utf8(head.to_vec()).unwrap()
    }

    #[test]
    fn a_head_has_its_length_and_the_connection_line_that_tiny_http_drops() {
        let head = text(&Answer::json("{}").head(HTTPVersion(1, 1), Some("close")));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 2\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(!text(&Answer::json("{}").head(HTTPVersion(1, 1), None)).contains("Connection"));
    }

    #[test]
    fn an_endless_answer_has_no_length_and_ends_with_its_connection() {
        let head = text(
            &Answer::empty(200)
                .endless()
                .with("Content-Type", "text/event-stream")
                .head(HTTPVersion(1, 1), Some("close")),
        );
        assert!(head.contains("Connection: close\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(!head.contains("Content-Length") && !head.contains("Transfer-Encoding"), "{head}");
    }

    #[test]
    fn a_large_body_is_not_chunked() {
        let answer = Answer::new(200, JSON, Body::Owned(vec![b' '; 1_000_000]));
        assert!(text(&answer.head(HTTPVersion(1, 1), None)).contains("Content-Length: 1000000\r\n"));
    }

    #[test]
    fn a_header_value_cannot_break_out_of_its_line() {
        let head = text(&Answer::empty(200).with("X-Test", "a\r\nX-Evil: b").head(HTTPVersion(1, 1), None));
        assert!(!head.contains("\r\nX-Evil"), "{head}");
    }

    #[test]
    fn the_handshake_ends_without_a_length() {
        // The example of RFC 6455, section 1.3.
        let mut handshake = Handshake { key: "dGhlIHNhbXBsZSBub25jZQ==".into(), protocol: None };
        let head = text(&switching_protocols(&handshake));
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"));
        assert!(
            head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") && !head.contains("Content-Length"),
            "{head}"
        );
        assert!(!head.contains("Protocol:"), "{head}");
        handshake.protocol = Some("bearer");
        assert!(text(&switching_protocols(&handshake)).contains("\r\nSec-WebSocket-Protocol: bearer\r\n"));
    }

    #[test]
    fn a_problem_tells_its_own_status() {
        let problem = Problem::new(405, "use GET").with("Allow", "GET");
        let answer = problem.answer(|status, title, detail| format!("{status} {title} {detail}"));
        assert_eq!(answer.body().bytes(), b"405 Method Not Allowed use GET");
        assert!(text(&answer.head(HTTPVersion(1, 1), None)).contains("Allow: GET\r\n"));
    }
}
