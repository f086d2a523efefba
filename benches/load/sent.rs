//! The orders posted in a run: written by the posters, read by the subscribers, which check totals against them.
//!
//! Each poster has a product of its own and orders one piece at a time. So the product's n-th order of a run raises its
//! total to `base + n`, and a total tells when its order was sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// The orders of one run. Times are nanoseconds since `epoch`, never zero.
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
    /// Takes up to `capacity` orders of each of the first `posters` products; `bases` are the totals of all products
    /// before the run.
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

    /// Orders sent from `time` on count; earlier ones are warm-up.
    pub fn measure_from(&self, time: u64) {
        self.measure_from.store(time, Ordering::Relaxed);
    }

    /// Whether an order sent at `time` counts.
    pub fn counts(&self, time: u64) -> bool {
        time >= self.measure_from.load(Ordering::Relaxed)
    }

    /// The number of products.
    pub fn products(&self) -> usize {
        self.products.len()
    }

    /// The total after the product's next order; `None` when the capacity is used up.
    pub fn next_total(&self, product: usize) -> Option<u64> {
        let product = &self.products[product];
        let accepted = product.accepted.load(Ordering::Relaxed);
        (accepted < product.times.len() as u64).then_some(product.base + accepted + 1)
    }

    /// Records that the product's next order is sent at `now`.
    pub fn sending(&self, product: usize, now: u64) {
        let product = &self.products[product];
        let accepted = product.accepted.load(Ordering::Relaxed);
        product.times[accepted as usize].store(now, Ordering::Release);
    }

    /// Records at `now` that the product's last order has been accepted.
    pub fn accepted(&self, product: usize, now: u64) {
        self.products[product].accepted.fetch_add(1, Ordering::Release);
        self.last_answer.store(now, Ordering::Release);
    }

    /// Records that all orders are sent and answered.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// The time of the last answer, once all orders are answered.
    pub fn finished_at(&self) -> Option<u64> {
        self.done.load(Ordering::Acquire).then(|| self.last_answer.load(Ordering::Acquire))
    }

    /// The number of orders of this run in a total; `None` for a total below the base.
    pub fn orders_in(&self, product: usize, total: u64) -> Option<u64> {
        total.checked_sub(self.products.get(product)?.base)
    }

    /// When the product's n-th order was sent; `None` when there has been no such order.
    pub fn sent_at(&self, product: usize, n: u64) -> Option<u64> {
        let slot = self.products[product].times.get((n as usize).checked_sub(1)?)?;
        Some(slot.load(Ordering::Acquire)).filter(|time| *time != 0)
    }

    /// The number of accepted orders of the product.
    pub fn accepted_orders(&self, product: usize) -> u64 {
        self.products[product].accepted.load(Ordering::Acquire)
    }

    /// The total of every product after the orders accepted so far.
    pub fn totals(&self) -> Vec<u64> {
        let total = |product: &Product| product.base + product.accepted.load(Ordering::Acquire);
        self.products.iter().map(total).collect()
    }
}
