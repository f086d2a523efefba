//! Test cases of RFC 6455 for the echo: what is sent, what must come back, how the connection must end.

use std::io::ErrorKind;

use crate::common::echo::{Echo, Frame};
use crate::common::websocket::{CLOSE, close_frame};

/// A case of up to this many bytes is also sent byte by byte.
const SENT_BYTEWISE: usize = 600;

/// How a case ends.
#[derive(Clone, Debug)]
pub enum End {
    /// The connection is still open: the server answers a close frame of 1000.
    Open,
    /// The server closes with this code before or after the last bytes of the test.
    Closed(u16),
    /// The server answers the close frame that the test has sent with exactly this payload.
    Echoed(Vec<u8>),
}

/// A test case: bytes to send, frames to receive, and how the connection ends.
#[derive(Clone, Debug)]
pub struct Case {
    /// The section of RFC 6455.
    section: &'static str,
    name: String,
    pieces: Vec<Vec<u8>>,
    replies: Vec<Frame>,
    end: End,
}

/// A case that sends nothing yet and expects an open connection at the end.
pub fn case(section: &'static str, name: impl Into<String>) -> Case {
    Case { section, name: name.into(), pieces: Vec::new(), replies: Vec::new(), end: End::Open }
}

/// Runs every case over a connection of its own, and again byte by byte if it is short. Lists all that fail.
#[track_caller]
pub fn check(echo: &Echo, cases: &[Case]) {
    let failed: Vec<String> = cases.iter().filter_map(|case| case.run(echo).err()).collect();
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

impl Case {
    /// Then sends these bytes in one call.
    pub fn sends(mut self, bytes: impl Into<Vec<u8>>) -> Case {
        self.pieces.push(bytes.into());
        self
    }

    /// Sends all bytes in pieces of at most `length`.
    pub fn in_pieces_of(mut self, length: usize) -> Case {
        self.pieces = self.pieces.concat().chunks(length).map(<[u8]>::to_vec).collect();
        self
    }

    /// Then expects this frame.
    pub fn receives(mut self, frame: Frame) -> Case {
        self.replies.push(frame);
        self
    }

    pub fn closed_with(mut self, code: u16) -> Case {
        self.end = End::Closed(code);
        self
    }

    pub fn echoes_close(mut self, payload: impl Into<Vec<u8>>) -> Case {
        self.end = End::Echoed(payload.into());
        self
    }

    fn run(&self, echo: &Echo) -> Result<(), String> {
        let whole = self.put(echo, &self.pieces);
        whole.map_err(|error| format!("section {}, {}: {error}", self.section, self.name))?;
        let bytes = self.pieces.concat();
        if bytes.len() > SENT_BYTEWISE {
            return Ok(());
        }
        let bytewise: Vec<Vec<u8>> = bytes.iter().map(|byte| vec![*byte]).collect();
        let bytewise = self.put(echo, &bytewise);
        bytewise.map_err(|error| format!("section {}, {}, byte by byte: {error}", self.section, self.name))
    }

    fn put(&self, echo: &Echo, pieces: &[Vec<u8>]) -> Result<(), String> {
        let mut peer = echo.peer();
        pieces.iter().for_each(|piece| peer.send(piece));
        if let End::Open = self.end {
            peer.send(&close_frame(1000));
        }
        for reply in &self.replies {
            match peer.receive() {
                Ok(frame) if frame == *reply => {}
                other => return Err(format!("{other:?} instead of {reply:?}")),
            }
        }
        let last = peer.receive();
        let is_right = match (&last, &self.end) {
            (Ok(Frame { opcode: CLOSE, payload }), End::Open) => *payload == 1000_u16.to_be_bytes(),
            (Ok(Frame { opcode: CLOSE, payload }), End::Echoed(sent)) => payload == sent,
            (Ok(Frame { opcode: CLOSE, payload: said }), End::Closed(code)) => {
                said.starts_with(&code.to_be_bytes()) && str::from_utf8(&said[2..]).is_ok() && said.len() <= 125
            }
            _ => false,
        };
        if !is_right {
            return Err(format!("{last:?} instead of {:?}", self.end));
        }
        // The server closes the TCP connection first, without a reset (section 7.1.1).
        match peer.receive() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
            other => Err(format!("{other:?} instead of the end")),
        }
    }
}
