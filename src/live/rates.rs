//! The rates that all threads share. The ledger thread adds what it has committed, the history thread adds what the log
//! has from before the start, and connections read. Owns which of the two an order comes from.
//!
//! Both have sums of their own, so rates take at most 15.6 MB in the hour after a start, and 7.8 MB later.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::tally::catalog::{MAX_PRODUCTS, ProductIndex};
use crate::tally::order::Amount;
use crate::tally::rates::{MINUTES, Minute, MinuteSums, Rate, SPARE};

/// The rates of all products.
#[derive(Debug)]
pub struct Rates {
    state: Mutex<State>,
    /// The history thread has ended its reading.
    has_read: Condvar,
    /// The sequence number of the last order that comes from the log; later ones come from the ledger.
    through: u64,
}

#[derive(Debug)]
struct State {
    /// Of orders since the start.
    live: MinuteSums,
    /// Of orders before the start, once they have been read.
    earlier: MinuteSums,
    progress: Progress,
    /// The time of each product's last order.
    ordered_ms: Vec<Option<u64>>,
    /// The minute of the last order.
    newest: Minute,
}

/// How far the log has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unread,
    Reading,
    Read,
}

impl Rates {
    /// Rates for a store whose products were last ordered at these times (milliseconds since 1970, UTC), and whose last
    /// order has the number `through`.
    #[must_use]
    pub fn new(ordered_ms: Vec<Option<u64>>, through: u64) -> Arc<Self> {
        let state = State {
            live: MinuteSums::default(),
            earlier: MinuteSums::default(),
            // A new data file has no order to read, and is not opened for it.
            progress: if through == 0 { Progress::Read } else { Progress::Unread },
            ordered_ms,
            newest: Minute::default(),
        };
        Arc::new(Self { state: Mutex::new(state), has_read: Condvar::new(), through })
    }

    /// Adds committed orders: the product, the time in milliseconds since 1970 (UTC), and the amount of each. The first
    /// order of a minute also frees what products had that were not ordered for an hour.
    pub fn count(&self, orders: impl Iterator<Item = (ProductIndex, u64, Amount)>) {
        let mut state = self.lock();
        for (product, at_ms, amount) in orders {
            let minute = Minute::of(at_ms);
            if minute != state.newest {
                state.newest = minute;
                state.live.forget_idle(minute);
                state.earlier.forget_idle(minute);
            }
            state.live.add(product, minute, amount.get());
            let index = product.0 as usize;
            if index >= state.ordered_ms.len() {
                state.ordered_ms.resize(MAX_PRODUCTS.min(index + 1), None);
            }
            if let Some(ordered_ms) = state.ordered_ms.get_mut(index) {
                *ordered_ms = Some(at_ms);
            }
        }
    }

    /// The last of the 60 minutes for a clock that shows `now_ms` (milliseconds since 1970, UTC): the present one; or that
    /// of the last order, if the clock was set back a little since, so that an answered order is never missing.
    #[must_use]
    pub fn last_minute(&self, now_ms: u64) -> Minute {
        let (now, newest) = (Minute::of(now_ms), self.lock().newest);
        if newest <= now.plus(SPARE) { newest.max(now) } else { now }
    }

    /// The rate of each of these products in the 60 minutes up to `last`. The ledger thread waits meanwhile.
    #[must_use]
    pub fn read(&self, products: &[ProductIndex], last: Minute) -> Vec<Rate> {
        let state = self.lock();
        let rate = |product: &ProductIndex| {
            let mut amounts = [0; MINUTES];
            state.live.add_to(*product, last, &mut amounts);
            state.earlier.add_to(*product, last, &mut amounts);
            Rate { amounts, ordered_ms: state.ordered_ms.get(product.0 as usize).copied().flatten() }
        };
        products.iter().map(rate).collect()
    }

    /// Whether orders from before the start are in it; waits up to `deadline` for those that are being read.
    #[must_use]
    pub fn is_complete(&self, deadline: Duration) -> bool {
        let is_reading = |state: &mut State| state.progress == Progress::Reading;
        let waited = self.has_read.wait_timeout_while(self.lock(), deadline, is_reading);
        waited.unwrap_or_else(PoisonError::into_inner).0.progress == Progress::Read
    }

