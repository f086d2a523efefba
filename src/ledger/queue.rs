//! What waits for the ledger thread: jobs of other threads in a bounded queue, and orders on the sockets of connections
//! that were lent to it, which it reads itself.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded};

use super::job::Job;
use crate::http::ready_sockets::{EVENTS, ReadySockets, Waiter};

/// Jobs that wait for the ledger, at most; further connections wait to hand theirs over.
const QUEUE: usize = 1_024;
/// How often the sockets are looked at for more orders of one commit. Orders that come later wait for the next one, so that
/// clients and the disk work at the same time.
const LOOKS: usize = 2;
/// On more cores than this connections are not lent: there their own threads read at the same time, and the ledger
/// thread has less to do for each order.
const MOST_CORES: usize = 3;

/// Adds jobs.
#[derive(Clone)]
pub(super) struct Entrance {
    jobs: Sender<Job>,
    read: Sender<Job>,
    /// Dropped after the senders: the thread then sees that no handle is left.
    bell: Bell,
}

/// Whether a job was added.
pub(super) enum Added {
    Yes,
    /// There was no room by the deadline.
    Full(Job),
    /// The ledger has ended; the job was dropped, which answers it.
    Closed,
}

/// Wakes a ledger thread that watches sockets, also when it is dropped.
#[derive(Clone)]
struct Bell(Option<Arc<ReadySockets>>);

impl Bell {
    fn ring(&self) {
        if let Some(sockets) = &self.0 {
            sockets.wake();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}

impl Entrance {
    /// To no queue.
    pub(super) fn none() -> Self {
        let (closed, _) = bounded(0);
        Self { jobs: closed.clone(), read: closed, bell: Bell(None) }
    }

    /// Adds a job, once there is room for it.
    pub(super) fn add(&self, job: Job, deadline: Instant) -> Added {
        match self.jobs.send_deadline(job, deadline) {
            Ok(()) => {
                self.bell.ring();
                Added::Yes
            }
            Err(SendTimeoutError::Timeout(job)) => Added::Full(job),
            Err(SendTimeoutError::Disconnected(_)) => Added::Closed,
        }
    }

    /// Adds a job if there is room for it. Returns whether there was.
    pub(super) fn try_add(&self, job: Job) -> bool {
        let is_added = self.jobs.try_send(job).is_ok();
        self.bell.ring();
        is_added
    }

    /// Adds a job on the ledger thread itself. A socket that is ready brings one at most, so there is room.
    pub(super) fn add_here(&self, job: Job) {
        // Dropping a job rejects it.
        let _ = self.read.try_send(job);
    }

    /// The sockets that the thread watches, if connections may be lent to it.
    pub(super) fn sockets(&self) -> Option<&Arc<ReadySockets>> {
        self.bell.0.as_ref()
    }
}

/// The thread's side.
pub(super) struct Queue {
    jobs: Receiver<Job>,
    /// Those that were read from sockets.
    read: Receiver<Job>,
    /// Only where connections may be lent.
    waiter: Option<Waiter>,
    /// How often the sockets may still be looked at for the next commit.
    looks: usize,
}

impl Queue {
    /// An empty queue, of a thread that may read requests of connections if `is_quick`: if its commits take little longer
    /// than reading.
    pub(super) fn new(is_quick: bool) -> io::Result<(Entrance, Self)> {
        let takes_connections =
            is_quick && thread::available_parallelism().is_ok_and(|cores| cores.get() <= MOST_CORES);
        let waiter = takes_connections.then(Waiter::new).transpose()?;
        let bell = Bell(waiter.as_ref().map(|waiter| waiter.sockets().clone()));
        let (jobs_entrance, jobs) = bounded(QUEUE);
        let (read_entrance, read) = bounded(EVENTS);
        let entrance = Entrance { jobs: jobs_entrance, read: read_entrance, bell };
        Ok((entrance, Self { jobs, read, waiter, looks: LOOKS }))
    }

    /// Whether no job waits.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.read.is_empty()
    }

    /// The number of jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.jobs.len() + self.read.len()
    }

    /// A job that is there already, for the same commit as the one before.
    pub(super) fn try_next(&mut self) -> Option<Job> {
        loop {
            if let Ok(job) = self.read.try_recv().or_else(|_| self.jobs.try_recv()) {
                return Some(job);
            }
            let waiter = self.waiter.as_mut()?;
            self.looks = self.looks.checked_sub(1)?;
            // An error shows in the next wait.
            waiter.look().ok()?;
        }
    }

    /// Waits for a job, until this time if one is given. Disconnected when no handle is left, or the system refuses to
    /// wait.
    pub(super) fn next(&mut self, until: Option<Instant>) -> Result<Job, RecvTimeoutError> {
        self.looks = LOOKS;
        loop {
            if let Ok(job) = self.read.try_recv() {
                return Ok(job);
            }
            let Self { jobs, waiter: Some(waiter), .. } = self else { return receive(&self.jobs, until) };
            let mut found = Err(TryRecvError::Empty);
            let result = waiter.wait(until, || {
                found = jobs.try_recv();
                !matches!(found, Err(TryRecvError::Empty))
            });
            if let Err(error) = result {
                log::error!("waiting for orders failed: {error}");
                return Err(RecvTimeoutError::Disconnected);
            }
            match found {
                Ok(job) => return Ok(job),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            if self.is_empty() && until.is_some_and(|until| until <= Instant::now()) {
                return Err(RecvTimeoutError::Timeout);
            }
        }
    }

    /// Rejects what comes until no handle is left. Left in the queue it would keep its requester waiting.
    pub(super) fn reject_all(self) {
        let Self { jobs, read, waiter, .. } = self;
        drop((read, waiter));
        jobs.iter().for_each(drop);
    }
}

fn receive(jobs: &Receiver<Job>, until: Option<Instant>) -> Result<Job, RecvTimeoutError> {
    match until {
        Some(until) => jobs.recv_deadline(until),
        None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}
