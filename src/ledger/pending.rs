//! One commit in the making: its changes, the keys among them, and who waits for it. Owns that a key is found as soon as
//! its order is counted; knows neither totals nor the store.

use std::collections::HashMap;

use super::reply::Reply;
use super::{Order, Outcome, Rejection};
use crate::store::{Change, KeyUse};
use crate::tally::order::Key;

/// See the module's head.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) changes: Vec<Change>,
    keys: HashMap<Key, KeyUse>,
    /// Who waits, and what each is told once the changes are on disk.
    replies: Vec<(Reply, Outcome)>,
}

impl Pending {
    /// Adds a change, and its key to those that are found.
    pub(super) fn push(&mut self, change: Change) {
        if let Some((key, used)) = key_use(&change) {
            self.keys.insert(key.clone(), used);
        }
        self.changes.push(change);
    }

    /// Takes the changes from this place on back, the last one first, with their keys.
    pub(super) fn take_back(&mut self, from: usize) -> impl Iterator<Item = Change> + use<> {
        let taken = self.changes.split_off(from);
        for (key, _) in taken.iter().filter_map(key_use) {
            self.keys.remove(key);
        }
        taken.into_iter().rev()
    }

    /// What the key is used for in this commit.
    pub(super) fn find_key(&self, key: &Key) -> Option<KeyUse> {
        self.keys.get(key).copied()
    }

    /// Lets somebody wait for this commit, whose order is counted with it.
    pub(super) fn push_counted(&mut self, mut reply: Reply) {
        reply.begin();
        self.replies.push((reply, Ok(())));
    }

    /// Lets somebody wait for this commit, whose order is refused because of what is in it, if it comes to stand.
    pub(super) fn push_refused(&mut self, reply: Reply, rejection: Rejection) {
        self.replies.push((reply, Err(rejection)));
    }

    /// The changes are on disk, and the next commit begins without them.
    pub(super) fn settle(&mut self) {
        self.changes.clear();
        self.keys.clear();
    }

    /// Answers all who have waited for the commit that ended like this.
    pub(super) fn answer(&mut self, outcome: &Outcome) {
        for (reply, due) in self.replies.drain(..) {
            reply.send(match (outcome, due) {
                (Ok(()), due) => due,
                // It was not part of the commit, so that nothing of it counts is known all the same.
                (Err(Rejection::Unknown), Err(_)) => Err(Rejection::StoreRefused),
                (Err(rejection), _) => Err(rejection.clone()),
            });
        }
    }
}

fn key_use(change: &Change) -> Option<(&Key, KeyUse)> {
    match change {
        Change::Order { key: Some(key), product, amount, .. } => Some((key, KeyUse::Order(*product, *amount))),
        Change::BatchKey { key, digest, .. } => Some((key, KeyUse::Batch(*digest))),
        Change::Order { key: None, .. } | Change::Category(_) | Change::Product(..) => None,
    }
}

/// What tells several orders from others under the same key: FNV-1a over products, amounts and keys. It is kept on disk, so
/// it must stay the same from version to version, which the standard library's hashers do not promise.
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
