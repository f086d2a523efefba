//! Where each key may be: a table in memory from a hash of the key to its number. Owns the table's layout; the caller
//! compares the keys themselves.
//!
//! An entry has 8 bytes, and at most three of four places are in use, so that a key takes 11 to 16 bytes. Nothing is
//! removed: the numbers of keys that were deleted are no longer in use, and their places are free for others.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use crate::tally::order::Key;

/// The least number of places.
const MIN_PLACES: usize = 1_024;

/// The numbers of keys by their hashes. `live` is always the range of numbers in use.
pub struct KeyIndex {
    /// Random, so that no client can choose keys with the same hash.
    hasher: RandomState,
    /// A hash, which is never 0, in the upper half, and the lower half of the number below it; 0 where nothing is.
    places: Vec<u64>,
    /// The places that are not 0.
    used: usize,
}

impl KeyIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), places: vec![0; MIN_PLACES], used: 0 }
    }

    /// Adds the number of a key.
    pub fn insert(&mut self, key: &str, number: i64, live: &Range<i64>) {
        if 4 * (self.used + 1) > 3 * self.places.len() {
            self.rebuild(live);
        }
        let entry = u64::from(self.hash(key)) << 32 | u64::from(lower_half(number));
        self.used += usize::from(place(&mut self.places, entry, live));
    }

    /// The numbers in use of all keys with the hash of this one.
    pub fn find<'a>(&'a self, key: &Key, live: &'a Range<i64>) -> impl Iterator<Item = i64> + 'a {
        let hash = self.hash(key.as_str());
        probe(hash, self.places.len())
            .map(|at| self.places[at])
            .take_while(|entry| *entry != 0)
            .filter(move |entry| (entry >> 32) as u32 == hash)
            .filter_map(|entry| number(entry, live))
    }

    fn hash(&self, key: &str) -> u32 {
        (self.hasher.hash_one(key) as u32).max(1)
    }

    /// Leaves out the numbers that are not in use, and makes room for as many again.
    fn rebuild(&mut self, live: &Range<i64>) {
        let kept = || self.places.iter().copied().filter(|entry| *entry != 0 && number(*entry, live).is_some());
        let used = kept().count();
        let mut places = vec![0; (2 * used).max(MIN_PLACES)];
        for entry in kept() {
            place(&mut places, entry, live);
        }
        (self.places, self.used) = (places, used);
    }
}

/// Puts an entry into the first free place. Returns whether nothing was there before.
fn place(places: &mut [u64], entry: u64, live: &Range<i64>) -> bool {
    let is_free = |at: &usize| places[*at] == 0 || number(places[*at], live).is_none();
    let at = probe((entry >> 32) as u32, places.len()).find(is_free).expect("one of four places is free");
    std::mem::replace(&mut places[at], entry) == 0
}

/// The places where an entry with this hash may be, in their order.
fn probe(hash: u32, places: usize) -> impl Iterator<Item = usize> {
    // The hash as a fraction of its range.
    let first = ((u64::from(hash) * places as u64) >> 32) as usize;
    (first..places).chain(0..first)
}

fn lower_half(number: i64) -> u32 {
    number.cast_unsigned() as u32
}

/// The number of an entry; `None` if it is not in use.
fn number(entry: u64, live: &Range<i64>) -> Option<i64> {
    let above_first = (entry as u32).wrapping_sub(lower_half(live.start));
    Some(live.start + i64::from(above_first)).filter(|number| *number < live.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(index: &KeyIndex, key: &str, live: Range<i64>) -> Vec<i64> {
        index.find(&Key::new(key).unwrap(), &live).collect()
    }

    #[test]
    fn every_key_in_use_is_found_among_many_others_and_no_other_one() {
        let mut index = KeyIndex::new();
        // Behind the range of 32 bits, and across its end.
        let first = 3 * (1 << 32) - 20_000;
        for number in first..first + 100_000 {
            let live = (number - 30_000).max(first)..number + 1;
            index.insert(&format!("key-{number}"), number, &live);
        }
        let live = first + 70_000..first + 100_000;
        assert!(live.clone().all(|number| numbers(&index, &format!("key-{number}"), live.clone()).contains(&number)));
        let others =
            (first..live.start).filter(|number| !numbers(&index, &format!("key-{number}"), live.clone()).is_empty());
        // A key has the hash of one of the 30,000 by chance: one of 143,000 does.
        assert!(others.count() < 10);
        assert!(index.places.len() <= 4 * 30_000, "{}", index.places.len());
    }

    #[test]
    fn two_uses_of_a_key_are_both_found_until_the_first_is_deleted() {
        let mut index = KeyIndex::new();
        index.insert("a", 5, &(5..6));
        index.insert("a", 9, &(5..10));
        assert_eq!(numbers(&index, "a", 5..10), [5, 9]);
        assert_eq!(numbers(&index, "a", 6..10), [9]);
        assert!(numbers(&index, "b", 5..10).is_empty());
    }
}
