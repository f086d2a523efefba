//! What systemd offers a service: sockets that are open already (sd_listen_fds(3)), and notifications of its state
//! (sd_notify(3)). Elsewhere all of it does nothing.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::os::fd::{IntoRawFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ordercast::Handle;
use sd_notify::NotifyState;
use socket2::{Domain, Socket, Type};

/// The most sockets that are taken over: each gets an accept thread, and nobody needs as many.
const MAX_SOCKETS: u32 = 64;
/// How long a notification may take while the manager's socket is full: 1 s.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// The shortest pause between two reports to the watchdog.
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// How often it is logged at most that the server's threads do not answer: once a minute.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// The watchdog thread's stack; its deepest call is a log line.
const STACK_BYTES: usize = 128 * 1024;

/// The listening TCP sockets that were handed over, in their order. To be called once, before any file is opened: a
/// descriptor that was announced and is not there would be taken for the file.
///
/// # Errors
/// A text that says what the socket unit needs.
pub fn take_sockets() -> Result<Vec<TcpListener>, String> {
    let count = env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok());
    if count.is_some_and(|count: u32| count > MAX_SOCKETS) {
        return Err(format!("LISTEN_FDS hands over more than {MAX_SOCKETS} sockets; use fewer addresses"));
    }
    let sockets = sd_listen_fds::get().map_err(|_| "LISTEN_PID or LISTEN_FDS is no number; unset both")?;
    let named = sockets.into_iter().enumerate();
    // All of them, also behind a wrong one: `listener` does not close what may not be there.
    let listeners: Vec<_> =
        named.map(|(place, (name, socket))| listener(place, name.as_deref(), socket.into_std())).collect();
    listeners.into_iter().collect()
}

fn listener(place: usize, name: Option<&str>, socket: OwnedFd) -> Result<TcpListener, String> {
    let socket = Socket::from(socket);
    let is_internet = socket.domain().is_ok_and(|domain| [Domain::IPV4, Domain::IPV6].contains(&domain));
    let is_stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
    #[cfg(target_os = "linux")]
    let is_stream = is_stream && socket.is_listener().unwrap_or(false);
    if is_internet && is_stream {
        return Ok(socket.into());
    }
    // Not closed: there may be no such descriptor.
    let _ = socket.into_raw_fd();
    let name = name.map(|name| format!(" ({name:?})")).unwrap_or_default();
    Err(format!(
        "socket {}{name} of those in LISTEN_FDS is no TCP socket that listens; in the socket unit, use ListenStream= with \
         a port, such as ListenStream=127.0.0.1:3000, and not Accept=yes",
        place + 1
    ))
}

/// Tells the service manager in which state the server is.
#[derive(Debug, Default)]
pub struct Notifier {
    /// Absent when nobody wants to know.
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// What the server does, in a sentence.
    status: Mutex<String>,
    has_failed: AtomicBool,
    is_stopping: AtomicBool,
}

impl Notifier {
    /// A notifier for the socket that `NOTIFY_SOCKET` names.
    pub fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Self::default() };
        match connect(&name) {
            Ok(manager) => Self { manager: Some(manager), ..Self::default() },
            Err(error) => {
                log::warn!("NOTIFY_SOCKET={name:?} cannot be used, so the service manager is not notified: {error}");
                Self::default()
            }
        }
    }

    /// The server accepts connections; `status` says where.
    pub fn ready(&self, status: String) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&status)]);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// The configuration is read again by `read`. `Type=notify-reload` waits for the end of that.
    pub fn reload(&self, read: impl FnOnce()) {
        // That type needs the time of the beginning, which distinguishes two reloads.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now, NotifyState::Status("Reading the token files again")]);
        }
        read();
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.send(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The server ends.
    pub fn stopping(&self, why: &str) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.send(&[NotifyState::Stopping, NotifyState::Status(&format!("Stopping: {why}"))]);
    }

    /// The server cannot start or go on. `systemctl status` leaves out the log of a start that has failed, and shows this.
    pub fn failed(&self, why: &str) {
        self.send(&[NotifyState::Status(&why.replace('\n', " "))]);
    }

    /// Starts a thread that reports twice in the watchdog's interval, as long as the server's threads answer. Without a
    /// watchdog there is none.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn start_watchdog(self: &Arc<Self>, server: Handle) -> io::Result<()> {
        let wanted = |interval: &Duration| self.manager.is_some() && !interval.is_zero();
        let Some(interval) = sd_notify::watchdog_enabled().filter(wanted) else { return Ok(()) };
        let pause = (interval / 2).max(MIN_PAUSE);
        let notifier = self.clone();
        let report = move || {
            let mut logged: Option<Instant> = None;
            loop {
                // Half a pause at most, so that an answer that comes late is still reported in time.
                let is_responsive = server.is_responsive(pause / 2);
                if is_responsive {
                    notifier.send(&[NotifyState::Watchdog]);
                } else if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY)
                    && !notifier.is_stopping.load(Ordering::Relaxed)
                {
                    logged = Some(Instant::now());
                    log::error!("the ledger or the fan-out thread does not answer, so the watchdog gets no report");
                }
                thread::sleep(pause);
            }
        };
        thread::Builder::new().name("watchdog".into()).stack_size(STACK_BYTES).spawn(report).map(drop)
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some((socket, manager)) = &self.manager else { return };
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send_to_addr(lines.as_bytes(), manager)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            log::warn!("the service manager cannot be notified: {error}");
        }
    }
}

/// A socket to send from, and the address of the manager's: a path, or behind `@` an abstract name.
fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("it is neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, manager))
}
