//! What happened to connections and how requests were answered. Written by the threads that accept, read and answer.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::tally::metric::{Counter, Gauge};

/// The statuses that are counted by themselves: every one that this server sends. Any other is counted as the last one, 0.
const STATUSES: [u16; 26] = [
    200, 101, 201, 304, 400, 401, 403, 404, 405, 408, 409, 410, 411, 413, 415, 417, 421, 422, 426, 431, 500, 501, 503,
    505, 507, 0,
];

/// Answers, by status.
// A cache line and its neighbour, which some processors load with it: the ledger thread's counts are not slowed down by
// those of other threads.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Answers([Counter; STATUSES.len()]);

impl Answers {
    fn add(&self, status: u16) {
        let index = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        self.0[index].add(1);
    }
}

/// The status with which a connection is rejected when too many are open (RFC 9110, section 15.6.4).
pub const REJECTED: u16 = 503;
/// Errors of clients and servers begin here (RFC 9110, sections 15.5 and 15.6).
const FIRST_ERROR: u16 = 400;

/// Holds an item once there was an error that nobody has been told of.
#[derive(Debug)]
struct Noted(Sender<()>, Receiver<()>);

impl Default for Noted {
    fn default() -> Self {
        let (sender, receiver) = bounded(1);
        Self(sender, receiver)
    }
}

/// What happened to connections, and the answers to their requests.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were admitted.
    pub accepted: Counter,
    /// Connections that are open.
    pub open: Gauge,
    /// Connections that were rejected because as many were open as the server may have.
    pub rejected_by_server: Counter,
    /// Connections that were rejected because as many were open as one address may have.
    pub rejected_by_address: Counter,
    /// Pauses of accepting, because the system had no descriptor, memory or thread left.
    pub pauses: Counter,
    /// Written by the connections' threads.
    own: Answers,
    /// Written by the ledger thread, and by a thread whose request the ledger takes no more.
    deferred: Answers,
    noted: Noted,
}

impl Counters {
    /// An answer that the connection's own thread writes.
    pub fn answered(&self, status: u16) {
        self.own.add(status);
        self.note(status);
    }

    /// An answer that another thread writes.
    pub(super) fn answered_deferred(&self, status: u16) {
        self.deferred.add(status);
        self.note(status);
    }

    /// A connection that is rejected, which one of these counters counts.
    pub fn rejected(&self, by: &Counter) {
        by.add(1);
        self.note(REJECTED);
    }

    fn note(&self, status: u16) {
        if status >= FIRST_ERROR {
            // A full channel says so already.
            let _ = self.noted.0.try_send(());
        }
    }

    /// Gets an item when there are errors since it was emptied.
    #[must_use]
    pub fn noted_errors(&self) -> &Receiver<()> {
        &self.noted.1
    }

    /// The number of answers of each error status, in ascending order, with those to rejected connections.
    pub fn errors(&self) -> impl Iterator<Item = (u16, u64)> {
        let rejected = self.rejected_by_server.get() + self.rejected_by_address.get();
        let errors = self.answers().filter(|(status, _)| *status >= FIRST_ERROR);
        errors.map(move |(status, count)| (status, if status == REJECTED { count + rejected } else { count }))
    }

    /// The number of answers of each status; the status 0 stands for all that are not expected.
    pub fn answers(&self) -> impl Iterator<Item = (u16, u64)> {
        let both = self.own.0.iter().zip(&self.deferred.0);
        STATUSES.into_iter().zip(both.map(|(own, deferred)| own.get() + deferred.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_status_in_whichever_thread_they_are_written() {
        let counters = Counters::default();
        counters.answered(200);
        counters.answered_deferred(200);
        counters.answered_deferred(507);
        assert!(counters.noted_errors().try_recv().is_ok() && counters.noted_errors().is_empty());
        counters.answered(299);
        counters.answered(101);
        let counted: Vec<_> = counters.answers().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(200, 2), (101, 1), (507, 1), (0, 1)]);
        assert!(counters.noted_errors().is_empty());
        counters.answered(503);
        let _ = counters.noted_errors().try_recv();
        counters.rejected(&counters.rejected_by_server);
        counters.rejected(&counters.rejected_by_address);
        assert!(!counters.noted_errors().is_empty());
        let errors: Vec<_> = counters.errors().filter(|(_, count)| *count > 0).collect();
        assert_eq!(errors, [(503, 3), (507, 1)]);
        assert!(counters.errors().is_sorted());
    }
}
