//! The answers with an error status since the last line about them, by status. Keeps nothing of what clients sent.

use std::collections::BTreeMap;
use std::fmt::Write;

/// How many answers of each error status were logged before.
#[derive(Debug, Default)]
pub(super) struct ErrorSums(BTreeMap<u16, u64>);

impl ErrorSums {
    /// What has come on top of the counts of the call before, such as `401 ×12, 404 ×3`; `None` when there is nothing.
    pub(super) fn next(&mut self, counts: impl Iterator<Item = (u16, u64)>) -> Option<String> {
        let mut text = String::new();
        for (status, count) in counts {
            let more = count - self.0.insert(status, count).unwrap_or(0);
            if more > 0 {
                let comma = if text.is_empty() { "" } else { ", " };
                let _ = write!(text, "{comma}{status} ×{more}");
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_the_lines_before_did_not() {
        let mut sums = ErrorSums::default();
        let mut next = |counts: &[(u16, u64)]| sums.next(counts.iter().copied());
        assert_eq!(next(&[(400, 0), (404, 0)]), None);
        assert_eq!(next(&[(400, 1), (404, 2)]).as_deref(), Some("400 ×1, 404 ×2"));
        assert_eq!(next(&[(400, 1), (404, 2)]), None);
        assert_eq!(next(&[(400, 1), (404, 5)]).as_deref(), Some("404 ×3"));
    }
}
