//! Whether orders can be taken, as everybody may ask at any time. Owns what counts as hanging.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::store::StoreError;

/// A commit that takes longer counts as hanging: 5 s, a hundred times what a slow disk needs.
pub(super) const HANGS_AFTER: Duration = Duration::from_secs(5);

/// What orders can expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They are taken.
    Ready,
    /// The last commit failed: the next one is tried, and no space was left if so it says.
    Failing {
        /// Whether it was for lack of space.
        full: bool,
    },
    /// The store has not come back from a commit.
    Hangs,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Health {
    failing: AtomicBool,
    full: AtomicBool,
    /// When the commit that runs began, in milliseconds on [`now_ms`]'s clock; 0 while none runs.
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

    /// What orders can expect now.
    #[must_use]
    pub fn state(&self) -> State {
        let begun_ms = self.begun_ms.load(Ordering::Relaxed);
        if begun_ms != 0 && now_ms().saturating_sub(begun_ms) >= HANGS_AFTER.as_millis() as u64 {
            State::Hangs
        } else if self.failing.load(Ordering::Relaxed) {
            State::Failing { full: self.full.load(Ordering::Relaxed) }
        } else {
            State::Ready
        }
    }
}

/// Milliseconds on a clock that is never set, from 1 on.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64 + 1
}
