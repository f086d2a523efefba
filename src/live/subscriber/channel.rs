//! Where buffers wait for one subscriber. Owns how many and how much; knows neither sockets nor when it is drained.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::buffer::Buffer;
use crate::live::subscriber::sync::{AtomicUsize, Receiver, Sender, bounded};

/// Buffers that a subscriber's channel holds; few in the model, where it has to be full soon.
const CHANNEL_BUFFERS: usize = if cfg!(all(test, loom)) { 3 } else { 64 };
/// Buffers of the channel that are kept for the session's own words (pongs, answers, close), which must not be crowded
/// out by totals.
const RESERVED_BUFFERS: usize = if cfg!(all(test, loom)) { 1 } else { 8 };
/// Bytes that may wait in a subscriber's channel beside the one that is being sent: 8 KiB, some 250 totals.
/// More would only make the subscriber see older ones.
const CHANNEL_BYTES: usize = if cfg!(all(test, loom)) { 8 } else { 8 * 1024 };

type Ends = (Sender<Arc<Buffer>>, Receiver<Arc<Buffer>>);

/// See the module's head.
///
/// The ends are made when the first buffer has to wait: most subscribers keep up, and without them an idle one takes 1.7 KB
/// less. A channel without ends is an empty one. Whoever makes them does so before it drains, so whoever is to see its buffer
/// sees the ends too.
#[derive(Debug)]
pub(super) struct Channel {
    /// Of buffers that are in it, are about to be, or have just been taken.
    bytes: AtomicUsize,
    ends: OnceLock<Ends>,
}

impl Channel {
    pub(super) fn new() -> Self {
        let channel = Self { bytes: AtomicUsize::new(0), ends: OnceLock::new() };
        if cfg!(all(test, loom)) {
            // The model takes no turn between a look for the ends and a look at them: it finds an empty channel.
            channel.sender();
        }
        channel
    }

    fn sender(&self) -> &Sender<Arc<Buffer>> {
        let (sender, _) = self.ends.get_or_init(|| bounded(CHANNEL_BUFFERS));
        sender
    }

    /// The bytes of its buffers. They are counted before a buffer is put in, so none means that there is no buffer.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it holds nothing. Asking the ends themselves is left for the rare case, because their memory is far away.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes() == 0 || self.ends.get().is_none_or(|(_, receiver)| receiver.is_empty())
    }

    /// Whether totals of so many bytes may be put in.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.ends.get().map_or(0, |(_, receiver)| receiver.len());
        // An empty channel takes a buffer of any size: a snapshot may be larger than the bound. It is the channel that
        // is asked, and not the count: the count may be of words whose place is still empty, and the offer would be
        // refused, and its lag be over at once, again and again until they are put in.
        waiting == 0 || (waiting < CHANNEL_BUFFERS - RESERVED_BUFFERS && self.bytes() + bytes <= CHANNEL_BYTES)
    }

    /// Puts a buffer in, if there is a place for it. A place that [`Self::has_room`] has seen may be gone: meanwhile the
    /// session's words may have taken it and the reserve.
    #[must_use]
    pub(super) fn put(&self, buffer: &Arc<Buffer>) -> bool {
        self.counted(buffer.bytes.len(), || self.sender().try_send(buffer.clone()).is_ok())
    }

    /// The same, waiting for a place up to `patience`.
    #[must_use]
    pub(super) fn put_within(&self, buffer: Arc<Buffer>, patience: Duration) -> bool {
        self.counted(buffer.bytes.len(), || self.sender().send_timeout(buffer, patience).is_ok())
    }

    fn counted(&self, bytes: usize, put: impl FnOnce() -> bool) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_put = put();
        if !is_put {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_put
    }

    /// Takes the first buffer out.
    pub(super) fn take(&self) -> Option<Arc<Buffer>> {
        let (_, receiver) = self.ends.get()?;
        let buffer = receiver.try_recv().ok()?;
        self.bytes.fetch_sub(buffer.bytes.len(), Ordering::Relaxed);
        Some(buffer)
    }
}
