//! The server as a whole. Owns the order in which its parts start and stop; knows nothing of formats.

mod accept;
mod catalog_file;
mod connections;
mod data_check;
mod data_folder;
#[cfg(feature = "postgres")]
mod database;
#[cfg(feature = "postgres")]
mod database_watch;
mod end;
mod error;
mod error_sums;
#[cfg(feature = "client")]
mod follow;
mod handle;
mod idle_sessions;
mod lent;
mod limits;
pub mod listener;
mod reject;
mod report;
mod serve;
mod workers;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, bounded, never, select};

use crate::api::assets::Assets;
use crate::api::feed::Feeds;
use crate::api::foreign::ForeignRequests;
use crate::api::large_answers::LargeAnswers;
use crate::api::metrics::Metrics;
use crate::api::metrics_address::MetricsAddress;
use crate::api::product_lists::ProductLists;
use crate::api::rates::{RateAnswers, Turn};
use crate::api::routes::{Routes, Scope};
use crate::api::service::OrderService;
use crate::api::tokens::{TokenFiles, Tokens};
use crate::config::Config;
use crate::http::origin::Policy;
use crate::ledger::{self, Engine, LedgerHandle};
use crate::live::rates::Rates;
use crate::live::{fanout, history, slow_sockets};
use crate::log::THROTTLE;
use crate::store::order_log::LogSource;
use crate::store::{StoreError, now_ms};

pub use connections::Caps;
pub use error::ServerError;
pub use handle::{Handle, HandleError, ProductTotal};

use data_check::DataCheck;
use data_folder::Storage;
use end::{End, Sentinel};
use error_sums::ErrorSums;
use listener::Listeners;

/// How long the end may take: requests in flight are answered, sessions get their last totals and close, within 5 s.
/// Half a second of them is left for the process's own end.
const DRAIN: Duration = Duration::from_millis(4_500);
/// How long sessions have to take their last totals and to answer the close frame: 3 s. Then they are closed.
const SESSION_DRAIN: Duration = Duration::from_secs(3);
/// When connections that are still open are reset: 4.2 s after the end has begun. The kernel would keep what their clients
/// have not read if they were open when the process ends.
const RESET_AFTER: Duration = Duration::from_millis(4_200);
/// How often a thread that ends is checked.
const JOIN_TICK: Duration = Duration::from_millis(2);

