//! A request: its head, and the header lines and parameters in it.

use std::ops::Range;

use tiny_http::{HTTPVersion, Method};

use super::problem::Problem;

/// The longest request head, in bytes: 16 KiB, room for any browser's cookies.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most header lines of a head.
pub const MAX_HEADERS: usize = 64;
/// The longest body, in bytes: 64 KiB, a thousand times an order.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The length of the body, as the head declares it (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// The head has neither `Content-Length` nor `Transfer-Encoding`: no body follows.
    Absent,
    /// `Content-Length`, in bytes.
    Known(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A range of the head's bytes. Small, because a session's thread keeps the memory of its head (see ARCHITECTURE.md on
/// memory).
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

// An offset into a head fits into 16 bits.
const _: () = assert!(MAX_HEAD_BYTES <= u16::MAX as usize);

impl Span {
    /// The span of `part`, which is a slice of `head`.
    pub(super) fn of(part: &[u8], head: &[u8]) -> Self {
        let start = part.as_ptr() as usize - head.as_ptr() as usize;
        Self { start: start as u16, end: (start + part.len()) as u16 }
    }

    pub(super) fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    pub(super) fn bytes(self, head: &[u8]) -> &[u8] {
        &head[self.range()]
    }
}

/// A parsed head. Its texts are spans of the bytes that it was parsed from; [`Request`] holds both.
#[derive(Debug)]
pub struct Head {
    /// The head's length in bytes, including the empty line.
    pub length: usize,
    /// The method.
    pub method: Method,
    /// 1.0 or 1.1.
    pub version: HTTPVersion,
    /// The body's length.
    pub body: BodyLength,
    /// Whether the client asks to keep the connection open (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    pub(super) path: Span,
    pub(super) query: Span,
    /// The name and the value of each header line.
    pub(super) lines: Vec<(Span, Span)>,
}

/// A request: its head, and the bytes that the head was parsed from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    head: &'a Head,
    bytes: &'a [u8],
}

impl Head {
    /// The request with this head, which was parsed from `bytes`.
    #[must_use]
    pub fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        Request { head: self, bytes }
    }
}

impl<'a> Request<'a> {
    /// The head.
    #[must_use]
    pub fn head(&self) -> &'a Head {
        self.head
    }

    /// The target's path as it was sent: beginning with `/`, or `*` for `OPTIONS *`.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.text(self.head.path)
    }

    /// The path, and the query if there is one, as they were sent.
    #[must_use]
    pub fn target(&self) -> String {
        match self.text(self.head.query) {
            "" => self.path().to_owned(),
            query => format!("{}?{query}", self.path()),
        }
    }

    /// The names and values of the query's parameters as they were sent; a value is empty for a parameter without `=`.
    pub fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let parameters = self.text(self.head.query).split('&').filter(|one| !one.is_empty());
        parameters.map(|one| one.split_once('=').unwrap_or((one, "")))
    }

    /// The value of the query's first parameter of this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The value of the `Host` line.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        self.header("Host")
    }

    /// The value of the first line with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// The value of the line with this name.
    ///
    /// # Errors
    /// 400 if there are several lines.
    pub fn single_header(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        let mut values = self.headers(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Problem::new(400, format!("a request has one {name} line, not several"))),
        }
    }

    /// The values of all lines with this name, in order. A value that is not UTF-8 is replaced by an empty one.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let bytes = self.bytes;
        self.lines(name).map(move |(_, value)| std::str::from_utf8(value.bytes(bytes)).unwrap_or_default())
    }

    /// The items of all lines with this name, which are lists separated by commas (RFC 9110, section 5.6.1).
    pub fn items<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.headers(name).flat_map(|value| value.split(',')).map(|item| item.trim_matches([' ', '\t']))
    }

    /// Whether a line of this name lists the token, in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.items(name).any(|item| item.eq_ignore_ascii_case(token))
    }

    /// Whether a line of this name has a tab after its colon. Values do not include the white space around them.
    pub(super) fn has_tab(&self, name: &str) -> bool {
        self.lines(name).any(|(name, _)| {
            let value = self.bytes[usize::from(name.end)..].iter().take_while(|byte| **byte != b'\r');
            value.copied().any(|byte| byte == b'\t')
        })
    }

    fn lines<'n>(&self, name: &'n str) -> impl Iterator<Item = (Span, Span)> + use<'a, 'n> {
        let Self { head, bytes } = *self;
        head.lines.iter().copied().filter(move |(own, _)| own.bytes(bytes).eq_ignore_ascii_case(name.as_bytes()))
    }

    fn text(&self, span: Span) -> &'a str {
        // The target is ASCII: `Head::parse` rejects every other one.
        std::str::from_utf8(span.bytes(self.bytes)).unwrap_or_default()
    }
}

/// Whether the bytes are a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_request_are_found() {
        let bytes =
            b"POST /orders/A1?x=1 HTTP/1.1\r\nHost: localhost:3000\r\ncontent-LENGTH: 13\r\n\r\n{\"amount\":10}";
        let head = Head::parse(bytes).unwrap().unwrap();
        let request = head.request(bytes);
        assert_eq!(request.path(), "/orders/A1");
        assert_eq!(request.host(), Some("localhost:3000"));
        assert_eq!((head.body, head.keep_alive), (BodyLength::Known(13), true));
        assert_eq!(head.length, bytes.len() - 13);
    }

    #[test]
    fn a_parameter_is_found_by_its_whole_name() {
        let bytes = b"GET /log?xafter=1&after=2&after=3&limit HTTP/1.1\r\nHost: x\r\n\r\n";
        let head = Head::parse(bytes).unwrap().unwrap();
        let request = head.request(bytes);
        assert_eq!([request.parameter("after"), request.parameter("limit")], [Some("2"), Some("")]);
        assert_eq!(request.parameter("x"), None);
    }
}
