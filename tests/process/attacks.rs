//! Attacks on a server: each opens one or a few connections, many of which are then kept open.

use crate::common::websocket::{BINARY, CLOSE, CONTINUATION, PING, TEXT, frame};
use crate::common::{Client, WebSocket};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Connections that one attacker keeps open; beyond that the oldest is dropped.
const HELD: usize = 60;
/// A pause between two attacks, so that the attackers do not take all of the CPU from the server.
const BETWEEN_ATTACKS: Duration = Duration::from_millis(1);
/// An order for B1 that is hidden behind a malformed request: it must never be counted.
const SMUGGLED: &str = "POST /orders/B1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 12\r\n\r\n{\"amount\":1}";
const HANDSHAKE: &str = "GET /orders/electronics HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x00\xc4\x01\x00\x00\xc0\x03\x03\x5b\x9a\x11\x0a\n\r\n\x00\x20\x13\x01\x13\x02";

type Attack = fn(&mut Attacker);

/// In this sequence, so that the warm-up is like the measured run.
const ATTACKS: [Attack; 17] = [
    Attacker::says_nothing,
    Attacker::sends_half_a_head,
    Attacker::sends_half_a_body,
    Attacker::sends_garbage,
    Attacker::says_hello_in_tls,
    Attacker::leaves_with_a_reset,
    Attacker::smuggles,
    Attacker::asks_and_never_reads,
    Attacker::sends_too_much,
    Attacker::shakes_half_a_hand,
    Attacker::floods_with_messages,
    Attacker::subscribes_and_never_reads,
    Attacker::sends_bad_frames,
    Attacker::declares_huge_frames,
    Attacker::comes_and_goes,
    Attacker::moves_about,
    Attacker::leaves_in_the_middle_of_a_message,
];

pub struct Attacker {
    addr: SocketAddr,
    next: usize,
    held: VecDeque<TcpStream>,
}

impl Attacker {
    pub fn new(addr: SocketAddr, number: usize) -> Attacker {
        // Each attacker begins with another attack.
        Attacker { addr, next: number * ATTACKS.len() / 3, held: VecDeque::new() }
    }

    /// The next attack.
    pub fn attack(&mut self) {
        ATTACKS[self.next % ATTACKS.len()](self);
        self.next += 1;
        thread::sleep(BETWEEN_ATTACKS);
    }

    /// Opens a connection and sends these bytes. An error is ignored, because the server may have closed.
    fn send(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let client = Client::connect(self.addr);
        let (mut stream, _) = client.into_parts();
        let _ = stream.write_all(bytes.as_ref());
        stream
    }

    fn hold(&mut self, stream: TcpStream) {
        self.held.push_back(stream);
        if self.held.len() > HELD {
            self.held.pop_front();
        }
    }

    fn session(&self) -> WebSocket {
        WebSocket::open(self.addr, "/orders/electronics")
    }

    fn says_nothing(&mut self) {
        for _ in 0..5 {
            let stream = self.send("");
            self.hold(stream);
        }
    }

