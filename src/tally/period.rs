//! Accounting periods: between two closes, what tills call X and Z reports.

/// The current period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its number, from 1.
    pub number: u64,
    /// When it was opened, in milliseconds since 1970 (UTC).
    pub opened_ms: u64,
    /// The sequence number of the last entry of the order log before it.
    pub opened_after: u64,
}

impl Default for Period {
    fn default() -> Self {
        Self { number: 1, opened_ms: 0, opened_after: 0 }
    }
}
