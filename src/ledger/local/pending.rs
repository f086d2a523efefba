//! The next commit: its changes, and the keys among them. Owns the rule that a key is found as soon as its order is
//! counted; knows neither totals nor the store.

use std::collections::HashMap;

use crate::ledger::request::Order;
use crate::store::{Change, KeyUse};
use crate::tally::order::Key;

/// The next commit.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    /// Orders that repeat one of this commit, or that a batch of this commit repeats.
    pub(super) repeats: u64,
    keys: HashMap<Key, KeyUse>,
}

impl Pending {
    /// Adds a change and its key.
    pub(super) fn push(&mut self, change: Change) {
        if let Some((key, used)) = key_use(&change) {
            self.keys.insert(key.clone(), used);
        }
        self.changes.push(change);
    }

    /// Removes the changes from this index on, with their keys; the last one comes first.
    pub(super) fn take_back(&mut self, from: usize) -> impl Iterator<Item = Change> + use<> {
        let taken = self.changes.split_off(from);
        for (key, _) in taken.iter().filter_map(key_use) {
            self.keys.remove(key);
        }
        taken.into_iter().rev()
    }

    /// The use of a key in this commit.
    pub(super) fn find_key(&self, key: &Key) -> Option<KeyUse> {
        self.keys.get(key).copied()
    }

    /// The number of keys in this commit.
    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Forgets the changes, which are on disk now.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.keys.clear();
    }
}

fn key_use(change: &Change) -> Option<(&Key, KeyUse)> {
    match change {
        Change::Order { key: Some(key), product, amount, .. } => Some((key, KeyUse::Order(*product, *amount))),
        Change::BatchKey { key, digest, .. } => Some((key, KeyUse::Batch(*digest))),
        _ => None,
    }
}

/// The digest of a batch, with which a repeat under the same key is recognized: FNV-1a over products, amounts and keys.
/// It is stored on disk, so it must stay the same in every version; the standard library's hashers do not promise that.
pub(super) fn digest(orders: &[Order]) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = OFFSET;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for Order { product, amount, key } in orders {
        take(&product.0.to_le_bytes());
        take(&amount.get().to_le_bytes());
        // No key holds a line feed.
        take(key.as_ref().map_or("", Key::as_str).as_bytes());
        take(b"\n");
    }
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::ProductIndex;
    use crate::tally::order::Amount;

    /// FNV-1a, computed by another program. A file keeps digests, so they are the same for ever.
    #[test]
    fn the_digest_of_a_batch_depends_on_every_product_amount_and_key_and_never_changes() {
        let order = |product, amount, key| Order {
            product: ProductIndex(product),
            amount: Amount::new(amount).unwrap(),
            key: Key::new(key),
        };
        assert_eq!(digest(&[order(0, 1, ""), order(258, -2, "k")]), 5_412_283_417_534_817_387);
    }
}