    fn sends_half_a_head(&mut self) {
        for half in ["GET /orders HTTP/1.1\r\nHost: loc", "P", "POST /orders/B1 HTTP/1.1\r\n", "\r\n\r\n\r\n"] {
            let stream = self.send(half);
            self.hold(stream);
        }
        let stream = self.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(15_000)));
        self.hold(stream);
    }

    fn sends_half_a_body(&mut self) {
        let head = "POST /orders/B1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        for rest in [
            "Content-Length: 65536\r\n\r\n{\"amount\":1}".to_owned(),
            format!("Content-Length: 65536\r\n\r\n{}", " ".repeat(60_000)),
            "Transfer-Encoding: chunked\r\n\r\nc\r\n{\"amount\":1}\r\n".to_owned(),
            format!("Transfer-Encoding: chunked\r\n\r\nf000\r\n{}", " ".repeat(60_000)),
        ] {
            let stream = self.send(format!("{head}{rest}"));
            self.hold(stream);
        }
    }

    fn sends_garbage(&mut self) {
        let mut state = self.next as u32 | 1;
        let garbage: Vec<u8> = (0..4_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8
            })
            .collect();
        let stream = self.send(garbage);
        self.hold(stream);
    }

    fn says_hello_in_tls(&mut self) {
        let stream = self.send(TLS_HELLO);
        self.hold(stream);
    }

    /// Closing a socket with unread input resets the connection.
    fn leaves_with_a_reset(&mut self) {
        for _ in 0..5 {
            let stream = self.send("GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let _ = stream.peek(&mut [0]);
            drop(stream);
        }
    }

    fn smuggles(&mut self) {
        for framing in ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: +5", "Transfer-Encoding: x"]
        {
            let head = format!("POST /orders/A2 HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n0\r\n\r\n{SMUGGLED}");
            let stream = self.send(head);
            self.hold(stream);
        }
    }

    fn asks_and_never_reads(&mut self) {
        let snapshot = "GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let app = "GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for request in [snapshot.repeat(50), app.repeat(20)] {
            let stream = self.send(request);
            self.hold(stream);
        }
    }

    fn sends_too_much(&mut self) {
        let head = "POST /orders/B1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        let body = "x".repeat(300_000);
        drop(self.send(format!("{head}Content-Length: 300000\r\n\r\n{body}")));
        drop(self.send(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000))));
    }

    fn shakes_half_a_hand(&mut self) {
        for end in [20, HANDSHAKE.len() - 2, HANDSHAKE.len() - 1] {
            let stream = self.send(&HANDSHAKE[..end]);
            self.hold(stream);
        }
    }

    fn floods_with_messages(&mut self) {
        let mut flood = self.session();
        let move_about = b"{\"cmd\":\"update-category\",\"payload\":{\"category\":\"electronics\"}}";
        let frames: Vec<u8> = (0..200)
            .flat_map(|number| frame(if number % 2 == 0 { TEXT } else { PING }, true, &move_about[..60]))
            .collect();
        flood.try_send_raw(&frames);
        self.hold(flood.into_parts().0);
    }

    fn subscribes_and_never_reads(&mut self) {
        for _ in 0..3 {
            let stream = self.send(HANDSHAKE);
            self.hold(stream);
        }
    }

    fn sends_bad_frames(&mut self) {
        for bad in [
            vec![0x81, 0x02, b'h', b'i'],
            frame(0x3, true, b"x"),
            frame(TEXT | 0x40, true, b"{}"),
            frame(PING, true, &[0; 126]),
            frame(CONTINUATION, true, b"{}"),
            frame(BINARY, true, &[0xff; 100]),
            frame(TEXT, true, b"\xff\xfe"),
            frame(CLOSE, true, b"\x01"),
        ] {
            let stream = self.send([HANDSHAKE.as_bytes(), &bad].concat());
            self.hold(stream);
        }
    }

    fn declares_huge_frames(&mut self) {
        for length in [[0, 0, 0, 0, 0, 1, 0, 0], [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0xff; 8]] {
            let huge = [&[0x81, 0xff][..], &length, &[0; 4], &[b'x'; 5_000]].concat();
            let stream = self.send([HANDSHAKE.as_bytes(), &huge].concat());
            self.hold(stream);
        }
    }

    fn comes_and_goes(&mut self) {
        for _ in 0..3 {
            let mut session = self.session();
            session.texts(2);
            session.send_raw(&frame(CLOSE, true, b"\x03\xe8"));
            session.close_code();
            // And without a close frame.
            self.session().texts(1);
        }
    }

    fn moves_about(&mut self) {
        let mut session = self.session();
        for category in ["confectionery", "electronics", "nowhere"].iter().cycle().take(15) {
            session.send(&format!("{{\"cmd\":\"update-category\",\"payload\":{{\"category\":\"{category}\"}}}}"));
        }
        self.hold(session.into_parts().0);
    }

    fn leaves_in_the_middle_of_a_message(&mut self) {
        let mut session = self.session();
        let whole = frame(TEXT, true, &[b' '; 10_000]);
        session.try_send_raw(&whole[..6_000]);
        let (mut stream, _) = session.into_parts();
        let _ = stream.read(&mut [0; 10]);
    }
}
