//! Rates: for each product the sum of its amounts in each of the last 60 UTC minutes. Knows neither clocks nor locks.
//!
//! A product that had an order in the last hour has a ring of 64 sums, 776 bytes; every other one has a pointer.
//! [`MAX_PRODUCTS`] rings take 7.8 MB.

use super::catalog::{MAX_PRODUCTS, ProductIndex};

/// The minutes of a rate.
pub const MINUTES: usize = 60;
/// The minutes that a ring holds: a power of two, so that a slot is found without a division.
const SLOTS: usize = 64;
/// The minutes by which a clock may be set back without a minute of the last hour being lost.
pub const SPARE: u32 = (SLOTS - MINUTES) as u32;
/// Milliseconds of a minute.
const MINUTE_MS: u64 = 60_000;

/// A UTC minute: the number of minutes since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Minute(u32);

impl Minute {
    /// The minute of a time in milliseconds since 1970 (UTC). Times after the year 10,000 are of the last minute.
    #[must_use]
    pub fn of(at_ms: u64) -> Self {
        Self(u32::try_from(at_ms / MINUTE_MS).unwrap_or(u32::MAX))
    }

    /// When it begins, in milliseconds since 1970 (UTC).
    #[must_use]
    pub fn start_ms(self) -> u64 {
        u64::from(self.0) * MINUTE_MS
    }

    /// The minute that is so many earlier, or the first one.
    #[must_use]
    pub fn minus(self, minutes: u32) -> Self {
        Self(self.0.saturating_sub(minutes))
    }

    /// The minute that is so many later, or the last one.
    #[must_use]
    pub fn plus(self, minutes: u32) -> Self {
        Self(self.0.saturating_add(minutes))
    }

    fn slot(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// The rate of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// The sum of its amounts in each minute, the newest last.
    pub amounts: [i64; MINUTES],
    /// The time of its last order, in milliseconds since 1970 (UTC).
    pub ordered_ms: Option<u64>,
}

/// The sums of one product. A slot belongs to one minute at a time.
#[derive(Debug, Clone)]
struct Ring {
    sums: [i64; SLOTS],
    minutes: [Minute; SLOTS],
    /// The minute of the amount that was added last.
    newest: Minute,
}

impl Ring {
    fn new() -> Box<Self> {
        Box::new(Self { sums: [0; SLOTS], minutes: [Minute(0); SLOTS], newest: Minute(0) })
    }
}

/// The sums of all products.
#[derive(Debug, Clone, Default)]
pub struct MinuteSums(Vec<Option<Box<Ring>>>);

impl MinuteSums {
    /// Adds an amount to a product's sum of this minute. A slot of another minute is taken over.
    pub fn add(&mut self, ProductIndex(product): ProductIndex, minute: Minute, amount: i64) {
        let (Self(rings), product, slot) = (self, product as usize, minute.slot());
        if product >= rings.len() {
            // An index that no catalogue has comes from a damaged row of the log.
            if product >= MAX_PRODUCTS {
                return;
            }
            rings.resize_with(product + 1, || None);
        }
        let ring = rings[product].get_or_insert_with(Ring::new);
        ring.newest = minute;
        if ring.minutes[slot] == minute {
            // The amounts of one minute add up to the difference of two totals, so only a clock that is set back again
            // and again could reach the end of the range.
            ring.sums[slot] = ring.sums[slot].saturating_add(amount);
        } else {
            (ring.minutes[slot], ring.sums[slot]) = (minute, amount);
        }
    }

    /// Frees the rings of products without an order in the 64 minutes up to this one.
    pub fn forget_idle(&mut self, now: Minute) {
        for ring in &mut self.0 {
            if ring.as_ref().is_some_and(|ring| ring.newest.plus(SLOTS as u32) <= now) {
                *ring = None;
            }
        }
    }

    /// Adds a product's sums of the [`MINUTES`] minutes up to `last` to `amounts`, the newest last.
    pub fn add_to(&self, ProductIndex(product): ProductIndex, last: Minute, amounts: &mut [i64; MINUTES]) {
        let Some(Some(ring)) = self.0.get(product as usize) else { return };
        for (back, amount) in amounts.iter_mut().rev().enumerate() {
            let Some(minute) = last.0.checked_sub(back as u32).map(Minute) else { return };
            if ring.minutes[minute.slot()] == minute {
                *amount = amount.saturating_add(ring.sums[minute.slot()]);
            }
        }
    }

