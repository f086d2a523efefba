//! `ordercast report`: orders and sums per product of each period, day or hour, from the order log.
//!
//! The log is read in pages, so that a slow reader of the output does not keep a server's write-ahead log, and twice:
//! first for the last order of each day or hour, then for the sums. So a part can be printed as soon as it is complete,
//! and memory is bounded by the products and by the number of parts, also where the clock was set back.

#[cfg(feature = "postgres")]
mod database;
mod output;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};

use super::{ToolError, counted};
use crate::config::{Report as Options, ReportBy};
use crate::store::Stored;
use crate::tally::catalog::ProductIndex;
use crate::tally::period::{CurrentPeriod, Period};
use crate::tally::rfc3339::{self, UtcOffset};
use output::Output;
use reading::Log;

/// Orders in one read. Between two reads SQLite can truncate its write-ahead log, however slow the output is.
const PAGE: i64 = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const HOUR_MS: i64 = 60 * 60 * 1_000;

/// What a part of the report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    /// A period, and when it was closed.
    Period(Period, Option<u64>),
    /// A day or an hour that begins at this time, in milliseconds since 1970 (UTC).
    Day(i64),
    Hour(i64),
}

/// What was ordered of one product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    /// `None` if the log does not have all orders of the period any more.
    orders: Option<u64>,
    /// In pieces. Wide enough for the sum of any number of orders.
    amount: i128,
}

/// An entry of the log.
struct Order {
    seq: u64,
    at_ms: i64,
    product: i64,
    amount: i64,
}

/// A number that is not negative in a store.
fn sequence(number: i64) -> u64 {
    number.max(0).cast_unsigned()
}

/// What is known when the report begins.
struct Begin {
    stored: Stored,
    /// The number and the time of the first order in the log.
    first: Option<(u64, i64)>,
    /// Orders up to this number were saved from a damaged file; some may be missing among them.
    repaired: u64,
    /// The entries of the log that are no orders: the starting totals of new products.
    first_lines: BTreeSet<u64>,
    /// All periods, oldest first, with the time of each one's close.
    periods: Vec<(Period, Option<u64>)>,
}

/// The parts of a report while the log is read.
struct Parts<'a> {
    options: &'a Options,
    begin: &'a Begin,
    /// The last order of each part that has not been printed. Parts are numbered by their times, or by their periods.
    ends: BTreeMap<i64, u64>,
    sums: BTreeMap<i64, BTreeMap<u32, Sum>>,
    last_seq: u64,
    /// The parts by periods of which the log does not have every order.
    incomplete: BTreeSet<i64>,
    lost: u64,
}

/// Writes the report of all orders that are in the log at the start to `output`. Returns remarks for the reader.
///
/// It is no error when the reader of the output closes it early, as `head` does.
///
/// # Errors
/// When the data file cannot be read or the output cannot be written.
pub fn run(options: &Options, output: &mut impl Write) -> Result<Vec<String>, ToolError> {
    match write_all(options, output) {
        Err(ToolError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Vec::new()),
        result => result,
    }
}

fn write_all(options: &Options, output: &mut impl Write) -> Result<Vec<String>, ToolError> {
    let mut log = Log::open(options)?;
    let begin = log.begin()?;
    let mut output = Output::new(options, &begin, output)?;
    let mut parts = Parts::new(options, &begin);
    let last = begin.stored.last_seq;
    if options.by != ReportBy::Period {
        let mut after = 0;
        while after < last {
            let page = log.times(after, last)?;
            let Some(&(seq, _)) = page.last() else { break };
            parts.note_times(&page);
            after = seq;
        }
    }
    while parts.last_seq < last {
        let after = parts.last_seq;
        let page = log.orders(after, last)?;
        let Some(&Order { seq, .. }) = page.last() else { break };
        for order in &page {
            parts.count(order);
        }
        parts.last_seq = seq;
        parts.print_complete(&mut log, &mut output)?;
    }
    // What the log does not have any more is not waited for.
    parts.note_missing(parts.last_seq + 1, last);
    parts.last_seq = u64::MAX;
    parts.print_complete(&mut log, &mut output)?;
    output.finish()?;
    Ok(parts.remarks())
}

impl<'a> Parts<'a> {
    fn new(options: &'a Options, begin: &'a Begin) -> Self {
        let mut ends = BTreeMap::new();
        if options.by == ReportBy::Period {
            let following = begin.periods.iter().skip(1).map(|(period, _)| period.opened_after);
            let numbers = 0..begin.periods.len() as i64;
            ends.extend(numbers.zip(following.chain([begin.stored.last_seq])));
        }
        // Orders before the first one were deleted (`--keep-orders`).
        let missing = begin.first.map_or(begin.stored.period.opened_after, |(seq, _)| seq.saturating_sub(1));
        let last_seq = missing.min(begin.stored.last_seq);
        let mut parts =
            Self { options, begin, ends, sums: BTreeMap::new(), last_seq, incomplete: BTreeSet::new(), lost: 0 };
        parts.note_missing(1, missing);
        parts
    }

