//! Totals and notices as WebSocket frames (RFC 6455, section 5.2), server-sent events (HTML standard, section 9.2) and
//! JSON arrays.
//! Encoded once and shared by all subscribers of a feed.

use super::quoted;

/// The first byte of an unfragmented text frame: FIN and opcode 1.
const TEXT_FRAME: u8 = 0x81;
/// The first byte of a close frame: FIN and opcode 8.
pub const CLOSE_FRAME: u8 = 0x88;
/// The longest payload whose length fits into a frame's second byte.
const SHORT_PAYLOAD: usize = 125;
/// A frame's second byte when the payload's length follows in two bytes.
const TWO_BYTE_LENGTH: u8 = 126;

/// A comment that is sent on a silent event stream, so that proxies keep it open and a write finds a client that is
/// gone.
pub const HEARTBEAT_EVENT: &[u8] = b":\n\n";
/// The first line of an event stream: a browser connects again a second after the end, and not after its default of some
/// seconds (HTML standard, section 9.2.6).
pub const RETRY_EVENT: &[u8] = b"retry: 1000\n\n";

/// Why the server ends a feed. The client can resume from its last position.
#[derive(Debug, Clone, Copy)]
pub struct FeedEnd {
    /// The close code of a WebSocket.
    code: u16,
    reason: &'static str,
}

/// The server shuts down: 1001, going away (RFC 6455, section 7.4.1).
pub const SHUTDOWN: FeedEnd = FeedEnd { code: 1001, reason: "the server is shutting down" };
/// Orders that the client is owed cannot be read: 1013, try again later (IANA's registry of close codes).
pub const LOG_UNREADABLE: FeedEnd = FeedEnd { code: 1013, reason: "the log cannot be read now; resume later" };

/// A server that follows this one has a position that is unknown here: 1008, policy violation.
pub const POSITION_UNKNOWN: FeedEnd = FeedEnd { code: 1008, reason: "this position is unknown here; begin again" };

impl FeedEnd {
    /// The reason, as a WebSocket's close frame has it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.reason
    }

    /// The close frame of a WebSocket.
    #[must_use]
    pub fn close_frame(self) -> Vec<u8> {
        let mut frame = vec![CLOSE_FRAME, 2 + self.reason.len() as u8];
        frame.extend_from_slice(&self.code.to_be_bytes());
        frame.extend_from_slice(self.reason.as_bytes());
        frame
    }

    /// The last comment of an event stream.
    #[must_use]
    pub fn event(self) -> Vec<u8> {
        format!(": {}\n\n", self.reason).into_bytes()
    }
}

/// The part of a product's messages before the number, for the functions below.
#[must_use]
pub fn total_prefix(id: &str) -> Vec<u8> {
    format!(r#"{{"id":{},"total":"#, quoted(id)).into_bytes()
}

/// Appends one total as a WebSocket text frame: `{"id":"A1","total":13}`.
pub fn push_total_frame(frames: &mut Vec<u8>, prefix: &[u8], total: i64) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(total);
    // An id has at most 64 bytes, which need no escapes, and a total or a period's count (the difference of two
    // totals) at most 18, so the payload is always short.
    let payload = prefix.len() + digits.len() + 1;
    debug_assert!(payload <= SHORT_PAYLOAD);
    frames.extend_from_slice(&[TEXT_FRAME, payload as u8]);
    frames.extend_from_slice(prefix);
    frames.extend_from_slice(digits.as_bytes());
    frames.push(b'}');
}

/// Appends one total with its position as a WebSocket text frame: `{"id":"A1","total":13,"position":"…"}`.
pub fn push_positioned_frame(frames: &mut Vec<u8>, prefix: &[u8], total: i64, position: &str) {
    const MEMBER: &[u8] = br#","position":""#;
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(total);
    let payload = prefix.len() + digits.len() + MEMBER.len() + position.len() + 2;
    if payload <= SHORT_PAYLOAD {
        frames.extend_from_slice(&[TEXT_FRAME, payload as u8]);
    } else {
        frames.extend_from_slice(&[TEXT_FRAME, TWO_BYTE_LENGTH]);
        frames.extend_from_slice(&(payload as u16).to_be_bytes());
    }
    for part in [prefix, digits.as_bytes(), MEMBER, position.as_bytes(), b"\"}"] {
        frames.extend_from_slice(part);
    }
}

/// Appends one total as a server-sent event. Its id is the position, if the client can resume from it.
pub fn push_event(events: &mut Vec<u8>, prefix: &[u8], total: i64, position: Option<&str>) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(total);
    if let Some(position) = position {
        for part in ["id: ", position, "\n"] {
            events.extend_from_slice(part.as_bytes());
        }
    }
    for part in [b"data: ", prefix, digits.as_bytes(), b"}\n\n"] {
        events.extend_from_slice(part);
    }
}

