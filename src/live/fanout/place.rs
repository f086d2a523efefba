//! What the fan-out keeps of each subscriber: where it is listed, and what it has been sent.

use std::num::NonZero;
use std::sync::Arc;

use crate::live::subscriber::Subscriber;

/// A snapshot that a subscriber has been sent in part: first each product once, then the latest total of each that has
/// changed since.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// For each part that was sent: the index of the product behind it, and the number of the last publication before
    /// it.
    parts: Vec<(usize, u64)>,
    /// The number of the first publication whose total may be missing in the parts.
    pub(super) changed_from: u64,
}

impl Snapshot {
    /// The index of the product behind all parts.
    pub(super) fn next(&self) -> usize {
        self.parts.last().map_or(0, |(end, _)| *end)
    }

    /// Notes that the products before `end` have been sent, as they are after publication `number`.
    pub(super) fn push(&mut self, end: usize, number: u64) {
        match self.parts.last_mut() {
            Some((last, before)) if *before == number => *last = end,
            _ => self.parts.push((end, number)),
        }
    }

    /// Whether the change with this number of the product at this index came after its part.
    pub(super) fn lacks(&self, index: usize, number: u64) -> bool {
        let part = self.parts.partition_point(|(end, _)| *end <= index);
        number >= self.changed_from && self.parts.get(part).is_some_and(|(_, before)| number > *before)
    }
}

/// Whether a subscriber is owed the status, or news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It has not asked for it.
    Unwanted,
    /// It was told.
    Told,
    /// It must be told.
    Owed,
}

/// Where a subscriber is listed, and what it is owed beside totals. There is one for each, so it is small.
#[derive(Debug)]
pub(super) struct Place {
    /// The index of its group.
    pub(super) group: u32,
    /// Its index in the group.
    pub(super) index: u32,
    /// The sequence number from which a page of the log is on its way.
    pub(super) page_from: Option<NonZero<u64>>,
    /// The snapshot that it has been sent in part.
    pub(super) snapshot: Option<Box<Snapshot>>,
    /// The number of the last change of the catalogue of which it was told; the highest, if it wants none.
    pub(super) catalog_told: u64,
    /// Whether it is owed the status.
    pub(super) status: Status,
    /// Whether it is owed the number of the last news.
    pub(super) news: Status,
}

// So that it does not grow unnoticed.
const _: () = assert!(size_of::<Place>() <= 40);

impl Place {
    /// The index of its group.
    pub(super) fn group(&self) -> usize {
        self.group as usize
    }
}

/// The key of a listed subscriber. Its list holds the subscriber, so no other one has the same address.
pub(super) fn address(subscriber: &Arc<Subscriber>) -> usize {
    Arc::as_ptr(subscriber).addr()
}
