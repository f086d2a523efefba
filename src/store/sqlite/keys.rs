//! The keys of a data file: where they are stored, how one is found, and which are deleted. A key is in the row of its
//! order, in the transaction of the order.
//!
//! The table `keys` has them in the order of their use, so that it grows at its end only, and what a key costs does not
//! depend on the number of keys. Even that would be a page of its own in each commit. So the keys of the last orders are
//! moved there many at a time: until then they are in the log alone, and in memory. The key of a batch, which no order
//! has, is written to the table at once, behind those of all orders before it.

use std::collections::VecDeque;
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::key_index::KeyIndex;
use crate::store::retention::{MOST_KEYS, MonotonicClock, Retention, at_most, expired_keys, oldest_key_ms};
use crate::store::{Change, KeyUse};
use crate::tally::catalog::ProductIndex;
use crate::tally::order::{Amount, Key};

/// Keys that are moved at a time: a dozen pages of them, so that a key costs no more than its own bytes.
const MOVED_KEYS: usize = 1_024;
/// Keys from before the start that are read at a time: 16,384, some milliseconds.
const READ_KEYS: u64 = 16 * 1_024;

/// The keys of an open data file. Every key has a number, in the order of their use.
pub struct Keys {
    /// The number of the first row of the table, or `next` if it is empty.
    first: i64,
    /// The number of the next row, which is that of the first of the recent keys.
    next: i64,
    /// The rows of the table.
    rows: u64,
    /// Keys of orders that have no row in the table yet.
    recent: VecDeque<Recent>,
    index: KeyIndex,
    /// The numbers of the rows of the table that are not in the index yet, because they are from before the start.
    unread: Range<i64>,
}

/// The key of an order that is in the row of the order alone.
struct Recent {
    key: Key,
    /// On the keys' clock, in milliseconds since 1970 (UTC).
    at_ms: i64,
    used: KeyUse,
}

/// What a commit writes beside its changes.
pub struct Step {
    /// Rows of the table that it deletes.
    deleted: u64,
    /// The number of the first row that is left.
    first: Option<i64>,
    /// Whether it moves the recent keys into the table.
    pub moves: bool,
}

impl Step {
    /// That of a commit that has deleted `expired` rows: their last number, and how many they are.
    pub fn new(expired: Option<(i64, u64)>, moves: bool) -> Self {
        let (first, deleted) = expired.map_or((None, 0), |(last, count)| (Some(last + 1), count));
        Self { deleted, first, moves }
    }
}

impl Keys {
    /// Reads where the keys are, and those that are in the log alone: behind the order with the number `moved_seq`.
    pub fn open(connection: &Connection, moved_seq: u64) -> rusqlite::Result<Self> {
        let (first, last): (Option<i64>, Option<i64>) =
            connection.query_row("SELECT (SELECT min(n) FROM keys), (SELECT max(n) FROM keys)", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        // What keys cannot reach, and the index cannot tell apart: another program has written the rows.
        let is_possible = |first: i64, last: i64| first >= 0 && last < i64::MAX / 2 && last - first < u32::MAX.into();
        if let (Some(first), Some(last)) = (first, last)
            && !is_possible(first, last)
        {
            return Err(rusqlite::Error::IntegralValueOutOfRange(0, last));
        }
        let next = last.map_or(1, |last| last + 1);
        let first = first.unwrap_or(next);
        let mut statement = connection.prepare(
            "SELECT key, key_ms, product, amount FROM orders
             WHERE seq > ?1 AND key IS NOT NULL AND key_ms IS NOT NULL ORDER BY seq",
        )?;
        let mut rows = statement.query([moved_seq.cast_signed()])?;
        let mut recent = VecDeque::new();
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            if let (Some(key), Some(used)) = (Key::new(&key), key_use(row.get(2)?, row.get(3)?)) {
                recent.push_back(Recent { key, at_ms: row.get(1)?, used });
            }
        }
        // Rows are deleted from the first one on, so that their numbers have hardly a gap; `read_some` counts them.
        let rows = (next - first).cast_unsigned();
        let mut index = KeyIndex::new();
        let live = first..next + recent.len() as i64;
        for (recent, number) in recent.iter().zip(next..) {
            index.insert(recent.key.as_str(), number, &live);
        }
        Ok(Self { first, next, rows, recent, index, unread: first..next })
    }

