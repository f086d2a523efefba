//! Parsing of request heads. Stricter than `httparse` where two servers could read the same bytes differently.

use tiny_http::{HTTPVersion, Method};

use super::framing::body_length;
use super::origin::host_name;
use super::problem::Problem;
use super::request::{BodyLength, Head, MAX_HEAD_BYTES, MAX_HEADERS, Request, Span};
use super::target::Target;

impl Head {
    /// Parses the head at the beginning of `bytes`; `None` while it is incomplete.
    ///
    /// # Errors
    /// The [`Problem`] to answer with. The connection cannot be used after it.
    // Not inlined: a session that follows keeps every page of stack that was touched before it.
    #[inline(never)]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Problem> {
        // On the heap: a session would keep 2 KiB of stack, once touched, for as long as it lives.
        let mut storage = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut storage);
        let window = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
        let length = match parsed.parse(window) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(head_too_large());
            }
            Err(httparse::Error::Version) => match version(window) {
                // A later minor version is handled as the latest that is known (RFC 9110, section 6.2).
                Some(Ok((at, b'1', b'2'..))) => {
                    let mut known = window.to_vec();
                    known[at] = b'1';
                    return Self::parse(&known);
                }
                Some(Ok(_)) => return Err(Problem::new(505, "use HTTP/1.1")),
                None if bytes.len() < MAX_HEAD_BYTES => return Ok(None),
                _ => return Err(Problem::new(400, "the request line must end in a version, such as HTTP/1.1")),
            },
            Err(error) => return Err(Problem::new(400, format!("the request head is malformed: {error}"))),
        };
        // httparse accepts a bare LF.
        if !bytes[..length].split_inclusive(|byte| *byte == b'\n').all(|line| line.ends_with(b"\r\n")) {
            return Err(Problem::new(400, "every line of the request head must end in CR LF"));
        }
        let span = |part: &[u8]| Span::of(part, bytes);
        let method = parsed.method.unwrap_or_default();
        let lines = parsed.headers.iter().map(|line| (span(line.name.as_bytes()), span(line.value))).collect();
        let target = Target::parse(parsed.path.unwrap_or_default())?;
        let mut head = Self {
            length,
            method: method.parse().map_err(|()| Problem::new(400, "the method is malformed"))?,
            version: HTTPVersion(1, parsed.version.unwrap_or(1)),
            body: BodyLength::Absent,
            keep_alive: false,
            expects_continue: false,
            path: span(target.path.as_bytes()),
            query: span(target.query.as_bytes()),
            lines,
        };
        let request = head.request(bytes);
        check_host(request)?;
        if let Some(authority) = target.authority {
            // RFC 9112, section 3.2.2, prefers the target's authority. Other servers do not, so both must be the same.
            if !request.host().is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
                return Err(Problem::new(400, "the host in the request target must be that of the Host line"));
            }
            // RFC 9112, section 3.2.3.
            if head.method == Method::Connect {
                return Err(Problem::new(400, "CONNECT names a host and a port, and is not served here"));
            }
        }
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
}

/// The version at the end of the request line: the place of its minor digit, and both digits. An error unless it has the
/// form `HTTP/digit.digit`; `None` while the line is incomplete. httparse reports an unknown version before the line
/// is complete, and does not distinguish it from a malformed one.
fn version(bytes: &[u8]) -> Option<Result<(usize, u8, u8), ()>> {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = bytes.iter().position(|byte| !is_end(byte))?;
    let end = start + bytes[start..].iter().position(is_end)?;
    let parts: Vec<&[u8]> = bytes[start..end].split(|byte| *byte == b' ').collect();
    Some(match parts[..] {
        [_, _, [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9']] => {
            Ok((end - 1, *major, *minor))
        }
        _ => Err(()),
    })
}

/// 431 for a head beyond [`MAX_HEAD_BYTES`] or [`MAX_HEADERS`].
fn head_too_large() -> Problem {
    Problem::new(
        431,
        format!("the request head is too large; send at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} header lines"),
    )
}

/// Checks that there is exactly one `Host` line, in HTTP/1.0 at most one, and that it is well-formed (RFC 9112, section
/// 3.2).
fn check_host(request: Request<'_>) -> Result<(), Problem> {
    match request.single_header("Host")? {
        Some(host) if host_name(host).is_some() => Ok(()),
        Some(_) => Err(Problem::new(400, "the Host line must be a name or an address, and a port if need be")),
        None if request.head().version < HTTPVersion(1, 1) => Ok(()),
        None => Err(Problem::new(400, "an HTTP/1.1 request needs a Host line")),
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
    fn keep_alive_follows_the_version_and_the_connection_line() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", false),
            // A no-break space is not white space in HTTP.
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: \u{a0}close\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(parse(head).unwrap().unwrap().keep_alive, expected, "{head}");
        }
    }

    #[test]
    fn an_incomplete_head_is_waited_for() {
        let whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).unwrap().is_none(), "{end}");
        }
        assert!(parse(whole).unwrap().is_some());
    }

    #[test]
    fn heads_that_two_servers_could_frame_differently_are_rejected() {
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
    fn a_later_minor_version_is_handled_as_1_1() {
        for version in ["HTTP/1.2", "HTTP/1.9"] {
            let whole = format!("\r\nGET /log?after=1 {version}\r\nHost: x\r\n\r\n");
            for end in 0..whole.len() {
                assert!(parse(&whole[..end]).unwrap().is_none(), "{end}");
            }
            let head = parse(&whole).unwrap().unwrap();
            let request = head.request(whole.as_bytes());
            assert_eq!((head.version.clone(), head.keep_alive, head.length), (HTTPVersion(1, 1), true, whole.len()));
            assert_eq!((request.path(), request.parameter("after"), request.host()), ("/log", Some("1"), Some("x")));
        }
        assert_eq!(status("GET / HTTP/1.2\r\n\r\n"), 400);
    }

    #[test]
    fn the_absolute_form_is_taken_when_it_names_the_host() {
        let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for (target, host, path) in [
            ("http://x/orders", "x", "/orders"),
            ("HTTP://X:3000/orders?since=", "x:3000", "/orders"),
            ("http://[::1]:1/", "[::1]:1", "/"),
            ("http://x", "x", "/"),
            ("http://x?after=2", "x", "/"),
        ] {
            let text = get(target, host);
            let head = parse(&text).unwrap().unwrap();
            assert_eq!(head.request(text.as_bytes()).path(), path, "{target}");
        }
        for (target, host) in [
            ("http://x/", "y"),
            ("http://x/", "x:80"),
            ("http://x:80/", "x"),
            ("http://u@x/", "x"),
            ("https://x/", "x"),
        ] {
            assert_eq!(status(&get(target, host)), 400, "{target}");
        }
        assert_eq!(status("GET http://x/ HTTP/1.0\r\n\r\n"), 400);
    }

    #[test]
    fn a_version_is_checked_when_its_line_is_complete() {
        for (line, expected) in [("GET / HTTP/2.0", 505), ("GET / HTTP/x", 400), ("GET / FTP/1.1", 400)] {
            for end in 0..line.len() {
                assert!(parse(&line[..end]).unwrap().is_none(), "{}", &line[..end]);
            }
            assert_eq!(status(&format!("{line}\r\n")), expected, "{line}");
        }
    }

    #[test]
    fn the_size_of_a_head_is_bounded() {
        let many = "X: y\r\n".repeat(MAX_HEADERS);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")), 431);
        let long = "y".repeat(MAX_HEAD_BYTES);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")), 431);
    }
}
