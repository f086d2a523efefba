//! Watches a database that several servers share: wakes the ledger when another server has committed something, and tells
//! everybody while the database cannot be reached.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::end::Sentinel;
use crate::ledger::{Following, LedgerHandle};
use crate::live::fanout::FanoutHandle;
use crate::log::Failures;
use crate::store::postgres::{ASK_AFTER, HangUp, Listener};

/// The waits between two attempts to reach the database: from 0.1 to 2 s.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// After this time totals are stale of which is known that they are not followed: 1 s.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// How often it is asked whether they are.
const LAG_TICK: Duration = Duration::from_millis(50);
/// How often a wait looks whether the server ends.
const END_TICK: Duration = Duration::from_millis(50);
/// The thread's stack: TLS goes deep.
const STACK_BYTES: usize = 512 * 1024;

/// What watches the database, before its thread is started.
pub(super) struct Watch {
    pub(super) listener: Listener,
    /// What ends the other connections to the database.
    pub(super) others: [Arc<HangUp>; 2],
    /// Asked before the ledger is woken.
    pub(super) following: Arc<Following>,
}

/// A running watch; dropping it ends its thread, soon.
pub(super) struct DatabaseWatch(Arc<AtomicBool>);

impl Drop for DatabaseWatch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub(super) fn start(
        self,
        ledger: LedgerHandle,
        fanout: FanoutHandle,
        sentinel: Sentinel,
    ) -> io::Result<(DatabaseWatch, JoinHandle<()>)> {
        fanout.follow_others();
        let end = Arc::new(AtomicBool::new(false));
        let is_ending = end.clone();
        let thread = thread::Builder::new().name("database".into()).stack_size(STACK_BYTES).spawn(move || {
            let sentinel = sentinel;
            self.run(&ledger, &fanout, &is_ending);
            // Its end is no failure then.
            std::mem::forget(sentinel);
        })?;
        Ok((DatabaseWatch(end), thread))
    }

    fn run(mut self, ledger: &LedgerHandle, fanout: &FanoutHandle, end: &AtomicBool) {
        let (mut is_away, mut is_stale) = (false, false);
        let mut failures = Failures::default();
        let mut wait = FIRST_WAIT;
        let mut lag = Lag::default();
        let mut lost = Instant::now();
        while !end.load(Ordering::Relaxed) {
            let heard = self.listener.listen(if lag.number.is_some() { LAG_TICK } else { ASK_AFTER });
            if let Err(error) = &heard
                && let why = format!("{error:#}")
                && failures.must_log(&why, is_away)
            {
                log::error!("{why}; orders are rejected, and totals may be old, until that is over");
            }
            if is_away != heard.is_err() {
                is_away = !is_away;
                match &heard {
                    Err(_) => {
                        // First, so that a client that hears of it does not wait for an order that cannot be counted.
                        ledger.set_away(true);
                        if !std::mem::replace(&mut is_stale, true) {
                            fanout.set_stale(true);
                        }
                        lost = Instant::now();
                    }
                    Ok(_) => {
                        if failures.end() {
                            log::info!("the database can be reached again");
                        }
                        // They may lead to a server that has vanished without a word, or is no longer the primary.
                        self.others.iter().for_each(|other| other.hang_up(lost));
                        ledger.set_away(false);
                    }
                }
            }
            match heard {
                Ok(heard) => {
                    wait = FIRST_WAIT;
                    if let Some(place) = heard {
                        let (number, has_to_wake) = self.following.ask(place);
                        if has_to_wake {
                            ledger.wake();
                        }
                        lag.begin(number);
                    }
                    if lag.number.is_some_and(|number| self.following.has_done(number)) {
                        // What was followed is published before the ledger answers.
                        if !is_stale || ledger.answers(Instant::now() + LAG_TICK) {
                            lag = Lag::default();
                            if std::mem::take(&mut is_stale) {
                                fanout.set_stale(false);
                            }
                        }
                    } else if lag.is_long() && !std::mem::replace(&mut is_stale, true) {
                        fanout.set_stale(true);
                    }
                }
                Err(_) => {
                    // What was followed before its return is not enough then.
                    lag = Lag::default();
                    let mut left = wait;
                    while !left.is_zero() && !end.load(Ordering::Relaxed) {
                        thread::sleep(END_TICK.min(left));
                        left = left.saturating_sub(END_TICK);
                    }
                    wait = LONGEST_WAIT.min(wait * 2);
                }
            }
        }
    }
}

/// What the ledger was asked to follow and has not followed yet.
#[derive(Debug, Default)]
struct Lag {
    /// The number of the first request.
    number: Option<u64>,
    since: Option<Instant>,
}

impl Lag {
    /// Notes a request, unless an earlier one waits.
    fn begin(&mut self, number: u64) {
        if self.number.is_none() {
            *self = Self { number: Some(number), since: Some(Instant::now()) };
        }
    }

    fn is_long(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= STALE_AFTER)
    }
}
