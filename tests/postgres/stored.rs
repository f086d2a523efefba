//! What a node reads and writes beside orders is the same as in a data file: catalogue, totals, periods, log.

use std::fmt::Debug;
use std::path::Path;

use ordercast::internal::store::order_log::{Filter, LogReader, LogSource};
use ordercast::internal::store::postgres::changes::write_changes;
use ordercast::internal::store::postgres::load::load;
use ordercast::internal::store::postgres::log::PgLogReader;
use ordercast::internal::store::postgres::{Param, Session, Target};
use ordercast::internal::store::retention::Retention;
use ordercast::internal::store::sqlite::SqliteStore;
use ordercast::internal::store::{Change, Store, Stored};
use ordercast::internal::tally::catalog::{Category, CategoryIndex, Details, Product, ProductIndex};
use ordercast::internal::tally::order::{Amount, Key, Total};
use ordercast::internal::tally::period::Period;

use crate::common::{Cluster, DEADLINE, Stop, TempDir, wait_until};
use crate::{connect, later, migrated};

const NODE: i64 = 7;

fn category(name: &str, title: &str) -> Change {
    let prefix = name[..1].to_uppercase();
    Change::Category(Category { name: name.into(), title: title.into(), prefix, products: Vec::new(), revision: 0 })
}

fn product(id: &str, category: u32, name: &str, is_hidden: bool) -> Product {
    let details = Details { name: name.into(), rrp: "1.50".into(), info: "ü\"'".into() };
    Product { id: id.into(), category: CategoryIndex(category), details, is_hidden }
}

fn total(pieces: i64) -> Total {
    Total::new(pieces).unwrap()
}

/// A change of the catalogue or of periods, in a transaction of its own.
#[track_caller]
fn change(session: &mut Session, changes: &[Change]) {
    session.script("BEGIN", later()).unwrap();
    session.query("SELECT * FROM ordercast.lock()", &[], later()).unwrap();
    write_changes(session, NODE, changes, later()).unwrap();
    session.script("COMMIT", later()).unwrap();
}

/// A database and a data file to which the same happens.
struct Both {
    session: Session,
    store: SqliteStore,
    commits: i64,
}

impl Both {
    fn change(&mut self, changes: &[Change]) {
        change(&mut self.session, changes);
        self.store.commit(changes).unwrap();
    }

    /// Orders of products, in one commit; in the data file they get the times that they have in the database.
    fn order(&mut self, orders: &[(u32, i64, Option<&str>)]) {
        self.commits += 1;
        let products: Vec<_> = orders.iter().map(|(product, ..)| *product as i32 + 1).collect();
        let amounts: Vec<_> = orders.iter().map(|(_, amount, _)| *amount).collect();
        let keys: Vec<_> = orders.iter().map(|(.., key)| *key).collect();
        let requests: Vec<_> = (1..=orders.len() as i32).collect();
        let (batch_keys, digests) = (vec![None; orders.len()], vec![None; orders.len()]);
        let since = self.session.query("SELECT seq FROM ordercast.head", &[], later()).unwrap()[0].int8(0).unwrap();
        let rows = self.session.query(
            "SELECT outcomes, seqs, totals, times FROM ordercast.commit($1, $2, $3, 0, 1000, $4, $5, $6, $7, $8, $9)",
            &[
                Param::Int8(NODE),
                Param::Int8(self.commits),
                Param::Int8(since),
                Param::Int4s(&products),
                Param::Int8s(&amounts),
                Param::Texts(&keys),
                Param::Int4s(&requests),
                Param::Texts(&batch_keys),
                Param::Int8sOrNull(&digests),
            ],
            later(),
        );
        let row = &rows.unwrap()[0];
        assert_eq!(row.int2s(0).unwrap(), vec![0; orders.len()]);
        let (seqs, totals, times) = (row.int8s(1).unwrap(), row.int8s(2).unwrap(), row.int8s(3).unwrap());
        assert_eq!(seqs.len(), orders.len());
        let order = |n: usize| Change::Order {
            seq: seqs[n].cast_unsigned(),
            at_ms: times[n].cast_unsigned(),
            product: ProductIndex(orders[n].0),
            amount: Amount::new(orders[n].1).unwrap(),
            total: total(totals[n]),
            key: orders[n].2.and_then(Key::new),
        };
        self.store.commit(&(0..orders.len()).map(order).collect::<Vec<_>>()).unwrap();
    }
}

