//! The servers under load: how each is started on a free port, found, watched and ended.

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

/// The category that is measured, and the prefix of its product ids.
pub const CATEGORY: &str = "electronics";
/// Every product is this and its number from 1.
pub const PREFIX: &str = "A";

/// How long a server may take to accept its first connection.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How often a server that announces nothing is tried.
const CONNECT_EVERY: Duration = Duration::from_micros(200);
/// How long a server may take to end by itself before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(3);
/// Above the largest scenario, 10,000 subscribers, with room for its posters.
const MAX_CONNECTIONS: &str = "12000";

/// Where installed peers and working folders are.
const TARGET_TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// A server that can be measured.
#[derive(Clone)]
pub struct Contender {
    pub name: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Ordercast {
        data_root: Option<PathBuf>,
    },
    Script {
        runtime: PathBuf,
        folder: PathBuf,
    },
    Program(PathBuf),
    Nginx,
    /// A command line with `{catalog}` and `{room}` in it, which announces its address as ordercast does.
    CommandLine(String),
}

/// The peers' names, in the order of the report.
pub const PEERS: [&str; 5] = ["bun", "axum", "nchan", "ws", "fastify"];

impl Contender {
    /// Ordercast itself; its data folder is under `data_root` when one is given.
    pub fn ordercast(data_root: Option<PathBuf>) -> Self {
        Self { name: "ordercast".into(), kind: Kind::Ordercast { data_root } }
    }

    /// Whatever the command line starts.
    pub fn command_line(text: &str) -> Self {
        Self { name: "command".into(), kind: Kind::CommandLine(text.into()) }
    }

    /// One of `PEERS`, as benches/peers/run.sh installs it.
    pub fn peer(name: &str) -> Option<Self> {
        let peers = Path::new(TARGET_TMP).parent()?.join("peers");
        let folder = peers.join(name);
        let kind = match name {
            "fastify" | "ws" => Kind::Script { runtime: "node".into(), folder },
            "bun" => {
                let runtime = folder.join("node_modules/@oven/bun-linux-x64/bin/bun");
                Kind::Script { runtime, folder }
            }
            "axum" => Kind::Program(peers.join("axum/release/ordercast-peer-axum")),
            "nchan" => Kind::Nginx,
            _ => return None,
        };
        Some(Self { name: name.into(), kind })
    }

    /// Whether it is one of `PEERS`.
    pub fn is_peer(&self) -> bool {
        PEERS.contains(&self.name.as_str())
    }

    /// Whether the server keeps totals: if not, it relays what is posted.
    pub fn tallies(&self) -> bool {
        !matches!(self.kind, Kind::Nginx)
    }

    /// What its answers to a POST must be.
    pub fn expected(&self) -> Expected {
        if self.tallies() { Expected::Accepted } else { Expected::Relayed }
    }

    /// Bytes of the executable and, for a script, of the folder it needs; `None` where that says nothing.
    pub fn footprint(&self) -> Option<u64> {
        match &self.kind {
            Kind::Ordercast { .. } => Some(size_of(Path::new(env!("CARGO_BIN_EXE_ordercast")))),
            Kind::Program(path) => Some(size_of(path)),
            Kind::Script { runtime, folder } if runtime.starts_with(folder) => Some(size_of(folder)),
            Kind::Script { runtime, folder } => Some(size_of(&find(runtime)?) + size_of(folder)),
            Kind::Nginx => Some(size_of(&find(Path::new("nginx"))?)),
            Kind::CommandLine(_) => None,
        }
    }

