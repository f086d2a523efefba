//! What the commands show on a terminal, which is tmux: it draws the screen and gives it back as text.

use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::{killed_server, orders, url_of};
use crate::common::server::{BINARY, without_environment_twins};
use crate::common::{DEADLINE, Server, TempDir, skip, wait_until};
use crate::peer::Peer;

/// A terminal with a shell command in it. Dropping it ends both.
struct Terminal {
    socket: PathBuf,
    folder: TempDir,
}

impl Terminal {
    /// Runs the binary on a terminal of this size; below it the shell prints its exit code. `None`, after a message,
    /// without tmux.
    #[track_caller]
    fn start(words: &str, width: u32, height: u32) -> Option<Terminal> {
        Terminal::start_line(&format!("\"$0\" {words}"), width, height)
    }

    /// The same with a line of the shell, in which `$0` is the binary.
    #[track_caller]
    fn start_line(line: &str, width: u32, height: u32) -> Option<Terminal> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skip("tmux is missing (make deps)", true);
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Not in the test's folder, because the path of a socket has at most 107 bytes.
        let socket = std::env::temp_dir().join(format!("ordercast-tmux-{}-{number}", process::id()));
        let terminal = Terminal { socket, folder: TempDir::new() };
        terminal.folder.write("run.sh", format!("trap : INT\necho before\n{line}\necho code $?\nexec cat\n"));
        let (width, height) = (width.to_string(), height.to_string());
        let mut command = Command::new("tmux");
        without_environment_twins(&mut command);
        command.args(["-f", "/dev/null", "-S"]).arg(&terminal.socket).current_dir(terminal.folder.path());
        command.args(["new-session", "-d", "-x", &width, "-y", &height, "sh", "-c", ". ./run.sh", BINARY]);
        let output = command.env("LC_ALL", "C.UTF-8").output().expect("tmux runs");
        assert!(output.status.success(), "{output:?}");
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(args).output().expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The screen, without blank lines at its end.
    fn screen(&self) -> String {
        let screen = self.tmux(&["capture-pane", "-p"]);
        screen.trim_end().to_owned()
    }

