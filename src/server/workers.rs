//! The threads that connections run on. One whose connection has ended takes the next one, so that a connection seldom
//! waits for the start of a thread; a connection never waits for a thread that is busy. A panic ends a thread, and nothing
//! else.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that wait for a connection, at most.
const MAX_IDLE: usize = 64;
/// How long a thread waits for a connection before it ends: 2 s.
const IDLE: Duration = Duration::from_secs(2);
/// The stack of a thread. Only touched pages take memory, and no input chooses the depth of a recursion.
pub const STACK_BYTES: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 64 * 1024 };

/// What a thread does: a turn of one connection. It is called with whether others wait for the thread.
pub type Job = Box<dyn FnOnce(bool) + Send>;

#[derive(Default)]
struct Inner {
    /// Jobs that an idle thread takes next; never more than there are idle threads.
    jobs: VecDeque<Job>,
    /// Threads that wait for a job.
    idle: usize,
    stopping: bool,
}

/// The threads.
#[derive(Default)]
pub struct Workers {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Workers {
    /// Runs a job on a thread that is idle, or on a new one.
    ///
    /// # Errors
    /// The job, and why the system refuses another thread.
    pub fn run(self: &Arc<Self>, job: Job) -> Result<(), (Job, io::Error)> {
        {
            let mut inner = self.inner();
            if inner.jobs.len() < inner.idle {
                inner.jobs.push_back(job);
                drop(inner);
                self.changed.notify_one();
                return Ok(());
            }
        }
        // Shared with the thread, since a thread that is refused drops what it was given.
        let first = Arc::new(Mutex::new(Some(job)));
        let (workers, job) = (self.clone(), first.clone());
        let take = |job: &Mutex<Option<Job>>| job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = thread::Builder::new().name("connection".into()).stack_size(STACK_BYTES).spawn(move || {
            let mut next = take(&job);
            drop(job);
            while let Some(job) = next {
                job(false);
                next = workers.next_job();
            }
        });
        match started {
            Ok(_) => Ok(()),
            Err(error) => take(&first).map_or(Ok(()), |job| Err((job, error))),
        }
    }

    /// Ends every thread that waits. Those that are busy end after their connection.
    pub fn stop(&self) {
        self.inner().stopping = true;
        self.changed.notify_all();
    }

    /// Waits for a job; `None` when the thread should end.
    fn next_job(&self) -> Option<Job> {
        let until = Instant::now() + IDLE;
        let mut inner = self.inner();
        inner.idle += 1;
        loop {
            let job = inner.jobs.pop_front();
            let left = until.saturating_duration_since(Instant::now());
            if job.is_some() || inner.stopping || inner.idle > MAX_IDLE || left.is_zero() {
                inner.idle -= 1;
                return job;
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::ThreadId;

    use super::*;

    const SOON: Duration = Duration::from_secs(15);

    /// The thread that runs a job which ends at once.
    fn thread_of_next_job(workers: &Arc<Workers>) -> ThreadId {
        let (sender, thread) = mpsc::channel();
        assert!(workers.run(Box::new(move |_| sender.send(thread::current().id()).unwrap())).is_ok());
        thread.recv_timeout(SOON).unwrap()
    }

    fn wait_until(workers: &Workers, is_so: impl Fn(&Inner) -> bool) {
        let deadline = Instant::now() + SOON;
        while !is_so(&workers.inner()) {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_idle_thread_runs_the_next_job_and_ends_at_the_stop() {
        let workers = Arc::new(Workers::default());
        let first = thread_of_next_job(&workers);
        wait_until(&workers, |inner| inner.idle == 1);
        assert_eq!(thread_of_next_job(&workers), first);
        wait_until(&workers, |inner| inner.idle == 1);
        workers.stop();
        wait_until(&workers, |inner| inner.idle == 0);
    }

    #[test]
    fn a_job_never_waits_for_one_that_is_busy() {
        let workers = Arc::new(Workers::default());
        let (end, ended) = mpsc::channel::<()>();
        let busy = move |_| assert!(ended.recv().is_err());
        assert!(workers.run(Box::new(busy)).is_ok());
        let threads = [thread_of_next_job(&workers), thread_of_next_job(&workers)];
        assert_ne!(threads[0], thread::current().id());
        drop(end);
    }

    #[test]
    fn after_a_job_that_panicked_the_next_one_runs() {
        let workers = Arc::new(Workers::default());
        thread_of_next_job(&workers);
        wait_until(&workers, |inner| inner.idle == 1);
        assert!(workers.run(Box::new(|_| panic!("on purpose"))).is_ok());
        wait_until(&workers, |inner| inner.idle == 0 && inner.jobs.is_empty());
        thread_of_next_job(&workers);
    }

    #[test]
    fn only_some_threads_wait_after_many_jobs_at_a_time() {
        let workers = Arc::new(Workers::default());
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        for _ in 0..MAX_IDLE + 20 {
            let ended = ended.clone();
            assert!(workers.run(Box::new(move |_| assert!(ended.lock().unwrap().recv().is_err()))).is_ok());
        }
        wait_until(&workers, |inner| inner.idle == 0 && inner.jobs.is_empty());
        drop(end);
        wait_until(&workers, |inner| inner.idle == MAX_IDLE);
    }
}
