//! Bounds the memory of large answers that slow clients take long to read.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of such answers together: 64 MiB, some ten of the longest.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Large answers that are still being sent.
#[derive(Debug, Default)]
pub struct LargeAnswers(Mutex<Vec<Arc<[u8]>>>);

impl LargeAnswers {
    /// Takes the body of an answer; `None` while too many are still being sent.
    #[must_use]
    pub fn add(&self, body: Vec<u8>) -> Option<Arc<[u8]>> {
        let mut sending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sending.retain(|body| Arc::strong_count(body) > 1);
        if sending.iter().map(|body| body.len()).sum::<usize>() > MAX_BYTES {
            return None;
        }
        let body: Arc<[u8]> = body.into();
        sending.push(body.clone());
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_still_being_sent_are_bounded() {
        let answers = LargeAnswers::default();
        let body = || vec![0; MAX_BYTES / 4 + 1];
        let mut held: Vec<_> = (0..4).filter_map(|_| answers.add(body())).collect();
        assert_eq!((held.len(), answers.add(body())), (4, None));
        held.pop();
        assert!(answers.add(body()).is_some(), "there is room when one has been sent");
    }
}
