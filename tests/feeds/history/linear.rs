//! Checks that what many clients did and saw at the same time is linearizable (Herlihy and Wing 1990): that there is one
//! order of all operations that is consistent with real time and in which each gets the answer that a single, sequential
//! tally would give.
//!
//! Finding such an order by search (Wing and Gong 1993, Lowe 2017) takes exponential time in the worst case: the problem is
//! NP-complete. Here the server names its order, the log. So this verifies a witness instead, in O(n log n): replay the log
//! by the sequential rules, then sweep over all invocations and responses by time with one number, the largest sequence
//! number that anybody knew of when an operation ended. An operation takes effect within its interval exactly if its number
//! is larger than what was known at its invocation; that nobody knows of it before its invocation follows. A read of totals
//! has no number of its own: it is put at the first place not before what was known at its invocation where the totals are those
//! it has seen. The first place is the best one, because it forbids least. What remains is weaker than a search in one
//! point: a history that only another order than the log's would explain is refused, and rightly, since the log is part
//! of the promise.

use std::collections::HashMap;

use crate::common::Line;
use crate::common::order_log::is_of;

/// One order, as it was sent: key, product, amount. Amounts are larger than 0, so that totals tell states apart.
pub type Sent = (String, &'static str, i64);

#[derive(Clone, Debug)]
pub enum What {
    /// Orders that were sent together under their keys, for the first time or again, and are said to count.
    Orders(Vec<Sent>),
    /// This order was refused because its key was used for another.
    KeyReused(Sent),
    /// All totals of a feed.
    Read(&'static str, Vec<(String, i64)>),
    /// The log was read to its end, which was the order with this number.
    ReadLog(u64),
    /// A subscriber was told a total: its place among them, and the total.
    Told(usize, (String, i64)),
}

/// What was done, and when by one monotonic clock it was begun and answered.
#[derive(Clone, Debug)]
pub struct Operation {
    pub invoked: u64,
    /// `None`: never, so it may have happened or not.
    pub returned: Option<u64>,
    pub what: What,
}

/// Everything that was recorded.
#[derive(Clone, Debug)]
pub struct History {
    pub starts: Vec<(&'static str, i64)>,
    pub operations: Vec<Operation>,
    /// The candidate order.
    pub log: Vec<Line>,
    pub subscribers: Vec<Subscriber>,
}

/// Who was told totals.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub feed: &'static str,
    /// What it was told first; recorded as a read too.
    pub snapshot: Vec<(String, i64)>,
    /// Whether it is due every order since; another may miss all but the last of each product.
    pub due_every_order: bool,
}

/// The states of a feed: which totals it has behind each number of the log.
struct States<'a> {
    /// The sum of the feed's totals rises with each of its orders, so it names the state.
    by_sum: HashMap<i64, usize>,
    /// Number and totals behind each order of the feed; before the first, number 0.
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

    /// The first and the last number of the log behind which the feed has these totals.
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
    let keys = replay(history)?;
    let batch_ends = check_sent(history, &keys)?;
    check_subscribers(history)?;
    sweep(history, &keys, &batch_ends)
}

/// The log by the rules of a sequential tally; returns the number of each key.
fn replay(history: &History) -> Result<HashMap<&str, &Line>, String> {
    let mut totals: HashMap<&str, i64> = history.starts.iter().copied().collect();
    let mut keys = HashMap::new();
    for (place, line) in history.log.iter().enumerate() {
        let total = totals.get_mut(line.id.as_str()).ok_or_else(|| format!("no such product: {line:?}"))?;
        *total += line.amount;
        if line.seq != place as u64 + 1 || line.total != *total || line.amount <= 0 {
            return Err(format!("{line:?} does not follow from what is before it"));
        }
        let key = line.key.as_deref().ok_or_else(|| format!("{line:?} was sent by nobody"))?;
        if keys.insert(key, line).is_some() {
            return Err(format!("{key} counts twice"));
        }
    }
    Ok(keys)
}

/// Every order that is said to count is in the log as it was sent, and no other; orders that were sent together stand
/// together. Returns, for each number within such a group, the last of the group.
fn check_sent(history: &History, keys: &HashMap<&str, &Line>) -> Result<HashMap<u64, u64>, String> {
    let mut ends = HashMap::new();
    for Operation { returned, what, .. } in &history.operations {
        let What::Orders(orders) = what else { continue };
        let mut seqs = Vec::new();
        for (key, id, amount) in orders {
            match keys.get(key.as_str()) {
                Some(line) if (line.id.as_str(), line.amount) == (*id, *amount) => seqs.push(line.seq),
                Some(line) => return Err(format!("{key} was sent as {amount} of {id}, and is {line:?}")),
                None if returned.is_some() => return Err(format!("{key} was answered and is lost")),
                None => {}
            }
        }
        let together = seqs.windows(2).all(|pair| pair[1] == pair[0] + 1) && [0, orders.len()].contains(&seqs.len());
        if !together {
            return Err(format!("orders that were sent together are torn: {seqs:?} of {}", orders.len()));
        }
        ends.extend(
            seqs.last().map(|last| seqs.iter().map(|seq| (*seq, *last)).collect::<Vec<_>>()).unwrap_or_default(),
        );
    }
    match history.log.iter().find(|line| !ends.contains_key(&line.seq)) {
        Some(line) => Err(format!("{line:?} was sent by nobody")),
        None => Ok(ends),
    }
}

/// Every subscriber's totals are the orders behind its snapshot, in the log's order; whoever is due every order has missed
/// none, and everybody has the last total of each product.
fn check_subscribers(history: &History) -> Result<(), String> {
    let mut told: Vec<Vec<&(String, i64)>> = vec![Vec::new(); history.subscribers.len()];
    for operation in &history.operations {
        if let What::Told(number, total) = &operation.what {
            told[*number].push(total);
        }
    }
    for (number, (subscriber, told)) in history.subscribers.iter().zip(told).enumerate() {
        let Subscriber { feed, snapshot, due_every_order } = subscriber;
        let found = States::new(history, feed).find(snapshot, u64::MAX);
        let (start, _) =
            found.ok_or_else(|| format!("subscriber {number} begins with {snapshot:?}, which never was"))?;
        let due: Vec<&Line> = history.log.iter().filter(|line| line.seq > start && line.is_of(feed)).collect();
        let is = |line: &Line, total: &(String, i64)| (line.id.as_str(), line.total) == (total.0.as_str(), total.1);
        let mut rest = due.as_slice();
        for total in &told {
            match rest.iter().position(|line| is(line, total)) {
                Some(skipped) if skipped == 0 || !due_every_order => rest = &rest[skipped + 1..],
                _ => return Err(format!("subscriber {number} is told {total:?} where {:?} is due", rest.first())),
            }
        }
        // Told in order, so the newest that it was told of a product is its last one, unless a later one was not told.
        let missed =
            rest.iter().find(|line| *due_every_order || !due.iter().any(|it| it.seq > line.seq && it.id == line.id));
        if let Some(line) = missed {
            return Err(format!("subscriber {number} is never told {line:?}"));
        }
    }
    Ok(())
}

/// Real time: see the module's head.
fn sweep(history: &History, keys: &HashMap<&str, &Line>, batch_ends: &HashMap<u64, u64>) -> Result<(), String> {
    // Whoever sent it first, or rather tried to, may have caused it.
    let mut invoked: HashMap<u64, u64> = HashMap::new();
    for operation in &history.operations {
        if let What::Orders(orders) = &operation.what {
            let first = orders.first().and_then(|(key, ..)| keys.get(key.as_str()));
            first.map(|line| {
                invoked.entry(line.seq).and_modify(|at| *at = operation.invoked.min(*at)).or_insert(operation.invoked)
            });
        }
    }
    let mut totals: HashMap<(&str, i64), u64> = HashMap::new();
    totals.extend(history.log.iter().map(|line| ((line.id.as_str(), line.total), line.seq)));
    let end = history.log.len() as u64;
    let mut states: HashMap<&str, States<'_>> = HashMap::new();
    /// Of two events at the same time the invocation comes first: then they overlap, which forbids nothing.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Edge {
        Effect(u64),
        Begin(usize),
        End(usize),
    }
    let mut edges: Vec<(u64, Edge)> = invoked.into_iter().map(|(seq, at)| (at, Edge::Effect(seq))).collect();
    for (place, operation) in history.operations.iter().enumerate() {
        edges.push((operation.invoked, Edge::Begin(place)));
        edges.extend(operation.returned.map(|at| (at, Edge::End(place))));
    }
    edges.sort_unstable();
    let mut known = 0;
    let mut known_at_begin = vec![0; history.operations.len()];
    for (_, edge) in edges {
        match edge {
            Edge::Effect(seq) if seq <= known => {
                return Err(format!("order {seq} was sent when order {known} was known already"));
            }
            Edge::Effect(_) => {}
            Edge::Begin(place) => known_at_begin[place] = known,
            Edge::End(place) => {
                let reached = match &history.operations[place].what {
                    What::Orders(orders) => orders.iter().map(|(key, ..)| keys[key.as_str()].seq).max().unwrap_or(0),
                    What::KeyReused((key, id, amount)) => match keys.get(key.as_str()) {
                        Some(line) if (line.id.as_str(), line.amount) != (*id, *amount) => line.seq,
                        Some(line) => return Err(format!("{line:?} was refused and counts")),
                        None => return Err(format!("{key} was refused for nothing")),
                    },
                    What::ReadLog(last) => {
                        let known = known_at_begin[place];
                        if *last < known || batch_ends.get(last).is_some_and(|end| end != last) {
                            return Err(format!(
                                "the log was read up to order {last} when order {known} was known, or is torn"
                            ));
                        }
                        *last
                    }
                    What::Told(_, (id, total)) => {
                        *totals.get(&(id.as_str(), *total)).ok_or_else(|| format!("{id} never was {total}"))?
                    }
                    What::Read(feed, seen) => {
                        let states = states.entry(feed).or_insert_with(|| States::new(history, feed));
                        let (from, to) = states.find(seen, end).ok_or_else(|| format!("{feed} never was {seen:?}"))?;
                        let mut point = from.max(known_at_begin[place]);
                        // Not within a batch: nobody may see half of it.
                        if batch_ends.get(&point).is_some_and(|end| *end != point) {
                            point = batch_ends[&point];
                        }
                        if point > to {
                            let known = known_at_begin[place];
                            return Err(format!(
                                "{seen:?} of {feed} was read when order {known} was known, or is torn"
                            ));
                        }
                        point
                    }
                };
                known = known.max(reached);
            }
        }
    }
    Ok(())
}
