//! The commands as processes.

use std::ffi::OsStr;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::server::{BINARY, lines_of, wait_for_exit, without_environment_twins};
use crate::common::{DEADLINE, Finished, Server, TempDir, wait_until};

/// How long a command may take that sends thousands of orders: a minute, because the machine may be busy.
const BULK: Duration = Duration::from_secs(60);

/// A command that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    /// The lines of standard output.
    pub lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the binary with piped standard streams.
    #[track_caller]
    pub fn start<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>, stdin: Stdio) -> Running {
        let mut command = Command::new(BINARY);
        without_environment_twins(&mut command);
        command.args(args).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        let errors = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let to = errors.clone();
        let reader = thread::spawn(move || {
            for line in lines_of(stderr) {
                *to.lock().expect("no reader panicked") += &(line + "\n");
            }
        });
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        Running { input: child.stdin.take(), lines, errors, reader: Some(reader), child }
    }

    /// The next line of standard output.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no line came; errors: {}", self.errors()))
    }

    /// Standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().expect("no reader panicked").clone()
    }

    /// Waits until standard error contains a text.
    #[track_caller]
    pub fn wait_for_error(&self, text: &str) {
        wait_until(DEADLINE, text, || self.errors().contains(text));
    }

    /// Writes to standard input.
    #[track_caller]
    pub fn write(&mut self, text: &str) {
        self.input.as_mut().expect("stdin is piped").write_all(text.as_bytes()).expect("stdin can be written");
    }

    /// Ends standard input.
    pub fn close(&mut self) {
        self.input = None;
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_none()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(command).status().expect("the shell runs").success());
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        self.input = None;
        let status = wait_for_exit(&mut self.child, BULK);
        self.reader.take().expect("it has not finished").join().expect("no reader panicked");
        let stdout: String = self.lines.iter().map(|line| line + "\n").collect();
        Finished { code: status.code(), stdout, stderr: self.errors() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of a command with this server.
pub fn with_server<'a>(words: &[&'a str], url: &'a str) -> Vec<&'a str> {
    let (name, words) = words.split_first().expect("a command");
    [&[*name, "--server", url], words].concat()
}

pub fn url_of(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

/// Runs a command to its end, without input.
#[track_caller]
pub fn run(addr: SocketAddr, words: &[&str]) -> Finished {
    Running::start(with_server(words, &url_of(addr)), Stdio::null()).finish()
}

/// Runs `post -` with this input to its end.
#[track_caller]
pub fn post_input(addr: SocketAddr, input: impl AsRef<[u8]>, words: &[&str]) -> Finished {
    let folder = TempDir::new();
    let path = folder.write("orders.ndjson", input);
    post_file(addr, &path, words).finish()
}

/// Starts `post -` on a file.
#[track_caller]
pub fn post_file(addr: SocketAddr, path: &Path, words: &[&str]) -> Running {
    let file = std::fs::File::open(path).expect("the file can be read");
    let url = url_of(addr);
    Running::start(with_server(&[&["post", "-"], words].concat(), &url), file.into())
}

/// Lines of orders of one piece each, for the products in turn.
pub fn orders(count: usize, ids: &[&str]) -> String {
    let line = |index: usize| format!("{{\"id\":\"{}\",\"amount\":1}}\n", ids[index % ids.len()]);
    (0..count).map(line).collect()
}

/// Checks the exit code, and that the error names all of these.
#[track_caller]
pub fn expect(run: &Finished, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is missing: {run:?}");
    }
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    assert!(run.stderr.chars().all(|letter| letter == '\n' || !letter.is_control()), "{run:?}");
}

/// A server that was killed, and its address, at which nothing listens.
pub fn killed_server() -> (Server, SocketAddr) {
    let mut server = Server::start();
    let addr = server.addr();
    server.kill();
    (server, addr)
}
