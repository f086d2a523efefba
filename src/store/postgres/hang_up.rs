//! Ends a connection from another thread than the one that waits for its answer.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::wire::Line;

/// The connection that somebody uses now, for whoever finds that it leads to a server that has vanished without a word, or
/// is no longer the primary.
#[derive(Debug, Default)]
pub struct HangUp(Mutex<Option<(Instant, Line)>>);

impl HangUp {
    /// Notes a connection that was just made.
    pub(super) fn note(&self, line: Option<Line>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = line.map(|line| (Instant::now(), line));
    }

    /// Ends the connection if it was made before then. What is asked over it is asked again over another one.
    pub fn hang_up(&self, made_before: Instant) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, line)) = line.take_if(|(made, _)| *made < made_before) {
            line.end();
        }
    }
}
