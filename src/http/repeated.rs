//! The head that a connection has received last: a client that posts order after order sends the same one again, perhaps with
//! another key of the same length, and what follows from its bytes is known. Knows nothing of connections.

use std::ops::Range;

use super::problem::Problem;
use super::request::Head;

/// Longer heads are not kept, so that an idle connection holds little: 1 KiB, a browser's without cookies.
const MOST_BYTES: usize = 1024;

/// The line whose value may differ: no part of a [`Head`] depends on it but its place.
const KEY_LINE: &[u8] = b"Idempotency-Key";

/// The last head while no request has it, and its bytes.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    bytes: Vec<u8>,
    /// Where the value of the first [`KEY_LINE`] is; empty if there is none.
    key: Range<usize>,
    head: Option<Head>,
}

impl Repeated {
    /// The head at the beginning of `input`, as [`Head::parse`] finds it.
    ///
    /// # Errors
    /// As there.
    pub(super) fn parse(&mut self, input: &[u8]) -> Result<Option<Head>, Problem> {
        // What a complete head means depends on its own bytes alone.
        if let Some(head) = self.head.take_if(|_| is_repeated(&self.bytes, &self.key, input)) {
            return Ok(Some(head));
        }
        let parsed = Head::parse(input)?;
        if let Some(head) = &parsed {
            self.head = None;
            self.bytes.clear();
            self.bytes.extend_from_slice(&input[..head.length.min(MOST_BYTES)]);
            let key = head.lines.iter().find(|(name, _)| name.bytes(input).eq_ignore_ascii_case(KEY_LINE));
            self.key = key.map_or(0..0, |(_, value)| value.range());
        }
        Ok(parsed)
    }

    /// Takes back the head that was parsed last.
    pub(super) fn put_back(&mut self, head: Head) {
        if head.length == self.bytes.len() {
            self.head = Some(head);
        }
    }
}

/// Whether `input` begins with these bytes, or with others that only have another key: visible characters of ASCII, which
/// end no line and begin or end no value elsewhere.
fn is_repeated(bytes: &[u8], key: &Range<usize>, input: &[u8]) -> bool {
    input.get(..bytes.len()).is_some_and(|head| {
        head[..key.start] == bytes[..key.start]
            && head[key.end..] == bytes[key.end..]
            && head[key.clone()].iter().all(u8::is_ascii_graphic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(repeated: &mut Repeated, input: &str) -> (String, Head) {
        let head = repeated.parse(input.as_bytes()).unwrap().unwrap();
        (head.request(input.as_bytes()).path().to_owned(), head)
    }

    #[test]
    fn a_head_is_taken_again_for_the_same_bytes_only() {
        let mut repeated = Repeated::default();
        let post = |id: &str| format!("POST /orders/{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n");
        let (first, head) = path(&mut repeated, &post("A1"));
        repeated.put_back(head);
        assert!(repeated.head.is_some());
        let (again, head) = path(&mut repeated, &(post("A1") + "{\"amount\":1}"));
        assert!(repeated.head.is_none(), "it was not parsed again");
        repeated.put_back(head);
        let (other, head) = path(&mut repeated, &post("A2"));
        assert_eq!((&first[..], &again[..], &other[..]), ("/orders/A1", "/orders/A1", "/orders/A2"));
        repeated.put_back(head);
        for end in 0..post("A2").len() {
            assert!(repeated.parse(&post("A2").as_bytes()[..end]).unwrap().is_none(), "{end}");
        }
        assert!(repeated.parse(b"no head\r\n\r\n").is_err());
        assert_eq!(path(&mut repeated, &post("A2")).0, "/orders/A2");
    }

    #[test]
    fn a_head_with_another_key_of_the_same_length_is_taken_again_as_it_would_be_parsed() {
        let post = |key: &str| {
            format!("POST /orders/A1 HTTP/1.1\r\nHost: a\r\nidempotency-key: {key}\r\nContent-Length: 2\r\n\r\n{{}}")
        };
        let mut repeated = Repeated::default();
        for (key, is_taken) in [
            ("till-1", false),
            ("till-2", true),
            ("\"a-b=\"", true),
            ("till-12", false),
            ("a c-e-g", false),
            ("a-c-e-g", true),
            ("a\tc-e-g", false),
            ("till-3", false),
            ("till-\u{e9}", false),
            ("", false),
            ("x", false),
        ] {
            let input = post(key);
            let head = repeated.parse(input.as_bytes()).unwrap().unwrap();
            let was_taken = repeated.bytes != input.as_bytes()[..head.length];
            let expected = Head::parse(input.as_bytes()).unwrap().unwrap();
            assert_eq!(format!("{head:?}"), format!("{expected:?}"), "{key}");
            assert_eq!(head.request(input.as_bytes()).header("Idempotency-Key"), Some(key));
            assert_eq!(was_taken, is_taken, "{key}");
            repeated.put_back(head);
        }
        // What ends a line in the middle of a key is a request of its own, as it would be without the head before.
        let smuggled =
            "POST /orders/A1 HTTP/1.1\r\nHost: a\r\nidempotency-key: t\r\n\r\nXY\r\nContent-Length: 2\r\n\r\n{}";
        let (_, head) = path(&mut repeated, &post("till-12"));
        repeated.put_back(head);
        let head = repeated.parse(smuggled.as_bytes()).unwrap().unwrap();
        assert!(smuggled[head.length..].starts_with("XY\r\n"), "{head:?}");
    }

    #[test]
    fn a_long_head_is_not_kept() {
        let mut repeated = Repeated::default();
        let long = |end: char| format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}{end}\r\n\r\n", "-".repeat(MOST_BYTES));
        let (_, head) = path(&mut repeated, &long('1'));
        repeated.put_back(head);
        assert!(repeated.head.is_none() && repeated.bytes.len() <= MOST_BYTES);
        let head = path(&mut repeated, &long('2')).1;
        assert!(head.request(long('2').as_bytes()).header("Cookie").unwrap().ends_with('2'));
    }
}
