//! SIGHUP: what it means with and without a terminal. `tests/api/token_files.rs` has the server with token files.

use crate::common::server::{BINARY, address_of};
use crate::common::{Client, DEADLINE, Server, TempDir, WebSocket, skip, wait_until};
use crate::system_limits::succeeds;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// The line about SIGHUP without token files.
const NOTHING: &str = "there are no token files to read again";

#[test]
fn a_hangup_without_token_files_is_logged_and_changes_nothing() {
    for started in ["true", "trap '' HUP"] {
        let mut server = Server::builder().shell(started).start();
        let mut session = WebSocket::open(server.addr(), "/orders");
        session.texts(3);
        server.signal("HUP");
        wait_until(DEADLINE, "the signal is logged", || server.log().contains(NOTHING));
        server.client().order("A1", 1);
        assert_eq!(session.text(), "{\"id\":\"A1\",\"total\":4}");
        session.expect_nothing_but_a_pong();
        drop(session);
        assert_eq!(server.terminate().code(), Some(0), "{started}");
    }
}

/// A server below a shell on a terminal of its own. The shell passes SIGHUP on, as an interactive one does.
struct OnTerminal {
    /// `script` (bsdutils) holds the other side of the terminal.
    script: Child,
    folder: TempDir,
    pid: String,
    addr: SocketAddr,
}

impl OnTerminal {
    /// `prefix` is put in front of the server's command. `None`, after a message, where a tool is missing.
    #[track_caller]
    fn start(prefix: &str) -> Option<OnTerminal> {
        // The shell could not change a signal that is ignored when it starts, as below `nohup make test`.
        if !succeeds("env", &["--default-signal=HUP", "script", "--version"]) {
            skip("script (bsdutils) or env --default-signal (coreutils 8.31) is missing", true);
            return None;
        }
        let folder = TempDir::new();
        folder.write(
            "run.sh",
            format!(
                "trap 'kill -HUP $pid' HUP\n\
                 ({prefix} exec {BINARY} --listen 127.0.0.1:0 --data data >out 2>log) &\n\
                 pid=$!\n\
                 echo $pid >pid\n\
                 while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done\n\
                 echo $code >code\n"
            ),
        );
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP", "script", "--quiet", "--command", "sh run.sh", "/dev/null"]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORDERCAST_")) {
            command.env_remove(name);
        }
        let script = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut server = OnTerminal {
            script: script.expect("script can be started"),
            folder,
            pid: String::new(),
            addr: ([127, 0, 0, 1], 0).into(),
        };
        wait_until(DEADLINE, "the server listens", || server.file("out").ends_with('\n'));
        server.pid = server.file("pid").trim().to_owned();
        server.addr = address_of(server.file("out").trim());
        Some(server)
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Ends the terminal.
    fn hang_up(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }

    fn signal(&self, name: &str) {
        let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid)).status();
    }

    /// The exit code, once there is one.
    #[track_caller]
    fn code(&self) -> String {
        wait_until(DEADLINE, "the server ends", || self.file("code").ends_with('\n'));
        self.file("code").trim().to_owned()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        self.hang_up();
        if self.file("code").is_empty() && !self.pid.is_empty() {
            self.signal("KILL");
        }
    }
}

#[test]
fn a_server_stops_in_order_when_its_terminal_is_gone_and_only_then() {
    let Some(mut server) = OnTerminal::start("") else { return };
    let mut session = WebSocket::open(server.addr, "/orders/confectionery");
    session.texts(1);
    server.signal("HUP");
    wait_until(DEADLINE, "the signal is logged", || server.file("log").contains(NOTHING));
    Client::connect(server.addr).order("B1", 1);
    assert_eq!(session.text(), "{\"id\":\"B1\",\"total\":102}");
    server.hang_up();
    assert_eq!(session.close_code(), Some(1001));
    drop(session);
    assert_eq!(server.code(), "129");
    assert!(server.file("log").contains("the terminal is gone"), "{}", server.file("log"));
    let last = server.file("log").lines().last().unwrap_or_default().to_owned();
    assert!(last.ends_with(" s: the terminal is gone (SIGHUP); 1 order taken in this run"), "{last}");
}

#[test]
fn a_server_that_was_started_with_the_signal_ignored_outlives_its_terminal() {
    // As `nohup` does.
    let Some(mut server) = OnTerminal::start("trap '' HUP;") else { return };
    server.hang_up();
    wait_until(DEADLINE, "the signal is logged", || {
        server.signal("HUP");
        server.file("log").contains(NOTHING)
    });
    Client::connect(server.addr).order("B1", 1);
    server.signal("TERM");
    assert_eq!(server.code(), "0");
}
