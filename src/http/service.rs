//! The interface between connections, which know HTTP and threads, and what they serve. The order service implements
//! it; so does the echo in `examples/`, with which conformance suites test the same connections and sessions.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::HTTPVersion;

use super::deferred::Deferred;
use super::handshake::Handshake;
use super::problem::Problem;
use super::ready_sockets::ReadySockets;
use super::request::Request;
use super::response::Answer;

/// What to do for a request, as its head decides.
pub enum Decision<Action, Topic> {
    /// Send this. An unwanted body need not be read.
    Answer(Answer),
    /// Read the body, then call [`Service::act`].
    Act(Action),
    /// Send this head, and go on as a session about the topic.
    Session(Opening, Topic),
}

/// The head of an answer without an end, with which a session begins.
#[derive(Debug)]
pub enum Opening {
    /// The answer to this handshake.
    WebSocket(Handshake),
    /// An answer whose body the session sends.
    Stream(Answer),
}

impl Opening {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::WebSocket(_) => 101,
            Self::Stream(answer) => answer.status(),
        }
    }

    /// Prints the head.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        match self {
            Self::WebSocket(handshake) => handshake.answer(),
            Self::Stream(answer) => answer.head(HTTPVersion(1, 1), Some("close")),
        }
    }
}

/// A decision, and the origin that may read the answer.
pub struct Routed<Action, Topic> {
    /// What to do.
    pub decision: Decision<Action, Topic>,
    /// The web page's origin, if the request came from an allowed one.
    pub origin: Option<String>,
}

/// A request whose body has been read.
pub struct Call<'a> {
    /// The body; empty when there is none.
    pub body: &'a [u8],
    /// Where the answer may be deferred, if it may.
    pub(crate) deferred: Option<&'a Arc<Deferred>>,
}

impl Call<'_> {
    /// Lets another thread write the answer, by [`Deferred::send`], while the connection's thread reads on. When none
    /// has come within `patience`, the connection answers with `overdue` and ends. `None` when this connection has to
    /// write the answer itself.
    #[must_use]
    pub fn defer(&self, patience: Duration, overdue: fn() -> Answer) -> Option<Arc<Deferred>> {
        let deferred = self.deferred?;
        deferred.begin(patience, overdue);
        Some(deferred.clone())
    }
}

/// A session between two turns: it has no thread, and waits for its client. Its drop ends it.
pub trait Session: Send {
    /// The socket on which the client's next bytes come.
    fn stream(&self) -> &TcpStream;

    /// When it gets a turn although the client has sent nothing.
    fn due(&self) -> Instant;

    /// Runs a turn on this thread: until the client is silent. When others wait for the thread, which `is_shared`, the
    /// session does not wait for the client's next message, nor for its client when it ends. `None` when the session
    /// has ended.
    fn run(self: Box<Self>, is_shared: bool) -> Option<Box<dyn Session>>;
}

/// What a server serves. All connections' threads use the same one.
pub trait Service: Send + Sync + 'static {
    /// What a request with a body asks for.
    type Action: Send;
    /// What a session is about.
    type Topic: Send;

    /// Decides by the head alone.
    fn route(&self, request: Request<'_>) -> Routed<Self::Action, Self::Topic>;

    /// Acts on a request with its body. `None` when the answer has been deferred.
    fn act(&self, action: Self::Action, call: &Call<'_>) -> Option<Answer>;

    /// The sockets of the thread that carries out what [`Self::take_order`] takes, if it reads requests too.
    fn ready_sockets(&self) -> Option<&Arc<ReadySockets>> {
        None
    }

    /// Whether the request most likely is an order, about which that thread can decide by [`Self::route`] without being
    /// held up.
    fn is_order(&self, _request: Request<'_>) -> bool {
        false
    }

    /// As [`Self::act`], on that thread, which must not be held up.
    ///
    /// # Errors
    /// The action, if the connection's own thread has to act on it.
    fn take_order(&self, action: Self::Action, _call: &Call<'_>) -> Result<Option<Answer>, Self::Action> {
        Err(action)
    }

    /// Begins a session, and runs its first turn. The head of its answer has been sent; `early` is what the client has
    /// sent after its request. `None` when the session has ended.
    fn open_session(&self, topic: Self::Topic, stream: Arc<TcpStream>, early: Vec<u8>) -> Option<Box<dyn Session>>;

    /// A problem as an answer.
    fn answer_problem(&self, problem: &Problem) -> Answer;
}