    /// The time of the last key that is in the log alone, in milliseconds since 1970 (UTC); 0 if there is none.
    pub fn last_recent_ms(&self) -> u64 {
        self.recent.back().map_or(0, |recent| recent.at_ms.max(0).cast_unsigned())
    }

    /// The number of keys, with those that have expired and have not been deleted yet.
    pub fn count(&self) -> u64 {
        self.rows + self.recent.len() as u64
    }

    /// The number of the next row, as the table is now.
    pub fn next_row(&self) -> i64 {
        self.next
    }

    /// The keys that are in the log alone.
    #[cfg(test)]
    pub fn recent(&self) -> impl Iterator<Item = &Key> {
        self.recent.iter().map(|recent| &recent.key)
    }

    /// The numbers in use.
    fn live(&self) -> Range<i64> {
        self.first..self.next + self.recent.len() as i64
    }

    /// The use of a key that has not expired before `oldest_ms`, which reads a clock.
    pub fn find(
        &mut self,
        connection: &Connection,
        key: &Key,
        oldest_ms: impl Fn() -> i64,
    ) -> rusqlite::Result<Option<KeyUse>> {
        while !self.read_some(connection)? {}
        let live = self.live();
        for number in self.index.find(key, &live) {
            let oldest_ms = oldest_ms();
            if let Ok(place) = usize::try_from(number - self.next) {
                let recent = &self.recent[place];
                if recent.key == *key && recent.at_ms >= oldest_ms {
                    return Ok(Some(recent.used));
                }
                continue;
            }
            let sql = "SELECT product, amount FROM keys WHERE n = ?1 AND key = ?2 AND at_ms >= ?3";
            let found: Option<(u32, i64)> = connection
                .prepare_cached(sql)?
                .query_row(params![number, key.as_str(), oldest_ms], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if let Some((product, amount)) = found {
                return Ok(key_use(product, amount));
            }
        }
        Ok(None)
    }

    /// Reads the next keys from before the start into the index. Returns whether all have been read.
    pub fn read_some(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        // Those before it have been deleted since.
        self.unread.start = self.unread.start.max(self.first);
        if self.unread.is_empty() {
            return Ok(true);
        }
        let live = self.live();
        let mut statement = connection
            .prepare(&format!("SELECT n, key FROM keys WHERE n >= ?1 AND n < ?2 ORDER BY n LIMIT {READ_KEYS}"))?;
        let mut rows = statement.query([self.unread.start, self.unread.end])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            self.index.insert(row.get_ref(1)?.as_str()?, number, &live);
            // At once, so that none is added again after an error.
            self.note_gap(number);
            self.unread.start = number + 1;
            read += 1;
        }
        if read < READ_KEYS {
            self.note_gap(self.unread.end);
            self.unread.start = self.unread.end;
        }
        Ok(self.unread.is_empty())
    }

    /// Notes that the table has no rows with numbers from the first unread one to the one before this.
    fn note_gap(&mut self, before: i64) {
        self.rows = self.rows.saturating_sub((before - self.unread.start).cast_unsigned());
    }

    /// Whether one more key may be stored by a commit that stores `pending` keys already. Keys that this commit will
    /// delete do not count.
    pub fn has_room(
        &self,
        connection: &Connection,
        retention: &Retention,
        clock: &MonotonicClock,
        pending: u64,
    ) -> rusqlite::Result<bool> {
        let max = retention.max_keys.unwrap_or(MOST_KEYS);
        let kept = self.count() + pending;
        // Expired keys are only counted near the cap, because that reads each of them.
        if kept < max {
            return Ok(true);
        }
        let oldest_ms = oldest_key_ms(retention, clock.now_ms());
        let rows = expired_keys(connection, oldest_ms, at_most(pending + 1))?.map_or(0, |(_, count)| count);
        let recent = self.recent.iter().take_while(|recent| recent.at_ms < oldest_ms).count() as u64;
        Ok(kept.saturating_sub(rows + recent) < max)
    }

    /// Whether there are so many recent keys that the next commit has to move them.
    pub fn must_move(&self) -> bool {
        self.recent.len() >= MOVED_KEYS
    }

    /// Moves the recent keys into the table.
    pub fn move_recent(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let keys = self.recent.iter().map(|Recent { key, at_ms, used }| (key, *at_ms, *used));
        insert(transaction, self.next, keys)
    }

