//! A strict decoder of chunked bodies (RFC 9112, section 7.1). No I/O.
//!
//! The `chunked_transfer` crate is not used: it accepts a body that ends inside a chunk, and sizes such as `+5`. Two
//! servers could then disagree about the end of a request.

use super::framing::body_too_large;
use super::problem::Problem;
use super::request::{MAX_BODY_BYTES, is_token};

/// The longest line between chunks, in bytes. A size has at most eight digits, and trailer lines are short.
const MAX_LINE_BYTES: usize = 1_024;
/// The most trailer lines.
const MAX_TRAILERS: usize = 16;
/// The most bytes of chunk extensions of one body. They are ignored, and a chunk of one byte may have a whole line of them.
const MAX_EXTENSION_BYTES: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Size,
    /// The remaining bytes of a chunk.
    Data(usize),
    /// The line end after a chunk.
    DataEnd,
    /// The last chunk was read; this many trailer lines may follow.
    Trailer(usize),
    Nothing,
}

/// A chunked body that is being read.
#[derive(Debug)]
pub struct Chunked {
    expects: Expects,
    body: Vec<u8>,
    /// The bytes of chunk extensions so far.
    extension_bytes: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { expects: Expects::Size, body: Vec::new(), extension_bytes: 0 }
    }
}

impl Chunked {
    /// Decodes more bytes and returns how many were used. The rest belongs to an incomplete line or to the next
    /// request.
    ///
    /// # Errors
    /// The [`Problem`] to answer with. The connection cannot be used after it.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Problem> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.expects {
                Expects::Nothing => return Ok(used),
                Expects::Data(missing) => {
                    let length = missing.min(rest.len());
                    if length == 0 {
                        return Ok(used);
                    }
                    self.body.extend_from_slice(&rest[..length]);
                    used += length;
                    self.expects = if length == missing { Expects::DataEnd } else { Expects::Data(missing - length) };
                }
                Expects::Size | Expects::DataEnd | Expects::Trailer(_) => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        // The additional byte may be the line's CR, whose LF has not arrived.
                        return if rest.len() > MAX_LINE_BYTES + 1 { Err(malformed()) } else { Ok(used) };
                    };
                    let line = rest[..end].strip_suffix(b"\r").ok_or_else(malformed)?;
                    self.line(line)?;
                    used += end + 1;
                }
            }
        }
    }

    /// The body, once its last chunk and the trailer lines have been read.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (self.expects == Expects::Nothing).then(|| std::mem::take(&mut self.body))
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.expects = match self.expects {
            Expects::Size => match self.size(line)? {
                0 => Expects::Trailer(MAX_TRAILERS),
                size if size > MAX_BODY_BYTES - self.body.len() => return Err(body_too_large()),
                size => Expects::Data(size),
            },
            Expects::DataEnd if line.is_empty() => Expects::Size,
            Expects::Trailer(_) if line.is_empty() => Expects::Nothing,
            Expects::Trailer(left) if left > 0 && line.len() <= MAX_LINE_BYTES && is_field(line) => {
                Expects::Trailer(left - 1)
            }
            _ => return Err(malformed()),
        };
        Ok(())
    }

    /// Parses the line of a chunk: its size, and extensions, which are ignored (RFC 9112, section 7.1.1).
    fn size(&mut self, line: &[u8]) -> Result<usize, Problem> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extensions) = line.split_at(digits);
        if line.len() > MAX_LINE_BYTES || !are_extensions(extensions) {
            return Err(malformed());
        }
        self.extension_bytes += extensions.len();
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            let detail = format!("send at most {MAX_EXTENSION_BYTES} bytes of chunk extensions");
            return Err(Problem::new(413, detail));
        }
        chunk_size(size)
    }
}

fn malformed() -> Problem {
    Problem::new(400, "the chunked body is malformed")
}

/// Whether a trailer line is a name, a colon and a value, as in a head (RFC 9112, section 5). Any other line, such as a
/// folded one, could be the beginning of a request to another server. The fields themselves are ignored.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = line.split_at(colon);
    is_token(name) && value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// Whether the bytes are chunk extensions: `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112,
/// section 7.1.1). Every other text could hide a line end from another reader.
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = without_space(rest).strip_prefix(b";") else { return false };
        let Some(after) = after_token(without_space(after)) else { return false };
        rest = after;
        if let Some(value) = without_space(after).strip_prefix(b"=") {
            let value = without_space(value);
            let end = if value.starts_with(b"\"") { after_quoted_string(value) } else { after_token(value) };
            let Some(after) = end else { return false };
            rest = after;
        }
    }
    true
}

/// What follows spaces and tabs.
fn without_space(bytes: &[u8]) -> &[u8] {
    let spaces = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[spaces..]
}

/// What follows a token.
fn after_token(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().take_while(|byte| is_token(&[**byte])).count();
    (length > 0).then(|| &bytes[length..])
}

/// What follows a quoted string (RFC 9110, section 5.6.4), which begins with its quote.
fn after_quoted_string(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(&bytes[at + 1..]),
            b'\\' if matches!(bytes.get(at + 1)?, b'\t' | b' '..=b'~' | 0x80..) => at += 2,
            b'\t' | b' '..=b'[' | b']'..=b'~' | 0x80.. => at += 1,
            _ => return None,
        }
    }
}

