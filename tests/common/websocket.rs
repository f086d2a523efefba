//! A WebSocket client on a bare socket (RFC 6455), which can follow a feed and break the protocol.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Client, DEADLINE, Reply};

/// The headers of a handshake, with the key of RFC 6455, section 1.3. With a fixed key the client needs no SHA-1.
pub const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
/// `Sec-WebSocket-Accept` for that key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The close code, if there is one, and the reason.
    Close(Option<u16>, String),
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The length of the parsed part of the buffer.
    used: usize,
}

impl WebSocket {
    #[track_caller]
    pub fn open(addr: SocketAddr, path: &str) -> WebSocket {
        WebSocket::try_open(addr, path, &[]).unwrap_or_else(|reply| panic!("the handshake was rejected: {reply:?}"))
    }

    /// Opens with further headers; the error is the response of a rejected handshake.
    #[track_caller]
    pub fn try_open(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<WebSocket, Reply> {
        let mut client = Client::connect(addr);
        let reply = client.request("GET", path, &[&UPGRADE[..], headers].concat(), b"");
        if reply.status != 101 {
            return Err(reply);
        }
        assert_eq!(reply.header("sec-websocket-accept"), Some(ACCEPT));
        assert!(reply.lists("connection", "upgrade"), "{reply:?}");
        assert!(reply.lists("upgrade", "websocket"), "{reply:?}");
        assert_eq!(reply.header("sec-websocket-extensions"), None);
        let (stream, buffer) = client.into_parts();
        Ok(WebSocket::from_parts(stream, buffer))
    }

    /// Opens over an existing connection.
    pub fn try_upgrade(mut client: Client, path: &str) -> io::Result<WebSocket> {
        let reply = client.try_request("GET", path, &UPGRADE, b"")?;
        if reply.status != 101 {
            return Err(io::Error::other(format!("the handshake was rejected: {reply:?}")));
        }
        let (stream, buffer) = client.into_parts();
        Ok(WebSocket::from_parts(stream, buffer))
    }

    /// Takes over a socket and the bytes that were read from it already.
    pub fn from_parts(stream: TcpStream, buffer: Vec<u8>) -> WebSocket {
        WebSocket { stream, buffer, used: 0 }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a text message.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.send_raw(&frame(TEXT, true, text.as_bytes()));
    }

    /// Like [`WebSocket::send`], without a panic.
    pub fn try_send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(&frame(TEXT, true, text.as_bytes()))
    }

    /// Like [`WebSocket::text`], without a panic.
    pub fn try_text(&mut self) -> io::Result<String> {
        loop {
            match self.next_within(DEADLINE)? {
                Message::Text(text) => return Ok(text),
                Message::Ping(payload) => self.stream.write_all(&frame(PONG, true, &payload))?,
                Message::Pong(_) => {}
                Message::Close(..) => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends bytes as they are. An error is ignored, because the server may have closed.
    pub fn try_send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next message of any kind, within `deadline`; the end of the stream is `UnexpectedEof`.
    pub fn next_within(&mut self, deadline: Duration) -> io::Result<Message> {
        let end = Instant::now() + deadline;
        loop {
            if let Some((opcode, payload)) = self.frame()? {
                return message(opcode, payload);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            self.fill()?;
        }
    }

    #[track_caller]
    pub fn next(&mut self) -> Message {
        self.next_within(DEADLINE).expect("the server sends")
    }

    /// The next message, which must be a text; pings before it are answered.
    #[track_caller]
    pub fn text(&mut self) -> String {
        loop {
            match self.next() {
                Message::Text(text) => return text,
                Message::Ping(payload) => self.send_raw(&frame(PONG, true, &payload)),
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    /// The next `count` texts.
    #[track_caller]
    pub fn texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.text()).collect()
    }

    /// The next message, which must be `{"error":"…"}` with at least three words.
    #[track_caller]
    pub fn error(&mut self) -> String {
        let text = self.text();
        let json: serde_json::Value = serde_json::from_str(&text).expect("a JSON message");
        let error = json["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.split_whitespace().count() >= 3, "{text}");
        error
    }

    /// Reads to the close frame and returns its code.
    #[track_caller]
    pub fn close_code(&mut self) -> Option<u16> {
        loop {
            if let Message::Close(code, _) = self.next() {
                return code;
            }
        }
    }

    /// Checks that the next thing is the end of the stream.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let error = self.next_within(DEADLINE).expect_err("the stream ends");
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    }

    /// Checks that no message is pending: the next thing after a ping is its pong.
    #[track_caller]
    pub fn expect_nothing_but_a_pong(&mut self) {
        assert_eq!(self.texts_until_quiet(), Vec::<String>::new());
    }

    /// The texts that come before the pong of a ping.
    #[track_caller]
    pub fn texts_until_quiet(&mut self) -> Vec<String> {
        self.send_raw(&frame(PING, true, b"still there?"));
        let mut texts = Vec::new();
        loop {
            match self.next() {
                Message::Text(text) => texts.push(text),
                Message::Pong(payload) => {
                    assert_eq!(payload, b"still there?");
                    return texts;
                }
                other => panic!("neither a text nor a pong: {other:?}"),
            }
        }
    }

    /// The next complete frame in the buffer.
    fn frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let bytes = &self.buffer[self.used..];
        let Some((opcode, head, length)) = frame_head(bytes)? else {
            return Ok(None);
        };
        let Some(payload) = bytes.get(head..head + length) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.used += head + length;
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        }
        Ok(Some((opcode, payload)))
    }

    fn fill(&mut self) -> io::Result<()> {
        // A feed that never pauses between two frames must not grow the buffer.
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut bytes = [0; 16 * 1024];
        match super::read(&self.stream, &mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                Ok(())
            }
            // The error of a read timeout depends on the platform.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        }
    }

    /// The socket, and the bytes that were read but not parsed.
    pub fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer.split_off(self.used))
    }
}

/// Opcode, length of the head and length of the payload of the frame that begins here, if its head is complete. Feeds
/// are never fragmented, and a server never masks.
pub fn frame_head(bytes: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    if first & 0xF0 != 0x80 || second & 0x80 != 0 {
        let what = format!("not a whole unmasked frame: {first:#x} {second:#x}");
        return Err(io::Error::new(ErrorKind::InvalidData, what));
    }
    let (head, length) = match (second, bytes) {
        (126, [_, _, a, b, ..]) => (4, u16::from_be_bytes([*a, *b]).into()),
        (126, _) => return Ok(None),
        (127, _) => return Err(io::Error::new(ErrorKind::InvalidData, "a huge frame")),
        (length, _) => (2, length.into()),
    };
    Ok(Some((first & 0x0F, head, length)))
}

/// A masked frame, as clients send it.
pub fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// A close frame with a code and no reason.
pub fn close_frame(code: u16) -> Vec<u8> {
    frame(CLOSE, true, &code.to_be_bytes())
}

fn message(opcode: u8, payload: Vec<u8>) -> io::Result<Message> {
    let text =
        |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| io::Error::new(ErrorKind::InvalidData, error));
    Ok(match (opcode, payload.as_slice()) {
        (TEXT, bytes) => Message::Text(text(bytes)?),
        (PING, _) => Message::Ping(payload),
        (PONG, _) => Message::Pong(payload),
        (CLOSE, []) => Message::Close(None, String::new()),
        (CLOSE, [a, b, reason @ ..]) => Message::Close(Some(u16::from_be_bytes([*a, *b])), text(reason)?),
        _ => {
            let what = format!("opcode {opcode:#x} has no place in the feed");
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
    })
}
