//! The parameters of lists that are answered page by page: `after` and `limit`.

use crate::http::problem::Problem;
use crate::http::request::Request;

/// The most lines of a page, and the default: 1,000, about 120 KB of the log.
pub(super) const MAX_LINES: usize = 1_000;

/// The page of the list at `path` that a request asks for: the number after which it begins, and its most lines.
///
/// # Errors
/// 400 if a parameter is not such a number.
#[inline(never)]
pub(super) fn page(request: Request<'_>, path: &str) -> Result<(u64, usize), Problem> {
    let number = |name, least: u64, default: u64| {
        let Some(text) = request.parameter(name) else { return Ok(default) };
        let number = text.parse::<u64>().ok().filter(|number| *number >= least && i64::try_from(*number).is_ok());
        number.ok_or_else(|| {
            let least = if least == 0 { "" } else { " from 1 on" };
            Problem::new(400, format!("{name} must be a whole number{least}, as in {path}?after=0&limit=1000"))
        })
    };
    Ok((number("after", 0, 0)?, number("limit", 1, MAX_LINES as u64)?.min(MAX_LINES as u64) as usize))
}
