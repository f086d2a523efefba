//! Positions: text from which a client resumes a feed. Opaque to clients.
//!
//! A position is `run.feed.seq`: the run that issued it, the name of the feed, and the sequence number of the last order
//! that the client has seen. A run is one start of a server on a data file; it has a unique id. The file lists its runs,
//! each with the sequence number of the last order before it. A copy of the file thus accepts positions of orders that it
//! holds, and rejects positions of orders that the original has committed since; the original does the same with
//! positions of the copy.

use std::fmt::Display;

/// The most runs that a file lists: the last 32, which fit into one page. A client with a position of an older run gets
/// a new snapshot.
const MAX_RUNS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    id: String,
    /// The sequence number of the last order before it.
    after: u64,
}

/// The runs of one data file, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunList(Vec<Run>);

impl RunList {
    /// Parses the form that [`Self::text`] prints. Words of any other form are skipped, so positions of such runs are
    /// unknown.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let run = |word: &str| {
            let (id, after) = word.split_once(':')?;
            Some(Run { id: id.to_owned(), after: after.parse().ok()? })
        };
        Self(text.split(' ').filter_map(run).collect())
    }

    /// The form in which the file stores the runs: `id:seq`, separated by spaces.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(|Run { id, after }| format!("{id}:{after}")).collect::<Vec<_>>().join(" ")
    }

    /// Adds a run that begins after the order with sequence number `after`.
    pub fn begin(&mut self, id: String, after: u64) {
        let Self(runs) = self;
        runs.push(Run { id, after });
        runs.drain(..runs.len().saturating_sub(MAX_RUNS));
    }

    /// The id of each run, and the sequence number of the last order before it, oldest first.
    #[cfg(feature = "postgres")]
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|Run { id, after }| (id.as_str(), *after))
    }

    /// The id of the last run.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.0.last().map(|run| run.id.as_str())
    }

    /// The prefix of the last run's positions in this feed.
    #[must_use]
    pub fn prefix(&self, feed: impl Display) -> Prefix {
        Prefix::new(self.0.last().map_or("", |run| &run.id), feed)
    }

    /// The sequence number in a position of this feed; `None` when the position is of another feed or form, or of an
    /// order that this file does not have.
    #[must_use]
    pub fn seq(&self, feed: impl Display, position: &str) -> Option<u64> {
        let Self(runs) = self;
        let (id, _) = position.split_once('.')?;
        let index = runs.iter().position(|run| run.id == id)?;
        let seq = Prefix::new(&runs[index].id, feed).parse(position)?;
        // A run issues no position beyond the start of the next run.
        let end = runs.get(index + 1).map_or(u64::MAX, |next| next.after);
        (seq <= end).then_some(seq)
    }
}

/// A position without its sequence number: `run.feed.`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    fn new(run: &str, feed: impl Display) -> Self {
        Self(format!("{run}.{feed}."))
    }

    /// The position after the order with this sequence number.
    #[must_use]
    pub fn at(&self, seq: u64) -> String {
        let Self(prefix) = self;
        format!("{prefix}{seq}")
    }

    /// The position inside a snapshot, from which no client can resume.
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

    fn run_list(of: &[(&str, u64)]) -> RunList {
        let mut runs = RunList::default();
        for (id, after) in of {
            runs.begin((*id).to_owned(), *after);
        }
        runs
    }

    #[test]
    fn a_position_is_parsed_and_every_other_text_is_unknown() {
        let runs = run_list(&[("0123456789abcdef", 3)]);
        let prefix = runs.prefix(2);
        assert_eq!(runs.seq(2, &prefix.at(17)), Some(17));
        for unknown in [
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
            assert_eq!(runs.seq(2, unknown), None, "{unknown}");
        }
        assert_eq!(RunList::default().seq(2, ".2.17"), None);
    }

    #[test]
    fn positions_of_earlier_runs_are_known_as_far_as_the_file_has_their_orders() {
        // A copy that was made when the file had seven orders, and the file itself with nine.
        let copy = run_list(&[("a", 0), ("b", 5), ("copy", 7)]);
        let original = run_list(&[("a", 0), ("b", 5), ("on", 9)]);
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
    fn the_last_runs_are_printed_and_parsed() {
        let mut runs = RunList::default();
        for number in 0..MAX_RUNS as u64 + 3 {
            runs.begin(format!("run{number}"), 10 * number);
        }
        let text = runs.text();
        assert!(text.starts_with("run3:30 run4:40 "), "{text}");
        assert_eq!(RunList::parse(&text), runs);
        assert_eq!(RunList::parse(""), RunList::default());
        assert_eq!(RunList::parse("a b:x c:7"), RunList(vec![Run { id: "c".into(), after: 7 }]));
    }
}
