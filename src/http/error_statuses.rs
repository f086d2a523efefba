//! Answers with an error status, counted by status, so that one log line a minute can sum them up. Keeps nothing of
//! what clients sent.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// The first status that is counted, and the first beyond: client and server errors (RFC 9110, sections 15.5 and 15.6).
const STATUSES: std::ops::Range<u16> = 400..600;
const COUNTS: usize = (STATUSES.end - STATUSES.start) as usize;

/// Counts of answers by status.
#[derive(Debug)]
pub struct ErrorStatuses {
    counts: [AtomicU64; COUNTS],
    /// Holds an item while there is a count that nobody has been told of.
    noted: (Sender<()>, Receiver<()>),
}

impl Default for ErrorStatuses {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; COUNTS], noted: bounded(1) }
    }
}

impl ErrorStatuses {
    /// Counts an answer, if its status is an error.
    pub fn add(&self, status: u16) {
        if STATUSES.contains(&status) {
            self.counts[usize::from(status - STATUSES.start)].fetch_add(1, Ordering::Relaxed);
            // A full channel says so already.
            let _ = self.noted.0.try_send(());
        }
    }

    /// Gets an item when there is something to sum up.
    #[must_use]
    pub fn noted(&self) -> &Receiver<()> {
        &self.noted.1
    }

    /// Takes the counts, such as `401 ×12, 429 ×3`; `None` when there are none.
    #[must_use]
    pub fn take(&self) -> Option<String> {
        let mut text = String::new();
        for (status, count) in STATUSES.zip(&self.counts) {
            match count.swap(0, Ordering::Relaxed) {
                0 => {}
                count => {
                    let comma = if text.is_empty() { "" } else { ", " };
                    let _ = write!(text, "{comma}{status} ×{count}");
                }
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_status_until_they_are_taken() {
        let errors = ErrorStatuses::default();
        for status in [200, 101, 304, 399, 600, 0, u16::MAX] {
            errors.add(status);
        }
        assert!(errors.noted().is_empty());
        assert_eq!(errors.take(), None);
        for status in [429, 401, 401, 599, 400] {
            errors.add(status);
        }
        assert_eq!(errors.noted().try_iter().count(), 1);
        assert_eq!(errors.take().as_deref(), Some("400 ×1, 401 ×2, 429 ×1, 599 ×1"));
        assert_eq!(errors.take(), None);
    }
}
