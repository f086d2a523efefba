//! The closing handshake against the echo (RFC 6455, sections 5.5.1, 7.1 and 7.4; the Autobahn suite's group 7). Every
//! case also waits until the server has closed the TCP connection.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use crate::cases::{Case, case, check};
use crate::common::echo::{Echo, pong, text};
use crate::common::wait_until;
use crate::common::websocket::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame};

/// A close frame's payload.
fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

#[test]
fn a_close_frame_is_echoed() {
    let mut cases =
        vec![case("5.5.1", "a close frame without a code").sends(frame(CLOSE, true, b"")).echoes_close(*b"")];
    for (reason, name) in [
        (&b""[..], "no reason"),
        (b"x", "a reason of one byte"),
        (b"enough for today", "a reason"),
        ("vergnügt µ€😀".as_bytes(), "a reason beyond ASCII"),
        (&[b'r'; 123], "a reason of 123 bytes"),
        ("\u{FFFF}".as_bytes(), "a reason of a non-character"),
    ] {
        let payload = close_payload(1000, reason);
        cases.push(
            case("5.5.1", format!("a close frame with {name}"))
                .sends(frame(CLOSE, true, &payload))
                .echoes_close(payload),
        );
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_close_frame_that_breaks_the_rules_is_refused() {
    let mut cases = vec![
        case("5.5.1", "a payload of one byte").sends(frame(CLOSE, true, b"\x03")).closed_with(1002),
        case("5.5", "a reason of 124 bytes")
            .sends(frame(CLOSE, true, &close_payload(1000, &[b'r'; 124])))
            .closed_with(1002),
        case("5.5", "a payload of 65,536 bytes").sends(frame(CLOSE, true, &vec![b'r'; 65_536])).closed_with(1002),
    ];
    for reason in
        [&b"\xFF"[..], b"\xC0\xAF", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"cut \xE2\x82", b"\xCE\xBAedited\x80"]
    {
        let name = format!("a reason that is no UTF-8: {reason:02x?}");
        cases.push(case("8.1", name).sends(frame(CLOSE, true, &close_payload(1000, reason))).closed_with(1007));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn codes_that_may_be_sent_are_returned() {
    let cases: Vec<Case> =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3001, 3999, 4000, 4001, 4999]
            .into_iter()
            .flat_map(|code| {
                let reasoned = close_payload(code, b"for a reason");
                [
                    case("7.4", format!("the code {code}")).sends(close_frame(code)).echoes_close(code.to_be_bytes()),
                    case("7.4", format!("the code {code} with a reason"))
                        .sends(frame(CLOSE, true, &reasoned))
                        .echoes_close(reasoned),
                ]
            })
            .collect();
    check(&Echo::start(), &cases);
}

#[test]
fn codes_that_may_not_be_sent_are_refused() {
    let cases: Vec<Case> =
        [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999, 32_768, 65_535]
            .into_iter()
            .flat_map(|code| {
                let reasoned = frame(CLOSE, true, &close_payload(code, b"for a reason"));
                [
                    case("7.4", format!("the code {code}")).sends(close_frame(code)).closed_with(1002),
                    case("7.4", format!("the code {code} with a reason")).sends(reasoned).closed_with(1002),
                ]
            })
            .collect();
    check(&Echo::start(), &cases);
}

/// A known limit: IANA registered 1014 (Bad Gateway) after RFC 6455, and tungstenite does not know it yet
/// (<https://github.com/snapview/tungstenite-rs/issues/502>). Once this test fails, move 1014 to the codes above.
#[test]
fn the_code_1014_is_still_refused_like_an_unassigned_one() {
    check(&Echo::start(), &[case("7.4.2", "the code 1014").sends(close_frame(1014)).closed_with(1002)]);
}

#[test]
fn nothing_is_answered_after_a_close_frame() {
    let bye = close_frame(1000);
    let large = frame(BINARY, true, &vec![0; 256 * 1024]);
    let mut cases: Vec<Case> = Vec::new();
    for (behind, name) in [
        (frame(PING, true, b"late"), "a ping"),
        (frame(PING, true, b"late").repeat(1_000), "a thousand pings"),
        (frame(PONG, true, b"late"), "a pong"),
        (frame(TEXT, true, b"late"), "a text"),
        (frame(TEXT, false, b"late"), "the beginning of a text"),
        (frame(CONTINUATION, true, b"late"), "a continuation of nothing"),
        (close_frame(1001), "another close frame"),
        (close_frame(0), "a close frame with a wrong code"),
        (frame(0xF, true, b"late"), "a reserved opcode"),
        (frame(TEXT, true, b"\xFF"), "a text that is no UTF-8"),
        (vec![0x81, 0x01, b'x'], "an unmasked frame"),
        (large, "256 KiB"),
    ] {
        let at_once = [bye.clone(), behind.clone()].concat();
        let name = format!("{name} after a close frame");
        cases.push(case("5.5.1", format!("{name}, at once")).sends(at_once).echoes_close(*b"\x03\xE8"));
        cases.push(case("5.5.1", name).sends(bye.clone()).sends(behind).echoes_close(*b"\x03\xE8"));
    }
    check(&Echo::start(), &cases);
}

#[test]
fn what_came_before_a_close_frame_is_answered_before_it() {
    let bye = close_frame(1000);
    let mut cases = vec![
        case("5.5.1", "a text and a close frame at once")
            .sends([frame(TEXT, true, b"first"), bye.clone()].concat())
            .receives(text("first"))
            .echoes_close(*b"\x03\xE8"),
        case("5.5.1", "a ping and a close frame at once")
            .sends([frame(PING, true, b"first"), bye.clone()].concat())
            .receives(pong("first"))
            .echoes_close(*b"\x03\xE8"),
        case("5.5.1", "a text, a ping and a close frame at once")
            .sends([frame(TEXT, true, b"first"), frame(PING, true, b"second"), bye.clone()].concat())
            .receives(text("first"))
            .receives(pong("second"))
            .echoes_close(*b"\x03\xE8"),
    ];
    // Here the close frame has arrived before the client reads a byte, and the client's receive buffer is full.
    for mib in [1, 4, 16] {
        let large = vec![b'*'; mib << 20];
        cases.push(
            case("5.5.1", format!("{mib} MiB and a close frame at once"))
                .sends([frame(TEXT, true, &large), bye.clone()].concat())
                .receives(text(&large))
                .echoes_close(*b"\x03\xE8"),
        );
        cases.push(
            case("7.1.7", format!("{mib} MiB and a frame that breaks the protocol"))
                .sends([frame(TEXT, true, &large), frame(TEXT | 0x40, true, b"")].concat())
                .receives(text(&large))
                .closed_with(1002),
        );
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_client_that_sends_a_close_frame_and_never_reads_is_dropped() {
    /// The write deadline is 10 s; a busy machine needs a little longer.
    const DROPPED_WITHIN: Duration = Duration::from_secs(30);
    let echo = Echo::start();
    let threads = || -> BTreeSet<OsString> {
        let entries = fs::read_dir(format!("/proc/{}/task", echo.pid())).expect("the echo runs");
        entries.map(|entry| entry.expect("a thread").file_name()).collect()
    };
    let others = threads();
    let mut peer = echo.peer();
    // By name and not by number, because the log starts a thread with its first line.
    let session: Vec<OsString> = threads().difference(&others).cloned().collect();
    assert!(!session.is_empty());
    peer.send(&[frame(TEXT, true, &vec![b'*'; 16 << 20]), close_frame(1000)].concat());
    wait_until(DROPPED_WITHIN, "the session has ended", || session.iter().all(|thread| !threads().contains(thread)));
}
