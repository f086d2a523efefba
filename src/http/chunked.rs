//! Reading a chunked body (RFC 9112, section 7.1), strictly. Pure: fed with bytes, does no I/O.
//!
//! Ours, because the decoder of chunked_transfer takes a body that ends in the middle of a chunk for a whole one, and
//! sizes such as `+5` for numbers: two readers of the same bytes could then disagree about where a request ends.

use super::problem::Problem;
use super::request::{MAX_BODY_BYTES, body_too_large};

/// The longest line between chunks, in bytes: eight hexadecimal digits are plenty, and trailer lines are short.
const MAX_LINE_BYTES: usize = 1_024;
/// The most trailer lines that are passed over.
const MAX_TRAILERS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Size,
    /// So many bytes of a chunk.
    Data(usize),
    /// The line end behind a chunk.
    DataEnd,
    /// So many trailer lines may still follow the last chunk.
    Trailer(usize),
    Nothing,
}

/// A chunked body in the making.
#[derive(Debug)]
pub struct Chunked {
    expects: Expects,
    body: Vec<u8>,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { expects: Expects::Size, body: Vec::new() }
    }
}

impl Chunked {
    /// Reads on; returns how many bytes were used. The rest is part of an unfinished line, or of the next request.
    ///
    /// # Errors
    /// The [`Problem`] to answer with, after which the connection cannot be used any more.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Problem> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.expects {
                Expects::Nothing => return Ok(used),
                Expects::Data(missing) => {
                    let taken = missing.min(rest.len());
                    if taken == 0 {
                        return Ok(used);
                    }
                    self.body.extend_from_slice(&rest[..taken]);
                    used += taken;
                    self.expects = if taken == missing { Expects::DataEnd } else { Expects::Data(missing - taken) };
                }
                Expects::Size | Expects::DataEnd | Expects::Trailer(_) => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        // One more may be the line's CR, whose LF is still to come.
                        return if rest.len() > MAX_LINE_BYTES + 1 { Err(malformed()) } else { Ok(used) };
                    };
                    let line = rest[..end].strip_suffix(b"\r").ok_or_else(malformed)?;
                    self.line(line)?;
                    used += end + 1;
                }
            }
        }
    }

    /// The whole body, once its last chunk and the trailers have been read.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (self.expects == Expects::Nothing).then(|| std::mem::take(&mut self.body))
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.expects = match self.expects {
            Expects::Size => match chunk_size(line)? {
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
}

fn malformed() -> Problem {
    Problem::new(400, "the chunked body is malformed")
}

/// A trailer line is a name, a colon and a value, as in the head (RFC 9112, section 5): what is none, a line that is
/// folded for one, could be the beginning of a request to another reader. What it says is passed over.
fn is_field(line: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = line.split_at(colon);
    colon > 0 && name.iter().all(is_token) && value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// One to eight hexadecimal digits and nothing else: chunk extensions are refused, since nobody here could mean one.
fn chunk_size(line: &[u8]) -> Result<usize, Problem> {
    if line.is_empty() || line.len() > 8 || !line.iter().all(u8::is_ascii_hexdigit) {
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
    fn chunks_are_joined_and_what_follows_is_left_alone() {
        let bytes = b"3\r\n{\"a\r\n0A\r\nmount\":10}\r\n0\r\nX-Trailer: y\r\n\r\nGET";
        assert_eq!(read(bytes), Ok((Some(b"{\"amount\":10}".to_vec()), bytes.len() - 3)));
    }

    #[test]
    fn any_split_reads_the_same() {
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
    fn a_trailer_at_its_bound_may_be_cut_within_its_line_end() {
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
    fn whatever_is_not_a_plain_size_is_refused() {
        for size in ["+5", " 5", "5 ", "5;x=y", "0x5", "-1", "", "g", "123456789", "FFFFFFFFFFFFFFFFFF"] {
            assert_eq!(read(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes()), Err(400), "{size}");
        }
        assert_eq!(read(b"5\nhello\r\n"), Err(400));
        assert_eq!(read(b"5\r\nhelloX\r\n"), Err(400));
        assert_eq!(read(b"5\r\nhello\n0\r\n\r\n"), Err(400));
    }

    #[test]
    fn a_body_ends_at_its_bound() {
        assert_eq!(read(b"10001\r\n"), Err(413));
        assert_eq!(read(b"FFFFFFFF\r\n"), Err(413));
        let mut chunked = Chunked::default();
        chunked.feed(format!("FFFF\r\n{}\r\n", "x".repeat(0xffff)).as_bytes()).unwrap();
        assert_eq!(chunked.feed(b"2\r\n").unwrap_err().status(), 413);
        let endless = format!("0\r\n{}", "a: b\r\n".repeat(MAX_TRAILERS + 1));
        assert_eq!(read(endless.as_bytes()), Err(400));
    }
}
