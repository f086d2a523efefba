//! The history thread: reads the log for those who ask, a page at a time, so that no connection's thread needs a database's
//! stack and no reader keeps the log from being tidied. Owns the reader; knows neither formats nor connections.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::live::subscriber::Subscriber;
use crate::log;
use crate::store::StoreError;
use crate::store::order_log::{Entry, LogReader, Step};

/// Orders that a subscriber is given at once of those that it has missed: 256, some 20 KB on the wire. They are made for it
/// alone and stay in memory until its socket has taken them; the others that wait come in between.
pub const REPLAY_PAGE: usize = 256;
/// How long somebody waits for a page: 10 s.
const PAGE_DEADLINE: Duration = Duration::from_secs(10);
/// How often a log that cannot be read is logged: once a minute.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// The thread's stack, as the ledger's.
const STACK_BYTES: usize = 512 * 1024;

/// Orders from the log for a subscriber that is owed them.
pub struct Page {
    /// The subscriber that they are for.
    pub subscriber: Arc<Subscriber>,
    /// The sequence number of the order before the first of them.
    pub after: u64,
    /// The orders; `None` when the log no longer has them, or cannot be read.
    pub steps: Option<Vec<Step>>,
}

/// What the history thread needs of the fan-out thread.
pub trait Feed: Send + 'static {
    /// Takes a page that [`History::replay`] asked for.
    fn take_page(&self, page: Page);

    /// The sequence number of the last published order: later ones are not shown to anybody yet.
    fn published(&self) -> u64;
}

enum Request {
    Replay(Arc<Subscriber>, u64),
    Page { after: u64, limit: usize, reply: Sender<Vec<Entry>> },
    Close(Sender<()>),
}

/// Asks for parts of the log; cheap to clone.
#[derive(Clone)]
pub struct History {
    /// Never holds more than a few entries a connection: each waits for its page before it asks for the next.
    requests: Sender<Request>,
}

/// What the thread will run on; the handle works before the thread does.
pub struct Setup {
    requests: Receiver<Request>,
}

/// Prepares the history thread.
#[must_use]
pub fn prepare() -> (History, Setup) {
    let (sender, requests) = unbounded();
    (History { requests: sender }, Setup { requests })
}

impl History {
    /// Asks for the orders after the one with number `after`; [`Feed::take_page`] gets them.
    pub fn replay(&self, subscriber: Arc<Subscriber>, after: u64) {
        let _ = self.requests.send(Request::Replay(subscriber, after));
    }

    /// The first orders behind the one with number `after`, oldest first, at most `limit`. `None` when the log cannot be
    /// read.
    #[must_use]
    pub fn page(&self, after: u64, limit: usize) -> Option<Vec<Entry>> {
        let (reply, page) = bounded(1);
        self.requests.send(Request::Page { after, limit, reply }).ok()?;
        page.recv_timeout(PAGE_DEADLINE).ok()
    }

    /// Ends the thread and lets go of the data file: a reader that is left would keep SQLite from tidying up behind the
    /// store. Nobody gets a page from then on.
    pub fn close(&self, deadline: Instant) {
        let (reply, closed) = bounded(1);
        if self.requests.send(Request::Close(reply)).is_ok() {
            let _ = closed.recv_deadline(deadline);
        }
    }
}

impl Setup {
    /// How many requests wait for the thread.
    #[cfg(test)]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// Starts the thread on this data file. It ends with [`History::close`], or when the last
    /// [`History`] is gone.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn start(self, path: PathBuf, feed: impl Feed) -> io::Result<JoinHandle<()>> {
        let mut reading = Reading { path, reader: None, last_logged: None };
        thread::Builder::new().name("history".into()).stack_size(STACK_BYTES).spawn(move || {
            for request in self.requests {
                match request {
                    Request::Replay(subscriber, _) if subscriber.is_closed() => {}
                    Request::Replay(subscriber, after) => {
                        let steps = reading.read(|reader| reader.steps(after, REPLAY_PAGE)).flatten();
                        feed.take_page(Page { subscriber, after, steps });
                    }
                    Request::Page { after, limit, reply } => {
                        if let Some(mut page) = reading.read(|reader| reader.page(after, limit)) {
                            // Nobody may see here what a feed does not show yet. Read after the page: what has been
                            // published meanwhile may be told.
                            let published = feed.published();
                            page.truncate(page.partition_point(|entry| entry.seq <= published));
                            let _ = reply.send(page);
                        }
                    }
                    Request::Close(reply) => {
                        drop(reading);
                        let _ = reply.send(());
                        return;
                    }
                }
            }
        })
    }
}

struct Reading {
    path: PathBuf,
    /// Opened with the first request.
    reader: Option<LogReader>,
    last_logged: Option<Instant>,
}

impl Reading {
    fn read<T>(&mut self, read: impl FnOnce(&LogReader) -> rusqlite::Result<T>) -> Option<T> {
        let result = match &self.reader {
            Some(reader) => read(reader).map_err(StoreError::from),
            None => LogReader::open(&self.path).and_then(|reader| {
                let result = read(&reader).map_err(StoreError::from);
                self.reader = Some(reader);
                result
            }),
        };
        result
            .inspect_err(|error| {
                if self.last_logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
                    log::line(&format!("the log of orders cannot be read: {error:#}"));
                    self.last_logged = Some(Instant::now());
                }
            })
            .ok()
    }
}
