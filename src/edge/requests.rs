//! Requests to the server that is followed. Threads of their own send them: a request takes ten times a connection's stack.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use ureq::Agent;
use ureq::http;

use crate::api::service::{EDGE, EDGE_POSITION};
use crate::api::upstream::{ANSWER_HEADERS, PassedRequest};
use crate::client::server::{MAX_HEAD_BYTES, MAX_LIST_BYTES, is_unsent};
use crate::http::response::{Answer, Body};

/// How long a request may take: 45 s, more than the 30 s after which a server answers for a disk that hangs.
pub const REQUEST: Duration = Duration::from_secs(45);
/// How long a connection may take: 2 s.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a request waits for a thread: 1 s.
const QUEUE: Duration = Duration::from_secs(1);
/// The threads, and the requests that are under way at a time, each on a connection of its own.
pub const THREADS: usize = 32;
/// The stack of each: 256 KiB. Only touched pages take memory.
const STACK_BYTES: usize = 256 * 1024;

/// Sends requests; cheap to clone. The threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Requests {
    jobs: Sender<Job>,
}

struct Job {
    request: PassedRequest,
    time: Duration,
    reply: Sender<Result<Passed, Failed>>,
}

/// An answer.
#[derive(Debug)]
pub struct Passed {
    /// The status code.
    pub status: u16,
    /// Header lines, of [`ANSWER_HEADERS`].
    headers: Vec<(&'static str, String)>,
    /// The numbers of the last order and of the last change of the catalogue or period, when it was given.
    pub position: Option<(u64, u64)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed {
    /// The request has not been sent.
    Unsent,
    /// It cannot be sent: its target or a header line has a character that is not allowed.
    Malformed,
    /// It may have had its effect. The text says what has failed.
    Unknown(String),
}

impl Passed {
    /// The answer for the client.
    #[must_use]
    pub fn answer(self) -> Answer {
        let headers = self.headers.into_iter();
        headers
            .fold(Answer::empty(self.status), |answer, (name, value)| answer.with(name, value))
            .with_body(Body::Owned(self.body))
    }
}

impl Requests {
    /// Starts the threads, which send requests to this URL.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(url: &str) -> io::Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("ordercast/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(MAX_HEAD_BYTES)
            .max_idle_connections(THREADS)
            .max_idle_connections_per_host(THREADS)
            .timeout_connect(Some(CONNECT));
        let agent: Agent = config.build().into();
        let (sender, jobs) = bounded::<Job>(0);
        for _ in 0..THREADS {
            let (agent, url, jobs): (_, _, Receiver<Job>) = (agent.clone(), url.to_owned(), jobs.clone());
            thread::Builder::new().name("upstream".into()).stack_size(STACK_BYTES).spawn(move || {
                for Job { request, time, reply } in jobs {
                    // The requester may have given up.
                    let _ = reply.send(send(&agent, &url, request, time));
                }
            })?;
        }
        Ok(Self { jobs: sender })
    }

    /// Sends a request and waits for the answer, up to `time`.
    ///
    /// # Errors
    /// [`Failed`] says whether it may have had its effect.
    pub fn send(&self, request: PassedRequest, time: Duration) -> Result<Passed, Failed> {
        let (reply, answer) = bounded(1);
        self.jobs.send_timeout(Job { request, time, reply }, QUEUE).map_err(|_| Failed::Unsent)?;
        answer.recv().unwrap_or_else(|_| Err(Failed::Unknown("its thread has ended".to_owned())))
    }
}

fn send(agent: &Agent, url: &str, request: PassedRequest, time: Duration) -> Result<Passed, Failed> {
    let PassedRequest { method, target, headers, body } = request;
    let mut builder = http::Request::builder().method(method.as_str()).uri(format!("{url}{target}")).header(EDGE, "1");
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let sent = if body.is_empty() {
        let request = builder.body(()).map_err(|_| Failed::Malformed)?;
        agent.run(agent.configure_request(request).timeout_global(Some(time)).build())
    } else {
        let request = builder.body(body).map_err(|_| Failed::Malformed)?;
        agent.run(agent.configure_request(request).timeout_global(Some(time)).build())
    };
    let failed =
        |error: ureq::Error| if is_unsent(&error) { Failed::Unsent } else { Failed::Unknown(error.to_string()) };
    read(sent.map_err(failed)?).map_err(failed)
}

fn read(answer: http::Response<ureq::Body>) -> Result<Passed, ureq::Error> {
    let lines = answer.headers();
    let text = |name: &str| lines.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let headers = ANSWER_HEADERS.into_iter().filter_map(|name| Some((name, text(name)?))).collect();
    let position = text(EDGE_POSITION).and_then(|text| {
        let (seq, news) = text.split_once('.')?;
        Some((seq.parse().ok()?, news.parse().ok()?))
    });
    let status = answer.status().as_u16();
    let body = answer.into_body().with_config().limit(MAX_LIST_BYTES).read_to_vec()?;
    Ok(Passed { status, headers, position, body })
}
