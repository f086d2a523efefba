//! Requests: heads and bodies, read in pieces as from a socket.
//!
//! The first line of an input cuts the stream into pieces, the rest is the stream. Each byte of the line is the length
//! of a piece: below 128 in bytes, from 128 on in units of 64 bytes; the last piece is what remains. In the stream,
//! 0x1A, which is not valid in a head, begins a run: a count in units of 64 and the byte to repeat. So small inputs
//! reach the limits.

use std::ops::Range;

use ordercast::internal::http::chunked::Chunked;
use ordercast::internal::http::handshake::{handshake, offered_token};
use ordercast::internal::http::origin::host_name;
use ordercast::internal::http::request::{BodyLength, Head, MAX_BODY_BYTES, MAX_HEAD_BYTES, Request};

use super::http::{self, Framing, Read};

/// The longest stream: one body of the largest size, and heads around it.
const MAX_STREAM_BYTES: usize = 96 * 1024;
/// The longest unfinished line in a chunked body: 1,024 bytes and CR.
const MAX_UNFINISHED_LINE: usize = 1_025;

/// The result of reading a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The complete requests, in order: head and body.
    pub requests: Vec<(http::Head, Vec<u8>)>,
    /// Why there are no more.
    pub end: End,
}

/// Why no request follows.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The stream ends in a head or before one.
    InHead,
    /// The stream ends in a body.
    InBody,
    /// The server rejects the request with this status.
    Refused(u16),
}

/// The fuzz target `request`.
///
/// # Panics
/// When the requests depend on the cuts, exceed their limits, or are not those of the strict reader.
pub fn check(input: &[u8]) {
    let (cuts, stream) = take_apart(input);
    let outcome = read_to_end(&stream, &[stream.len()]);
    assert_eq!(read_to_end(&stream, &cuts), outcome, "cut at {cuts:?}");
    check_prefixes(&stream, &cuts);
    check_strictly(&stream, &outcome);
}

/// The ends of the pieces in the stream of an input, and the stream. The last end is the stream's.
#[must_use]
pub fn take_apart(input: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let lengths = parts.next().unwrap_or_default();
    let mut packed = parts.next().unwrap_or_default();
    let mut stream = Vec::new();
    while let Some((byte, rest)) = packed.split_first() {
        packed = rest;
        match (byte, rest) {
            (0x1a, [count, repeated, rest @ ..]) => {
                stream.resize(stream.len() + usize::from(*count) * 64, *repeated);
                packed = rest;
            }
            _ => stream.push(*byte),
        }
        if stream.len() > MAX_STREAM_BYTES {
            stream.truncate(MAX_STREAM_BYTES);
            break;
        }
    }
    let mut cuts = vec![0];
    for length in lengths {
        let length = if *length < 128 { usize::from(*length) } else { (usize::from(*length) - 127) * 64 };
        let cut = cuts[cuts.len() - 1] + length;
        if cut >= stream.len() {
            break;
        }
        cuts.push(cut);
    }
    cuts.push(stream.len());
    cuts.remove(0);
    (cuts, stream)
}

/// A stream, the ends of the pieces not received yet, and the range of bytes received and not used yet.
struct Input<'a> {
    stream: &'a [u8],
    cuts: &'a [usize],
    unread: Range<usize>,
}

impl<'a> Input<'a> {
    fn unread(&self) -> &'a [u8] {
        &self.stream[self.unread.clone()]
    }

    fn read_more(&mut self) -> bool {
        let Some((next, left)) = self.cuts.split_first() else { return false };
        self.unread.end = *next;
        self.cuts = left;
        true
    }
}

/// Reads the requests of a stream that is received in pieces, in the steps of `Connection::read_head` and `read_body`,
/// which need a socket. The last cut is the stream's end.
#[must_use]
pub fn read(stream: &[u8], cuts: &[usize]) -> Outcome {
    read_all(&mut Input { stream, cuts, unread: 0..0 })
}

/// Like [`read`], and parses an unfinished head once more at the end. A connection parses only at the end of a line;
/// without this, the outcome for an unfinished line would depend on the cuts.
fn read_to_end(stream: &[u8], cuts: &[usize]) -> Outcome {
    let mut input = Input { stream, cuts, unread: 0..0 };
    let mut outcome = read_all(&mut input);
    if outcome.end == End::InHead
        && let Err(status) = parse(input.unread())
    {
        outcome.end = End::Refused(status);
    }
    outcome
}

fn read_all(input: &mut Input) -> Outcome {
    let mut requests = Vec::new();
    let end = loop {
        match read_one(input) {
            Ok(request) => requests.push(request),
            Err(end) => break end,
        }
    };
    Outcome { requests, end }
}

fn read_one(input: &mut Input) -> Result<(http::Head, Vec<u8>), End> {
    let mut searched = 0;
    let head = loop {
        let unread = input.unread();
        let complete = unread[searched..].contains(&b'\n') || unread.len() >= MAX_HEAD_BYTES;
        if complete && let Some(head) = parse(unread).map_err(End::Refused)? {
            break head;
        }
        searched = unread.len();
        if !input.read_more() {
            return Err(End::InHead);
        }
    };
    input.unread.start += head.length;
    let body = match head.framing {
        Framing::Absent => Vec::new(),
        Framing::Known(length) => {
            while input.unread().len() < length {
                if !input.read_more() {
                    return Err(End::InBody);
                }
            }
            let body = input.unread()[..length].to_vec();
            input.unread.start += length;
            body
        }
        Framing::Chunked => read_chunks(input)?,
    };
    assert!(body.len() <= MAX_BODY_BYTES, "a body of {} bytes", body.len());
    Ok((head, body))
}

