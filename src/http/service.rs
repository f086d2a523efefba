//! The interface between connections, which know HTTP and threads, and what they serve. The order service implements it;
//! so does the echo in `examples/`, with which conformance suites test the same connections and sessions.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tiny_http::HTTPVersion;

use super::deferred::Settled;
use super::handshake::Handshake;
use super::problem::Problem;
use super::request::Request;
use super::response::Answer;

/// What to do for a request, as its head decides.
pub enum Step<Action, Topic> {
    /// Send this. An unwanted body need not be read.
    Answer(Answer),
    /// Read the body, then ask [`Service::act`].
    Act(Action),
    /// Send the head of an answer without an end, and go on as a session about this.
    Session(Opening, Topic),
}

/// What a session begins with: the head of an answer without an end.
#[derive(Debug)]
pub enum Opening {
    /// The answer to this handshake.
    WebSocket(Handshake),
    /// This answer, whose body is what the session sends.
    Stream(Answer),
}

impl Opening {
    /// Prints the head.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        match self {
            Self::WebSocket(handshake) => handshake.answer(),
            Self::Stream(answer) => answer.head(HTTPVersion(1, 1), Some("close")),
        }
    }
}

/// A decision, and the origin to which its answer may be shown.
pub struct Plan<Action, Topic> {
    /// What to do.
    pub step: Step<Action, Topic>,
    /// The web page's origin, if the request came from an allowed one.
    pub origin: Option<String>,
}

/// A request whose body has been read.
pub struct Call<'a> {
    /// The body; empty when there is none.
    pub body: &'a [u8],
    /// The connection that it came on, if another thread may write the answer there while this one reads on.
    pub deferred_to: Option<&'a Arc<TcpStream>>,
}

/// See the module's head. Every connection's thread uses the same one.
pub trait Service: Send + Sync + 'static {
    /// What a request with a body asks for.
    type Action;
    /// What a session is about.
    type Topic;
    /// What one connection keeps between its requests.
    type Client: Default;

    /// How long another thread may take over an answer.
    const PATIENCE: Duration;

    /// Decides by the head alone.
    fn plan(&self, request: Request<'_>) -> Plan<Self::Action, Self::Topic>;

    /// Does what a request with a body asks for. `None`: another thread will write the answer.
    fn act(&self, client: &mut Self::Client, action: Self::Action, call: Call<'_>) -> Option<Answer>;

    /// Waits until no other thread has an answer to write on this connection, up to `patience`.
    fn settle(&self, client: &Self::Client, patience: Duration) -> Settled;

    /// Waits no longer for another thread's answer. Returns what stands in for it, after which the connection ends; `None` when
    /// it has come.
    fn give_up(&self, client: &Self::Client) -> Option<Answer>;

    /// Leads a session on this thread until it ends. The head of its answer has been sent; `early` is what the
    /// client has sent behind its request.
    fn converse(&self, client: Self::Client, topic: Self::Topic, stream: Arc<TcpStream>, early: Vec<u8>);

    /// A rejection as an answer.
    fn refuse(&self, problem: &Problem) -> Answer;
}
