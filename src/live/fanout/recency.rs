//! Which products have changed since when: a list in the order of the last change. Owns nothing but numbers; a lagging
//! subscriber is caught up from it at the cost of what it missed, however large the catalogue is.

use crate::tally::catalog::ProductIndex;

/// Marks the end of the list.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
    /// The number of the last change; 0 before the first.
    changed: u64,
}

/// Products from the least to the most recently changed.
#[derive(Debug)]
pub struct Recency {
    links: Vec<Link>,
    oldest: u32,
    newest: u32,
    /// How many changes there have been.
    count: u64,
}

impl Default for Recency {
    fn default() -> Self {
        Self { links: Vec::new(), oldest: NONE, newest: NONE, count: 0 }
    }
}

impl Recency {
    /// The number that the next change will get; the first is 1.
    pub fn next_number(&self) -> u64 {
        self.count + 1
    }

    /// Adds the product that follows the last one, unchanged: before all others, however many of them have changed.
    pub fn add(&mut self) {
        let index = self.links.len() as u32;
        self.links.push(Link { older: NONE, newer: self.oldest, changed: 0 });
        match self.links.get_mut(self.oldest as usize) {
            Some(oldest) => oldest.older = index,
            None => self.newest = index,
        }
        self.oldest = index;
    }

    /// Notes a change of the product.
    ///
    /// # Panics
    /// If the product was never added.
    pub fn touch(&mut self, ProductIndex(index): ProductIndex) {
        self.count += 1;
        let Link { older, newer, .. } = self.links[index as usize];
        if newer != NONE {
            self.links[newer as usize].older = older;
            match self.links.get_mut(older as usize) {
                Some(older) => older.newer = newer,
                None => self.oldest = newer,
            }
            self.append(index);
        }
        self.links[index as usize].changed = self.count;
    }

    /// The products whose last change has this number or a later one, in the order of those changes.
    pub fn since(&self, number: u64) -> Vec<ProductIndex> {
        let mut found = Vec::new();
        let mut index = self.newest;
        while let Some(link) = self.links.get(index as usize).filter(|link| link.changed >= number) {
            found.push(ProductIndex(index));
            index = link.older;
        }
        found.reverse();
        found
    }

    fn append(&mut self, index: u32) {
        let older = self.newest;
        self.links[older as usize].newer = index;
        let link = &mut self.links[index as usize];
        (link.older, link.newer) = (older, NONE);
        self.newest = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(recency: &Recency, number: u64) -> Vec<u32> {
        recency.since(number).into_iter().map(|index| index.0).collect()
    }

    #[test]
    fn products_come_in_the_order_of_their_last_change() {
        let mut recency = Recency::default();
        (0..4).for_each(|_| recency.add());
        for index in [2, 0, 2, 1, 1] {
            recency.touch(ProductIndex(index));
        }
        assert_eq!(recency.next_number(), 6);
        assert_eq!(since(&recency, 0), [3, 0, 2, 1]);
        assert_eq!(since(&recency, 1), [0, 2, 1]);
        assert_eq!(since(&recency, 3), [2, 1]);
        assert_eq!(since(&recency, 6), [] as [u32; 0]);
        recency.add();
        recency.add();
        assert_eq!(since(&recency, 1), [0, 2, 1]);
        recency.touch(ProductIndex(4));
        assert_eq!(since(&recency, 4), [1, 4]);
        assert_eq!(since(&recency, 0), [5, 3, 0, 2, 1, 4]);
    }

    #[test]
    fn the_list_agrees_with_a_plain_search() {
        let mut recency = Recency::default();
        (0..7).for_each(|_| recency.add());
        let mut last = [0_u64; 7];
        let mut seed = 1_u64;
        for number in 1..=500 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let index = (seed >> 33) as usize % 7;
            recency.touch(ProductIndex(index as u32));
            last[index] = number;
            let from = number.saturating_sub(seed >> 60).max(1);
            let mut expected: Vec<u32> = (0..7).filter(|index| last[*index as usize] >= from).collect();
            expected.sort_by_key(|index| last[*index as usize]);
            assert_eq!(since(&recency, from), expected);
        }
    }
}
