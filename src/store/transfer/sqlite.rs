//! The tables of a data file.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::{Column, Head, Piece, Read, Table, Take, Write};
use crate::store::{StoreError, now_ms, schema};

/// A data file whose schema is the present one. Its user holds a transaction.
pub struct SqliteTables<'a> {
    connection: &'a Connection,
}

impl<'a> SqliteTables<'a> {
    /// The tables of an open file.
    #[must_use]
    pub fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// Makes the tables in an empty file, and begins a transaction.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be made.
    pub fn make(connection: &'a mut Connection) -> Result<Self, StoreError> {
        let make = |connection: &mut Connection| {
            schema::migrate(connection)?;
            // The first period, which is copied.
            connection.execute_batch("BEGIN; DELETE FROM periods")
        };
        make(connection).map_err(StoreError::committing)?;
        Ok(Self { connection })
    }

    /// Ends the transaction of [`Self::make`].
    ///
    /// # Errors
    /// [`StoreError`] when what it has written is not complete.
    pub fn complete(self) -> Result<(), StoreError> {
        self.connection.execute_batch("COMMIT").map_err(StoreError::committing)
    }
}

fn select(table: Table) -> &'static str {
    match table {
        // A category without a title has its name with a capital first letter (src/tally/catalog.rs).
        Table::Categories => {
            "SELECT row, name, prefix,
                 CASE title WHEN '' THEN upper(substr(name, 1, 1)) || substr(name, 2) ELSE title END
             FROM categories ORDER BY row"
        }
        Table::Products => {
            "SELECT row, id, category, name, rrp, info, hidden = 1, opening, added_seq, total, ordered_ms
             FROM current_products ORDER BY row"
        }
        Table::Orders => "SELECT seq, at_ms, product, amount, total, key FROM orders ORDER BY seq",
        // The last use counts of a key that was used again after it had expired.
        Table::Keys => {
            "SELECT key, at_ms, product, amount FROM (
                 SELECT key, at_ms, product, amount, max(place) AS place FROM (
                     SELECT key, at_ms, product, amount, n AS place FROM keys
                     UNION ALL
                     SELECT key, key_ms, product, amount, seq + (SELECT coalesce(max(n), 0) FROM keys) FROM orders
                     WHERE seq > CAST((SELECT value FROM meta WHERE key = 'moved') AS INTEGER) AND key_ms NOT NULL)
                 GROUP BY key)
             ORDER BY place"
        }
        Table::Periods => "SELECT number, opened_ms, opened_after FROM periods ORDER BY number",
        Table::PeriodSums => "SELECT period, product, amount FROM period_sums ORDER BY n",
        Table::Changes => "SELECT n, at_ms, line FROM changes ORDER BY n",
    }
}

fn insert(table: Table) -> &'static str {
    match table {
        Table::Categories => "INSERT INTO categories (row, name, prefix, title) VALUES (?1, ?2, ?3, ?4)",
        Table::Products => {
            "INSERT INTO products (row, id, category, name, rrp, info, hidden, opening, added_seq, total, ordered_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        }
        Table::Orders => "INSERT INTO orders (seq, at_ms, product, amount, total, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        // Numbered in their order, without gaps.
        Table::Keys => "INSERT INTO keys (key, at_ms, product, amount) VALUES (?1, ?2, ?3, ?4)",
        Table::Periods => "INSERT INTO periods (number, opened_ms, opened_after) VALUES (?1, ?2, ?3)",
        Table::PeriodSums => "INSERT INTO period_sums (period, product, amount) VALUES (?1, ?2, ?3)",
        Table::Changes => "INSERT INTO changes (n, at_ms, line) VALUES (?1, ?2, ?3)",
    }
}

impl Read for SqliteTables<'_> {
    fn head(&mut self) -> Result<Head, StoreError> {
        let stored = schema::read(self.connection)?;
        let stored = stored.map_err(|broken_rule| {
            StoreError::Damaged(format!("the data file is damaged ({broken_rule}); see `ordercast check`").into())
        })?;
        let sql = format!("SELECT coalesce(max(at_ms), 0) FROM ({})", select(Table::Keys));
        let key_ms: i64 = self.connection.query_row(&sql, [], |row| row.get(0))?;
        Ok(Head {
            last_seq: stored.last_seq,
            shown_after: stored.shown_after,
            key_ms: key_ms.max(0).cast_unsigned(),
            runs: stored.runs,
        })
    }

    fn read(&mut self, table: Table, take: Take<'_>) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(select(table))?;
        let mut rows = statement.query([])?;
        let mut piece = Piece::new(table);
        while let Some(row) = rows.next()? {
            for (index, column) in piece.0.iter_mut().enumerate() {
                match column {
                    Column::Ints(values) => values.push(row.get(index)?),
                    Column::Texts(values) => values.push(row.get(index)?),
                }
            }
            if piece.rows() >= table.piece_rows() {
                take(&std::mem::replace(&mut piece, Piece::new(table)))?;
            }
        }
        if piece.rows() > 0 { take(&piece) } else { Ok(()) }
    }
}

impl Write for SqliteTables<'_> {
    fn write(&mut self, table: Table, piece: &Piece) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(insert(table)).map_err(StoreError::committing)?;
        for row in 0..piece.rows() {
            let values = piece.0.iter().map(|column| match column {
                Column::Ints(values) => values.get(row).copied().flatten().map_or(Value::Null, Value::Integer),
                Column::Texts(values) => values.get(row).cloned().flatten().map_or(Value::Null, Value::Text),
            });
            statement.execute(params_from_iter(values)).map_err(StoreError::committing)?;
        }
        Ok(())
    }

    fn write_head(&mut self, head: &Head, _keys: u64) -> Result<(), StoreError> {
        let write = || {
            schema::write_runs(self.connection, &head.runs)?;
            schema::write_moved_seq(self.connection, head.last_seq)?;
            if let Some(seq) = head.shown_after {
                schema::write_shown_after(self.connection, seq)?;
            }
            schema::write_keys_ahead(self.connection, head.key_ms.saturating_sub(now_ms()))?;
            // The file is checked before it gets its name, so the first server need not check it.
            head.runs.last_id().map_or(Ok(()), |run| schema::record_stop(self.connection, run))
        };
        write().map_err(StoreError::committing)
    }
}
