//! Whether a token may read: only the server that is followed knows. What it answered is kept for a short time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::Method;

use super::requests::Requests;
use crate::api::tokens::AccessError;
use crate::api::upstream::{Denied, PassedRequest};

/// How long an answer is kept before it is asked for again: 5 s. So long a token that was taken off the list still opens
/// feeds.
const FRESH: Duration = Duration::from_secs(5);
/// How long an answer about a token holds while the server does not answer: 10 minutes.
const STALE: Duration = Duration::from_secs(600);
/// The most answers that are kept, each with a token of less than 16 KiB.
const MAX_ANSWERS: usize = 1_000;
/// How long the server may take to answer: 2 s.
const ASKING: Duration = Duration::from_secs(2);

/// Knows whether tokens may read.
pub struct Checks {
    requests: Requests,
    answers: Mutex<HashMap<Option<Box<str>>, Known>>,
}

/// What was answered.
#[derive(Debug, Clone, Copy)]
struct Known {
    answer: Result<(), AccessError>,
    /// When it was last answered.
    at: Instant,
    /// When it was last asked for.
    asked: Instant,
}

impl Checks {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(requests: Requests) -> Self {
        Self { requests, answers: Mutex::default() }
    }

    /// Whether feeds may be read with this token, or without one. `is_away` says that the server does not answer.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&self, token: Option<&str>, is_away: bool) -> Result<(), Denied> {
        let key = token.map(Into::into);
        let now = Instant::now();
        let known = {
            let mut answers = self.answers();
            let known = answers.get_mut(&key).filter(|known| token.is_none() || now - known.at < STALE);
            match known {
                Some(known) if is_away || now - known.asked < FRESH => {
                    return known.answer.map_err(Denied::Access);
                }
                Some(known) => {
                    // Others need not ask too.
                    known.asked = now;
                    Some(*known)
                }
                None if is_away => return Err(Denied::Away),
                None => None,
            }
        };
        match self.ask(token) {
            Some(answer) => {
                self.keep(key, Known { answer, at: Instant::now(), asked: Instant::now() });
                answer.map_err(Denied::Access)
            }
            None => known.map_or(Err(Denied::Away), |known| known.answer.map_err(Denied::Access)),
        }
    }

    /// Asks the server; `None` without an answer.
    fn ask(&self, token: Option<&str>) -> Option<Result<(), AccessError>> {
        let request = PassedRequest {
            method: Method::Head,
            target: "/categories".to_owned(),
            headers: token.map(|token| ("Authorization", format!("Bearer {token}"))).into_iter().collect(),
            body: Vec::new(),
        };
        match (self.requests.send(request, ASKING).ok()?.status, token) {
            (200, _) => Some(Ok(())),
            (401, None) => Some(Err(AccessError::NoToken)),
            (400 | 401 | 403, _) => Some(Err(AccessError::UnknownToken)),
            _ => None,
        }
    }

    fn keep(&self, key: Option<Box<str>>, known: Known) {
        let mut answers = self.answers();
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|key, known| key.is_none() || known.at.elapsed() < FRESH);
        }
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        answers.insert(key, known);
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<Option<Box<str>>, Known>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
