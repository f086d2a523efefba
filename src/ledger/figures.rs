//! What the store holds, for metrics: measured by the ledger thread, since only it may wait for the disk, and asked for by
//! threads that do not wait for it long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::Ledger;
use super::engine::Engine;
use crate::store::Figures;

/// How often the store is measured at most, however often that is asked for: every 100 ms.
const MEASURE_EVERY: Duration = Duration::from_millis(100);
/// How long a caller waits for the ledger: 100 ms, some hundred commits. While the store hangs, each caller waits so long.
const DEADLINE: Duration = Duration::from_millis(100);

impl<E: Engine> Ledger<E> {
    pub(super) fn measure(&mut self) -> Figures {
        match self.measured {
            Some((at, figures)) if at.elapsed() < MEASURE_EVERY => figures,
            _ => {
                let figures = self.monitor.call(|| self.engine.measure());
                self.measured.insert((Instant::now(), figures)).1
            }
        }
    }
}

/// What the store last held, as far as the callers know.
#[derive(Default)]
pub(super) struct LastFigures {
    last: Mutex<Figures>,
    /// Gets what it holds now, while the ledger has been asked and has not answered. The ledger is asked once at a time, so
    /// that its queue stays free for orders, and one caller at a time waits for it.
    asked: Mutex<Option<Receiver<Figures>>>,
}

impl LastFigures {
    /// What the store holds, or what it last held if the ledger does not answer in time. `ask` hands the sender to the
    /// ledger, and returns whether that was possible.
    pub(super) fn get(&self, ask: impl FnOnce(Sender<Figures>) -> bool) -> Figures {
        if let Ok(mut asked) = self.asked.try_lock() {
            // What came after its caller had stopped waiting may be old.
            self.receive(&mut asked, Duration::ZERO);
            if asked.is_none() {
                let (sender, figures) = bounded(1);
                *asked = ask(sender).then_some(figures);
            }
            self.receive(&mut asked, DEADLINE);
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, asked: &mut Option<Receiver<Figures>>, patience: Duration) {
        let Some(figures) = asked else { return };
        match figures.recv_timeout(patience) {
            Ok(figures) => {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = figures;
                *asked = None;
            }
            Err(RecvTimeoutError::Disconnected) => *asked = None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_does_not_answer_is_asked_once_and_the_last_figures_are_returned() {
        let figures = |rows| Figures { log_rows: Some(rows), ..Figures::default() };
        let all = LastFigures::default();
        assert_eq!(all.get(|_| false), Figures::default(), "its queue is full");
        assert_eq!(all.get(|sender| sender.send(figures(1)).is_ok()), figures(1));
        let (mut senders, mut times) = (Vec::new(), 0);
        for _ in 0..2 {
            let ask = |sender| {
                times += 1;
                senders.push(sender);
                true
            };
            assert_eq!(all.get(ask), figures(1));
        }
        assert_eq!(times, 1);
        // The late answer counts, and a new one is asked for.
        senders[0].send(figures(2)).unwrap();
        assert_eq!(all.get(|_| false), figures(2));
        assert_eq!(all.get(|sender| sender.send(figures(3)).is_ok()), figures(3));
    }
}