    /// Notes that the log does not have the orders with these numbers, of which there may be none.
    fn note_missing(&mut self, first: u64, last: u64) {
        if first <= last && self.options.by == ReportBy::Period {
            self.incomplete.extend(self.part_of(first, 0)..=self.part_of(last, 0));
        }
    }

    /// The number of the part to which an order belongs.
    fn part_of(&self, seq: u64, at_ms: i64) -> i64 {
        let local_ms = at_ms.saturating_add(self.options.utc_offset.ms());
        match self.options.by {
            ReportBy::Day => local_ms.div_euclid(DAY_MS),
            ReportBy::Hour => local_ms.div_euclid(HOUR_MS),
            ReportBy::Period => {
                let after = self.begin.periods.partition_point(|(period, _)| period.opened_after < seq);
                after.saturating_sub(1) as i64
            }
        }
    }

    fn note_times(&mut self, page: &[(u64, i64)]) {
        for &(seq, at_ms) in page.iter().filter(|(seq, _)| !self.begin.first_lines.contains(seq)) {
            self.ends.insert(self.part_of(seq, at_ms), seq);
        }
    }

    fn count(&mut self, order: &Order) {
        let &Order { seq, at_ms, product, amount } = order;
        let before = self.last_seq;
        if seq > before + 1 {
            self.note_missing(before + 1, seq - 1);
            self.lost += if seq > self.begin.repaired { seq - before - 1 } else { 0 };
        }
        self.last_seq = seq;
        let index = product.checked_sub(1).and_then(|index| u32::try_from(index).ok());
        if self.begin.first_lines.contains(&seq) {
            return;
        }
        let Some(index) = index.filter(|index| (*index as usize) < self.begin.stored.totals.len()) else { return };
        let part = self.part_of(seq, at_ms);
        let sum = self.sums.entry(part).or_default().entry(index).or_insert(Sum { orders: Some(0), amount: 0 });
        sum.orders = sum.orders.map(|orders| orders + 1);
        sum.amount += i128::from(amount);
    }

    /// Prints the parts that are complete, until one is not.
    fn print_complete(&mut self, log: &mut Log, output: &mut Output<'_, impl Write>) -> Result<(), ToolError> {
        while let Some(entry) = self.ends.first_entry()
            && *entry.get() <= self.last_seq
        {
            let part = entry.remove_entry().0;
            let mut sums = self.sums.remove(&part).unwrap_or_default();
            let offset_ms = self.options.utc_offset.ms();
            let span = match self.options.by {
                ReportBy::Day => Span::Day(part.saturating_mul(DAY_MS).saturating_sub(offset_ms)),
                ReportBy::Hour => Span::Hour(part.saturating_mul(HOUR_MS).saturating_sub(offset_ms)),
                ReportBy::Period => {
                    let (period, closed_ms) = self.begin.periods[part.max(0).cast_unsigned() as usize];
                    let is_counted = !self.incomplete.contains(&part);
                    self.take_amounts(log, &mut sums, period, closed_ms, is_counted)?;
                    Span::Period(period, closed_ms)
                }
            };
            output.part(&span, &sums)?;
        }
        Ok(())
    }

    /// The amounts of a period are those of its report, which outlives the orders in the log. Their number is only known if
    /// the log has all of them: `is_counted`.
    fn take_amounts(
        &self,
        log: &mut Log,
        sums: &mut BTreeMap<u32, Sum>,
        period: Period,
        closed_ms: Option<u64>,
        is_counted: bool,
    ) -> Result<(), ToolError> {
        let Stored { totals, openings, .. } = &self.begin.stored;
        let amounts = if closed_ms.is_none() {
            CurrentPeriod { period, openings: openings.clone() }.report(totals).amounts
        } else {
            log.amounts(period.number)?
        };
        for sum in sums.values_mut() {
            *sum = Sum { orders: sum.orders.filter(|_| is_counted), amount: 0 };
        }
        for (ProductIndex(product), amount) in amounts {
            let orders = is_counted.then_some(0);
            sums.entry(product).or_insert(Sum { orders, amount: 0 }).amount = i128::from(amount);
        }
        Ok(())
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some((seq, at_ms)) = self.begin.first.filter(|(seq, _)| *seq > 1) {
            let time = rfc3339::format(sequence(at_ms));
            let what = match self.options.by {
                ReportBy::Period => "the number of orders before it is not known",
                ReportBy::Day | ReportBy::Hour => "what was ordered before it is not in this report",
            };
            remarks.push(format!("the log begins with order {seq} of {time}: {what}"));
        }
        if self.lost > 0 {
            remarks.push(format!(
                "{} between the first and the last are not in the log: deleted during the report (--keep-orders) or lost \
                 (see `ordercast check`)",
                counted(self.lost, "order")
            ));
        }
        if self.begin.repaired > 0 {
            let repaired = self.begin.repaired;
            remarks.push(format!("orders up to {repaired} were saved from a damaged file; some may be missing"));
        }
        remarks
    }
}

/// A time as people read it, to the minute.
fn minute(offset: UtcOffset, ms: i64) -> String {
    let (date, time) = offset.date_and_time(ms);
    format!("{date} {}", &time[.."hh:mm".len()])
}

