//! Counts of the current period, which begin at 0 with each close. The same counts may come again in a later period, so
//! numbers that were seen have several places in the history: each gets the first one that is consistent with what was
//! seen before, which restricts what is seen later least.

use std::collections::HashMap;

use super::linear::{History, Subscriber, What};
use super::periods::Moments;
use crate::common::order_log::is_of;

/// A change of one product's count.
struct Change {
    moment: u64,
    count: i64,
    /// Whether a period was closed, and not an order counted.
    is_close: bool,
}

/// The counts of a feed after each of its orders and each close.
pub struct Counts<'a> {
    by_sum: HashMap<i64, Vec<usize>>,
    states: Vec<State<'a>>,
    changes: HashMap<&'a str, Vec<Change>>,
    end: u64,
}

struct State<'a> {
    from: u64,
    period: u64,
    counts: HashMap<&'a str, i64>,
}

impl<'a> Counts<'a> {
    /// Of a history whose log has moments.
    pub fn new(history: &'a History, moments: &Moments, feed: &str) -> Self {
        let ids = || history.starts.iter().map(|(id, _)| *id).filter(|id| is_of(id, feed));
        let zeros: HashMap<&str, i64> = ids().map(|id| (id, 0)).collect();
        let mut states = vec![State { from: 0, period: 1, counts: zeros.clone() }];
        let first = || vec![Change { moment: 0, count: 0, is_close: false }];
        let mut changes: HashMap<&str, Vec<Change>> = ids().map(|id| (id, first())).collect();
        let orders = history.log.iter().filter(|line| line.is_of(feed)).map(|line| (line.seq, Some(line)));
        let mut all: Vec<_> = orders.chain(moments.closes().map(|moment| (moment, None))).collect();
        all.sort_unstable_by_key(|(moment, _)| *moment);
        for (moment, order) in all {
            let before = &states[states.len() - 1];
            let mut after = State { from: moment, period: before.period, counts: before.counts.clone() };
            if let Some(line) = order {
                let count = after.counts.get_mut(line.id.as_str()).expect("a product of the feed");
                *count += line.amount;
                let change = Change { moment, count: *count, is_close: false };
                changes.get_mut(line.id.as_str()).expect("a product of the feed").push(change);
            } else {
                after.counts.clone_from(&zeros);
                after.period += 1;
                changes.values_mut().for_each(|it| it.push(Change { moment, count: 0, is_close: true }));
            }
            states.push(after);
        }
        let mut by_sum: HashMap<i64, Vec<usize>> = HashMap::new();
        for (at, state) in states.iter().enumerate() {
            by_sum.entry(state.counts.values().sum()).or_default().push(at);
        }
        Self { by_sum, states, changes, end: moments.end() }
    }

    /// The first and the last moment of each state with these counts, oldest first; in one period, or in any.
    pub fn find(&self, seen: &[(String, i64)], period: Option<u64>) -> impl Iterator<Item = (u64, u64)> {
        let places = self.by_sum.get(&seen.iter().map(|(_, count)| count).sum());
        places.into_iter().flatten().copied().filter_map(move |at| {
            let State { from, period: number, counts } = &self.states[at];
            let is_same = counts.len() == seen.len()
                && seen.iter().all(|(id, count)| counts.get(id.as_str()) == Some(count))
                && period.is_none_or(|period| period == *number);
            let to = self.states.get(at + 1).map_or(self.end, |next| next.from - 1);
            is_same.then_some((*from, to))
        })
    }
}

/// Checks that a subscriber's counts are of orders and closes after its snapshot, in their order, and that it has the last
/// count of each product, unless it has left. One with positions misses an order only if the period was closed after it, or
/// after the position from which it resumed: then it gets all counts anew, as they are later. A position has no number of a
/// close: where it goes on at a server that has not followed as far, it gets the counts after a close once more. Returns a
/// moment for each number that it was told, with the place of its operation.
pub fn follow_counts(
    counts: &Counts<'_>,
    moments: &Moments,
    subscriber: &Subscriber,
    told: &[(usize, &What)],
) -> Result<Vec<(usize, u64)>, String> {
    let Subscriber { snapshot, due_every_order, has_left, .. } = subscriber;
    let (mut now, _) =
        (counts.find(snapshot, None).next()).ok_or_else(|| format!("begins with {snapshot:?}, which never was"))?;
    // The place of the last change of each product that it knows.
    let mut known: HashMap<&str, usize> =
        counts.changes.iter().map(|(id, of)| (*id, of.partition_point(|change| change.moment <= now) - 1)).collect();
    // Since the feed was resumed: from when on each product's count may come anew, how often, and whether it has.
    let mut anew: HashMap<&str, (u64, usize, bool)> = HashMap::new();
    // The last moment that the server of now is known to have followed.
    let mut followed = 0;
    let mut placed = Vec::new();
    for (place, what) in told {
        let (id, count) = match what {
            What::Resumed(_, seq) => {
                let from = moments.close_from(*seq).unwrap_or(u64::MAX);
                // A server that has not followed as far tells again of closes that the subscriber knows.
                let known = moments.closes().filter(|close| (from..=now).contains(close)).count();
                anew = counts.changes.keys().map(|id| (*id, (from, known.max(1), false))).collect();
                followed = 0;
                continue;
            }
            What::Told(_, (id, count)) => (id.as_str(), *count),
            _ => unreachable!("the operations of a subscriber"),
        };
        let (of, known) =
            counts.changes.get(id).zip(known.get_mut(id)).ok_or_else(|| format!("receives {id}, not of its feed"))?;
        let anew = anew.get_mut(id).filter(|(_, times, _)| *times > 0).map(|(from, times, has_come)| {
            *times -= 1;
            (*from, std::mem::replace(has_come, true))
        });
        let end = |at: usize| of.get(at + 1).map_or(counts.end, |next| next.moment - 1);
        let is_next = |at: usize| {
            at > *known
                && (!due_every_order || at == *known + 1 || of[*known + 1..=at].iter().any(|change| change.is_close))
        };
        let is_anew =
            |at: usize| anew.is_some_and(|(from, has_come)| end(at) >= from && (!has_come || of[at].is_close));
        let is_due = |at: usize| of[at].count == count && end(at) >= now && (is_next(at) || is_anew(at));
        let found = (*known..of.len()).find(|at| is_due(*at));
        let at = found.ok_or_else(|| format!("receives {count} of {id} after moment {now}"))?;
        followed = followed.max(match anew {
            // The first moment since when this may be told again.
            Some((from, _)) if !is_next(at) => {
                let first = of[..=at].iter().zip(0..).find(|(change, at)| change.count == count && end(*at) >= from);
                first.map_or(from, |(change, _)| change.moment.max(from))
            }
            _ => of[at].moment,
        });
        *known = at;
        now = now.max(of[at].moment);
        placed.push((*place, followed));
    }
    match counts.changes.iter().find(|(id, of)| known[*id] + 1 != of.len()) {
        Some((id, _)) if !has_left => Err(format!("never receives the last count of {id}")),
        _ => Ok(placed),
    }
}
