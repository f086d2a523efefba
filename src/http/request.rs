//! A request's head: parsing, framing, and the rules that keep two readers of the same bytes from disagreeing about
//! where a request ends. Pure: works on bytes, does no I/O.

use tiny_http::{HTTPVersion, Method};

use super::origin::host_name;
use super::problem::Problem;

/// The longest request head, in bytes: 16 KiB, room for any browser's cookies.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most header lines a head may have.
pub const MAX_HEADERS: usize = 64;
/// The longest body, in bytes: 64 KiB, a thousand times an order.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long the body is, as its head says (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// The head has neither `Content-Length` nor `Transfer-Encoding`: no body follows.
    Absent,
    /// So many bytes.
    Known(usize),
    /// In chunks, until the last one.
    Chunked,
}

/// A place in the head's bytes. Small, because a session's thread keeps what its head took (see ARCHITECTURE.md on
/// memory).
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u16,
    end: u16,
}

// A place is within a head.
const _: () = assert!(MAX_HEAD_BYTES <= u16::MAX as usize);

impl Place {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }
}

/// One header line: its name and its value.
type Line = (Place, Place);

/// A parsed head. Its texts lie in the bytes that it was parsed from; [`Request`] brings the two together.
#[derive(Debug)]
pub struct Head {
    /// The head's length in bytes, the empty line included.
    pub length: usize,
    /// The method.
    pub method: Method,
    /// 1.0 or 1.1.
    pub version: HTTPVersion,
    /// How the body follows.
    pub body: BodyLength,
    /// Whether the client asks to keep the connection open (RFC 9112, section 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    path: Place,
    query: Place,
    lines: Vec<Line>,
}

/// A request: its head, and the bytes that the head lies in.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    head: &'a Head,
    bytes: &'a [u8],
}

impl Head {
    /// Parses the head at the beginning of `bytes`; `None` while it is incomplete.
    ///
    /// # Errors
    /// The [`Problem`] to answer with, after which the connection cannot be used any more.
    // Not inlined: a session that follows keeps every page of stack that was touched before it.
    #[inline(never)]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Problem> {
        // On the heap: 2 KiB of stack, touched once, would stay with a session for as long as it lives.
        let mut storage = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut storage);
        let window = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
        let length = match parsed.parse(window) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(head_too_large());
            }
            Err(httparse::Error::Version) => match names_version(window) {
                Some(true) => return Err(Problem::new(505, "speak HTTP/1.1")),
                None if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
                _ => return Err(Problem::new(400, "the request line must end in a version, such as HTTP/1.1")),
            },
            Err(error) => return Err(Problem::new(400, format!("the request head is malformed: {error}"))),
        };
        if has_bare_line_feed(&bytes[..length]) {
            return Err(Problem::new(400, "every line of the request head must end in CR LF"));
        }
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            Place { start: start as u16, end: (start + part.len()) as u16 }
        };
        let version = HTTPVersion(1, parsed.version.unwrap_or(1));
        let method = parsed.method.unwrap_or_default();
        let target = parsed.path.unwrap_or_default();
        let lines: Vec<Line> =
            parsed.headers.iter().map(|line| (place(line.name.as_bytes()), place(line.value))).collect();
        let target = Target::parse(target)?;
        let mut head = Self {
            length,
            method: method.parse().map_err(|()| Problem::new(400, "the method is malformed"))?,
            version,
            body: BodyLength::Absent,
            keep_alive: false,
            expects_continue: false,
            path: place(target.path.as_bytes()),
            query: place(target.query.as_bytes()),
            lines,
        };
        let request = Request { head: &head, bytes };
        check_host(request)?;
        let body = body_length(request)?;
        let keep_alive = if head.version >= HTTPVersion(1, 1) {
            !request.has_token("Connection", "close")
        } else {
            request.has_token("Connection", "keep-alive")
        };
        let expects_continue = match request.header("Expect") {
            None => false,
            Some(expected) if expected.eq_ignore_ascii_case("100-continue") => head.version >= HTTPVersion(1, 1),
            Some(_) => return Err(Problem::new(417, "the only expectation that can be met is 100-continue")),
        };
        (head.body, head.keep_alive, head.expects_continue) = (body, keep_alive, expects_continue);
        Ok(Some(head))
    }

    /// The request of this head, which was parsed from `bytes`.
    #[must_use]
    pub fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        Request { head: self, bytes }
    }
}

