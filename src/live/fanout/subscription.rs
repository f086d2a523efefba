//! What a subscriber can ask for: a feed, a form, and options. Pure rules.

use std::time::Duration;

use crate::tally::catalog::CategoryIndex;

/// What a subscriber follows: one category, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// The products of one category.
    Category(CategoryIndex),
    /// Every product.
    All,
}

/// The form in which a subscriber gets its totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// WebSocket messages `{"id","total"}`.
    Plain,
    /// WebSocket messages `{"id","total","position"}`.
    Positioned,
    /// Server-sent events, whose ids are positions.
    Events,
}

/// Since when orders are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counts {
    /// Since ever: totals.
    #[default]
    Lifetime,
    /// Since the opening of the current period.
    Period,
}

/// The shortest interval, in milliseconds: 20 messages of a product a second are more than people can follow.
pub const MIN_INTERVAL_MS: u32 = 50;
/// The longest interval, in milliseconds: a minute.
pub const MAX_INTERVAL_MS: u32 = 60_000;

/// The intervals that there are, in milliseconds. Their number bounds the number of groups, each of which keeps a state
/// for each product, whatever clients ask for.
const INTERVALS_MS: [u32; 23] = [
    MIN_INTERVAL_MS,
    75,
    100,
    150,
    200,
    250,
    300,
    400,
    500,
    750,
    1_000,
    1_500,
    2_000,
    2_500,
    3_000,
    4_000,
    5_000,
    7_500,
    10_000,
    15_000,
    20_000,
    30_000,
    MAX_INTERVAL_MS,
];

/// The time in which a subscriber gets at most one message a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(u32);

impl Interval {
    /// The shortest interval that has at least so many milliseconds; `None` beyond [`MIN_INTERVAL_MS`] and
    /// [`MAX_INTERVAL_MS`].
    #[must_use]
    pub fn from_ms(ms: u32) -> Option<Self> {
        let found = INTERVALS_MS.into_iter().find(|interval| *interval >= ms);
        found.filter(|_| ms >= MIN_INTERVAL_MS).map(Self)
    }

    /// Its length.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// What a subscriber is told beside totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notices {
    /// Whether the feed is live, from time to time.
    pub status: bool,
    /// That products of a category were changed.
    pub catalog: bool,
}

/// What a subscriber can ask for beside the feed and the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// At most one message a product in this time, always the latest total. Skipped ones are not owed.
    pub every: Option<Interval>,
    /// Since when orders are counted.
    pub counts: Counts,
    /// What it is told beside totals.
    pub notices: Notices,
    /// Whether it is another server that follows this one: it gets hidden products too, and learns where in the order of
    /// totals the catalogue was changed or a period was opened.
    pub is_edge: bool,
}

/// What a subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Which totals.
    pub feed: Feed,
    /// In which form.
    pub format: Format,
    /// The rest.
    pub options: Options,
}

impl Subscription {
    /// Whether the subscribers of both get the same totals at the same time.
    #[must_use]
    pub fn shares_totals_with(self, other: Self) -> bool {
        let notices = self.options.notices;
        self == Self { options: Options { notices, ..other.options }, ..other }
    }

    /// The name of the feed in positions. A position of totals is unknown where a period is counted, and the other way
    /// round: a client would go on from numbers of the other kind.
    #[must_use]
    pub fn feed_in_positions(self) -> String {
        let mark = if self.options.counts == Counts::Period { "p" } else { "" };
        format!("{}{mark}", feed_number(self.feed))
    }
}

/// The number of [`Feed::All`] among the feeds; the categories follow.
pub const ALL: usize = 0;

/// The number of a feed.
#[must_use]
pub fn feed_number(feed: Feed) -> usize {
    match feed {
        Feed::All => ALL,
        Feed::Category(index) => ALL + 1 + index.0 as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_rounded_up_and_bounded() {
        let rounded = |ms: u32| Interval::from_ms(ms).map(|interval| interval.duration().as_millis());
        for (asked, given) in [(50, 50), (51, 75), (100, 100), (101, 150), (1_000, 1_000), (30_001, 60_000)] {
            assert_eq!(rounded(asked), Some(given), "{asked}");
        }
        assert_eq!([0, 49, 60_001, u32::MAX].map(rounded), [None; 4]);
        assert!(INTERVALS_MS.is_sorted());
    }

    #[test]
    fn subscribers_share_totals_whatever_else_they_are_told() {
        let plain = Subscription { feed: Feed::All, format: Format::Plain, options: Options::default() };
        let with = |options: Options| Subscription { options, ..plain };
        let notices = Notices { status: true, catalog: true };
        assert!(with(Options { notices, ..Options::default() }).shares_totals_with(plain));
        assert!(!with(Options { every: Interval::from_ms(50), ..Options::default() }).shares_totals_with(plain));
        assert!(!with(Options { counts: Counts::Period, ..Options::default() }).shares_totals_with(plain));
        assert!(!Subscription { format: Format::Events, ..plain }.shares_totals_with(plain));
    }
}
