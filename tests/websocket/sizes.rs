//! Large messages, many messages and many connections against the echo (RFC 6455, sections 5.2, 7.4.1 and 10.4; the
//! Autobahn suite's groups 9 and 10).

use std::fs;
use std::io::Write;
use std::thread;

use crate::cases::{Case, case, check};
use crate::common::echo::{Echo, Frame, Peer, binary, text};
use crate::common::load::spawn;
use crate::common::websocket::{BINARY, CONTINUATION, TEXT, close_frame, frame};

/// The echo's limit for a message.
const LIMIT: usize = 16 * 1024 * 1024;

/// A frame head that announces `length` bytes, with a mask and no payload.
fn announcement(opcode: u8, length: u64) -> Vec<u8> {
    [&[opcode, 0x80 | 127], &length.to_be_bytes()[..], &[0; 4]].concat()
}

/// The echo's memory in KiB: resident and virtual.
fn memory_kib(echo: &Echo) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", echo.pid())).expect("the echo runs");
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect(name)
    };
    (number("VmRSS:"), number("VmSize:"))
}

#[track_caller]
fn expect_close(peer: &mut Peer) {
    peer.send(&close_frame(1000));
    let close = peer.receive().expect("the close frame is echoed");
    assert_eq!(close, Frame { opcode: 0x8, payload: 1000_u16.to_be_bytes().to_vec() });
}

#[test]
fn messages_up_to_the_limit_come_back() {
    let echo = Echo::start();
    let payload = vec![b'*'; LIMIT];
    for length in [1 << 20, 4 << 20, LIMIT] {
        let words = &payload[..length];
        check(
            &echo,
            &[case("5.2", format!("a text of {length} bytes")).sends(frame(TEXT, true, words)).receives(text(words))],
        );
    }
    check(&echo, &[case("5.2", "16 MiB of binary").sends(frame(BINARY, true, &payload)).receives(binary(&payload))]);
    let (first, second) = payload.split_at(LIMIT / 2);
    let sent = [frame(BINARY, false, first), frame(CONTINUATION, true, second)].concat();
    check(&echo, &[case("5.4", "16 MiB in two fragments").sends(sent).receives(binary(&payload))]);
}

#[test]
fn messages_over_the_limit_are_closed_with_1009() {
    let half = vec![b'*'; LIMIT / 2];
    let mut cases: Vec<Case> = Vec::new();
    for (opcode, kind) in [(TEXT, "text"), (BINARY, "binary")] {
        cases.push(
            case("7.4.1", format!("a {kind} one byte too long"))
                .sends(frame(opcode, true, &vec![b'*'; LIMIT + 1]))
                .closed_with(1009),
        );
        cases.push(
            case("7.4.1", format!("a {kind} one byte too long in fragments"))
                .sends([frame(opcode, false, &half), frame(CONTINUATION, false, &half)].concat())
                .sends(frame(CONTINUATION, false, b"*"))
                .closed_with(1009),
        );
    }
    check(&Echo::start(), &cases);
}

#[test]
fn a_length_over_the_limit_is_refused_once_it_is_announced_and_nothing_allocated_for_it() {
    const MOST_KIB: u64 = 64 * 1024;
    let echo = Echo::start();
    let (resident, reserved) = memory_kib(&echo);
    let mut cases: Vec<Case> = Vec::new();
    for length in [LIMIT as u64 + 1, 1 << 31, 1 << 32, (1 << 32) + 5, 1 << 40, 1 << 62, (1 << 63) - 1] {
        for (first, kind) in [(0x80 | TEXT, "text"), (0x80 | BINARY, "binary"), (TEXT, "a first fragment")] {
            let name = format!("{kind} that announces {length} bytes");
            cases.push(case("10.4", name).sends(announcement(first, length)).closed_with(1009));
        }
        let continued = [frame(TEXT, false, b"*"), announcement(CONTINUATION, length)].concat();
        let name = format!("a continuation that announces {length} bytes");
        cases.push(case("10.4", name).sends(continued).closed_with(1009));
    }
    check(&echo, &cases);
    let (resident_after, reserved_after) = memory_kib(&echo);
    assert!(resident_after < resident + MOST_KIB, "{resident} KiB, then {resident_after} KiB");
    // The heap of one thread may reserve 64 MiB of address space, which is far less than 2^31 bytes.
    assert!(reserved_after < reserved + 16 * MOST_KIB, "{reserved} KiB, then {reserved_after} KiB");
}

