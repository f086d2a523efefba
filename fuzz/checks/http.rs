//! A strict reader of requests, written from RFC 9112 and the server's documentation, not from its code. It reads a
//! head only once it is complete.

use std::net::Ipv6Addr;
use std::str;

/// The limits that the documentation states: bytes of a head, header fields, bytes of a body.
const HEAD_BYTES: usize = 16 * 1024;
const HEADER_LINES: usize = 64;
const BODY_BYTES: usize = 64 * 1024;
/// Bytes of one line of a chunked body, the number of trailer fields, and bytes of all chunk extensions of a body.
const LINE_BYTES: usize = 1_024;
const TRAILERS: usize = 16;
const EXTENSION_BYTES: usize = 4 * 1024;

/// The result of reading some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// The end is missing. The server, which reads earlier, may reject it already.
    Unfinished,
    /// Not valid, whatever bytes follow.
    Invalid,
    /// Complete and valid.
    Whole(T),
}

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Absent,
    /// After so many bytes.
    Known(usize),
    /// After the last chunk.
    Chunked,
}

/// A request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes, with the empty line at the end and the empty lines before it.
    pub length: usize,
    /// The method as sent.
    pub method: String,
    /// The target up to a question mark.
    pub path: String,
    /// The minor version of HTTP/1.
    pub minor: u8,
    /// The value of the only `Host` field.
    pub host: Option<String>,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection is kept open after the answer.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// Reads the head at the start of `bytes`.
#[must_use]
pub fn head(bytes: &[u8]) -> Read<Head> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES)];
    // Empty lines before a head are skipped. One that ends in LF alone is not valid, but the server rejects it only
    // with the head that follows.
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
        return if bytes.len() >= HEAD_BYTES { Read::Invalid } else { Read::Unfinished };
    };
    let head = whole_head(&window[start..start + end], start + end + 4).filter(|_| !bare);
    head.map_or(Read::Invalid, Read::Whole)
}

fn whole_head(text: &[u8], length: usize) -> Option<Head> {
    let mut lines = lines_of(text).into_iter();
    let parts: Vec<&[u8]> = lines.next()?.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let minor = match version {
        b"HTTP/1.0" => 0,
        // A later one is handled as HTTP/1.1.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => 1,
        _ => return None,
    };
    let fields = Fields::read(lines.collect())?;
    let host = match (fields.all("host").as_slice(), minor) {
        ([one], _) => Some(Some(text_of(one)).filter(|host| is_host(host.as_bytes()))?),
        ([], 0) => None,
        _ => return None,
    };
    let (authority, path) = target_parts(target)?;
    if authority
        .as_ref()
        .is_some_and(|authority| !host.as_deref().is_some_and(|host| host.eq_ignore_ascii_case(authority)))
    {
        return None;
    }
    if authority.is_some() && method == b"CONNECT" {
        return None;
    }
    let expects_continue = match fields.all("expect").first() {
        None => false,
        Some(expected) if expected.eq_ignore_ascii_case(b"100-continue") => minor == 1,
        Some(_) => return None,
    };
    Some(Head {
        length,
        method: is_token(method).then(|| text_of(method))?,
        path,
        minor,
        host,
        framing: fields.framing(minor)?,
        keep_alive: if minor == 1 { !fields.connection_has("close") } else { fields.connection_has("keep-alive") },
        expects_continue,
    })
}

/// Splits at CR LF. Any other CR or LF stays in its line, where it is not valid.
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

/// The authority, if the target has one, and the path of a target, unless its escapes are malformed or could be read in
/// two ways.
fn target_parts(target: &[u8]) -> Option<(Option<String>, String)> {
    let plain = target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#');
    let is_absolute = target.len() >= 7 && target[..7].eq_ignore_ascii_case(b"http://");
    if !plain || (target != b"*" && target.first() != Some(&b'/') && !is_absolute) {
        return None;
    }
    let mut path = target.split(|byte| *byte == b'?').next()?;
    let mut authority = None;
    if is_absolute {
        let end = path[7..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| at + 7);
        authority = Some(text_of(&path[7..end]));
        path = if end == path.len() { b"/" } else { &path[end..] };
    }
    for escape in path.split(|byte| *byte == b'%').skip(1) {
        let digits = str::from_utf8(escape.get(..2)?).ok()?;
        // `from_str_radix` accepts a sign.
        let code = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        if code < 0x20 || b"/\\.%\x7f".contains(&code) {
            return None;
        }
    }
    Some((authority, text_of(path)))
}

