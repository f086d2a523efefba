//! A program of an example or a document, as a process whose lines are read while it runs. Dropping it ends it, with the
//! programs that it has started.

use std::env;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::server::lines_of;
use crate::common::skip;

/// How long a line may take: interpreters start slowly on a busy machine.
const LINE_DEADLINE: Duration = Duration::from_secs(60);

pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Program {
    #[track_caller]
    pub fn start(command: &mut Command) -> Program {
        // A group of its own, so that the programs of a shell's line end with it.
        let command = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let errors = lines_of(child.stderr.take().expect("stderr is piped"));
        Program { child, stdin, lines, errors }
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(text.as_bytes()).expect("the program reads");
    }

    /// Ends its standard input.
    pub fn finish_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of its output.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LINE_DEADLINE).unwrap_or_else(|_| panic!("no line; it says {:?}", self.errors()))
    }

    /// The next line that it says on standard error.
    #[track_caller]
    pub fn error(&self) -> String {
        self.errors.recv_timeout(LINE_DEADLINE).expect("a line on standard error")
    }

    /// What it has said on standard error since the last call.
    pub fn errors(&self) -> Vec<String> {
        self.errors.try_iter().collect()
    }

    /// Ends it with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        let group = format!("kill -KILL -{}", self.child.id());
        let _ = Command::new("sh").arg("-c").arg(group).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }

    /// Waits for its end. Returns its status and its lines.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> (ExitStatus, Vec<String>) {
        self.finish_input();
        let mut status = None;
        let start = Instant::now();
        while status.is_none() {
            assert!(start.elapsed() < deadline, "still running; it says {:?}", self.errors());
            status = self.child.try_wait().expect("the child can be asked");
            thread::sleep(Duration::from_millis(5));
        }
        // Their threads end with the pipes.
        (status.expect("it has ended"), self.lines.iter().collect())
    }

    /// Waits until it has ended well. Returns its lines.
    #[track_caller]
    pub fn succeed(&mut self) -> Vec<String> {
        let (status, lines) = self.wait(LINE_DEADLINE);
        assert!(status.success(), "{status}: {lines:?}, {:?}", self.errors.iter().collect::<Vec<_>>());
        lines
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Whether all of these commands are installed; says so if not.
#[track_caller]
pub fn has(commands: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing: Vec<_> = commands.iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        skip(&format!("{missing:?} are not installed (make deps)"), true);
    }
    missing.is_empty()
}
