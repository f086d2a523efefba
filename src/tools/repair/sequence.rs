//! Which numbers of orders are true. The number of an order is the row id beside its record, so a damaged one leaves a
//! record that reads well. A log has no gaps, and the orders of a page follow each other in it.

use std::collections::HashMap;

use super::page::Value;
use crate::tally::order::MAX_TOTAL;

/// The highest number that is taken for one of an order or of a change: 2^53 − 1, as for totals the last one that every
/// reader of JSON shows exactly. A server counts on from the highest.
pub const MAX_NUMBER: i64 = MAX_TOTAL;
/// The fewest bytes that an order takes on a page: pointer, lengths, six or more columns, a time of six bytes.
const ORDER_BYTES: u64 = 16;

/// An order whose number agrees with that of no other order on its page.
pub struct Doubtful {
    /// Its number.
    pub seq: i64,
    /// Its page.
    pub page: u32,
    /// Its place on the page.
    pub cell: usize,
    /// Whether numbers of other orders on its page agree. A lost page is no reason for a gap between them.
    beside_sound: bool,
}

/// What may have left gaps between true numbers.
pub struct Losses {
    /// The most orders that can be on lost pages and in lost rows.
    orders: u64,
    /// The last order that an earlier repair has saved; before it there may be gaps of any length.
    repaired: i64,
}

impl Losses {
    /// Of a file with lost pages of this size, and with lost rows elsewhere.
    pub fn new(pages: u64, page_bytes: usize, rows: u64, repaired: i64) -> Self {
        let a_page = page_bytes as u64 / ORDER_BYTES;
        Self { orders: pages.saturating_mul(a_page).saturating_add(rows), repaired }
    }
}

/// Whether these are the columns of an order.
fn is_order(values: &[Value<'_>]) -> bool {
    matches!(values, [Value::Null, Value::Int(_), Value::Int(_), Value::Int(_), Value::Int(_), ..])
}

/// The orders of a page with doubtful numbers, in their places.
pub fn doubtful(page: u32, records: &[Option<(i64, Vec<Value<'_>>)>]) -> Vec<Doubtful> {
    let orders: Vec<(usize, i64)> = (0_usize..)
        .zip(records)
        .filter_map(|(cell, record)| {
            record.as_ref().filter(|(_, values)| is_order(values)).map(|(seq, _)| (cell, *seq))
        })
        .collect();
    // The number that the first record of the page has if this one is right: a record that cannot be read has one too.
    let first = |(cell, seq): &(usize, i64)| seq.wrapping_sub(*cell as i64);
    let mut agreeing: HashMap<i64, usize> = HashMap::new();
    for order in &orders {
        *agreeing.entry(first(order)).or_default() += 1;
    }
    let is_sound = |order: &(usize, i64)| agreeing[&first(order)] > 1;
    let beside_sound = orders.iter().any(is_sound);
    let in_doubt = orders.iter().filter(|order| !is_sound(order));
    in_doubt.map(|&(cell, seq)| Doubtful { seq, page, cell, beside_sound }).collect()
}

/// Keeps the doubtful numbers that are true as far as can be told, in ascending order. `known` are the first and last
/// numbers of runs of orders that are read already.
pub fn retain_true(mut doubtful: Vec<Doubtful>, known: &[(i64, i64)], losses: &Losses) -> Vec<Doubtful> {
    doubtful.sort_unstable_by_key(|doubt| doubt.seq);
    let mut last_true: Option<i64> = None;
    doubtful.retain(|Doubtful { seq, beside_sound, .. }| {
        let after = known.partition_point(|(_, last)| last < seq);
        let next = known.get(after).map(|(first, _)| *first);
        if !(1..=MAX_NUMBER).contains(seq) || next.is_some_and(|first| first <= *seq) || last_true == Some(*seq) {
            return false;
        }
        let before = after.checked_sub(1).map(|place| known[place].1).max(last_true);
        let gaps = [before.map(|last| seq - last - 1), next.map(|first| first - seq - 1)];
        let gap = gaps.into_iter().flatten().min().unwrap_or(0).cast_unsigned();
        let is_true = *seq <= losses.repaired || !beside_sound && gap <= losses.orders;
        if is_true {
            last_true = Some(*seq);
        }
        is_true
    });
    doubtful
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [i64; 0] = [];

    /// The numbers on a page that are doubtful; `None` is a record that cannot be read.
    fn doubts(numbers: &[Option<i64>]) -> Vec<i64> {
        let order = vec![Value::Null, Value::Int(1), Value::Int(1), Value::Int(1), Value::Int(1)];
        let records: Vec<_> = numbers.iter().map(|seq| seq.map(|seq| (seq, order.clone()))).collect();
        doubtful(2, &records).iter().map(|doubt| doubt.seq).collect()
    }

    #[test]
    fn a_number_that_agrees_with_none_beside_it_is_doubtful() {
        let [four, five, six] = [4, 5, 6].map(Some);
        assert_eq!(doubts(&[four, five, six]), NONE);
        assert_eq!(doubts(&[four, None, six]), NONE, "the number between them is that of the lost record");
        assert_eq!(doubts(&[four, five, Some(1 << 40)]), [1 << 40]);
        assert_eq!(doubts(&[Some(i64::MIN), five, six]), [i64::MIN]);
        assert_eq!(doubts(&[four, five, Some(5), Some(7)]), [5], "it does not ascend, and the last one is right");
        assert_eq!(doubts(&[four, five, Some(9), Some(10)]), NONE, "an earlier repair has lost the others");
        assert_eq!(doubts(&[four]), [4], "it has none beside it");
    }

    #[test]
    fn a_doubtful_number_is_true_where_a_loss_explains_it() {
        let kept = |seqs: &[i64], beside_sound, losses| {
            let doubtful = seqs.iter().map(|seq| Doubtful { seq: *seq, page: 2, cell: 0, beside_sound }).collect();
            let kept = retain_true(doubtful, &[(10, 20), (30, 40)], &losses);
            kept.iter().map(|doubt| doubt.seq).collect::<Vec<_>>()
        };
        let losses = |pages, repaired| Losses::new(pages, 4096, 0, repaired);
        assert_eq!(kept(&[41, 400], false, losses(0, 0)), [41], "alone on the last page");
        assert_eq!(kept(&[400, 9_000], false, losses(2, 0)), [400], "behind a lost page");
        assert_eq!(kept(&[41, 50], true, losses(2, 0)), NONE, "not behind a lost page");
        assert_eq!(kept(&[5, 25, 41, 50], true, losses(0, 41)), [5, 25, 41], "saved by an earlier repair");
        assert_eq!(kept(&[15, 40, -1, 0, MAX_NUMBER + 1], false, losses(1 << 60, i64::MAX)), NONE, "they cannot be");
    }
}
