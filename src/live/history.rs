//! The history thread: reads the order log page by page, and reports of closed periods, so that no connection's thread
//! needs the stack of a database call, and no reader keeps SQLite from checkpointing. Owns the reader; knows neither
//! which store it reads, nor formats and connections.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::live::rates::{Rates, Reading};
use crate::live::subscriber::Subscriber;
use crate::log::Throttle;
use crate::store::order_log::{Filter, LogSource, Page};
use crate::store::periods::ClosedPeriod;
use crate::store::{StoreError, now_ms};
use crate::tally::order::Publication;
use crate::tally::period::Report;

/// Orders in one page for a subscriber: 256, some 20 KB on the wire. Pages for others come in between.
pub const REPLAY_PAGE: usize = 256;
/// Lines of the log that are looked at for one query: 10,000, some 5 ms. Other queries come in between.
const QUERY_LINES: usize = 10_000;
/// Queries that one page of the log may take: 100, so that a request whose filter matches little looks at a million lines,
/// and is answered within a second.
const PAGE_QUERIES: usize = 100;
/// Queries that wait at most: 65,536, far more than there are connections. There are so many only while the disk hangs, and
/// then further ones are not taken.
const MOST_QUERIES: usize = 64 * 1_024;
/// How long a caller waits for a page: 10 s.
const PAGE_DEADLINE: Duration = Duration::from_secs(10);
/// The thread's stack, as large as the ledger's.
const STACK_BYTES: usize = 512 * 1024;

/// Orders from the log for a subscriber that is owed them.
pub struct ReplayPage {
    /// The subscriber that they are for.
    pub subscriber: Arc<Subscriber>,
    /// The sequence number of the order before the first of them.
    pub after: u64,
    /// The orders.
    pub orders: Orders,
}

/// What the log has behind a sequence number.
pub enum Orders {
    /// These orders, oldest first.
    Read(Vec<Publication>),
    /// The log no longer has the first of them; or the disk fails or is full since the start, which may last, and current
    /// totals are better than none.
    Lost,
    /// The log cannot be opened now, for example because no descriptor is left.
    Unreadable,
}

/// The data file cannot be read now.
#[derive(Debug)]
pub struct Unreadable;

/// What the history thread needs of the fan-out thread.
pub trait PageSink: Send + 'static {
    /// Takes a page that [`History::replay`] asked for.
    fn take_page(&self, page: ReplayPage);

    /// The sequence number of the last published order: later ones are not shown to anybody yet.
    fn published(&self) -> u64;
}

enum Query {
    /// Weak, so that a session that has ended frees its socket.
    Replay(Weak<Subscriber>, u64),
    /// For a caller that waits until this time.
    Page(Instant, Ask),
    Rates(Reading, History),
    Close(Sender<()>),
}

enum Ask {
    Log { after: u64, limit: usize, filter: Filter, reply: Sender<Page> },
    ClosedPeriods { after: u64, before: u64, limit: usize, reply: Sender<Vec<ClosedPeriod>> },
    Report { number: u64, reply: Sender<Option<Report>> },
}

/// Handle to the history thread; cheap to clone.
#[derive(Clone)]
pub struct History {
    /// Bounded by [`MOST_QUERIES`]: a connection has one query at a time, but while the disk hangs, those stay that nobody
    /// waits for any more.
    queries: Sender<Query>,
}

/// The receiver of the queries, which wait until the thread starts.
pub struct Queries(Receiver<Query>);

/// Prepares the history thread.
#[must_use]
pub fn prepare() -> (History, Queries) {
    let (sender, queries) = unbounded();
    (History { queries: sender }, Queries(queries))
}

impl History {
    /// Asks for the orders after this sequence number; [`PageSink::take_page`] gets them, unless the thread has ended.
    ///
    /// # Errors
    /// [`Unreadable`] when too many queries wait.
    pub fn replay(&self, subscriber: &Arc<Subscriber>, after: u64) -> Result<(), Unreadable> {
        self.add(Query::Replay(Arc::downgrade(subscriber), after))
    }

    fn add(&self, query: Query) -> Result<(), Unreadable> {
        if self.queries.len() >= MOST_QUERIES {
            return Err(Unreadable);
        }
        // When the thread has ended, the query is dropped, which tells a caller that waits.
        let _ = self.queries.send(query);
        Ok(())
    }

    /// Asks, and waits for the answer until `deadline`.
    fn ask<T>(&self, deadline: Instant, ask: impl FnOnce(Sender<T>) -> Ask) -> Result<T, Unreadable> {
        let (reply, answer) = bounded(1);
        self.add(Query::Page(deadline, ask(reply)))?;
        answer.recv_deadline(deadline).map_err(|_| Unreadable)
    }

    /// The wanted entries after this sequence number, oldest first, at most `limit`; fewer, with a number to go on from,
    /// when few of the next million entries are wanted. `None` when the log cannot be read.
    #[must_use]
    pub fn page(&self, after: u64, limit: usize, filter: Filter) -> Option<Page> {
        self.page_of(PAGE_QUERIES, after, limit, filter)
    }

    fn page_of(&self, most_queries: usize, mut after: u64, limit: usize, filter: Filter) -> Option<Page> {
        let deadline = Instant::now() + PAGE_DEADLINE;
        let mut page = Page::default();
        for _ in 0..most_queries {
            let left = limit - page.entries.len();
            let part = self.ask(deadline, |reply| Ask::Log { after, limit: left, filter, reply });
            let Page { entries, next } = part.ok()?;
            page.entries.extend(entries);
            page.next = next;
            match next {
                Some(next) if page.entries.len() < limit => after = next,
                _ => break,
            }
        }
        Some(page)
    }