fn read_chunks(input: &mut Input) -> Result<Vec<u8>, End> {
    let mut chunked = Chunked::default();
    loop {
        let unread = input.unread();
        let used = chunked.feed(unread).map_err(|problem| End::Refused(status(problem.status())))?;
        assert!(used <= unread.len(), "{used} of {} bytes used", unread.len());
        input.unread.start += used;
        if let Some(body) = chunked.finish() {
            return Ok(body);
        }
        assert!(input.unread().len() <= MAX_UNFINISHED_LINE, "{} bytes of an unfinished line", input.unread().len());
        if !input.read_more() {
            return Err(End::InBody);
        }
    }
}

/// The head at the start of `bytes`, in the strict reader's type, or the status of the rejection.
fn parse(bytes: &[u8]) -> Result<Option<http::Head>, u16> {
    let head = match Head::parse(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(problem) => return Err(status(problem.status())),
    };
    assert!(head.length <= bytes.len().min(MAX_HEAD_BYTES), "a head of {} bytes", head.length);
    let request = head.request(bytes);
    for text in [Some(request.path()), request.host(), request.header("Connection"), request.parameter("after")] {
        let text = text.unwrap_or_default();
        let end = text.as_ptr() as usize + text.len();
        let within = bytes.as_ptr() as usize <= text.as_ptr() as usize
            && end <= bytes[..head.length].as_ptr_range().end as usize;
        assert!(within || text.is_empty(), "{text:?} is not in the head");
    }
    let facts = facts(&request);
    check_handshake(request, &facts);
    if let Some((host, name)) = request.host().and_then(|host| Some((host, host_name(host)?))) {
        assert!(!name.is_empty() && host.starts_with(name), "{name:?} of {host:?}");
    }
    Ok(Some(facts))
}

/// An accepted handshake meets the requirements of RFC 6455, section 4.2.1.
fn check_handshake(request: Request<'_>, head: &http::Head) {
    if let Some(Ok(accepted)) = handshake(request) {
        assert_eq!((head.method.as_str(), head.minor), ("GET", 1));
        assert!(matches!(head.framing, Framing::Absent | Framing::Known(0)));
        assert_eq!(accepted.key.len(), 24);
        assert_eq!(accepted.protocol.is_some(), offered_token(request).is_some_and(|token| !token.is_empty()));
    }
}

/// The head of a request in the strict reader's type.
///
/// # Panics
/// When its major version is not 1.
#[must_use]
pub fn facts(request: &Request<'_>) -> http::Head {
    let head = request.head();
    assert_eq!(head.version.0, 1);
    http::Head {
        length: head.length,
        method: head.method.to_string(),
        path: request.path().to_owned(),
        minor: head.version.1,
        host: request.host().map(str::to_owned),
        framing: match head.body {
            BodyLength::Absent => Framing::Absent,
            BodyLength::Known(length) => Framing::Known(length),
            BodyLength::Chunked => Framing::Chunked,
        },
        keep_alive: head.keep_alive,
        expects_continue: head.expects_continue,
    }
}

fn status(status: u16) -> u16 {
    assert!(matches!(status, 400 | 413 | 417 | 431 | 501 | 505), "rejected with {status}");
    status
}

/// Once a head is complete or rejected it stays so, whatever follows. Checked at the ends of pieces and of lines.
fn check_prefixes(stream: &[u8], cuts: &[usize]) {
    let lines = stream.iter().take(MAX_HEAD_BYTES).enumerate().filter(|(_, byte)| **byte == b'\n').take(MAX_LINES);
    let mut ends: Vec<usize> = lines.map(|(at, _)| at + 1).chain(cuts.iter().copied()).collect();
    ends.sort_unstable();
    let mut last = Ok(None);
    for end in ends {
        let now = parse(&stream[..end]);
        assert!(last == Ok(None) || now == last, "{last:?} has become {now:?} at {end}");
        last = now;
    }
}

/// The most lines after which `check_prefixes` parses: more would be slow.
const MAX_LINES: usize = 20;

/// Compares the server's outcome with the strict reader's.
fn check_strictly(stream: &[u8], outcome: &Outcome) {
    let mut rest = stream;
    for (head, body) in &outcome.requests {
        assert_eq!(&http::head(rest), &Read::Whole(head.clone()));
        rest = &rest[head.length..];
        let used = match head.framing {
            Framing::Absent => 0,
            Framing::Known(length) => length,
            Framing::Chunked => match http::chunked(rest) {
                Read::Whole((expected, used)) => {
                    assert_eq!(*body, expected);
                    used
                }
                other => panic!("the server has read a body that is {other:?}"),
            },
        };
        assert!(head.framing == Framing::Chunked || *body == rest[..used]);
        rest = &rest[used..];
    }
    match (http::head(rest), &outcome.end) {
        // The server may reject a line before the head ends.
        (Read::Unfinished, End::InHead | End::Refused(_)) | (Read::Invalid, End::Refused(_)) => {}
        (Read::Whole(head), End::InBody | End::Refused(_)) => {
            let rest = &rest[head.length..];
            match (head.framing, &outcome.end) {
                (Framing::Known(length), End::InBody) => assert!(rest.len() < length),
                (Framing::Chunked, end) => match (http::chunked(rest), end) {
                    (Read::Unfinished, _) | (Read::Invalid, End::Refused(_)) => {}
                    (strict, end) => panic!("a chunked body is {strict:?}, and for the server {end:?}"),
                },
                (_, end) => panic!("{head:?} ends with {end:?}"),
            }
        }
        (strict, end) => panic!("a head is {strict:?}, and for the server {end:?}"),
    }
}
