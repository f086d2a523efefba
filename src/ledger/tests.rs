//! The ledger on a store that does as it is told: what is answered when, and what becomes of who waits.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock, RwLock};

use super::*;
use crate::live::fanout::{self, Start};
use crate::live::history;
use crate::store::StoreError;
use crate::tally::catalog::Catalog;
use crate::tally::order::MAX_TOTAL;
use crate::tally::position::RunList;

/// How long an event may take that should come at once.
const DEADLINE: Duration = Duration::from_secs(15);

/// What a test and its store share.
struct Script {
    /// How many changes each commit has, when it begins. The probes of a ledger that is failing are not among them.
    begun: Sender<usize>,
    /// How it ends.
    ends: Receiver<Result<(), StoreError>>,
    /// Whoever looks for this key finds an order of one piece, and the same order comes once more.
    repeated: Option<Key>,
    handle: OnceLock<LedgerHandle>,
    found: AtomicUsize,
    /// After so many the repeated order does not come any more.
    most_found: usize,
}

struct ScriptedStore(Arc<Script>);

impl Store for ScriptedStore {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.0.begun.send(changes.len()).expect("the test listens");
        self.0.ends.recv().expect("the test says how it ends")
    }

    fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError> {
        let Script { repeated, handle, found, most_found, .. } = &*self.0;
        if repeated.as_ref() != Some(key) {
            return Ok(None);
        }
        if found.fetch_add(1, Relaxed) + 1 < *most_found {
            let waiter = Told::new().0;
            handle.get().expect("set before the first order").submit(order(1, Some(key.as_str())), waiter);
        }
        Ok(Some(KeyUse::Order(ProductIndex(0), amount(1))))
    }
}

/// Somebody who passes on what it is told.
struct Told(Mutex<Sender<Outcome>>);

impl Told {
    fn new() -> (Arc<Self>, Receiver<Outcome>) {
        let (sender, told) = bounded(1);
        (Arc::new(Self(Mutex::new(sender))), told)
    }
}

impl Waiter for Told {
    fn tell(&self, outcome: Outcome) {
        // The test may have stopped listening.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(outcome);
    }
}

struct Bench {
    script: Arc<Script>,
    begun: Receiver<usize>,
    ends: Sender<Result<(), StoreError>>,
    handle: LedgerHandle,
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
        });
        let mut catalog = Catalog::default();
        let tools = catalog.add_category("tools", "T").unwrap();
        let details = Details { name: "Saw".into(), rrp: String::new(), info: String::new() };
        catalog.add_product(tools, "T1", details).unwrap();
        let catalog = Arc::new(RwLock::new(catalog));
        let totals = vec![Total::default()];
        let first = Start { totals: &totals, last_seq: 0, runs: &RunList::default() };
        let (fanout, _) = fanout::start(catalog.clone(), &first, history::prepare().0).unwrap();
        let handle = start(ScriptedStore(script.clone()), totals, 0, catalog, fanout).unwrap().handle;
        assert!(script.handle.set(handle.clone()).is_ok());
        Self { script, begun, ends, handle }
    }

    fn submit(&self, order: Order) -> Receiver<Outcome> {
        let (waiter, told) = Told::new();
        self.handle.submit(order, waiter);
        told
    }

    /// Waits until a commit has begun; returns how many changes it has.
    fn commit_begins(&self) -> usize {
        self.begun.recv_timeout(DEADLINE).expect("a commit begins")
    }

    fn commit_ends(&self, result: Result<(), StoreError>) {
        self.ends.send(result).expect("the store listens");
    }
}

fn amount(pieces: i64) -> Amount {
    Amount::new(pieces).unwrap()
}

fn order(pieces: i64, key: Option<&str>) -> Order {
    Order { product: ProductIndex(0), amount: amount(pieces), key: key.and_then(Key::new) }
}

fn told(outcome: &Receiver<Outcome>) -> Outcome {
    outcome.recv_timeout(DEADLINE).expect("an outcome")
}

#[test]
fn a_refusal_because_of_an_order_that_is_not_on_disk_yet_stands_only_if_that_order_does() {
    let unknown = || Err(StoreError::Unknown(String::new()));
    let failed = || Err(StoreError::Refused(String::new()));
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
        assert_eq!(told(&first), Ok(()));
        assert_eq!(bench.commit_begins(), 1);
        assert!([&counted, &reused, &too_large].iter().all(|outcome| outcome.is_empty()), "told before it is known");
        bench.commit_ends(end);
        assert_eq!((told(&counted), told(&reused), told(&too_large)), (of_the_order, of_the_key, of_the_total));
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
    assert_eq!((told(&first), told(&repeat)), (Ok(()), Ok(())));
    assert_eq!(bench.commit_begins(), 1);
    let found = bench.script.found.load(Relaxed);
    assert!((1..=MAX_BATCH).contains(&found), "{found} repeats were answered first");
    bench.commit_ends(Ok(()));
    assert_eq!(told(&waiting), Ok(()));
}
