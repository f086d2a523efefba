//! The store on real files: what is there after opening again, and what is rejected.

mod cap;
mod keys;
mod periods;
mod totals;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::super::files::DATA_FILE;
use super::super::retention::MonotonicClock;
use super::super::{now_ms, schema};
use super::changes::take_back;
use super::*;
use crate::tally::catalog::{Catalog, CategoryIndex, Details, Product, ProductIndex};
use crate::tally::order::{Amount, Total};

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Two tests may choose the same name.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ordercast-{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn connection(store: &SqliteStore) -> &Connection {
    &store.session.as_ref().unwrap().connection
}

fn seed() -> Vec<Change> {
    let mut catalog = Catalog::default();
    let tools = catalog.add_category("tools", "T").unwrap();
    let details = Details { name: "Saw".into(), rrp: "9.99".into(), info: String::new() };
    let saw = catalog.add_product(tools, "T1", details).unwrap();
    let mut category = catalog.category(tools).clone();
    category.products.clear();
    vec![Change::Category(category), Change::Product(catalog.product(saw).clone(), Total::new(3).unwrap())]
}

fn order(seq: u64, total: i64) -> Change {
    Change::Order {
        seq,
        at_ms: 1,
        product: ProductIndex(0),
        amount: Amount::new(1).unwrap(),
        total: Total::new(total).unwrap(),
        key: None,
    }
}

fn keyed(seq: u64, key: &str) -> Change {
    let (product, amount) = (ProductIndex(0), Amount::new(1).unwrap());
    let key = Key::new(key);
    Change::Order { seq, at_ms: 1, product, amount, total: Total::new(3 + seq as i64).unwrap(), key }
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let folder = Folder::new("reopen");
    let (mut store, stored) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    assert_eq!((stored.totals.len(), stored.last_seq), (0, 0));
    store.commit(&seed()).unwrap();
    store.commit(&[order(1, 4), order(2, 5)]).unwrap();
    drop(store);
    let (_store, stored) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    assert_eq!(stored.totals, [Total::new(5).unwrap()]);
    assert_eq!(stored.last_seq, 2);
    assert_eq!(stored.catalog.product(ProductIndex(0)).id, "T1");
}

#[test]
fn a_failed_batch_leaves_nothing_behind() {
    let folder = Folder::new("rollback");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    assert!(store.commit(&[order(1, 4), order(1, 5)]).is_err(), "a sequence number twice");
    store.commit(&[order(1, 6)]).unwrap();
    drop(store);
    let (_store, stored) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    assert_eq!((stored.totals[0].get(), stored.last_seq), (6, 1));
}

#[test]
fn a_key_is_known_until_it_expires_and_may_then_be_used_again() {
    const MINUTE: u64 = 60_000;
    let folder = Folder::new("keys");
    let retention = Retention { keys: Duration::from_secs(60 * 60), ..Retention::default() };
    let (mut store, _) = SqliteStore::open(&folder.0, retention).unwrap();
    store.commit(&seed()).unwrap();
    let find = |store: &mut SqliteStore, minutes: u64, key: &str| {
        store.session.as_mut().unwrap().clock = MonotonicClock::new(minutes * MINUTE, 0, 0);
        store.find_key(&Key::new(key).unwrap()).unwrap()
    };
    assert_eq!(find(&mut store, 100, "a"), None);
    store.commit(&[keyed(1, "a"), keyed(2, "b")]).unwrap();
    let used = Some(KeyUse::Order(ProductIndex(0), Amount::new(1).unwrap()));
    assert_eq!(find(&mut store, 159, "a"), used);
    assert_eq!(find(&mut store, 161, "a"), None);
    store.commit(&[keyed(3, "a")]).unwrap();
    assert_eq!(find(&mut store, 200, "a"), used);
    assert_eq!(kept_keys(&store), ["a"], "an expired key is deleted even if it is not used again");
    store.commit(&[Change::BatchKey { key: Key::new("c").unwrap(), digest: -9 }]).unwrap();
    assert_eq!(find(&mut store, 200, "c"), Some(KeyUse::Batch(-9)));
}

fn history(number: u64) -> Change {
    Change::History { at_ms: number, line: format!("line {number}") }
}

/// The product of the seed with another name.
fn changed_saw(name: &str, is_hidden: bool) -> Change {
    let Change::Product(before, _) = seed().remove(1) else { panic!("the seed ends with a product") };
    let details = Details { name: name.into(), rrp: "1".into(), info: "x".into() };
    let after = Product { details, is_hidden, ..before.clone() };
    Change::ChangedProduct { product: ProductIndex(0), before: before.into(), after: after.into() }
}

#[test]
fn changes_of_products_and_categories_are_there_after_opening_again() {
    let folder = Folder::new("changed");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    let title = Change::Title { category: CategoryIndex(0), before: "Tools".into(), after: "All Tools".into() };
    store.commit(&[changed_saw("Axe", true), title]).unwrap();
    drop(store);
    let (_store, Stored { catalog, totals, .. }) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    let product = catalog.product(ProductIndex(0));
    assert_eq!((product.details.name.as_str(), product.is_hidden, totals[0].get()), ("Axe", true, 3));
    assert_eq!(catalog.category(CategoryIndex(0)).title, "All Tools");
}

#[test]
fn the_history_of_products_and_categories_keeps_its_last_lines() {
    let folder = Folder::new("history");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&(1..=10_005).map(history).collect::<Vec<_>>()).unwrap();
    let kept = connection(&store).query_row("SELECT min(n), max(n), count(*) FROM changes", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    assert_eq!(kept.unwrap(), (6, 10_005, 10_000));
}

fn knows(store: &mut SqliteStore, key: &str) -> bool {
    store.find_key(&Key::new(key).unwrap()).unwrap().is_some()
}

/// Those in the table, and behind them those that are in the log alone.
fn kept_keys(store: &SqliteStore) -> Vec<String> {
    let mut statement = connection(store).prepare("SELECT key FROM keys ORDER BY n").unwrap();
    let moved = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap);
    moved.chain(store.session.as_ref().unwrap().keys.recent().map(|key| key.as_str().to_owned())).collect()
}