/// Products of which two start with a total, orders before and after changes and two closes.
fn fill(both: &mut Both) {
    let first = [
        category("tools", "All Tools"),
        Change::Product(product("T1", 0, "Saw", false), total(3)),
        category("toys", "Toys"),
        Change::Product(product("T2", 1, "Top", false), total(0)),
    ];
    both.change(&first);
    both.order(&[(0, 5, Some("a")), (1, 2, None), (0, -1, Some("ü \"{},\\ NULL")), (0, 0, None)]);
    let added = product("T3", 0, "Axe", false);
    both.change(&[
        Change::Product(added.clone(), total(40)),
        Change::FirstLine { seq: 5, at_ms: 1_769_860_800_007, product: ProductIndex(2), total: total(40) },
        Change::History { at_ms: 7, line: "{}".into() },
    ]);
    both.order(&[(2, 1, None), (1, 7, None)]);
    both.change(&[Change::Period(Period { number: 2, opened_ms: 1_000_000_000_000, opened_after: 7 })]);
    both.change(&[Change::Period(Period { number: 3, opened_ms: 1_000_000_000_001, opened_after: 7 })]);
    both.order(&[(1, -7, Some("b")), (2, 9, None)]);
    let hidden = Product { is_hidden: true, ..product("T3", 0, "Axe, sharp", false) };
    let hide = |before: &Product, after: &Product| Change::ChangedProduct {
        product: ProductIndex(2),
        before: Box::new(before.clone()),
        after: Box::new(after.clone()),
    };
    both.change(&[hide(&added, &hidden), Change::History { at_ms: 8, line: "{\"ü\":1}".into() }]);
    both.order(&[(0, 100, None)]);
    both.change(&[hide(&hidden, &Product { is_hidden: false, ..hidden.clone() })]);
    let (before, after) = ("Toys".into(), "Toys & Games".into());
    both.change(&[Change::Title { category: CategoryIndex(1), before, after }]);
    both.change(&[
        category("none", "None"),
        Change::Period(Period { number: 4, opened_ms: 1 << 41, opened_after: 10 }),
    ]);
}

/// What is stored, without what differs between two stores of the same content: runs and revisions.
fn content(stored: &Stored) -> impl Debug + PartialEq + use<> {
    let categories: Vec<_> = (stored.catalog.categories().iter())
        .map(|category| {
            (category.name.clone(), category.title.clone(), category.prefix.clone(), category.products.clone())
        })
        .collect();
    let stored = stored.clone();
    (
        categories,
        stored.catalog.products().to_vec(),
        (stored.totals, stored.openings, stored.ordered_ms),
        (stored.period, stored.last_seq, stored.shown_after),
    )
}

/// Compares all that the two say, with many combinations of bounds.
#[track_caller]
fn compare(database: &mut impl LogSource, file: &mut impl LogSource) {
    let (none, product, category) = (Filter::default(), Some(ProductIndex(1)), Some(CategoryIndex(0)));
    let time = Some(1_769_860_800_007);
    let filters = [
        none,
        Filter { product, ..none },
        Filter { category, ..none },
        Filter { product, category, ..none },
        Filter { since_ms: time, ..none },
        Filter { until_ms: time, ..none },
        Filter { since_ms: time, until_ms: time.map(|ms| ms + 1), ..none },
        Filter { since_ms: Some(u64::MAX >> 1), ..none },
        Filter { until_ms: Some(0), ..none },
    ];
    for after in 0..13 {
        for limit in [1, 2, 5, 100] {
            for (filter, lines) in filters.iter().flat_map(|filter| [1, 3, 100].map(|lines| (filter, lines))) {
                let pages = [database.page(after, limit, filter, lines), file.page(after, limit, filter, lines)];
                let [ours, theirs] = pages.map(Result::unwrap);
                assert_eq!(ours, theirs, "{after} {limit} {filter:?} {lines}");
            }
            let [ours, theirs] = [database.publications(after, limit), file.publications(after, limit)];
            assert_eq!(ours.unwrap(), theirs.unwrap(), "{after} {limit}");
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            database.amounts(after, limit, |seq, product, ms, amount| ours.push((seq, product, ms, amount))).unwrap();
            file.amounts(after, limit, |seq, product, ms, amount| theirs.push((seq, product, ms, amount))).unwrap();
            assert_eq!(ours, theirs, "{after} {limit}");
            for before in 0..6 {
                let [ours, theirs] =
                    [database.closed_periods(after, before, limit), file.closed_periods(after, before, limit)];
                assert_eq!(ours.unwrap(), theirs.unwrap(), "{after} {before} {limit}");
            }
        }
        assert_eq!(database.report(after).unwrap(), file.report(after).unwrap(), "{after}");
    }
}

fn reader(url: &str) -> PgLogReader {
    PgLogReader::new(Target::parse(url).unwrap())
}

/// Opens a data folder of this process. A process that another test has just started keeps the folder locked until its
/// program runs.
#[track_caller]
fn open_when_free(folder: &Path, retention: Retention) -> (SqliteStore, Stored) {
    let mut opened = None;
    wait_until(DEADLINE, "the data folder is free", || {
        opened = SqliteStore::open(folder, retention).ok();
        opened.is_some()
    });
    opened.expect("it was waited for")
}

