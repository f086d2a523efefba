//! What RFC 6455 requires of the server: control frames, the closing handshake, and how violations are closed.

use crate::common::load::spawn;
use crate::common::websocket::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame};
use crate::common::{DEADLINE, Message, Server, WebSocket, wait_until};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[track_caller]
fn subscriber(server: &Server) -> WebSocket {
    let mut subscriber = WebSocket::open(server.addr(), "/orders/confectionery");
    assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":101}");
    subscriber
}

/// Sends the bytes and checks that the server closes with the code, and then ends the connection.
#[track_caller]
fn expect_close(server: &Server, bytes: &[u8], code: u16) {
    let mut subscriber = subscriber(server);
    subscriber.send_raw(bytes);
    assert_eq!(subscriber.close_code(), Some(code), "{:02x?}", &bytes[..bytes.len().min(20)]);
    subscriber.expect_end();
}

#[test]
fn a_ping_is_answered_with_a_pong_of_the_same_content() {
    let server = Server::start();
    let mut subscriber = subscriber(&server);
    for payload in [&b""[..], b"x", &[0xFF; 125]] {
        subscriber.send_raw(&frame(PING, true, payload));
        assert_eq!(subscriber.next(), Message::Pong(payload.to_vec()));
    }
    // An unsolicited pong is ignored.
    subscriber.send_raw(&frame(PONG, true, b"unasked"));
    subscriber.expect_nothing_but_a_pong();
}

#[test]
fn a_close_frame_is_echoed_and_the_connection_ends() {
    let server = Server::start();
    expect_close(&server, &close_frame(1000), 1000);
    expect_close(&server, &close_frame(1001), 1001);
    expect_close(&server, &close_frame(4321), 4321);
    let mut silent = subscriber(&server);
    silent.send_raw(&frame(CLOSE, true, b""));
    assert!(matches!(silent.close_code(), None | Some(1000)));
    silent.expect_end();
}

#[test]
fn frames_that_break_the_protocol_are_closed_with_1002() {
    let server = Server::start();
    let unmasked = [0x81, 0x02, b'h', b'i'];
    expect_close(&server, &unmasked, 1002);
    for opcode in [0x3, 0x7, 0xB, 0xF] {
        expect_close(&server, &frame(opcode, true, b"hello"), 1002);
    }
    for reserved_bit in [0x40, 0x20, 0x10] {
        expect_close(&server, &frame(TEXT | reserved_bit, true, b"{}"), 1002);
    }
    // Control frames are not fragmented and have at most 125 bytes.
    expect_close(&server, &frame(PING, false, b""), 1002);
    expect_close(&server, &frame(PING, true, &[0; 126]), 1002);
    // A continuation without a first frame, and a new message inside another one.
    expect_close(&server, &frame(CONTINUATION, true, b"{}"), 1002);
    let mut nested = frame(TEXT, false, b"{");
    nested.extend(frame(TEXT, true, b"}"));
    expect_close(&server, &nested, 1002);
}

#[test]
fn close_frames_that_break_the_protocol_are_closed_with_1002() {
    let server = Server::start();
    expect_close(&server, &frame(CLOSE, true, &[3]), 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        expect_close(&server, &close_frame(code), 1002);
    }
}

