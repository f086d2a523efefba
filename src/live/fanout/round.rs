//! What the subscribers of a group are being sent. Owns whose turn it is, and what each one lacks.
//!
//! Turns go round: everyone has one before anyone has the next. At its turn a subscriber gets, in one buffer, all that was
//! added since its last one. So what comes while others are sent to waits for the subscriber's next turn, and not for the
//! end of the round.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::live::subscriber::Buffer;

/// Subscribers that get the same buffer one after the other: 16, some 40 µs. They are read into the caches together, some
/// 4 KB.
const TOGETHER: usize = 16;

/// Totals that subscribers are sent, each at its turn.
#[derive(Debug, Default)]
pub struct Round {
    /// What has come since the last turn: a part of what is sent from the next one on.
    pub next: Buffer,
    /// What some subscribers lack, oldest first, each with the number of the turn before which all have got it.
    parts: VecDeque<(Buffer, u64)>,
    /// All parts in one buffer, once it was needed.
    current: Option<Arc<Buffer>>,
    /// The bytes of all parts.
    bytes: usize,
    /// The number of the next turn; they are counted as long as the group lives.
    turn: u64,
}

impl Round {
    /// The bytes that one subscriber would be sent now.
    pub fn len(&self) -> usize {
        self.bytes + self.next.bytes.len()
    }

    /// The next turns among so many subscribers, at least one: what they get, and their indices; `None` if nobody lacks
    /// anything. The number of subscribers and their indices change only when that is so.
    pub fn take_turns(&mut self, subscribers: usize) -> Option<(Arc<Buffer>, Range<usize>)> {
        if !self.next.bytes.is_empty() {
            self.bytes += self.next.bytes.len();
            self.parts.push_back((std::mem::take(&mut self.next), self.turn + subscribers as u64));
            self.current = None;
        }
        let (_, end) = self.parts.front()?;
        let first = (self.turn % subscribers as u64) as usize;
        // Always the same subscribers together, so that there are no more parts than such groups of them.
        let count = (TOGETHER - first % TOGETHER).min(subscribers - first).min((end - self.turn) as usize);
        self.turn += count as u64;
        let buffer = self.current.get_or_insert_with(|| Arc::new(join(&self.parts))).clone();
        while let Some((part, _)) = self.parts.front().filter(|(_, end)| *end <= self.turn) {
            self.bytes -= part.bytes.len();
            self.parts.pop_front();
            self.current = None;
        }
        Some((buffer, first..first + count))
    }
}

fn join(parts: &VecDeque<(Buffer, u64)>) -> Buffer {
    let all = || parts.iter().map(|(part, _)| part);
    Buffer {
        bytes: all().map(|part| part.bytes.as_slice()).collect::<Vec<_>>().concat(),
        totals: all().map(|part| part.totals).sum(),
        merged: all().map(|part| part.merged).sum(),
        first: all().map(|part| part.first).min().unwrap_or_default(),
        is_held_back: all().any(|part| part.is_held_back),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds totals with these numbers, one byte each.
    fn add(round: &mut Round, numbers: Range<u8>) {
        if round.next.bytes.is_empty() {
            round.next.first = numbers.start.into();
        }
        round.next.totals += numbers.len() as u64;
        round.next.bytes.extend(numbers);
    }

    #[test]
    fn each_subscriber_gets_every_total_once_and_in_order_whenever_it_comes() {
        for (subscribers, turn) in [(1, 0), (2, 1), (15, 9), (16, 16), (17, 0), (40, u32::MAX.into()), (100, 7)] {
            let mut round = Round { turn, ..Round::default() };
            let mut received = vec![Vec::new(); subscribers];
            // One, none and three are added before some turns, in this order.
            let mut last = 0;
            for added in [1, 0, 3].into_iter().cycle() {
                if last < 200 && added > 0 {
                    add(&mut round, last..last + added);
                    last += added;
                }
                let Some((buffer, indices)) = round.take_turns(subscribers) else {
                    if last < 200 {
                        continue;
                    }
                    break;
                };
                assert!(!indices.is_empty() && indices.len() <= TOGETHER);
                for index in indices {
                    assert_eq!(u64::from(buffer.bytes[0]), buffer.first);
                    assert_eq!(buffer.bytes.len() as u64, buffer.totals);
                    received[index].extend_from_slice(&buffer.bytes);
                }
            }
            let all: Vec<u8> = (0..last).collect();
            assert!(last >= 200 && received.iter().all(|one| *one == all), "{subscribers}: {received:?}");
            assert!(round.len() == 0 && round.current.is_none());
        }
    }

    #[test]
    fn what_comes_during_a_round_reaches_the_rest_of_the_subscribers_in_it() {
        let mut round = Round::default();
        add(&mut round, 1..2);
        assert_eq!(round.take_turns(48).unwrap().1, 0..16);
        add(&mut round, 2..3);
        let mut turns = || round.take_turns(48).map(|(buffer, indices)| (buffer.bytes.clone(), indices));
        assert_eq!(turns(), Some((vec![1, 2], 16..32)));
        assert_eq!(turns(), Some((vec![1, 2], 32..48)));
        assert_eq!(turns(), Some((vec![2], 0..16)));
        assert_eq!(turns(), None);
        // The one after the last is the first of the next round.
        add(&mut round, 3..4);
        assert_eq!(round.take_turns(48).unwrap().1, 16..32);
    }
}
