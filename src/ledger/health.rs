//! Whether orders can be taken, readable by every thread at any time. Owns the limit at which a commit counts as
//! hanging.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::store::StoreError;

/// A commit that takes longer counts as hanging: 5 s, a hundred times what a slow disk needs.
pub(super) const HANGING_AFTER: Duration = Duration::from_secs(5);

/// Whether orders can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Orders are taken.
    Ready,
    /// The last commit failed; the next one is tried.
    Failing {
        /// Whether no space was left.
        full: bool,
    },
    /// A commit has not returned.
    Hanging,
}

/// The state of the last commit.
#[derive(Debug, Default)]
pub struct Health {
    failing: AtomicBool,
    full: AtomicBool,
    /// When the running commit began, by [`now_ms`]; 0 while none runs.
    begun_ms: AtomicU64,
}

impl Health {
    /// A commit begins.
    pub(super) fn begin(&self) {
        self.begun_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// The commit has ended. Returns whether the one before had failed.
    pub(super) fn end(&self, result: &Result<(), StoreError>) -> bool {
        self.begun_ms.store(0, Ordering::Relaxed);
        self.full.store(matches!(result, Err(StoreError::Full(_))), Ordering::Relaxed);
        self.failing.swap(result.is_err(), Ordering::Relaxed)
    }

    /// Whether orders can be taken now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let begun_ms = self.begun_ms.load(Ordering::Relaxed);
        if begun_ms != 0 && now_ms().saturating_sub(begun_ms) >= HANGING_AFTER.as_millis() as u64 {
            Readiness::Hanging
        } else if self.failing.load(Ordering::Relaxed) {
            Readiness::Failing { full: self.full.load(Ordering::Relaxed) }
        } else {
            Readiness::Ready
        }
    }
}

/// Milliseconds on a monotonic clock, from 1 on.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64 + 1
}