    /// Writes the keys of batches among these changes, used at `key_ms` of the keys' clock; the recent ones have been
    /// moved.
    pub fn write_batch_keys(
        &self,
        transaction: &Transaction<'_>,
        changes: &[Change],
        key_ms: u64,
    ) -> rusqlite::Result<()> {
        let keys = batch_keys(changes).map(|(key, digest)| (key, key_ms.cast_signed(), KeyUse::Batch(digest)));
        insert(transaction, self.next + self.recent.len() as i64, keys)
    }

    /// Records what a transaction that was committed has done beside its changes.
    pub fn apply(&mut self, step: &Step) {
        self.first = step.first.unwrap_or(self.first);
        // Gaps between rows that were deleted before they were read are none any more.
        self.rows = self.rows.saturating_sub(step.deleted).min((self.next - self.first).max(0).cast_unsigned());
        if step.moves {
            self.next += self.recent.len() as i64;
            self.rows += self.recent.len() as u64;
            self.recent.clear();
        }
    }

    /// Adds the keys of changes that were committed, used at `key_ms` of the keys' clock, and forgets recent ones that
    /// have expired before `oldest_ms`.
    pub fn add(&mut self, changes: &[Change], key_ms: u64, oldest_ms: i64) {
        while self.recent.front().is_some_and(|recent| recent.at_ms < oldest_ms) {
            self.recent.pop_front();
            self.next += 1;
        }
        if self.rows == 0 {
            self.first = self.next;
        }
        for (key, _) in batch_keys(changes) {
            self.next += 1;
            self.rows += 1;
            self.add_to_index(key, self.next - 1);
        }
        let at_ms = key_ms.cast_signed();
        for change in changes {
            if let Change::Order { key: Some(key), product, amount, .. } = change {
                self.recent.push_back(Recent { key: key.clone(), at_ms, used: KeyUse::Order(*product, *amount) });
                self.add_to_index(key, self.next + self.recent.len() as i64 - 1);
            }
        }
    }

    fn add_to_index(&mut self, key: &Key, number: i64) {
        let live = self.live();
        self.index.insert(key.as_str(), number, &live);
    }
}

fn batch_keys(changes: &[Change]) -> impl Iterator<Item = (&Key, i64)> {
    changes.iter().filter_map(|change| match change {
        Change::BatchKey { key, digest } => Some((key, *digest)),
        _ => None,
    })
}

/// Writes keys with the times and kinds of their use, numbered from `first` on.
fn insert<'a>(
    transaction: &Transaction<'_>,
    first: i64,
    keys: impl Iterator<Item = (&'a Key, i64, KeyUse)>,
) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO keys (n, key, at_ms, product, amount) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for ((key, at_ms, used), number) in keys.zip(first..) {
        let (product, amount) = match used {
            KeyUse::Order(product, amount) => (product.0 + 1, amount.get()),
            KeyUse::Batch(digest) => (0, digest),
        };
        insert.execute(params![number, key.as_str(), at_ms, product, amount])?;
    }
    Ok(())
}

/// The use that a row tells; `None` if its amount is out of range.
fn key_use(product: u32, amount: i64) -> Option<KeyUse> {
    match product {
        0 => Some(KeyUse::Batch(amount)),
        row => Amount::new(amount).map(|amount| KeyUse::Order(ProductIndex(row - 1), amount)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn a_key_that_cannot_be_read_makes_no_table_grow_however_often_one_is_looked_for() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        let insert = "INSERT INTO keys (n, key, at_ms, product, amount) VALUES (?1, ?2, 1, 0, 0)";
        for number in 1..=50 {
            connection.execute(insert, params![number, format!("key-{number}")]).unwrap();
        }
        // Text that is no UTF-8, as another program may have written it.
        connection.execute("INSERT INTO keys SELECT 51, CAST(x'ff' AS TEXT), 1, 0, 0", []).unwrap();
        let mut keys = Keys::open(&connection, 0).unwrap();
        let key = Key::new("key-1").unwrap();
        for _ in 0..100 {
            assert!(keys.find(&connection, &key, || 0).is_err());
        }
        assert_eq!(keys.index.find(&key, &keys.live()).count(), 1);
        connection.execute("DELETE FROM keys WHERE n = 51", []).unwrap();
        assert!(keys.find(&connection, &key, || 0).unwrap().is_some());
        assert_eq!(keys.count(), 50);
    }
}
