//! The slow-socket thread: waits for full sockets, and drains their subscribers when they have room again. Owns the
//! write deadline. One thread serves them all, and it sleeps while no socket is full.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::warn;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::live::subscriber::{Drained, Subscriber, WRITE_DEADLINE, Watcher};
use crate::log::Throttle;
use crate::tally::metric::{Counter, Gauge};

/// How often the write deadline is checked while a socket is full: 1 s, a tenth of the deadline.
const DEADLINE_TICK: Duration = Duration::from_secs(1);
/// Sockets served for one wait of the poll.
const EVENTS: usize = 256;
/// The thread's stack; its deepest call is a send.
const STACK_BYTES: usize = 128 * 1024;
/// The token of the waker; subscribers count from 1.
const WAKER: Token = Token(0);

/// Hands subscribers over to the slow-socket thread.
#[derive(Debug)]
pub struct SlowSockets {
    /// Never holds more than one entry a subscriber: it is handed over when its socket becomes full.
    incoming: Sender<Arc<Subscriber>>,
    waker: Waker,
    stopping: AtomicBool,
    counters: Counters,
}

/// What the thread does; it alone writes them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sockets that are full.
    pub full: Gauge,
    /// Sessions that were closed because their sockets had taken nothing for [`WRITE_DEADLINE`].
    pub closed: Counter,
    /// Bytes that full sockets have taken later.
    pub bytes: Counter,
}

impl SlowSockets {
    /// What the thread does.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Ends the thread, and closes every subscriber whose socket is full.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

impl Watcher for SlowSockets {
    fn watch(&self, subscriber: Arc<Subscriber>) {
        let _ = self.incoming.send(subscriber);
        let _ = self.waker.wake();
    }
}

/// Starts the thread. `on_must_catch_up` is called when the queue of a lagging subscriber is empty.
///
/// # Errors
/// When the system refuses the poll or the thread.
pub fn start(
    on_must_catch_up: impl Fn(Arc<Subscriber>) + Send + 'static,
) -> io::Result<(Arc<SlowSockets>, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (sender, incoming) = unbounded();
    let handle = Arc::new(SlowSockets {
        incoming: sender,
        waker,
        stopping: AtomicBool::default(),
        counters: Counters::default(),
    });
    let mut thread = SlowSocketThread {
        poll,
        incoming,
        handle: handle.clone(),
        watched: HashMap::new(),
        last_token: WAKER.0,
        bytes: 0,
        closed: 0,
        throttle: Throttle::default(),
        on_must_catch_up,
    };
    let thread =
        thread::Builder::new().name("slow-sockets".into()).stack_size(STACK_BYTES).spawn(move || thread.run())?;
    Ok((handle, thread))
}

struct SlowSocketThread<F> {
    poll: Poll,
    incoming: Receiver<Arc<Subscriber>>,
    handle: Arc<SlowSockets>,
    watched: HashMap<Token, Arc<Subscriber>>,
    last_token: usize,
    /// Bytes that were sent since the counters were last written.
    bytes: u64,
    /// Sessions closed since the last log line about them.
    closed: usize,
    throttle: Throttle,
    on_must_catch_up: F,
}

impl<F: Fn(Arc<Subscriber>)> SlowSocketThread<F> {
    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut next_tick = Instant::now();
        while !self.handle.stopping.load(Ordering::Acquire) {
            let timeout = (!self.watched.is_empty()).then(|| next_tick.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Subscribers would keep stale totals. The server ends when one of its threads has ended.
                    log::error!("waiting for slow sockets failed: {error}");
                    return;
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
            self.handle.counters.full.set(self.watched.len() as u64);
            self.handle.counters.bytes.add(std::mem::take(&mut self.bytes));
        }
        self.watched.values().for_each(|subscriber| subscriber.close());
        self.incoming.try_iter().for_each(|subscriber| subscriber.close());
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
                if self.throttle.allows() {
                    warn!("slow sessions are closed: {error}");
                }
                subscriber.close();
            }
        }
    }

    fn drain(&mut self, token: Token) {
        let Some(subscriber) = self.watched.get(&token) else { return };
        let drained = subscriber.drain_blocked(&mut self.bytes);
        if drained == Drained::Blocked {
            return;
        }
        // If the socket is full again by now, the subscriber waits in `incoming` and is registered anew.
        if let Some(subscriber) = self.unwatch(token)
            && drained == Drained::MustCatchUp
        {
            (self.on_must_catch_up)(subscriber);
        }
    }

    fn unwatch(&mut self, token: Token) -> Option<Arc<Subscriber>> {
        let subscriber = self.watched.remove(&token)?;
        let descriptor = subscriber.stream().as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        Some(subscriber)
    }

    fn close_overdue(&mut self, now: Instant) {
        let is_due = |subscriber: &Arc<Subscriber>| subscriber.is_closed() || subscriber.is_overdue(now);
        let due = self.watched.iter().filter(|(_, subscriber)| is_due(subscriber));
        let due: Vec<Token> = due.map(|(token, _)| *token).collect();
        for token in due {
            // Without one more send: Linux may take bytes into a half-filled packet of a full socket, so success would
            // not show that the peer reads.
            let Some(subscriber) = self.unwatch(token) else { continue };
            if !subscriber.is_closed() {
                subscriber.close();
                self.closed += 1;
                self.handle.counters.closed.add(1);
            }
        }
        if self.closed > 0 && self.throttle.allows() {
            let seconds = WRITE_DEADLINE.as_secs();
            warn!("{} sessions were closed: their sockets had taken nothing for {seconds} s", self.closed);
            self.closed = 0;
        }
    }
}
