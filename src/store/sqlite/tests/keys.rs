//! Keys that are stored in the log alone, and those that were moved to their table.

use super::*;
use crate::store::retention::MOST_KEYS;

/// Keys that are in the log alone, those that were moved and those of batches, after an end in order and after a kill.
#[test]
fn a_key_is_known_wherever_it_is_stored_and_in_the_order_of_its_use() {
    let folder = Folder::new("moved-keys");
    let mut keys: Vec<String> = Vec::new();
    let mut seq = 0;
    for run in 0..4 {
        let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
        if run == 0 {
            store.commit(&seed()).unwrap();
        }
        assert_eq!(kept_keys(&store), keys);
        for commit in 0..600 {
            seq += 1;
            let key = format!("{run}-{commit}");
            let mut changes = vec![keyed(seq, &key)];
            // The first one is written before the keys of its commit, which are moved with the next ones.
            if commit % 250 == 249 {
                changes.insert(0, Change::BatchKey { key: Key::new(&format!("batch-{key}")).unwrap(), digest: 1 });
                keys.push(format!("batch-{key}"));
            }
            keys.push(key);
            store.commit(&changes).unwrap();
        }
        assert!(keys.iter().all(|key| knows(&mut store, key)));
        assert!(!knows(&mut store, "other"));
        assert_eq!(kept_keys(&store), keys);
        assert_eq!(store.measure().key_rows, Some(keys.len() as u64));
        if run % 2 == 1 {
            store.close();
        }
    }
}

/// Orders leave the log before their keys expire.
#[test]
fn a_key_is_kept_when_its_order_is_deleted_from_the_log() {
    let folder = Folder::new("keys-of-deleted");
    let retention = Retention { orders: Some(3), ..Retention::default() };
    for run in 0..2 {
        let (mut store, _) = SqliteStore::open(&folder.0, retention).unwrap();
        if run == 0 {
            store.commit(&seed()).unwrap();
        }
        for seq in run * 20 + 1..=run * 20 + 20 {
            store.commit(&[keyed(seq, &format!("key-{seq}"))]).unwrap();
        }
        assert!((1..=run * 20 + 20).all(|seq| knows(&mut store, &format!("key-{seq}"))), "run {run}");
    }
}

/// Rows that another program has written.
#[test]
fn numbers_of_keys_with_any_gaps_take_no_memory_and_impossible_ones_are_an_error() {
    let folder = Folder::new("odd-keys");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    drop(store);
    let path = folder.0.join(DATA_FILE);
    let insert = |n: i64| {
        let sql = "INSERT INTO keys VALUES (?1, 'key-' || ?1, unixepoch() * 1000, 1, 1)";
        rusqlite::Connection::open(&path).unwrap().execute(sql, [n]).unwrap();
    };
    [1, 1 << 30].into_iter().for_each(insert);
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    assert!(knows(&mut store, "key-1073741824") && !knows(&mut store, "other"));
    store.commit(&[keyed(1, "new")]).unwrap();
    assert!(knows(&mut store, "new"));
    drop(store);
    for n in [1 << 40, i64::MAX] {
        insert(n);
        let error = SqliteStore::open(&folder.0, Retention::default()).err().expect("the number is impossible");
        assert!(format!("{error:#}").contains("out of range"), "{error:#}");
    }
}

#[test]
fn the_number_of_keys_is_bounded_although_no_cap_is_set() {
    let folder = Folder::new("most-keys");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    let mut has_room = |pending: u64| store.has_room_for_key(pending as usize).unwrap();
    assert!(has_room(MOST_KEYS - 1) && !has_room(MOST_KEYS));
}

/// More than are read at a time, some of them deleted by another program.
#[test]
fn keys_from_before_the_start_are_read_in_steps_between_which_orders_are_taken() {
    const KEPT: u64 = 40_000;
    let folder = Folder::new("keys-in-steps");
    let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
    store.commit(&seed()).unwrap();
    store.commit(&(1..=KEPT).map(|seq| keyed(seq, &format!("key-{seq}"))).collect::<Vec<_>>()).unwrap();
    store.close();
    drop(store);
    let path = folder.0.join(DATA_FILE);
    let deleted = rusqlite::Connection::open(path).unwrap().execute("DELETE FROM keys WHERE n % 100 = 7", []).unwrap();
    for looks_before in [false, true] {
        let (mut store, _) = SqliteStore::open(&folder.0, Retention::default()).unwrap();
        if looks_before {
            assert!(knows(&mut store, "key-39999") && knows(&mut store, "new-1") && !knows(&mut store, "key-107"));
            assert!(matches!(store.rest(), Rest::Done));
        } else {
            let mut new = 0;
            while store.rest() == Rest::Unfinished {
                new += 1;
                store.commit(&[keyed(KEPT + new, &format!("new-{new}"))]).unwrap();
            }
            assert_eq!(new, 2);
        }
        assert_eq!(store.measure().key_rows, Some(KEPT + 2 - deleted as u64));
        assert!((1..=KEPT).all(|key| knows(&mut store, &format!("key-{key}")) == (key % 100 != 7)));
        assert!(knows(&mut store, "new-1") && knows(&mut store, "new-2") && !knows(&mut store, "other"));
        store.close();
    }
}
