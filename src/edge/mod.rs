//! A server that follows another one over its feed, and keeps nothing: the follower thread publishes here what the other
//! server has published there, under the same positions; requests that change something are passed on, and answered once
//! their effect is known here.
//!
//! `GET /orders?edge=true` answers all that the other fan-out knows (`tally::edge`). Such a feed has every order, also of
//! hidden products; after any other change it says so before the next order, and `View::join` applies what the follower then
//! asks for between the same two orders. It ends instead of a snapshot; then everything is replaced. `Routes::decided_by`
//! decides what is passed on; the answer has the numbers of the last order and change, for which `Progress` waits.

mod checks;
mod follower;
mod log;
mod outages;
mod progress;
mod requests;
mod view;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::api::routes::answer;
use crate::api::upstream::{Denied, PassedRequest, Upstream, away, redirected};
use crate::client::server::Server;
use crate::config::client::Access;
use crate::http::problem::Problem;
use crate::http::response::Answer;
use crate::json;
use crate::live::fanout::FanoutHandle;
use crate::tally::catalog::SharedCatalog;
use crate::tally::order::{Amount, Key};

pub use log::UpstreamLog;

use checks::Checks;
use follower::Follower;
use progress::Progress;
use requests::{Failed, Passed, REQUEST, Requests};

/// The threads of an edge, each with a connection: those of requests that it passes on, and the follower.
pub const THREADS: usize = requests::THREADS + 1;

/// How long an answer waits until its effect is known here: 5 s.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(5);

/// The token file cannot be used. The text says what to do.
#[derive(Debug)]
pub struct TokenError(String);

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for TokenError {}

/// A connection to the server at this URL, with the first token of this file.
fn server(access: &Access) -> Result<Server, TokenError> {
    Server::new(access).map_err(|error| TokenError(error.to_string()))
}

/// What follows another server, before it has begun.
pub struct Edge {
    access: Access,
    catalog: SharedCatalog,
}

impl Edge {
    /// What follows the server at `access`, and puts its products into `catalog`. Also returns a reader of that server's
    /// log.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn new(access: Access, catalog: SharedCatalog) -> Result<(Self, UpstreamLog), TokenError> {
        let log = UpstreamLog::new(server(&access)?, catalog.clone());
        Ok((Self { access, catalog }, log))
    }

    /// Starts to follow. The thread ends when what is returned with it is dropped. `sentinel` is dropped when it ends,
    /// also by a panic.
    ///
    /// # Errors
    /// When the system refuses a thread, or the token file cannot be read any more.
    pub fn start(self, fanout: FanoutHandle, sentinel: impl Send + 'static) -> io::Result<(Following, JoinHandle<()>)> {
        let Self { access, catalog } = self;
        let requests = Requests::start(&access.server)?;
        let (progress, checks) = (Arc::<Progress>::default(), Arc::new(Checks::new(requests.clone())));
        let (stop, stopped) = bounded(0);
        fanout.set_stale(true);
        fanout.follow_others();
        let server = server(&access).map_err(io::Error::other)?;
        let follower = Follower::new(server, fanout.clone(), catalog, progress.clone(), checks.clone(), stopped);
        let thread = follower.start(sentinel)?;
        Ok((Following { fanout, requests, progress, checks, _stop: stop }, thread))
    }
}

/// The server that is followed. Dropping it ends that.
pub struct Following {
    fanout: FanoutHandle,
    requests: Requests,
    progress: Arc<Progress>,
    checks: Arc<Checks>,
    /// The follower ends when it is dropped.
    _stop: Sender<()>,
}

impl Following {
    /// Waits until everything is known, but not beyond `deadline`. Returns whether it is.
    #[must_use]
    pub fn wait(&self, deadline: Instant) -> bool {
        self.progress.wait_for_begin(deadline)
    }

    fn send(&self, request: PassedRequest) -> Result<Passed, Problem> {
        if self.fanout.is_stale() {
            return Err(away());
        }
        let passed = self.requests.send(request, REQUEST).map_err(|failed| match failed {
            Failed::Unsent => away(),
            Failed::Malformed => {
                Problem::new(400, "the path or a header line has a character that is not allowed there; escape it")
            }
            Failed::Unknown(why) => Problem::new(
                500,
                format!(
                    "the server that this one follows gave no answer ({why}); whether it did what was asked is not known; \
                     an order can be sent again under its key"
                ),
            ),
        })?;
        if (300..400).contains(&passed.status) {
            return Err(redirected(passed.status));
        }
        if let Some((seq, news)) = passed.position.filter(|_| passed.status < 300) {
            // When the time is over, it is answered all the same: what was asked has been done there, and an error would
            // make the client ask for it again.
            self.progress.wait_for(seq, news, Instant::now() + FOLLOW_DEADLINE);
        }
        Ok(passed)
    }
}

impl Upstream for Following {
    fn check_read(&self, token: Option<&str>) -> Result<(), Denied> {
        self.checks.check(token, self.fanout.is_stale())
    }

    fn pass(&self, request: PassedRequest) -> Answer {
        match self.send(request) {
            Ok(passed) => passed.answer(),
            Err(problem) => answer(&problem),
        }
    }

    fn order(&self, id: &str, amount: Amount, key: Option<&Key>, token: Option<&str>) -> Result<(), String> {
        let mut headers = vec![("Content-Type", "application/json".to_owned())];
        headers.extend(token.map(|token| ("Authorization", format!("Bearer {token}"))));
        let (method, target) = (tiny_http::Method::Post, format!("/orders/{id}"));
        let body = json::order_body(amount, key).into_bytes();
        let passed = match self.send(PassedRequest { method, target, headers, body }) {
            Ok(Passed { status: 200, .. }) => return Ok(()),
            Ok(passed) => passed,
            Err(problem) => return Err(problem.detail().to_owned()),
        };
        Err(json::problem_detail(&passed.body).unwrap_or_else(|| format!("the answer has status {}", passed.status)))
    }
}
