//! Whether orders can be taken, readable by every thread at any time. Owns the limit at which a call of the store counts
//! as hanging.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::counters::now_ms;
use super::rejection::Rejection;

/// A call of the store that takes longer counts as hanging: 5 s, a hundred times what a slow disk needs for a commit.
pub(super) const HANGING_AFTER: Duration = Duration::from_secs(5);

/// Whether orders can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Orders are taken.
    Ready,
    /// The store has failed, and no commit has succeeded since; the next one is tried.
    Failing(Rejection),
    /// The store has not answered.
    Hanging,
    /// The database cannot be reached.
    Away,
}

/// The state of the store.
#[derive(Debug, Default)]
pub struct Health {
    /// Why the store has failed, until a commit succeeds.
    failure: Mutex<Option<Rejection>>,
    /// Whether there is such a reason.
    is_failing: AtomicBool,
    /// Why no order is taken any more.
    end: OnceLock<Rejection>,
    /// When the store was called that has not returned yet, by [`now_ms`]; 0 while the ledger does not wait for it.
    begun_ms: AtomicU64,
    /// Whether the database cannot be reached, as another thread than the ledger's has found.
    is_away: AtomicBool,
}

impl Health {
    /// Calls the store.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        self.begun_ms.store(now_ms(), Ordering::Relaxed);
        let result = call();
        self.begun_ms.store(0, Ordering::Relaxed);
        result
    }

    /// Whether the ledger waits for the store.
    pub(super) fn is_in_store(&self) -> bool {
        self.begun_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether the database cannot be reached.
    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Notes whether the database can be reached.
    #[cfg(feature = "postgres")]
    pub(super) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    /// The store has failed. Returns whether it had failed before.
    pub(super) fn fail(&self, reason: Rejection) -> bool {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        self.is_failing.swap(true, Ordering::Relaxed)
    }

    /// A commit has succeeded. Returns whether the store had failed before.
    pub(super) fn recover(&self) -> bool {
        let was_failing = self.is_failing.load(Ordering::Relaxed);
        if was_failing {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.is_failing.store(false, Ordering::Relaxed);
        }
        was_failing
    }

    /// From now on no order is taken, for this reason.
    pub(super) fn end_orders(&self, reason: Rejection) {
        let _ = self.end.set(reason);
    }

    /// Why no order is taken any more.
    pub(super) fn ended(&self) -> Option<&Rejection> {
        self.end.get()
    }

    /// Whether a call of the store has not returned for [`HANGING_AFTER`].
    pub(super) fn is_hanging(&self) -> bool {
        let begun_ms = self.begun_ms.load(Ordering::Relaxed);
        begun_ms != 0 && now_ms().saturating_sub(begun_ms) >= HANGING_AFTER.as_millis() as u64
    }

    /// Whether the store has failed, and no commit has succeeded since.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Whether orders can be taken now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if let Some(reason) = self.ended() {
            return Readiness::Failing(reason.clone());
        }
        if self.is_away() {
            return Readiness::Away;
        }
        if self.is_hanging() {
            return Readiness::Hanging;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Readiness::Ready, Readiness::Failing)
    }
}
