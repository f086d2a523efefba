//! When a group may be sent which product's total, if it gets at most one a product in an interval. Pure rules; times are
//! microseconds since a moment that the caller chooses, and never go back.
//!
//! A total that changes is sent at once, unless an earlier one of its product was sent less than an interval ago. Then
//! it waits until the interval is over. The totals of many products would be sent at as many different times, and each
//! time costs a send to every subscriber. So a total may wait for the next common moment, of which each interval has one,
//! but never longer than an interval after its change: that keeps both promises, and the products of a busy feed soon
//! leave together.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::subscription::Interval;

/// What part of an interval a message may be late and still count as sent when it was due: a twentieth. Otherwise each
/// message would delay the next, and leave the common moment.
const LATE: u64 = 20;

#[derive(Debug, Clone, Copy, Default)]
struct Product {
    /// When the interval after its last message is over.
    rests_until: u64,
    /// The sequence number of the first change that was not sent, 0 if there is none.
    unsent: u64,
}

/// What a group is owed of each product.
#[derive(Debug)]
pub struct Pace {
    interval: u64,
    /// By the number of the product in its feed.
    products: Vec<Product>,
    /// Each product that waits: when its total is due, its number, and its index in the catalogue.
    due: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// The first unsent change of each product that waits, by sequence number, and its number. Some have been sent
    /// since. There are at most two for each product: those before the oldest that waits are removed.
    unsent: VecDeque<(u64, u32)>,
}

impl Pace {
    /// Nothing was sent yet.
    pub fn new(every: Interval) -> Self {
        let interval = every.duration().as_micros() as u64;
        Self { interval, products: Vec::new(), due: BinaryHeap::new(), unsent: VecDeque::new() }
    }

    /// Notes that the total of a product changes, with the order of this sequence number. `number` is the product's in
    /// its feed, `index` the one in the catalogue.
    pub fn note(&mut self, number: u32, index: u32, seq: u64, now: u64) {
        if number as usize >= self.products.len() {
            self.products.resize(number as usize + 1, Product::default());
        }
        let product = &mut self.products[number as usize];
        if product.unsent > 0 {
            return;
        }
        product.unsent = seq;
        let due = if product.rests_until <= now {
            now
        } else {
            product.rests_until.next_multiple_of(self.interval).min(now + self.interval)
        };
        self.due.push(Reverse((due, number, index)));
        self.unsent.push_back((seq, number));
    }

    /// The index of the next product whose total has to be sent now.
    pub fn next(&mut self, now: u64) -> Option<usize> {
        let Reverse((due, number, index)) = *self.due.peek()?;
        if due > now {
            return None;
        }
        self.due.pop();
        let sent = if now - due <= self.interval / LATE { due } else { now };
        self.products[number as usize] = Product { rests_until: sent + self.interval, unsent: 0 };
        while let Some((seq, number)) = self.unsent.front()
            && self.products[*number as usize].unsent != *seq
        {
            self.unsent.pop_front();
        }
        Some(index as usize)
    }

