//! What has been posted, shared by the posters, who write it, and the subscribers, who check against it.
//!
//! Each poster orders one of its own product at a time, so a product's n-th order since the start of a run is
//! the one that raised its total to `base + n`: that links a total to the moment its order was sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// One run's orders. Times are nanoseconds since `epoch`, never zero.
pub struct Sent {
    epoch: Instant,
    products: Vec<Product>,
    measure_from: AtomicU64,
    last_answer: AtomicU64,
    done: AtomicBool,
}

struct Product {
    base: u64,
    accepted: AtomicU64,
    times: Vec<AtomicU64>,
}

impl Sent {
    /// Room for `capacity` orders of each of the first `posters` products, whose totals are `bases` now.
    pub fn new(bases: &[u64], posters: usize, capacity: usize) -> Self {
        let product = |(index, base): (usize, &u64)| Product {
            base: *base,
            accepted: AtomicU64::new(0),
            times: (0..if index < posters { capacity } else { 0 }).map(|_| AtomicU64::new(0)).collect(),
        };
        Self {
            epoch: Instant::now(),
            products: bases.iter().enumerate().map(product).collect(),
            measure_from: AtomicU64::new(u64::MAX),
            last_answer: AtomicU64::new(0),
            done: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the run's epoch.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64 + 1
    }

    /// Lets orders sent from `time` on count.
    pub fn measure_from(&self, time: u64) {
        self.measure_from.store(time, Ordering::Relaxed);
    }

    /// Whether an order sent at `time` counts, or belongs to the warm-up.
    pub fn counts(&self, time: u64) -> bool {
        time >= self.measure_from.load(Ordering::Relaxed)
    }

    /// How many products the category has.
    pub fn products(&self) -> usize {
        self.products.len()
    }

    /// The total that the product's next order will make, or `None` when the run's capacity is used up.
    pub fn next_total(&self, product: usize) -> Option<u64> {
        let product = &self.products[product];
        let accepted = product.accepted.load(Ordering::Relaxed);
        (accepted < product.times.len() as u64).then_some(product.base + accepted + 1)
    }

    /// Notes that the product's next order leaves at `now`.
    pub fn sending(&self, product: usize, now: u64) {
        let product = &self.products[product];
        let accepted = product.accepted.load(Ordering::Relaxed);
        product.times[accepted as usize].store(now, Ordering::Release);
    }

    /// Notes that the order last sent has been accepted.
    pub fn accepted(&self, product: usize, now: u64) {
        self.products[product].accepted.fetch_add(1, Ordering::Release);
        self.last_answer.store(now, Ordering::Release);
    }

    /// Notes that no order will follow and no answer is outstanding.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// When the last answer came, once nothing more will.
    pub fn finished_at(&self) -> Option<u64> {
        self.done.load(Ordering::Acquire).then(|| self.last_answer.load(Ordering::Acquire))
    }

    /// How many orders of the run a total includes; `None` for a total below the run's base.
    pub fn orders_in(&self, product: usize, total: u64) -> Option<u64> {
        total.checked_sub(self.products.get(product)?.base)
    }

    /// When the `order`-th order of the product was sent, or `None` when it never was.
    pub fn sent_at(&self, product: usize, order: u64) -> Option<u64> {
        let slot = self.products[product].times.get((order as usize).checked_sub(1)?)?;
        Some(slot.load(Ordering::Acquire)).filter(|time| *time != 0)
    }

    /// How many orders of the product were accepted.
    pub fn accepted_orders(&self, product: usize) -> u64 {
        self.products[product].accepted.load(Ordering::Acquire)
    }

    /// Every product's total now.
    pub fn totals(&self) -> Vec<u64> {
        let total = |product: &Product| product.base + product.accepted.load(Ordering::Acquire);
        self.products.iter().map(total).collect()
    }
}
