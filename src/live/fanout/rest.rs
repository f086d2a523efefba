//! When the thread need not be woken by each order: as long as every subscriber gets at most one message a product in an
//! interval, most of them only change what is due later. Waking it for each would cost more than what it sends.

use std::sync::atomic::Ordering;

use super::Fanout;

/// How long it is not woken by orders once it has taken some: 5 ms, a tenth of the shortest interval. Orders that come
/// after longer than that wake it at once.
const REST: u64 = 5_000;

impl Fanout {
    /// Begins a rest if this thread has just taken orders, and ends one that is over, or no longer right.
    pub(super) fn rest(&mut self, has_taken: bool) {
        let is_paced = !self.paced.is_empty() && self.paced.len() + self.vacant.len() == self.groups.len();
        if !is_paced && self.rests_until.is_none() {
            return;
        }
        let now = self.now();
        if is_paced && has_taken {
            self.rests_until = Some(now + REST);
            self.thread().wanted.store(false, Ordering::Release);
        } else if !is_paced || self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = None;
            self.thread().wanted.store(!self.places.is_empty(), Ordering::Release);
            // Publications from before the store have not been announced.
            self.relay(false);
        }
    }
}