impl<'a> Request<'a> {
    /// The head's plain facts.
    #[must_use]
    pub fn head(&self) -> &'a Head {
        self.head
    }

    /// The target's path, beginning with `/`, as it was sent; `*` of an `OPTIONS *`.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.text(self.head.path)
    }

    /// The value of the query's first parameter of this name, as it was sent; empty when it has none.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let parameters = self.text(self.head.query).split('&');
        parameters
            .map(|one| one.split_once('=').unwrap_or((one, "")))
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value)
    }

    /// The host that is asked for, as the `Host` line says.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        self.header("Host")
    }

    /// The value of the first line with this name, unless it is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// The values of all lines with this name, in order. A value that is no UTF-8 is shown empty.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let Self { head, bytes } = *self;
        head.lines
            .iter()
            .filter(move |(own, _)| own.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
            .map(move |(_, value)| std::str::from_utf8(value.of(bytes)).unwrap_or_default())
    }

    /// Whether a line of this name lists the token, in any case (RFC 9110, section 5.6.1).
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
    }

    fn text(&self, place: Place) -> &'a str {
        // The target is ASCII: anything else was refused.
        std::str::from_utf8(place.of(self.bytes)).unwrap_or_default()
    }
}

/// A request target in its parts (RFC 9112, section 3.2).
struct Target<'a> {
    path: &'a str,
    /// What follows the question mark.
    query: &'a str,
}

impl<'a> Target<'a> {
    /// Takes the origin form, and `*`, and nothing else. The absolute form is a request to a proxy: two readers could
    /// disagree on whether its authority or the `Host` line counts, so this is stricter than RFC 9112, section 3.2.2.
    fn parse(target: &'a str) -> Result<Self, Problem> {
        if !target.is_ascii() || target.contains('#') {
            return Err(Problem::new(400, "the request target must be ASCII and have no fragment"));
        }
        if !target.starts_with('/') && target != "*" {
            return Err(Problem::new(400, "the request target must be a path such as /orders/A1; Host names the host"));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, &target[target.len()..]));
        check_escapes(path)?;
        Ok(Self { path, query })
    }
}

