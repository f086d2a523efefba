//! Fragmented messages, and the control frames that may come between the fragments, against the echo (RFC 6455,
//! sections 5.4, 5.5.2 and 5.5.3; the Autobahn suite's groups 2 and 5).

use crate::cases::{Case, case, check};
use crate::common::echo::{Echo, binary, pong, text};
use crate::common::websocket::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame};

/// A message with one frame for each part.
fn fragments(opcode: u8, parts: &[&[u8]]) -> Vec<u8> {
    let last = parts.len() - 1;
    let frames = parts.iter().enumerate();
    frames.flat_map(|(at, part)| frame(if at == 0 { opcode } else { CONTINUATION }, at == last, part)).collect()
}

#[test]
fn pings_are_answered_with_their_payload() {
    let mut cases: Vec<Case> = Vec::new();
    for length in [0, 1, 2, 124, 125] {
        let payload = vec![b'p'; length];
        let name = format!("a ping of {length} bytes");
        cases.push(case("5.5.2", name).sends(frame(PING, true, &payload)).receives(pong(&payload)));
    }
    let binary = b"\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF";
    cases.push(case("5.5.2", "a ping that is no text").sends(frame(PING, true, binary)).receives(pong(binary)));
    let mut ten = case("5.5.2", "ten pings at once, answered in order");
    let mut hundred = case("5.5.2", "a hundred pings, each in a segment of its own");
    for number in 0..100_u8 {
        if number < 10 {
            ten = ten.sends(frame(PING, true, &[number])).receives(pong([number]));
        }
        hundred = hundred.sends(frame(PING, true, &[number; 3])).receives(pong([number; 3]));
    }
    cases.extend([ten.in_pieces_of(usize::MAX), hundred]);
    for (length, name) in [(126, "a ping of 126 bytes"), (65_536, "a ping of 65,536 bytes")] {
        cases.push(case("5.5", name).sends(frame(PING, true, &vec![0xFE; length])).closed_with(1002));
    }
    cases.push(case("5.5", "a pong of 126 bytes").sends(frame(PONG, true, &[0xFE; 126])).closed_with(1002));
    check(&Echo::start(), &cases);
}

#[test]
fn unsolicited_pongs_change_nothing() {
    let cases = [
        case("5.5.3", "an empty pong").sends(frame(PONG, true, b"")),
        case("5.5.3", "a pong with a payload").sends(frame(PONG, true, b"unasked")),
        case("5.5.3", "a pong of 125 bytes").sends(frame(PONG, true, &[0xFF; 125])),
        case("5.5.3", "a pong, then a ping with another payload")
            .sends([frame(PONG, true, b"unasked"), frame(PING, true, b"asked")].concat())
            .receives(pong("asked")),
        case("5.5.3", "a pong between two fragments")
            .sends([frame(TEXT, false, b"a"), frame(PONG, true, b"x"), frame(CONTINUATION, true, b"b")].concat())
            .receives(text("ab")),
    ];
    check(&Echo::start(), &cases);
}

