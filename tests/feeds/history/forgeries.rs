//! Wrong histories: each is a valid one with a single change, as a server with one mistake would cause it. The check
//! must reject them all.

use std::collections::HashMap;

use super::linear::{History, Operation, What};
use crate::common::Line;

/// Recomputes the log's sequence numbers and totals after lines were changed, so that the log is consistent in itself.
fn add_up(History { log, starts, .. }: &mut History) {
    let mut totals: HashMap<String, i64> = starts.iter().map(|(id, total)| ((*id).to_owned(), *total)).collect();
    for (line, seq) in log.iter_mut().zip(1..) {
        let total = totals.get_mut(&line.id).expect("a product");
        *total += line.amount;
        (line.seq, line.total) = (seq, *total);
    }
}

/// The name of a change, and the change.
pub type Forgery = (&'static str, fn(&mut History));

pub const FORGERIES: [Forgery; 13] = [
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
        let every = it.subscribers.iter().position(|subscriber| subscriber.due_every_order).expect("one");
        let is_told = |operation: &Operation| matches!(&operation.what, What::Told(number, _) if *number == every);
        let all: Vec<usize> = (0..it.operations.len()).filter(|at| is_told(&it.operations[*at])).collect();
        it.operations.remove(all[all.len() / 2]);
    }),
    ("a total received twice", |it| {
        let at = it.operations.iter().rposition(|operation| matches!(operation.what, What::Told(..))).expect("one");
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
        it.operations.push(Operation { invoked: 0, returned: end, what: What::Read("/orders", totals) });
    }),
];

fn is_read_of_all(operation: &Operation) -> bool {
    matches!(operation.what, What::Read("/orders", _))
}

fn is_read_of_log(operation: &Operation) -> bool {
    matches!(operation.what, What::ReadLog(_))
}