#[test]
fn binary_is_read_like_text_and_the_session_goes_on() {
    let server = Server::start();
    let mut session = WebSocket::open(server.addr(), "/orders/electronics");
    session.texts(2);
    session.send_raw(&frame(BINARY, true, br#"{"cmd":"add-order","payload":{"id":"A1","amount":2,"key":"k"}}"#));
    let mut got = [session.text(), session.text()];
    got.sort();
    assert_eq!(got, [r#"{"id":"A1","total":5}"#, r#"{"ok":true,"key":"k"}"#]);
    for malformed in [&b"{}"[..], b"", b"\"\xC3\x28\"", b"\xFF\xFE", b"\xED\xA0\x80"] {
        session.send_raw(&frame(BINARY, true, malformed));
        session.error();
    }
    // A character that is split between two fragments, as text may be.
    let command = "{\"cmd\":\"update-category\",\"payload\":{\"category\":\"süß\"}}";
    let (first, second) = command.as_bytes().split_at(command.find('ü').expect("it is there") + 1);
    session.send_raw(&frame(BINARY, false, first));
    session.send_raw(&frame(CONTINUATION, true, second));
    assert!(session.error().contains("no such category"));
    session.send_raw(&frame(BINARY, true, br#"{"cmd":"update-category","payload":{"category":"confectionery"}}"#));
    assert_eq!(session.text(), r#"{"id":"B1","total":101}"#);
    assert_eq!(server.total("A1"), 5);
}

#[test]
fn text_that_is_not_utf8_is_closed_with_1007() {
    let server = Server::start();
    expect_close(&server, &frame(TEXT, true, b"\"\xC3\x28\""), 1007);
    expect_close(&server, &frame(TEXT, true, b"\xED\xA0\x80"), 1007);
    let mut halves = frame(TEXT, false, b"\xC3");
    halves.extend(frame(CONTINUATION, true, b"\x28"));
    expect_close(&server, &halves, 1007);
    // The reason of a close frame must be UTF-8 too.
    expect_close(&server, &frame(CLOSE, true, b"\x03\xE8\xC3\x28"), 1007);
}

#[test]
fn a_message_of_more_than_16_kib_is_closed_with_1009() {
    let server = Server::start();
    expect_close(&server, &frame(TEXT, true, &[b' '; 16 * 1024 + 1]), 1009);
    // The head is enough: the server does not wait for the payload.
    let announced = [0x81, 0xFF, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    expect_close(&server, &announced, 1009);
    let mut pieces = frame(TEXT, false, &[b' '; 6_000]);
    pieces.extend(frame(CONTINUATION, false, &[b' '; 6_000]));
    pieces.extend(frame(CONTINUATION, false, &[b' '; 6_000]));
    expect_close(&server, &pieces, 1009);

    let mut subscriber = subscriber(&server);
    subscriber.send(&" ".repeat(16 * 1024));
    subscriber.error();
}

#[test]
fn a_message_may_come_in_fragments_with_a_ping_in_between_and_byte_by_byte() {
    let server = Server::start();
    let mut subscriber = subscriber(&server);
    let message = b"{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}";
    let (first, second) = message.split_at(20);
    subscriber.send_raw(&frame(TEXT, false, first));
    subscriber.send_raw(&frame(PING, true, b"in between"));
    subscriber.send_raw(&frame(CONTINUATION, false, b""));
    subscriber.send_raw(&frame(CONTINUATION, true, second));
    assert_eq!(subscriber.next(), Message::Pong(b"in between".to_vec()));
    assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":101}");
    for byte in frame(TEXT, true, message) {
        subscriber.send_raw(&[byte]);
    }
    assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":101}");
}

#[test]
fn a_flood_of_messages_is_closed_with_1008() {
    let server = Server::start();
    let mut patient = subscriber(&server);
    for _ in 0..15 {
        patient.send("{}");
        patient.error();
    }
    let mut flood = subscriber(&server);
    let frames: Vec<u8> = (0..100).flat_map(|_| frame(TEXT, true, b"{}")).collect();
    flood.send_raw(&frames);
    assert_eq!(flood.close_code(), Some(1008));
    flood.expect_end();
    patient.expect_nothing_but_a_pong();
}

#[test]
fn a_session_closed_for_flooding_ends_soon_and_gets_no_totals_while_bytes_still_arrive() {
    /// The server waits 2 s for the peer's close frame; a busy machine may need a little longer.
    const ENDS_WITHIN: Duration = Duration::from_millis(3_500);
    const BETWEEN_DRIPS: Duration = Duration::from_millis(200);
    const DRIPS: usize = 40;
    let server = Server::start();
    let mut client = server.client();
    let mut flood = subscriber(&server);
    let mut bytes: Vec<u8> = (0..30).flat_map(|_| frame(PONG, true, b"x")).collect();
    // The head of a message of 12 KiB, which is never completed.
    bytes.extend([TEXT, 0x80 | 126, 0x30, 0, 0, 0, 0, 0]);
    flood.send_raw(&bytes);
    let mut stream = flood.stream().try_clone().expect("a second handle");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        spawn(scope, || {
            for _ in 0..DRIPS {
                if ended.load(Ordering::Relaxed) || stream.write_all(b"a").is_err() {
                    return;
                }
                thread::sleep(BETWEEN_DRIPS);
            }
        });
        assert_eq!(flood.close_code(), Some(1008));
        let start = Instant::now();
        for _ in 0..5 {
            client.order("B1", 1);
        }
        flood.expect_end();
        ended.store(true, Ordering::Relaxed);
        assert!(start.elapsed() < ENDS_WITHIN, "only after {:?}", start.elapsed());
    });
}

#[test]
fn endless_frames_that_never_become_a_message_are_closed_with_1008() {
    const FRAMES: usize = 10_000;
    const MOST_TIMES: usize = 200;
    let server = Server::start();
    let mut flood = subscriber(&server);
    flood.send_raw(&frame(TEXT, false, b""));
    let frames = frame(CONTINUATION, false, b"").repeat(FRAMES);
    let mut stream = flood.stream().try_clone().expect("a second handle");
    let closed = AtomicBool::new(false);
    thread::scope(|scope| {
        spawn(scope, || {
            for _ in 0..MOST_TIMES {
                if closed.load(Ordering::Relaxed) || stream.write_all(&frames).is_err() {
                    return;
                }
            }
        });
        assert_eq!(flood.close_code(), Some(1008));
        closed.store(true, Ordering::Relaxed);
        flood.expect_end();
    });
}

#[test]
fn a_flood_of_pings_is_not_answered_for_ever() {
    let server = Server::start();
    let mut flood = subscriber(&server);
    let frames: Vec<u8> = (0..1_000).flat_map(|_| frame(PING, true, b"x")).collect();
    flood.send_raw(&frames);
    // Answered or closed: either is right as long as other clients are served.
    let mut other = subscriber(&server);
    server.client().order("B1", 1);
    assert_eq!(other.text(), "{\"id\":\"B1\",\"total\":102}");
    let memory = server.memory_kib();
    assert!(memory < 100 * 1024, "{memory} KiB");
}

#[test]
fn a_stopping_server_closes_every_subscriber_with_1001() {
    let mut server = Server::start();
    let mut subscribers: Vec<WebSocket> = (0..10).map(|_| subscriber(&server)).collect();
    server.signal("TERM");
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.close_code(), Some(1001));
        subscriber.send_raw(&close_frame(1001));
        subscriber.expect_end();
    }
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_peer_that_never_answers_the_close_frame_does_not_delay_the_end() {
    let mut server = Server::start();
    let _silent = subscriber(&server);
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_peer_that_never_ends_the_connection_after_the_close_frame_is_dropped() {
    let server = Server::start();
    let mut client = server.client();
    client.order("B1", 0);
    let descriptors = server.descriptors();
    let mut subscriber = subscriber(&server);
    subscriber.send_raw(&close_frame(1000));
    assert_eq!(subscriber.close_code(), Some(1000));
    wait_until(DEADLINE, "the server has closed its side", || server.descriptors() <= descriptors);
}

#[test]
fn handshakes_that_break_the_rules_are_refused() {
    let server = Server::start();
    let upgrade = ("Upgrade", "websocket");
    let connection = ("Connection", "Upgrade");
    let version = ("Sec-WebSocket-Version", "13");
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    for headers in [
        vec![upgrade, connection, version],
        vec![upgrade, connection, version, ("Sec-WebSocket-Key", "short")],
        vec![upgrade, connection, key, ("Sec-WebSocket-Version", "8")],
        vec![upgrade, connection, key],
    ] {
        let mut client = server.client();
        let reply = client.request("GET", "/orders/electronics", &headers, b"");
        assert!(matches!(reply.status, 400 | 426), "{headers:?}: {reply:?}");
        reply.problem(reply.status);
        if reply.status == 426 {
            assert_eq!(reply.header("sec-websocket-version"), Some("13"));
        }
    }
}
