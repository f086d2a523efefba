//! How the server's end is asked for, and how it is noticed that a thread has ended too early.

use std::borrow::Cow;
use std::fmt;

use crossbeam_channel::Sender;

/// Why a server ends.
#[derive(Debug)]
pub enum End {
    /// It was asked to, for this reason.
    Asked(Cow<'static, str>),
    /// This thread, which everything needs, has ended.
    Broken(&'static str),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(reason) => f.write_str(reason),
            Self::Broken(thread) => write!(f, "the {thread} thread has ended"),
        }
    }
}

/// Moved into a thread, whose end drops it, also when it panics. So nothing has to look whether the thread still runs.
#[derive(Debug)]
pub(super) struct Sentinel {
    thread: &'static str,
    end: Sender<End>,
}

impl Sentinel {
    pub(super) fn new(thread: &'static str, end: &Sender<End>) -> Self {
        Self { thread, end: end.clone() }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // A full channel holds another reason to end.
        let _ = self.end.try_send(End::Broken(self.thread));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_thread_that_ends_or_panics_is_reported_and_the_first_reason_stays() {
        for panics in [false, true] {
            let (sender, end) = bounded(1);
            let sentinel = Sentinel::new("ledger", &sender);
            let thread = thread::spawn(move || {
                let _sentinel = sentinel;
                assert!(!panics, "on purpose");
            });
            let reason = end.recv_timeout(Duration::from_secs(15)).expect("the end is reported");
            assert_eq!(reason.to_string(), "the ledger thread has ended");
            assert_eq!(thread.join().is_err(), panics);
            sender.send(End::Asked("SIGTERM".into())).expect("there is room");
            drop(Sentinel::new("history", &sender));
            assert_eq!(end.recv().expect("a reason").to_string(), "SIGTERM");
            assert!(end.is_empty());
        }
    }
}
