//! Answers, and the header lines that every answer has. Printed by tiny_http's `Response`.

use std::borrow::Cow;
use std::sync::Arc;

use tiny_http::{HTTPVersion, Header, Response, StatusCode};

/// The media type of every JSON answer.
pub const JSON: &str = "application/json";

/// The initial capacity for a head, in bytes; most heads fit.
pub(super) const HEAD_BYTES: usize = 256;

/// The value of the `Server` line.
pub(super) const NAME: &str = "ordercast";

/// An answer's body.
#[derive(Debug, Clone)]
pub enum Body {
    /// Part of the binary.
    Static(&'static [u8]),
    /// Made for this answer.
    Owned(Vec<u8>),
    /// Shared by several answers.
    Shared(Arc<[u8]>),
}

impl Body {
    /// The bytes.
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

    /// A JSON answer with status 200 and a shared body.
    #[must_use]
    pub fn shared_json(body: Arc<[u8]>) -> Self {
        Self::new(200, JSON, Body::Shared(body)).with("Cache-Control", "no-store")
    }

    /// An answer without a body. Not for 204, which may not have a `Content-Length` (RFC 9110, section 8.6).
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Static(b""), is_endless: false }
    }

    /// The answer with this body, whose media type is among the header lines.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The answer with one more header line. A line whose value is not printable ASCII is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer without a length: the end of the connection ends it (RFC 9112, section 6.3, item 8). The caller sends
    /// what follows the head.
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

    /// The body, which is not sent with a 304 or in answer to HEAD.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Prints head and body for an HTTP/1.1 request on a connection that stays open.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        let mut printed = self.head(HTTPVersion(1, 1), None);
        printed.extend_from_slice(self.body.bytes());
        printed
    }

    /// Prints the head, with the `connection` option if any.
    #[must_use]
    pub fn head(&self, version: HTTPVersion, connection: Option<&'static str>) -> Vec<u8> {
        /// What tiny_http prints at the end of a head without a body, even when it is told not to.
        const LENGTH: &[u8] = b"Content-Length: 0\r\n\r\n";
        let mut headers = Vec::with_capacity(self.headers.len() + 2);
        for (name, value) in [("Server", NAME), ("X-Content-Type-Options", "nosniff")]
            .into_iter()
            .chain(self.headers.iter().map(|(name, value)| (*name, value.as_ref())))
        {
            // tiny_http would print line ends in a value as they are.
            let is_text = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if let (true, Ok(header)) = (is_text, Header::from_bytes(name, value)) {
                headers.push(header);
            }
        }
        let length = self.body.bytes().len();
        let response = Response::new(StatusCode(self.status), headers, std::io::empty(), Some(length), None)
            .with_chunked_threshold(usize::MAX);
        let mut head = Vec::with_capacity(HEAD_BYTES);
        // Writing to a Vec never fails.
        let _ = response.raw_print(&mut head, version, &[], true, None);
        if self.is_endless && head.ends_with(LENGTH) {
            head.truncate(head.len() - LENGTH.len());
            head.extend_from_slice(b"\r\n");
        }
        // tiny_http drops Upgrade and Connection. Upgrade is also listed as a connection option (RFC 9110, section
        // 7.8).
        let upgrade = self.headers.iter().find(|(name, _)| *name == "Upgrade").map(|(_, value)| value.as_ref());
        let connection = match (upgrade, connection) {
            (None, connection) => connection,
            (Some(_), Some("close")) => Some("close, upgrade"),
            (Some(_), _) => Some("upgrade"),
        };
        for (name, value) in [("Connection", connection), ("Upgrade", upgrade)] {
            if let Some(value) = value {
                insert_line(&mut head, name, value);
            }
        }
        head
    }
}

/// The header lines that a page of another origin may read too (CORS, Fetch standard section 3.2.3).
const EXPOSED: &str = "Link, Retry-After, Location";

/// The answer with the header lines that allow a page of this origin to read it (CORS, Fetch standard section 3.2).
#[must_use]
pub fn allow_origin(answer: Answer, origin: Option<String>) -> Answer {
    match origin {
        Some(origin) => answer
            .with("Access-Control-Allow-Origin", origin)
            .with("Access-Control-Expose-Headers", EXPOSED)
            .with("Vary", "Origin"),
        None => answer,
    }
}

/// Inserts a line after the status line.
fn insert_line(head: &mut Vec<u8>, name: &str, value: &str) {
    if let Some(at) = head.windows(2).position(|pair| pair == b"\r\n") {
        let line = format!("\r\n{name}: {value}");
        head.splice(at..at, line.bytes());
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
    fn an_endless_answer_has_no_length_and_closes_the_connection() {
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
}
