//! The head that a connection has received last: a client that posts order after order sends the same one again, and what
//! follows from its bytes is known. Knows nothing of connections.

use super::problem::Problem;
use super::request::Head;

/// Longer heads are not kept, so that an idle connection holds little: 1 KiB, a browser's without cookies.
const MOST_BYTES: usize = 1024;

/// The last head while no request has it, and its bytes.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    bytes: Vec<u8>,
    head: Option<Head>,
}

impl Repeated {
    /// The head at the beginning of `input`, as [`Head::parse`] finds it.
    ///
    /// # Errors
    /// As there.
    pub(super) fn parse(&mut self, input: &[u8]) -> Result<Option<Head>, Problem> {
        // What a complete head means depends on its own bytes alone.
        if let Some(head) = self.head.take_if(|_| input.starts_with(&self.bytes)) {
            return Ok(Some(head));
        }
        let parsed = Head::parse(input)?;
        if let Some(head) = &parsed {
            self.head = None;
            self.bytes.clear();
            self.bytes.extend_from_slice(&input[..head.length.min(MOST_BYTES)]);
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
