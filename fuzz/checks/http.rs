//! A strict reader of requests, written from RFC 9112 and from what the server documents, and not from its code. It waits
//! for the whole head before it looks at any of it.

use std::net::Ipv6Addr;
use std::str;

/// The longest head, the most header lines, and the longest body: the bounds that the README states.
const HEAD_BYTES: usize = 16 * 1024;
const HEADER_LINES: usize = 64;
const BODY_BYTES: usize = 64 * 1024;
/// The bounds of a chunked body's trailers.
const TRAILER_BYTES: usize = 1_024;
const TRAILERS: usize = 16;

/// What has been made of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// The end is not there yet. A reader that looks earlier may refuse already.
    Unfinished,
    /// No bytes that follow could mend it.
    Refused,
    /// This has been read.
    Whole(T),
}

/// How the body follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Absent,
    /// So many bytes.
    Known(usize),
    /// In chunks.
    Chunked,
}

/// A head's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// With the empty line, and with empty lines before it.
    pub length: usize,
    /// As it was sent.
    pub method: String,
    /// The part before the question mark.
    pub path: String,
    /// The minor version of HTTP/1.
    pub minor: u8,
    /// The one `Host` line's value.
    pub host: Option<String>,
    /// How the body follows.
    pub framing: Framing,
    /// Whether the connection is to go on.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// Reads the head at the beginning of `bytes`.
#[must_use]
pub fn head(bytes: &[u8]) -> Read<Head> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES)];
    // Empty lines before a head are passed over. One that ends in LF alone is wrong too, but a head must follow to be
    // refused.
    let mut start = 0;
    let mut bare = false;
    loop {
        match window[start..] {
            [b'\r', b'\n', ..] => start += 2,
            [b'\n', ..] => (start, bare) = (start + 1, true),
            _ => break,
        }
    }
    let Some(end) = window[start..].windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= HEAD_BYTES { Read::Refused } else { Read::Unfinished };
    };
    let head = whole_head(&window[start..start + end], start + end + 4).filter(|_| !bare);
    head.map_or(Read::Refused, Read::Whole)
}

fn whole_head(text: &[u8], length: usize) -> Option<Head> {
    let mut lines = lines_of(text).into_iter();
    let parts: Vec<&[u8]> = lines.next()?.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let minor = match version {
        b"HTTP/1.0" => 0,
        b"HTTP/1.1" => 1,
        _ => return None,
    };
    let fields = Fields::read(lines.collect())?;
    let host = match (fields.all("host").as_slice(), minor) {
        ([one], _) => Some(Some(text_of(one)).filter(|host| is_host(host.as_bytes()))?),
        ([], 0) => None,
        _ => return None,
    };
    let expects_continue = match fields.all("expect").first() {
        None => false,
        Some(expected) if expected.eq_ignore_ascii_case(b"100-continue") => minor == 1,
        Some(_) => return None,
    };
    Some(Head {
        length,
        method: is_token(method).then(|| text_of(method))?,
        path: path(target)?,
        minor,
        host,
        framing: fields.framing(minor)?,
        keep_alive: if minor == 1 { !fields.connection_says("close") } else { fields.connection_says("keep-alive") },
        expects_continue,
    })
}

/// Lines that end in CR LF; any other CR or LF stays within its line, where nothing allows it.
fn lines_of(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

/// The path of a target that only one meaning can be found in.
fn path(target: &[u8]) -> Option<String> {
    let plain = target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#');
    if !plain || (target != b"*" && target.first() != Some(&b'/')) {
        return None;
    }
    let path = target.split(|byte| *byte == b'?').next()?;
    for escape in path.split(|byte| *byte == b'%').skip(1) {
        let digits = str::from_utf8(escape.get(..2)?).ok()?;
        // A sign would be taken for part of the number.
        let code = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        if code < 0x20 || b"/\\.%\x7f".contains(&code) {
            return None;
        }
    }
    Some(text_of(path))
}

/// A name, or an IPv6 address in brackets, and perhaps a colon and a port.
fn is_host(host: &[u8]) -> bool {
    let end = match host {
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            Some(end) if str::from_utf8(&rest[..end]).is_ok_and(|ip| ip.parse::<Ipv6Addr>().is_ok()) => end + 2,
            _ => return false,
        },
        _ => host.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte)).count(),
    };
    let is_port = |port: &[u8]| port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit));
    end > 0 && is_port(&host[end..])
}

