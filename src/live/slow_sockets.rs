//! The slow-socket thread: waits for sockets that took no more, and drains their subscribers when they do again. Owns the
//! write deadline; knows nothing of totals. One thread serves them all, and it sleeps while every socket keeps up.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::live::subscriber::{Drained, Subscriber, WRITE_DEADLINE};
use crate::log;

/// How often the write deadline is looked at while a socket is blocked: 1 s, a tenth of the deadline.
const DEADLINE_TICK: Duration = Duration::from_secs(1);
/// How often closed sessions are logged: once a minute, so that clients cannot fill a disk with their failures.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Sockets served for one wait of the poll.
const EVENTS: usize = 256;
/// The thread's stack; it goes no deeper than a send.
const STACK_BYTES: usize = 128 * 1024;
/// The token of the waker; subscribers count from 1.
const WAKER: Token = Token(0);

/// Hands blocked subscribers to the slow-socket thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct SlowSockets {
    /// Never holds more than one entry a subscriber, because only the step from free to blocked sends one.
    incoming: Sender<Arc<Subscriber>>,
    waker: Arc<Waker>,
    stopping: Arc<AtomicBool>,
}

impl SlowSockets {
    /// Takes over the draining of a subscriber whose socket is full.
    pub fn watch(&self, subscriber: Arc<Subscriber>) {
        let _ = self.incoming.send(subscriber);
        let _ = self.waker.wake();
    }

    /// Ends the thread; what is still blocked stays as it is.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

/// Called when a lagging subscriber has nothing left to send.
pub type OnCaughtUp = Box<dyn Fn(Arc<Subscriber>) + Send>;

/// What the slow-socket thread will run on; the handle works before the thread does.
pub struct Setup {
    poll: Poll,
    incoming: Receiver<Arc<Subscriber>>,
    stopping: Arc<AtomicBool>,
}

/// Prepares the slow-socket thread.
///
/// # Errors
/// When the system refuses the poll.
pub fn prepare() -> io::Result<(SlowSockets, Setup)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (sender, incoming) = unbounded();
    let stopping = Arc::new(AtomicBool::new(false));
    let handle = SlowSockets { incoming: sender, waker, stopping: stopping.clone() };
    Ok((handle, Setup { poll, incoming, stopping }))
}

impl Setup {
    /// Starts the thread. It ends by [`SlowSockets::stop`].
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn start(self, on_caught_up: OnCaughtUp) -> io::Result<JoinHandle<()>> {
        let mut thread = SlowSocketThread {
            poll: self.poll,
            incoming: self.incoming,
            stopping: self.stopping,
            watched: HashMap::new(),
            last_token: WAKER.0,
            closed: 0,
            last_logged: None,
            on_caught_up,
        };
        thread::Builder::new().name("slow-sockets".into()).stack_size(STACK_BYTES).spawn(move || thread.run())
    }
}

struct SlowSocketThread {
    poll: Poll,
    incoming: Receiver<Arc<Subscriber>>,
    stopping: Arc<AtomicBool>,
    watched: HashMap<Token, Arc<Subscriber>>,
    last_token: usize,
    /// Sessions closed since the last line about them.
    closed: usize,
    last_logged: Option<Instant>,
    on_caught_up: OnCaughtUp,
}

impl SlowSocketThread {
    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut next_tick = Instant::now();
        while !self.stopping.load(Ordering::Acquire) {
            let timeout = (!self.watched.is_empty()).then(|| next_tick.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Nothing can be drained any more, which would leave subscribers with stale totals for ever.
                    log::line(&format!("waiting for slow sockets failed: {error}"));
                    std::process::abort();
                }
            }
            while let Ok(subscriber) = self.incoming.try_recv() {
                self.watch(subscriber);
            }
            for event in &events {
                if event.token() != WAKER {
                    self.drain(event.token());
                }
            }
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + DEADLINE_TICK;
                self.close_overdue(now);
            }
        }
    }

    fn watch(&mut self, subscriber: Arc<Subscriber>) {
        self.last_token += 1;
        let token = Token(self.last_token);
        let descriptor = subscriber.stream().as_raw_fd();
        // The poll is edge-triggered, and reports at once a socket that has become ready before it was registered.
        match self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::WRITABLE) {
            Ok(()) => {
                self.watched.insert(token, subscriber);
            }
            Err(error) => {
                log::line(&format!("a slow session is closed: {error}"));
                subscriber.close();
            }
        }
    }

    fn drain(&mut self, token: Token) {
        let Some(subscriber) = self.watched.get(&token) else { return };
        let mut freed = false;
        let drained = subscriber.drain_blocked(|| {
            // Before anybody else may find the socket full and register it again.
            let descriptor = subscriber.stream().as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
            freed = true;
        });
        if drained == Drained::CaughtUp {
            (self.on_caught_up)(subscriber.clone());
        }
        if freed {
            self.watched.remove(&token);
        }
    }

    fn close_overdue(&mut self, now: Instant) {
        let is_due = |subscriber: &Arc<Subscriber>| subscriber.is_closed() || subscriber.is_overdue(now);
        let due = self.watched.iter().filter(|(_, subscriber)| is_due(subscriber));
        let due: Vec<Token> = due.map(|(token, _)| *token).collect();
        for token in due {
            // Not tried once more before: Linux may take bytes into a half-filled packet of a socket that is full, so a
            // send that succeeds here would not show that anybody reads.
            let Some(subscriber) = self.watched.remove(&token) else { continue };
            let descriptor = subscriber.stream().as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
            if !subscriber.is_closed() {
                subscriber.close();
                self.closed += 1;
            }
        }
        if self.closed > 0 && self.last_logged.is_none_or(|last| now.duration_since(last) >= LOG_EVERY) {
            let seconds = WRITE_DEADLINE.as_secs();
            log::line(&format!("{} sessions were closed: they had taken nothing for {seconds} s", self.closed));
            (self.closed, self.last_logged) = (0, Some(now));
        }
    }
}
