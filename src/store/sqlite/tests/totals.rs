//! Totals that are in the log alone: every opening reads them, and all that needs them in the products' rows moves them.

use super::*;
use crate::store::order_log;

const PRODUCTS: &str = "SELECT group_concat(total || ':' || coalesce(ordered_ms, '-')) FROM products ORDER BY row";

fn rows(store: &SqliteStore) -> String {
    connection(store).query_row(PRODUCTS, [], |row| row.get(0)).unwrap()
}

fn moved_seq(store: &SqliteStore) -> u64 {
    schema::moved_seq(connection(store)).unwrap()
}

/// Opens the folder, which must hold these totals and these times of last orders.
fn open(folder: &Folder, retention: Retention, totals: &[i64], ordered_ms: &[Option<u64>]) -> SqliteStore {
    let (store, stored) = SqliteStore::open(&folder.0, retention).unwrap();
    assert_eq!(stored.totals.iter().map(|total| total.get()).collect::<Vec<_>>(), totals);
    assert_eq!(stored.ordered_ms, ordered_ms);
    store
}

/// A store with the products of [`seed`] and without orders.
fn seeded(name: &str) -> (Folder, SqliteStore) {
    let folder = Folder::new(name);
    let mut store = open(&folder, Retention::default(), &[], &[]);
    store.commit(&seed()).unwrap();
    (folder, store)
}

fn close(mut store: SqliteStore) {
    store.close();
}

fn new_axe(seq: u64) -> [Change; 2] {
    let details = Details { name: "Axe".into(), rrp: String::new(), info: String::new() };
    let product = Product { id: "T2".into(), category: CategoryIndex(0), details, is_hidden: false };
    let total = Total::new(7).unwrap();
    [Change::Product(product, total), Change::FirstLine { seq, at_ms: 9, product: ProductIndex(1), total }]
}

#[test]
fn totals_are_in_the_log_alone_until_the_store_is_closed() {
    let (folder, mut store) = seeded("totals-in-the-log");
    store.commit(&[order(1, 4), order(2, 5)]).unwrap();
    store.commit(&new_axe(3)).unwrap();
    assert_eq!((rows(&store).as_str(), moved_seq(&store)), ("3:-,7:-", 0));
    drop(store);
    // Not closed, and opened again: the first line of the new product is no order.
    let mut store = open(&folder, Retention::default(), &[5, 7], &[Some(1), None]);
    store.commit(&[order(4, 6)]).unwrap();
    assert_eq!(rows(&store), "3:-,7:-");
    drop(store);
    close(open(&folder, Retention::default(), &[6, 7], &[Some(1), None]));
    // Nothing was written in this run, so there was nothing to record.
    let mut store = open(&folder, Retention::default(), &[6, 7], &[Some(1), None]);
    assert!(store.integrity_check().unwrap().run(|_| true).unwrap());
    store.commit(&[order(5, 7)]).unwrap();
    close(store);
    let store = open(&folder, Retention::default(), &[7, 7], &[Some(1), None]);
    assert_eq!((rows(&store).as_str(), moved_seq(&store)), ("7:1,7:-", 5));
}

#[test]
fn totals_are_moved_before_their_lines_are_deleted() {
    let folder = Folder::new("totals-pruned");
    let retention = Retention { orders: Some(3), ..Retention::default() };
    let mut store = open(&folder, retention, &[], &[]);
    store.commit(&seed()).unwrap();
    store.commit(&new_axe(1)).unwrap();
    store.commit(&[order(2, 4)]).unwrap();
    assert_eq!((rows(&store).as_str(), moved_seq(&store)), ("3:-,7:-", 0));
    let axe = |seq, total| Change::Order {
        seq,
        at_ms: 2,
        product: ProductIndex(1),
        amount: Amount::new(1).unwrap(),
        total: Total::new(total).unwrap(),
        key: None,
    };
    for seq in 3..20 {
        store.commit(&[axe(seq, 5 + seq as i64)]).unwrap();
        let first = order_log::page(connection(&store), 0, 1).unwrap()[0].seq;
        assert!(first <= moved_seq(&store) + 1, "{first}, {}", moved_seq(&store));
    }
    drop(store);
    open(&folder, retention, &[4, 24], &[Some(1), Some(2)]);
}

#[test]
fn totals_are_moved_after_many_orders() {
    let (folder, mut store) = seeded("totals-of-many");
    let all: Vec<_> = (1..=20_000).map(|seq| order(seq, 3 + seq as i64)).collect();
    for orders in all.chunks(1_000) {
        store.commit(orders).unwrap();
    }
    assert_eq!(moved_seq(&store), 17_000, "with the first commit after 16,384");
    assert_eq!(rows(&store), "17003:1");
    drop(store);
    open(&folder, Retention::default(), &[20_003], &[Some(1)]);
}

/// As after a commit that was taken back, with which all older lines were deleted.
#[test]
fn a_log_that_has_lost_all_lines_goes_on_with_their_numbers() {
    let (folder, mut store) = seeded("totals-again");
    store.commit(&(1..=9).map(|seq| order(seq, 3 + seq as i64)).collect::<Vec<_>>()).unwrap();
    close(store);
    let store = open(&folder, Retention::default(), &[12], &[Some(1)]);
    connection(&store).execute("DELETE FROM orders", []).unwrap();
    drop(store);
    let (mut store, stored) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    assert_eq!((stored.last_seq, store.measure().log_rows), (9, Some(0)));
    store.commit(&[order(10, 13)]).unwrap();
    drop(store);
    open(&folder, Retention::default(), &[13], &[Some(1)]);
}

/// An older version began with 1 again, so that its mark was behind the last order.
#[test]
fn totals_are_exact_behind_a_mark_of_orders_that_are_gone() {
    let (folder, mut store) = seeded("totals-behind");
    store.commit(&[order(1, 4)]).unwrap();
    close(store);
    let store = open(&folder, Retention::default(), &[4], &[Some(1)]);
    connection(&store).execute("UPDATE meta SET value = '9' WHERE key = 'moved'", []).unwrap();
    drop(store);
    let mut store = open(&folder, Retention::default(), &[4], &[Some(1)]);
    store.commit(&[keyed(2, "a")]).unwrap();
    drop(store);
    let mut store = open(&folder, Retention { orders: Some(1), ..Retention::default() }, &[5], &[Some(1)]);
    assert!(store.find_key(&Key::new("a").unwrap()).unwrap().is_some());
    store.commit(&[order(3, 6)]).unwrap();
    assert_eq!((rows(&store).as_str(), moved_seq(&store)), ("5:1", 2));
    drop(store);
    open(&folder, Retention::default(), &[6], &[Some(1)]);
}

#[test]
fn an_order_that_fails_changes_no_total() {
    let (folder, mut store) = seeded("totals-failed");
    store.commit(&[order(1, 4)]).unwrap();
    assert!(store.commit(&[order(2, 99), order(2, 100)]).is_err(), "a number twice");
    close(store);
    let store = open(&folder, Retention::default(), &[4], &[Some(1)]);
    assert_eq!(rows(&store), "4:1");
}