#[test]
fn catalogue_totals_periods_and_log_are_those_of_a_data_file_also_once_old_entries_are_deleted() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = TempDir::in_memory();
    let open = |retention| open_when_free(folder.path(), retention);
    let mut both = Both { session: migrated(&cluster), store: open(Retention::default()).0, commits: 0 };
    fill(&mut both);
    let Both { mut session, store, .. } = both;
    let mut database = reader(&cluster.url());
    let mut file = LogReader::new(store.path());
    // The first period begins when a store is made.
    let opened_ms = file.closed_periods(0, 2, 1).unwrap()[0].0.opened_ms;
    let sql = "UPDATE ordercast.periods SET opened_ms = $1 WHERE number = 1";
    session.query(sql, &[Param::Int8(opened_ms.cast_signed())], later()).unwrap();
    compare(&mut database, &mut file);
    let log = "SELECT n, at_ms, line FROM ordercast.changes ORDER BY n";
    let history: Vec<_> = session.query(log, &[], later()).unwrap();
    let history: Vec<_> = history.iter().map(|row| (row.int8(0).unwrap(), row.text(2).unwrap().to_owned())).collect();
    assert_eq!(history, [(1, "{}".to_owned()), (2, "{\"ü\":1}".to_owned())]);
    drop((store, file));

    let (mut store, stored) = open(Retention { orders: Some(4), ..Retention::default() });
    let loaded = load(&mut session, later()).unwrap();
    assert_eq!(content(&loaded.stored), content(&stored));
    assert_eq!(loaded.news, 12);
    store.commit(&[]).unwrap();
    session.query("UPDATE ordercast.settings SET keep_orders = 4", &[], later()).unwrap();
    let pruned = session.query("SELECT ordercast.prune(100)", &[], later()).unwrap();
    assert_eq!(pruned[0].int8(0), Ok(6));
    let mut file = LogReader::new(store.path());
    assert_eq!(database.publications(5, 9).unwrap(), None, "entry 6 is not there any more");
    compare(&mut database, &mut file);
}

#[test]
fn every_change_has_its_news_at_its_place_in_the_log() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = TempDir::in_memory();
    let store = open_when_free(folder.path(), Retention::default()).0;
    let mut both = Both { session: migrated(&cluster), store, commits: 0 };
    let mut other = connect(&cluster.url());
    other.script("LISTEN ordercast", later()).unwrap();
    fill(&mut both);
    let rows = other.query(
        "SELECT news, news_after, news_kinds, news_rows, seqs FROM ordercast.page(0, 0, 100)",
        &[],
        later(),
    );
    let row = &rows.unwrap()[0];
    assert_eq!(row.int8s(0).unwrap(), (1..=12).collect::<Vec<_>>());
    assert_eq!(row.int8s(1).unwrap(), [0, 0, 0, 0, 4, 7, 7, 9, 10, 10, 10, 10]);
    assert_eq!(row.int2s(2).unwrap(), [1, 2, 1, 2, 2, 4, 4, 3, 3, 1, 1, 4]);
    assert_eq!(row.int8s(3).unwrap(), [1, 1, 2, 2, 3, 2, 3, 3, 3, 2, 3, 4]);
    assert_eq!(row.int8s(4).unwrap(), (1..=10).collect::<Vec<_>>());
    let notification = other.notification(later()).unwrap().unwrap();
    assert_eq!((notification.channel.as_str(), notification.payload.as_str()), ("ordercast", "7 0 4"));
}

#[test]
fn a_reader_of_the_log_goes_on_after_its_connection_has_ended() {
    let Some(mut cluster) = Cluster::start() else { return };
    let mut session = migrated(&cluster);
    change(&mut session, &[category("tools", "Tools"), Change::Product(product("T1", 0, "Saw", false), total(0))]);
    drop(session);
    let mut database = reader(&cluster.url());
    let read = |database: &mut PgLogReader| database.page(0, 1, &Filter::default(), 9);
    read(&mut database).unwrap();
    // An idle connection that has ended is not the fault of the call that finds it.
    cluster.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL",
    );
    read(&mut database).unwrap();
    cluster.stop(Stop::Immediate);
    let error = read(&mut database).unwrap_err();
    assert!(format!("{error:#}").starts_with("the database cannot be reached: "), "{error:#}");
    cluster.restart();
    read(&mut database).unwrap();
}

#[test]
fn a_change_of_what_is_not_there_is_an_error_and_makes_no_gap() {
    let Some(cluster) = Cluster::start() else { return };
    let mut session = migrated(&cluster);
    let saw = product("T1", 0, "Saw", false);
    let changed = Change::ChangedProduct {
        product: ProductIndex(0),
        before: Box::new(saw.clone()),
        after: Box::new(saw.clone()),
    };
    let titled = Change::Title { category: CategoryIndex(0), before: String::new(), after: "Tools".into() };
    let line = Change::FirstLine { seq: 2, at_ms: 0, product: ProductIndex(0), total: total(0) };
    let order = Change::BatchKey { key: Key::new("a").unwrap(), digest: 1 };
    for change in [changed, titled, line, order] {
        session.script("BEGIN", later()).unwrap();
        let changes = [category("tools", "Tools"), change];
        // The category of the title is the first one, which is new in the same transaction.
        let is_there = matches!(changes[1], Change::Title { .. });
        assert_eq!(write_changes(&mut session, NODE, &changes, later()).is_ok(), is_there, "{changes:?}");
        session.script("ROLLBACK", later()).unwrap();
    }
    assert_eq!(cluster.sql("SELECT news, (SELECT count(*) FROM ordercast.news) FROM ordercast.head"), "0|0");
}
