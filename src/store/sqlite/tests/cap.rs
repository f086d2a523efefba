//! A file that has reached its cap, and what makes room in it.

use super::*;

#[test]
fn a_full_file_rejects_orders_until_there_is_room() {
    let folder = Folder::new("capped");
    let retention = Retention { data_bytes: Some(64 * 1024), ..Retention::default() };
    let (mut store, _) = SqliteStore::open(&folder.0, retention).unwrap();
    store.commit(&seed()).unwrap();
    let mut taken = 0;
    let error = loop {
        match store.commit(&[order(taken + 1, 4 + taken as i64)]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000);
    };
    assert!(matches!(error, StoreError::AtCap(_)), "{error}");
    assert!(store.commit(&[]).is_err(), "a probe fails too");
    drop(store);
    // Old orders make room before new ones need it.
    let pruned = Retention { orders: Some(10), ..retention };
    let (mut store, stored) = SqliteStore::open(&folder.0, pruned).unwrap();
    assert_eq!((stored.last_seq, stored.totals[0].get()), (taken, 3 + taken as i64));
    store.commit(&[]).unwrap();
    for number in 1..=50 {
        store.commit(&[order(taken + number, 3 + (taken + number) as i64)]).unwrap();
    }
}

/// A batch of orders with keys that follow the order with this number.
fn batch(last_seq: u64) -> Vec<Change> {
    (last_seq + 1..=last_seq + 950).map(|seq| keyed(seq, &format!("key-{seq:016}"))).collect()
}

/// What is deleted in one commit may free fewer pages than the keys need that the same commit has to move.
#[test]
fn a_full_file_takes_orders_again_when_fewer_are_to_be_kept_or_keys_have_expired() {
    // Whether it does depends on where in a round of moves the cap is reached.
    for cap in [1_100_000, 1_200_000] {
        let retention = Retention { data_bytes: Some(cap), ..Retention::default() };
        let fewer = Retention { orders: Some(500), ..retention };
        let expired = Retention { keys: Duration::ZERO, ..retention };
        for less in [fewer, expired] {
            let folder = Folder::new("capped-keys");
            let (mut store, _) = SqliteStore::open(&folder.0, retention).unwrap();
            store.commit(&seed()).unwrap();
            let mut last_seq = 0;
            while store.commit(&batch(last_seq)).is_ok() {
                last_seq += 950;
            }
            drop(store);
            let (mut store, stored) = SqliteStore::open(&folder.0, less).unwrap();
            assert_eq!(stored.last_seq, last_seq);
            // The clock of the keys may stand still for as long as the test has taken.
            std::thread::sleep(Duration::from_millis(2));
            // Probes, as the ledger makes them while orders fail.
            let tries = (0..20).position(|_| store.commit(&[]).is_ok());
            assert!(tries.is_some(), "at {cap} bytes, {less:?}");
            store.commit(&[keyed(last_seq + 1, "new")]).unwrap();
            drop(store);
            let (_store, stored) = SqliteStore::open(&folder.0, retention).unwrap();
            assert_eq!((stored.last_seq, stored.totals[0].get()), (last_seq + 1, 3 + last_seq as i64 + 1));
        }
    }
}
