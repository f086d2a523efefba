//! Checks that a history of concurrent clients is linearizable (Herlihy and Wing 1990): there is one order of all
//! operations that is consistent with real time and in which each gets the answer of a single, sequential tally.
//!
//! Finding such an order by search (Wing and Gong 1993, Lowe 2017) takes exponential time in the worst case: the
//! problem is NP-complete. Here the server provides the order, its log, so this verifies a witness in O(n log n). It
//! replays the log by the sequential rules, then sweeps over all invocations and responses in time order with one
//! number: the largest sequence number that any finished operation has seen. An operation takes effect within its
//! interval if its sequence number is larger than that number was at its invocation; it follows that no operation sees
//! it before its invocation. A read of totals has no sequence number: it is placed at the first state, not before the
//! number at its invocation, that has the totals it saw. The first state is the best choice, because it restricts later
//! operations least. In one point the check is stricter than a search: it rejects a history that is linearizable only
//! in another order than the log's, because the log is part of the promise.
//!
//! Closes of periods stand in the same order: `periods.rs` finds their places in the log and numbers orders and closes
//! together. Below, a moment is such a number, and stands for the state after that order or close.

use std::collections::{HashMap, HashSet};

use super::counts::{Counts, follow_counts};
use super::periods::Moments;
use crate::common::Line;
use crate::common::order_log::is_of;
use crate::common::periods::Amounts;

/// An order as it was sent: key, product, amount. Amounts are larger than 0, so that totals identify states.
pub type Sent = (String, &'static str, i64);

#[derive(Clone, Debug)]
pub enum What {
    /// Orders that were sent in one request under their keys, for the first time or again, and were answered with
    /// success.
    Orders(Vec<Sent>),
    /// An order that was rejected because its key was used for another one.
    KeyReused(Sent),
    /// A read of all totals of a feed.
    Read(&'static str, Vec<(String, i64)>),
    /// A read of the log to its end, and the sequence number there.
    ReadLog(u64),
    /// A total, or a count of the current period, that a subscriber received: its index among the subscribers, and the
    /// number.
    Told(usize, (String, i64)),
    /// A subscriber, by its index, resumes its feed behind the order with this sequence number.
    Resumed(usize, u64),
    /// A close of the period with this number. Whether this request closed it, or was told that it is closed. Without an
    /// answer it may have.
    Closed(u64, bool),
    /// A read of all counts of a feed in the current period, and the period's number where the answer has it.
    ReadCounts(&'static str, Option<u64>, Vec<(String, i64)>),
    /// A read of the report of a closed period.
    ReadReport(u64, Amounts),
}

/// An operation, and when it was invoked and answered by one monotonic clock.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The server that was asked, by its index among those of the run.
    pub node: usize,
    pub invoked: u64,
    /// `None` without an answer: it may have taken effect or not.
    pub returned: Option<u64>,
    pub what: What,
}

/// A recorded run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub starts: Vec<(&'static str, i64)>,
    pub operations: Vec<Operation>,
    /// The witness: the log, and the reports of all closed periods, which tell where in the log they were closed.
    pub log: Vec<Line>,
    pub reports: Vec<Amounts>,
    pub subscribers: Vec<Subscriber>,
    /// Requests without an answer, those of reads included, and feeds that ended.
    pub lost: usize,
}

/// A subscriber of the run.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub feed: &'static str,
    /// Whether it receives counts of the current period instead of totals.
    pub has_counts: bool,
    /// The first numbers it received; they are also recorded as a read.
    pub snapshot: Vec<(String, i64)>,
    /// Whether it must receive every order since (it has positions); another may miss all but the last of each product.
    pub due_every_order: bool,
    /// Whether it stopped before the end: it began anew with another snapshot, as another subscriber.
    pub has_left: bool,
}

/// The states of a feed: its totals after each order of the log.
struct States<'a> {
    /// The sum of the feed's totals rises with each of its orders, so it identifies the state.
    by_sum: HashMap<i64, usize>,
    /// Moment and totals after each order of the feed; 0 before the first.
    states: Vec<(u64, HashMap<&'a str, i64>)>,
}

impl<'a> States<'a> {
    fn new(history: &'a History, feed: &str) -> Self {
        let totals: HashMap<&str, i64> = history.starts.iter().copied().filter(|(id, _)| is_of(id, feed)).collect();
        let mut states = vec![(0, totals)];
        for line in history.log.iter().filter(|line| line.is_of(feed)) {
            let mut totals = states[states.len() - 1].1.clone();
            totals.insert(&line.id, line.total);
            states.push((line.seq, totals));
        }
        let by_sum = states.iter().enumerate().map(|(at, (_, totals))| (totals.values().sum(), at)).collect();
        Self { by_sum, states }
    }

    /// The first and the last moment at which the feed has these totals.
    fn find(&self, totals: &[(String, i64)], end: u64) -> Option<(u64, u64)> {
        let at = *self.by_sum.get(&totals.iter().map(|(_, total)| total).sum())?;
        let (from, state) = &self.states[at];
        let same =
            state.len() == totals.len() && totals.iter().all(|(id, total)| state.get(id.as_str()) == Some(total));
        let to = self.states.get(at + 1).map_or(end, |(next, _)| next - 1);
        same.then_some((*from, to))
    }
}

