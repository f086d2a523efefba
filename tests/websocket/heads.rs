//! Frame heads against the echo: a length must be in its shortest form, and an invalid head is rejected before the
//! payload arrives (RFC 6455, sections 5.1, 5.2 and 5.5).

use crate::cases::{Case, case, check};
use crate::common::echo::{Echo, pong, text};
use crate::common::websocket::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame};

const MASK_BIT: u8 = 0x80;

/// A frame head with its length in the two-byte form and a mask of zeros.
fn head16(first: u8, length: u16) -> Vec<u8> {
    [&[first, MASK_BIT | 126], &length.to_be_bytes()[..], &[0; 4]].concat()
}

/// The same in the eight-byte form.
fn head64(first: u8, length: u64) -> Vec<u8> {
    [&[first, MASK_BIT | 127], &length.to_be_bytes()[..], &[0; 4]].concat()
}

#[test]
fn lengths_that_have_a_shorter_form_are_refused() {
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, kind) in [(TEXT, "text"), (BINARY, "binary"), (PING, "ping"), (PONG, "pong"), (CLOSE, "close")] {
        for length in [0, 1, 2, 124, 125] {
            let sent = [head16(0x80 | opcode, length), vec![b'x'; length.into()]].concat();
            let name = format!("{length} bytes of {kind} in the two-byte form");
            cases.push(case("5.2", name).sends(sent).closed_with(1002));
        }
        for length in [0, 1, 125, 126, 65_535] {
            let sent = [head64(0x80 | opcode, length), vec![b'x'; length as usize]].concat();
            let name = format!("{length} bytes of {kind} in the eight-byte form");
            cases.push(case("5.2", name).sends(sent).closed_with(1002));
        }
    }
    let behind = [frame(TEXT, true, b"right"), head16(0x80 | TEXT, 1), vec![b'x']].concat();
    cases.push(
        case("5.2", "a length that has a shorter form behind a right frame")
            .sends(behind)
            .receives(text("right"))
            .closed_with(1002),
    );
    let continued = [frame(TEXT, false, b"right"), head16(0x80 | CONTINUATION, 1), vec![b'x']].concat();
    cases.push(case("5.2", "a continuation's length that has a shorter form").sends(continued).closed_with(1002));
    check(&Echo::start(), &cases);
}

#[test]
fn a_length_of_more_than_63_bits_is_refused() {
    let mut cases: Vec<Case> = Vec::new();
    for length in [1 << 63, u64::MAX, 1 << 63 | 5] {
        for (opcode, kind) in [(TEXT, "text"), (BINARY, "binary")] {
            let name = format!("{length:#x} bytes of {kind}");
            cases.push(case("5.2", name).sends(head64(0x80 | opcode, length)).closed_with(1002));
        }
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_control_frame_that_is_too_long_is_refused_by_its_head() {
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, kind) in [(PING, "ping"), (PONG, "pong"), (CLOSE, "close")] {
        let short = case("5.5", format!("a {kind} that announces 126 bytes"));
        let long = case("5.5", format!("a {kind} that announces 16 MiB"));
        let huge = case("5.5", format!("a {kind} that announces 2^62 bytes"));
        cases.push(short.sends(head16(0x80 | opcode, 126)).closed_with(1002));
        cases.push(long.sends(head64(0x80 | opcode, 16 << 20)).closed_with(1002));
        cases.push(huge.sends(head64(0x80 | opcode, 1 << 62)).closed_with(1002));
        let fragment = case("5.5", format!("a {kind} that announces 5 bytes and a fragment"));
        cases.push(fragment.sends(vec![opcode, MASK_BIT | 5]).closed_with(1002));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_wrong_first_byte_is_refused_without_waiting_for_the_payload() {
    let mut cases: Vec<Case> = Vec::new();
    for bits in [0x40, 0x20, 0x10, 0x70] {
        // The head announces a payload that is never sent.
        let sent = vec![0x80 | bits | TEXT, MASK_BIT | 100];
        cases.push(case("5.2", format!("reserved bits {bits:#x} in a head")).sends(sent).closed_with(1002));
    }
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        let sent = vec![0x80 | opcode, MASK_BIT | 100];
        cases.push(case("5.2", format!("the opcode {opcode:#x} in a head")).sends(sent).closed_with(1002));
    }
    for (opcode, kind) in [(TEXT, "text"), (BINARY, "binary"), (PING, "ping"), (PONG, "pong"), (CLOSE, "close")] {
        let sent = vec![0x80 | opcode, 100];
        cases.push(case("5.1", format!("an unmasked {kind}'s head")).sends(sent).closed_with(1002));
    }
    check(&Echo::start(), &cases);
}

/// The head of a text frame of `length` bytes, and the first bytes of its payload.
fn announced(length: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x80 | TEXT, MASK_BIT | length, 0, 0, 0, 0], payload].concat()
}

#[test]
fn what_is_not_utf8_is_refused_before_its_frame_is_complete() {
    let mut cases: Vec<Case> = Vec::new();
    for bytes in [
        &b"\xFF"[..],
        b"\x80",
        b"\xC0",
        b"\xC3\x28",
        b"\xED\xA0",
        b"\xE0\x9F",
        b"\xF0\x8F",
        b"\xF4\x90",
        b"\xF5",
        b"\xE2\x82\x28",
        "κόσμε\u{10FFFF}".as_bytes().split_last().map_or(b"", |(_, most)| most),
    ] {
        let sent = [announced(100, b"words before "), bytes.to_vec(), vec![0xFE]].concat();
        let name = format!("a frame of 100 bytes with {bytes:02x?} and fe among the first");
        cases.push(case("8.1", name).sends(sent).closed_with(1007));
    }
    let sent =
        [frame(TEXT, false, b"\xF4"), frame(PING, true, b"\xFF"), vec![CONTINUATION, MASK_BIT | 9, 0, 0, 0, 0, 0x90]];
    cases.push(
        case("8.1", "U+110000 over a ping and two frames, of which the second is not complete")
            .sends(sent.concat())
            .receives(pong(b"\xFF"))
            .closed_with(1007),
    );
    check(&Echo::start(), &cases);
}