/// A name or an IPv6 address in brackets, and an optional port.
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

/// Header fields: name, trimmed value, and value with the white space around it.
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

    /// Whether `Connection` lists the token. Like the server, ignores a value that is not UTF-8.
    fn connection_has(&self, token: &str) -> bool {
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

/// Reads a chunked body at the start of `bytes`: the body, and its length as sent.
#[must_use]
pub fn chunked(bytes: &[u8]) -> Read<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut at = 0;
    let mut extension_bytes = 0;
    loop {
        let line = match line(bytes, &mut at) {
            Read::Whole(line) => line,
            Read::Invalid => return Read::Invalid,
            Read::Unfinished => return Read::Unfinished,
        };
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (size, extensions) = line.split_at(digits);
        extension_bytes += extensions.len();
        if line.len() > LINE_BYTES || extension_bytes > EXTENSION_BYTES || !is_extension_list(extensions) {
            return Read::Invalid;
        }
        if !(1..=8).contains(&size.len()) {
            return Read::Invalid;
        }
        let size = size.iter().fold(0, |size, digit| size * 16 + char::from(*digit).to_digit(16).unwrap_or(0) as usize);
        if body.len() + size > BODY_BYTES {
            return Read::Invalid;
        }
        if size == 0 {
            return trailers(bytes, at, body);
        }
        let Some(data) = bytes.get(at..at + size) else { return Read::Unfinished };
        body.extend_from_slice(data);
        at += size;
        match line_end(&bytes[at..]) {
            Read::Whole(()) => at += 2,
            Read::Invalid => return Read::Invalid,
            Read::Unfinished => return Read::Unfinished,
        }
    }
}

/// Chunk extensions (RFC 9112, section 7.1.1), read byte by byte.
fn is_extension_list(bytes: &[u8]) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        /// Behind the size or a value; whether white space has come.
        End(bool),
        BeforeName,
        Name,
        AfterName,
        BeforeValue,
        Value,
        Quoted,
        Escaped,
    }
    let mut at = At::End(false);
    for byte in bytes {
        let (space, token) = (matches!(byte, b' ' | b'\t'), is_token(&[*byte]));
        let legal = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        at = match (at, byte) {
            (At::End(_) | At::Name | At::AfterName | At::Value, b';') => At::BeforeName,
            (At::End(_) | At::Value, _) if space => At::End(true),
            (At::BeforeName, _) if space => At::BeforeName,
            (At::BeforeName | At::Name, _) if token => At::Name,
            (At::Name | At::AfterName, b'=') => At::BeforeValue,
            (At::Name | At::AfterName, _) if space => At::AfterName,
            (At::BeforeValue, _) if space => At::BeforeValue,
            (At::BeforeValue, b'"') => At::Quoted,
            (At::BeforeValue | At::Value, _) if token => At::Value,
            (At::Quoted, b'"') => At::End(false),
            (At::Quoted, b'\\') => At::Escaped,
            (At::Quoted | At::Escaped, _) if legal => At::Quoted,
            _ => return false,
        };
    }
    matches!(at, At::End(false) | At::Name | At::Value)
}

fn trailers(bytes: &[u8], mut at: usize, body: Vec<u8>) -> Read<(Vec<u8>, usize)> {
    for left in (0..=TRAILERS).rev() {
        match line(bytes, &mut at) {
            Read::Whole([]) => return Read::Whole((body, at)),
            Read::Whole(trailer)
                if left > 0 && trailer.len() <= LINE_BYTES && Fields::read(vec![trailer]).is_some() => {}
            Read::Whole(_) | Read::Invalid => return Read::Invalid,
            Read::Unfinished => return Read::Unfinished,
        }
    }
    Read::Invalid
}

/// Reads a line that ends in CR LF, and moves `at` behind it.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Read<&'a [u8]> {
    let rest = &bytes[*at..];
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Read::Unfinished };
    *at += end + 1;
    match rest[..end].split_last() {
        Some((b'\r', line)) => Read::Whole(line),
        _ => Read::Invalid,
    }
}

fn line_end(rest: &[u8]) -> Read<()> {
    match rest {
        [] | [b'\r'] => Read::Unfinished,
        [b'\r', b'\n', ..] => Read::Whole(()),
        // Not valid, but the server rejects it only at the end of the line.
        _ if !rest.contains(&b'\n') => Read::Unfinished,
        _ => Read::Invalid,
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
