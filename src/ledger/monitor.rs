//! Watches the calls of the store, for the ledger and its engine. Owns what is noted of a call that fails or takes long,
//! and when the store is asked without an order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::failure_log::FailureLog;
use super::health::{HANGING_AFTER, Health};
use super::rejection::Rejection;
use super::reply::Outcome;
use crate::log::Throttle;
use crate::store::{Rest, StoreError};

/// How often a store that fails is tried without an order: twice a second.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How long after the last commit the store is put in order: 1 s.
pub(super) const REST_AFTER: Duration = Duration::from_secs(1);
/// How often the store is inspected while no orders come: every 30 s.
const INSPECT_EVERY: Duration = Duration::from_secs(30);

/// Watches the calls of the store. Errors become rejections here, and are logged.
pub struct Monitor {
    pub(super) health: Arc<Health>,
    counters: Arc<Counters>,
    /// When the store is put in order; `None` when it is.
    rest_at: Option<Instant>,
    /// When the store was last inspected.
    inspected: Instant,
    /// When a commit or a probe was last tried.
    tried: Instant,
    failures: FailureLog,
    hang_throttle: Throttle,
}

impl Monitor {
    pub(super) fn new(health: Arc<Health>, counters: Arc<Counters>) -> Self {
        let now = Instant::now();
        Self {
            health,
            counters,
            // What the last server left, or a new file's catalogue, is in the write-ahead log.
            rest_at: Some(now + REST_AFTER),
            inspected: now,
            tried: now,
            failures: FailureLog::default(),
            hang_throttle: Throttle::default(),
        }
    }

    /// When the store has to be asked if no orders come; `None` when it is not asked any more.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.health.ended().is_some() {
            return None;
        }
        Some(if self.health.is_failing() {
            // Not after the last job: jobs that are no orders come all the time.
            self.tried + PROBE_EVERY
        } else {
            self.rest_at.unwrap_or(self.inspected + INSPECT_EVERY)
        })
    }

    /// Has the store write and sync changes.
    ///
    /// # Errors
    /// As the store's, which begins a failure; a success ends it.
    pub fn commit<T>(&mut self, commit: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Rejection> {
        let result = self.write(commit);
        if result.is_ok() {
            self.counters.committed(self.tried.elapsed());
        }
        result
    }

    /// Notes how long the sync of the last commit took, if that is known.
    pub fn synced(&self, time: Option<Duration>) {
        if let Some(time) = time {
            self.counters.synced(time);
        }
    }

    /// Has the store write and sync something that changes nothing.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn probe(&mut self, probe: impl FnOnce() -> Result<(), StoreError>) -> Outcome {
        self.write(probe)
    }

    fn write<T>(&mut self, write: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Rejection> {
        self.tried = Instant::now();
        let result = self.ask(write);
        self.counters.tried(result.is_ok());
        self.rest_at = Some(Instant::now() + REST_AFTER);
        if result.is_ok() && self.health.recover() {
            self.failures.end();
        }
        result
    }

    /// Has the store inspected. That it succeeds does not end a failure: it writes nothing, so the disk may be full still.
    ///
    /// # Errors
    /// As the store's, which begins a failure.
    pub fn inspect(&mut self, inspect: impl FnOnce() -> Result<(), StoreError>) -> Outcome {
        self.inspected = Instant::now();
        self.ask(inspect)
    }

    fn ask<T>(&mut self, ask: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Rejection> {
        if let Some(reason) = self.health.ended() {
            return Err(reason.clone());
        }
        self.call(ask).map_err(|error| self.failed(&error))
    }

    /// Looks something up in the store.
    ///
    /// # Errors
    /// As the store's, which begins a failure.
    pub fn read<T>(&mut self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Rejection> {
        self.call(read).map_err(|error| self.failed(&error))
    }

    /// Has the store put in order, if it is not.
    pub(super) fn rest(&mut self, rest: impl FnOnce() -> Rest) {
        if self.rest_at.is_some() {
            let left = self.call(rest);
            let now = Instant::now();
            self.rest_at = match left {
                Rest::Done => None,
                Rest::Unfinished => Some(now),
                Rest::Later => Some(now + REST_AFTER),
            };
        }
    }

    /// Calls the store. While that takes long, orders are rejected, since they would wait for it.
    pub(super) fn call<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = self.health.during(call);
        let time = begun.elapsed();
        if time >= HANGING_AFTER && self.hang_throttle.allows() {
            log::warn!("the store took {:.1} s to answer; orders had to wait for it", time.as_secs_f32());
        }
        result
    }

    /// Notes and logs an error of the store. After damage no order is taken any more.
    fn failed(&mut self, error: &StoreError) -> Rejection {
        let rejection = Rejection::from(error);
        let was_failing = self.health.fail(rejection.clone());
        if matches!(error, StoreError::Damaged(_)) {
            self.health.end_orders(rejection.clone());
        }
        self.failures.log(&format!("{error:#}"), was_failing);
        rejection
    }
}
