//! The follower thread: reads the feed of the other server and publishes here what it says. Owns when that server counts as
//! away.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::checks::Checks;
use super::outages::Outages;
use super::progress::Progress;
use super::view::{Joined, View};
use crate::client::feed::{Event, Feed};
use crate::client::server::{Failure, Server};
use crate::json::{self, FeedMessage};
use crate::live::fanout::FanoutHandle;
use crate::tally::catalog::SharedCatalog;
use crate::tally::order::Total;

/// The longest silence of the other server: 1.5 s. It answers a ping at once, so that after 2 s it is known to be away.
const SILENCE: Duration = Duration::from_millis(1_500);
/// How often it is pinged: every 0.5 s.
const PING: Duration = Duration::from_millis(500);
/// How long a handshake, and what is asked for before it, may take: 10 s, for some MiB over a slow line.
const OPENING: Duration = Duration::from_secs(10);
/// The thread's stack.
const STACK_BYTES: usize = 512 * 1024;
/// What the follower asks for to begin.
const START: &str = "/orders?edge=true";

/// Follows another server.
pub struct Follower {
    server: Server,
    fanout: FanoutHandle,
    progress: Arc<Progress>,
    checks: Arc<Checks>,
    /// Disconnected when it should end.
    stop: Receiver<()>,
    view: View,
    /// Whether the other server says that its own feeds are live.
    is_live: bool,
    /// The number of the last change of the catalogue or period that is known.
    news: u64,
    /// The number of the last order that the other server had when it was last asked for everything else.
    joined_seq: u64,
    /// The same when the feed was opened.
    joined_at: u64,
    outages: Outages,
}

impl Follower {
    /// A follower that has not started.
    pub fn new(
        server: Server,
        fanout: FanoutHandle,
        catalog: SharedCatalog,
        progress: Arc<Progress>,
        checks: Arc<Checks>,
        stop: Receiver<()>,
    ) -> Self {
        let view = View::new(fanout.clone(), catalog);
        let outages = Outages::new();
        Self {
            server,
            fanout,
            progress,
            checks,
            stop,
            view,
            is_live: false,
            news: 0,
            joined_seq: 0,
            joined_at: 0,
            outages,
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn start(mut self, sentinel: impl Send + 'static) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("follower".into()).stack_size(STACK_BYTES).spawn(move || {
            let _sentinel = sentinel;
            self.run();
        })
    }

    fn run(&mut self) {
        loop {
            let why = self.follow().err().unwrap_or_else(|| "it was stopped".to_owned());
            if self.has_stopped() {
                return;
            }
            self.is_live = false;
            self.fanout.set_stale(true);
            if self.outages.begin(Instant::now()) {
                let effect = if self.view.has_begun() { "feeds are stale" } else { "it is tried again" };
                log::warn!("{why}; {effect}");
            }
            if self.stop.recv_timeout(self.outages.pause()) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Follows until that is over: `Ok` when it was stopped, or why it could not go on.
    fn follow(&mut self) -> Result<(), String> {
        self.join(OPENING)?;
        self.joined_at = self.joined_seq;
        let query = format!("edge=true&status=true&since={}", self.view.position());
        let mut feed = Feed::open(&mut self.server, "/orders", &query, OPENING).map_err(told)?;
        // So that the first of many subscribers do not all ask.
        let _ = self.checks.check(None, false);
        let mut pinged = Instant::now();
        while !self.has_stopped() {
            match feed.read() {
                Event::Message(message) => self.take(message)?,
                Event::Nothing => {}
                Event::Lost(why) => {
                    if why == json::POSITION_UNKNOWN.reason() {
                        self.view.forget();
                    }
                    return Err(format!("{} is not followed any more ({why})", self.server.url));
                }
            }
            if feed.silence() > SILENCE {
                return Err(format!("{} has not answered for {} ms", self.server.url, SILENCE.as_millis()));
            }
            if pinged.elapsed() > PING {
                pinged = Instant::now();
                feed.ping()?;
            }
        }
        Ok(())
    }

    /// Asks for everything but orders, within this time.
    fn join(&mut self, time: Duration) -> Result<(), String> {
        let body = self.server.get(START, time).map_err(told)?;
        let (catalog, start) = json::parse_edge_start(&body).ok_or_else(|| {
            format!("{} answers, but not as an ordercast server of this version does", self.server.url)
        })?;
        self.news = start.news;
        self.joined_seq = start.last_seq;
        match self.view.join(catalog, start) {
            Joined::Begun => log::info!("follows {} from order {} on", self.server.url, self.view.seq()),
            Joined::Replaced if self.outages.logs_replacement() => log::warn!(
                "{} does not know the last order that was followed, or too many have come since; every subscriber gets a \
                 fresh snapshot",
                self.server.url
            ),
            Joined::GoesOn | Joined::Replaced => {}
        }
        self.progress.set_both(self.view.seq(), self.news);
        Ok(())
    }

    fn take(&mut self, message: FeedMessage) -> Result<(), String> {
        match message {
            FeedMessage::Total { id, total, position } => {
                let seq = position.and_then(|position| self.view.seq_of(&position));
                let seq = seq.ok_or_else(|| format!("{} sends an unknown position", self.server.url))?;
                if seq <= self.view.seq() {
                    return Ok(());
                }
                if seq > self.view.seq() + 1 {
                    self.view.forget();
                    return Err(format!("{} has left out orders before the one with number {seq}", self.server.url));
                }
                let total =
                    Total::new(total).ok_or_else(|| format!("{} sends a total out of range", self.server.url))?;
                if !self.view.publish(&id, total) {
                    self.join(SILENCE)?;
                    if !self.view.publish(&id, total) {
                        return Err(format!("{} sends a total of an unknown product", self.server.url));
                    }
                }
                self.progress.set_seq(self.view.seq());
                if self.view.seq() == self.joined_at {
                    self.tell_status();
                }
            }
            // The first one says whether anything has changed since it was asked for, before the feed was opened.
            FeedMessage::News(number) if number != self.news => self.join(SILENCE)?,
            FeedMessage::Status { is_stale } => {
                self.is_live = !is_stale;
                self.tell_status();
                self.progress.begin();
            }
            FeedMessage::News(_) | FeedMessage::Catalog(_) => {}
        }
        Ok(())
    }

    /// Feeds are live here when the other server's are, and its orders from before have come.
    fn tell_status(&mut self) {
        let is_live = self.is_live && self.view.seq() >= self.joined_at;
        let now = Instant::now();
        if is_live && self.outages.end(now) {
            log::info!("feeds are live");
        } else if !self.is_live && self.outages.begin(now) {
            log::warn!("{} says that its own feeds are stale", self.server.url);
        }
        self.fanout.set_stale(!is_live);
    }

    fn has_stopped(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Disconnected)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn told(failure: Failure) -> String {
    // The commands that speak to a server have other flags for the same.
    failure.why().replace("--token-file", "--follow-token-file").replace("--server", "--follow")
}
