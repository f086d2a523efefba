//! SIGINT and SIGTERM while orders are sent: the first asks for the end, the second ends the process.

use std::io;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit_code_of;

/// The line up to which all orders are counted, and the last one that has been sent.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) counted: AtomicU64,
    pub(super) sent: AtomicU64,
}

impl Reached {
    /// What is known about the lines.
    pub(super) fn text(&self) -> String {
        match (self.counted.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed)) {
            (0, 0) => "no line is counted".to_owned(),
            (0, sent) => {
                format!("of the lines up to {sent} it is not known whether they are counted, later ones are not")
            }
            (counted, sent) if sent > counted => format!(
                "everything up to line {counted} is counted; of the lines up to {sent} it is not known, later ones are not"
            ),
            (counted, _) => format!("everything up to line {counted} is counted, and nothing behind it"),
        }
    }
}

/// Watches for signals. The number of the first one comes through the channel; `notice` is called for it. At the second
/// one the process ends, after `last_notice` has been called.
///
/// # Errors
/// When the system refuses a thread.
pub(super) fn watch(
    notice: impl Fn() + Send + 'static,
    last_notice: impl Fn() + Send + 'static,
) -> io::Result<Receiver<i32>> {
    let (sender, receiver) = bounded(1);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let watch = move || {
        for signal in signals.forever() {
            // There is room for one: the first is never lost, and the second finds it.
            if sender.try_send(signal).is_ok() {
                notice();
            } else {
                last_notice();
                process::exit(i32::from(exit_code_of(signal)));
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_are_counted_and_those_that_may_be_are_named() {
        let reached = Reached::default();
        let texts = [(0, 0), (0, 7), (7, 9), (9, 9)].map(|(counted, sent)| {
            reached.counted.store(counted, Ordering::Relaxed);
            reached.sent.store(sent, Ordering::Relaxed);
            reached.text()
        });
        assert_eq!(
            texts,
            [
                "no line is counted",
                "of the lines up to 7 it is not known whether they are counted, later ones are not",
                "everything up to line 7 is counted; of the lines up to 9 it is not known, later ones are not",
                "everything up to line 9 is counted, and nothing behind it",
            ]
        );
    }
}