#[test]
fn fragments_are_put_together() {
    let mut cases: Vec<Case> = Vec::new();
    for (parts, name) in [
        (&[&b"hello, "[..], b"world"][..], "two fragments"),
        (&[b"", b"hello"], "an empty first fragment"),
        (&[b"hello", b""], "an empty last fragment"),
        (&[b"he", b"", b"llo"], "an empty fragment in the middle"),
        (&[b"", b""], "two empty fragments"),
        (&[b"", b"", b""], "three empty fragments"),
        (&[b"h", b"e", b"l", b"l", b"o"], "a fragment a byte"),
    ] {
        let whole = parts.concat();
        cases.push(case("5.4", format!("text: {name}")).sends(fragments(TEXT, parts)).receives(text(&whole)));
        cases.push(case("5.4", format!("binary: {name}")).sends(fragments(BINARY, parts)).receives(binary(&whole)));
    }
    let letters: Vec<u8> = (0..10_000).map(|at| b'a' + (at % 26) as u8).collect();
    let single: Vec<&[u8]> = letters.chunks(1).collect();
    cases.push(case("5.4", "text: 10,000 fragments").sends(fragments(TEXT, &single)).receives(text(&letters)));
    cases.push(case("5.4", "binary: 10,000 fragments").sends(fragments(BINARY, &single)).receives(binary(&letters)));
    let large = vec![b'l'; 1 << 20];
    for piece in [1_024, 4_096, 65_536] {
        let parts: Vec<&[u8]> = large.chunks(piece).collect();
        let name = format!("text: 1 MiB in fragments of {piece} bytes");
        cases.push(case("5.4", name).sends(fragments(TEXT, &parts)).receives(text(&large)));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn control_frames_between_fragments_are_answered_before_the_message() {
    let (one, two, three) = (&b"frag"[..], &b"men"[..], &b"ted"[..]);
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, reply) in [(TEXT, text("fragmented")), (BINARY, binary("fragmented"))] {
        let pinged = [
            frame(opcode, false, one),
            frame(PING, true, b"1"),
            frame(CONTINUATION, false, two),
            frame(PING, true, b"2"),
            frame(PING, true, b"3"),
            frame(CONTINUATION, true, three),
        ]
        .concat();
        cases.push(
            case("5.4", format!("three pings between the fragments of opcode {opcode}"))
                .sends(pinged)
                .receives(pong("1"))
                .receives(pong("2"))
                .receives(pong("3"))
                .receives(reply),
        );
    }
    // The message is never finished, so only the ping can cause an answer.
    cases.push(
        case("5.4", "a ping inside a message that never ends, then a close frame")
            .sends([frame(TEXT, false, one), frame(PING, true, b"now")].concat())
            .receives(pong("now")),
    );
    cases.push(
        case("5.5.1", "a close frame inside a message is echoed, and the message dropped")
            .sends([frame(TEXT, false, one), frame(CLOSE, true, b"\x03\xE8"), frame(CONTINUATION, true, two)].concat())
            .echoes_close(*b"\x03\xE8"),
    );
    check(&Echo::start(), &cases);
}

#[test]
fn control_frames_in_fragments_are_refused() {
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, kind) in [(PING, "ping"), (PONG, "pong"), (CLOSE, "close")] {
        for payload in [&b""[..], b"\x03\xE8"] {
            let name = format!("a {kind} frame of {} bytes that is not the last", payload.len());
            cases.push(case("5.5", name).sends(frame(opcode, false, payload)).closed_with(1002));
        }
        let continued = [frame(opcode, false, b"\x03\xE8"), frame(CONTINUATION, true, b"more")].concat();
        cases.push(case("5.5", format!("a {kind} frame that is continued")).sends(continued).closed_with(1002));
        let inside = [frame(TEXT, false, b"a"), frame(opcode, false, b""), frame(CONTINUATION, true, b"b")].concat();
        cases.push(case("5.5", format!("a {kind} in fragments inside a message")).sends(inside).closed_with(1002));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn fragments_in_any_order_but_the_right_one_are_refused() {
    let mut cases: Vec<Case> = Vec::new();
    for (last, kind) in [(true, "the last"), (false, "one more")] {
        for payload in [&b""[..], b"lost"] {
            let name = format!("a continuation of nothing, {kind}, of {} bytes", payload.len());
            cases.push(case("5.4", name).sends(frame(CONTINUATION, last, payload)).closed_with(1002));
        }
        cases.push(
            case("5.4", format!("a continuation after a whole message, {kind}"))
                .sends([frame(TEXT, true, b"whole"), frame(CONTINUATION, last, b"lost")].concat())
                .receives(text("whole"))
                .closed_with(1002),
        );
        cases.push(
            case("5.4", format!("a continuation after a message in fragments, {kind}"))
                .sends([fragments(TEXT, &[b"a", b"b"]), frame(CONTINUATION, last, b"lost")].concat())
                .receives(text("ab"))
                .closed_with(1002),
        );
        for (outer, inner) in [(TEXT, TEXT), (TEXT, BINARY), (BINARY, TEXT), (BINARY, BINARY)] {
            cases.push(
                case("5.4", format!("opcode {inner} inside a message of opcode {outer}, {kind}"))
                    .sends([frame(outer, false, b"a"), frame(inner, last, b"b")].concat())
                    .closed_with(1002),
            );
        }
    }
    // The Autobahn suite's 5.9 to 5.14: stray continuations before and after a valid message.
    cases.push(
        case("5.4", "a continuation, then a message in fragments")
            .sends([frame(CONTINUATION, false, b"lost"), fragments(TEXT, &[b"a", b"b"])].concat())
            .closed_with(1002),
    );
    cases.push(
        case("5.4", "a message with a ping inside, a lost continuation, and one more message")
            .sends(frame(TEXT, false, b"a"))
            .sends(frame(PING, true, b"1"))
            .sends(frame(CONTINUATION, true, b"b"))
            .sends(frame(CONTINUATION, false, b"lost"))
            .sends(frame(TEXT, true, b"too late"))
            .receives(pong("1"))
            .receives(text("ab"))
            .closed_with(1002),
    );
    check(&Echo::start(), &cases);
}
