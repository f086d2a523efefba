//! What RFC 6455 asks of the frames that come in, as far as it shows before they are complete: their heads, their order,
//! and the UTF-8 of texts. Pure: looks at bytes, does no I/O.
//!
//! Ours, because tungstenite looks at a frame once all of it has come, whatever its head says, and takes lengths that have
//! a shorter form. What it checks, it still checks: this only comes first.

/// The bytes of a head that are not the mask, at most.
const LONGEST_LENGTH: usize = 10;
const MASK_BYTES: usize = 4;
/// The longest payload of a control frame (section 5.5).
const MAX_CONTROL_BYTES: u8 = 125;
/// How much of a text is unmasked at once.
const STRETCH_BYTES: usize = 64;
/// Bytes of a character that is not complete, at most.
const CUT_BYTES: usize = 3;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xA;

/// What a client has done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A frame that may not come, or not here.
    Protocol,
    /// A text that is none.
    Utf8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

/// Follows one client's frames.
#[derive(Debug, Default)]
pub struct FrameCheck {
    head: [u8; LONGEST_LENGTH + MASK_BYTES],
    /// How much of the head has come.
    known: usize,
    /// How much of the payload has not.
    left: u64,
    /// The mask, turned to the payload's next byte.
    mask: [u8; MASK_BYTES],
    /// The message that has begun and not ended.
    message: Option<Kind>,
    /// Whether the payload is part of a text.
    is_text: bool,
    /// The beginning of a character of the text, and its length.
    cut: ([u8; CUT_BYTES], usize),
}