    /// Begins to read the log at `now_ms` (milliseconds since 1970, UTC), unless it has been read or is being read.
    #[must_use]
    pub fn begin_reading(self: &Arc<Self>, now_ms: u64) -> Option<Reading> {
        let mut state = self.lock();
        if state.progress != Progress::Unread {
            return None;
        }
        state.progress = Progress::Reading;
        // As many minutes as a ring has slots, so that none takes over the slot of another.
        let (now, before) = (Minute::of(now_ms), MINUTES as u32 - 1);
        let (first, last) = (now.minus(before), now.plus(SPARE));
        let page = Page { through: self.through, ..Page::default() };
        Some(Reading { rates: self.clone(), sums: MinuteSums::default(), first, last, page })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reading of the log, from its end backwards. Dropped before its end, the log counts as unread.
#[derive(Debug)]
pub struct Reading {
    rates: Arc<Rates>,
    sums: MinuteSums,
    /// The first and the last minute that are wanted.
    first: Minute,
    last: Minute,
    page: Page,
}

/// What is known of the page that is being read.
#[derive(Debug, Default)]
struct Page {
    /// The number of its last order.
    through: u64,
    /// The number of its orders so far, and of those that are older than what is wanted.
    orders: usize,
    old: usize,
}

impl Reading {
    /// The number of the last order of the page that comes next.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.page.through
    }

    /// Adds an order of the log: its number, product, time in milliseconds since 1970 (UTC), and amount. The newest comes
    /// first.
    pub fn add(&mut self, seq: u64, product: ProductIndex, at_ms: u64, amount: i64) {
        let minute = Minute::of(at_ms);
        self.page.through = seq.saturating_sub(1);
        self.page.orders += 1;
        if minute < self.first {
            self.page.old += 1;
        } else if minute <= self.last {
            self.sums.add(product, minute, amount);
        }
    }

    /// Ends a page of up to `most` orders. Returns whether another one is needed: unless the log has ended, or all
    /// orders of the page are too old. A few that a clock set back has made too old end nothing.
    pub fn end_page(&mut self, most: usize) -> bool {
        let Page { orders, old, .. } = self.page;
        (self.page.orders, self.page.old) = (0, 0);
        orders == most && old < orders
    }

    /// Adds what was read to the rates.
    pub fn finish(mut self) {
        let mut state = self.rates.lock();
        state.earlier = std::mem::take(&mut self.sums);
        state.progress = Progress::Read;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.rates.lock();
        if state.progress == Progress::Reading {
            state.progress = Progress::Unread;
        }
        drop(state);
        self.rates.has_read.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;
    const PRODUCT: ProductIndex = ProductIndex(0);

    fn count(rates: &Rates, at_ms: u64, amount: i64) {
        rates.count(std::iter::once((PRODUCT, at_ms, Amount::new(amount).unwrap())));
    }

    #[test]
    fn the_last_minute_is_the_present_one_or_that_of_the_last_order_after_a_clock_was_set_back_a_little() {
        let rates = Rates::new(Vec::new(), 0);
        let last = |minute: u64| rates.last_minute(minute * MINUTE_MS).start_ms() / MINUTE_MS;
        assert_eq!((last(0), last(1_000)), (0, 1_000));
        count(&rates, 1_000 * MINUTE_MS, 5);
        let spare = u64::from(SPARE);
        assert_eq!((last(1_001), last(1_000), last(999), last(1_000 - spare)), (1_001, 1_000, 1_000, 1_000));
        assert_eq!(last(1_000 - spare - 1), 1_000 - spare - 1);
        // The order is shown although its minute is in the future.
        let read = &rates.read(&[PRODUCT, ProductIndex(9)], rates.last_minute(999 * MINUTE_MS));
        assert_eq!((read[0].amounts[MINUTES - 1], read[0].ordered_ms), (5, Some(1_000 * MINUTE_MS)));
        assert_eq!((read[1].amounts, read[1].ordered_ms), ([0; MINUTES], None));
        count(&rates, u64::MAX, 1);
        assert_eq!(last(1_001), 1_001);
    }

    #[test]
    fn a_reading_that_fails_may_begin_again_and_one_that_ends_is_added_once() {
        let rates = Rates::new(vec![None], 3);
        let now = 1_000 * MINUTE_MS;
        count(&rates, now, 100);
        let failed = |mut reading: Reading| reading.add(3, PRODUCT, now, 1);
        failed(rates.begin_reading(now).unwrap());
        assert!(!rates.is_complete(Duration::ZERO));
        let mut reading = rates.begin_reading(now).unwrap();
        assert!(rates.begin_reading(now).is_none(), "it is being read");
        assert_eq!(reading.through(), 3);
        // Too new, wanted, too old.
        for (seq, minute) in [(3, 1_001 + u64::from(SPARE)), (2, 1_000), (1, 940)] {
            reading.add(seq, PRODUCT, minute * MINUTE_MS, 10);
        }
        assert!(reading.end_page(3) && !reading.end_page(3));
        assert_eq!(reading.through(), 0);
        reading.add(1, PRODUCT, 0, 10);
        assert!(!reading.end_page(1), "all orders of the page are too old");
        assert!(!rates.is_complete(Duration::ZERO));
        reading.finish();
        assert!(rates.is_complete(Duration::ZERO) && rates.begin_reading(now).is_none());
        let read = rates.read(&[PRODUCT], rates.last_minute(now));
        assert_eq!(read[0].amounts.iter().sum::<i64>(), 110);
        assert_eq!(read[0].amounts[MINUTES - 1], 110);
    }
}
