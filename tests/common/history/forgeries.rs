//! Wrong histories: each is a valid one with a single change, as a server with one mistake would cause it. The checks
//! must reject them all.

use std::collections::HashMap;

use super::linear::{History, Operation, Subscriber, What};
use crate::common::Line;
use crate::common::periods::Amounts;

/// Recomputes the log's sequence numbers and totals after lines were changed, so that the log is consistent in itself, and
/// removes the periods, so that their reports do not give the change away.
fn add_up(history: &mut History) {
    let History { log, starts, reports, operations, subscribers, .. } = history;
    reports.clear();
    subscribers.retain(|subscriber| !subscriber.has_counts);
    operations.retain(|operation| match &operation.what {
        What::Closed(..) | What::ReadCounts(..) | What::ReadReport(..) => false,
        What::Told(number, _) | What::Resumed(number, _) => *number < subscribers.len(),
        _ => true,
    });
    let mut totals: HashMap<String, i64> = starts.iter().map(|(id, total)| ((*id).to_owned(), *total)).collect();
    for (line, seq) in log.iter_mut().zip(1..) {
        let total = totals.get_mut(&line.id).expect("a product");
        *total += line.amount;
        (line.seq, line.total) = (seq, *total);
    }
}

/// The name of a change, and the change.
pub type Forgery = (&'static str, fn(&mut History));

pub const FORGERIES: [Forgery; 21] = [
    ("two orders swapped, which subscribers saw in the other order", |it| {
        let at = (it.log.len() / 2..).find(|at| it.log[*at].id != it.log[at + 1].id).expect("two products");
        it.log.swap(at, at + 1);
        add_up(it);
    }),
    ("an early order swapped with a late one, which no subscriber received and nobody read", |it| {
        it.operations.retain(|operation| matches!(operation.what, What::Orders(_)));
        it.subscribers.clear();
        let single = |line: &&Line| line.key.as_ref().is_some_and(|key| !key.starts_with("b-"));
        let (early, late) =
            (it.log.iter().position(|line| single(&line)), it.log.iter().rposition(|line| single(&line)));
        it.log.swap(early.expect("an order"), late.expect("an order"));
        add_up(it);
    }),
    ("an answered order lost", |it| {
        it.log.remove(it.log.len() / 2);
        add_up(it);
    }),
    ("a replay counted", |it| {
        let line = it.log[it.log.len() / 2].clone();
        it.log.push(line);
        add_up(it);
    }),
    ("an order rejected for a key that was not used yet", |it| {
        let refused = |operation: &&Operation| matches!(operation.what, What::KeyReused(_));
        let first = it.operations.iter().find(refused).expect("one").clone();
        // Before any client sent the key.
        it.operations.push(Operation { invoked: 0, returned: Some(1), ..first });
    }),
    ("an order that no client sent", |it| {
        let stranger = Line { key: Some("stranger".to_owned()), ..it.log[0].clone() };
        it.log.push(stranger);
        add_up(it);
    }),
    ("a total missing for a subscriber with positions", |it| {
        let is_one = |subscriber: &Subscriber| subscriber.due_every_order && !subscriber.has_left;
        let every = it.subscribers.iter().position(is_one).expect("one");
        let is_told = |operation: &Operation| matches!(&operation.what, What::Told(number, _) if *number == every);
        let all: Vec<usize> = (0..it.operations.len()).filter(|at| is_told(&it.operations[*at])).collect();
        it.operations.remove(all[all.len() / 2]);
    }),
    ("a total received twice", |it| {
        let has_totals = |number: usize| !it.subscribers[number].has_counts;
        let is_told = |it: &Operation| matches!(it.what, What::Told(number, _) if has_totals(number));
        let at = it.operations.iter().rposition(is_told).expect("one");
        it.operations.push(it.operations[at].clone());
    }),
    ("a stale read", |it| {
        let mut reads: Vec<usize> = (0..it.operations.len()).filter(|at| is_read_of_all(&it.operations[*at])).collect();
        reads.sort_by_key(|at| it.operations[*at].invoked);
        it.operations[reads[reads.len() - 1]].what = it.operations[reads[0]].what.clone();
    }),
    ("a read of the future", |it| {
        let mut reads: Vec<usize> = (0..it.operations.len()).filter(|at| is_read_of_all(&it.operations[*at])).collect();
        reads.sort_by_key(|at| it.operations[*at].invoked);
        it.operations[reads[0]].what = it.operations[reads[reads.len() - 1]].what.clone();
    }),
    ("a stale read of the log", |it| {
        let mut reads: Vec<usize> = (0..it.operations.len()).filter(|at| is_read_of_log(&it.operations[*at])).collect();
        reads.sort_by_key(|at| it.operations[*at].invoked);
        it.operations[reads[reads.len() - 1]].what = it.operations[reads[0]].what.clone();
    }),
    ("a read of the log before its last order was sent", |it| {
        let mut reads: Vec<usize> = (0..it.operations.len()).filter(|at| is_read_of_log(&it.operations[*at])).collect();
        reads.sort_by_key(|at| it.operations[*at].invoked);
        it.operations[reads[0]].what = it.operations[reads[reads.len() - 1]].what.clone();
    }),
    ("half a batch read", |it| {
        let of_batch = |line: &Line| line.key.as_ref().is_some_and(|key| key.starts_with("b-") && key.ends_with("-0"));
        let first = it.log.iter().position(of_batch).expect("a batch");
        let mut totals: HashMap<&str, i64> = it.starts.iter().copied().collect();
        totals.extend(it.log[..=first].iter().map(|line| (line.id.as_str(), line.total)));
        let totals = totals.into_iter().map(|(id, total)| (id.to_owned(), total)).collect();
        // A read that lasted as long as the whole history.
        let end = it.operations.iter().filter_map(|operation| operation.returned).max();
        it.operations.push(Operation { node: 0, invoked: 0, returned: end, what: What::Read("/orders", totals) });
    }),
    // One alone may be consistent with what was seen.
    ("closes after the orders that followed them", |it| {
        let mut moved_any = false;
        for at in it.reports.len() / 2..it.reports.len() - 1 {
            let closed: i64 = it.reports[..=at].iter().flat_map(Amounts::values).sum();
            let mut before = 0;
            let moved = it.log.iter().find(|line| {
                before += line.amount;
                before > closed
            });
            // The last closes may come after the last order.
            let Some(Line { id, amount, .. }) = moved.cloned() else { break };
            moved_any = true;
            if let Some(next) = it.reports[at + 1].get_mut(&id) {
                *next -= amount;
                *it.reports[at].entry(id).or_default() += amount;
            }
            it.reports[at + 1].retain(|_, amount| *amount != 0);
        }
        assert!(moved_any, "orders follow a close");
        for operation in &mut it.operations {
            if let What::ReadReport(number, amounts) = &mut operation.what {
                amounts.clone_from(&it.reports[*number as usize - 1]);
            }
        }
    }),
    ("a report that changed after the close", |it| {
        let reports = it.operations.iter_mut().filter_map(|operation| match &mut operation.what {
            What::ReadReport(_, amounts) => amounts.values_mut().next(),
            _ => None,
        });
        *reports.last().expect("a report with an amount") += 1;
    }),
    ("a period closed by two requests", |it| {
        let repeats = it.operations.iter_mut().filter_map(|operation| match &mut operation.what {
            What::Closed(_, is_first) if !*is_first => Some(is_first),
            _ => None,
        });
        *repeats.last().expect("one") = true;
    }),
    ("a period said to be closed before that was asked", |it| {
        let last = it.reports.len() as u64;
        it.operations.push(Operation { node: 0, invoked: 0, returned: Some(1), what: What::Closed(last, false) });
    }),
    ("a stale read of counts", |it| {
        let reads = reads_of_counts(it);
        it.operations[reads[reads.len() - 1]].what = it.operations[reads[0]].what.clone();
    }),
    ("counts of a period that was not opened yet", |it| {
        let reads = reads_of_counts(it);
        it.operations[reads[0]].what = it.operations[reads[reads.len() - 1]].what.clone();
    }),
    // One alone may be consistent with a later period.
    ("counts missing for a subscriber with positions", |it| {
        let told = counts_told(it);
        let rises = |at: &usize| {
            let of = |place: usize| match &it.operations[told[place]].what {
                What::Told(_, (id, count)) => (id, *count),
                _ => unreachable!("what a subscriber was told"),
            };
            let ((first, low), (id, middle), (last, high)) = (of(*at - 1), of(*at), of(*at + 1));
            first == id && id == last && low < middle && middle < high
        };
        let missing: Vec<usize> = (1..told.len() - 1).filter(rises).map(|at| told[at]).collect();
        assert!(!missing.is_empty(), "three counts of a product in one period");
        missing.into_iter().rev().for_each(|at| drop(it.operations.remove(at)));
    }),
    ("a count received twice", |it| {
        let told = counts_told(it);
        it.operations.push(it.operations[told[told.len() - 1]].clone());
    }),
];

fn is_read_of_all(operation: &Operation) -> bool {
    matches!(operation.what, What::Read("/orders", _))
}

fn is_read_of_log(operation: &Operation) -> bool {
    matches!(operation.what, What::ReadLog(_))
}

/// The reads of counts that have the number of their period, by time.
fn reads_of_counts(history: &History) -> Vec<usize> {
    let is_read = |at: &usize| matches!(history.operations[*at].what, What::ReadCounts(_, Some(_), _));
    let mut reads: Vec<usize> = (0..history.operations.len()).filter(is_read).collect();
    reads.sort_by_key(|at| history.operations[*at].invoked);
    reads
}

/// What the first subscriber with positions to counts of all products was told that stayed to the end.
fn counts_told(history: &History) -> Vec<usize> {
    let is_one = |it: &Subscriber| it.has_counts && it.feed == "/orders" && it.due_every_order && !it.has_left;
    let one = history.subscribers.iter().position(is_one).expect("a subscriber");
    let is_told = |at: &usize| matches!(&history.operations[*at].what, What::Told(number, _) if *number == one);
    (0..history.operations.len()).filter(is_told).collect()
}