/// Parses one to eight hexadecimal digits.
fn chunk_size(line: &[u8]) -> Result<usize, Problem> {
    if line.is_empty() || line.len() > 8 {
        return Err(malformed());
    }
    let digits = std::str::from_utf8(line).map_err(|_| malformed())?;
    usize::from_str_radix(digits, 16).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(Option<Vec<u8>>, usize), u16> {
        let mut chunked = Chunked::default();
        let used = chunked.feed(bytes).map_err(|problem| problem.status())?;
        Ok((chunked.finish(), used))
    }

    #[test]
    fn chunks_are_joined_and_the_next_request_is_left() {
        let bytes = b"3\r\n{\"a\r\n0A\r\nmount\":10}\r\n0\r\nX-Trailer: y\r\n\r\nGET";
        assert_eq!(read(bytes), Ok((Some(b"{\"amount\":10}".to_vec()), bytes.len() - 3)));
    }

    #[test]
    fn the_body_does_not_depend_on_where_the_bytes_are_split() {
        let bytes = b"3\r\n{\"a\r\n0A\r\nmount\":10}\r\n0\r\n\r\n";
        for cut in 0..bytes.len() {
            let mut chunked = Chunked::default();
            let used = chunked.feed(&bytes[..cut]).unwrap();
            assert_eq!(chunked.finish(), None, "{cut}");
            let used = used + chunked.feed(&bytes[used..]).unwrap();
            assert_eq!(used, bytes.len());
            assert_eq!(chunked.finish().unwrap(), b"{\"amount\":10}");
        }
    }

    #[test]
    fn the_longest_trailer_line_may_be_split_anywhere() {
        let bytes = format!("0\r\na:{}\r\n\r\n", "a".repeat(MAX_LINE_BYTES - 2));
        for cut in 0..bytes.len() {
            let mut chunked = Chunked::default();
            let used = chunked.feed(&bytes.as_bytes()[..cut]).unwrap();
            chunked.feed(&bytes.as_bytes()[used..]).unwrap();
            assert_eq!(chunked.finish(), Some(Vec::new()), "{cut}");
        }
        assert_eq!(read(format!("0\r\na:{}\r\n", "a".repeat(MAX_LINE_BYTES - 1)).as_bytes()), Err(400));
    }

    #[test]
    fn malformed_sizes_and_line_ends_are_rejected() {
        for size in ["+5", " 5", "5 ", "5;", "0x5", "-1", "", "g", "123456789", "FFFFFFFFFFFFFFFFFF"] {
            assert_eq!(read(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes()), Err(400), "{size}");
        }
        assert_eq!(read(b"5\nhello\r\n"), Err(400));
        assert_eq!(read(b"5\r\nhelloX\r\n"), Err(400));
        assert_eq!(read(b"5\r\nhello\n0\r\n\r\n"), Err(400));
    }

    #[test]
    fn extensions_are_ignored_if_they_are_well_formed() {
        let with = |extensions: &str| format!("5{extensions}\r\nhello\r\n0{extensions}\r\n\r\n");
        for extensions in [
            ";x",
            ";x=y",
            " ; x",
            ";x = y\t;z",
            ";x=\"\"",
            ";x=\"a;\\\"b\\\\\" ; y",
            ";x=\"\u{e4}\"",
            ";!#$%&'*+-.^_`|~",
        ] {
            assert_eq!(
                read(with(extensions).as_bytes()).map(|(body, _)| body),
                Ok(Some(b"hello".to_vec())),
                "{extensions}"
            );
        }
        for extensions in [
            ";",
            ";;x",
            ";=y",
            ";x=",
            ";x;",
            ";x ",
            " ",
            ";x y",
            ";x=y z",
            ";x=\"",
            ";x=\"y",
            ";x=\"\\",
            ";x=\"y\"z",
            ";x=\"\u{1}\"",
            ";\0",
            ";x\r",
            ";x=\"\r\"",
            ";x=\"\\\r\"",
            ",x",
            "x;y",
            ";\u{e4}",
            ";x\ny",
            ";x=\"\n\"",
        ] {
            assert_eq!(read(with(extensions).as_bytes()), Err(400), "{extensions:?}");
        }
    }

    #[test]
    fn extensions_are_bounded_by_line_and_together() {
        let line = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes - 2));
        assert!(read(line(MAX_LINE_BYTES).as_bytes()).is_ok());
        assert_eq!(read(line(MAX_LINE_BYTES + 1).as_bytes()), Err(400));
        // Four bytes of them are sizes.
        let most = line(MAX_LINE_BYTES).repeat(4) + "1;abc\r\nx\r\n";
        assert!(read(most.as_bytes()).is_ok());
        assert_eq!(read((most + "1;a\r\nx\r\n").as_bytes()), Err(413));
    }

    #[test]
    fn body_and_trailer_are_bounded() {
        assert_eq!(read(b"10001\r\n"), Err(413));
        assert_eq!(read(b"FFFFFFFF\r\n"), Err(413));
        let mut chunked = Chunked::default();
        chunked.feed(format!("FFFF\r\n{}\r\n", "x".repeat(0xffff)).as_bytes()).unwrap();
        assert_eq!(chunked.feed(b"2\r\n").unwrap_err().status(), 413);
        let endless = format!("0\r\n{}", "a: b\r\n".repeat(MAX_TRAILERS + 1));
        assert_eq!(read(endless.as_bytes()), Err(400));
    }
}
