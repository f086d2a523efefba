//! The same listener, connections, sessions and outbox as the product, with an echo instead of orders: an HTTP body comes
//! back under any method and path, a WebSocket message likewise, so that conformance suites can be pointed at it. The
//! message limit is 16 MiB and there is no flood limit, so that such suites run whole.
//!
//! `make echo`, or with addresses: `make echo ARGS="127.0.0.1:9001"`

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ordercast::api::routes;
use ordercast::http::deferred::Settled;
use ordercast::http::handshake::handshake;
use ordercast::http::problem::Problem;
use ordercast::http::request::Request;
use ordercast::http::response::{Answer, Body};
use ordercast::http::service::{Call, Opening, Plan, Service, Step};
use ordercast::live::slow_sockets::{self, SlowSockets};
use ordercast::live::subscriber::Subscriber;
use ordercast::live::websocket::{self, Conversation, Goodbye, Limits};
use ordercast::server::Caps;
use ordercast::server::listener::Listeners;
use tungstenite::Message;

/// What conformance suites send at most.
const LIMITS: Limits = Limits { message_bytes: 16 * 1024 * 1024, messages_per_second: None };
/// Enough for suites, which open one connection after the other.
const CAPS: Caps = Caps { connections: 1_000, per_address: None };

struct Echo {
    slow_sockets: SlowSockets,
}

impl Service for Echo {
    type Action = ();
    type Topic = ();
    type Client = ();

    // Every answer is written at once.
    const PATIENCE: Duration = Duration::ZERO;

    fn plan(&self, request: Request<'_>) -> Plan<(), ()> {
        let step = match handshake(request) {
            Some(Ok(handshake)) => Step::Session(Opening::WebSocket(handshake), ()),
            Some(Err(problem)) => Step::Answer(self.refuse(&problem)),
            None => Step::Act(()),
        };
        Plan { step, origin: None }
    }

    fn act(&self, _client: &mut (), _action: (), call: Call<'_>) -> Option<Answer> {
        Some(Answer::new(200, "application/octet-stream", Body::Owned(call.body.to_vec())))
    }

    fn settle(&self, _client: &(), _patience: Duration) -> Settled {
        Settled::Done
    }

    fn give_up(&self, _client: &()) -> Option<Answer> {
        None
    }

    fn converse(&self, _client: (), _topic: (), stream: Arc<TcpStream>, early: Vec<u8>) {
        websocket::run(stream, early, &self.slow_sockets, LIMITS, EchoConversation);
    }

    fn refuse(&self, problem: &Problem) -> Answer {
        routes::answer(problem)
    }
}

struct EchoConversation;

impl Conversation for EchoConversation {
    fn begin(&mut self, _subscriber: &Arc<Subscriber>) {}

    fn check(&self) -> Result<(), Goodbye> {
        Ok(())
    }

    fn hear(&mut self, _subscriber: &Arc<Subscriber>, message: Message) -> Result<Option<Message>, Goodbye> {
        Ok(Some(message))
    }

    fn caught_up(&self, _subscriber: &Arc<Subscriber>) {}

    fn end(&self, _subscriber: &Arc<Subscriber>) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut addresses: Vec<SocketAddr> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        addresses.push("127.0.0.1:9001".parse()?);
    }
    let (slow_sockets, setup) = slow_sockets::prepare()?;
    setup.start(Box::new(|_| {}))?;
    let mut listeners = Listeners::bind(&addresses, CAPS)?;
    listeners.accept(&Arc::new(Echo { slow_sockets }))?;
    for address in listeners.addresses() {
        writeln!(std::io::stdout(), "listening on http://{address}")?;
    }
    loop {
        // It ends like any program that is told to: with the signal.
        thread::park();
    }
}
