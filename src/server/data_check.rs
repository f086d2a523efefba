//! The check of a data file whose last server did not stop in order. It runs beside serving, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::JOIN_TICK;
use crate::ledger::LedgerHandle;
use crate::store::StoreError;
use crate::store::sqlite::IntegrityCheck;

/// How often the progress is logged: every 10 s.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// The thread's stack, as large as the ledger's.
const STACK_BYTES: usize = 512 * 1024;

/// Checks the data file before serving.
///
/// # Errors
/// [`StoreError`] says what is wrong with it.
pub(super) fn check_first(check: &IntegrityCheck) -> Result<(), StoreError> {
    log::info!("the data file is being checked before serving");
    run(check, || true)
}

/// Runs a check for as long as `go_on` returns true; logs how far it is.
fn run(check: &IntegrityCheck, go_on: impl Fn() -> bool + Send + 'static) -> Result<(), StoreError> {
    let begun = Instant::now();
    let mut reported = begun;
    let is_complete = check.run(move |percent| {
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            log::info!("about {percent} % of the data file is checked");
        }
        go_on()
    })?;
    if is_complete {
        log::info!("the data file is sound; the check took {:.1} s", begun.elapsed().as_secs_f32());
    }
    Ok(())
}

/// A check that may be running.
pub(super) struct DataCheck {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DataCheck {
    /// Starts the check. When it finds damage, no further order is taken.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub(super) fn start(check: IntegrityCheck, ledger: LedgerHandle) -> io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let stop = ends.clone();
        let thread = thread::Builder::new().name("data-check".into()).stack_size(STACK_BYTES).spawn(move || {
            log::info!(
                "the data file has no mark of a stop in order, as after a kill or in a backup; it is being checked while \
                 orders are taken"
            );
            match run(&check, move || !stop.load(Ordering::Relaxed)) {
                Ok(()) => {}
                Err(error @ StoreError::Damaged(_)) => {
                    log::error!("no order is taken any more: {error:#}");
                    ledger.end_orders(&error);
                }
                Err(error) => log::warn!("the data file could not be checked; the next start checks it: {error:#}"),
            }
        })?;
        Ok(Self { ends, thread: Some(thread) })
    }

    /// Ends the check and waits for that until `deadline`: an open reader would keep SQLite from removing its log when
    /// the store closes.
    pub(super) fn stop(&mut self, deadline: Instant) {
        self.ends.store(true, Ordering::Relaxed);
        let is_over = |thread: &JoinHandle<()>| thread.is_finished() || Instant::now() >= deadline;
        if let Some(thread) = self.thread.take() {
            while !is_over(&thread) {
                thread::sleep(JOIN_TICK);
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
