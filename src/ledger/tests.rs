//! The ledger on a scripted store: what is answered when.

mod shared;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::monitor::REST_AFTER;
use super::*;
use crate::live::fanout::{self, Start};
use crate::live::history;
use crate::live::rates::Rates;
use crate::store::{Change, KeyUse, Rest, Store, StoreError, now_ms};
use crate::tally::catalog::{Catalog, CategoryIndex, Details, ProductIndex, SharedCatalog};
use crate::tally::order::{Amount, Key, MAX_TOTAL, Publication, Total};
use crate::tally::period::{Period, Report};
use crate::tally::position::RunList;

/// How long an event may take that should come at once.
const DEADLINE: Duration = Duration::from_secs(15);

/// What a test and its store share.
struct Script {
    /// The number of changes of each commit, when it begins; probes of a failing ledger do not count.
    begun: Sender<usize>,
    /// How it ends.
    ends: Receiver<Result<(), StoreError>>,
    /// A lookup of this key finds an order of one piece, and submits the same order once more.
    repeated: Option<Key>,
    handle: OnceLock<LedgerHandle>,
    found: AtomicUsize,
    /// After so many lookups the order is not repeated.
    most_found: usize,
    inspected: AtomicUsize,
    /// Whether a commit without changes finds the disk full.
    probe_fails: AtomicBool,
    rested: AtomicUsize,
    /// Held by a test in which measuring takes long.
    measuring: Mutex<()>,
    /// The sequence number and the total of each order that was to be committed.
    orders: Mutex<Vec<(u64, i64)>>,
}

struct ScriptedStore(Arc<Script>);

impl Store for ScriptedStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            let is_full = self.0.probe_fails.load(Relaxed);
            return if is_full { Err(StoreError::Full("".into())) } else { Ok(()) };
        }
        self.0.orders.lock().unwrap().extend(changes.iter().filter_map(|change| match change {
            Change::Order { seq, total, .. } => Some((*seq, total.get())),
            _ => None,
        }));
        self.0.begun.send(changes.len()).expect("the test listens");
        self.0.ends.recv().expect("the test says how it ends")
    }

    fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError> {
        let Script { repeated, handle, found, most_found, .. } = &*self.0;
        if repeated.as_ref() != Some(key) {
            return Ok(None);
        }
        if found.fetch_add(1, Relaxed) + 1 < *most_found {
            let reply = Reply::channel().0;
            handle.get().expect("set before the first order").submit(order(1, Some(key.as_str())), reply);
        }
        Ok(Some(KeyUse::Order(ProductIndex(0), amount(1))))
    }

    fn has_room_for_key(&mut self, _pending: usize) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn inspect(&mut self) -> Result<(), StoreError> {
        self.0.inspected.fetch_add(1, Relaxed);
        Ok(())
    }

    fn measure(&mut self) -> Figures {
        drop(self.0.measuring.lock());
        Figures::default()
    }

    fn rest(&mut self) -> Rest {
        // In two steps.
        if self.0.rested.fetch_add(1, Relaxed).is_multiple_of(2) { Rest::Unfinished } else { Rest::Done }
    }
}

struct Bench {
    script: Arc<Script>,
    begun: Receiver<usize>,
    ends: Sender<Result<(), StoreError>>,
    handle: LedgerHandle,
    rates: Arc<Rates>,
    /// Disconnected when the ledger thread ends.
    died: Receiver<()>,
}

impl Bench {
    /// A ledger with one product, of which nothing is ordered yet.
    fn new(repeated: Option<&str>, most_found: usize) -> Self {
        let ((begun_sender, begun), (ends, ends_receiver)) = (bounded(1), bounded(1));
        let script = Arc::new(Script {
            begun: begun_sender,
            ends: ends_receiver,
            repeated: repeated.and_then(Key::new),
            handle: OnceLock::new(),
            found: AtomicUsize::new(0),
            most_found,
            inspected: AtomicUsize::new(0),
            probe_fails: AtomicBool::new(false),
            rested: AtomicUsize::new(0),
            measuring: Mutex::default(),
            orders: Mutex::default(),
        });
        let (catalog, fanout) = one_product();
        let totals = vec![Total::default()];
        let period = Arc::new(CurrentPeriod { openings: totals.clone(), ..CurrentPeriod::default() });
        let engine = LocalEngine::new(ScriptedStore(script.clone()), totals, 0, period.clone(), catalog);
        let rates = Rates::new(vec![None], 0);
        let (sentinel, died) = bounded::<()>(0);
        let handle = start(engine, period, fanout, rates.clone(), sentinel).unwrap().0;
        assert!(script.handle.set(handle.clone()).is_ok());
        Self { script, begun, ends, handle, rates, died }
    }