#[test]
fn no_number_of_other_keys_makes_the_store_forget_a_key() {
    let folder = Folder::new("many-keys");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    store.commit(&[keyed(1, "a"), keyed(2, "b")]).unwrap();
    store.close();
    drop(store);
    let (store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    // As if ten million keys had been used between the two.
    assert_eq!(connection(&store).execute("UPDATE keys SET n = 10000000 WHERE key = 'b'", []), Ok(1));
    drop(store);
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    assert!(knows(&mut store, "a") && knows(&mut store, "b"));
    store.commit(&[keyed(3, "c")]).unwrap();
    store.commit(&[keyed(4, "d")]).unwrap();
    assert_eq!(kept_keys(&store), ["a", "b", "c", "d"]);
    assert!(["a", "b", "c", "d"].iter().all(|key| knows(&mut store, key)));
}

const DAY: u64 = 24 * 60 * 60 * 1_000;
/// The first of January 2099.
const YEAR_2099: u64 = 4_070_908_800_000;

#[test]
fn keys_of_a_clock_that_was_ahead_expire_and_block_no_others() {
    let folder = Folder::new("clock-ahead");
    let open = || SqliteStore::open(&folder.0, Retention::default()).unwrap().0;
    let mut store = open();
    store.commit(&seed()).unwrap();
    store.session.as_mut().unwrap().clock = MonotonicClock::new(YEAR_2099, 0, 0);
    store.commit(&[keyed(1, "ahead")]).unwrap();
    drop(store);

    // The system's clock is right again: the key counts as used now.
    let mut store = open();
    store.commit(&[]).unwrap();
    assert!(knows(&mut store, "ahead"));
    store.commit(&[keyed(2, "right")]).unwrap();
    assert_eq!((knows(&mut store, "ahead"), knows(&mut store, "right")), (true, true));
    drop(store);

    // Time between two runs counts, although the clock is still ahead.
    let mut store = open();
    let ahead = schema::keys_ahead(connection(&store)).unwrap();
    let last = store.session.as_ref().unwrap().keys.last_recent_ms();
    assert!(ahead > 10 * 365 * DAY && last >= YEAR_2099, "{ahead} {last}");
    for (days, is_known) in [(0, true), (1, false)] {
        store.session.as_mut().unwrap().clock = MonotonicClock::new(now_ms() + days * (DAY + 60_000), ahead, last);
        assert_eq!((knows(&mut store, "ahead"), knows(&mut store, "right")), (is_known, is_known), "{days} days");
    }
    store.commit(&[keyed(3, "later")]).unwrap();
    assert_eq!(kept_keys(&store), ["later"]);
}

#[test]
fn the_keys_clock_never_goes_back_and_follows_the_systems_clock_as_soon_as_it_may() {
    let opened = |system, ahead, last| MonotonicClock::new(system, ahead, last).opened_ms();
    assert_eq!(opened(100, 0, 0), 100);
    assert_eq!(opened(100, 0, 100), 100);
    // Behind the last key: from there on.
    assert_eq!((opened(100, 0, 101), MonotonicClock::new(100, 0, 101).ahead_ms), (101, 1));
    assert_eq!((opened(100, 900, 950), MonotonicClock::new(100, 900, 950).ahead_ms), (1_000, 900));
    assert_eq!(opened(0, 900, 950), 950);
    // A clock that starts at the same time again and again, as without a battery: only the time of the runs counts.
    let first = MonotonicClock::new(0, 0, 8);
    let second = MonotonicClock::new(0, first.ahead_ms, 16);
    assert_eq!((second.opened_ms(), second.ahead_ms), (16, 16));
    // Once the system's clock has passed the last key, how far the clock was ahead is forgotten.
    assert_eq!((opened(2_000, 900, 950), MonotonicClock::new(2_000, 900, 950).ahead_ms), (2_000, 0));
    assert_eq!(opened(5, u64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn keys_that_another_program_has_dated_to_the_future_do_not_block_expired_ones() {
    let folder = Folder::new("foreign-dates");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    let keys: Vec<_> = (1..=3_000).map(|seq| keyed(seq, &format!("key-{seq}"))).collect();
    store.commit(&keys).unwrap();
    store.close();
    drop(store);
    let (store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    let dated = "UPDATE keys SET at_ms = CASE WHEN n < 2000 THEN 4070908800000 ELSE 1 END WHERE n <= 2001";
    connection(&store).execute_batch(dated).unwrap();
    drop(store);
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    for seq in 3_001..3_003 {
        store.commit(&[keyed(seq, &format!("key-{seq}"))]).unwrap();
    }
    assert_eq!((kept_keys(&store).len(), kept_keys(&store)[0].as_str()), (1_001, "key-2002"));
}

#[test]
fn expired_keys_are_deleted_in_bounded_steps() {
    let folder = Folder::new("expired");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    connection(&store)
        .execute_batch(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 5000)
             INSERT INTO keys SELECT n, 'old-' || n, 1, 1, 1 FROM number",
        )
        .unwrap();
    drop(store);
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    for (seq, kept) in [(1, 5_000 - 1_024 + 1), (2, 5_000 - 2 * 1_024 + 2)] {
        store.commit(&[keyed(seq, &format!("new-{seq}"))]).unwrap();
        assert_eq!(kept_keys(&store).len(), kept);
    }
    let many: Vec<_> = (3..1_003).map(|seq| keyed(seq, &format!("new-{seq}"))).collect();
    store.commit(&many).unwrap();
    assert_eq!(kept_keys(&store).len(), 5_000 - 2 * 1_024 - 2_000 + 1_002, "twice as many as are added");
    // A probe is enough.
    store.commit(&[]).unwrap();
    assert_eq!(kept_keys(&store).len(), 1_002);
    assert_eq!(kept_keys(&store)[0], "new-1");
}

#[test]
fn a_cap_on_keys_leaves_room_for_as_many_and_expired_ones_do_not_count() {
    let folder = Folder::new("capped-keys");
    let retention = Retention { max_keys: Some(3), ..Retention::default() };
    let (mut store, _) = SqliteStore::open(&folder.0, retention).unwrap();
    store.commit(&seed()).unwrap();
    let room = |store: &mut SqliteStore| (0..4).map(|pending| store.has_room_for_key(pending).unwrap()).collect();
    let room: &dyn Fn(&mut SqliteStore) -> Vec<bool> = &room;
    assert_eq!(room(&mut store), [true, true, true, false]);
    store.commit(&[keyed(1, "a"), keyed(2, "b")]).unwrap();
    assert_eq!(room(&mut store), [true, false, false, false]);
    store.commit(&[Change::BatchKey { key: Key::new("c").unwrap(), digest: 1 }]).unwrap();
    assert_eq!(room(&mut store), [false; 4]);
    connection(&store).execute_batch("UPDATE keys SET at_ms = 1 WHERE key = 'a'").unwrap();
    assert_eq!(room(&mut store), [true, false, false, false]);
    connection(&store).execute_batch("UPDATE keys SET at_ms = 1").unwrap();
    assert_eq!(room(&mut store), [true, true, true, false]);
    store.commit(&[keyed(3, "d"), keyed(4, "a")]).unwrap();
    assert_eq!((kept_keys(&store), room(&mut store)), (vec!["d".into(), "a".into()], vec![true, false, false, false]));
}

#[test]
fn the_log_keeps_the_last_orders_and_totals_keep_all() {
    let folder = Folder::new("pruned");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    let orders: Vec<Change> = (1..=1_000).map(|seq| order(seq, 3 + seq as i64)).collect();
    store.commit(&orders).unwrap();
    drop(store);
    let retention = Retention { orders: Some(10), ..Retention::default() };
    let (mut store, _) = SqliteStore::open(&folder.0, retention).unwrap();
    for seq in 1_001..=1_010 {
        store.commit(&[order(seq, 3 + seq as i64)]).unwrap();
    }
    let bounds = connection(&store).query_row("SELECT min(seq), max(seq) FROM orders", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    assert_eq!(bounds.unwrap(), (1_001, 1_010));
    drop(store);
    assert_eq!(SqliteStore::open(&folder.0, retention).unwrap().1.totals[0].get(), 1_013);
}

#[test]
fn a_second_store_on_the_folder_is_rejected_with_the_holders_process_id() {
    let folder = Folder::new("second");
    let _store = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    let error = SqliteStore::open(&folder.0, Retention::default()).err().unwrap();
    assert!(matches!(error, StoreError::InUse(_)));
    assert!(error.to_string().contains(&std::process::id().to_string()));
}

#[test]
fn files_of_other_programs_and_newer_versions_are_rejected() {
    for (name, sql) in [("other", "CREATE TABLE t (x)"), ("newer", "PRAGMA user_version = 99")] {
        let folder = Folder::new(name);
        if name == "newer" {
            SqliteStore::open(&folder.0, Retention::default()).unwrap();
        } else {
            fs::create_dir_all(&folder.0).unwrap();
        }
        Connection::open(folder.0.join(DATA_FILE)).unwrap().execute_batch(sql).unwrap();
        let error = SqliteStore::open(&folder.0, Retention::default()).err().unwrap();
        assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    }
}

#[test]
fn a_damaged_file_is_rejected_with_advice() {
    let folder = Folder::new("damaged");
    fs::create_dir_all(&folder.0).unwrap();
    fs::write(folder.0.join(DATA_FILE), "this is no database, however long it may be".repeat(100)).unwrap();
    let error = SqliteStore::open(&folder.0, Retention::default()).err().unwrap();
    assert!(error.to_string().contains("restore a backup"), "{error}");
}

#[test]
fn a_check_that_is_ended_does_not_make_a_file_sound_and_one_that_passes_does() {
    let folder = Folder::new("checked");
    let open = || SqliteStore::open(&folder.0, Retention::default()).unwrap().0;
    let mut store = open();
    store.commit(&seed()).unwrap();
    store.commit(&(1..=2_000).map(|seq| order(seq, 3 + seq as i64)).collect::<Vec<_>>()).unwrap();
    assert!(store.is_sound(), "a new file is");
    // Not closed in order.
    drop(store);
    let store = open();
    let check = store.integrity_check().unwrap();
    assert!(!check.run(|_| false).unwrap() && !store.is_sound());
    let progress = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let reported = progress.clone();
    let is_complete = check.run(move |percent| {
        reported.lock().unwrap().push(percent);
        true
    });
    assert!(is_complete.unwrap() && store.is_sound());
    let progress = progress.lock().unwrap();
    assert!(progress.is_sorted() && progress.last().is_some_and(|last| (50..100).contains(last)), "{progress:?}");
}

#[test]
fn a_store_that_was_closed_in_order_is_sound_when_it_is_opened_again() {
    let folder = Folder::new("closed");
    for (closes, is_sound) in [(true, true), (false, true), (true, false), (true, false)] {
        let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
        assert_eq!(store.is_sound(), is_sound);
        store.commit(&[]).unwrap();
        if closes {
            store.close();
        }
    }
}

#[test]
fn changes_that_are_taken_back_leave_the_file_as_it_was() {
    let folder = Folder::new("taken-back");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    store.commit(&[order(1, 4), history(1)]).unwrap();
    let content = |store: &SqliteStore| {
        let sql = "SELECT group_concat(seq || ':' || total) FROM orders UNION ALL SELECT group_concat(id || total || opening ||
                 coalesce(ordered_ms, '-') || coalesce(added_seq, '-')) FROM current_products
             UNION ALL SELECT group_concat(name || title) FROM categories UNION ALL SELECT count(*) FROM keys
             UNION ALL SELECT group_concat(name || rrp || info || hidden) FROM products
             UNION ALL SELECT group_concat(n || line) FROM changes";
        let mut statement = connection(store).prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let before = content(&store);
    let mut catalog = Catalog::default();
    let toys = catalog.add_category("toys", "Y").unwrap();
    let details = Details { name: "Top".into(), rrp: String::new(), info: String::new() };
    let top = Product { id: "Y1".into(), category: CategoryIndex(toys.0 + 1), details, is_hidden: false };
    let changes = [
        keyed(2, "a"),
        Change::Category(catalog.category(toys).clone()),
        Change::Product(top, Total::new(5).unwrap()),
        Change::FirstLine { seq: 3, at_ms: 1, product: ProductIndex(1), total: Total::new(5).unwrap() },
        order(4, 6),
        Change::BatchKey { key: Key::new("b").unwrap(), digest: 7 },
        changed_saw("Axe", true),
        Change::Title { category: CategoryIndex(0), before: "Tools".into(), after: "All Tools".into() },
        history(2),
        history(3),
    ];
    store.commit(&changes).unwrap();
    assert_ne!(content(&store), before);
    let connection = &mut store.session.as_mut().unwrap().connection;
    let transaction = connection.transaction().unwrap();
    take_back(&transaction, &changes, 1).unwrap();
    transaction.commit().unwrap();
    assert_eq!(content(&store), before);
}
