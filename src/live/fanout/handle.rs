//! What speaks to the fan-out thread, from every other one. Owns the list of publications that wait for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Sender, TrySendError, bounded};

use super::waiting::{Waiting, merge};
use super::{Feed, Publication, Subscription, number};
use crate::live::history::{self, Page};
use crate::live::subscriber::Subscriber;
use crate::tally::position::RunList;

/// Publications that may wait for the fan-out thread. Beyond it those that wait are merged into the latest total of
/// each product, so that a thread that falls behind sends fewer totals instead of older ones.
const MAX_WAITING: usize = 4_096;

/// What the fan-out thread is asked to do.
pub(super) enum Event {
    /// Publications wait in the shared list.
    Published,
    Subscribe(Arc<Subscriber>, Subscription, Option<u64>),
    Move(Arc<Subscriber>, Subscription),
    Page(Page),
    Leave(Arc<Subscriber>),
    CaughtUp(Arc<Subscriber>),
    Totals(Feed, Sender<Arc<[u8]>>),
    Finish,
    Stop,
}

/// What the handles and the thread have in common.
pub(super) struct Shared {
    pub(super) waiting: Mutex<Vec<Waiting>>,
    /// The number of the last order that was published.
    pub(super) published: AtomicU64,
    /// Whether a [`Event::Published`] is on its way, so that one is enough for many.
    pub(super) announced: AtomicBool,
    /// Whether anybody is subscribed: otherwise publications can wait for the next event, and no thread is woken.
    pub(super) wanted: AtomicBool,
}

/// Speaks to the fan-out thread; cheap to clone.
#[derive(Clone)]
pub struct FanoutHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) events: Sender<Event>,
    pub(super) runs: Arc<RunList>,
}

impl FanoutHandle {
    /// Hands committed orders on. Never waits for a subscriber.
    pub fn publish(&self, publications: &[Publication]) {
        let crowded;
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(publications.iter().map(|publication| Waiting { publication: *publication, merged: 0 }));
            if let Some(last) = publications.last() {
                self.shared.published.store(last.seq, Ordering::Release);
            }
            if waiting.len() > MAX_WAITING {
                merge(&mut waiting);
            }
            crowded = waiting.len() > MAX_WAITING / 2;
        }
        let wanted = crowded || self.shared.wanted.load(Ordering::Acquire);
        if wanted && !self.shared.announced.swap(true, Ordering::AcqRel) {
            // A full queue needs no announcement: the thread looks at the list before every event.
            if let Err(TrySendError::Full(_)) = self.events.try_send(Event::Published) {
                self.shared.announced.store(false, Ordering::Release);
            }
        }
    }

    /// Lists the subscriber, after it has been given the feed's current totals; or, if `since` is a position of this feed
    /// and the orders behind it are still known, those orders.
    pub fn subscribe(&self, subscriber: Arc<Subscriber>, subscription: Subscription, since: Option<&str>) {
        let after = since.and_then(|position| self.runs.seq(number(subscription.feed), position));
        let _ = self.events.send(Event::Subscribe(subscriber, subscription, after));
    }

    /// Moves the subscriber to another feed, whose current totals it is given first.
    pub fn move_to(&self, subscriber: Arc<Subscriber>, subscription: Subscription) {
        let _ = self.events.send(Event::Move(subscriber, subscription));
    }

    /// Takes the subscriber off the list.
    pub fn leave(&self, subscriber: Arc<Subscriber>) {
        let _ = self.events.send(Event::Leave(subscriber));
    }

    /// Tells that a lagging subscriber has sent all it had.
    pub fn caught_up(&self, subscriber: Arc<Subscriber>) {
        let _ = self.events.send(Event::CaughtUp(subscriber));
    }

    /// The feed's current totals as a JSON array. Contains every order that was answered before the call; `None` while
    /// the server stops.
    #[must_use]
    pub fn totals(&self, feed: Feed) -> Option<Arc<[u8]>> {
        let (sender, totals) = bounded(1);
        self.events.send(Event::Totals(feed, sender)).ok()?;
        totals.recv().ok()
    }

    /// Gives every subscriber its last totals and then the close frame; later subscribers get it at once.
    pub fn finish(&self) {
        let _ = self.events.send(Event::Finish);
    }

    /// Ends the relaying and closes whoever is still subscribed. The thread goes on refusing until the last handle is gone.
    pub fn stop(&self) {
        let _ = self.events.send(Event::Stop);
    }
}

impl history::Feed for FanoutHandle {
    fn take_page(&self, page: Page) {
        let _ = self.events.send(Event::Page(page));
    }

    fn published(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire)
    }
}