    /// Waits until the screen contains a text, and returns it.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let mut screen = String::new();
        wait_until(DEADLINE, &format!("{text:?} on the screen"), || {
            screen = self.screen();
            screen.contains(text)
        });
        screen
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn resize(&self, width: &str, height: &str) {
        self.tmux(&["resize-window", "-x", width, "-y", height]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen ---\n{}\n---", self.screen());
        }
        self.tmux(&["kill-server"]);
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[test]
fn a_table_is_redrawn_in_place_and_the_terminal_is_as_it_was_when_it_ends() {
    let mut server = Server::start();
    let words = format!("watch --server {}", url_of(server.addr()));
    let Some(terminal) = Terminal::start(&words, 80, 12) else { return };
    let screen = terminal.wait_for("Vacuum Cleaner      3");
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[..2], [format!("all products at {}", url_of(server.addr())).as_str(), "live"], "{screen}");
    assert!(lines[2].starts_with("ID  NAME") && lines[2].ends_with("TOTAL  PER MINUTE"), "{screen}");
    assert_eq!(lines.len(), 3 + server.totals().len(), "{screen}");

    server.client().order("A1", 1_234_567);
    terminal.wait_for("1,234,570   1,234,567");
    // What is typed does not stay on the screen.
    terminal.press("nonsense");
    server.client().order("A1", 1);
    wait_until(DEADLINE, "the table is whole", || {
        let screen = terminal.screen();
        screen.contains("1,234,571") && !screen.contains("nonsense")
    });

    // A narrow and low terminal gets what fits.
    terminal.resize("38", "5");
    let screen = terminal.wait_for("more, with fewer orders");
    assert!(screen.lines().count() <= 5 && screen.contains("1,234,571"), "{screen}");
    terminal.resize("80", "12");
    terminal.wait_for("PER MINUTE");

    let addr = url_of(server.addr());
    server.kill();
    terminal.wait_for(&format!("trying again: no connection to {addr} ("));
    server.restart_on_the_same_ports();
    server.client().order("A1", 1);
    terminal.wait_for("1,234,572");
    terminal.wait_for("\nlive\n");

    terminal.press("C-c");
    let screen = terminal.wait_for("code 0");
    assert_eq!(screen.lines().next(), Some("before"), "{screen}");
    assert!(!screen.contains("PER MINUTE"), "{screen}");
    assert_eq!(terminal.tmux(&["display-message", "-p", "#{cursor_flag}#{alternate_on}#{wrap_flag}"]).trim(), "101");
}

#[test]
fn orders_of_the_last_minute_are_known_from_the_start() {
    let server = Server::start();
    server.client().order("B1", 50);
    let words = format!("watch confectionery --server {}", url_of(server.addr()));
    let Some(terminal) = Terminal::start(&words, 80, 12) else { return };
    terminal.wait_for("151          50");
}

#[test]
fn texts_of_a_server_cannot_change_the_terminal() {
    let server = Server::start();
    // The same number of bytes, so that no length changes.
    let relay = Peer::relay(server.addr(), |part| {
        let (name, harmful) = (b"Vacuum Cleaner", b"\\u001b[2J gone");
        while let Some(at) = part.windows(name.len()).position(|bytes| bytes == name) {
            part[at..at + name.len()].copy_from_slice(harmful);
        }
    });
    let words = format!("watch electronics --server {}", url_of(relay.addr));
    let Some(terminal) = Terminal::start(&words, 80, 12) else { return };
    let screen = terminal.wait_for("\u{fffd}[2J");
    assert!(screen.starts_with("electronics at") && screen.contains("A1"), "{screen}");
}

#[test]
fn progress_is_shown_while_orders_are_sent_and_the_sum_at_the_end() {
    let (mut server, addr) = killed_server();
    let folder = TempDir::new();
    let path = folder.write("orders", orders(3_000, &["A1"]));
    let words = format!("post - --server {} <{}", url_of(addr), path.display());
    let Some(terminal) = Terminal::start(&words, 120, 12) else { return };
    let screen = terminal.wait_for("trying again");
    let parts = ["  0%  0 orders counted, ", "failed attempt", "no answer from http://127.0.0.1:"];
    assert!(parts.iter().all(|part| screen.contains(part)), "{screen}");
    server.restart_on_the_same_ports();
    let screen = terminal.wait_for("code 0");
    let lines: Vec<&str> = screen.lines().collect();
    assert!(lines[1].starts_with("ordercast: 3,000 orders counted in ") && lines[1].contains("/s, "), "{screen}");
    assert_eq!((lines.len(), lines[2]), (3, "code 0"), "{screen}");
    assert_eq!(server.total("A1"), 3_003);
}

#[test]
fn the_progress_of_a_pipe_shows_orders_rate_and_failed_attempts() {
    let mut server = Server::start();
    let folder = TempDir::new();
    let (path, go) = (folder.write("orders", orders(10, &["A1"])), folder.path().join("go"));
    let input = format!("cat {0}; until [ -f {1} ]; do sleep 0.05; done; cat {0}", path.display(), go.display());
    let line = format!("({input}) | \"$0\" post - --server {}", url_of(server.addr()));
    let Some(terminal) = Terminal::start_line(&line, 120, 12) else { return };
    terminal.wait_for("10 orders counted, ");
    server.kill();
    std::fs::write(go, "").unwrap();
    let screen = terminal.wait_for("no answer from");
    assert!(screen.contains("10 orders counted, ") && screen.contains(" failed attempt"), "{screen}");
    server.restart_on_the_same_ports();
    let screen = terminal.wait_for("code 0");
    assert!(screen.contains("ordercast: 20 orders counted in ") && screen.contains(" failed attempt"), "{screen}");
    assert_eq!(server.total("A1"), 23);
}

#[test]
fn a_wrong_line_is_named_below_the_progress() {
    let server = Server::start();
    let folder = TempDir::new();
    let path = folder.write("orders", orders(10, &["A1"]) + "nonsense\n");
    let words = format!("post - --key k --server {} <{}", url_of(server.addr()), path.display());
    let Some(terminal) = Terminal::start(&words, 200, 12) else { return };
    let screen = terminal.wait_for("code 1");
    assert!(
        screen.contains("ordercast: line 11: ") && screen.contains("everything up to line 10 is counted"),
        "{screen}"
    );
}
