//! The live feed of a server over a WebSocket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{HeaderValue, Uri};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket, client};

use super::server::{CONNECT, Failure, Later, Server};
use super::text::short;
use crate::json::{self, FeedMessage};

/// How long a connection and its handshake may take: 10 s.
pub(crate) const OPENING: Duration = Duration::from_secs(10);
/// The longest silence of a feed: 45 s, three times the interval of a server's status messages.
const SILENCE: Duration = Duration::from_secs(45);
/// How long one read of the socket waits: 100 ms. What happens beside the feed waits for two at most.
const READ: Duration = Duration::from_millis(100);
/// How long a ping or pong may wait for room in the socket: 1 s. They are so small that there is none only when the server
/// has long not read.
const WRITE: Duration = Duration::from_secs(1);
/// The longest message: 16 KiB; those of a server have less than 300 bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// A feed that is open.
pub(crate) struct Feed {
    socket: WebSocket<Pausing<TcpStream>>,
    /// When the last message, ping or pong came.
    last: Instant,
    /// When the last message came.
    last_message: Instant,
}

/// A stream whose reads fail with `WouldBlock` once every [`READ`], also while bytes come: the WebSocket reads until a
/// message is complete, which a server that sends byte by byte, or fragments without an end, puts off for ever.
struct Pausing<S> {
    stream: S,
    /// When the next read fails.
    due: Instant,
}

impl<S> Pausing<S> {
    fn new(stream: S) -> Self {
        Self { stream, due: Instant::now() + READ }
    }
}

impl<S: Read> Read for Pausing<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let is_due = Instant::now() >= self.due;
        let read = if is_due { Err(ErrorKind::WouldBlock.into()) } else { self.stream.read(bytes) };
        if read.is_err() {
            self.due = Instant::now() + READ;
        }
        read
    }
}

impl<S: Write> Write for Pausing<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What a read of a feed gives.
pub(crate) enum Event {
    Message(FeedMessage),
    /// No message came within about [`READ`].
    Nothing,
    /// The connection is over, and why.
    Lost(String),
}

impl Feed {
    /// Opens the feed at this path with this query, within this time.
    pub(crate) fn open(server: &mut Server, path: &str, query: &str, time: Duration) -> Result<Self, Failure> {
        let url = format!("ws{}{path}?{query}", server.url.trim_start_matches("http"));
        match open(server, &url, time) {
            Ok(feed) => Ok(feed),
            Err(Opening::Failed(why)) => Err(retry(no_connection(&server.url, &short(&why)))),
            Err(Opening::Status(401)) if server.renew_token() => Err(retry("the token is another one now".to_owned())),
            // The answer to a handshake is read without its body, so the reason comes from a request of its own.
            Err(Opening::Status(status)) => {
                server.get(path, time)?;
                Err(match server.failure(status, None, None, Vec::new()) {
                    Failure::Later(later) => Failure::Later(later),
                    Failure::Refused(..) => Failure::Refused(
                        format!(
                            "{} does not open a WebSocket (status {status}); a proxy in front has to pass on upgrades",
                            server.url
                        ),
                        Vec::new(),
                    ),
                })
            }
        }
    }

    /// Sends a ping, whose answer ends the silence.
    pub(crate) fn ping(&mut self) -> Result<(), String> {
        self.socket.send(Message::Ping(tungstenite::Bytes::new())).map_err(|error| short(&described(error)))
    }

    /// How long nothing has come, not even the answer to a ping.
    pub(crate) fn silence(&self) -> Duration {
        self.last.elapsed()
    }

    /// Reads what comes next.
    pub(crate) fn read(&mut self) -> Event {
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                self.last = Instant::now();
                self.last_message = self.last;
                return json::feed_message(&text).map_or(Event::Nothing, Event::Message);
            }
            Ok(Message::Close(Some(frame))) if !frame.reason.is_empty() => return Event::Lost(short(&frame.reason)),
            Ok(Message::Close(_)) => return Event::Lost("the server has closed the feed".to_owned()),
            Ok(_) => self.last = Instant::now(),
            Err(Error::Io(error)) if is_no_end(&error) => {}
            Err(error) => return Event::Lost(short(&described(error))),
        }
        // Pongs alone, between the fragments of a message without an end, are no feed.
        if self.last_message.elapsed() > SILENCE {
            return Event::Lost(format!("no message came for {} s", SILENCE.as_secs()));
        }
        Event::Nothing
    }
}

fn retry(why: String) -> Failure {
    Failure::Later(Later { why, after: None, may_count: false })
}

/// The text about a feed that cannot be opened or is lost.
pub(crate) fn no_connection(url: &str, why: &str) -> String {
    format!("no connection to {url} ({why})")
}

/// Why a feed cannot be opened.
enum Opening {
    Failed(String),
    /// An answer with this status instead of 101.
    Status(u16),
}

impl From<io::Error> for Opening {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Error> for Opening {
    fn from(error: Error) -> Self {
        match error {
            Error::Http(answer) => Self::Status(answer.status().as_u16()),
            error => Self::Failed(described(error)),
        }
    }
}

fn open(server: &Server, url: &str, time: Duration) -> Result<Feed, Opening> {
    let start = Instant::now();
    let uri: Uri = url.parse().map_err(|error| Opening::Failed(format!("{error}")))?;
    let stream = connect(&uri, time)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ))?;
    stream.set_write_timeout(Some(WRITE))?;
    let mut request = uri.into_client_request()?;
    if let Some(value) = server.authorization() {
        let mut value = HeaderValue::try_from(value).map_err(|error| Opening::Failed(error.to_string()))?;
        value.set_sensitive(true);
        request.headers_mut().insert("Authorization", value);
    }
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut step = client::client_with_config(request, Pausing::new(stream), Some(config));
    loop {
        match step {
            Ok((socket, _)) => {
                let now = Instant::now();
                return Ok(Feed { socket, last: now, last_message: now });
            }
            Err(HandshakeError::Failure(error)) => return Err(error.into()),
            Err(HandshakeError::Interrupted(_)) if start.elapsed() > time => {
                return Err(Opening::Failed(format!("no answer within {} s", time.as_secs_f32().ceil())));
            }
            Err(HandshakeError::Interrupted(handshake)) => step = handshake.handshake(),
        }
    }
}

/// Connects to the first address of the host that answers.
fn connect(uri: &Uri, time: Duration) -> io::Result<TcpStream> {
    // A timeout of zero would be an error of its own.
    let time = time.clamp(Duration::from_millis(1), CONNECT);
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut last = io::Error::new(ErrorKind::NotFound, "the host's name is not known");
    for address in (host, uri.port_u16().unwrap_or(80)).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, time) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether a read ended without data, at its timeout or by a signal.
fn is_no_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn described(error: Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete) => {
            "the connection was closed".to_owned()
        }
        error => format!("the answer is not a WebSocket's ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream without an end.
    struct Endless;

    impl Read for Endless {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            bytes[0] = 0;
            Ok(1)
        }
    }

    #[test]
    fn a_read_of_a_stream_without_an_end_fails_once_in_a_while_and_goes_on() {
        let (start, mut stream) = (Instant::now(), Pausing::new(Endless));
        for round in 1..=2 {
            let error = loop {
                match stream.read_exact(&mut [0]) {
                    Ok(()) => assert!(start.elapsed() < 60 * READ, "no end"),
                    Err(error) => break error,
                }
            };
            assert!(is_no_end(&error) && start.elapsed() >= round * READ, "{error}");
        }
    }
}