#[test]
fn a_thousand_messages_come_back_in_order() {
    let echo = Echo::start();
    let mut peer = echo.peer();
    let mut sender = peer.sender();
    thread::scope(|scope| {
        spawn(scope, move || {
            for number in 0..1_000_u32 {
                let opcode = if number % 3 == 0 { BINARY } else { TEXT };
                // In all length forms but the longest; some of them in fragments.
                let words = format!("{number} {}", "*".repeat(number as usize % 300));
                let (first, second) = words.split_at(words.len() / 2);
                let message = match number % 7 {
                    0 => {
                        [frame(opcode, false, first.as_bytes()), frame(CONTINUATION, true, second.as_bytes())].concat()
                    }
                    _ => frame(opcode, true, words.as_bytes()),
                };
                sender.write_all(&message).expect("the echo reads");
            }
        });
        for number in 0..1_000_u32 {
            let opcode = if number % 3 == 0 { BINARY } else { TEXT };
            let payload = format!("{number} {}", "*".repeat(number as usize % 300)).into_bytes();
            assert_eq!(peer.receive().expect("an echo"), Frame { opcode, payload });
        }
    });
    expect_close(&mut peer);
}

#[test]
fn a_client_that_reads_late_gets_every_message_in_order() {
    const MESSAGES: u8 = 100;
    const BYTES: usize = 100_000;
    let echo = Echo::start();
    let mut peer = echo.peer();
    let mut sender = peer.sender();
    thread::scope(|scope| {
        // 10 MB are more than the buffers of both sockets hold, so the echo has to wait.
        spawn(scope, move || {
            for number in 0..MESSAGES {
                sender.write_all(&frame(BINARY, true, &[number; BYTES])).expect("the echo reads");
            }
            sender.write_all(&close_frame(1000)).expect("the echo reads");
        });
        for number in 0..MESSAGES {
            assert_eq!(peer.receive().expect("an echo"), binary([number; BYTES]));
        }
        assert_eq!(peer.receive().expect("a close frame").opcode, 0x8);
    });
}

#[test]
fn many_connections_each_get_their_own() {
    const CONNECTIONS: usize = 200;
    let echo = Echo::start();
    let mut peers: Vec<Peer> = (0..CONNECTIONS).map(|_| echo.peer()).collect();
    for round in 0..3 {
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(&frame(TEXT, true, format!("{round} {number}").as_bytes()));
        }
        // In reverse order: no connection waits for another one.
        for (number, peer) in peers.iter_mut().enumerate().rev() {
            assert_eq!(peer.receive().expect("an echo"), text(format!("{round} {number}")));
        }
    }
    peers.iter_mut().for_each(expect_close);
}

#[test]
fn what_comes_with_the_handshake_in_one_segment_is_received() {
    let echo = Echo::start();
    let mut client = echo.client();
    let mut bytes = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let large = "early".repeat(1_000);
    bytes.extend(frame(TEXT, true, b"early"));
    bytes.extend(frame(TEXT, true, large.as_bytes()));
    bytes.extend(frame(TEXT | 0x40, true, b"early and wrong"));
    client.write(bytes);
    assert_eq!(client.reply().status, 101);
    let mut peer = Peer::from(client.into_parts());
    assert_eq!(peer.receive().expect("an echo"), text("early"));
    assert_eq!(peer.receive().expect("an echo"), text(large));
    let close = peer.receive().expect("a close");
    assert!(close.opcode == 0x8 && close.payload.starts_with(&1002_u16.to_be_bytes()), "{close:?}");
}
