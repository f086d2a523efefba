//! Subscribers with positions: the same feed as WebSocket messages and as server-sent events.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::websocket::{CLOSE, PING, PONG, TEXT, UPGRADE, frame, frame_head};
use super::{Client, DEADLINE, Reply};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    WebSocket,
    Events,
}

/// One total and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub id: String,
    pub total: i64,
    /// `None` for an event in the middle of a snapshot.
    pub position: Option<String>,
}

impl Step {
    /// Whether a client can resume from here; not in the middle of a snapshot.
    pub fn can_resume(&self) -> bool {
        self.position.as_ref().is_some_and(|position| !position.ends_with(".snapshot"))
    }

    /// The sequence number in the position, to compare it with the log. Clients treat positions as opaque.
    #[track_caller]
    pub fn seq(&self) -> u64 {
        let position = self.position.as_deref().expect("a position");
        position.rsplit('.').next().and_then(|digits| digits.parse().ok()).expect("a number at its end")
    }

    pub fn pair(&self) -> (String, i64) {
        (self.id.clone(), self.total)
    }
}

/// A message of a feed with positions; `None` unless it has exactly the form `{"id":"A1","total":13,"position":"…"}`.
pub fn parse_positioned(message: &[u8]) -> Option<Step> {
    let message = std::str::from_utf8(message).ok()?;
    let (total, position) = message.strip_suffix("\"}")?.split_once(",\"position\":\"")?;
    let total = format!("{total}}}");
    let (id, total) = super::load::parse_total(total.as_bytes())?;
    Some(Step { id: id.to_owned(), total, position: Some(position.to_owned()) })
}

/// An event as `Some(Some(step))`, a comment as `Some(None)`; `None` for anything else.
pub fn parse_event(block: &[u8]) -> Option<Option<Step>> {
    let block = std::str::from_utf8(block).ok()?;
    if block.starts_with(':') {
        return (!block.contains('\n')).then_some(None);
    }
    let (position, data) = match block.strip_prefix("id: ") {
        Some(rest) => rest.split_once('\n').map(|(id, data)| (Some(id.to_owned()), data))?,
        None => (None, block),
    };
    let (id, total) = super::load::parse_total(data.strip_prefix("data: ")?.as_bytes())?;
    Some(Some(Step { id: id.to_owned(), total, position }))
}

/// How every event stream begins.
pub const RETRY: &str = "retry: 1000\n\n";

/// An open feed.
#[derive(Debug)]
pub struct Positional {
    form: Form,
    stream: TcpStream,
    buffer: Vec<u8>,
    used: usize,
    /// Whether an event stream has begun with [`RETRY`].
    has_begun: bool,
    /// Comments that came between events.
    pub comments: Vec<String>,
}

impl Positional {
    /// Opens the feed from its snapshot, or from a position.
    #[track_caller]
    pub fn open(form: Form, addr: SocketAddr, path: &str, since: Option<&str>) -> Positional {
        Positional::try_open(form, addr, path, since).expect("the server accepts")
    }

    pub fn try_open(form: Form, addr: SocketAddr, path: &str, since: Option<&str>) -> io::Result<Positional> {
        let mut client = Client::try_connect(addr)?;
        let since = since.unwrap_or_default();
        let mark = if path.contains('?') { '&' } else { '?' };
        let reply = match form {
            Form::WebSocket => client.try_request("GET", &format!("{path}{mark}since={since}"), &UPGRADE, b"")?,
            Form::Events => events_head(&mut client, path, (!since.is_empty()).then_some(since))?,
        };
        let expected = if form == Form::WebSocket { 101 } else { 200 };
        if reply.status != expected {
            return Err(io::Error::other(format!("refused: {reply:?}")));
        }
        let (stream, buffer) = client.into_parts();
        Ok(Positional { form, stream, buffer, used: 0, has_begun: false, comments: Vec::new() })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a text message; only for WebSockets.
    pub fn try_send(&mut self, text: &str) -> io::Result<()> {
        assert_eq!(self.form, Form::WebSocket);
        self.stream.write_all(&frame(TEXT, true, text.as_bytes()))
    }

    #[track_caller]
    pub fn next(&mut self) -> Step {
        self.next_within(DEADLINE).expect("the server sends")
    }

    #[track_caller]
    pub fn take(&mut self, count: usize) -> Vec<Step> {
        (0..count).map(|_| self.next()).collect()
    }

    /// The next total, within `deadline`. Pings are answered and comments collected. Any end of the stream is
    /// `UnexpectedEof`.
    pub fn next_within(&mut self, deadline: Duration) -> io::Result<Step> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(step) = self.parse()? {
                return Ok(step);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.fill(left)?;
        }
    }

    /// Reads at most `bytes` bytes, if some come within the deadline: a slow reader.
    pub fn read_some(&mut self, bytes: usize, deadline: Duration) -> io::Result<()> {
        let mut chunk = vec![0; bytes];
        self.read(&mut chunk, deadline)
    }

    /// The next complete step in the buffer.
    fn parse(&mut self) -> io::Result<Option<Step>> {
        loop {
            let unread = &self.buffer[self.used..];
            let (step, length) = match self.form {
                Form::WebSocket => {
                    let Some((opcode, head, length)) = frame_head(unread)? else { return Ok(None) };
                    let Some(payload) = unread.get(head..head + length) else { return Ok(None) };
                    let step = match opcode {
                        TEXT => Some(parse_positioned(payload).ok_or_else(|| broken(payload))?),
                        PING => {
                            (&self.stream).write_all(&frame(PONG, true, payload))?;
                            None
                        }
                        CLOSE => return Err(ErrorKind::UnexpectedEof.into()),
                        _ => return Err(broken(payload)),
                    };
                    (step, head + length)
                }
                Form::Events => {
                    let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") else { return Ok(None) };
                    let block = &unread[..end];
                    if !std::mem::replace(&mut self.has_begun, true) {
                        if block != RETRY.trim_end().as_bytes() {
                            return Err(broken(block));
                        }
                        self.used += end + 2;
                        continue;
                    }
                    let step = parse_event(block).ok_or_else(|| broken(block))?;
                    if step.is_none() {
                        self.comments.push(String::from_utf8_lossy(block).into_owned());
                    }
                    (step, end + 2)
                }
            };
            self.used += length;
            if let Some(step) = step {
                return Ok(Some(step));
            }
        }
    }

    fn fill(&mut self, deadline: Duration) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        self.read(&mut chunk, deadline)
    }

    fn read(&mut self, chunk: &mut [u8], deadline: Duration) -> io::Result<()> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.stream.set_read_timeout(Some(deadline))?;
        match super::read(&self.stream, chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Ok(())
            }
            // The error of a read timeout depends on the platform.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error),
        }
    }

    /// The remaining steps, to the end of the stream.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            match self.next_within(DEADLINE) {
                Ok(step) => steps.push(step),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
                    return steps;
                }
            }
        }
    }
}

/// Requests an event stream and reads the head of the response. The body has no end, so it is not read.
pub fn events_head(client: &mut Client, path: &str, last_event_id: Option<&str>) -> io::Result<Reply> {
    let id = last_event_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
    client.try_write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{id}\r\n"))?;
    client.try_reply(false)
}

fn broken(bytes: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(bytes);
    io::Error::new(ErrorKind::InvalidData, format!("not a message of a feed with positions: {text:?}"))
}
