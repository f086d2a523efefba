//! Problem details (RFC 9457).

use std::borrow::Cow;

use tiny_http::StatusCode;

use super::response::{Answer, Body};

/// The media type of problem details (RFC 9457, section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// `Retry-After` for a temporary problem, in seconds.
pub const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request failed: a status code, and a detail that says what to do.
#[derive(Debug, Clone)]
pub struct Problem {
    status: u16,
    detail: Cow<'static, str>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Problem {
    /// A problem without additional header lines.
    #[must_use]
    pub fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// 503 for a request that comes while the server shuts down.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(503, "the server is shutting down; nothing was counted, try again")
            .with("Retry-After", RETRY_AFTER_SECONDS)
    }

    /// The same problem with one more header line.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// What to do, in words.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The answer. `encode` makes its body from status, title and detail.
    #[must_use]
    pub fn answer(&self, encode: impl FnOnce(u16, &str, &str) -> String) -> Answer {
        let title = StatusCode(self.status).default_reason_phrase();
        let body = Body::Owned(encode(self.status, title, &self.detail).into_bytes());
        let answer = Answer::new(self.status, PROBLEM_JSON, body);
        self.headers.iter().fold(answer, |answer, (name, value)| answer.with(name, value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_its_status_title_and_header_lines() {
        let problem = Problem::new(405, "use GET").with("Allow", "GET");
        let answer = problem.answer(|status, title, detail| format!("{status} {title} {detail}"));
        assert_eq!(answer.body().bytes(), b"405 Method Not Allowed use GET");
        assert!(String::from_utf8(answer.head(tiny_http::HTTPVersion(1, 1), None)).unwrap().contains("Allow: GET\r\n"));
    }
}
