//! The check of a data file whose last server did not stop in order. It runs beside serving, on a thread of its own.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::JOIN_TICK;
use crate::ledger::{LedgerHandle, Readiness, Rejection};
use crate::store::StoreError;
use crate::store::sqlite::IntegrityCheck;

/// How often the progress is logged: every 10 s.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// The thread's stack, as large as the ledger's.
const STACK_BYTES: usize = 512 * 1024;
/// How often a check that waits looks whether the write-ahead log is small: once a second.
const LOG_TICK: Duration = Duration::from_secs(1);
/// The pause after a check that gave way: 1 s, then twice as long each time, up to 10 minutes, because every one reads
/// the file from its beginning.
const FIRST_PAUSE: Duration = LOG_TICK;
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Checks the data file before serving.
///
/// # Errors
/// [`StoreError`] says what is wrong with it.
pub(super) fn check_first(check: &IntegrityCheck) -> Result<(), StoreError> {
    log::info!("the data file is being checked before serving");
    run(check, || true).map(drop)
}

/// Runs a check for as long as `go_on` returns true; logs how far it is. Returns whether it is complete.
fn run(check: &IntegrityCheck, go_on: impl Fn() -> bool + Send + 'static) -> Result<bool, StoreError> {
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
    Ok(is_complete)
}

/// Runs a check until it is complete or `end` is closed. It waits while the write-ahead log is not small, and gives way
/// when the log becomes large: the log cannot begin again while the check reads, and would fill the disk.
fn run_beside_serving(check: &IntegrityCheck, end: &Receiver<()>) -> Result<(), StoreError> {
    let mut pause = FIRST_PAUSE;
    let is_over = |wait| end.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
    loop {
        let mut is_waiting = false;
        while !check.log_size().is_small() {
            if !is_waiting {
                log::info!("the check of the data file waits until the write-ahead log is small");
                is_waiting = true;
            }
            if is_over(LOG_TICK) {
                return Ok(());
            }
        }
        let (log, end) = (check.log_size(), end.clone());
        if run(check, move || end.try_recv() == Err(TryRecvError::Empty) && !log.is_large())? {
            return Ok(());
        }
        if is_over(pause) {
            return Ok(());
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Takes no further order, since the data file has been found damaged; unless that is known, or another file is at its
/// path, which was read instead.
pub(super) fn end_orders(ledger: &LedgerHandle, error: &StoreError) {
    if !matches!(ledger.readiness(), Readiness::Failing(Rejection::StoreUnusable(_))) {
        log::error!("no order is taken any more: {error:#}");
        ledger.end_orders(error);
    }
}

/// A check that may be running.
pub(super) struct DataCheck {
    /// Dropped to end the check.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DataCheck {
    /// Starts the check. When it finds damage, no further order is taken.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub(super) fn start(check: IntegrityCheck, ledger: LedgerHandle) -> io::Result<Self> {
        let (sender, end) = bounded(0);
        let thread = thread::Builder::new().name("data-check".into()).stack_size(STACK_BYTES).spawn(move || {
            log::info!(
                "the data file has no mark of a stop in order, as after a kill or in a backup; it is being checked while \
                 orders are taken"
            );
            match run_beside_serving(&check, &end) {
                Ok(()) => {}
                Err(error @ StoreError::Damaged(_)) => end_orders(&ledger, &error),
                Err(error) => log::warn!("the data file could not be checked; the next start checks it: {error:#}"),
            }
        })?;
        Ok(Self { end: Some(sender), thread: Some(thread) })
    }

    /// Ends the check and waits for that until `deadline`: an open reader would keep SQLite from removing its log when
    /// the store closes.
    pub(super) fn stop(&mut self, deadline: Instant) {
        self.end = None;
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