    fn submit(&self, order: Order) -> Receiver<Outcome> {
        let (reply, outcome) = Reply::channel();
        self.handle.submit(order, reply);
        outcome
    }

    /// Waits until a commit has begun; returns how many changes it has.
    fn commit_begins(&self) -> usize {
        self.begun.recv_timeout(DEADLINE).expect("a commit begins")
    }

    fn commit_ends(&self, result: Result<(), StoreError>) {
        self.ends.send(result).expect("the store listens");
    }
}

/// A catalogue with one product, of which nothing is ordered yet, and a fan-out for it.
fn one_product() -> (SharedCatalog, FanoutHandle) {
    let mut catalog = Catalog::default();
    let tools = catalog.add_category("tools", "T").unwrap();
    let details = Details { name: "Saw".into(), rrp: String::new(), info: String::new() };
    catalog.add_product(tools, "T1", details).unwrap();
    let catalog = Arc::new(RwLock::new(catalog));
    let (totals, runs) = ([Total::default()], RunList::default());
    let first = Start {
        totals: &totals,
        openings: &totals,
        opened_after: 0,
        opened_before: &[],
        last_seq: 0,
        shown_after: None,
        runs: &runs,
    };
    let (fanout, _) = fanout::start(&catalog, &first, &history::prepare().0, [()]).unwrap();
    (catalog, fanout)
}

fn amount(pieces: i64) -> Amount {
    Amount::new(pieces).unwrap()
}

fn order(pieces: i64, key: Option<&str>) -> Order {
    Order { product: ProductIndex(0), amount: amount(pieces), key: key.and_then(Key::new) }
}

fn received(outcome: &Receiver<Outcome>) -> Outcome {
    outcome.recv_timeout(DEADLINE).expect("an outcome")
}

#[test]
fn a_rejection_because_of_an_order_that_is_not_on_disk_yet_stands_only_if_that_order_does() {
    let unknown = || Err(StoreError::Unknown("".into()));
    let failed = || Err(StoreError::Failed("".into()));
    for (end, of_the_order, of_the_key, of_the_total) in [
        (Ok(()), Ok(()), Err(Rejection::KeyReused), Err(Rejection::TotalOutOfRange)),
        (failed(), Err(Rejection::StoreRefused), Err(Rejection::StoreRefused), Err(Rejection::StoreRefused)),
        (unknown(), Err(Rejection::Unknown), Err(Rejection::StoreRefused), Err(Rejection::StoreRefused)),
    ] {
        let bench = Bench::new(None, 0);
        let first = bench.submit(order(1, None));
        assert_eq!(bench.commit_begins(), 1);
        // All of these wait until the first commit has ended, and so share the second.
        let counted = bench.submit(order(1, Some("k")));
        let reused = bench.submit(order(2, Some("k")));
        let too_large = bench.submit(order(MAX_TOTAL - 1, None));
        bench.commit_ends(Ok(()));
        assert_eq!(received(&first), Ok(()));
        assert_eq!(bench.commit_begins(), 1);
        assert!(
            [&counted, &reused, &too_large].iter().all(|outcome| outcome.is_empty()),
            "answered before it is known"
        );
        bench.commit_ends(end);
        assert_eq!(
            (received(&counted), received(&reused), received(&too_large)),
            (of_the_order, of_the_key, of_the_total)
        );
    }
}

#[test]
fn an_order_does_not_wait_behind_an_endless_row_of_repeats() {
    let bench = Bench::new(Some("again"), 10 * MAX_BATCH);
    let first = bench.submit(order(1, None));
    assert_eq!(bench.commit_begins(), 1);
    let waiting = bench.submit(order(1, None));
    let repeat = bench.submit(order(1, Some("again")));
    bench.commit_ends(Ok(()));
    assert_eq!((received(&first), received(&repeat)), (Ok(()), Ok(())));
    assert_eq!(bench.commit_begins(), 1);
    let found = bench.script.found.load(Relaxed);
    assert!((1..=MAX_BATCH).contains(&found), "{found} repeats were answered first");
    bench.commit_ends(Ok(()));
    assert_eq!(received(&waiting), Ok(()));
}