    /// The number of products with a ring.
    #[cfg(test)]
    fn rings(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: ProductIndex = ProductIndex(3);

    fn amounts(sums: &MinuteSums, last: u32) -> [i64; MINUTES] {
        let mut amounts = [0; MINUTES];
        sums.add_to(PRODUCT, Minute(last), &mut amounts);
        amounts
    }

    /// The amounts of the minutes that have any, by how far they are back.
    fn told(sums: &MinuteSums, last: u32) -> Vec<(usize, i64)> {
        let amounts = amounts(sums, last);
        (0..MINUTES).map(|back| (back, amounts[MINUTES - 1 - back])).filter(|(_, amount)| *amount != 0).collect()
    }

    fn with(orders: &[(u32, i64)]) -> MinuteSums {
        let mut sums = MinuteSums::default();
        for (minute, amount) in orders {
            sums.add(PRODUCT, Minute(*minute), *amount);
        }
        sums
    }

    #[test]
    fn a_minute_has_the_sum_of_its_amounts_for_an_hour() {
        let sums = with(&[(1_000, 5), (1_000, -2), (1_001, 7), (1_059, 1)]);
        assert_eq!(told(&sums, 1_059), [(0, 1), (58, 7), (59, 3)]);
        assert_eq!(told(&sums, 1_060), [(1, 1), (59, 7)]);
        assert_eq!(told(&sums, 1_118), [(59, 1)]);
        assert_eq!((told(&sums, 1_119), told(&sums, 999)), (vec![], vec![]));
        assert_eq!(told(&MinuteSums::default(), 1_000), []);
        // The second hour takes over the slots of the first.
        let sums = with(&[(1_000, 5), (1_001, 9), (1_064, 7)]);
        assert_eq!(told(&sums, 1_064), [(0, 7)]);
        assert_eq!(told(&sums, 1_060), [(59, 9)]);
    }

    #[test]
    fn a_clock_that_is_set_back_by_four_minutes_loses_no_minute_of_the_hour() {
        let sums = with(&[(1_000, 5), (1_059 + SPARE, 1), (1_059, 2)]);
        assert_eq!(told(&sums, 1_059), [(0, 2), (59, 5)]);
        assert_eq!(told(&sums, 1_059 + SPARE), [(0, 1), (SPARE as usize, 2)]);
        let sums = with(&[(1_000, 5), (1_060 + SPARE, 1), (1_059, 2)]);
        assert_eq!(told(&sums, 1_059), [(0, 2)]);
    }

    #[test]
    fn a_clock_that_jumps_far_counts_on_where_it_is() {
        let sums = with(&[(1_000, 5), (9_000_005, 1), (u32::MAX, 2), (0, 3), (1_001, 7)]);
        assert_eq!(told(&sums, 1_001), [(0, 7), (1, 5)]);
        assert_eq!(told(&sums, 9_000_005), [(0, 1)]);
        assert_eq!(told(&sums, 0), [(0, 3)]);
        assert_eq!(told(&sums, u32::MAX), [(0, 2)]);
        assert_eq!(
            (Minute::of(u64::MAX), Minute::of(59_999), Minute::of(60_000)),
            (Minute(u32::MAX), Minute(0), Minute(1))
        );
        assert_eq!(told(&with(&[(5, i64::MAX), (5, 1)]), 5), [(0, i64::MAX)]);
    }

    #[test]
    fn only_products_with_an_order_in_the_last_hour_have_sums() {
        let mut sums = with(&[(1_000, 5)]);
        sums.add(ProductIndex(MAX_PRODUCTS as u32 - 1), Minute(1_004), 1);
        sums.add(ProductIndex(MAX_PRODUCTS as u32), Minute(1_004), 1);
        sums.add(ProductIndex(u32::MAX), Minute(1_004), 1);
        assert_eq!((sums.rings(), sums.0.len()), (2, MAX_PRODUCTS));
        sums.forget_idle(Minute(1_063));
        assert_eq!(sums.rings(), 2);
        sums.forget_idle(Minute(1_064));
        assert_eq!(sums.rings(), 1);
        sums.forget_idle(Minute(7));
        assert_eq!(sums.rings(), 1);
        sums.forget_idle(Minute(u32::MAX));
        assert_eq!(sums.rings(), 0);
        assert!(size_of::<Ring>() <= 776);
    }
}
