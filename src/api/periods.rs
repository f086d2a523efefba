//! Periods: their list, their reports, and closing the current one. Owns how the exact state and what the file has are
//! put together: the current period comes from memory, closed ones from the file.

use std::sync::PoisonError;

use super::headers::{CSV, ReportFormat};
use super::page::MAX_LINES;
use super::service::{OrderService, body_problem, rejected};
use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::http::response::{Answer, Body};
use crate::json;
use crate::ledger::Rejection;
use crate::live::history::Unreadable;
use crate::tally::period::Report;

/// Tries to read the totals of the current period while periods are closed: 10. Each close is a commit, so more than two
/// are needed only while a client closes one period after the other.
const MAX_TRIES: usize = 10;

impl OrderService {
    /// Closes the period that the body names, and answers its report.
    #[inline(never)]
    pub(super) fn close_period(&self, body: &[u8], format: ReportFormat) -> Result<Answer, Problem> {
        let number = json::parse_period(body).map_err(body_problem)?;
        let report = self.ledger.close_period(number).map_err(|rejection| match rejection {
            Rejection::Unknown => Problem::new(
                500,
                "the disk failed, or the data file was moved, in the middle of it, and whether the period is closed is not \
                 known yet; send it again: a period is closed once only",
            ),
            rejection => rejected(&rejection),
        })?;
        Ok(self.report_answer(&report, format))
    }

    /// The periods after this number, oldest first, at most `limit`.
    #[inline(never)]
    pub(super) fn list_periods(&self, after: u64, limit: usize) -> Result<Answer, Problem> {
        let current = self.ledger.current_period().period;
        // What the file has of this one and later ones may be of a commit that is not complete.
        let mut periods = Vec::new();
        if after + 1 < current.number {
            let closed = self.history.closed_periods(after, current.number, limit).map_err(unreadable)?;
            periods.extend(closed.into_iter().map(|(period, closed_ms)| (period, Some(closed_ms))));
        }
        if periods.len() < limit && after < current.number {
            periods.push((current, None));
        }
        let answer = Answer::json(json::periods_array(&periods));
        // RFC 8288.
        Ok(match periods.last() {
            Some((last, Some(_))) => {
                let limit = if limit == MAX_LINES { String::new() } else { format!("&limit={limit}") };
                answer.with("Link", format!("</periods?after={}{limit}>; rel=\"next\"", last.number))
            }
            _ => answer,
        })
    }

    /// The report of this period; `None` for the current one.
    #[inline(never)]
    pub(super) fn period_report(&self, number: Option<u64>, format: ReportFormat) -> Result<Answer, Problem> {
        let current = self.ledger.current_period().period.number;
        let report = match number {
            None => self.current_report()?,
            Some(number) if number == current => {
                let report = self.current_report()?;
                // It may have been closed meanwhile.
                if report.period.number == number { report } else { self.closed_report(number)? }
            }
            Some(number) if number < current => self.closed_report(number)?,
            Some(number) => return Err(no_period(number, current)),
        };
        Ok(self.report_answer(&report, format))
    }

    /// The report of the current period, with every order that was answered before the call.
    fn current_report(&self) -> Result<Report, Problem> {
        for _ in 0..MAX_TRIES {
            let current = self.ledger.current_period();
            let totals = self.feeds.fanout.all_totals().ok_or_else(Problem::stopping)?;
            // If the period was closed meanwhile, the totals may have orders of the next one.
            if self.ledger.current_period().period.number == current.period.number {
                return Ok(current.report(&totals));
            }
        }
        Err(Problem::new(503, "one period after the other is being closed; try again")
            .with("Retry-After", RETRY_AFTER_SECONDS))
    }

    fn closed_report(&self, number: u64) -> Result<Report, Problem> {
        let report = self.history.report(number).map_err(unreadable)?;
        report.ok_or_else(|| no_period(number, self.ledger.current_period().period.number))
    }

    fn report_answer(&self, report: &Report, format: ReportFormat) -> Answer {
        let catalog = self.feeds.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let answer = match format {
            ReportFormat::Json => Answer::json(json::report_object(&catalog, report)),
            ReportFormat::Csv => {
                let csv = json::report_csv(&catalog, report);
                Answer::new(200, CSV, Body::Owned(csv.into_bytes())).with("Cache-Control", "no-store")
            }
        };
        answer.with("Vary", "Accept")
    }
}

fn no_period(number: u64, current: u64) -> Problem {
    Problem::new(404, format!("there is no period {number}; the current one is {current}, and GET /periods lists them"))
}

fn unreadable(_: Unreadable) -> Problem {
    Problem::new(503, "the closed periods cannot be read now; try again").with("Retry-After", RETRY_AFTER_SECONDS)
}
