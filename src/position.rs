//! Positions: where in which feed of which data file a client stands. Opaque to clients; pure text and numbers here.

/// What is before the sequence number: the data file's id and the feed. A position of another file, or of another feed of
/// this one, is a foreign one: its client has not seen what it would be assumed to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// The prefix of a feed, which has this number in the file with this id.
    #[must_use]
    pub fn new(file_id: &str, feed: usize) -> Self {
        Self(format!("{file_id}.{feed}."))
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

    /// The number of the last order that a client at this position has seen; `None` when it is none of this feed.
    #[must_use]
    pub fn parse(&self, position: &str) -> Option<u64> {
        let digits = position.strip_prefix(&self.0)?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_every_other_text_is_foreign() {
        let prefix = Prefix::new("0123456789abcdef", 2);
        assert_eq!(prefix.parse(&prefix.at(17)), Some(17));
        for foreign in [
            "",
            "17",
            "0123456789abcdef.2.",
            "0123456789abcdef.2.+1",
            "0123456789abcdef.3.17",
            "0123456789abcdee.2.17",
            "0123456789abcdef.2.99999999999999999999",
            &prefix.within_snapshot(),
        ] {
            assert_eq!(prefix.parse(foreign), None, "{foreign}");
        }
    }
}
