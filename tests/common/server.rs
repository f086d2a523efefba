//! The server under test: the built binary as a process, on free ports, with a data folder of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Client, DEADLINE, SharedStore, TempDir, wait_until};

/// The built binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ordercast");

/// The binary under test: the built one, or that of `ORDERCAST_TEST_BINARY`, such as a static one of a release.
pub fn binary() -> OsString {
    std::env::var_os("ORDERCAST_TEST_BINARY").filter(|path| !path.is_empty()).unwrap_or_else(|| BINARY.into())
}

/// How a server is started. Everything else has its default, except for the address (a free port on loopback) and the
/// data folder (a temporary one).
#[derive(Clone, Debug, Default)]
pub struct Builder {
    listen: Vec<String>,
    data: Option<PathBuf>,
    store: Option<String>,
    catalog: Option<String>,
    follow: Option<String>,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    shell: Option<String>,
    stdout: Option<Arc<UnixStream>>,
    stderr: Option<Arc<UnixStream>>,
}

/// An address of loopback that only this process uses, so that nobody else takes the port while no server has it.
pub fn own_address(port: u16) -> SocketAddr {
    let [_, high, middle, low] = process::id().to_be_bytes();
    SocketAddr::from(([127, 64 + high, middle, low], port))
}

impl Builder {
    /// An address to listen on; `127.0.0.1:0` if none is given.
    pub fn listen(mut self, addr: &str) -> Builder {
        self.listen.push(addr.to_owned());
        self
    }

    /// A data folder that outlives this server, instead of a temporary one.
    pub fn data(mut self, path: &Path) -> Builder {
        self.data = Some(path.to_owned());
        self
    }

    /// The address of a database, instead of a data folder.
    pub fn store(mut self, url: &str) -> Builder {
        self.store = Some(url.to_owned());
        self
    }

    /// The text of the catalogue file.
    pub fn catalog(mut self, json: &str) -> Builder {
        self.catalog = Some(json.to_owned());
        self
    }

    /// The address of another server, which this one follows. It has no data folder then.
    pub fn follow(mut self, addr: SocketAddr) -> Builder {
        self.follow = Some(format!("http://{addr}"));
        self
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Builder {
        self.args.push(arg.into());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Shell commands that run first in the same process, such as `ulimit -n 64`.
    pub fn shell(mut self, commands: &str) -> Builder {
        self.shell = Some(commands.to_owned());
        self
    }

    /// Redirects standard output. The addresses are not read from it then, so `listen` has to give them.
    pub fn stdout(mut self, stream: UnixStream) -> Builder {
        self.stdout = Some(Arc::new(stream));
        self
    }

    /// Redirects standard error; [`Server::log`] stays empty.
    pub fn stderr(mut self, stream: UnixStream) -> Builder {
        self.stderr = Some(Arc::new(stream));
        self
    }

    /// Starts the server and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|why| panic!("{why}"))
    }

    /// Like [`Builder::start`]; if the server ends before it listens, the error has its log.
    pub fn try_start(self) -> Result<Server, String> {
        let mut server = Server {
            temp: TempDir::new(),
            builder: self,
            child: None,
            addrs: Vec::new(),
            metrics_addrs: Vec::new(),
            log: Arc::default(),
        };
        server.try_launch()?;
        Ok(server)
    }
}

/// A running server. Dropping it kills it and removes its temporary folder.
#[derive(Debug)]
pub struct Server {
    temp: TempDir,
    builder: Builder,
    child: Option<Child>,
    addrs: Vec<SocketAddr>,
    metrics_addrs: Vec<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A server with defaults.
    #[track_caller]
    pub fn start() -> Server {
        Server::builder().start()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The first address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Every address, in the order of `--listen`.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Every address for metrics, in the order of `--metrics-listen`.
    pub fn metrics_addrs(&self) -> &[SocketAddr] {
        &self.metrics_addrs
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        match &self.builder.data {
            Some(path) => path.clone(),
            None => self.temp.path().join("data"),
        }
    }

    /// A new connection to the first address.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// All totals, in the order of the list.
    #[track_caller]
    pub fn totals(&self) -> Vec<(String, i64)> {
        self.client().totals()
    }

    /// The total of one product.
    #[track_caller]
    pub fn total(&self, id: &str) -> i64 {
        self.client().total(id)
    }

    /// The standard error of the server so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panicked").join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().expect("the child can be asked").is_none())
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the server if it runs, and starts it again on the same folder and new ports.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Like [`Server::restart`], but on the same ports.
    #[track_caller]
    pub fn restart_on_the_same_ports(&mut self) {
        self.builder.listen = self.addrs.iter().map(SocketAddr::to_string).collect();
        self.restart();
    }

    /// Sends a signal by its name (`TERM`, `INT`, `STOP`, `CONT`).
    #[track_caller]
    pub fn signal(&self, name: &str) {
        // The shell's builtin, because the command `kill` is not installed everywhere.
        let command = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").arg("-c").arg(command).status().expect("the shell runs");
        assert!(status.success(), "kill -{name} failed");
    }

    /// Waits until the server has ended.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("the server runs");
        let status = wait_for_exit(child, deadline);
        self.child = None;
        status
    }

    /// Sends SIGTERM and waits for the exit status.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(DEADLINE)
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    /// Peak resident memory in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        self.status_number("VmHWM:")
    }