/// A server that listens but does not accept yet. Dropping it stops its threads and closes its data file.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("ordercast-doc-{}", std::process::id()));
/// let mut config = ordercast::Config::default();
/// config.listen = vec!["127.0.0.1:0".parse()?];
/// config.data = folder.clone();
/// let server = ordercast::Server::bind(&config)?;
/// let handle = server.handle();
/// handle.order("A1", 10, Some("till-7-0041"))?;
/// assert_eq!(handle.totals("electronics")?[0].total, 13);
/// drop(server);
/// assert!(handle.totals("electronics").is_err());
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    listeners: Listeners,
    /// The number of those that serve orders; the others serve metrics.
    for_orders: usize,
    /// The hosts and origins that the others allow.
    metrics_policy: Policy,
    /// Taken when the server stops.
    service: Option<Arc<OrderService>>,
    threads: Vec<JoinHandle<()>>,
    /// The check of the data file, if it needed one.
    data_check: Option<DataCheck>,
    #[cfg(feature = "postgres")]
    database_watch: Option<database_watch::DatabaseWatch>,
    handle: Handle,
    end: Receiver<End>,
    /// When it was started.
    begun: Instant,
    /// Why it ends, for the log.
    reason: String,
    error_sums: ErrorSums,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on the addresses of the configuration, opens the data folder, and starts the ledger and the fan-out.
    /// Connections are accepted from now on, and served once [`Server::run`] is called. The process's soft limit on open
    /// files is raised to the hard one.
    ///
    /// # Errors
    /// [`ServerError`] says what to change.
    pub fn bind(config: &Config) -> Result<Self, ServerError> {
        Self::from_listeners(config, listen(&config.listen)?)
    }

    /// The same on sockets that listen already; of the configuration's addresses only those for metrics are used. The
    /// sockets are put into blocking mode, and the send buffers of their connections are bounded.
    ///
    /// # Errors
    /// [`ServerError`] says what to change.
    pub fn from_listeners(config: &Config, mut listeners: Vec<TcpListener>) -> Result<Self, ServerError> {
        let for_orders = listeners.len();
        listeners.extend(listen(&config.metrics_listen)?);
        let assets = match &config.static_dir {
            None => Assets::Embedded,
            Some(folder) => Assets::folder(folder).map_err(|error| ServerError::StaticDir(folder.clone(), error))?,
        };
        let tokens = Tokens::load(TokenFiles {
            write: config.token_file.clone(),
            read: config.read_token_file.clone(),
            admin: config.admin_token_file.clone(),
        })?;
        let cap = limits::connection_cap(config.max_connections, added_threads(config));
        let caps = Caps { connections: cap.connections, per_address: config.max_connections_per_ip };
        let listeners = Listeners::new(listeners, caps).map_err(ServerError::System)?;
        if let Some(reason) = &cap.reason {
            log::warn!("{reason}");
        }
        if config.follow.is_some() {
            #[cfg(feature = "client")]
            return Self::start(config, (listeners, for_orders), follow::open(config)?, assets, tokens);
            #[cfg(not(feature = "client"))]
            return Err(ServerError::CannotFollow);
        }
        let mut addresses = listeners.addresses()[..for_orders].iter();
        if let (None, Some(address)) = (&config.token_file, addresses.find(|address| !address.ip().is_loopback())) {
            let more = if config.admin_token_file.is_none() { " and change products" } else { "" };
            log::warn!("everybody who can reach {address} may order{more}; --token-file limits that");
        }
        let listeners = (listeners, for_orders);
        #[cfg(feature = "postgres")]
        if let Some(target) = &config.store {
            let (storage, watch) = database::open(config, target)?;
            let mut server = Self::start(config, listeners, storage, assets, tokens)?;
            server.watch_database(watch)?;
            return Ok(server);
        }
        let storage = data_folder::open(config)?;
        Self::start(config, listeners, storage, assets, tokens)
    }

    fn start(
        config: &Config,
        (listeners, for_orders): (Listeners, usize),
        storage: Storage<impl Engine + 'static, impl LogSource + 'static>,
        assets: Assets,
        tokens: Tokens,
    ) -> Result<Self, ServerError> {
        let line = report::Start {
            addresses: &listeners.addresses()[..for_orders],
            place: &storage.place,
            is_followed: storage.follow.is_some(),
            orders: storage.stored.orders(),
            products: storage.stored.totals.len(),
            caps: listeners.caps(),
            retention: config.retention,
        }
        .line();
        let server = Self::start_threads(config, (listeners, for_orders), storage, assets, tokens);
        let server = server.map_err(ServerError::System)?;
        log::info!("{line}");
        Ok(server)
    }

    fn start_threads(
        config: &Config,
        (listeners, for_orders): (Listeners, usize),
        storage: Storage<impl Engine + 'static, impl LogSource + 'static>,
        assets: Assets,
        tokens: Tokens,
    ) -> io::Result<Self> {
        let Storage { engine, follow, mut log, catalog, period, stored, check, .. } = storage;
        let begun = Instant::now();
        let (end_sender, end) = bounded(1);
        let sentinel = |thread| Sentinel::new(thread, &end_sender);
        let tokens = Arc::new(tokens);
        let (history, queries) = history::prepare();
        let start = fanout::Start {
            totals: &stored.totals,
            openings: &period.openings,
            opened_after: period.period.opened_after,
            opened_before: &opened_before(&mut log, period.period.number),
            last_seq: stored.last_seq,
            shown_after: stored.shown_after,
            runs: &stored.runs,
        };
        let fanout_sentinels = (0..fanout::threads(config.fanout_threads)).map(|_| sentinel("fan-out"));
        let (fanout, fanout_threads) = fanout::start(&catalog, &start, &history, fanout_sentinels)?;
        let to_fanout = fanout.clone();
        let slow_socket_sentinel = sentinel("slow-socket");
        let (slow_sockets, slow_socket_thread) = slow_sockets::start(move |subscriber| {
            // Dropped with this closure, when the thread ends.
            let _ = &slow_socket_sentinel;
            to_fanout.request_catch_up(subscriber);
        })?;
        let rates = Rates::new(stored.ordered_ms, stored.last_seq);
        history.read_rates(&rates);
        let mut threads = fanout_threads;
        threads.push(slow_socket_thread);
        let ledger = match engine {
            Some(engine) => {
                let sentinel = sentinel("ledger");
                let (ledger, thread) = ledger::start(engine, period, fanout.clone(), rates.clone(), sentinel)?;
                threads.insert(0, thread);
                ledger
            }
            None => LedgerHandle::none(),
        };
        let damaged = {
            let ledger = ledger.clone();
            move |error: &StoreError| data_check::end_orders(&ledger, error)
        };
        threads.push(queries.start(log, fanout.clone(), damaged, sentinel("history"))?);
        let upstream = match follow {
            Some(follow) => {
                let (upstream, thread) = follow(fanout.clone(), sentinel("follower"))?;
                threads.insert(0, thread);
                Some(upstream)
            }
            None => None,
        };
        let data_check = check.map(|check| DataCheck::start(check, ledger.clone())).transpose()?;
        let policy = |addresses: &[_]| Policy::new(addresses, &config.allow_origins, &config.allow_hosts);
        let metrics_policy = policy(&listeners.addresses()[for_orders..]);
        let routes = Routes {
            catalog: catalog.clone(),
            fanout: fanout.clone(),
            ledger: ledger.clone(),
            follows: config.follow.clone(),
            policy: policy(&listeners.addresses()[..for_orders]),
            scope: if config.metrics_listen.is_empty() { Scope::All } else { Scope::WithoutMetrics },
            foreign: ForeignRequests::default(),
            tokens: tokens.clone(),
            assets,
            frames: config.allow_frames.clone(),
            lists: ProductLists::default(),
            large: LargeAnswers::default(),
        };
        let rates = RateAnswers { catalog: catalog.clone(), history: history.clone(), rates, turn: Turn::default() };
        let metrics = Metrics {
            connections: listeners.counters().clone(),
            max_connections: listeners.caps().connections,
            ledger: ledger.clone(),
            fanout: fanout.clone(),
            slow_sockets: slow_sockets.clone(),
            started_ms: now_ms(),
        };
        let feeds = Feeds { catalog, ledger: ledger.clone(), upstream, fanout, tokens: tokens.clone(), slow_sockets };
        let feeds = Arc::new(feeds);
        let service = Arc::new(OrderService { routes, ledger, history, rates, feeds, metrics });
        let handle = Handle { end: end_sender, tokens, service: Arc::downgrade(&service) };
        let (service, reason) = (Some(service), "it was dropped".to_owned());
        let error_sums = ErrorSums::default();
        Ok(Self {
            listeners,
            for_orders,
            metrics_policy,
            service,
            threads,
            data_check,
            #[cfg(feature = "postgres")]
            database_watch: None,
            handle,
            end,
            begun,
            reason,
            error_sums,
        })
    }

    /// Starts to watch the database.
    #[cfg(feature = "postgres")]
    fn watch_database(&mut self, watch: database_watch::Watch) -> Result<(), ServerError> {
        if let Some(service) = &self.service {
            let sentinel = Sentinel::new("database", &self.handle.end);
            let started = watch.start(service.ledger.clone(), service.feeds.fanout.clone(), sentinel);
            let (watch, thread) = started.map_err(ServerError::System)?;
            self.database_watch = Some(watch);
            self.threads.push(thread);
        }
        Ok(())
    }

    /// The addresses that it listens on, with the ports that the system has chosen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.listeners.addresses()[..self.for_orders]
    }

    /// The addresses that serve metrics and health checks only.
    #[must_use]
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.listeners.addresses()[self.for_orders..]
    }

    /// A handle to it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until [`Handle::shutdown`] is called, then ends within 5 seconds: requests in flight are answered, and
    /// sessions get their last totals and a close frame.
    ///
    /// # Errors
    /// When the system refuses an accept thread, or one of the server's threads ends before it was asked to.
    pub fn run(mut self) -> Result<(), ServerError> {
        if let Some(service) = &self.service {
            let sentinel = |thread| Sentinel::new(thread, &self.handle.end);
            let metrics = MetricsAddress { service: service.clone(), policy: self.metrics_policy.clone() };
            let started = self.listeners.accept_on(self.for_orders, &Arc::new(metrics), sentinel);
            started.and_then(|()| self.listeners.accept(service, sentinel)).map_err(ServerError::System)?;
        }
        let Some(end) = self.wait_for_end() else { return Ok(()) };
        self.reason = end.to_string();
        match end {
            End::Asked(_) => Ok(()),
            End::Broken(thread) => Err(ServerError::Broken(thread)),
        }
    }

    /// Waits until the end is asked for, or one of the threads that everything needs has ended. Wakes up only for that,
    /// and for a log line that sums up answers with an error status, if there are any: an idle server sleeps.
    fn wait_for_end(&mut self) -> Option<End> {
        let (asked, errors) = (self.end.clone(), self.listeners.counters().noted_errors().clone());
        let (mut errors_at, mut foreign_at): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            let due = errors_at.into_iter().chain(foreign_at).min().map_or_else(never, at);
            // While their line is due, further answers need not wake this thread.
            let noted = if errors_at.is_none() { &errors } else { &never() };
            select! {
                recv(asked) -> end => return end.ok(),
                recv(noted) -> _ => errors_at = Some(Instant::now() + THROTTLE),
                recv(due) -> _ => {
                    if errors_at.is_some_and(|at| at <= Instant::now()) {
                        errors_at = None;
                        self.log_errors();
                    }
                    // Requests under foreign names are among them, so that one of these lines is due soon after.
                    foreign_at = self.service.as_ref().and_then(|service| service.routes.foreign.log_sums());
                }
            }
        }
    }

    /// Logs the answers with an error status since the last such line.
    fn log_errors(&mut self) {
        let counters = self.listeners.counters();
        counters.noted_errors().try_iter().for_each(drop);
        if let Some(sums) = self.error_sums.next(counters.errors()) {
            log::info!("refused in the last minute: {sums}");
        }
    }
}

