//! The listener, connections, sessions and subscribers of the product with an echo instead of orders: an HTTP body
//! comes back under any method and path, and so does a WebSocket message, so that conformance suites can be pointed at
//! it. The message limit is 16 MiB and there is no flood limit, so that such suites run whole.
//!
//! `make echo`, or with addresses: `make echo ARGS="127.0.0.1:9001"`

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use ordercast::internal::http::handshake::handshake;
use ordercast::internal::http::problem::Problem;
use ordercast::internal::http::request::Request;
use ordercast::internal::http::response::{Answer, Body};
use ordercast::internal::http::service::{Call, Decision, Opening, Routed, Service, Session};
use ordercast::internal::live::slow_sockets::{self, SlowSockets};
use ordercast::internal::live::subscriber::Subscriber;
use ordercast::internal::live::websocket::{self, CloseReason, Limits, SessionHandler};
use ordercast::internal::{Caps, Listeners, answer_problem, listen};
use tungstenite::Message;

/// What conformance suites send at most.
const LIMITS: Limits = Limits { message_bytes: 16 * 1024 * 1024, messages_per_second: None };
/// Enough for suites, which open one connection after the other.
const CAPS: Caps = Caps { connections: 1_000, per_address: None };

struct Echo {
    slow_sockets: Arc<SlowSockets>,
}

impl Service for Echo {
    type Action = ();
    type Topic = ();

    fn route(&self, request: Request<'_>) -> Routed<(), ()> {
        let decision = match handshake(request) {
            Some(Ok(handshake)) => Decision::Session(Opening::WebSocket(handshake), ()),
            Some(Err(problem)) => Decision::Answer(self.answer_problem(&problem)),
            None => Decision::Act(()),
        };
        Routed { decision, origin: None }
    }

    fn act(&self, _action: (), call: &Call<'_>) -> Option<Answer> {
        Some(Answer::new(200, "application/octet-stream", Body::Owned(call.body.to_vec())))
    }

    fn open_session(&self, _topic: (), stream: Arc<TcpStream>, early: Vec<u8>) -> Option<Box<dyn Session>> {
        websocket::open(stream, early, self.slow_sockets.clone(), LIMITS, EchoSession)
    }

    fn answer_problem(&self, problem: &Problem) -> Answer {
        answer_problem(problem)
    }
}

struct EchoSession;

impl SessionHandler for EchoSession {
    fn begin(&mut self, _subscriber: &Arc<Subscriber>) {}

    fn check(&self) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_message(&mut self, _subscriber: &Arc<Subscriber>, message: Message) -> Result<Option<Message>, CloseReason> {
        Ok(Some(message))
    }

    fn request_catch_up(&self, _subscriber: &Arc<Subscriber>) {}

    fn end(&self, _subscriber: &Arc<Subscriber>) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses: Vec<SocketAddr> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        addresses.push("127.0.0.1:9001".parse()?);
    }
    let (slow_sockets, _) = slow_sockets::start(|_| {})?;
    let sockets: Vec<TcpListener> = addresses.into_iter().map(listen).collect::<Result<_, _>>()?;
    let mut listeners = Listeners::new(sockets, CAPS)?;
    listeners.accept(&Arc::new(Echo { slow_sockets }), |_| ())?;
    for address in listeners.addresses() {
        writeln!(std::io::stdout(), "listening on http://{address}")?;
    }
    loop {
        // It ends with a signal.
        thread::park();
    }
}
