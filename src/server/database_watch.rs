//! Watches a database that several servers share: wakes the ledger when another server has committed something, and tells
//! everybody while the database cannot be reached.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::end::Sentinel;
use crate::ledger::LedgerHandle;
use crate::live::fanout::FanoutHandle;
use crate::store::postgres::Listener;

/// The waits between two attempts to reach the database: from 0.1 to 2 s.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often a wait looks whether the server ends.
const END_TICK: Duration = Duration::from_millis(50);
/// The thread's stack: TLS goes deep.
const STACK_BYTES: usize = 512 * 1024;

/// What watches the database, before its thread is started.
pub(super) struct Watch {
    pub(super) listener: Listener,
    /// Set before the ledger is woken.
    pub(super) has_news: Arc<AtomicBool>,
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
        let mut is_away = false;
        let mut wait = FIRST_WAIT;
        while !end.load(Ordering::Relaxed) {
            let heard = self.listener.listen();
            if is_away != heard.is_err() {
                is_away = !is_away;
                match &heard {
                    Err(error) => {
                        log::error!("{error:#}; orders are rejected, and totals may be old, until it is back");
                    }
                    Ok(_) => log::info!("the database can be reached again"),
                }
                ledger.set_away(is_away);
                fanout.set_stale(is_away);
            }
            match heard {
                Ok(is_news) => {
                    wait = FIRST_WAIT;
                    // What is set already has woken the ledger, or is about to.
                    if is_news && !self.has_news.swap(true, Ordering::AcqRel) {
                        ledger.wake();
                    }
                }
                Err(_) => {
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
