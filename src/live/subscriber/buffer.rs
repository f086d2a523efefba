//! What is sent to subscribers: bytes that are ready for the wire.

/// Ready-made bytes for the wire, shared by all subscribers that get them.
#[derive(Debug)]
pub struct Buffer {
    /// Whole frames or events, in the subscriber's format.
    pub bytes: Vec<u8>,
    /// How many totals they carry.
    pub totals: u64,
    /// How many more totals were left out, because a later one of the same product is among them.
    pub merged: u64,
    /// The number of the first publication in it, which a subscriber that has no room for it is caught up from; 0 for
    /// a snapshot. What is counted is up to whoever makes buffers.
    pub first: u64,
}

/// Stands in [`Buffer::first`] of last words, after which nothing is sent. No publication has this number.
pub(super) const LAST_WORDS: u64 = u64::MAX;
impl Buffer {
    /// Bytes without totals: a session's own words.
    #[must_use]
    pub fn words(bytes: Vec<u8>) -> Self {
        Self { bytes, totals: 0, merged: 0, first: 0 }
    }

    /// Bytes after which nothing is sent: a close frame.
    pub(super) fn last_words(bytes: Vec<u8>) -> Self {
        Self { first: LAST_WORDS, ..Self::words(bytes) }
    }
}
