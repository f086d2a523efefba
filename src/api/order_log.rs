//! `GET /log`: the order log, page by page. Owns the parameters and the link to the next page.

use std::borrow::Cow;

use super::headers::NDJSON;
use super::page::{MAX_LINES, page};
use super::route::{no_category, no_product};
use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::http::request::Request;
use crate::http::response::{Answer, Body};
use crate::json;
use crate::live::history::History;
use crate::store::order_log::{Filter, Page};
use crate::tally::catalog::Catalog;
use crate::tally::rfc3339;

/// The page of the log that a request asks for.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// It begins after the order with this sequence number.
    after: u64,
    /// The most lines.
    limit: usize,
    filter: Filter,
    /// Whether no order can be wanted.
    is_empty: bool,
    /// The parameters of the link to the next page that follow `after`.
    kept: String,
}

impl LogQuery {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 400 for a malformed one, 404 for an unknown product or category.
    #[inline(never)]
    pub(super) fn parse(request: Request<'_>, catalog: &Catalog) -> Result<Self, Problem> {
        let (after, limit) = page(request, "/log")?;
        let mut kept = String::new();
        let mut keep = |name: &str, value: &str| kept.extend(["&", name, "=", value]);
        if limit < MAX_LINES {
            keep("limit", &limit.to_string());
        }
        let (since_ms, until_ms) = (time(request, "since")?, time(request, "until")?);
        for (name, ms) in [("since", since_ms), ("until", until_ms)] {
            if let Some(ms) = ms {
                keep(name, &rfc3339::format(ms));
            }
        }
        let mut filter = Filter { since_ms, until_ms, product: None, category: None };
        if let Some(id) = text(request, "id")? {
            filter.product = Some(catalog.find_product(&id).ok_or_else(|| no_product(catalog, &id))?);
            keep("id", &id);
        }
        if let Some(name) = text(request, "category")? {
            filter.category = Some(catalog.find_category(&name).ok_or_else(|| no_category(&name))?);
            keep("category", &name);
        }
        let is_of_another = |(product, category)| catalog.product(product).category != category;
        let is_empty = filter.product.zip(filter.category).is_some_and(is_of_another)
            || since_ms.zip(until_ms).is_some_and(|(since, until)| since >= until);
        Ok(Self { after, limit, filter, is_empty, kept })
    }

    /// The page as NDJSON, with a link to the next one unless the log has ended (RFC 8288).
    ///
    /// # Errors
    /// 503 when the log cannot be read.
    pub(super) fn answer(&self, history: &History) -> Result<Answer, Problem> {
        let page =
            if self.is_empty { Some(Page::default()) } else { history.page(self.after, self.limit, self.filter) };
        let page = page.ok_or_else(|| {
            Problem::new(503, "the log cannot be read now; try again").with("Retry-After", RETRY_AFTER_SECONDS)
        })?;
        let mut lines = String::new();
        for entry in &page.entries {
            json::push_log_line(&mut lines, entry);
        }
        let answer = Answer::new(200, NDJSON, Body::Owned(lines.into_bytes())).with("Cache-Control", "no-store");
        Ok(match page.next {
            Some(next) => answer.with("Link", format!("</log?after={next}{}>; rel=\"next\"", self.kept)),
            None => answer,
        })
    }
}

/// A time in milliseconds since 1970 (UTC). No order is older.
fn time(request: Request<'_>, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = text(request, name)? else { return Ok(None) };
    let ms = rfc3339::parse(&text).ok_or_else(|| {
        let example = "2026-01-31T12:00:00Z or 2026-01-31T13:00:00.5+01:00";
        Problem::new(400, format!("{name} must be a time with its offset from UTC, as in RFC 3339: {example}"))
    })?;
    Ok(Some(ms.max(0).cast_unsigned()))
}

/// A parameter's value without escapes. A plus sign is one: in a time it stands before the offset.
fn text<'a>(request: Request<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    let Some(value) = request.parameter(name) else { return Ok(None) };
    let text = unescaped(value);
    let wrong =
        || Problem::new(400, format!("{name} must be text in UTF-8; a percent sign begins an escape such as %2B"));
    text.map(Some).ok_or_else(wrong)
}

/// The text without percent escapes (RFC 3986, section 2.1); `None` if one is malformed or the result is not UTF-8.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_and_malformed_ones_rejected() {
        for (text, expected) in [("", ""), ("a+b", "a+b"), ("12%3A00%3a00%2B01", "12:00:00+01"), ("%C3%A4%25", "ä%")] {
            assert_eq!(unescaped(text).as_deref(), Some(expected), "{text}");
        }
        for malformed in ["%", "%4", "%+1", "%zz", "a%4g", "%ff", "%C3"] {
            assert_eq!(unescaped(malformed), None, "{malformed}");
        }
    }
}
