//! Whether a token may read: only the server that is followed knows. What it answered is kept for a short time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::Method;

use super::requests::Requests;
use crate::api::tokens::{AccessError, MAX_TOKEN_BYTES, MAX_TOKENS};
use crate::api::upstream::{Denied, PassedRequest};

/// How long an answer is kept before it is asked for again: 5 s. So long a token that was taken off the list still opens
/// feeds.
const FRESH: Duration = Duration::from_secs(5);
/// How long an answer about a token holds while the server does not answer: 10 minutes.
const STALE: Duration = Duration::from_secs(600);
/// The most tokens that are known to be allowed: those of a server's three files. Others are kept apart, so that a client
/// that sends many of them does not displace these.
const MAX_ALLOWED: usize = 3 * MAX_TOKENS;
/// The most tokens that are known to be refused.
const MAX_REFUSED: usize = 1_000;
/// How long the server may take to answer: 2 s.
const ASKING: Duration = Duration::from_secs(2);

/// Knows whether tokens may read.
pub struct Checks {
    requests: Requests,
    answers: Mutex<Answers>,
}

/// What was answered about every token.
#[derive(Debug, Default)]
struct Answers {
    /// Whether no token is needed.
    without: Option<Known>,
    allowed: HashMap<Box<str>, Known>,
    refused: HashMap<Box<str>, Known>,
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

impl Answers {
    /// What is known about a token, or about requests without one; the latter is no secret, and holds until it is answered
    /// anew.
    fn known(&mut self, token: Option<&str>, now: Instant) -> Option<&mut Known> {
        let Some(token) = token else { return self.without.as_mut() };
        let Self { allowed, refused, .. } = self;
        let known = allowed.get_mut(token).or_else(|| refused.get_mut(token));
        known.filter(|known| now - known.at < STALE)
    }

    fn keep(&mut self, token: Option<&str>, answer: Result<(), AccessError>, now: Instant) {
        let known = Known { answer, at: now, asked: now };
        let Some(token) = token else {
            self.without = Some(known);
            return;
        };
        let (kept, other, most, time) = match answer {
            Ok(()) => (&mut self.allowed, &mut self.refused, MAX_ALLOWED, STALE),
            Err(_) => (&mut self.refused, &mut self.allowed, MAX_REFUSED, FRESH),
        };
        other.remove(token);
        // No server has a longer one.
        if token.len() > MAX_TOKEN_BYTES {
            return;
        }
        if kept.len() >= most {
            kept.retain(|_, known| now - known.at < time);
        }
        if kept.len() >= most {
            kept.clear();
        }
        kept.insert(token.into(), known);
    }

    /// Whether a token that nothing is known about may read, because none is needed.
    fn are_needless(&self) -> bool {
        self.without.is_some_and(|known| known.answer.is_ok())
    }
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
        let now = Instant::now();
        let known = {
            let mut answers = self.answers();
            let are_needless = answers.are_needless();
            match answers.known(token, now) {
                Some(known) if is_away || now - known.asked < FRESH => {
                    return known.answer.map_err(Denied::Access);
                }
                Some(known) => {
                    // Others need not ask too.
                    known.asked = now;
                    Some(*known)
                }
                None if is_away && are_needless => return Ok(()),
                None if is_away => return Err(Denied::Away),
                None => None,
            }
        };
        match self.ask(token) {
            Some(answer) => {
                self.answers().keep(token, answer, Instant::now());
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

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Result<(), AccessError> = Err(AccessError::UnknownToken);

    fn answer(answers: &mut Answers, token: &str, now: Instant) -> Option<Result<(), AccessError>> {
        answers.known(Some(token), now).map(|known| known.answer)
    }

    #[test]
    fn refusals_however_many_do_not_displace_a_token_that_is_allowed() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.keep(None, Err(AccessError::NoToken), now);
        answers.keep(Some("reader"), Ok(()), now);
        for number in 0..5 * MAX_REFUSED {
            answers.keep(Some(&number.to_string()), REFUSED, now);
            assert!(answers.refused.len() <= MAX_REFUSED);
        }
        let later = now + STALE / 2;
        assert_eq!(answer(&mut answers, "reader", later), Some(Ok(())));
        assert!(answers.known(None, later).is_some() && !answers.are_needless());
        assert_eq!(answer(&mut answers, "reader", now + STALE), None, "not for ever");
    }

    #[test]
    fn a_token_that_is_refused_now_is_not_allowed_any_more() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        for result in [Ok(()), REFUSED, Ok(())] {
            answers.keep(Some("token"), result, now);
            assert_eq!(answer(&mut answers, "token", now), Some(result));
        }
        assert!(answers.refused.is_empty());
        answers.keep(Some(&"x".repeat(MAX_TOKEN_BYTES + 1)), REFUSED, now);
        assert!(answers.refused.is_empty(), "a token that no server has takes no memory");
    }

    #[test]
    fn allowed_tokens_are_bounded_and_needless_where_none_is_required() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.keep(None, Ok(()), now);
        for number in 0..2 * MAX_ALLOWED {
            answers.keep(Some(&number.to_string()), Ok(()), now);
            assert!(answers.allowed.len() <= MAX_ALLOWED);
        }
        assert!(answers.are_needless());
    }
}