/// The threads that settings add to those of every server.
fn added_threads(config: &Config) -> usize {
    #[cfg(feature = "client")]
    let of_edge = if config.follow.is_some() { crate::edge::THREADS } else { 0 };
    #[cfg(not(feature = "client"))]
    let of_edge = 0;
    fanout::threads(config.fanout_threads) - 1 + of_edge
}

/// After which entries of the log the periods before this one were opened, as far as servers that follow need them. Without
/// them those servers count some orders of former periods from an earlier opening.
fn opened_before(log: &mut impl LogSource, number: u64) -> Vec<u64> {
    let first = number.saturating_sub(fanout::MAX_OPENINGS as u64 + 1);
    let periods = if number > 1 { log.closed_periods(first, number, fanout::MAX_OPENINGS) } else { Ok(Vec::new()) };
    periods.unwrap_or_default().into_iter().map(|(period, _)| period.opened_after).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(service) = self.service.take() else { return };
        let begun = Instant::now();
        let (reset_at, deadline) = (begun + RESET_AFTER, begun + DRAIN);
        self.listeners.stop_accepting();
        self.listeners.wait_for_requests(Instant::now() + DRAIN / 2);
        // Before the store closes: SQLite removes its log when the last connection to the file is closed.
        service.history.close(deadline);
        if let Some(check) = &mut self.data_check {
            check.stop(deadline);
        }
        #[cfg(feature = "postgres")]
        {
            self.database_watch = None;
        }
        // After this nothing is counted, and every counted order is on disk and published.
        service.ledger.stop(deadline);
        service.feeds.fanout.finish();
        self.listeners.wait_for_all(reset_at.min(Instant::now() + SESSION_DRAIN));
        service.feeds.fanout.stop();
        service.feeds.slow_sockets.stop();
        let orders = service.ledger.counters().orders.get();
        self.listeners.close_requests();
        self.listeners.wait_for_all(deadline);
        self.listeners.stop();
        // The threads end when the last handle to them is dropped.
        drop(service);
        let others = self.listeners.take_threads();
        let mut threads: Vec<_> = self.threads.drain(..).chain(others).collect();
        while !threads.is_empty() && Instant::now() < deadline {
            // Joined, so that the system has let go of them too.
            threads.extract_if(.., |thread| thread.is_finished()).for_each(|thread| drop(thread.join()));
            thread::sleep(JOIN_TICK);
        }
        self.log_errors();
        log::info!("{}", report::stop_line(&self.reason, orders, self.begun.elapsed()));
    }
}

fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ServerError> {
    addresses.iter().map(|address| listener::listen(*address)).collect()
}
