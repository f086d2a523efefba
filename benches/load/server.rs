//! The servers under load: starts each on a free port, finds its address and processes, and ends it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::Expected;
use crate::procfs;

/// The first category of the catalogue, and the only one unless more are wanted.
pub const CATEGORY: &str = "electronics";
/// Product ids are this prefix and a number from 1.
pub const PREFIX: &str = "A";

/// An ordercast's address on a port that the system chooses.
const ANY_PORT: &str = "127.0.0.1:0";
/// How long a server may take to answer its first request.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// The time between two attempts to connect to a server that is starting.
const CONNECT_EVERY: Duration = Duration::from_micros(200);
/// How long a server may take to end after SIGTERM before it is killed.
pub const STOP_DEADLINE: Duration = Duration::from_secs(3);
/// The 10,000 subscribers of the largest run, and its posters.
const MAX_CONNECTIONS: &str = "12000";

/// Parent of the working folders.
const TARGET_TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// A server that can be measured.
#[derive(Clone)]
pub struct Contender {
    pub name: String,
    kind: Kind,
    /// As many fan-out threads of an ordercast; `None` for as many as it chooses.
    fanout_threads: Option<usize>,
}

#[derive(Clone)]
enum Kind {
    Ordercast {
        data_root: Option<PathBuf>,
    },
    /// So many edges of one server; subscribers are at the first.
    Edges {
        followed: Box<Contender>,
        count: usize,
    },
    Script {
        runtime: PathBuf,
        folder: PathBuf,
    },
    Program(PathBuf),
    Nginx,
    /// A command line that may contain `{catalog}` and `{room}`, of a server that prints its address as ordercast does.
    CommandLine(String),
}

/// Names of the peers, in the order of the report.
pub const PEERS: [&str; 5] = ["bun", "axum", "nchan", "ws", "fastify"];
/// The same that keep each order on the disk, of which only posting is compared.
pub const DURABLE_PEERS: [&str; 3] = ["bun-sqlite", "axum-sqlite", "fastify-sqlite"];
/// What their names end with.
const DURABLE: &str = "-sqlite";

