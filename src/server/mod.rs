//! The server as a whole. Owns the order in which the parts start and stop; knows nothing of formats.

mod accept;
mod connections;
mod limits;
pub mod listener;
mod reject;
mod serve;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::api::assets::Assets;
use crate::api::feed::Feeds;
use crate::api::product_lists::ProductLists;
use crate::api::routes::Routes;
use crate::api::service::{OrderService, Taken};
use crate::api::tokens::{TokenFileError, Tokens};
use crate::config::Config;
use crate::http::origin::Policy;
use crate::ledger;
use crate::live::slow_sockets::{self, SlowSockets};
use crate::live::{fanout, history};
use crate::store::seed;
use crate::store::sqlite::SqliteStore;
use crate::store::{StoreError, Stored};
use crate::{json, log};

use listener::Listeners;

pub use connections::Caps;

/// How long the end may take: requests in flight are answered, sessions told and heard, within 5 s. Half a second of
/// them is left for the process's own end.
pub const DRAIN: Duration = Duration::from_millis(4_500);
/// How long sessions have to take their last totals and to answer the close frame: 3 s. Whoever is silent then is closed.
const FAREWELL: Duration = Duration::from_secs(3);
/// How often the server's own threads are looked after: once a second.
const SUPERVISION: Duration = Duration::from_secs(1);
/// The built-in catalogue.
const CATALOG: &[u8] = include_bytes!("../config/catalog.json");
/// Why a server did not start, or ended by itself.
#[derive(Debug)]
pub enum ServerError {
    /// An address cannot be listened on: choose another, or stop who has it.
    Listen(SocketAddr, io::Error),
    /// The data folder cannot be used: the text says what to do.
    Store(StoreError),
    /// The catalogue cannot be used: the text says where it is wrong.
    Catalog(String),
    /// A token file cannot be used.
    Tokens(TokenFileError),
    /// The folder of the web app cannot be used.
    StaticDir(PathBuf, io::Error),
    /// The system refused a thread or a poll.
    System(io::Error),
    /// One of the server's own threads ended too early, which is a bug in it: the process should end.
    Broken(&'static str),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {address}: it is in use; stop the other server or choose with --listen")
            }
            Self::Listen(address, _) => write!(f, "cannot listen on {address}"),
            Self::Store(error) => error.fmt(f),
            Self::Tokens(error) => error.fmt(f),
            Self::Catalog(why) => write!(f, "the catalogue cannot be used: {why}"),
            Self::StaticDir(path, _) => write!(f, "cannot serve files from {}", path.display()),
            Self::System(_) => write!(f, "the system refused what the server needs"),
            Self::Broken(thread) => write!(f, "the {thread} thread has ended; this is a bug"),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(_, error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Self::Listen(_, error) | Self::StaticDir(_, error) | Self::System(error) => Some(error),
            Self::Store(_) | Self::Tokens(_) | Self::Catalog(_) | Self::Broken(_) => None,
        }
    }
}

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TokenFileError> for ServerError {
    fn from(error: TokenFileError) -> Self {
        Self::Tokens(error)
    }
}

/// Steers a running server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    end: Sender<()>,
    tokens: Arc<Tokens>,
}

impl Handle {
    /// Asks the server to answer what is in flight, say goodbye to its sessions, and return from [`Server::run`].
    pub fn shutdown(&self) {
        // A full channel holds the same wish already.
        let _ = self.end.try_send(());
    }

    /// Reads the token files again. A file that cannot be used is logged, and the tokens stay as they were.
    pub fn reload_tokens(&self) {
        match self.tokens.reload() {
            Ok(()) => log::line("the token files have been read again"),
            Err(error) => log::line(&format!("{error}; the tokens stay as they were")),
        }
    }
}

/// A server that listens but does not accept yet.
pub struct Server {
    listeners: Listeners,
    service: Arc<OrderService>,
    slow_sockets: SlowSockets,
    ledger_thread: JoinHandle<()>,
    ledger_end: ledger::End,
    fanout_thread: JoinHandle<()>,
    slow_socket_thread: JoinHandle<()>,
    history_thread: JoinHandle<()>,
    handle: Handle,
    end: Receiver<()>,
}

impl Server {
    /// Listens on the addresses, opens the data folder, and starts the ledger and the fan-out. Connections are accepted
    /// from now on, and served once [`Server::run`] is called.
    ///
    /// # Errors
    /// [`ServerError`] says what to change.
    pub fn bind(config: &Config) -> Result<Self, ServerError> {
        log::start();
        let assets = match &config.static_dir {
            None => Assets::Embedded,
            Some(folder) => Assets::folder(folder).map_err(|error| ServerError::StaticDir(folder.clone(), error))?,
        };
        let tokens = Tokens::load(config.token_file.as_deref(), config.read_token_file.as_deref())?;
        let cap = limits::connection_cap(config.max_connections);
        let caps = Caps { connections: cap.connections, per_address: config.max_connections_per_ip };
        let listeners = Listeners::bind(&config.listen, caps)?;
        let (store, stored) = open_store(config)?;
        if let Some(reason) = &cap.reason {
            log::line(reason);
        }
        if let (None, Some(address)) =
            (&config.token_file, listeners.addresses().iter().find(|it| !it.ip().is_loopback()))
        {
            log::line(&format!("whoever can reach {address} may order and add products; --token-file limits that"));
        }
        Self::start(config, listeners, store, stored, assets, tokens).map_err(ServerError::System)
    }