    fn command(&self, room: &Path, port: u16) -> Result<Command, String> {
        let catalog = room.join("catalog.json");
        Ok(match &self.kind {
            Kind::Ordercast { .. } => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_ordercast"));
                command.args(["--listen", "127.0.0.1:0", "--max-connections", MAX_CONNECTIONS]);
                command.arg("--data").arg(room.join("data")).arg("--catalog").arg(catalog);
                command
            }
            Kind::Script { runtime, folder } => {
                let mut command = Command::new(runtime);
                command.arg(folder.join("server.js")).arg(catalog);
                command
            }
            Kind::Program(path) => {
                let mut command = Command::new(path);
                command.arg(catalog);
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
                    word.replace("{catalog}", &catalog.display().to_string())
                        .replace("{room}", &room.display().to_string())
                };
                let mut words = text.split_whitespace().map(fill);
                let mut command = Command::new(words.next().ok_or("the command line is empty")?);
                command.args(words);
                command
            }
        })
    }

    /// A working folder of its own, removed with the `Room`.
    pub fn room(&self, products: usize) -> Result<Room, String> {
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        let root = match &self.kind {
            Kind::Ordercast { data_root: Some(root) } => root.clone(),
            _ => TARGET_TMP.into(),
        };
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("load-{}-{number}", std::process::id()));
        let room = Room { path, products };
        let written =
            fs::create_dir_all(&room.path).and_then(|()| fs::write(room.path.join("catalog.json"), catalog(products)));
        written.map_err(|error| format!("{}: {error}", room.path.display()))?;
        Ok(room)
    }
}

/// A server's working folder: its catalogue, data and log. It may outlive one server and serve the next.
pub struct Room {
    path: PathBuf,
    products: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        // A folder left behind is under target/ and harms nothing.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A running server and what it has been sent.
pub struct Server {
    pub contender: Contender,
    pub address: SocketAddr,
    /// From spawning to the first 200.
    pub start: Duration,
    /// The expected total of each product.
    pub totals: Vec<u64>,
    child: Child,
    pids: Vec<u32>,
    room: Option<Room>,
}

impl Server {
    /// Starts in a new room with `products` products and waits for the first answer.
    pub fn start(contender: &Contender, products: usize) -> Result<Self, String> {
        Self::start_in(contender, contender.room(products)?)
    }

    /// Starts in a room that may have been used before; the totals are taken to be zero.
    pub fn start_in(contender: &Contender, room: Room) -> Result<Self, String> {
        let name = &contender.name;
        let fail = |error: io::Error| format!("{name}: {error}");
        // Free now, and nobody else here takes ports meanwhile; only nginx cannot pick one itself.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let guess = port.map_err(fail)?;
        let log = File::create(room.path.join("stderr.log")).map_err(fail)?;
        let mut command = contender.command(&room.path, guess.port())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let began = Instant::now();
        let child = command.spawn().map_err(|error| format!("{name} does not start: {error}"))?;
        let mut server = Self {
            contender: contender.clone(),
            address: guess,
            start: Duration::ZERO,
            totals: vec![0; room.products],
            child,
            pids: Vec::new(),
            room: Some(room),
        };
        if !matches!(contender.kind, Kind::Nginx) {
            server.address = server.announced()?;
        }
        while let Err(error) = first_answer(server.address) {
            let refused = error.kind() == io::ErrorKind::ConnectionRefused;
            if !refused || began.elapsed() > START_DEADLINE {
                return Err(format!("{name} does not answer: {error}{}", server.log_tail()));
            }
            thread::sleep(CONNECT_EVERY);
        }
        server.start = began.elapsed();
        server.pids = procfs::tree(server.child.id());
        Ok(server)
    }

    /// Ends the server and hands its room on.
    pub fn stop(mut self) -> Option<Room> {
        self.end();
        self.room.take()
    }

    /// The path of the live feed.
    pub fn feed_path(&self) -> String {
        format!("/orders/{CATEGORY}")
    }

    /// Itself and the processes it has started.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The last lines of its error log, to be put behind an error.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 5;
        let path = self.room.as_ref().map(|room| room.path.join("stderr.log"));
        let text = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  {line}")).collect()
    }

    /// Reads standard output up to the announcement and leaves a thread to discard the rest.
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
        // The standard library can only kill, which would leave nginx's workers behind.
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

fn catalog(products: usize) -> String {
    let products: Vec<_> = (1..=products)
        .map(|number| {
            serde_json::json!({
                "id": format!("{PREFIX}{number}"), "name": format!("Product {number}"),
                "rrp": "9.99", "info": "measured", "total": 0,
            })
        })
        .collect();
    serde_json::json!({ CATEGORY: { "prefix": PREFIX, "products": products } }).to_string()
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
