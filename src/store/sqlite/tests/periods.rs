//! Periods in the file: what a close writes, and that it is taken back whole.

use super::*;
use crate::store::periods;
use crate::tally::period::Period;

fn product(number: u32, total: i64) -> Change {
    let details = Details { name: "Axe".into(), rrp: String::new(), info: String::new() };
    let product = Product { id: format!("T{number}"), category: CategoryIndex(0), details, is_hidden: false };
    Change::Product(product, Total::new(total).unwrap())
}

fn ordered(seq: u64, product: u32, amount: i64, total: i64) -> Change {
    Change::Order {
        seq,
        at_ms: 1,
        product: ProductIndex(product),
        amount: Amount::new(amount).unwrap(),
        total: Total::new(total).unwrap(),
        key: None,
    }
}

fn close(number: u64, opened_ms: u64, opened_after: u64) -> [Change; 1] {
    [Change::Period(Period { number, opened_ms, opened_after })]
}

/// The amounts in a closed period's report, by the product's index.
fn amounts(store: &SqliteStore, number: u64) -> Vec<(u32, i64)> {
    let report = periods::report(connection(store), number).unwrap().unwrap();
    report.amounts.into_iter().map(|(product, amount)| (product.0, amount)).collect()
}

/// A store with three products and two closed periods, of which the second has no orders.
fn shop(folder: &Folder) -> SqliteStore {
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    store.commit(&[product(2, 7), product(3, 0)]).unwrap();
    store.commit(&[ordered(1, 0, 2, 5), ordered(2, 2, -4, -4), ordered(3, 1, 1, 8), ordered(4, 1, -1, 7)]).unwrap();
    store.commit(&close(2, 20, 4)).unwrap();
    store.commit(&close(3, 30, 4)).unwrap();
    store
}

#[test]
fn a_close_stores_the_sums_of_all_products_and_the_next_period_counts_from_there() {
    let folder = Folder::new("periods");
    let mut store = shop(&folder);
    connection(&store).execute_batch("UPDATE products SET hidden = 1 WHERE row = 3").unwrap();
    store.commit(&[ordered(5, 2, 3, -1), ordered(6, 0, 1, 6)]).unwrap();
    store.commit(&close(4, 40, 6)).unwrap();
    assert_eq!(amounts(&store, 1), [(0, 2), (2, -4)]);
    assert_eq!(amounts(&store, 2), []);
    assert_eq!(amounts(&store, 3), [(0, 1), (2, 3)], "a hidden product too");
    let lines: (i64, i64) = connection(&store)
        .query_row("SELECT count(*), max(n) FROM period_sums", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(lines, (4, 4), "their numbers have no gaps");
    store.commit(&[ordered(7, 1, 5, 12)]).unwrap();
    drop(store);
    let (_store, stored) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    assert_eq!(stored.period, Period { number: 4, opened_ms: 40, opened_after: 6 });
    assert_eq!(stored.openings.iter().map(|total| total.get()).collect::<Vec<_>>(), [6, 7, -1]);
}

#[test]
fn a_close_that_is_taken_back_leaves_the_file_as_it_was() {
    let folder = Folder::new("close-taken-back");
    let mut store = shop(&folder);
    store.commit(&[ordered(5, 2, 3, -1), ordered(6, 0, 1, 6)]).unwrap();
    let content = |store: &SqliteStore| {
        let sql = "SELECT group_concat(total || ':' || opening) FROM current_products
             UNION ALL SELECT group_concat(number || ':' || opened_ms || ':' || opened_after) FROM periods
             UNION ALL SELECT group_concat(n || ':' || period || ':' || product || ':' || amount) FROM period_sums";
        let mut statement = connection(store).prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let mut contents = vec![content(&store)];
    // With sums, and without.
    for changes in [close(4, 40, 6), close(5, 50, 6)] {
        store.commit(&changes).unwrap();
        contents.push(content(&store));
    }
    for changes in [close(5, 50, 6), close(4, 40, 6)] {
        assert_ne!(contents.pop().as_ref(), contents.last());
        let transaction = store.session.as_mut().unwrap().connection.transaction().unwrap();
        take_back(&transaction, &changes, 1).unwrap();
        transaction.commit().unwrap();
        assert_eq!(&content(&store), contents.last().unwrap());
    }
}
