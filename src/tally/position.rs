//! Positions: where in which feed of which data file a client stands. Opaque to clients; pure text and numbers here.
//!
//! A position names the run of the server that gave it, the feed, and the number of the last order that its client has seen.
//! A run is one server's time on a data file, from its start to its end, under an id that no other has. The file lists its
//! runs, each with the number of the last order before it. So a copy of the file, however it was made, tells positions of
//! what it holds from positions of what the original has taken since; and so does the original those of the copy.

use std::fmt::Write;

/// Runs that a file lists: the last 32, which are short enough to be kept within a page. Who comes back after more starts than
/// that gets a fresh snapshot.
const KEPT: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    id: String,
    /// The number of the last order before it.
    after: u64,
}

/// The runs on one data file, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage(Vec<Run>);

impl Lineage {
    /// Reads what [`Self::text`] has made. What is not of that form is left out: its positions are foreign then.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let run = |word: &str| {
            let (id, after) = word.split_once(':')?;
            Some(Run { id: id.to_owned(), after: after.parse().ok()? })
        };
        Self(text.split(' ').filter_map(run).collect())
    }

    /// The runs as the file keeps them: `id:number`, separated by spaces.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Run { id, after } in &self.0 {
            let space = if text.is_empty() { "" } else { " " };
            // Writing to a string does not fail.
            let _ = write!(text, "{space}{id}:{after}");
        }
        text
    }

    /// Adds a run that begins behind the order with number `after`.
    pub fn begin(&mut self, id: String, after: u64) {
        let Self(runs) = self;
        runs.push(Run { id, after });
        runs.drain(..runs.len().saturating_sub(KEPT));
    }

    /// What is before the number in the positions that the last run gives to this feed.
    #[must_use]
    pub fn prefix(&self, feed: usize) -> Prefix {
        Prefix::new(self.0.last().map_or("", |run| &run.id), feed)
    }

    /// The number of the last order that a client of this feed at this position has seen; `None` when it is none of this
    /// feed, or of orders that this file does not have.
    #[must_use]
    pub fn seq(&self, feed: usize, position: &str) -> Option<u64> {
        let Self(runs) = self;
        let (id, _) = position.split_once('.')?;
        let place = runs.iter().position(|run| run.id == id)?;
        let seq = Prefix::new(&runs[place].id, feed).parse(position)?;
        // What a run has given out lies before the next one's start.
        let end = runs.get(place + 1).map_or(u64::MAX, |next| next.after);
        (seq <= end).then_some(seq)
    }
}

/// What is before the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    fn new(run: &str, feed: usize) -> Self {
        Self(format!("{run}.{feed}."))
    }

    /// The position behind the order with this number.
    #[must_use]
    pub fn at(&self, seq: u64) -> String {
        let Self(prefix) = self;
        format!("{prefix}{seq}")
    }

    /// The position in the middle of a snapshot, from which nobody can go on.
    #[must_use]
    pub fn within_snapshot(&self) -> String {
        let Self(prefix) = self;
        format!("{prefix}snapshot")
    }

    fn parse(&self, position: &str) -> Option<u64> {
        let digits = position.strip_prefix(&self.0)?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(runs: &[(&str, u64)]) -> Lineage {
        let mut lineage = Lineage::default();
        for (id, after) in runs {
            lineage.begin((*id).to_owned(), *after);
        }
        lineage
    }

    #[test]
    fn a_position_is_read_back_and_every_other_text_is_foreign() {
        let lineage = lineage(&[("0123456789abcdef", 3)]);
        let prefix = lineage.prefix(2);
        assert_eq!(lineage.seq(2, &prefix.at(17)), Some(17));
        for foreign in [
            "",
            "17",
            "0123456789abcdef",
            "0123456789abcdef.2.",
            "0123456789abcdef.2.+1",
            "0123456789abcdef.3.17",
            "0123456789abcdee.2.17",
            "0123456789abcdef.2.99999999999999999999",
            &prefix.within_snapshot(),
        ] {
            assert_eq!(lineage.seq(2, foreign), None, "{foreign}");
        }
        assert_eq!(Lineage::default().seq(2, ".2.17"), None);
    }

    #[test]
    fn positions_of_earlier_runs_are_good_as_far_as_the_file_has_their_orders() {
        // A copy that was made when the file had seven orders, and the file itself, which went on to nine.
        let copy = lineage(&[("a", 0), ("b", 5), ("copy", 7)]);
        let original = lineage(&[("a", 0), ("b", 5), ("on", 9)]);
        for (position, in_copy, in_original) in [
            ("a.0.5", Some(5), Some(5)),
            ("a.0.6", None, None),
            ("b.0.3", Some(3), Some(3)),
            ("b.0.7", Some(7), Some(7)),
            ("b.0.8", None, Some(8)),
            ("copy.0.8", Some(8), None),
            ("on.0.8", None, Some(8)),
        ] {
            assert_eq!((copy.seq(0, position), original.seq(0, position)), (in_copy, in_original), "{position}");
        }
    }

    #[test]
    fn the_last_runs_are_kept_and_read_back() {
        let mut lineage = Lineage::default();
        for number in 0..KEPT as u64 + 3 {
            lineage.begin(format!("run{number}"), 10 * number);
        }
        let text = lineage.text();
        assert!(text.starts_with("run3:30 run4:40 "), "{text}");
        assert_eq!(Lineage::parse(&text), lineage);
        assert_eq!(Lineage::parse(""), Lineage::default());
        assert_eq!(Lineage::parse("a b:x c:7"), Lineage(vec![Run { id: "c".into(), after: 7 }]));
    }
}
