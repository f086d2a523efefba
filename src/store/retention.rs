//! Retention: what a data folder keeps, and how each commit deletes older keys and orders.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, params};

use super::Change;

/// Keys that are kept at most: beyond it the oldest are deleted before their time. Some 200 MB on disk.
pub const MAX_KEYS: i64 = 1_000_000;
/// Rows that a commit may delete at least; it may delete twice as many as it adds if that is more. So a limit that has
/// been lowered is reached in the end, and no commit takes long.
const MIN_PRUNED_ROWS: u64 = 1_024;

/// What a data folder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long the key of an order is kept after its use.
    pub keys: Duration,
    /// Orders that the order log keeps; `None` for all. Totals are not touched.
    pub orders: Option<u64>,
    /// Size that the data file may grow to, in bytes; `None` for no cap.
    pub data_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keys: Duration::from_secs(24 * 60 * 60), orders: None, data_bytes: None }
    }
}

/// The clock for the age of keys: wall time when the store was opened, then monotonic. So setting the system's clock
/// while the server runs, as on a box that gets the time from the network only after start, makes no key older.
pub(super) struct MonotonicClock {
    opened_ms: u64,
    opened: Instant,
}

impl MonotonicClock {
    /// A clock that starts at this time, in milliseconds since 1970 (UTC).
    pub(super) fn new(opened_ms: u64) -> Self {
        Self { opened_ms, opened: Instant::now() }
    }

    /// Milliseconds since 1970 (UTC).
    pub(super) fn now_ms(&self) -> u64 {
        self.opened_ms + self.opened.elapsed().as_millis() as u64
    }
}

/// The rows that a batch of changes adds.
#[derive(Default)]
pub(super) struct BatchSize {
    orders: u64,
    keys: u64,
    /// The sequence number of the last order, the batch included.
    pub(super) last_seq: u64,
    /// Whether the batch is empty: it probes whether a commit would succeed.
    is_probe: bool,
}

impl BatchSize {
    /// The size of a batch that follows the order with number `last_seq`.
    pub(super) fn of(changes: &[Change], last_seq: u64) -> Self {
        let mut size = Self { last_seq, is_probe: changes.is_empty(), ..Self::default() };
        for change in changes {
            match change {
                Change::Order { seq, key, .. } => {
                    size.orders += 1;
                    size.last_seq = *seq;
                    size.keys += u64::from(key.is_some());
                }
                Change::BatchKey { .. } => size.keys += 1,
                Change::Category(_) | Change::Product(..) => {}
            }
        }
        size
    }
}

/// Deletes some of the keys and orders that need not be kept any more when the keys' clock shows `key_ms`. Returns the
/// number of the first order that is left.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    retention: &Retention,
    key_ms: u64,
    first_seq: u64,
    batch: &BatchSize,
) -> rusqlite::Result<u64> {
    let at_most = |added: u64| MIN_PRUNED_ROWS.max(2 * added);
    if batch.keys > 0 || batch.is_probe {
        let oldest_ms = oldest_key_ms(retention, key_ms);
        transaction
            .prepare_cached(
                "DELETE FROM keys WHERE n IN (
                     SELECT n FROM (SELECT n, at_ms FROM keys ORDER BY n LIMIT ?2) WHERE at_ms < ?1)",
            )?
            .execute(params![oldest_ms, at_most(batch.keys).cast_signed()])?;
        transaction
            .prepare_cached("DELETE FROM keys WHERE n <= (SELECT max(n) FROM keys) - ?1")?
            .execute(params![MAX_KEYS])?;
    }
    let Some(kept) = retention.orders.filter(|_| batch.orders > 0 || batch.is_probe) else { return Ok(first_seq) };
    let first_kept = (batch.last_seq + 1).saturating_sub(kept).min(first_seq + at_most(batch.orders));
    if first_kept <= first_seq {
        return Ok(first_seq);
    }
    let mut delete = transaction.prepare_cached("DELETE FROM orders WHERE seq < ?1")?;
    delete.execute(params![first_kept.cast_signed()])?;
    Ok(first_kept)
}

/// The time on the keys' clock before which keys are no longer known.
pub(super) fn oldest_key_ms(retention: &Retention, now_ms: u64) -> i64 {
    now_ms.saturating_sub(retention.keys.as_millis() as u64).cast_signed()
}

/// Lets the data file grow to `bytes` at most. A file that is larger already stays as it is.
pub(super) fn limit_size(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = (bytes / page_bytes.cast_unsigned().max(1)).clamp(1, u64::from(u32::MAX) - 1);
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}