    /// Adds to the rates what the log has from before the start, page by page, unless that is done or being done.
    pub fn read_rates(&self, rates: &Arc<Rates>) {
        if let Some(reading) = rates.begin_reading(now_ms()) {
            let _ = self.queries.send(Query::Rates(reading, self.clone()));
        }
    }

    /// The closed periods with numbers between `after` and `before`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn closed_periods(&self, after: u64, before: u64, limit: usize) -> Result<Vec<ClosedPeriod>, Unreadable> {
        let deadline = Instant::now() + PAGE_DEADLINE;
        self.ask(deadline, |reply| Ask::ClosedPeriods { after, before, limit, reply })
    }

    /// The report of a closed period; `None` if there is none.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn report(&self, number: u64) -> Result<Option<Report>, Unreadable> {
        self.ask(Instant::now() + PAGE_DEADLINE, |reply| Ask::Report { number, reply })
    }

    /// Ends the thread and drops its reader: an open one would keep SQLite from removing its log when the store closes.
    /// Later queries are not answered.
    pub fn close(&self, deadline: Instant) {
        let (reply, closed) = bounded(1);
        if self.queries.send(Query::Close(reply)).is_ok() {
            let _ = closed.recv_deadline(deadline);
        }
    }
}

impl Queries {
    /// The number of queries that wait for the thread.
    #[cfg(test)]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// Starts the thread on this log. It ends with [`History::close`], or when the last [`History`] is dropped. `damaged` is
    /// called on it with each [`StoreError::Damaged`] that a reading ends with; other errors are logged. `sentinel` is
    /// dropped when it ends, also by a panic.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn start(
        self,
        source: impl LogSource + 'static,
        sink: impl PageSink,
        damaged: impl FnMut(&StoreError) + Send + 'static,
        sentinel: impl Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let mut log = Log { source, sink, damaged, throttle: Throttle::default() };
        thread::Builder::new().name("history".into()).stack_size(STACK_BYTES).spawn(move || {
            let _sentinel = sentinel;
            for query in self.0 {
                match query {
                    Query::Replay(subscriber, after) => log.replay(&subscriber, after),
                    Query::Page(until, ask) if Instant::now() < until => log.answer(ask),
                    // Nobody waits for an answer that is late.
                    Query::Page(..) => {}
                    Query::Rates(reading, history) => log.add_rates(reading, history),
                    Query::Close(reply) => {
                        drop(log);
                        let _ = reply.send(());
                        return;
                    }
                }
            }
        })
    }
}

/// A store's log, and what is done with what it has.
struct Log<L, S, D> {
    source: L,
    sink: S,
    damaged: D,
    throttle: Throttle,
}

impl<L: LogSource, S: PageSink, D: FnMut(&StoreError)> Log<L, S, D> {
    fn replay(&mut self, subscriber: &Weak<Subscriber>, after: u64) {
        // It may have ended meanwhile.
        let Some(subscriber) = subscriber.upgrade().filter(|subscriber| !subscriber.is_closed()) else { return };
        let orders = match self.read(|source| source.publications(after, REPLAY_PAGE)) {
            Ok(Some(publications)) => Orders::Read(publications),
            Ok(None) => Orders::Lost,
            Err(error) if error.is_io_error() => Orders::Lost,
            Err(_) => Orders::Unreadable,
        };
        self.sink.take_page(ReplayPage { subscriber, after, orders });
    }

    /// Adds a page to the rates. After an error the next request for rates begins again.
    fn add_rates(&mut self, mut reading: Reading, history: History) {
        let through = reading.through();
        let add = |seq, product, at_ms, amount| reading.add(seq, product, at_ms, amount);
        match self.read(|source| source.amounts(through, QUERY_LINES, add)) {
            Ok(()) if reading.end_page(QUERY_LINES) => {
                let queries = history.queries.clone();
                let _ = queries.send(Query::Rates(reading, history));
            }
            Ok(()) => reading.finish(),
            Err(_) => {}
        }
    }

    /// Answers a caller. An error drops the sender, which tells it.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Log { after, limit, filter, reply } => {
                let page = self.read(|source| source.page(after, limit, &filter, QUERY_LINES as u64));
                if let Ok(mut page) = page {
                    // The log shows no order before the feeds do. Read after the page, so that orders which were
                    // published meanwhile stay in it.
                    let published = self.sink.published();
                    let shown = page.entries.partition_point(|entry| entry.seq <= published);
                    // Nor may a reader go on from behind an order that is not published: if its commit is taken back,
                    // another order gets its number.
                    if shown < page.entries.len() || page.next.is_some_and(|next| next > published) {
                        page.entries.truncate(shown);
                        page.next = None;
                    }
                    let _ = reply.send(page);
                }
            }
            Ask::ClosedPeriods { after, before, limit, reply } => {
                if let Ok(periods) = self.read(|source| source.closed_periods(after, before, limit)) {
                    let _ = reply.send(periods);
                }
            }
            Ask::Report { number, reply } => {
                if let Ok(report) = self.read(|source| source.report(number)) {
                    let _ = reply.send(report);
                }
            }
        }
    }

    /// Reads something; an error is logged.
    fn read<T>(&mut self, read: impl FnOnce(&mut L) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(&mut self.source).inspect_err(|error| {
            if matches!(error, StoreError::Damaged(_)) {
                (self.damaged)(error);
            } else if self.throttle.allows() {
                log::warn!("the log of orders cannot be read: {error:#}");
            }
        })
    }
}
