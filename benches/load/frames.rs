//! Parses what a subscriber receives, WebSocket frames and the totals in them, without allocation.

use crate::server::PREFIX;

/// The largest payload: control frames and totals both fit the one-byte length (RFC 6455, section 5.2).
const MAX_PAYLOAD: usize = 125;
/// The largest frame: two bytes of header and the payload. Servers do not mask.
pub const MAX_FRAME: usize = 2 + MAX_PAYLOAD;

const FINAL_TEXT: u8 = 0x81;
const FINAL_CLOSE: u8 = 0x88;
const FINAL_PING: u8 = 0x89;
const FINAL_PONG: u8 = 0x8a;

/// The first frame of some bytes. `size` is its length in bytes.
pub enum Frame<'a> {
    /// One product's total.
    Total { product: usize, total: u64, size: usize },
    /// A ping, to be answered with the same payload.
    Ping { payload: &'a [u8], size: usize },
    /// An unsolicited pong (RFC 6455, section 5.5.3).
    Pong { size: usize },
    /// The server closes the session.
    Close,
    /// More bytes are needed.
    Partial,
    /// Anything that a feed of totals must not send.
    Broken,
}

/// Parses the frame at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Frame<'_> {
    let [kind, length, rest @ ..] = bytes else {
        return Frame::Partial;
    };
    let length = usize::from(*length);
    if length > MAX_PAYLOAD {
        return Frame::Broken;
    }
    let Some(payload) = rest.get(..length) else {
        return Frame::Partial;
    };
    let size = 2 + length;
    match *kind {
        FINAL_TEXT => match parse_total(payload) {
            Some((product, total)) => Frame::Total { product, total, size },
            None => Frame::Broken,
        },
        FINAL_PING => Frame::Ping { payload, size },
        FINAL_PONG => Frame::Pong { size },
        FINAL_CLOSE => Frame::Close,
        _ => Frame::Broken,
    }
}

/// Writes a masked pong. The mask is all zeros and leaves the payload unchanged.
pub fn pong(payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend([FINAL_PONG, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
    out.extend(payload);
}

/// The product's index and the total of a message such as `{"id":"A1","total":13}`; no other form is read.
fn parse_total(payload: &[u8]) -> Option<(usize, u64)> {
    let rest = payload.strip_prefix(br#"{"id":""#)?.strip_prefix(PREFIX.as_bytes())?;
    let (number, rest) = parse_digits(rest)?;
    let (total, rest) = parse_digits(rest.strip_prefix(br#"","total":"#)?)?;
    let index = (number as usize).checked_sub(1)?;
    (rest == b"}").then_some((index, total))
}

fn parse_digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let count = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    // Nineteen digits always fit in a u64.
    if count == 0 || count > 19 {
        return None;
    }
    let (digits, rest) = bytes.split_at(count);
    let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some((value, rest))
}
