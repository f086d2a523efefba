//! The server as a service of systemd: notifications, the watchdog, and sockets that are open before it starts.

use crate::common::disk::{Call, LOG};
use crate::common::server::{BINARY, ordercast, own_address};
use crate::common::{Client, DEADLINE, Disk, Fault, Server, TempDir, skip, wait_until};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A service manager's socket, under an abstract name or in a folder.
pub struct Manager {
    pub socket: UnixDatagram,
    pub name: String,
    folder: Option<TempDir>,
}

impl Manager {
    pub fn new(is_abstract: bool) -> Manager {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ordercast-test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (socket, name, folder) = if is_abstract {
            let addr = SocketAddr::from_abstract_name(&name).expect("a name");
            (UnixDatagram::bind_addr(&addr).expect("a socket"), format!("@{name}"), None)
        } else {
            let folder = TempDir::new();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).expect("a path of at most 107 bytes");
            (socket, path.to_str().expect("UTF-8").to_owned(), Some(folder))
        };
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        Manager { socket, name, folder }
    }

    /// The lines of the next message.
    #[track_caller]
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn expect(&self, lines: &[&str]) {
        assert_eq!(self.next(), lines);
    }
}

#[test]
fn the_service_manager_is_told_of_the_start_of_reloads_and_of_the_end() {
    for is_abstract in [false, true] {
        let manager = Manager::new(is_abstract);
        let mut server = Server::builder().env("NOTIFY_SOCKET", &manager.name).start();
        let status = format!("STATUS=Serving http://{}", server.addr());
        manager.expect(&["READY=1", &status]);
        let mut last = 0;
        for _ in 0..2 {
            server.signal("HUP");
            let reloading = manager.next();
            let [state, time, _status] = &reloading[..] else { panic!("{reloading:?}") };
            assert_eq!(state, "RELOADING=1");
            let time = time.strip_prefix("MONOTONIC_USEC=").and_then(|time| time.parse::<u64>().ok());
            let time = time.unwrap_or_else(|| panic!("{reloading:?}"));
            assert!(time > last, "{time} after {last}");
            last = time;
            manager.expect(&["READY=1", &status]);
        }
        server.signal("TERM");
        manager.expect(&["STOPPING=1", "STATUS=Stopping: SIGTERM"]);
        assert_eq!(server.wait(DEADLINE).code(), Some(0));
        manager.socket.set_nonblocking(true).expect("a mode can be set");
        assert_eq!(manager.socket.recv(&mut [0]).expect_err("nothing more").kind(), ErrorKind::WouldBlock);
        drop(manager.folder);
    }
}

#[test]
fn the_service_manager_is_told_why_a_server_does_not_start() {
    let (manager, folder) = (Manager::new(false), TempDir::new());
    folder.write("catalog.json", "{");
    let arguments = ["--listen", "127.0.0.1:0", "--catalog", "catalog.json"];
    let run = ordercast(folder.path(), &arguments, &[("NOTIFY_SOCKET", &manager.name)]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let status = manager.next().concat();
    assert!(status.starts_with("STATUS=") && status.contains("line 1: not valid JSON"), "{status}");
}

#[test]
fn a_service_manager_that_cannot_be_told_is_logged_once_and_changes_nothing() {
    for (name, expected) in [
        ("/nonexistent/notify", "the service manager cannot be notified"),
        ("vsock:2:1234", "NOTIFY_SOCKET=\"vsock:2:1234\" cannot be used"),
    ] {
        let mut server = Server::builder().env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "20000").start();
        wait_until(DEADLINE, "it is logged", || server.log().contains(expected));
        server.signal("HUP");
        wait_until(DEADLINE, "the signal is logged", || server.log().contains("no token files"));
        server.client().order("A1", 1);
        assert_eq!(server.terminate().code(), Some(0));
        assert_eq!(server.log().matches(expected).count(), 1, "{}", server.log());
    }
}

/// A disk that hangs is no reason to restart the server, whose next process would wait for the same disk.
#[test]
fn the_watchdog_is_told_twice_in_its_time_also_while_the_disk_hangs() {
    const INTERVAL: Duration = Duration::from_millis(400);
    let manager = Manager::new(true);
    let Some(disk) = Disk::new() else { return };
    let builder = disk.builder().env("NOTIFY_SOCKET", &manager.name);
    let server = builder.env("WATCHDOG_USEC", &INTERVAL.as_micros().to_string()).start();
    assert_eq!(manager.next()[0], "READY=1");
    let reports = |count: u32| {
        let begun = Instant::now();
        (0..count).for_each(|_| manager.expect(&["WATCHDOG=1"]));
        begun.elapsed()
    };
    reports(3);
    let mut client = server.client();
    disk.arm(Fault::hangs(Call::Sync, LOG));
    let waiting = thread::spawn(move || client.post("/orders/A1", "{\"amount\":1}").status);
    disk.wait_for_hit();
    let time = reports(6);
    assert!(time >= INTERVAL, "six reports came within {time:?}");
    disk.lift();
    assert_eq!(waiting.join().expect("no panic"), 200);
    reports(2);
}

/// A process that is killed when the test ends.
struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sockets_that_systemd_has_opened_are_served() {
    let folder = TempDir::new();
    let addrs = [own_address(47_021), own_address(47_022)];
    let mut command = Command::new("systemd-socket-activate");
    for addr in addrs {
        command.arg(format!("--listen={addr}"));
    }
    let child = command
        .args([BINARY, "--listen=127.0.0.1:1", "--data"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = child else { return skip("systemd-socket-activate (systemd) is missing", true) };
    let mut child = Activated(child);
    wait_until(DEADLINE, "the sockets are open", || Client::try_connect(addrs[0]).is_ok());
    for addr in addrs {
        Client::connect(addr).order("A1", 1);
    }
    assert_eq!(Client::connect(addrs[0]).total("A1"), 5);
    // It is the same process.
    let status = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.0.id())).status();
    assert!(status.expect("the shell runs").success());
    wait_until(DEADLINE, "the server ends", || child.0.try_wait().expect("the child can be asked").is_some());
    assert_eq!(child.0.wait().expect("it has ended").code(), Some(0));
}

#[test]
fn what_is_handed_over_and_is_no_listening_tcp_socket_ends_the_start_with_an_error() {
    for (script, expected) in [
        ("exec 3</dev/null; export LISTEN_FDS=1", "socket 1 of those in LISTEN_FDS is no TCP socket that listens"),
        ("exec 3>&-; export LISTEN_FDS=1 LISTEN_FDNAMES=api", "socket 1 (\"api\") of those in LISTEN_FDS"),
        ("export LISTEN_FDS=65", "more than 64 sockets"),
        ("export LISTEN_FDS=4294967295", "more than 64 sockets"),
        ("export LISTEN_FDS=many", "LISTEN_PID or LISTEN_FDS is no number"),
    ] {
        let script = format!("export LISTEN_PID=$$; {script}");
        let error = Server::builder().shell(&script).try_start().map(drop).expect_err("no start");
        assert!(error.contains(expected), "{script}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    // Those of another process are passed over, and so is a number without a process.
    for script in ["export LISTEN_PID=1 LISTEN_FDS=1", "export LISTEN_FDS=1", "export LISTEN_PID=$$ LISTEN_FDS=0"] {
        Server::builder().shell(script).start().client().order("A1", 1);
    }
    // The commands beside the server have nothing to do with them.
    let folder = TempDir::new();
    let finished = ordercast(folder.path(), &["version"], &[("LISTEN_FDS", "many"), ("LISTEN_PID", "many")]);
    assert_eq!(finished.code, Some(0));
}