/// Checks a history.
pub fn check(history: &History) -> Result<(), String> {
    replay(history)?;
    let moments = Moments::find(history)?;
    let history = &moments.number(history);
    let keys: HashMap<&str, &Line> =
        history.log.iter().filter_map(|line| line.key.as_deref().map(|key| (key, line))).collect();
    let batch_ends = check_sent(history, &keys)?;
    let told = check_subscribers(history, &moments)?;
    sweep(history, &moments, &keys, &batch_ends, &told)
}

/// Replays the log by the rules of a sequential tally.
fn replay(history: &History) -> Result<(), String> {
    let mut totals: HashMap<&str, i64> = history.starts.iter().copied().collect();
    let mut keys = HashSet::new();
    for (place, line) in history.log.iter().enumerate() {
        let total = totals.get_mut(line.id.as_str()).ok_or_else(|| format!("no such product: {line:?}"))?;
        *total += line.amount;
        if line.seq != place as u64 + 1 || line.total != *total || line.amount <= 0 {
            return Err(format!("{line:?} does not follow from what is before it"));
        }
        let key = line.key.as_deref().ok_or_else(|| format!("{line:?} was not sent"))?;
        if !keys.insert(key) {
            return Err(format!("{key} counts twice"));
        }
    }
    Ok(())
}

/// The line of an order, if it is the one that counts under its key.
fn line_of<'a>(keys: &HashMap<&str, &'a Line>, (key, id, amount): &Sent) -> Option<&'a Line> {
    keys.get(key.as_str()).copied().filter(|line| (line.id.as_str(), line.amount) == (*id, *amount))
}

/// Checks that the log has every order that was answered with success as it was sent, that every line was sent, and
/// that no order and no close is between those of one request. Returns the moment of a request's last order for each of
/// its orders.
fn check_sent(history: &History, keys: &HashMap<&str, &Line>) -> Result<HashMap<u64, u64>, String> {
    let mut ends = HashMap::new();
    for Operation { returned, what, .. } in &history.operations {
        let What::Orders(orders) = what else { continue };
        let mut seqs = Vec::new();
        for (key, id, amount) in orders {
            match keys.get(key.as_str()) {
                Some(line) if (line.id.as_str(), line.amount) == (*id, *amount) => seqs.push(line.seq),
                // Without an answer it may have been rejected, for a key that was used for another order.
                _ if returned.is_none() => {}
                Some(line) => return Err(format!("{key} was sent as {amount} of {id}, and is {line:?}")),
                None => return Err(format!("{key} was answered and is lost")),
            }
        }
        let together = seqs.windows(2).all(|pair| pair[1] == pair[0] + 1) && [0, orders.len()].contains(&seqs.len());
        if !together {
            return Err(format!("the orders of one request are not consecutive: {seqs:?} of {}", orders.len()));
        }
        ends.extend(
            seqs.last().map(|last| seqs.iter().map(|seq| (*seq, *last)).collect::<Vec<_>>()).unwrap_or_default(),
        );
    }
    match history.log.iter().find(|line| !ends.contains_key(&line.seq)) {
        Some(line) => Err(format!("{line:?} was not sent")),
        None => Ok(ends),
    }
}

/// Checks what every subscriber received. Returns the first moment at which each number that was received was right, by the
/// place of its operation.
fn check_subscribers(history: &History, moments: &Moments) -> Result<HashMap<usize, u64>, String> {
    let mut told: Vec<Vec<(usize, &What)>> = vec![Vec::new(); history.subscribers.len()];
    for (place, operation) in history.operations.iter().enumerate() {
        if let What::Told(number, _) | What::Resumed(number, _) = &operation.what {
            told[*number].push((place, &operation.what));
        }
    }
    let mut placed = HashMap::new();
    for (number, (subscriber, told)) in history.subscribers.iter().zip(told).enumerate() {
        let found = if subscriber.has_counts {
            follow_counts(&Counts::new(history, moments, subscriber.feed), moments, subscriber, &told)
        } else {
            follow_totals(history, subscriber, &told)
        };
        placed.extend(found.map_err(|why| format!("subscriber {number} {why}"))?);
    }
    Ok(placed)
}