    pub fn threads(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// The number of its threads with this name.
    pub fn threads_named(&self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the server runs");
        // A thread may end meanwhile.
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|own| own.trim_end() == name).count()
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    fn status_number(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect(name)
    }

    #[track_caller]
    fn launch(&mut self) {
        self.try_launch().unwrap_or_else(|why| panic!("{why}"));
    }

    fn try_launch(&mut self) -> Result<(), String> {
        let mut listen = self.builder.listen.clone();
        if listen.is_empty() {
            listen.push("127.0.0.1:0".to_owned());
        }
        let mut args: Vec<OsString> = Vec::new();
        for addr in &listen {
            args.extend(["--listen".into(), addr.into()]);
        }
        let keeps_nothing = self.builder.store.is_some() || self.builder.follow.is_some();
        let shared = (!keeps_nothing).then(|| SharedStore::of(&self.data())).flatten();
        match (&self.builder.store, &self.builder.follow, &shared) {
            (Some(url), _, _) => args.extend(["--store".into(), url.into()]),
            (None, Some(url), _) => args.extend(["--follow".into(), url.into()]),
            (None, None, Some(_)) => {}
            (None, None, None) => args.extend(["--data".into(), self.data().into()]),
        }
        if let Some(json) = &self.builder.catalog {
            let path = self.temp.write("catalog.json", json);
            args.extend(["--catalog".into(), path.into()]);
        }
        args.extend(self.builder.args.iter().cloned());
        if let Some(shared) = &shared {
            shared.make();
            args = shared.arguments(&args);
        }

        let mut command = match &self.builder.shell {
            // `exec` keeps the process id: signals and /proc are those of the server.
            Some(commands) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{commands}; exec \"$0\" \"$@\""));
                shell.arg(binary());
                shell
            }
            None => Command::new(binary()),
        };
        without_environment_twins(&mut command);
        command
            .args(args)
            .envs(self.builder.env.iter().cloned())
            .current_dir(self.temp.path())
            .stdin(Stdio::null())
            .stdout(stream_or_pipe(self.builder.stdout.as_deref()))
            .stderr(stream_or_pipe(self.builder.stderr.as_deref()));
        let mut child = command.spawn().expect("the server can be started");

        let reader = child.stderr.take().map(|stderr| {
            let log = Arc::clone(&self.log);
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    log.lock().expect("no reader panicked").push(line);
                }
            })
        });
        let stdout = child.stdout.take();
        self.child = Some(child);
        let Some(stdout) = stdout else {
            self.addrs = listen.iter().map(|addr| addr.parse().expect("an address")).collect();
            wait_until(DEADLINE, "the server listens", || Client::try_connect(self.addr()).is_ok());
            return Ok(());
        };
        let lines = lines_of(stdout);
        self.addrs.clear();
        for _ in &listen {
            let Ok(line) = lines.recv_timeout(DEADLINE) else {
                // Wait for its end, so that the log is complete.
                self.kill();
                let _ = reader.map(thread::JoinHandle::join);
                return Err(format!("the server did not start; it wrote:\n{}", self.log()));
            };
            self.addrs.push(address_of(&line));
        }
        let for_metrics = self.builder.args.iter().filter(|arg| *arg == "--metrics-listen").count();
        self.metrics_addrs = (0..for_metrics)
            .map(|_| {
                let line = lines.recv_timeout(DEADLINE).expect("a line for each address");
                let addr = line.strip_prefix("metrics on http://").and_then(|rest| rest.strip_suffix("/metrics"));
                addr.and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no address of metrics: {line:?}"))
            })
            .collect();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let has_own = self.builder.store.is_none() && self.builder.data.is_none() && self.builder.follow.is_none();
        if let Some(shared) = SharedStore::of(&self.data()).filter(|_| has_own) {
            shared.remove();
        }
        if thread::panicking() {
            eprintln!("--- the server's log ---\n{}\n---", self.log());
        }
    }
}

/// A finished run of the binary.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the binary in `dir` and waits for its end.
#[track_caller]
pub fn ordercast(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(binary());
    without_environment_twins(&mut command);
    let mut child = command
        .args(args)
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let stdout = text_of(child.stdout.take().expect("stdout is piped"));
    let stderr = text_of(child.stderr.take().expect("stderr is piped"));
    let status = wait_for_exit(&mut child, DEADLINE);
    Finished {
        code: status.code(),
        stdout: stdout.join().expect("no reader panicked"),
        stderr: stderr.join().expect("no reader panicked"),
    }
}

fn stream_or_pipe(stream: Option<&UnixStream>) -> Stdio {
    let Some(stream) = stream else { return Stdio::piped() };
    OwnedFd::from(stream.try_clone().expect("a second handle")).into()
}

/// `ORDERCAST_…` variables of the test's environment must not configure the server, except for the number of fan-out
/// threads, with which every test must pass.
pub fn without_environment_twins(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("ORDERCAST_") && name_text != "ORDERCAST_FANOUT_THREADS" {
            command.env_remove(name);
        }
    }
}

#[track_caller]
pub fn wait_for_exit(child: &mut Child, deadline: Duration) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            return status;
        }
        if start.elapsed() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process did not end within {deadline:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The lines of a stream as they come. It is read to its end, so that the writer never blocks or fails.
pub fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

fn text_of(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

#[track_caller]
pub fn address_of(line: &str) -> SocketAddr {
    let addr = line.strip_prefix("listening on http://");
    let addr: Option<SocketAddr> = addr.and_then(|addr| addr.parse().ok());
    let mut addr = addr.unwrap_or_else(|| panic!("not a line that names an address: {line:?}"));
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    addr
}