/// A live feed, as its subscribers are told it from time to time. By the version a page finds that the server has been
/// replaced.
pub const STATUS_LIVE: &str = concat!(r#"{"status":"live","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// A feed whose totals may be older than what is stored, because the server does not hear of new ones.
pub const STATUS_STALE: &str = concat!(r#"{"status":"stale","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// Tells a server that follows this one that the catalogue was changed or a period was opened: `{"news":7}`.
#[must_use]
pub fn news_notice(number: u64) -> String {
    format!(r#"{{"news":{number}}}"#)
}

/// Tells that products of this category were changed.
#[must_use]
pub fn catalog_notice(category: &str) -> String {
    format!(r#"{{"catalog":{}}}"#, quoted(category))
}

/// Appends a text as a WebSocket text frame. For notices: none exceeds a short frame.
pub fn push_text_frame(frames: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= SHORT_PAYLOAD);
    frames.extend_from_slice(&[TEXT_FRAME, text.len() as u8]);
    frames.extend_from_slice(text.as_bytes());
}

/// Appends a text as a server-sent event with a name. It has no id: a client resumes from the last total.
pub fn push_named_event(events: &mut Vec<u8>, name: &str, text: &str) {
    for part in ["event: ", name, "\ndata: ", text, "\n\n"] {
        events.extend_from_slice(part.as_bytes());
    }
}

/// Totals as one JSON array, of the prefix and number of each.
pub fn totals_array<'a>(totals: impl Iterator<Item = (&'a [u8], i64)>) -> Vec<u8> {
    let mut array = vec![b'['];
    for (prefix, total) in totals {
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(prefix);
        array.extend_from_slice(itoa::Buffer::new().format(total).as_bytes());
        array.push(b'}');
    }
    array.push(b']');
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::MAX_ID_BYTES;
    use crate::tally::order::MAX_TOTAL;

    #[test]
    fn a_total_frame_is_exact_and_short_at_its_longest() {
        let mut frames = Vec::new();
        push_total_frame(&mut frames, &total_prefix("A1"), 13);
        assert_eq!(frames, b"\x81\x16{\"id\":\"A1\",\"total\":13}");
        frames.clear();
        push_total_frame(&mut frames, &total_prefix(&"x".repeat(MAX_ID_BYTES)), -2 * MAX_TOTAL);
        assert_eq!(usize::from(frames[1]), frames.len() - 2);
        assert!(frames.len() - 2 <= SHORT_PAYLOAD);
    }

    #[test]
    fn a_positioned_frame_has_the_right_length_in_both_forms() {
        let mut frames = Vec::new();
        push_positioned_frame(&mut frames, &total_prefix("A1"), 13, "f.1.2");
        assert_eq!(frames, b"\x81\x29{\"id\":\"A1\",\"total\":13,\"position\":\"f.1.2\"}");
        frames.clear();
        let prefix = total_prefix(&"x".repeat(MAX_ID_BYTES));
        push_positioned_frame(&mut frames, &prefix, -MAX_TOTAL, &"p".repeat(40));
        assert_eq!(frames[1], TWO_BYTE_LENGTH);
        assert_eq!(usize::from(u16::from_be_bytes([frames[2], frames[3]])), frames.len() - 4);
    }

    #[test]
    fn a_notice_is_a_short_frame_or_an_event_with_a_name() {
        let longest = catalog_notice(&"c".repeat(MAX_ID_BYTES));
        for text in [STATUS_LIVE, STATUS_STALE, &news_notice(u64::MAX), &longest] {
            let mut frames = Vec::new();
            push_text_frame(&mut frames, text);
            assert_eq!((frames[0], usize::from(frames[1])), (TEXT_FRAME, text.len()));
        }
        let mut events = Vec::new();
        push_named_event(&mut events, "catalog", &catalog_notice("tools"));
        assert_eq!(String::from_utf8(events).unwrap(), "event: catalog\ndata: {\"catalog\":\"tools\"}\n\n");
    }

    #[test]
    fn an_event_has_an_id_only_where_a_client_can_resume() {
        let mut events = Vec::new();
        push_event(&mut events, &total_prefix("A1"), 3, None);
        push_event(&mut events, &total_prefix("A1"), -4, Some("f.1.2"));
        let expected = "data: {\"id\":\"A1\",\"total\":3}\n\nid: f.1.2\ndata: {\"id\":\"A1\",\"total\":-4}\n\n";
        assert_eq!(String::from_utf8(events).unwrap(), expected);
    }
}