/// Header lines as names, values, and values with the white space around them.
struct Fields<'a>(Vec<(&'a [u8], &'a [u8], &'a [u8])>);

impl<'a> Fields<'a> {
    fn read(lines: Vec<&'a [u8]>) -> Option<Self> {
        if lines.len() > HEADER_LINES {
            return None;
        }
        let field = |line: &'a [u8]| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let raw = &line[colon + 1..];
            let value = trim(raw);
            let legal = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
            (legal && is_token(&line[..colon])).then_some((&line[..colon], value, raw))
        };
        lines.into_iter().map(field).collect::<Option<_>>().map(Self)
    }

    fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.named(name).map(|(_, value, _)| *value).collect()
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &(&'a [u8], &'a [u8], &'a [u8])> {
        self.0.iter().filter(move |(own, ..)| own.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The server does not look into a value that is no UTF-8, so neither does this.
    fn connection_says(&self, token: &str) -> bool {
        self.all("connection")
            .into_iter()
            .filter(|value| str::from_utf8(value).is_ok())
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| trim(item).eq_ignore_ascii_case(token.as_bytes()))
    }

    fn framing(&self, minor: u8) -> Option<Framing> {
        let has_tab = |name| self.named(name).any(|(.., raw)| raw.contains(&b'\t'));
        if has_tab("content-length") || has_tab("transfer-encoding") {
            return None;
        }
        match (self.all("content-length").as_slice(), self.all("transfer-encoding").as_slice()) {
            ([], []) => Some(Framing::Absent),
            ([], [encoding]) => (minor == 1 && encoding.eq_ignore_ascii_case(b"chunked")).then_some(Framing::Chunked),
            ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                let mut value = 0;
                for digit in *length {
                    value = (value * 10 + usize::from(digit - b'0')).min(BODY_BYTES + 1);
                }
                (value <= BODY_BYTES).then_some(Framing::Known(value))
            }
            _ => None,
        }
    }
}

/// Reads a chunked body at the beginning of `bytes`: the body, and where it ends.
#[must_use]
pub fn chunked(bytes: &[u8]) -> Read<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let line = match line(bytes, &mut at) {
            Read::Whole(line) => line,
            Read::Refused => return Read::Refused,
            Read::Unfinished => return Read::Unfinished,
        };
        if !(1..=8).contains(&line.len()) || !line.iter().all(u8::is_ascii_hexdigit) {
            return Read::Refused;
        }
        let size = line.iter().fold(0, |size, digit| size * 16 + char::from(*digit).to_digit(16).unwrap_or(0) as usize);
        if body.len() + size > BODY_BYTES {
            return Read::Refused;
        }
        if size == 0 {
            return trailers(bytes, at, body);
        }
        let Some(data) = bytes.get(at..at + size) else { return Read::Unfinished };
        body.extend_from_slice(data);
        at += size;
        match line_end(&bytes[at..]) {
            Read::Whole(()) => at += 2,
            Read::Refused => return Read::Refused,
            Read::Unfinished => return Read::Unfinished,
        }
    }
}

fn trailers(bytes: &[u8], mut at: usize, body: Vec<u8>) -> Read<(Vec<u8>, usize)> {
    for left in (0..=TRAILERS).rev() {
        match line(bytes, &mut at) {
            Read::Whole([]) => return Read::Whole((body, at)),
            Read::Whole(trailer)
                if left > 0 && trailer.len() <= TRAILER_BYTES && Fields::read(vec![trailer]).is_some() => {}
            Read::Whole(_) | Read::Refused => return Read::Refused,
            Read::Unfinished => return Read::Unfinished,
        }
    }
    Read::Refused
}

/// What comes before the next CR LF.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Read<&'a [u8]> {
    let rest = &bytes[*at..];
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Read::Unfinished };
    *at += end + 1;
    match rest[..end].split_last() {
        Some((b'\r', line)) => Read::Whole(line),
        _ => Read::Refused,
    }
}

fn line_end(rest: &[u8]) -> Read<()> {
    match rest {
        [] | [b'\r'] => Read::Unfinished,
        [b'\r', b'\n', ..] => Read::Whole(()),
        // Where the line ends is not known yet, only that it does not end well.
        _ if !rest.contains(&b'\n') => Read::Unfinished,
        _ => Read::Refused,
    }
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
