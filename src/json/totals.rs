//! Totals as they are sent: ready-made WebSocket frames (RFC 6455, section 5.2), server-sent events (HTML standard,
//! section 9.2) and JSON arrays. Made once and shared by all who get them.

use super::quoted;
use crate::tally::order::Total;

/// The first byte of an unfragmented text frame: FIN and opcode 1.
const TEXT_FRAME: u8 = 0x81;
/// The first byte of a close frame: FIN and opcode 8.
const CLOSE_FRAME: u8 = super::CLOSE_FRAME;
/// The status of an endpoint that goes away (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;
/// The longest payload that a frame's second byte can tell by itself.
const SHORT_PAYLOAD: usize = 125;
/// What a frame's second byte is when the payload's length follows in two bytes.
const TWO_BYTE_LENGTH: u8 = 126;

/// What a silent stream of events says, so that proxies keep it open and a client that is gone is found.
pub const HEARTBEAT_EVENT: &[u8] = b":\n\n";
/// The last words of a stream of events.
pub const GOODBYE_EVENT: &[u8] = b": the server is shutting down\n\n";

/// The part of a total's message that comes before the number, for the functions here.
#[must_use]
pub fn total_opening(id: &str) -> Vec<u8> {
    format!(r#"{{"id":{},"total":"#, quoted(id)).into_bytes()
}

/// Appends one total as a WebSocket text frame: `{"id":"A1","total":13}`.
pub fn push_total_frame(frames: &mut Vec<u8>, opening: &[u8], total: Total) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(total.get());
    // An id has at most 64 plain bytes and a total at most 17, so the payload is always a short one.
    let payload = opening.len() + digits.len() + 1;
    debug_assert!(payload <= SHORT_PAYLOAD);
    frames.extend_from_slice(&[TEXT_FRAME, payload as u8]);
    frames.extend_from_slice(opening);
    frames.extend_from_slice(digits.as_bytes());
    frames.push(b'}');
}

/// Appends one total and where it stands as a WebSocket text frame: `{"id":"A1","total":13,"position":"…"}`.
pub fn push_positioned_frame(frames: &mut Vec<u8>, opening: &[u8], total: Total, position: &str) {
    const MEMBER: &[u8] = br#","position":""#;
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(total.get());
    let payload = opening.len() + digits.len() + MEMBER.len() + position.len() + 2;
    if payload <= SHORT_PAYLOAD {
        frames.extend_from_slice(&[TEXT_FRAME, payload as u8]);
    } else {
        frames.extend_from_slice(&[TEXT_FRAME, TWO_BYTE_LENGTH]);
        frames.extend_from_slice(&(payload as u16).to_be_bytes());
    }
    for part in [opening, digits.as_bytes(), MEMBER, position.as_bytes(), b"\"}"] {
        frames.extend_from_slice(part);
    }
}

/// Appends one total as a server-sent event, with its position as the event's id if the client can go on from there.
pub fn push_event(events: &mut Vec<u8>, opening: &[u8], total: Total, position: Option<&str>) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(total.get());
    if let Some(position) = position {
        for part in ["id: ", position, "\n"] {
            events.extend_from_slice(part.as_bytes());
        }
    }
    for part in [b"data: ", opening, digits.as_bytes(), b"}\n\n"] {
        events.extend_from_slice(part);
    }
}

/// Totals as one JSON array.
pub fn totals_array<'a>(totals: impl Iterator<Item = (&'a [u8], Total)>) -> Vec<u8> {
    let mut array = vec![b'['];
    for (opening, total) in totals {
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(opening);
        array.extend_from_slice(itoa::Buffer::new().format(total.get()).as_bytes());
        array.push(b'}');
    }
    array.push(b']');
    array
}

/// The close frame of a server that shuts down.
#[must_use]
pub fn going_away_frame() -> Vec<u8> {
    let reason = b"the server is shutting down";
    let mut frame = vec![CLOSE_FRAME, 2 + reason.len() as u8];
    frame.extend_from_slice(&GOING_AWAY.to_be_bytes());
    frame.extend_from_slice(reason);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::MAX_ID_BYTES;
    use crate::tally::order::MAX_TOTAL;

    #[test]
    fn a_total_frame_is_exact_and_short_at_its_longest() {
        let mut frames = Vec::new();
        push_total_frame(&mut frames, &total_opening("A1"), Total::new(13).unwrap());
        assert_eq!(frames, b"\x81\x16{\"id\":\"A1\",\"total\":13}");
        frames.clear();
        push_total_frame(&mut frames, &total_opening(&"x".repeat(MAX_ID_BYTES)), Total::new(-MAX_TOTAL).unwrap());
        assert_eq!(usize::from(frames[1]), frames.len() - 2);
        assert!(frames.len() - 2 <= SHORT_PAYLOAD);
    }

    #[test]
    fn a_positioned_frame_tells_its_length_at_every_length() {
        let mut frames = Vec::new();
        push_positioned_frame(&mut frames, &total_opening("A1"), Total::new(13).unwrap(), "f.1.2");
        assert_eq!(frames, b"\x81\x29{\"id\":\"A1\",\"total\":13,\"position\":\"f.1.2\"}");
        frames.clear();
        let opening = total_opening(&"x".repeat(MAX_ID_BYTES));
        push_positioned_frame(&mut frames, &opening, Total::new(-MAX_TOTAL).unwrap(), &"p".repeat(40));
        assert_eq!(frames[1], TWO_BYTE_LENGTH);
        assert_eq!(usize::from(u16::from_be_bytes([frames[2], frames[3]])), frames.len() - 4);
    }

    #[test]
    fn an_event_has_an_id_only_where_a_client_can_go_on() {
        let mut events = Vec::new();
        push_event(&mut events, &total_opening("A1"), Total::new(3).unwrap(), None);
        push_event(&mut events, &total_opening("A1"), Total::new(-4).unwrap(), Some("f.1.2"));
        let expected = "data: {\"id\":\"A1\",\"total\":3}\n\nid: f.1.2\ndata: {\"id\":\"A1\",\"total\":-4}\n\n";
        assert_eq!(String::from_utf8(events).unwrap(), expected);
    }
}