#[test]
fn a_commit_carries_as_many_orders_as_it_may_and_the_rest_follow() {
    let bench = Bench::new(None, 0);
    let first = bench.submit(order(1, None));
    assert_eq!(bench.commit_begins(), 1);
    let batch = |count: usize| {
        let (reply, outcome) = Reply::channel();
        let orders = vec![order(1, None); count];
        let request = Request::Batch { orders, key: None };
        assert!(bench.handle.jobs.try_add(Job::Count { request, reply }), "the ledger runs");
        outcome
    };
    let waiting = [batch(MAX_BATCH - 24), batch(23), batch(1), bench.submit(order(1, None))];
    for changes in [MAX_BATCH, 1] {
        bench.commit_ends(Ok(()));
        assert_eq!(bench.commit_begins(), changes);
    }
    bench.commit_ends(Ok(()));
    assert_eq!([&first].into_iter().chain(&waiting).map(received).collect::<Vec<_>>(), vec![Ok(()); 5]);
}

#[test]
fn an_idle_ledger_rests_and_inspects_the_store_after_the_last_order_and_then_only_now_and_then() {
    let bench = Bench::new(None, 0);
    let (rested, inspected) = (|| bench.script.rested.load(Relaxed), || bench.script.inspected.load(Relaxed));
    let first = bench.submit(order(1, None));
    bench.commit_begins();
    bench.commit_ends(Ok(()));
    assert_eq!(received(&first), Ok(()));
    let begun = Instant::now();
    // Jobs that change nothing do not put it off.
    while inspected() < 2 {
        assert!(bench.handle.answers(Instant::now() + DEADLINE));
        assert!(begun.elapsed() < DEADLINE, "the store is not inspected");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(begun.elapsed() >= REST_AFTER / 2, "only when no orders come");
    assert_eq!(rested(), 2);
    // An order behind them shows that nothing follows.
    for _ in 0..20 {
        assert!(bench.handle.answers(Instant::now() + DEADLINE));
    }
    let last = bench.submit(order(1, None));
    bench.commit_begins();
    assert_eq!((rested(), inspected()), (2, 2));
    bench.commit_ends(Ok(()));
    assert_eq!(received(&last), Ok(()));
}

#[test]
fn a_ledger_answers_unless_its_thread_has_ended_and_counts_as_answering_while_it_waits_for_the_disk() {
    let soon = || Instant::now() + Duration::from_millis(20);
    let bench = Bench::new(None, 0);
    assert!(bench.handle.answers(Instant::now() + DEADLINE));
    // The disk hangs.
    let waiting = bench.submit(order(1, None));
    bench.commit_begins();
    assert!(bench.handle.answers(soon()));
    bench.commit_ends(Ok(()));
    assert_eq!(received(&waiting), Ok(()));
    // It hangs while it is measured.
    let measuring = bench.script.measuring.lock().unwrap();
    let _ = bench.handle.figures();
    assert!(bench.handle.answers(soon()));
    drop(measuring);
    // The thread panics, as the script has no further end of a commit.
    let waiting = bench.submit(order(1, None));
    bench.commit_begins();
    drop(bench.ends);
    assert_eq!(received(&waiting), Err(Rejection::Unknown));
    bench.died.recv_timeout(DEADLINE).expect_err("the sentinel is dropped");
    // The sentinel goes first, and the end of the queue a moment later.
    let deadline = Instant::now() + DEADLINE;
    while bench.handle.answers(Instant::now()) {
        assert!(Instant::now() < deadline, "it still answers");
        thread::yield_now();
    }
}

#[test]
fn an_order_is_in_the_rates_when_it_is_answered_and_only_if_it_was_committed() {
    let bench = Bench::new(None, 0);
    let counted = || {
        let rate = bench.rates.read(&[ProductIndex(0)], bench.rates.last_minute(now_ms())).remove(0);
        (rate.amounts.iter().sum::<i64>(), rate.ordered_ms.is_some())
    };
    for (end, answer, expected) in [
        (Err(StoreError::Failed("".into())), Err(Rejection::StoreRefused), (0, false)),
        (Err(StoreError::Unknown("".into())), Err(Rejection::Unknown), (0, false)),
        (Ok(()), Ok(()), (7, true)),
        (Err(StoreError::Failed("".into())), Err(Rejection::StoreRefused), (7, true)),
        (Ok(()), Ok(()), (14, true)),
    ] {
        let before = counted();
        let outcome = bench.submit(order(7, None));
        bench.commit_begins();
        assert_eq!(counted(), before, "it is not on disk yet");
        bench.commit_ends(end);
        assert_eq!((received(&outcome), counted()), (answer, expected));
    }
}

#[test]
fn the_numbers_of_orders_that_were_not_committed_are_those_of_the_next_ones() {
    let bench = Bench::new(None, 0);
    let mut expected = Vec::new();
    for (end, seq, total) in [
        (Ok(()), 1, 7),
        (Err(StoreError::Failed("".into())), 2, 14),
        (Err(StoreError::Unknown("".into())), 2, 14),
        (Ok(()), 2, 14),
        (Ok(()), 3, 21),
    ] {
        let outcome = bench.submit(order(7, None));
        bench.commit_begins();
        bench.commit_ends(end);
        let _ = received(&outcome);
        expected.push((seq, total));
        assert_eq!(*bench.script.orders.lock().unwrap(), expected);
    }
}

#[test]
fn a_close_follows_the_orders_before_it_in_a_commit_of_its_own_and_one_that_fails_changes_nothing() {
    let bench = Bench::new(None, 0);
    let close = |number| {
        let (reply, outcome) = Reply::channel();
        let (report_sender, report) = bounded(1);
        let job = Job::ClosePeriod { number, report: report_sender, reply };
        assert!(bench.handle.jobs.try_add(job), "the ledger runs");
        (outcome, report)
    };
    let first = bench.submit(order(2, None));
    assert_eq!(bench.commit_begins(), 1);
    // These wait until the first commit has ended.
    let second = bench.submit(order(3, None));
    let closes = [close(1), close(1)];
    bench.commit_ends(Ok(()));
    assert_eq!(received(&first), Ok(()));
    assert_eq!(bench.commit_begins(), 1);
    bench.commit_ends(Ok(()));
    assert_eq!(received(&second), Ok(()));
    // The disk fails: the period is still the first.
    assert_eq!(bench.commit_begins(), 1);
    bench.commit_ends(Err(StoreError::Unknown("".into())));
    assert_eq!((received(&closes[0].0), closes[0].1.try_recv().is_err()), (Err(Rejection::Unknown), true));
    assert_eq!(bench.handle.current_period().period.number, 1);
    assert_eq!(bench.commit_begins(), 1);
    assert!(closes[1].0.is_empty(), "answered before it is on disk");
    bench.commit_ends(Ok(()));
    assert_eq!(received(&closes[1].0), Ok(()));
    let report = closes[1].1.try_recv().expect("it comes before the outcome");
    assert_eq!((report.period.number, report.amounts), (1, vec![(ProductIndex(0), 5)]));
    let opened = bench.handle.current_period();
    assert_eq!(
        (opened.period.number, opened.period.opened_after, report.closed_ms),
        (2, 2, Some(opened.period.opened_ms))
    );
    // A repeat needs no commit.
    let repeat = close(1).0;
    assert_eq!(received(&repeat), Err(Rejection::NotCurrentPeriod { number: 1, current: 2 }));
}

#[test]
fn a_repeat_that_is_answered_does_not_make_a_full_disk_ready() {
    let bench = Bench::new(Some("k"), 1);
    let first = bench.submit(order(7, None));
    bench.commit_begins();
    bench.script.probe_fails.store(true, Relaxed);
    bench.commit_ends(Err(StoreError::Full("".into())));
    assert_eq!(received(&first), Err(Rejection::StoreFull));
    assert_eq!(received(&bench.submit(order(1, Some("k")))), Ok(()), "it is on disk");
    assert_eq!(bench.handle.readiness(), Readiness::Failing(Rejection::StoreFull));
    bench.script.probe_fails.store(false, Relaxed);
    let begun = Instant::now();
    while bench.handle.readiness() != Readiness::Ready {
        assert!(begun.elapsed() < DEADLINE, "a probe that succeeds makes it ready");
        thread::yield_now();
    }
}

#[test]
fn repeats_share_an_inspection_until_there_is_a_commit() {
    let bench = Bench::new(Some("k"), 1);
    let first = bench.submit(order(1, None));
    bench.commit_begins();
    // These wait until the first commit has ended.
    let repeats = [bench.submit(order(1, Some("k"))), bench.submit(order(1, Some("k")))];
    let second = bench.submit(order(1, None));
    let (reply, close) = Reply::channel();
    // A close of a period that is not current is answered after an inspection of its own.
    assert!(bench.handle.jobs.try_add(Job::ClosePeriod { number: 9, report: bounded(1).0, reply }), "the ledger runs");
    let last = bench.submit(order(1, Some("k")));
    bench.commit_ends(Ok(()));
    assert_eq!(bench.commit_begins(), 1);
    assert_eq!(repeats.each_ref().map(received), [Ok(()), Ok(())]);
    assert_eq!(bench.script.inspected.load(Relaxed), 1);
    bench.commit_ends(Ok(()));
    assert_eq!([&first, &second, &last].map(received), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(received(&close), Err(Rejection::NotCurrentPeriod { number: 9, current: 1 }));
    assert_eq!(bench.script.inspected.load(Relaxed), 3);
}
