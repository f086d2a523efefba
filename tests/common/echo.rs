//! The echo example as a real process, and a client that checks every frame of it: unfragmented, unmasked, without
//! reserved bits, and with the shortest form of its length.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::server::{address_of, lines_of};
use super::websocket::{BINARY, PONG, TEXT};
use super::{Client, DEADLINE, WebSocket};

/// This many bytes of a payload are shown in a failure.
const SHOWN_BYTES: usize = 24;

/// The echo example, running.
#[derive(Debug)]
pub struct Echo {
    child: Child,
    addr: SocketAddr,
}

impl Echo {
    #[track_caller]
    pub fn start() -> Echo {
        let mut child = Command::new(program())
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the echo was built: `cargo test` does it, or `cargo build --example echo`");
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        // Before the line is parsed, so that the process is killed even if that panics.
        let mut echo = Echo { child, addr: ([127, 0, 0, 1], 0).into() };
        echo.addr = address_of(&lines.recv_timeout(DEADLINE).expect("the echo says where it listens"));
        echo
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new WebSocket connection.
    #[track_caller]
    pub fn peer(&self) -> Peer {
        Peer::from(WebSocket::open(self.addr, "/").into_parts())
    }

    /// A new HTTP connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo tells the path of the binary; the examples are in a folder beside it.
fn program() -> PathBuf {
    let product = Path::new(env!("CARGO_BIN_EXE_ordercast"));
    product.with_file_name("examples").join(format!("echo{}", std::env::consts::EXE_SUFFIX))
}

/// A frame from the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { opcode, payload } = self;
        let shown = &payload[..payload.len().min(SHOWN_BYTES)];
        write!(f, "opcode {opcode:#x} with {} bytes \"{}\"", payload.len(), shown.escape_ascii())
    }
}

pub fn text(payload: impl AsRef<[u8]>) -> Frame {
    Frame { opcode: TEXT, payload: payload.as_ref().to_vec() }
}

pub fn binary(payload: impl AsRef<[u8]>) -> Frame {
    Frame { opcode: BINARY, payload: payload.as_ref().to_vec() }
}

pub fn pong(payload: impl AsRef<[u8]>) -> Frame {
    Frame { opcode: PONG, payload: payload.as_ref().to_vec() }
}

/// A client of the echo, on a bare socket.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    bytes: Vec<u8>,
    used: usize,
}

impl From<(TcpStream, Vec<u8>)> for Peer {
    /// Takes over a socket and the bytes that were read from it already.
    fn from((stream, bytes): (TcpStream, Vec<u8>)) -> Peer {
        Peer { stream, bytes, used: 0 }
    }
}

impl Peer {
    /// Sends bytes as they are. An error is ignored, because a server that has closed has sent the reason before.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A second handle on the socket, to send while another thread reads.
    pub fn sender(&self) -> TcpStream {
        self.stream.try_clone().expect("a second handle")
    }

    /// The next frame; the end of the stream is `UnexpectedEof`.
    pub fn receive(&mut self) -> io::Result<Frame> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(frame);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let filled = self.bytes.len();
            self.bytes.resize(filled + 64 * 1024, 0);
            let read = super::read(&self.stream, &mut self.bytes[filled..]);
            self.bytes.truncate(filled + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                // The error of a read timeout depends on the platform.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
    }

    fn whole_frame(&mut self) -> io::Result<Option<Frame>> {
        let bytes = &self.bytes[self.used..];
        let [first, second, ..] = *bytes else { return Ok(None) };
        if first & 0x70 != 0 || first & 0x80 == 0 || second & 0x80 != 0 {
            return Err(broken(format!("not a whole, unmasked frame without reserved bits: {first:#x} {second:#x}")));
        }
        let (head, length, least) = match (second, bytes) {
            (126, [_, _, a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b])), 126),
            (127, [_, _, a, b, c, d, e, f, g, h, ..]) => {
                (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 65_536)
            }
            (126 | 127, _) => return Ok(None),
            (length, _) => (2, length.into(), 0),
        };
        if length < least {
            return Err(broken(format!("{length} has a shorter form")));
        }
        let Some(payload) = bytes.get(head..head + length as usize) else { return Ok(None) };
        let frame = Frame { opcode: first & 0x0F, payload: payload.to_vec() };
        self.used += head + payload.len();
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
        Ok(Some(frame))
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
