//! Single frames against the echo (RFC 6455, sections 5.1 to 5.3 and 5.6): lengths, masks, reserved bits, reserved
//! opcodes. They follow the Autobahn suite's groups 1, 3, 4 and 9.

use crate::cases::{Case, case, check};
use crate::common::echo::{Echo, Frame, binary, pong, text};
use crate::common::websocket::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame};

const OPCODES: [(u8, &str); 6] = [
    (CONTINUATION, "continuation"),
    (TEXT, "text"),
    (BINARY, "binary"),
    (CLOSE, "close"),
    (PING, "ping"),
    (PONG, "pong"),
];

/// A frame without a mask, which only a server may send.
fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode, payload.len() as u8];
    bytes.extend(payload);
    bytes
}

/// A frame with this mask.
fn masked(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode, 0x80 | payload.len() as u8];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The frame that the echo returns for this message.
fn echo_of(opcode: u8, payload: &[u8]) -> Frame {
    Frame { opcode, payload: payload.to_vec() }
}

#[test]
fn text_and_binary_of_every_length_form_come_back() {
    let mut cases: Vec<Case> = Vec::new();
    for length in [0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65_534, 65_535, 65_536, 65_537] {
        let words = vec![b'*'; length];
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8 ^ 0xA5).collect();
        cases.push(
            case("5.6", format!("a text of {length} bytes")).sends(frame(TEXT, true, &words)).receives(text(&words)),
        );
        cases.push(
            case("5.6", format!("{length} bytes of binary"))
                .sends(frame(BINARY, true, &bytes))
                .receives(binary(&bytes)),
        );
    }
    check(&Echo::start(), &cases);
}

#[test]
fn frames_come_back_whatever_pieces_they_arrive_in() {
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, kind) in [(TEXT, "text"), (BINARY, "binary")] {
        for (length, piece) in [(125, 3), (126, 7), (65_535, 997), (65_536, 64), (65_536, 1_024), (1 << 20, 16_411)] {
            let payload = vec![b'p'; length];
            cases.push(
                case("5.2", format!("{length} bytes of {kind} in pieces of {piece}"))
                    .sends(frame(opcode, true, &payload))
                    .in_pieces_of(piece)
                    .receives(echo_of(opcode, &payload)),
            );
        }
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_message_is_the_same_wherever_its_bytes_are_cut_in_two() {
    let echo = Echo::start();
    let words = "a µ € 😀".as_bytes();
    let (first, second) = words.split_at(7);
    let bytes = [frame(TEXT, false, first), frame(PING, true, b"between"), frame(CONTINUATION, true, second)].concat();
    let cases: Vec<Case> = (1..bytes.len())
        .map(|cut| {
            case("5.2", format!("cut after {cut} bytes"))
                .sends(&bytes[..cut])
                .sends(&bytes[cut..])
                .receives(pong("between"))
                .receives(text(words))
        })
        .collect();
    check(&echo, &cases);
}

#[test]
fn every_mask_is_removed() {
    let mut cases: Vec<Case> = Vec::new();
    for mask in [[0; 4], [0xFF; 4], [0, 0, 0, 1], [0x80, 0, 0, 0], [1, 2, 4, 8]] {
        // Each remainder modulo four, because the mask is four bytes long.
        for words in ["", "a", "ab", "abc", "abcd", "abcde", "µ€😀"] {
            cases.push(
                case("5.3", format!("{words:?} under the mask {mask:02x?}"))
                    .sends(masked(TEXT, words.as_bytes(), mask))
                    .receives(text(words)),
            );
        }
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_client_that_does_not_mask_is_refused() {
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, kind) in OPCODES {
        for payload in [&b""[..], b"\x03\xE8hello"] {
            let before = if opcode == CONTINUATION { frame(TEXT, false, b"") } else { Vec::new() };
            let name = format!("an unmasked {kind} frame of {} bytes", payload.len());
            cases.push(case("5.1", name).sends(before).sends(unmasked(opcode, payload)).closed_with(1002));
        }
    }
    let masked_first = frame(TEXT, true, b"right");
    cases.push(
        case("5.1", "an unmasked frame after a masked one")
            .sends(masked_first)
            .sends(unmasked(TEXT, b"wrong"))
            .receives(text("right"))
            .closed_with(1002),
    );
    check(&Echo::start(), &cases);
}

#[test]
fn reserved_bits_alone_and_together_are_refused_in_every_kind_of_frame() {
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, kind) in OPCODES {
        for bits in 1..=7_u8 {
            let payload: &[u8] = if opcode == CLOSE { b"\x03\xE8" } else { b"hello" };
            let before = if opcode == CONTINUATION { frame(TEXT, false, b"") } else { Vec::new() };
            cases.push(
                case("5.2", format!("a {kind} frame with the reserved bits {bits:03b}"))
                    .sends(before)
                    .sends(frame(opcode | bits << 4, true, payload))
                    .closed_with(1002),
            );
        }
    }
    cases.push(
        case("5.2", "a reserved bit in the second of two messages, and a ping behind it")
            .sends([frame(TEXT, true, b"first"), frame(TEXT | 0x40, true, b"second"), frame(PING, true, b"")].concat())
            .receives(text("first"))
            .closed_with(1002),
    );
    check(&Echo::start(), &cases);
}

#[test]
fn reserved_opcodes_are_refused() {
    let mut cases: Vec<Case> = Vec::new();
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        for payload in [&b""[..], b"hello"] {
            let name = format!("the opcode {opcode:#x} with {} bytes", payload.len());
            cases.push(case("5.2", name).sends(frame(opcode, true, payload)).closed_with(1002));
        }
        cases.push(
            case("5.2", format!("the opcode {opcode:#x} between two messages"))
                .sends([frame(TEXT, true, b"first"), frame(opcode, true, b""), frame(TEXT, true, b"second")].concat())
                .receives(text("first"))
                .closed_with(1002),
        );
        cases.push(
            case("5.4", format!("the opcode {opcode:#x} inside a fragmented message"))
                .sends([frame(TEXT, false, b"first"), frame(opcode, true, b"")].concat())
                .closed_with(1002),
        );
    }
    check(&Echo::start(), &cases);
}