impl Contender {
    fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.into(), kind, fanout_threads: None }
    }

    /// The same with so many fan-out threads, which only an ordercast has.
    pub fn with_fanout_threads(&self, threads: Option<usize>) -> Self {
        Self { fanout_threads: threads, ..self.clone() }
    }

    /// The ordercast of this build, with its data folder under `data_root` if given.
    pub fn ordercast(data_root: Option<PathBuf>) -> Self {
        Self::new("ordercast", Kind::Ordercast { data_root })
    }

    /// So many edges of this build that follow the same ordercast.
    pub fn edges(followed: Contender, count: usize) -> Self {
        Self::new("edge", Kind::Edges { followed: Box::new(followed), count })
    }

    /// The server that a command line starts.
    pub fn command_line(text: &str) -> Self {
        Self::new("command", Kind::CommandLine(text.into()))
    }

    /// One of `PEERS` or `DURABLE_PEERS`, where benches/peers/run.sh installs it.
    pub fn peer(name: &str) -> Option<Self> {
        let peers = Path::new(TARGET_TMP).parent()?.join("peers");
        let program = name.strip_suffix(DURABLE).filter(|_| DURABLE_PEERS.contains(&name)).unwrap_or(name);
        let folder = peers.join(program);
        let kind = match program {
            "fastify" | "ws" => Kind::Script { runtime: "node".into(), folder },
            "bun" => {
                let runtime = folder.join("node_modules/@oven/bun-linux-x64/bin/bun");
                Kind::Script { runtime, folder }
            }
            "axum" => Kind::Program(peers.join("axum/release/ordercast-peer-axum")),
            "nchan" => Kind::Nginx,
            _ => return None,
        };
        Some(Self::new(name, kind))
    }

    /// Whether it is one of `PEERS` or `DURABLE_PEERS`.
    pub fn is_peer(&self) -> bool {
        PEERS.contains(&self.name.as_str()) || self.is_durable_peer()
    }

    /// Whether it is one of `DURABLE_PEERS`.
    pub fn is_durable_peer(&self) -> bool {
        DURABLE_PEERS.contains(&self.name.as_str())
    }

    /// Whether the server keeps totals. Otherwise it relays what is posted.
    pub fn keeps_totals(&self) -> bool {
        !matches!(self.kind, Kind::Nginx)
    }

    /// The right answer of this server to a POST.
    pub fn expected(&self) -> Expected {
        if self.keeps_totals() { Expected::Accepted } else { Expected::Relayed }
    }

    /// Bytes of the executable and, for a script, of its folder; `None` for a command line, whose files are unknown.
    pub fn footprint(&self) -> Option<u64> {
        match &self.kind {
            Kind::Ordercast { .. } | Kind::Edges { .. } => Some(size_of(Path::new(env!("CARGO_BIN_EXE_ordercast")))),
            Kind::Program(path) => Some(size_of(path)),
            Kind::Script { runtime, folder } if runtime.starts_with(folder) => Some(size_of(folder)),
            Kind::Script { runtime, folder } => Some(size_of(&find(runtime)?) + size_of(folder)),
            Kind::Nginx => Some(size_of(&find(Path::new("nginx"))?)),
            Kind::CommandLine(_) => None,
        }
    }

    /// `followed` is the server that an edge follows.
    fn command(&self, room: &Room, port: u16, followed: Option<SocketAddr>) -> Result<Command, String> {
        let listen = room.listen.map_or(ANY_PORT.into(), |address| address.to_string());
        let room = &room.path;
        let catalog = room.join("catalog.json");
        let database = self.is_durable_peer().then(|| room.join("peer.sqlite3"));
        let mut command = match &self.kind {
            Kind::Ordercast { .. } | Kind::Edges { .. } => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_ordercast"));
                command.args(["--listen", &listen, "--max-connections", MAX_CONNECTIONS]);
                match followed {
                    Some(address) => command.arg("--follow").arg(format!("http://{address}")),
                    None => command.arg("--data").arg(room.join("data")).arg("--catalog").arg(catalog),
                };
                command
            }
            Kind::Script { runtime, folder } => {
                let mut command = Command::new(runtime);
                command.arg(folder.join("server.js")).arg(catalog).args(database);
                command
            }
            Kind::Program(path) => {
                let mut command = Command::new(path);
                command.arg(catalog).args(database);
                command
            }
            Kind::Nginx => {
                let text = include_str!("../peers/nginx/nginx.conf")
                    .replace("ROOM", &room.display().to_string())
                    .replace("PORT", &port.to_string());
                let path = room.join("nginx.conf");
                fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
                let mut command = Command::new("nginx");
                command.args(["-p", "/usr/share/nginx", "-e", "stderr", "-c"]).arg(path);
                command
            }
            Kind::CommandLine(text) => {
                let fill = |word: &str| {
                    word.replace(ANY_PORT, &listen)
                        .replace("{catalog}", &catalog.display().to_string())
                        .replace("{room}", &room.display().to_string())
                };
                let mut words = text.split_whitespace().map(fill);
                let mut command = Command::new(words.next().ok_or("the command line is empty")?);
                command.args(words);
                command
            }
        };
        if let Some(threads) = self.fanout_threads {
            command.arg("--fanout-threads").arg(threads.to_string());
        }
        Ok(command)
    }

    /// Creates a working folder with a catalogue of `products` products in one category.
    pub fn room(&self, products: usize) -> Result<Room, String> {
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        let root = match &self.kind {
            Kind::Ordercast { data_root: Some(root) } => root.clone(),
            _ => TARGET_TMP.into(),
        };
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("load-{}-{number}", std::process::id()));
        Room { path, products, categories: 1, listen: None, is_kept: false }.with_categories(1)
    }

    /// The executable of an ordercast, for its tools.
    pub fn program(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Ordercast { .. } => Some(env!("CARGO_BIN_EXE_ordercast").into()),
            Kind::CommandLine(text) => text.split_whitespace().next().map(PathBuf::from),
            _ => None,
        }
    }
}