/// A time as RFC 3339 writes it.
fn timestamp(offset: UtcOffset, ms: i64) -> String {
    let (date, time) = offset.date_and_time(ms);
    format!("{date}T{time}{offset}")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::{env, fs, process};

    use rusqlite::Connection;

    use super::*;
    use crate::config::ReportFormat;
    use crate::store::files::DATA_FILE;
    use crate::store::schema;

    /// The CSV and the remarks of a file after this change: three periods, of which the second begins after order 3.
    /// Order 4 is the first line of T2, which is no order, and the clock was set back a day before order 3.
    fn report(name: &str, by: ReportBy, sql: &str) -> (Vec<String>, Vec<String>) {
        let data: PathBuf = env::temp_dir().join(format!("ordercast-report-{name}-{}", process::id()));
        fs::create_dir_all(&data).unwrap();
        let mut connection = Connection::open(data.join(DATA_FILE)).unwrap();
        schema::migrate(&mut connection).unwrap();
        connection
            .execute_batch(&format!(
                "INSERT INTO categories (row, name, prefix) VALUES (1, 'tools', 'T');
                 INSERT INTO products (row, id, category, name, rrp, info, total, opening, added_seq)
                     VALUES (1, 'T1', 1, '=Saw', '', '', 26, 26, NULL), (2, 'T2', 1, 'Axe', '', '', 45, 45, 4);
                 INSERT INTO orders (seq, at_ms, product, amount, total) VALUES
                     (1, {DAY_MS}, 1, 2, 12), (2, {DAY_MS} * 2 - 1, 1, -1, 11), (3, {DAY_MS} - 1, 1, 5, 16),
                     (4, {DAY_MS}, 2, 40, 40), (5, {DAY_MS}, 2, 5, 45), (6, {DAY_MS} * 2, 1, 10, 26);
                 UPDATE meta SET value = '6' WHERE key = 'moved';
                 DELETE FROM periods;
                 INSERT INTO periods VALUES (1, 0, 0), (2, {DAY_MS}, 3), (3, {DAY_MS} * 2, 6);
                 INSERT INTO period_sums (period, product, amount) VALUES (1, 1, 6), (2, 1, 10), (2, 2, 5);
                 {sql}"
            ))
            .unwrap();
        drop(connection);
        let options = Options {
            data: data.clone(),
            #[cfg(feature = "postgres")]
            store: None,
            by,
            utc_offset: UtcOffset::default(),
            format: ReportFormat::Csv,
        };
        let mut output = Vec::new();
        let remarks = run(&options, &mut output).unwrap();
        fs::remove_dir_all(data).unwrap();
        let text = String::from_utf8(output).unwrap();
        (text.lines().skip(1).map(str::to_owned).collect(), remarks)
    }

    #[test]
    fn a_clock_that_was_set_back_and_starting_totals_change_no_sum() {
        let expected = [
            "1970-01-01,tools,T1,'=Saw,false,1,5",
            "1970-01-02,tools,T1,'=Saw,false,2,1",
            "1970-01-02,tools,T2,Axe,false,1,5",
            "1970-01-03,tools,T1,'=Saw,false,1,10",
        ];
        let (lines, remarks) = report("clock", ReportBy::Day, "");
        assert_eq!((lines.as_slice(), remarks.len()), (&expected.map(str::to_owned)[..], 0));
    }

    #[test]
    fn periods_have_their_stored_sums_and_the_number_of_orders_where_the_log_has_all_of_them() {
        let second = "2,1970-01-02T00:00:00+00:00,1970-01-03T00:00:00+00:00,tools";
        let expected = [
            "1,1970-01-01T00:00:00+00:00,1970-01-02T00:00:00+00:00,tools,T1,'=Saw,false,3,6".to_owned(),
            format!("{second},T1,'=Saw,false,1,10"),
            format!("{second},T2,Axe,false,1,5"),
        ];
        assert_eq!(report("periods", ReportBy::Period, ""), (expected.to_vec(), Vec::new()));
        let unknown = |line: &String| line.replace(",3,6", ",,6").replace("false,1,", "false,,");
        let (lines, remarks) = report("trimmed", ReportBy::Period, "DELETE FROM orders WHERE seq <= 2;");
        assert_eq!(lines, [unknown(&expected[0]), expected[1].clone(), expected[2].clone()]);
        assert!(remarks.len() == 1 && remarks[0].contains("begins with order 3 of 1970-01-01T23:59"), "{remarks:?}");
        let (lines, remarks) = report("lost", ReportBy::Period, "DELETE FROM orders WHERE seq = 5;");
        assert_eq!(lines, [expected[0].clone(), unknown(&expected[1]), unknown(&expected[2])]);
        assert!(remarks.len() == 1 && remarks[0].starts_with("1 order between"), "{remarks:?}");
        let (lines, _) = report("empty", ReportBy::Period, "DELETE FROM orders;");
        assert_eq!(lines, [0, 1, 2].map(|place| unknown(&expected[place])));
    }
}
