//! What a data folder keeps, and for how long. Owns how old keys and orders are taken away; knows nothing of what comes in
//! their place but how much it is.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, params};

use super::Change;

/// The most keys that are kept: beyond it the oldest are forgotten before their time. Some 200 MB of disk.
pub const MAX_KEYS: i64 = 1_000_000;
/// How many old rows a commit takes away at least, if there are so many; it takes twice as many as it adds, so that a limit
/// that has been lowered is reached in the end, and no commit takes long.
const PRUNED_AT_ONCE: u64 = 1_024;

/// What a data folder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long the key of an order is kept after its use.
    pub keys: Duration,
    /// How many orders the log keeps; `None` for all. Totals are not touched.
    pub orders: Option<u64>,
    /// How large the data file may grow, in bytes; `None` for as large as the disk allows.
    pub data_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keys: Duration::from_secs(24 * 60 * 60), orders: None, data_bytes: None }
    }
}

/// Tells how old keys are: the wall's time when the store was opened, and from there on a clock that nobody sets. So a clock
/// that is set while the server runs, as on a box that hears the time only after it has started, makes no key older.
pub(super) struct KeyClock {
    opened_ms: u64,
    opened: Instant,
}

impl KeyClock {
    /// A clock that begins now, at this time in milliseconds since 1970 (UTC).
    pub(super) fn new(opened_ms: u64) -> Self {
        Self { opened_ms, opened: Instant::now() }
    }

    /// Milliseconds since 1970 (UTC), as far as is known.
    pub(super) fn now_ms(&self) -> u64 {
        self.opened_ms + self.opened.elapsed().as_millis() as u64
    }
}

/// What a transaction is about to add.
#[derive(Default)]
pub(super) struct Coming {
    orders: u64,
    /// The number of the last order when it has been added.
    pub(super) last_seq: u64,
    keys: u64,
    /// Nothing, to find out whether something could be.
    is_probe: bool,
}

impl Coming {
    /// What these changes are, behind the order with number `last_seq`.
    pub(super) fn of(changes: &[Change], last_seq: u64) -> Self {
        let mut coming = Self { last_seq, is_probe: changes.is_empty(), ..Self::default() };
        for change in changes {
            match change {
                Change::Order { seq, key, .. } => {
                    (coming.orders, coming.last_seq) = (coming.orders + 1, *seq);
                    coming.keys += u64::from(key.is_some());
                }
                Change::BatchKey { .. } => coming.keys += 1,
                Change::Category(_) | Change::Product(..) => {}
            }
        }
        coming
    }
}

/// Takes away what need not be kept any more at `key_ms` of the keys' clock, a little at a time. Returns the number of the first
/// order that is left.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    retention: &Retention,
    key_ms: u64,
    first_seq: u64,
    coming: &Coming,
) -> rusqlite::Result<u64> {
    let at_most = |added: u64| PRUNED_AT_ONCE.max(2 * added);
    if coming.keys > 0 || coming.is_probe {
        let oldest_ms = oldest_key_ms(retention, key_ms);
        transaction
            .prepare_cached(
                "DELETE FROM keys WHERE n IN (
                     SELECT n FROM (SELECT n, at_ms FROM keys ORDER BY n LIMIT ?2) WHERE at_ms < ?1)",
            )?
            .execute(params![oldest_ms, at_most(coming.keys).cast_signed()])?;
        transaction
            .prepare_cached("DELETE FROM keys WHERE n <= (SELECT max(n) FROM keys) - ?1")?
            .execute(params![MAX_KEYS])?;
    }
    let Some(kept) = retention.orders.filter(|_| coming.orders > 0 || coming.is_probe) else { return Ok(first_seq) };
    let first_kept = (coming.last_seq + 1).saturating_sub(kept).min(first_seq + at_most(coming.orders));
    if first_kept <= first_seq {
        return Ok(first_seq);
    }
    let mut delete = transaction.prepare_cached("DELETE FROM orders WHERE seq < ?1")?;
    delete.execute(params![first_kept.cast_signed()])?;
    Ok(first_kept)
}

/// Keys from before this moment of their clock are no longer known.
pub(super) fn oldest_key_ms(retention: &Retention, now_ms: u64) -> i64 {
    now_ms.saturating_sub(retention.keys.as_millis() as u64).cast_signed()
}

/// Lets the data file grow to so many bytes and no more. A file that is larger already stays as it is.
pub(super) fn limit_size(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = (bytes / page_bytes.cast_unsigned().max(1)).clamp(1, u64::from(u32::MAX) - 1);
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}