/// Refuses what another reader could decode to a different path: an escaped slash, dot or control character, and an
/// escape that is none (RFC 3986, section 2.1). No name here needs an escape at all.
fn check_escapes(path: &str) -> Result<(), Problem> {
    for (at, _) in path.match_indices('%') {
        let code = path.get(at + 1..at + 3).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            None => {
                return Err(Problem::new(400, "a percent sign in the path must be followed by two hexadecimal digits"));
            }
            Some(b'/' | b'\\' | b'.' | b'%' | 0..=0x1f | 0x7f) => {
                return Err(Problem::new(
                    400,
                    "send slashes and dots of the path as they are, and no control characters",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether the request line ends in a well-formed version, `None` while its end has not come in; httparse tells only that
/// it is none that it knows, and tells that before the version is whole.
fn names_version(bytes: &[u8]) -> Option<bool> {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = bytes.iter().position(|byte| !is_end(byte))?;
    let end = start + bytes[start..].iter().position(is_end)?;
    let parts: Vec<&[u8]> = bytes[start..end].split(|byte| *byte == b' ').collect();
    Some(matches!(parts[..], [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
        if major.is_ascii_digit() && minor.is_ascii_digit()))
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|byte| {
        *byte == b'\n' && std::mem::replace(&mut before, *byte) != b'\r' || {
            before = *byte;
            false
        }
    })
}

/// 413 for a body beyond [`MAX_BODY_BYTES`].
pub(super) fn body_too_large() -> Problem {
    Problem::new(413, format!("the body is too large; send at most {MAX_BODY_BYTES} bytes"))
}

/// 431 for a head beyond [`MAX_HEAD_BYTES`] or [`MAX_HEADERS`].
fn head_too_large() -> Problem {
    Problem::new(
        431,
        format!("the request head is too large; send at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} header lines"),
    )
}

/// One `Host` line, no more and (in HTTP/1.1) no less, with a name in it (RFC 9112, section 3.2).
fn check_host(request: Request<'_>) -> Result<(), Problem> {
    match request.headers("Host").count() {
        1 if request.host().and_then(host_name).is_some() => Ok(()),
        1 => Err(Problem::new(400, "the Host line must be a name or an address, and a port if need be")),
        0 if request.head.version < HTTPVersion(1, 1) => Ok(()),
        0 => Err(Problem::new(400, "an HTTP/1.1 request needs a Host line")),
        _ => Err(Problem::new(400, "a request has one Host line, not several")),
    }
}

/// Whether a line of this name has a tab behind its colon; the values have lost those around them.
fn has_tab(request: Request<'_>, name: &str) -> bool {
    let lines = request.head.lines.iter();
    let mut named = lines.filter(|(own, _)| own.of(request.bytes).eq_ignore_ascii_case(name.as_bytes()));
    let is_tab = |byte: &u8| *byte == b'\t';
    named.any(|(own, _)| request.bytes[usize::from(own.end)..].iter().take_while(|byte| **byte != b'\r').any(is_tab))
}

fn body_length(request: Request<'_>) -> Result<BodyLength, Problem> {
    let mut lengths = request.headers("Content-Length");
    let mut encodings = request.headers("Transfer-Encoding");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Problem::new(400, "a request has one Content-Length line, not several"));
    }
    // White space by the letter (RFC 9110, section 5.6.3), but some servers take it for part of the value.
    if has_tab(request, "Content-Length") || has_tab(request, "Transfer-Encoding") {
        return Err(Problem::new(400, "send no tab in the lines that say how long the body is"));
    }
    match (encodings.next(), length) {
        (None, None) => Ok(BodyLength::Absent),
        (Some(_), Some(_)) => Err(Problem::new(400, "send either Content-Length or Transfer-Encoding, not both")),
        (Some(_), None) if request.head.version < HTTPVersion(1, 1) => {
            Err(Problem::new(400, "HTTP/1.0 has no Transfer-Encoding; send Content-Length"))
        }
        (Some(encoding), None) => {
            if encodings.next().is_none() && encoding.eq_ignore_ascii_case("chunked") {
                Ok(BodyLength::Chunked)
            } else {
                Err(Problem::new(501, "the only Transfer-Encoding that can be read is chunked"))
            }
        }
        (None, Some(length)) => {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Problem::new(400, "Content-Length must be a plain number of bytes"));
            }
            match length.parse() {
                Ok(length) if length <= MAX_BODY_BYTES => Ok(BodyLength::Known(length)),
                // Also a number too long for usize: a body of that size is too large in any case.
                _ => Err(body_too_large()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Option<Head>, u16> {
        Head::parse(head.as_bytes()).map_err(|problem| problem.status())
    }

    fn status(head: &str) -> u16 {
        parse(head).err().unwrap_or(200)
    }

    #[test]
    fn a_request_is_taken_apart() {
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

    #[test]
    fn a_target_that_could_be_read_as_another_is_refused() {
        for target in [
            "http://x/orders",
            "http://x",
            "x:80",
            "//a%2fb",
            "/a%2Fb",
            "/%2e%2e/x",
            "/%2E",
            "/a%5cb",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%252e",
            "/a#b",
            "orders",
            "?x",
            "*x",
        ] {
            assert_eq!(status(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")), 400, "{target}");
        }
        for target in ["/", "*", "/a%20b", "/orders?x=%2F%2e", "/a?b?c", "/a~b"] {
            assert_eq!(status(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")), 200, "{target}");
        }
    }

    #[test]
    fn keep_alive_follows_the_version_and_the_connection_line() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", false),
            // No white space that HTTP knows.
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: \u{a0}close\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(parse(head).unwrap().unwrap().keep_alive, expected, "{head}");
        }
    }

    #[test]
    fn an_incomplete_head_is_neither_right_nor_wrong() {
        let whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).unwrap().is_none(), "{end}");
        }
        assert!(parse(whole).unwrap().is_some());
    }

    #[test]
    fn whatever_two_readers_could_frame_differently_is_refused() {
        let with = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        for (lines, expected) in [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", 400),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Content-Length: +1\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 1, 1\r\n", 400),
            ("Content-Length: 0x1\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Content-Length: 65537\r\n", 413),
            ("Content-Length: 99999999999999999999999\r\n", 413),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
            ("Transfer-Encoding: xchunked\r\n", 501),
            ("Content-Length : 1\r\n", 400),
            ("X: a\r\n b\r\n", 400),
            ("X: a\0b\r\n", 400),
            ("X: a\nY: b\r\n", 400),
            ("X: a\rb\r\n", 400),
            ("Host: y\r\n", 400),
            ("Expect: tea\r\n", 417),
        ] {
            assert_eq!(status(&with(lines)), expected, "{lines:?}");
        }
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET a HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
        assert_eq!(status("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/x\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET /\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    }

    #[test]
    fn a_version_is_judged_when_it_is_whole() {
        for (line, expected) in [("GET / HTTP/2.0", 505), ("GET / HTTP/x", 400), ("GET / FTP/1.1", 400)] {
            for end in 0..line.len() {
                assert!(parse(&line[..end]).unwrap().is_none(), "{}", &line[..end]);
            }
            assert_eq!(status(&format!("{line}\r\n")), expected, "{line}");
        }
    }

    #[test]
    fn a_head_ends_at_its_bounds() {
        let many = "X: y\r\n".repeat(MAX_HEADERS);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")), 431);
        let long = "y".repeat(MAX_HEAD_BYTES);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")), 431);
    }
}