    fn start(
        config: &Config,
        listeners: Listeners,
        store: SqliteStore,
        stored: Stored,
        assets: Assets,
        tokens: Tokens,
    ) -> io::Result<Self> {
        let (catalog, tokens) = (Arc::new(RwLock::new(stored.catalog)), Arc::new(tokens));
        let (slow_sockets, slow_socket_setup) = slow_sockets::prepare()?;
        let (history, history_setup) = history::prepare();
        let start = fanout::Start { totals: &stored.totals, last_seq: stored.last_seq, runs: &stored.runs };
        let (fanout, fanout_thread) = fanout::start(catalog.clone(), &start, history.clone())?;
        let history_thread = history_setup.start(store.path().to_owned(), fanout.clone())?;
        let to_fanout = fanout.clone();
        let slow_socket_thread =
            slow_socket_setup.start(Box::new(move |subscriber| to_fanout.caught_up(subscriber)))?;
        let ledger::Running { handle: ledger, thread: ledger_thread, end: ledger_end } =
            ledger::start(store, stored.totals, stored.last_seq, catalog.clone(), fanout.clone())?;
        let routes = Routes {
            catalog: catalog.clone(),
            fanout: fanout.clone(),
            ledger: ledger.clone(),
            policy: Policy::new(listeners.addresses(), &config.allow_origins, &config.allow_hosts),
            tokens: tokens.clone(),
            assets,
            lists: ProductLists::default(),
        };
        let feeds = Feeds {
            catalog,
            ledger: ledger.clone(),
            fanout,
            tokens: tokens.clone(),
            slow_sockets: slow_sockets.clone(),
        };
        let (end_sender, end) = bounded(1);
        Ok(Self {
            listeners,
            service: Arc::new(OrderService { routes, ledger, history, feeds, taken: Arc::<Taken>::default() }),
            slow_sockets,
            ledger_thread,
            ledger_end,
            fanout_thread,
            slow_socket_thread,
            history_thread,
            handle: Handle { end: end_sender, tokens },
            end,
        })
    }

    /// The addresses that it listens on, with the ports that the system has chosen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listeners.addresses()
    }

    /// What steers it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until [`Handle::shutdown`] is called, then ends within [`DRAIN`].
    ///
    /// # Errors
    /// When the system refuses an accept thread, or one of the server's own threads ends before it was asked to.
    pub fn run(mut self) -> Result<(), ServerError> {
        self.listeners.accept(&self.service).map_err(ServerError::System)?;
        let broken = self.wait_for_end();
        self.drain();
        match broken {
            Some(thread) => Err(ServerError::Broken(thread)),
            None => Ok(()),
        }
    }

    /// Waits until the end is asked for, or one of the threads that everything needs is gone.
    fn wait_for_end(&self) -> Option<&'static str> {
        loop {
            match self.end.recv_timeout(SUPERVISION) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            for (name, thread) in [
                ("ledger", &self.ledger_thread),
                ("fan-out", &self.fanout_thread),
                ("slow-socket", &self.slow_socket_thread),
                ("history", &self.history_thread),
            ] {
                if thread.is_finished() {
                    return Some(name);
                }
            }
        }
    }

    fn drain(self) {
        let deadline = Instant::now() + DRAIN;
        self.listeners.stop_accepting();
        self.listeners.wait_for_requests(Instant::now() + DRAIN / 2);
        // From here on nothing is counted; what was is on disk, and about to be in every feed.
        self.service.ledger.stop();
        // Not for ever: a disk may hang.
        self.ledger_end.wait_until_stopped(deadline);
        self.service.feeds.fanout.finish();
        self.listeners.wait_for_all(deadline.min(Instant::now() + FAREWELL));
        self.service.feeds.fanout.stop();
        self.listeners.wait_for_all(deadline);
        self.slow_sockets.stop();
        self.listeners.join(deadline);
        // The last to let go of the data file is the one that leaves it as one file.
        self.service.history.close(deadline);
        self.ledger_end.close_store(deadline);
    }
}

fn open_store(config: &Config) -> Result<(SqliteStore, Stored), ServerError> {
    let (name, file) = match &config.catalog {
        None => ("the built-in catalogue".to_owned(), CATALOG.into()),
        Some(path) => {
            let name = path.display().to_string();
            let file = std::fs::read(path).map_err(|error| ServerError::Catalog(format!("{name}: {error}")))?;
            (name, Cow::Owned(file))
        }
    };
    let told = |why: String| ServerError::Catalog(format!("{name}: {why}"));
    let wanted = json::parse_catalog(&file).map_err(told)?;
    let (mut store, mut stored) = SqliteStore::open(&config.data, config.retention)?;
    // The built-in catalogue is a first taste: it must not get into a folder that somebody has filled.
    if config.catalog.is_some() || stored.catalog.categories().is_empty() {
        let left = seed::plant(&mut store, &mut stored, &wanted)?.map_err(|error| told(error.to_string()))?;
        if left > 0 {
            let products = if left == 1 { "1 product is" } else { &format!("{left} products are") };
            let left = format!("{name}: {products} in the data folder with other texts, which were kept");
            log::line(&left);
        }
    }
    // Last, since a start that fails before it gives no position to anybody.
    if let Err(error) = store.list_run() {
        log::line(&format!("the server's start could not be noted yet: {error}"));
    }
    Ok((store, stored))
}
