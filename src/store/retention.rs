//! Retention: what a data folder keeps, and how each commit deletes older keys and orders.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};

use super::Change;

/// Rows that a commit may delete at least; it may delete twice as many as it adds if that is more. So a limit that has
/// been lowered is reached in the end, and no commit takes long.
const MIN_PRUNED_ROWS: u64 = 1_024;

/// The lines that the history of products and categories keeps: 10,000, one for every product of a full catalogue. Each
/// change removes the oldest line beyond it.
pub(super) const MAX_HISTORY: i64 = 10_000;

/// The keys that a data folder keeps at a time, unless another number is set: 20 million, whose table in memory has 320 MB
/// at most.
pub const MOST_KEYS: u64 = 20_000_000;

/// What a data folder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long the key of an order is kept after its use.
    pub keys: Duration,
    /// Keys that are kept at a time; `None` for no cap in a database, and for [`MOST_KEYS`] in a data folder. At the cap new
    /// keys are rejected.
    pub max_keys: Option<u64>,
    /// Orders that the order log keeps; `None` for all. Totals are not touched.
    pub orders: Option<u64>,
    /// Size that the data file may grow to, in bytes; `None` for no cap.
    pub data_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keys: Duration::from_secs(24 * 60 * 60), max_keys: None, orders: None, data_bytes: None }
    }
}

/// The clock for the age of keys: wall time when the store was opened, then monotonic. So setting the system's clock
/// while the server runs, as on a box that gets the time from the network only after start, makes no key older.
///
/// It never goes back from one run to the next, so that keys are in the order of their times. When the system's clock is
/// behind the last key, as after a run under a clock that was ahead, the clock goes on from that key, and remembers how
/// far it is ahead: until the system's clock has passed the last key, the time between two runs counts by the difference.
pub(super) struct MonotonicClock {
    opened_ms: u64,
    opened: Instant,
    /// By how much it was ahead of the system's clock when the store was opened.
    pub(super) ahead_ms: u64,
}

impl MonotonicClock {
    /// A clock for a system whose clock shows `system_ms` since 1970 (UTC), after a run that was `ahead_ms` ahead of it,
    /// and whose last key is of `last_key_ms`.
    pub(super) fn new(system_ms: u64, ahead_ms: u64, last_key_ms: u64) -> Self {
        let opened_ms = match system_ms {
            _ if system_ms >= last_key_ms => system_ms,
            _ => system_ms.saturating_add(ahead_ms).max(last_key_ms),
        };
        Self { opened_ms, opened: Instant::now(), ahead_ms: opened_ms - system_ms }
    }

    /// What it showed when the store was opened.
    #[cfg(test)]
    pub(super) fn opened_ms(&self) -> u64 {
        self.opened_ms
    }

    /// Milliseconds since 1970 (UTC).
    pub(super) fn now_ms(&self) -> u64 {
        self.opened_ms.saturating_add(self.opened.elapsed().as_millis() as u64)
    }
}

/// The rows that a batch of changes adds.
#[derive(Default)]
pub(super) struct BatchSize {
    orders: u64,
    keys: u64,
    /// Those of the keys that are of several orders in one request.
    pub(super) batch_keys: u64,
    /// The sequence number of the last order, the batch included.
    pub(super) last_seq: u64,
    /// Whether it closes a period.
    pub(super) closes_period: bool,
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
                Change::FirstLine { seq, .. } => {
                    size.orders += 1;
                    size.last_seq = *seq;
                }
                Change::BatchKey { .. } => {
                    size.keys += 1;
                    size.batch_keys += 1;
                }
                Change::Period(_) => size.closes_period = true,
                Change::Category(_)
                | Change::Product(..)
                | Change::ChangedProduct { .. }
                | Change::Title { .. }
                | Change::History { .. } => {}
            }
        }
        size
    }
}

/// The number of rows that a commit may delete when it adds this many.
pub(super) fn at_most(added: u64) -> u64 {
    MIN_PRUNED_ROWS.max(2 * added)
}

/// What [`prune`] has deleted.
pub(super) struct Pruned {
    /// The number of the first order that is left.
    pub(super) first_seq: u64,
    /// The number of the last row of a key that was deleted, and how many were.
    pub(super) keys: Option<(i64, u64)>,
}

/// Deletes some of the keys and orders that need not be kept any more when the keys' clock shows `key_ms`.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    retention: &Retention,
    key_ms: u64,
    first_seq: u64,
    batch: &BatchSize,
) -> rusqlite::Result<Pruned> {
    let keys = if batch.keys > 0 || batch.is_probe {
        expired_keys(transaction, oldest_key_ms(retention, key_ms), at_most(batch.keys))?
    } else {
        None
    };
    if let Some((last, _)) = keys {
        transaction.prepare_cached("DELETE FROM keys WHERE n <= ?1")?.execute([last])?;
    }
    let Some(kept) = retention.orders.filter(|_| batch.orders > 0 || batch.is_probe) else {
        return Ok(Pruned { first_seq, keys });
    };
    let first_kept = (batch.last_seq + 1).saturating_sub(kept).min(first_seq + at_most(batch.orders));
    if first_kept <= first_seq {
        return Ok(Pruned { first_seq, keys });
    }
    let mut delete = transaction.prepare_cached("DELETE FROM orders WHERE seq < ?1")?;
    delete.execute([first_kept.cast_signed()])?;
    Ok(Pruned { first_seq: first_kept, keys })
}

/// The rows of keys that have expired before `oldest_ms`, among the first `limit`: the number of the last one, and how many
/// they are. Keys are in the order of their times, so the first one that has not expired ends the search.
pub(super) fn expired_keys(
    connection: &Connection,
    oldest_ms: i64,
    limit: u64,
) -> rusqlite::Result<Option<(i64, u64)>> {
    // Without a LIMIT: SQLite parses a statement anew for each value of a limit that is a parameter.
    let mut statement = connection.prepare_cached("SELECT n, at_ms FROM keys ORDER BY n")?;
    let mut rows = statement.query([])?;
    let (mut last, mut count) = (None, 0);
    while count < limit
        && let Some(row) = rows.next()?
        && row.get::<_, i64>(1)? < oldest_ms
    {
        count += 1;
        last = Some((row.get(0)?, count));
    }
    Ok(last)
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
