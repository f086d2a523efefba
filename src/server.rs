//! The server as a whole: listeners, accept loops, one thread per connection, and the orderly end. Owns the limits on
//! connections and the order in which the parts start and stop; knows nothing of formats.

mod accept;
mod census;
mod serve;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use socket2::{Domain, Protocol, Socket, Type};

use crate::assets::Assets;
use crate::config::Config;
use crate::fanout;
use crate::http::origin::Policy;
use crate::laggards::{self, Laggards};
use crate::ledger;
use crate::routes::{ProductLists, Routes};
use crate::session::Sessions;
use crate::store::seed;
use crate::store::sqlite::SqliteStore;
use crate::store::{StoreError, Stored};
use crate::{limits, log, wire};

use accept::Acceptor;
use census::Census;
use serve::Service;

/// How long the end may take: requests in flight are answered, sessions told and heard, within 5 s. Half a second of
/// them is left for the process's own end.
pub const DRAIN: Duration = Duration::from_millis(4_500);
/// How often the server's own threads are looked after: once a second.
const SUPERVISION: Duration = Duration::from_secs(1);
/// How often a thread that ends is looked after.
const JOIN_TICK: Duration = Duration::from_millis(2);
/// The built-in catalogue.
const CATALOG: &[u8] = include_bytes!("catalog.json");
/// Connections that wait to be accepted; the system may hold fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4_096;

/// Why a server did not start, or ended by itself.
#[derive(Debug)]
pub enum ServerError {
    /// An address cannot be listened on: choose another, or stop who has it.
    Listen(SocketAddr, io::Error),
    /// The data folder cannot be used: the text says what to do.
    Store(StoreError),
    /// The catalogue cannot be used: the text says where it is wrong.
    Catalog(String),
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
            Self::Store(_) | Self::Catalog(_) | Self::Broken(_) => None,
        }
    }
}

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Ends a running server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    end: Sender<()>,
}

impl Handle {
    /// Asks the server to answer what is in flight, say goodbye to its sessions, and return from [`Server::run`].
    pub fn shutdown(&self) {
        // A full channel holds the same wish already.
        let _ = self.end.try_send(());
    }
}

/// A server that listens but does not accept yet.
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    census: Arc<Census>,
    service: Arc<Service>,
    laggards: Laggards,
    ledger_thread: JoinHandle<()>,
    ledger_closed: Receiver<()>,
    fanout_thread: JoinHandle<()>,
    laggard_thread: JoinHandle<()>,
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
        let listeners = config.listen.iter().map(|address| listen(*address)).collect::<Result<Vec<_>, _>>()?;
        let (store, stored) = open_store(config)?;
        let cap = limits::connection_cap(config.max_connections);
        if let Some(reason) = &cap.reason {
            log::line(reason);
        }
        Self::start(config, listeners, store, stored, assets, cap.connections).map_err(ServerError::System)
    }

    fn start(
        config: &Config,
        listeners: Vec<TcpListener>,
        store: SqliteStore,
        stored: Stored,
        assets: Assets,
        connections: usize,
    ) -> io::Result<Self> {
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let catalog = Arc::new(RwLock::new(stored.catalog));
        let (laggards, laggard_setup) = laggards::prepare()?;
        let (fanout, fanout_thread) = fanout::start(catalog.clone(), &stored.totals)?;
        let to_fanout = fanout.clone();
        let laggard_thread = laggard_setup.start(Box::new(move |subscriber| to_fanout.caught_up(subscriber)))?;
        let ledger::Running { handle: ledger, thread: ledger_thread, closed: ledger_closed } =
            ledger::start(store, stored.totals, stored.last_seq, catalog.clone(), fanout.clone())?;
        let routes = Routes {
            catalog: catalog.clone(),
            ledger: ledger.clone(),
            fanout: fanout.clone(),
            policy: Policy::new(&addresses, &config.allow_origins, &config.allow_hosts),
            assets,
            lists: ProductLists::default(),
        };
        let sessions = Sessions { catalog, ledger, fanout, laggards: laggards.clone() };
        let (end_sender, end) = bounded(1);
        Ok(Self {
            listeners,
            addresses,
            census: Arc::new(Census::new(connections)),
            service: Arc::new(Service { routes, sessions, taken: Arc::default() }),
            laggards,
            ledger_thread,
            ledger_closed,
            fanout_thread,
            laggard_thread,
            handle: Handle { end: end_sender },
            end,
        })
    }

    /// The addresses that it listens on, with the ports that the system has chosen.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What ends it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until [`Handle::shutdown`] is called, then ends within [`DRAIN`].
    ///
    /// # Errors
    /// When the system refuses an accept thread, or one of the server's own threads ends before it was asked to.
    pub fn run(mut self) -> Result<(), ServerError> {
        let mut acceptors = Vec::new();
        for listener in std::mem::take(&mut self.listeners) {
            let acceptor = Acceptor::new(listener, self.census.clone(), self.service.clone());
            acceptors.push(acceptor.start().map_err(ServerError::System)?);
        }
        let broken = self.wait_for_end();
        self.drain(&acceptors);
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
            for (name, thread) in
                [("ledger", &self.ledger_thread), ("fan-out", &self.fanout_thread), ("laggard", &self.laggard_thread)]
            {
                if thread.is_finished() {
                    return Some(name);
                }
            }
        }
    }

    fn drain(self, acceptors: &[JoinHandle<()>]) {
        let deadline = Instant::now() + DRAIN;
        self.census.stop();
        for address in &self.addresses {
            accept::wake(*address);
        }
        let Service { routes, .. } = &*self.service;
        self.census.hang_up();
        self.census.wait_for_requests(Instant::now() + DRAIN / 2);
        // From here on nothing is counted; what was is on disk, and about to be in every feed.
        routes.ledger.stop();
        // Not for ever: a disk may hang.
        let _ = self.ledger_closed.recv_deadline(deadline);
        routes.fanout.finish();
        self.census.wait_for_all(deadline);
        routes.fanout.stop();
        self.laggards.stop();
        for acceptor in acceptors {
            wait_for(acceptor, deadline);
        }
    }
}

/// Waits for a thread that has been told to end, but not for ever.
fn wait_for(thread: &JoinHandle<()>, deadline: Instant) {
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(JOIN_TICK);
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // An IPv4 address of its own can be listed beside it, on every system alike.
            socket.set_only_v6(true)?;
        }
        // A restarted server gets its port back at once, although old connections linger.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|error| ServerError::Listen(address, error))
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
    let wanted = wire::parse_catalog(&file).map_err(told)?;
    let (mut store, mut stored) = SqliteStore::open(&config.data)?;
    // The built-in catalogue is a first taste: it must not get into a folder that somebody has filled.
    if config.catalog.is_some() || stored.catalog.categories().is_empty() {
        let left = seed::plant(&mut store, &mut stored, &wanted)?.map_err(|error| told(error.to_string()))?;
        if left > 0 {
            let left = format!("{name}: {left} products are in the data folder with other texts, which were kept");
            log::line(&left);
        }
    }
    Ok((store, stored))
}
