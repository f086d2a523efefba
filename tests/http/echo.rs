//! The HTTP side of the echo: it returns the body of a request with any method, path and framing (RFC 9110, sections 9
//! and 10.1.1; RFC 9112, sections 6, 7.1 and 9.3).

use crate::common::echo::{Echo, Peer, text};
use crate::common::websocket::{TEXT, UPGRADE, frame};

/// The limit for a body, in bytes.
const LIMIT: usize = 64 * 1024;

/// A chunked body of these chunks.
fn chunked(chunks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(*chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[test]
fn a_body_comes_back_under_any_method_and_path() {
    let echo = Echo::start();
    let mut client = echo.client();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW"] {
        for path in ["/", "/a", "/a/b/c?d=e&f", "/%20", "/orders/A1", "/a?b?c"] {
            for body in [&b""[..], b"x", b"\x00\xFF\r\n\r\n"] {
                let reply = client.request(method, path, &[], body);
                assert_eq!((reply.status, &reply.body[..]), (200, body), "{method} {path}");
                assert!(!reply.says_close(), "{method} {path}: {reply:?}");
            }
        }
    }
    assert_eq!(client.request("OPTIONS", "*", &[], b"all").body, b"all");
}

#[test]
fn a_head_request_gets_the_length_of_the_body_and_no_body() {
    let echo = Echo::start();
    let mut client = echo.client();
    for body in [&b""[..], b"hello"] {
        let reply = client.request("HEAD", "/", &[], body);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-length"), Some(&*body.len().to_string()));
        // A byte of a body would be read as the start of this response.
        assert_eq!(client.request("POST", "/", &[], b"next").body, b"next");
    }
}

#[test]
fn a_body_of_any_length_up_to_the_limit_comes_back() {
    let echo = Echo::start();
    let mut client = echo.client();
    for length in [0, 1, 2_047, 2_048, 2_049, 16_383, 16_384, 16_385, LIMIT - 1, LIMIT] {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let length = body.len().to_string();
        let reply = client.request("POST", "/", &[("Content-Length", &length)], &body);
        assert!(reply.status == 200 && reply.body == body, "{length} bytes: {}", reply.status);
        let framed = chunked(&body.chunks(1_000).collect::<Vec<_>>());
        let reply = client.request("POST", "/", &[("Transfer-Encoding", "chunked")], &framed);
        assert!(reply.status == 200 && reply.body == body, "{length} bytes in chunks: {}", reply.status);
    }
    let reply = client.request("POST", "/", &[], &vec![b'x'; LIMIT + 1]);
    reply.problem(413);
    client.expect_close_after(&reply);
    let mut client = echo.client();
    let framed = chunked(&[&vec![b'x'; LIMIT], b"x"]);
    let reply = client.request("POST", "/", &[("Transfer-Encoding", "chunked")], &framed);
    reply.problem(413);
    client.expect_close_after(&reply);
}

#[test]
fn chunks_are_joined_however_they_are_cut() {
    let echo = Echo::start();
    let mut client = echo.client();
    for (body, expected) in [
        (chunked(&[]), &b""[..]),
        (chunked(&[b"hello"]), b"hello"),
        (chunked(&[b"h", b"e", b"l", b"l", b"o"]), b"hello"),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n".to_vec(), b"0\r\n\r\n"),
        (b"00005\r\nhello\r\n000\r\n\r\n".to_vec(), b"hello"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n".to_vec(), b"01234567890123456789"),
        (b"5\r\nhello\r\n0\r\nTrailer: passed over\r\n\r\n".to_vec(), b"hello"),
    ] {
        let shown = body.escape_ascii().to_string();
        let reply = client.request("POST", "/", &[("Transfer-Encoding", "chunked")], &body);
        assert_eq!((reply.status, &reply.body[..]), (200, expected), "{shown}");
        // The same byte by byte.
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        head.iter().chain(&body).for_each(|byte| client.write([*byte]));
        assert_eq!(client.reply().body, expected, "{shown}, byte by byte");
    }
}

#[test]
fn requests_in_one_segment_are_answered_in_order_whatever_their_framing() {
    let echo = Echo::start();
    let mut client = echo.client();
    let mut bytes = Vec::new();
    for number in 0..100 {
        let body = format!("number {number}");
        match number % 3 {
            0 => bytes.extend(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            1 => {
                let length = body.len();
                bytes.extend(format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").bytes());
            }
            _ => {
                bytes.extend(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
                bytes.extend(chunked(&body.as_bytes().chunks(3).collect::<Vec<_>>()));
            }
        }
    }
    client.write(bytes);
    for number in 0..100 {
        let expected = if number % 3 == 0 { String::new() } else { format!("number {number}") };
        let reply = client.reply();
        assert_eq!((reply.status, reply.text()), (200, &*expected), "{number}");
    }
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let echo = Echo::start();
    let mut client = echo.client();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n";
    client.write(format!("{head}Content-Length: 5\r\n\r\n"));
    assert_eq!(client.reply().status, 100);
    client.write("hello");
    assert_eq!(client.reply().body, b"hello");
    client.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(client.reply().status, 100);
    client.write(chunked(&[b"hel", b"lo"]));
    assert_eq!(client.reply().body, b"hello");
    // No `100 Continue` for a body that is already there, nor without a body.
    client.write(format!("{head}Content-Length: 5\r\n\r\nhello"));
    assert_eq!(client.reply().body, b"hello");
    client.write(format!("{head}\r\n"));
    assert_eq!(client.reply().status, 200);
    client.write(format!("{head}Content-Length: {}\r\n\r\n", LIMIT + 1));
    client.reply().problem(413);
    let mut client = echo.client();
    client.write("POST / HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\n\r\n");
    client.reply().problem(417);
}

#[test]
fn a_connection_that_carried_requests_can_become_a_websocket() {
    let echo = Echo::start();
    let mut client = echo.client();
    assert_eq!(client.request("POST", "/", &[], b"first").body, b"first");
    let mut upgrade = UPGRADE;
    upgrade[0] = ("Connection", "keep-alive, Upgrade");
    let reply = client.request("GET", "/any/path?at=all", &upgrade, b"");
    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let mut peer = Peer::from(client.into_parts());
    peer.send(&frame(TEXT, true, b"second"));
    assert_eq!(peer.receive().expect("an echo"), text("second"));
}
