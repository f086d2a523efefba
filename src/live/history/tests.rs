//! The history thread on real files.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::{env, fs, process};

use super::*;
use crate::store::order_log::LogReader;
use crate::store::retention::Retention;
use crate::store::sqlite::SqliteStore;
use crate::store::{Change, Store};
use crate::tally::catalog::{Catalog, CategoryIndex, Details, ProductIndex};
use crate::tally::order::{Amount, Total};
use crate::tally::rates::{MINUTES, Minute};

/// How long an event may take that should come at once.
const DEADLINE: Duration = Duration::from_secs(15);
const MINUTE_MS: u64 = 60_000;

struct Published(u64);

impl PageSink for Published {
    fn take_page(&self, _page: ReplayPage) {}

    fn published(&self) -> u64 {
        self.0
    }
}

/// A data folder with two products of two categories, and the history thread that reads it.
struct Log {
    folder: PathBuf,
    history: History,
    last_seq: u64,
}

impl Log {
    /// A log of these orders: product, time and amount. The last of them are not published, if so many are.
    fn new(name: &str, orders: &[(u32, u64, i64)], unpublished: u64) -> Self {
        let folder = env::temp_dir().join(format!("ordercast-history-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        let last_seq = orders.len() as u64;
        write(&folder, orders);
        let (history, queries) = prepare();
        let path = crate::store::files::data_file(&folder).unwrap();
        queries.start(LogReader::new(&path), Published(last_seq - unpublished), |_| {}, ()).unwrap();
        Self { folder, history, last_seq }
    }

    fn page_of(&self, most_queries: usize, after: u64, limit: usize, filter: Filter) -> (Vec<u64>, Option<u64>) {
        let Page { entries, next } = self.history.page_of(most_queries, after, limit, filter).unwrap();
        (entries.iter().map(|entry| entry.seq).collect(), next)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.history.close(Instant::now() + DEADLINE);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn write(folder: &Path, orders: &[(u32, u64, i64)]) {
    let mut catalog = Catalog::default();
    let mut changes = Vec::new();
    for (category, id) in [("tools", "T1"), ("toys", "Y1")] {
        let index = catalog.add_category(category, "X").unwrap();
        changes.push(Change::Category(catalog.category(index).clone()));
        let details = Details { name: id.into(), rrp: String::new(), info: String::new() };
        let product = catalog.add_product(index, id, details).unwrap();
        changes.push(Change::Product(catalog.product(product).clone(), Total::default()));
    }
    let mut totals = [Total::default(); 2];
    for (index, (product, at_ms, amount)) in orders.iter().enumerate() {
        let (seq, amount) = (index as u64 + 1, Amount::new(*amount).unwrap());
        let total = &mut totals[*product as usize];
        *total = total.plus(amount).unwrap();
        let (product, total) = (ProductIndex(*product), *total);
        changes.push(Change::Order { seq, at_ms: *at_ms, product, amount, total, key: None });
    }
    let (mut store, _) = SqliteStore::open(folder, Retention::default()).unwrap();
    store.commit(&changes).unwrap();
    store.close();
}

/// The rates that the orders make.
fn expected(orders: &[(u32, u64, i64)], product: u32, last: Minute) -> [i64; MINUTES] {
    let mut amounts = [0; MINUTES];
    for (own, at_ms, amount) in orders {
        let minutes = (last.start_ms() / MINUTE_MS).checked_sub(at_ms / MINUTE_MS);
        let back = minutes.and_then(|minutes| usize::try_from(minutes).ok()).filter(|back| *back < MINUTES);
        if let Some(back) = back.filter(|_| *own == product) {
            amounts[MINUTES - 1 - back] += amount;
        }
    }
    amounts
}

#[test]
fn rates_are_read_from_the_log_as_far_back_as_an_hour_and_joined_with_those_since() {
    let now = now_ms();
    let mut orders: Vec<(u32, u64, i64)> = Vec::new();
    // Three hours, two orders a second; product 1 has the fewer.
    for half_second in 0..3 * 7_200_u64 {
        let at_ms = now - 3 * 3_600_000 + half_second * 500;
        orders.push((u32::from(half_second % 7 == 0), at_ms, (half_second % 11) as i64 - 3));
    }
    // A clock that was ahead for a while, far ahead, and far behind.
    let last = orders.len();
    orders[last - 900].1 += 2 * MINUTE_MS;
    orders[last - 800].1 += 500 * MINUTE_MS;
    for order in &mut orders[last - 700..last - 400] {
        order.1 = 5;
    }
    let log = Log::new("rates", &orders, 0);
    let rates = Rates::new(vec![Some(7), None], log.last_seq);
    log.history.read_rates(&rates);
    log.history.read_rates(&rates);
    // These come while the log is read, or before, or after.
    let since = [(0, now, 5), (1, now + 1, 7), (1, now + MINUTE_MS, 9)];
    let counted = since.map(|(product, at_ms, amount)| (ProductIndex(product), at_ms, Amount::new(amount).unwrap()));
    rates.count(counted.into_iter());
    assert!(rates.is_complete(DEADLINE));
    orders.extend(since);
    for last_ms in [now, now + MINUTE_MS, now + 3 * MINUTE_MS, now + 30 * MINUTE_MS, now + 90 * MINUTE_MS] {
        let last = Minute::of(last_ms);
        let read = rates.read(&[ProductIndex(0), ProductIndex(1)], last);
        for (product, rate) in read.iter().enumerate() {
            assert_eq!(rate.amounts, expected(&orders, product as u32, last), "{product} at {last:?}");
        }
        assert_eq!([read[0].ordered_ms, read[1].ordered_ms], [Some(now), Some(now + MINUTE_MS)]);
    }
    let filled = expected(&orders, 0, Minute::of(now)).iter().filter(|amount| **amount != 0).count();
    assert!(filled > 50, "only {filled} minutes are compared");
}

#[test]
fn rates_of_a_log_that_cannot_be_read_are_incomplete_until_it_can() {
    let orders = [(0, now_ms(), 5)];
    let log = Log::new("unreadable", &orders, 0);
    let file = crate::store::files::data_file(&log.folder).unwrap();
    let aside = file.with_extension("aside");
    fs::rename(&file, &aside).unwrap();
    let rates = Rates::new(vec![None, None], log.last_seq);
    log.history.read_rates(&rates);
    assert!(!rates.is_complete(DEADLINE));
    fs::rename(&aside, &file).unwrap();
    log.history.read_rates(&rates);
    assert!(rates.is_complete(DEADLINE));
    let last = rates.last_minute(now_ms());
    assert_eq!(rates.read(&[ProductIndex(0)], last)[0].amounts, expected(&orders, 0, last));
}

#[test]
fn a_filter_that_matches_little_ends_a_page_early_with_a_number_to_go_on_from() {
    const LINES: u64 = QUERY_LINES as u64;
    let mut orders: Vec<(u32, u64, i64)> = (0..3 * LINES + 10).map(|seq| (0, 1_000 + seq, 1)).collect();
    // Numbers 5, 25,000 and the last are of product 1.
    let rare = [5, 25_000, orders.len() as u64];
    for seq in rare {
        orders[seq as usize - 1].0 = 1;
    }
    let log = Log::new("filter", &orders, 0);
    for filter in [
        Filter { product: Some(ProductIndex(1)), ..Filter::default() },
        Filter { category: Some(CategoryIndex(1)), ..Filter::default() },
    ] {
        assert_eq!(log.page_of(100, 0, 10, filter), (rare.to_vec(), None));
        assert_eq!(log.page_of(1, 0, 10, filter), (vec![5], Some(LINES)));
        assert_eq!(log.page_of(1, LINES, 10, filter), (vec![], Some(2 * LINES)));
        assert_eq!(log.page_of(2, 5, 10, filter), (vec![], Some(2 * LINES + 5)));
        assert_eq!(log.page_of(2, 5, 1, filter), (vec![], Some(2 * LINES + 5)));
        assert_eq!(log.page_of(100, 5, 1, filter), (vec![25_000], Some(25_000)));
        assert_eq!(log.page_of(1, 3 * LINES, 10, filter), (vec![rare[2]], None));
        assert_eq!(log.page_of(1, rare[2], 10, filter), (vec![], None));
    }
    // Times are compared one by one, and in any order: the clock was behind for one order and ahead for another.
    drop(log);
    (orders[1].1, orders[9].1) = (900_000, 0);
    let log = Log::new("times", &orders, 0);
    let at = |since_ms, until_ms| Filter { since_ms, until_ms, ..Filter::default() };
    assert_eq!(log.page_of(100, 0, 10, at(None, Some(1_003))), (vec![1, 3, 10], None));
    assert_eq!(log.page_of(100, 0, 10, at(Some(1_000 + 3 * LINES + 8), None)), (vec![2, rare[2] - 1, rare[2]], None));
    assert_eq!(log.page_of(100, 0, 10, at(Some(1_004), Some(1_006))), (vec![5, 6], None));
    assert_eq!(log.page_of(100, 0, 10, at(Some(1_004), Some(1_004))), (vec![], None));
    assert_eq!(log.page_of(100, 0, 10, at(None, Some(0))), (vec![], None));
}

#[test]
fn a_page_shows_no_order_that_is_not_published() {
    let orders: Vec<(u32, u64, i64)> = (0..20).map(|seq| (u32::from(seq % 2 == 0), seq, 1)).collect();
    let log = Log::new("unpublished", &orders, 5);
    let odd = Filter { product: Some(ProductIndex(1)), ..Filter::default() };
    assert_eq!(log.page_of(1, 0, 100, odd), ((1..=15).step_by(2).collect(), None));
    assert_eq!(log.page_of(1, 0, 8, odd), ((1..=15).step_by(2).collect(), Some(15)));
    assert_eq!(log.page_of(1, 0, 9, odd), ((1..=15).step_by(2).collect(), None));
    assert_eq!(log.page_of(1, 0, 100, Filter::default()), ((1..=15).collect(), None));
    assert_eq!(log.page_of(1, 15, 100, Filter::default()), (vec![], None));
}

#[test]
fn a_page_without_matches_does_not_go_on_from_an_order_that_is_not_published() {
    const LINES: u64 = QUERY_LINES as u64;
    let orders: Vec<(u32, u64, i64)> = (0..LINES + 10).map(|seq| (0, seq, 1)).collect();
    let rare = Filter { product: Some(ProductIndex(1)), ..Filter::default() };
    for (unpublished, next) in [(10, Some(LINES)), (11, None)] {
        let log = Log::new("next", &orders, unpublished);
        assert_eq!(log.page_of(1, 0, 10, rare), (vec![], next), "{unpublished} are not published");
    }
}

/// Counts the pages that are read.
struct Counted(Arc<AtomicUsize>);

impl PageSink for Counted {
    fn take_page(&self, _page: ReplayPage) {}

    fn published(&self) -> u64 {
        self.0.fetch_add(1, Relaxed);
        u64::MAX
    }
}

/// As many as callers leave that have given up while the disk hangs.
#[test]
fn queries_that_wait_are_bounded_and_late_ones_are_not_answered() {
    let folder = env::temp_dir().join(format!("ordercast-history-bound-{}", process::id()));
    let _ = fs::remove_dir_all(&folder);
    write(&folder, &[(0, 1, 5)]);
    let (history, queries) = prepare();
    let (late, log) = (Instant::now(), |reply| Ask::Log { after: 0, limit: 1, filter: Filter::default(), reply });
    for _ in 0..MOST_QUERIES {
        assert!(history.ask(late, log).is_err());
    }
    assert!(history.report(1).is_err(), "without waiting for it");
    assert_eq!(queries.waiting(), MOST_QUERIES);
    let path = crate::store::files::data_file(&folder).unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    queries.start(LogReader::new(&path), Counted(answered.clone()), |_| {}, ()).unwrap();
    let begun = Instant::now();
    while history.page(0, 1, Filter::default()).is_none() {
        assert!(begun.elapsed() < DEADLINE, "there is room again");
        thread::yield_now();
    }
    assert_eq!(answered.load(Relaxed), 1, "the one that was waited for");
    history.close(Instant::now() + DEADLINE);
    let _ = fs::remove_dir_all(&folder);
}
