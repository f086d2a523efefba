//! Sockets that a thread watches for input beside its queue of jobs. Owns the table of sockets and of whom it calls when
//! one has input; knows neither jobs nor requests.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

/// Sockets served for one wait.
pub const EVENTS: usize = 256;
/// The token of the waker; sockets count from 1.
const WAKER: Token = Token(0);

/// What is told that its socket may have input.
pub trait Ready: Send + Sync {
    /// Called on the watching thread, which must not be held up. A call may come late, or without input. `has_ended` if no
    /// input follows what has been received.
    fn ready(&self, has_ended: bool);
}

/// Adds sockets, and wakes the thread that watches them.
pub struct ReadySockets {
    registry: Registry,
    waker: Waker,
    /// Whether the thread waits, or is about to.
    is_waiting: AtomicBool,
    watched: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_token: usize,
    watched: HashMap<Token, Arc<dyn Ready>>,
}

impl ReadySockets {
    /// Watches a socket until the result is dropped.
    ///
    /// # Errors
    /// The system's.
    pub fn watch(self: &Arc<Self>, stream: &Arc<TcpStream>, ready: Arc<dyn Ready>) -> io::Result<Watch> {
        let token = {
            let mut table = self.table();
            table.last_token += 1;
            let token = Token(table.last_token);
            table.watched.insert(token, ready);
            token
        };
        let watch = Watch { sockets: self.clone(), stream: stream.clone(), token };
        // Edge-triggered: told at once of what has been received before, and then once of what is received.
        self.registry.register(&mut SourceFd(&stream.as_raw_fd()), token, Interest::READABLE)?;
        Ok(watch)
    }

    /// Wakes the thread if it waits. Call it after something has been added to the thread's queue.
    pub fn wake(&self) {
        // With the fence of the thread: it sees what was added, or is seen to wait.
        fence(Ordering::SeqCst);
        if self.is_waiting.load(Ordering::Relaxed) && self.is_waiting.swap(false, Ordering::Relaxed) {
            let _ = self.waker.wake();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that is watched.
pub struct Watch {
    sockets: Arc<ReadySockets>,
    stream: Arc<TcpStream>,
    token: Token,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Fails only if it was never registered.
        let _ = self.sockets.registry.deregister(&mut SourceFd(&self.stream.as_raw_fd()));
        self.sockets.table().watched.remove(&self.token);
    }
}

/// The thread's side.
pub struct Waiter {
    poll: Poll,
    events: Events,
    sockets: Arc<ReadySockets>,
}

impl Waiter {
    /// A waiter for no sockets yet.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let sockets = ReadySockets {
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), WAKER)?,
            is_waiting: AtomicBool::new(false),
            watched: Mutex::default(),
        };
        Ok(Self { poll, events: Events::with_capacity(EVENTS), sockets: Arc::new(sockets) })
    }

    /// Where sockets are added.
    #[must_use]
    pub fn sockets(&self) -> &Arc<ReadySockets> {
        &self.sockets
    }

    /// Waits until a socket may have input, and calls [`Ready::ready`] for each that has; or until the deadline, or a
    /// [`ReadySockets::wake`], also one just before. Does not wait if `has_work`.
    ///
    /// # Errors
    /// The system's, after which it must not be called again.
    pub fn wait(&mut self, until: Option<Instant>, has_work: impl FnOnce() -> bool) -> io::Result<()> {
        self.sockets.is_waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let timeout = if has_work() {
            Some(Duration::ZERO)
        } else {
            until.map(|at| at.saturating_duration_since(Instant::now()))
        };
        let polled = self.poll(timeout);
        self.sockets.is_waiting.store(false, Ordering::Relaxed);
        polled?;
        self.tell();
        Ok(())
    }

    /// Calls [`Ready::ready`] for each socket that has input now.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn look(&mut self) -> io::Result<()> {
        self.poll(Some(Duration::ZERO))?;
        self.tell();
        Ok(())
    }

    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn tell(&self) {
        for event in &self.events {
            let ready = self.sockets.table().watched.get(&event.token()).cloned();
            if let Some(ready) = ready {
                ready.ready(event.is_read_closed());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[derive(Default)]
    struct Told {
        calls: AtomicUsize,
        has_ended: AtomicBool,
    }

    impl Ready for Told {
        fn ready(&self, has_ended: bool) {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.has_ended.store(has_ended, Ordering::SeqCst);
        }
    }

    fn wait(waiter: &mut Waiter) {
        waiter.wait(Some(Instant::now() + DEADLINE), || false).unwrap();
    }

    #[test]
    fn input_is_told_of_while_a_socket_is_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Arc::new(listener.accept().unwrap().0);
        let mut waiter = Waiter::new().unwrap();
        client.write_all(b"before").unwrap();
        let told = Arc::new(Told::default());
        let calls = || told.calls.load(Ordering::SeqCst);
        let watch = waiter.sockets().watch(&stream, told.clone()).unwrap();
        wait(&mut waiter);
        assert_eq!(calls(), 1);
        waiter.look().unwrap();
        assert_eq!(calls(), 1, "there is nothing new");
        client.write_all(b"and after").unwrap();
        wait(&mut waiter);
        assert_eq!((calls(), told.has_ended.load(Ordering::SeqCst)), (2, false));
        drop(watch);
        client.write_all(b"unheard").unwrap();
        waiter.look().unwrap();
        assert_eq!((calls(), Arc::strong_count(&told)), (2, 1));
        client.shutdown(Shutdown::Write).unwrap();
        let _watch = waiter.sockets().watch(&stream, told.clone()).unwrap();
        wait(&mut waiter);
        assert!(told.has_ended.load(Ordering::SeqCst), "with the input that came before it");
    }

    #[test]
    fn a_wake_reaches_a_thread_that_waits_or_is_about_to() {
        let mut waiter = Waiter::new().unwrap();
        let (sockets, added) = (waiter.sockets().clone(), Arc::new(AtomicUsize::new(0)));
        let (queue, rounds) = (added.clone(), 2_000);
        let waking = thread::spawn(move || {
            for round in 1..=rounds {
                queue.store(round, Ordering::SeqCst);
                sockets.wake();
                // Until the other thread has taken it.
                while queue.load(Ordering::SeqCst) == round {
                    thread::yield_now();
                }
            }
        });
        let begun = Instant::now();
        let mut taken = 0;
        while taken < rounds {
            waiter.wait(Some(begun + DEADLINE), || added.load(Ordering::SeqCst) > 0).unwrap();
            assert!(begun.elapsed() < DEADLINE, "a wake was lost after {taken} rounds");
            taken += usize::from(added.swap(0, Ordering::SeqCst) > 0);
        }
        waking.join().unwrap();
    }
}