impl FrameCheck {
    /// Follows the client's next bytes.
    ///
    /// # Errors
    /// How many of them were right, and what is wrong with the next.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left == 0 {
                self.head[self.known] = bytes[at];
                self.known += 1;
                self.look_at_head().map_err(|violation| (at, violation))?;
                at += 1;
            } else {
                let length = usize::try_from(self.left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                let part = &bytes[at..at + length];
                if self.is_text {
                    self.look_at_text(part).map_err(|violation| (at, violation))?;
                }
                self.mask.rotate_left(length % MASK_BYTES);
                self.left -= length as u64;
                at += length;
            }
        }
        Ok(())
    }

    /// Looks at the head's newest byte.
    fn look_at_head(&mut self) -> Result<(), Violation> {
        let [first, second, ..] = self.head;
        let opcode = first & 0x0F;
        let is_control = opcode >= CLOSE;
        let (is_last, is_reserved) = (first & 0x80 != 0, first & 0x70 != 0);
        let is_masked = second & 0x80 != 0;
        let short = second & 0x7F;
        let length_end = match short {
            126 => 4,
            127 => LONGEST_LENGTH,
            _ => 2,
        };
        let is_right = match self.known {
            1 => {
                let is_due = match opcode {
                    CONTINUATION => self.message.is_some(),
                    TEXT | BINARY => self.message.is_none(),
                    CLOSE..=PONG => is_last,
                    _ => false,
                };
                is_due && !is_reserved
            }
            2 => is_masked && !(is_control && short > MAX_CONTROL_BYTES),
            // The two-byte form begins at 126, the eight-byte form at 65,536, and ends with 63 bits (section 5.2).
            known if known == length_end => match self.length(length_end) {
                length @ 0..126 => length == u64::from(short),
                126..65_536 => short == 126,
                length => i64::try_from(length).is_ok(),
            },
            known => {
                if known == length_end + MASK_BYTES {
                    self.begin_payload(opcode, is_last, length_end);
                }
                true
            }
        };
        if is_right { Ok(()) } else { Err(Violation::Protocol) }
    }

    fn length(&self, end: usize) -> u64 {
        match end {
            2 => u64::from(self.head[1] & 0x7F),
            end => self.head[2..end].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }

    /// The head is complete.
    fn begin_payload(&mut self, opcode: u8, is_last: bool, length_end: usize) {
        self.left = self.length(length_end);
        self.mask.copy_from_slice(&self.head[length_end..length_end + MASK_BYTES]);
        self.known = 0;
        let kind = match opcode {
            CONTINUATION => self.message,
            TEXT => Some(Kind::Text),
            BINARY => Some(Kind::Binary),
            _ => None,
        };
        self.is_text = kind == Some(Kind::Text);
        if opcode < CLOSE {
            self.message = kind.filter(|_| !is_last);
        }
        if opcode == TEXT {
            self.cut.1 = 0;
        }
    }

    /// Looks at the next bytes of a text. That it ends inside a character is for tungstenite to see.
    fn look_at_text(&mut self, masked: &[u8]) -> Result<(), Violation> {
        let (cut, length) = &mut self.cut;
        for stretch in masked.chunks(STRETCH_BYTES) {
            let mut bytes = [0; CUT_BYTES + STRETCH_BYTES];
            let end = *length + stretch.len();
            bytes[..*length].copy_from_slice(&cut[..*length]);
            // A stretch is a multiple of the mask, but for the last.
            for ((byte, masked), mask) in bytes[*length..].iter_mut().zip(stretch).zip(self.mask.iter().cycle()) {
                *byte = masked ^ mask;
            }
            let right = match std::str::from_utf8(&bytes[..end]) {
                Ok(_) => end,
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(Violation::Utf8),
            };
            *length = end - right;
            cut[..*length].copy_from_slice(&bytes[right..end]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a mask that shows when it is turned wrongly.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [1, 2, 4, 8];
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [first, 0x80 | payload.len() as u8].into_iter().chain(MASK).chain(masked).collect()
    }

    /// Where and why a check stops, fed with pieces of this length.
    fn stop(bytes: &[u8], piece: usize) -> Option<(usize, Violation)> {
        let mut frame_check = FrameCheck::default();
        let mut pieces = bytes.chunks(piece).enumerate();
        pieces.find_map(|(at, bytes)| frame_check.follow(bytes).err().map(|(right, why)| (at * piece + right, why)))
    }

    #[test]
    fn right_frames_pass_in_any_pieces() {
        let words = "κόσμε \u{FFFF} \u{10FFFF} ".repeat(4);
        let (first, second) = words.as_bytes().split_at(57);
        let bytes = [
            frame(0x81, words.as_bytes()),
            frame(0x01, first),
            frame(0x89, b"\xFF"),
            frame(0x00, b""),
            frame(0x80, second),
            frame(0x02, b"\xFF"),
            frame(0x80, b"\xFE"),
            vec![0x82, 0xFE, 0, 126, 0, 0, 0, 0],
            vec![0xFF; 126],
            vec![0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            vec![0xFF; 65_536],
            frame(0x88, b""),
        ]
        .concat();
        for piece in [1, 2, 3, 5, 7, 61, 64, 67, 1_000, bytes.len()] {
            assert_eq!(stop(&bytes, piece), None, "{piece}");
        }
    }

    #[test]
    fn a_frame_is_stopped_at_the_byte_that_makes_it_wrong() {
        for (bytes, at) in [
            (&[0x91][..], 0),
            (&[0x83, 0x80], 0),
            (&[0x8B, 0x80], 0),
            (&[0x80, 0x80], 0),
            (&[0x09, 0x80], 0),
            (&[0x81, 0x05], 1),
            (&[0x89, 0xFE], 1),
            (&[0x81, 0xFE, 0, 125], 3),
            (&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], 9),
            (&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], 9),
        ] {
            let behind = [frame(0x81, b"right"), bytes.to_vec()].concat();
            for piece in [1, 4, behind.len()] {
                assert_eq!(stop(bytes, piece), Some((at, Violation::Protocol)), "{bytes:02x?}");
                assert_eq!(stop(&behind, piece), Some((11 + at, Violation::Protocol)), "{bytes:02x?}");
            }
        }
        let nested = [frame(0x01, b"a"), frame(0x81, b"b")].concat();
        assert_eq!(stop(&nested, 100), Some((7, Violation::Protocol)));
    }

    #[test]
    fn a_text_is_stopped_at_the_byte_that_makes_it_none() {
        for (payload, at) in [(&b"abc\xFF"[..], 3), (b"ab\xC3\x28", 3), (b"\xED\xA0\x80", 1), (b"\xF4\x90", 1)] {
            assert_eq!(stop(&frame(0x81, payload), 1), Some((6 + at, Violation::Utf8)), "{payload:02x?}");
            assert_eq!(stop(&frame(0x81, payload), 100), Some((6, Violation::Utf8)), "{payload:02x?}");
            assert_eq!(stop(&frame(0x82, payload), 1), None);
        }
        // A character that a message leaves unfinished does not reach into the next.
        assert_eq!(stop(&[frame(0x81, b"\xE2\x82"), frame(0x81, b"a")].concat(), 1), None);
    }
}
