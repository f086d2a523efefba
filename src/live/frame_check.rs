//! Checks of incoming frames that tungstenite makes too late or not at all (RFC 6455). No I/O.
//!
//! tungstenite checks a frame when its payload is complete, and accepts a length that is not in its shortest form. A
//! head that no payload can make valid is rejected here at its first wrong byte, and a text at the byte that makes it
//! invalid UTF-8. All other checks, such as the order of fragments, are left to tungstenite.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// The longest head, in bytes.
const MAX_HEAD_BYTES: usize = 14;
const MASK_BYTES: usize = 4;
/// The head of a frame whose length fits into its second byte, as that of a control frame must (section 5.5).
const SHORT_HEAD_BYTES: usize = 2 + MASK_BYTES;
/// How much text is unmasked at once, in bytes: a multiple of the mask.
const STRETCH_BYTES: usize = 64;
/// The longest incomplete UTF-8 character, in bytes.
const MAX_PARTIAL_BYTES: usize = 3;

/// How a client broke RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// An invalid head.
    Protocol,
    /// Invalid UTF-8 in a text.
    Utf8,
}

/// The state of one client's frames.
#[derive(Debug, Default)]
pub struct FrameCheck {
    /// The current head. Bytes that have not arrived are 0.
    head: [u8; MAX_HEAD_BYTES],
    /// How many bytes of the head have arrived.
    known: usize,
    /// How many bytes of the payload are missing.
    left: u64,
    /// The mask, rotated to the payload's next byte.
    mask: [u8; MASK_BYTES],
    /// Whether the payload is part of a text.
    is_text: bool,
    /// Whether the last message is a text of which fragments are missing.
    is_unfinished_text: bool,
    /// The beginning of an incomplete character of the text, and its length.
    partial: ([u8; MAX_PARTIAL_BYTES], usize),
}

impl FrameCheck {
    /// Checks the client's next bytes.
    ///
    /// # Errors
    /// How many of them may be passed on, and what is wrong with those after them.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left == 0 {
                self.head[self.known] = bytes[at];
                self.known += 1;
                self.check_head().map_err(|violation| (at, violation))?;
                at += 1;
            } else {
                let length = usize::try_from(self.left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                let part = &bytes[at..at + length];
                if self.is_text {
                    self.check_text(part).map_err(|violation| (at, violation))?;
                }
                self.mask.rotate_left(length % MASK_BYTES);
                self.left -= length as u64;
                at += length;
            }
        }
        Ok(())
    }

    /// Checks what the head's newest byte completes.
    fn check_head(&mut self) -> Result<(), Violation> {
        let mut cursor = Cursor::new(&self.head);
        // Fails for a reserved opcode.
        let Ok(Some((header, length))) = FrameHeader::parse(&mut cursor) else { return Err(Violation::Protocol) };
        let size = cursor.position() as usize;
        let is_control = matches!(header.opcode, OpCode::Control(_));
        let is_valid = match self.known {
            1 => !(header.rsv1 || header.rsv2 || header.rsv3 || is_control && !header.is_final),
            2 => header.mask.is_some() && (!is_control || size == SHORT_HEAD_BYTES),
            // The length is complete: in its shortest form, and of 63 bits (section 5.2).
            known if known + MASK_BYTES == size => size == header.len(length) && i64::try_from(length).is_ok(),
            _ => true,
        };
        if !is_valid {
            return Err(Violation::Protocol);
        }
        if self.known == size {
            self.begin_payload(&header, length);
        }
        Ok(())
    }

    fn begin_payload(&mut self, header: &FrameHeader, length: u64) {
        (self.head, self.known, self.left) = ([0; MAX_HEAD_BYTES], 0, length);
        self.mask = header.mask.unwrap_or_default();
        self.is_text = match header.opcode {
            OpCode::Data(Data::Text) => {
                self.partial.1 = 0;
                true
            }
            OpCode::Data(Data::Continue) => self.is_unfinished_text,
            _ => false,
        };
        if let OpCode::Data(_) = header.opcode {
            self.is_unfinished_text = self.is_text && !header.is_final;
        }
    }

    /// Checks the next bytes of a text. tungstenite rejects a text that ends inside a character.
    fn check_text(&mut self, masked: &[u8]) -> Result<(), Violation> {
        let (partial, length) = &mut self.partial;
        for stretch in masked.chunks(STRETCH_BYTES) {
            let mut bytes = [0; MAX_PARTIAL_BYTES + STRETCH_BYTES];
            let end = *length + stretch.len();
            bytes[..*length].copy_from_slice(&partial[..*length]);
            for ((byte, masked), mask) in bytes[*length..].iter_mut().zip(stretch).zip(self.mask.iter().cycle()) {
                *byte = masked ^ mask;
            }
            let valid = match std::str::from_utf8(&bytes[..end]) {
                Ok(_) => end,
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(Violation::Utf8),
            };
            *length = end - valid;
            partial[..*length].copy_from_slice(&bytes[valid..end]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a mask of four different bytes, so that a wrong rotation is found.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [1, 2, 4, 8];
        let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [first, 0x80 | payload.len() as u8].into_iter().chain(MASK).chain(masked).collect()
    }

    /// The index and the violation at which a check of pieces of this length stops.
    fn stop(bytes: &[u8], piece: usize) -> Option<(usize, Violation)> {
        let mut frame_check = FrameCheck::default();
        let mut pieces = bytes.chunks(piece).enumerate();
        pieces.find_map(|(at, bytes)| frame_check.check(bytes).err().map(|(valid, why)| (at * piece + valid, why)))
    }

    #[test]
    fn valid_frames_pass_in_any_pieces() {
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
    fn a_head_is_rejected_at_the_byte_that_makes_it_invalid() {
        for (bytes, at) in [
            (&[0x91][..], 0),
            (&[0x83, 0x80], 0),
            (&[0x8B, 0x80], 0),
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
    }

    #[test]
    fn a_text_is_rejected_at_the_byte_that_makes_it_invalid() {
        for (payload, at) in [(&b"abc\xFF"[..], 3), (b"ab\xC3\x28", 3), (b"\xED\xA0\x80", 1), (b"\xF4\x90", 1)] {
            assert_eq!(stop(&frame(0x81, payload), 1), Some((6 + at, Violation::Utf8)), "{payload:02x?}");
            assert_eq!(stop(&frame(0x81, payload), 100), Some((6, Violation::Utf8)), "{payload:02x?}");
            assert_eq!(stop(&frame(0x82, payload), 1), None);
        }
        // An incomplete character at the end of a message does not continue in the next one.
        assert_eq!(stop(&[frame(0x81, b"\xE2\x82"), frame(0x81, b"a")].concat(), 1), None);
    }
}