    /// When [`Self::next`] has something to send.
    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due, ..))| *due)
    }

    /// Whether a change of the product with this number in its feed waits.
    pub fn is_waiting(&self, number: u32) -> bool {
        self.products.get(number as usize).is_some_and(|product| product.unsent > 0)
    }

    /// The sequence number up to which every change was sent, when `last_seq` is the last.
    pub fn sent_up_to(&self, last_seq: u64) -> u64 {
        self.unsent.front().map_or(last_seq, |(seq, _)| seq - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn pace(ms: u32) -> Pace {
        Pace::new(Interval::from_ms(ms).unwrap())
    }

    fn sent(pace: &mut Pace, now: u64) -> Vec<usize> {
        std::iter::from_fn(|| pace.next(now)).collect()
    }

    #[test]
    fn the_first_change_is_sent_at_once_and_the_last_of_a_burst_after_the_interval() {
        let mut pace = pace(100);
        pace.note(0, 7, 1, 10 * MS);
        assert_eq!(sent(&mut pace, 10 * MS), [7]);
        assert_eq!(pace.next_due(), None);
        pace.note(0, 7, 2, 11 * MS);
        pace.note(0, 7, 3, 12 * MS);
        // The end of the interval; the next common moment would be more than an interval after the first change.
        assert_eq!(pace.next_due(), Some(111 * MS));
        assert_eq!((sent(&mut pace, 111 * MS - 1), pace.is_waiting(0)), (vec![], true));
        assert_eq!((sent(&mut pace, 111 * MS), pace.is_waiting(0)), (vec![7], false));
        assert_eq!(pace.next_due(), None);
        // After a rest the next one is sent at once again.
        pace.note(0, 7, 4, 211 * MS);
        assert_eq!(sent(&mut pace, 211 * MS), [7]);
    }

    #[test]
    fn products_do_not_wait_for_each_other_and_then_share_a_moment() {
        let mut pace = pace(100);
        pace.note(0, 0, 1, 3 * MS);
        assert_eq!(sent(&mut pace, 3 * MS), [0]);
        pace.note(1, 1, 2, 9 * MS);
        assert_eq!(sent(&mut pace, 9 * MS), [1]);
        // Not at 200 ms, more than an interval after the change. Both leave together, not 6 ms after one another.
        pace.note(0, 0, 3, 40 * MS);
        pace.note(1, 1, 4, 40 * MS);
        assert_eq!(pace.next_due(), Some(140 * MS));
        assert_eq!(sent(&mut pace, 141 * MS), [0, 1]);
        // A millisecond late, which does not delay the next one. The change of product 0 may wait longer.
        pace.note(1, 1, 5, 142 * MS);
        pace.note(0, 0, 6, 230 * MS);
        assert_eq!((pace.next_due(), sent(&mut pace, 242 * MS)), (Some(242 * MS), vec![1]));
        assert_eq!((pace.next_due(), sent(&mut pace, 300 * MS)), (Some(300 * MS), vec![0]));
        pace.note(1, 1, 7, 301 * MS);
        pace.note(0, 0, 8, 302 * MS);
        // The moment that both share from now on.
        assert_eq!((pace.next_due(), sent(&mut pace, 400 * MS)), (Some(400 * MS), vec![0, 1]));
        pace.note(0, 0, 9, 401 * MS);
        pace.note(1, 1, 10, 402 * MS);
        assert_eq!((pace.next_due(), sent(&mut pace, 500 * MS)), (Some(500 * MS), vec![0, 1]));
        // Much later: the interval begins when it was sent.
        pace.note(0, 0, 11, 501 * MS);
        assert_eq!(sent(&mut pace, 650 * MS), [0]);
        pace.note(0, 0, 12, 660 * MS);
        assert_eq!(pace.next_due(), Some(760 * MS));
    }

    #[test]
    fn whatever_happens_no_product_comes_twice_in_an_interval_or_later_than_one_after_its_change() {
        const PRODUCTS: usize = 5;
        let (mut pace, interval) = (pace(100), 100 * MS);
        let mut random = 1_u64;
        let (mut sent_at, mut changed_at) = ([None::<u64>; PRODUCTS], [None::<u64>; PRODUCTS]);
        let (mut now, mut messages) = (0, 0);
        for seq in 1..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let next = now + (random >> 33) % (20 * MS);
            // As the thread does: it wakes when something is due.
            while let Some(due) = pace.next_due().filter(|due| *due <= next) {
                now = due;
                for product in sent(&mut pace, now) {
                    assert!(sent_at[product].is_none_or(|before| now - before >= interval));
                    assert!(changed_at[product].take().is_some_and(|changed| now - changed <= interval));
                    sent_at[product] = Some(now);
                    messages += 1;
                }
            }
            now = next;
            let product = (random >> 20) as usize % PRODUCTS;
            pace.note(product as u32, product as u32, seq, now);
            changed_at[product].get_or_insert(now);
            assert!(pace.unsent.len() <= 2 * PRODUCTS);
        }
        assert!(messages > 1_000, "{messages}");
    }

    #[test]
    fn a_position_covers_only_changes_of_which_nothing_waits() {
        let mut pace = pace(100);
        assert_eq!(pace.sent_up_to(40), 40);
        for (number, seq) in [(0, 41), (1, 42)] {
            pace.note(number, number, seq, 0);
        }
        assert_eq!((pace.next(0), pace.sent_up_to(42)), (Some(0), 41));
        assert_eq!((pace.next(0), pace.sent_up_to(42)), (Some(1), 42));
        // Product 1 waits since order 43; product 0 changed later.
        for (number, seq) in [(1, 43), (0, 44), (1, 45), (2, 46)] {
            pace.note(number, number, seq, 10 * MS);
        }
        assert_eq!((pace.next(10 * MS), pace.sent_up_to(46)), (Some(2), 42));
        assert_eq!((pace.next(100 * MS), pace.sent_up_to(46)), (Some(0), 42));
        assert_eq!((pace.next(100 * MS), pace.sent_up_to(46)), (Some(1), 46));
    }
}
