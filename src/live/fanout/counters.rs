//! What the fan-out threads have sent, and to how many subscribers. Each adds everything up in plain numbers, and writes the
//! counters once for each event that it handles and each round, however many subscribers that concerns.

use super::subscription::Format;
use crate::live::subscriber::Sent;
use crate::tally::metric::{Counter, Gauge};

/// What the fan-out threads do; they alone write them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Totals and notices that were sent to a subscriber or queued for one.
    pub messages: Counter,
    /// Bytes that the threads themselves have sent.
    pub bytes: Counter,
    /// Totals that were skipped for a subscriber that is not owed every order.
    pub skipped: Counter,
    subscribers: [Gauge; FORMATS.len()],
}

/// Every format, in the order of its variants.
const FORMATS: [Format; 3] = [Format::Plain, Format::Positioned, Format::Events];

impl Counters {
    /// The number of subscribers of each format.
    pub fn subscribers(&self) -> impl Iterator<Item = (Format, u64)> {
        FORMATS.into_iter().zip(self.subscribers.iter().map(Gauge::get))
    }

    /// Adds what was sent since the last call, and empties it.
    pub(super) fn publish(&self, sent: &mut Sent) {
        let Sent { messages, bytes, skipped } = std::mem::take(sent);
        for (counter, count) in [(&self.messages, messages), (&self.bytes, bytes), (&self.skipped, skipped)] {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// Notes a subscriber of this format that was listed.
    pub(super) fn list(&self, format: Format) {
        self.subscribers[format as usize].add(1);
    }

    /// Notes a subscriber of this format that was taken off its list.
    pub(super) fn unlist(&self, format: Format) {
        self.subscribers[format as usize].subtract(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_are_counted_by_their_format() {
        let counters = Counters::default();
        for format in [Format::Events, Format::Plain, Format::Positioned, Format::Positioned, Format::Events] {
            counters.list(format);
        }
        counters.unlist(Format::Plain);
        let counted: Vec<_> = counters.subscribers().collect();
        assert_eq!(counted, [(Format::Plain, 0), (Format::Positioned, 2), (Format::Events, 2)]);
    }

    #[test]
    fn what_was_sent_is_added_once() {
        let (counters, mut sent) = (Counters::default(), Sent { messages: 3, bytes: 90, skipped: 1 });
        (0..2).for_each(|_| counters.publish(&mut sent));
        assert_eq!((counters.messages.get(), counters.bytes.get(), counters.skipped.get()), (3, 90, 1));
    }
}
