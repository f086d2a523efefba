//! Posters that follow a plan, and wait for slow subscribers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::load::spawn;
use crate::common::{Client, DEADLINE};

/// The orders of one poster in sequence: product and amount.
pub type Plan = Vec<(&'static str, i64)>;

/// Posts every plan in a thread and over a connection of its own. Each order waits for the response to the one before
/// it, and for `before_each`.
pub fn post_all(addr: SocketAddr, plans: &[Plan], before_each: impl Fn() + Sync) {
    let before_each = &before_each;
    thread::scope(|scope| {
        for plan in plans {
            spawn(scope, move || {
                let mut client = Client::connect(addr);
                for (id, amount) in plan {
                    before_each();
                    client.order(id, *amount);
                }
            });
        }
    });
}

/// A paced load: posters wait while a subscriber is more than `window` totals behind.
#[derive(Debug)]
pub struct Pace {
    window: usize,
    started: AtomicUsize,
    /// The count of the slowest subscriber when a poster last computed it.
    slowest: AtomicUsize,
    received: Vec<AtomicUsize>,
}

impl Pace {
    pub fn new(subscribers: usize, window: usize) -> Pace {
        Pace {
            window,
            started: AtomicUsize::new(0),
            slowest: AtomicUsize::new(0),
            received: (0..subscribers).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// Counts one more total of a subscriber.
    pub fn received(&self, subscriber: usize) {
        self.received[subscriber].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until one more order may be posted.
    pub fn wait(&self) {
        let ticket = self.started.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        while self.slowest.load(Ordering::Relaxed) + self.window <= ticket {
            let counts = self.received.iter().map(|n| n.load(Ordering::Relaxed));
            let slowest = counts.min().unwrap_or(usize::MAX - self.window);
            self.slowest.fetch_max(slowest, Ordering::Relaxed);
            if slowest + self.window <= ticket {
                thread::sleep(Duration::from_micros(200));
                assert!(start.elapsed() < DEADLINE, "a subscriber receives nothing any more");
            }
        }
    }
}
