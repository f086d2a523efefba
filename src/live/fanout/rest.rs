//! When the thread need not be woken by each order.
//!
//! As long as every subscriber gets at most one message a product in an interval, most orders only change what is due
//! later. Waking the thread for each would cost more than what it sends.
//!
//! And while several orders come in each turn of all subscribers, the thread pauses between two such turns. Without that it
//! sends as often as it can, each time little, and takes the processor from the ledger and from the readers.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Fanout;
use super::handle::Event;

/// How long it is not woken by orders once it has taken some: 5 ms, a tenth of the shortest interval. Orders that come
/// after longer than that wake it at once.
const REST: u64 = 5_000;

/// Messages a turn from which on a pause follows. Fewer are sent at once.
const LEAST_MESSAGES: u64 = 2;
/// Messages a turn above which none follows: at that rate a pause would gather half of the orders that may be added to a
/// round at a time.
const MOST_MESSAGES: u64 = 384;
/// The part of the time of the turns that a pause takes.
const PAUSE_PART: u32 = 6;
/// The shortest pause, which the timers of the system can still keep, and the longest.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// How long the thread pauses after so many turns that took this time, and in which so many messages were sent.
pub(super) fn pause_after(took: Duration, turns: u64, messages: u64) -> Option<Duration> {
    let is_right = (LEAST_MESSAGES * turns..=MOST_MESSAGES * turns).contains(&messages);
    Some((took / PAUSE_PART).min(LONGEST_PAUSE)).filter(|pause| is_right && *pause >= SHORTEST_PAUSE)
}

impl Fanout {
    /// Lets publications gather for this long, or until something else is to be done, and adds them to the rounds. Returns
    /// whether more may be added.
    pub(super) fn pause(&mut self, time: Duration) -> bool {
        // So that no publication wakes this thread.
        self.thread().announced.store(true, Ordering::Release);
        let end = Instant::now() + time;
        let due = self.next_due().map(|due| self.begun + Duration::from_micros(due));
        let end = due.map_or(end, |due| due.min(end));
        loop {
            match self.events.recv_deadline(end) {
                // Of a publication before the pause.
                Ok(Event::Published) => {}
                Ok(event) => return self.add_at(event),
                Err(_) => return self.add_at(Event::Published),
            }
        }
    }

    /// Begins a rest if this thread has just taken orders, and ends one that is over, or no longer right.
    pub(super) fn rest(&mut self, has_taken: bool) {
        let is_paced = !self.paced.is_empty() && self.paced.len() + self.vacant.len() == self.groups.len();
        if !is_paced && self.rests_until.is_none() {
            return;
        }
        let now = self.now();
        if is_paced && has_taken {
            self.rests_until = Some(now + REST);
            self.thread().wanted.store(false, Ordering::Release);
        } else if !is_paced || self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = None;
            self.thread().wanted.store(!self.places.is_empty(), Ordering::Release);
            // Publications from before the store have not been announced.
            self.relay(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_with_several_messages_each_are_followed_by_a_pause_of_a_part_of_their_time() {
        let took = Duration::from_millis(6);
        assert_eq!(pause_after(took, 1_000, 2_000), Some(Duration::from_millis(1)));
        assert_eq!(pause_after(took, 1_000, 384_000), Some(Duration::from_millis(1)));
        assert_eq!(pause_after(took, 1_000, 1_999), None);
        assert_eq!(pause_after(took, 1_000, 384_001), None);
        assert_eq!(pause_after(Duration::from_secs(1), 10_000, 20_000), Some(Duration::from_millis(5)));
        assert_eq!(pause_after(Duration::from_micros(299), 10, 20), None);
    }
}