/// Checks that a subscriber's totals are those of orders after its snapshot, in the order of the log; that one with
/// positions has missed none, also when it resumed; and that it has the last total of each product, unless it has left.
/// Returns the moment of each.
fn follow_totals(
    history: &History,
    subscriber: &Subscriber,
    told: &[(usize, &What)],
) -> Result<Vec<(usize, u64)>, String> {
    let Subscriber { feed, snapshot, due_every_order, has_left, .. } = subscriber;
    let found = States::new(history, feed).find(snapshot, u64::MAX);
    let (start, _) = found.ok_or_else(|| format!("begins with {snapshot:?}, which never was"))?;
    let due: Vec<&Line> = history.log.iter().filter(|line| line.seq > start && line.is_of(feed)).collect();
    let is = |line: &Line, total: &(String, i64)| (line.id.as_str(), line.total) == (total.0.as_str(), total.1);
    let mut rest = due.as_slice();
    let mut placed = Vec::new();
    for (place, what) in told {
        let What::Told(_, total) = what else { continue };
        match rest.iter().position(|line| is(line, total)) {
            Some(skipped) if skipped == 0 || !due_every_order => {
                placed.push((*place, rest[skipped].seq));
                rest = &rest[skipped + 1..];
            }
            _ => return Err(format!("receives {total:?} where {:?} is due", rest.first())),
        }
    }
    if *has_left {
        return Ok(placed);
    }
    // Only orders of products whose last total it received may remain.
    let missed =
        rest.iter().find(|line| *due_every_order || !due.iter().any(|it| it.seq > line.seq && it.id == line.id));
    missed.map_or(Ok(placed), |line| Err(format!("never receives {line:?}")))
}

/// Checks the consistency with real time.
fn sweep(
    history: &History,
    moments: &Moments,
    keys: &HashMap<&str, &Line>,
    batch_ends: &HashMap<u64, u64>,
    told: &HashMap<usize, u64>,
) -> Result<(), String> {
    // An order or a close may take effect from the first invocation that sent it, whether that was answered or not.
    let mut invoked: HashMap<u64, u64> = HashMap::new();
    for operation in &history.operations {
        let moment = match &operation.what {
            What::Orders(orders) => orders.first().and_then(|order| line_of(keys, order)).map(|line| line.seq),
            What::Closed(number, _) => moments.close(*number),
            _ => None,
        };
        if let Some(moment) = moment {
            let first = invoked.entry(moment).or_insert(operation.invoked);
            *first = operation.invoked.min(*first);
        }
    }
    let end = moments.end();
    let mut states: HashMap<&str, States<'_>> = HashMap::new();
    let mut counts: HashMap<&str, Counts<'_>> = HashMap::new();
    // The moment of a read that finds a state that lasts from one moment to another. It sees no part of a batch.
    let place = |(from, to): (u64, u64), known: u64| {
        let point = from.max(known);
        let point = batch_ends.get(&point).copied().unwrap_or(point);
        (point <= to).then_some(point)
    };
    /// At the same time an invocation comes before a response: then the operations overlap, which restricts nothing.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Edge {
        Effect(u64),
        Begin(usize),
        End(usize),
    }
    let mut edges: Vec<(u64, Edge)> = invoked.into_iter().map(|(moment, at)| (at, Edge::Effect(moment))).collect();
    for (place, operation) in history.operations.iter().enumerate() {
        edges.push((operation.invoked, Edge::Begin(place)));
        edges.extend(operation.returned.map(|at| (at, Edge::End(place))));
    }
    edges.sort_unstable();
    let mut known = 0;
    let mut known_at_begin = vec![0; history.operations.len()];
    for (_, edge) in edges {
        match edge {
            Edge::Effect(moment) if moment <= known => {
                return Err(format!("what is at moment {moment} was sent when moment {known} was known already"));
            }
            Edge::Effect(_) => {}
            Edge::Begin(place) => known_at_begin[place] = known,
            Edge::End(at) => {
                let before = known_at_begin[at];
                let what = &history.operations[at].what;
                let too_late = || format!("at moment {before}, which was known, or later it was not right: {what:?}");
                let reached = match what {
                    What::Orders(orders) => orders.iter().map(|(key, ..)| keys[key.as_str()].seq).max().unwrap_or(0),
                    What::KeyReused((key, id, amount)) => match keys.get(key.as_str()) {
                        Some(line) if (line.id.as_str(), line.amount) != (*id, *amount) => line.seq,
                        Some(line) => return Err(format!("{line:?} was rejected and counts")),
                        None => return Err(format!("{key} was rejected and is in no order")),
                    },
                    What::Told(..) => told[&at],
                    What::Resumed(..) => 0,
                    What::ReadLog(last) => place(moments.after(*last), before).ok_or_else(too_late)?,
                    What::Read(feed, seen) => {
                        let states = states.entry(feed).or_insert_with(|| States::new(history, feed));
                        let found = states.find(seen, end).ok_or_else(|| format!("{feed} never was {seen:?}"))?;
                        place(found, before).ok_or_else(too_late)?
                    }
                    What::ReadCounts(feed, period, seen) => {
                        let counts = counts.entry(feed).or_insert_with(|| Counts::new(history, moments, feed));
                        let mut found = counts.find(seen, *period);
                        found.find_map(|state| place(state, before)).ok_or_else(too_late)?
                    }
                    What::Closed(number, _) | What::ReadReport(number, _) => {
                        moments.close(*number).ok_or_else(|| format!("no period {number} was closed: {what:?}"))?
                    }
                };
                known = known.max(reached);
            }
        }
    }
    Ok(())
}
