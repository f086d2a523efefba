//! Where in the log each period was closed. Amounts are larger than 0, so the sums of all reports up to one identify the
//! order after which it was closed.

use std::collections::HashSet;

use super::linear::{History, What};
use crate::common::Line;
use crate::common::periods::Amounts;

/// Numbers the orders of a log and the closes of periods together, in their order.
pub struct Moments {
    /// The sequence number of the last order before each close, oldest first.
    closes: Vec<u64>,
    orders: u64,
}

impl Moments {
    /// Finds the closes, and checks that each report has the orders between two of them, that every answer tells the same
    /// of it, and that each period was closed by one request.
    pub fn find(history: &History) -> Result<Moments, String> {
        let (mut closes, mut rest) = (Vec::new(), history.log.as_slice());
        for (report, number) in history.reports.iter().zip(1_u64..) {
            let (mut sums, mut count) = (Amounts::new(), 0);
            while sums.values().sum::<i64>() < report.values().sum() {
                let Line { id, amount, .. } = rest.get(count).ok_or_else(|| format!("period {number} has no end"))?;
                *sums.entry(id.clone()).or_default() += amount;
                count += 1;
            }
            if sums != *report {
                return Err(format!("period {number} has {report:?}, and its orders are {sums:?}"));
            }
            rest = &rest[count..];
            closes.push((history.log.len() - rest.len()) as u64);
        }
        let (mut closed, mut unanswered) = (HashSet::new(), HashSet::new());
        for operation in &history.operations {
            match &operation.what {
                What::Closed(number, true) if operation.returned.is_none() => {
                    unanswered.insert(*number);
                }
                What::Closed(number, true) if !closed.insert(*number) => {
                    return Err(format!("period {number} was closed twice"));
                }
                What::ReadReport(number, amounts) if history.reports.get(*number as usize - 1) != Some(amounts) => {
                    return Err(format!("the report of period {number} was {amounts:?}"));
                }
                _ => {}
            }
        }
        let has_request = |number: &u64| closed.contains(number) || unanswered.contains(number);
        if closed.len() > closes.len() || !(1..=closes.len() as u64).all(|number| has_request(&number)) {
            return Err(format!("{} periods were closed by {} requests", closes.len(), closed.len()));
        }
        Ok(Moments { closes, orders: history.log.len() as u64 })
    }

    /// The moment of an order; 0 before the first one.
    fn order(&self, seq: u64) -> u64 {
        seq + self.closes.partition_point(|after| *after < seq) as u64
    }

    /// The first and the last moment at which this was the last order.
    pub fn after(&self, seq: u64) -> (u64, u64) {
        (self.order(seq), self.order(seq + 1) - 1)
    }

    /// The moment of the close of the period with this number.
    pub fn close(&self, number: u64) -> Option<u64> {
        let after = self.closes.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        Some(after + number)
    }

    /// The moment of the first close that was not before this order.
    pub fn close_from(&self, seq: u64) -> Option<u64> {
        self.close(self.closes.partition_point(|after| *after < seq) as u64 + 1)
    }

    /// The moments of all closes, oldest first.
    pub fn closes(&self) -> impl Iterator<Item = u64> {
        self.closes.iter().zip(1..).map(|(after, number)| after + number)
    }

    pub fn end(&self) -> u64 {
        self.orders + self.closes.len() as u64
    }

    /// The history with moments in place of sequence numbers in its log.
    pub fn number(&self, history: &History) -> History {
        let mut numbered = history.clone();
        numbered.log.iter_mut().for_each(|line| line.seq = self.order(line.seq));
        numbered
    }
}