/// A server's working folder: its catalogue, data and log. Several servers may use it one after another. It is removed
/// on drop, unless it is kept.
pub struct Room {
    path: PathBuf,
    products: usize,
    categories: usize,
    /// Where an ordercast listens; `None` for a port that the system chooses.
    listen: Option<SocketAddr>,
    is_kept: bool,
}

impl Room {
    /// A folder that is there or made, and kept, with a catalogue of `products` products in one category.
    pub fn kept_at(path: &Path, products: usize) -> Result<Self, String> {
        let room = Self { path: path.into(), products, categories: 1, listen: None, is_kept: true };
        room.with_categories(1)
    }

    /// The same with its products in so many categories, as evenly as can be.
    pub fn with_categories(mut self, categories: usize) -> Result<Self, String> {
        self.categories = categories;
        let text = catalog(self.products, categories);
        let written = fs::create_dir_all(&self.path).and_then(|()| fs::write(self.path.join("catalog.json"), text));
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        Ok(self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same for a server that listens on this address.
    pub fn listening_on(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.is_kept {
            // A folder that cannot be removed stays under target/ and does no harm.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A running server, and the totals that it must have.
pub struct Server {
    pub contender: Contender,
    pub address: SocketAddr,
    /// From starting the process to its first answer with 200.
    pub start: Duration,
    /// The expected total of each product.
    pub totals: Vec<u64>,
    child: Child,
    pids: Vec<u32>,
    room: Option<Room>,
    /// The server that this edge follows.
    followed: Option<Box<Server>>,
    /// More edges of it, without subscribers.
    others: Vec<Server>,
}

impl Server {
    /// Starts in a new room with `products` products, and waits for the first answer.
    pub fn start(contender: &Contender, products: usize) -> Result<Self, String> {
        Self::start_in(contender, contender.room(products)?)
    }

    /// Starts in a room, and waits for the first answer. `totals` begins at zero, also in a room used before.
    pub fn start_in(contender: &Contender, room: Room) -> Result<Self, String> {
        let Kind::Edges { followed, count } = &contender.kind else {
            return Self::launch(contender, room, None);
        };
        let followed = Self::start(followed, room.products)?;
        let products = room.products;
        let mut edge = Self::launch(contender, room, Some(followed.address))?;
        for _ in 1..*count {
            edge.others.push(Self::launch(contender, contender.room(products)?, Some(followed.address))?);
        }
        edge.followed = Some(Box::new(followed));
        Ok(edge)
    }

    fn launch(contender: &Contender, room: Room, followed: Option<SocketAddr>) -> Result<Self, String> {
        let name = &contender.name;
        let fail = |error: io::Error| format!("{name}: {error}");
        // Only nginx needs this port, because it cannot choose one itself. Nothing else binds ports in the meantime.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(fail)?;
        let log = File::create(room.path.join("stderr.log")).map_err(fail)?;
        let mut command = contender.command(&room, free.port(), followed)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let began = Instant::now();
        let child = command.spawn().map_err(|error| format!("{name} does not start: {error}"))?;
        let mut server = Self {
            contender: contender.clone(),
            address: free,
            start: Duration::ZERO,
            totals: vec![0; room.products],
            child,
            pids: Vec::new(),
            room: Some(room),
            followed: None,
            others: Vec::new(),
        };
        if !matches!(contender.kind, Kind::Nginx) {
            server.address = server.announced()?;
        }
        while let Err(error) = first_answer(server.address) {
            let is_listening = error.kind() != io::ErrorKind::ConnectionRefused;
            if is_listening || began.elapsed() > START_DEADLINE {
                return Err(format!("{name} does not answer: {error}{}", server.log_tail()));
            }
            thread::sleep(CONNECT_EVERY);
        }
        server.start = began.elapsed();
        server.pids = procfs::tree(server.child.id());
        Ok(server)
    }

    /// Ends the server, and returns its room.
    pub fn stop(mut self) -> Option<Room> {
        self.end();
        self.room.take()
    }

    /// The path of the live feed of all products.
    pub fn feed_path(&self) -> String {
        match self.room.as_ref().map_or(1, |room| room.categories) {
            1 => category_path(),
            _ => "/orders".into(),
        }
    }

    /// Its working folder.
    pub fn room_path(&self) -> Option<&Path> {
        self.room.as_ref().map(Room::path)
    }

    /// The server's process and its descendants.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The same of the server that it follows, if it is an edge.
    pub fn followed_pids(&self) -> Option<&[u32]> {
        Some(self.followed.as_ref()?.pids())
    }

    /// Where orders are posted: at the server that an edge follows, otherwise here.
    pub fn orders_address(&self) -> SocketAddr {
        self.followed.as_ref().map_or(self.address, |followed| followed.address)
    }

    /// The last lines of its error log, to append to an error.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 5;
        let path = self.room.as_ref().map(|room| room.path.join("stderr.log"));
        let text = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  {line}")).collect()
    }

    /// Reads standard output up to the address. A thread discards what follows.
    fn announced(&mut self) -> Result<SocketAddr, String> {
        let name = &self.contender.name;
        let stdout = self.child.stdout.take().ok_or("standard output is not piped")?;
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        loop {
            line.clear();
            match lines.read_line(&mut line) {
                Ok(0) | Err(_) => return Err(format!("{name} ended at once{}", self.log_tail())),
                Ok(_) => {}
            }
            if let Some(address) = line.trim_end().strip_prefix("listening on http://") {
                let address = address.parse().map_err(|error| format!("{name}: {line}: {error}"));
                thread::spawn(move || io::copy(&mut lines, &mut io::sink()));
                return address;
            }
        }
    }

    fn end(&mut self) {
        let ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)) | Err(_));
        if ended(&mut self.child) {
            return;
        }
        // SIGTERM, which the standard library cannot send: killed at once, nginx would leave its workers running.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let deadline = Instant::now() + STOP_DEADLINE;
        while !ended(&mut self.child) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if !ended(&mut self.child) {
            for pid in procfs::tree(self.child.id()).iter().rev() {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
            let _ = self.child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The path of the first category's feed.
pub fn category_path() -> String {
    format!("/orders/{CATEGORY}")
}

/// The first products are in the first category, and so on.
fn catalog(products: usize, categories: usize) -> String {
    let product = |number: usize| {
        serde_json::json!({
            "id": format!("{PREFIX}{number}"), "name": format!("Product {number}"),
            "rrp": "9.99", "info": "measured", "total": 0,
        })
    };
    let category = |index: usize| {
        let name = if index == 0 { CATEGORY.into() } else { format!("category-{index}") };
        let prefix = if index == 0 { PREFIX.into() } else { format!("C{index}-") };
        let first = |index| index * products / categories;
        let products: Vec<_> = (first(index)..first(index + 1)).map(|index| product(index + 1)).collect();
        (name, serde_json::json!({ "prefix": prefix, "products": products }))
    };
    serde_json::Value::from((0..categories).map(category).collect::<serde_json::Map<_, _>>()).to_string()
}

fn first_answer(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(START_DEADLINE))?;
    write!(stream, "GET /{CATEGORY} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if &head == b"HTTP/1.1 200" {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()))
}

fn find(program: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn size_of(path: &Path) -> u64 {
    if let Ok(entries) = fs::read_dir(path) {
        return entries.flatten().map(|entry| size_of(&entry.path())).sum();
    }
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0)
}
