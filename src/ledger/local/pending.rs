//! The next commit: its changes, and the keys among them. Owns the rule that a key is found as soon as its order is
//! counted; knows neither totals nor the store.

use std::collections::HashMap;

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
