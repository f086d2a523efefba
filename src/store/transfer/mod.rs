//! Copies everything from one store into another: as rows of tables that look the same in both, in pieces, so that memory
//! does not grow with the log. Owns which tables there are, and how both sides are compared. Each store has a file that
//! reads and writes these rows.

mod postgres;
mod sqlite;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::StoreError;
use crate::tally::position::RunList;

pub use postgres::PgTables;
pub use sqlite::SqliteTables;

/// What a store keeps, in the order in which it is copied: rows refer to those of the tables before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Row, name, prefix, title.
    Categories,
    /// Row, id, category, name, price, description, whether it is hidden, opening, entry of the log that is no order, total,
    /// time of the last order.
    Products,
    /// Number, time, product, amount, total, key.
    Orders,
    /// Key, time, product, amount.
    Keys,
    /// Number, time of opening, the last entry of the log before it.
    Periods,
    /// Period, product, amount.
    PeriodSums,
    /// Number, time, line.
    Changes,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Text,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Categories, Self::Products, Self::Orders, Self::Keys, Self::Periods, Self::PeriodSums, Self::Changes];

    /// The types of its columns.
    fn kinds(self) -> &'static [Kind] {
        use Kind::{Int, Text};
        match self {
            Self::Categories => &[Int, Text, Text, Text],
            Self::Products => &[Int, Text, Int, Text, Text, Text, Int, Int, Int, Int, Int],
            Self::Orders => &[Int, Int, Int, Int, Int, Text],
            Self::Keys => &[Text, Int, Int, Int],
            Self::Periods | Self::PeriodSums => &[Int, Int, Int],
            Self::Changes => &[Int, Int, Text],
        }
    }

    /// The column that is summed: amounts, or the totals of products.
    fn summed(self) -> Option<usize> {
        match self {
            Self::Products => Some(9),
            Self::Orders => Some(3),
            Self::PeriodSums => Some(2),
            Self::Categories | Self::Keys | Self::Periods | Self::Changes => None,
        }
    }

    /// The rows that are read and written at a time: some hundred kilobytes, or a few megabytes of the longest texts.
    fn piece_rows(self) -> usize {
        match self {
            Self::Orders | Self::Keys | Self::Periods | Self::PeriodSums => 5_000,
            Self::Categories | Self::Products | Self::Changes => 100,
        }
    }

    /// What its rows are called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Categories => "categories",
            Self::Products => "products",
            Self::Orders => "entries of the log",
            Self::Keys => "keys",
            Self::Periods => "periods",
            Self::PeriodSums => "sums of periods",
            Self::Changes => "lines of the history",
        }
    }
}

/// The values of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

/// Some rows of a table, by columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece(Vec<Column>);

impl Piece {
    fn new(table: Table) -> Self {
        let column = |kind: &Kind| match kind {
            Kind::Int => Column::Ints(Vec::new()),
            Kind::Text => Column::Texts(Vec::new()),
        };
        Self(table.kinds().iter().map(column).collect())
    }

    fn rows(&self) -> usize {
        self.0.first().map_or(0, |column| match column {
            Column::Ints(values) => values.len(),
            Column::Texts(values) => values.len(),
        })
    }
}

/// What all rows of a table come to. The digest does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// The number of rows.
    pub rows: u64,
    /// The sum of the amounts, or of the totals.
    pub amounts: i128,
    digest: u64,
}

impl Sums {
    fn add(&mut self, table: Table, Piece(columns): &Piece, rows: usize) {
        for row in 0..rows {
            let mut hasher = DefaultHasher::new();
            for column in columns {
                match column {
                    Column::Ints(values) => values.get(row).hash(&mut hasher),
                    Column::Texts(values) => values.get(row).hash(&mut hasher),
                }
            }
            self.digest = self.digest.wrapping_add(hasher.finish());
        }
        self.rows += rows as u64;
        if let Some(Column::Ints(values)) = table.summed().and_then(|summed| columns.get(summed)) {
            self.amounts += values.iter().flatten().map(|amount| i128::from(*amount)).sum::<i128>();
        }
    }
}

/// What a store keeps beside its tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The number of the last entry of the log.
    pub last_seq: u64,
    /// The last entry of the log before a product was last shown again.
    pub shown_after: Option<u64>,
    /// What the keys' clock has shown last, in milliseconds since 1970 (UTC).
    pub key_ms: u64,
    /// The runs whose positions are valid.
    pub runs: RunList,
}

/// Takes the pieces of a table as they are read.
pub type Take<'a> = &'a mut dyn FnMut(&Piece) -> Result<(), StoreError>;

/// Reads a store as it is at one moment.
pub trait Read {
    /// What there is beside the tables.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn head(&mut self) -> Result<Head, StoreError>;

    /// Reads a table in pieces.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read, or the error of `take`.
    fn read(&mut self, table: Table, take: Take<'_>) -> Result<(), StoreError>;
}

/// Writes an empty store. What it writes counts only when the caller completes it.
pub trait Write: Read {
    /// Adds rows.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be written: nothing may be completed.
    fn write(&mut self, table: Table, piece: &Piece) -> Result<(), StoreError>;

    /// Writes what there is beside the tables, once these are complete. `keys` is the number of keys.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written: nothing may be completed.
    fn write_head(&mut self, head: &Head, keys: u64) -> Result<(), StoreError>;
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Copied {
    /// By table, in the order of [`Table::ALL`].
    sums: [Sums; Table::ALL.len()],
    /// The numbers of the first and the last entry of the log; `None` if it is empty.
    pub log: Option<(u64, u64)>,
}

impl Copied {
    /// What the rows of a table come to.
    #[must_use]
    pub fn of(&self, table: Table) -> Sums {
        self.sums[table as usize]
    }
}

/// Copies everything, reads what was written again, and compares it. The caller completes the copy.
///
/// # Errors
/// [`StoreError`] when something cannot be read or written, the log does not end where it should, or both sides differ.
pub fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    let head = from.head()?;
    for table in Table::ALL {
        let (mut sums, mut log) = (Sums::default(), copied.log);
        from.read(table, &mut |piece| {
            sums.add(table, piece, piece.rows());
            if table == Table::Orders
                && let Some(Column::Ints(seqs)) = piece.0.first()
                && let (Some(Some(first)), Some(Some(last))) = (seqs.first(), seqs.last())
            {
                let number = |number: i64| number.max(0).cast_unsigned();
                log = Some((log.map_or(number(*first), |(first, _)| first), number(*last)));
            }
            to.write(table, piece)
        })?;
        (copied.sums[table as usize], copied.log) = (sums, log);
    }
    let last = copied.log.map_or(0, |(_, last)| last);
    if last != head.last_seq {
        return Err(StoreError::Damaged(
            format!(
                "the log ends with entry {last}, but {} was the last one: what is copied lacks entries",
                head.last_seq
            )
            .into(),
        ));
    }
    to.write_head(&head, copied.of(Table::Keys).rows)?;
    for table in Table::ALL {
        let mut written = Sums::default();
        to.read(table, &mut |piece| {
            written.add(table, piece, piece.rows());
            Ok(())
        })?;
        let read = copied.of(table);
        if written != read {
            return Err(StoreError::Failed(
                format!(
                    "the copy differs from what was copied: it has {} {} with the sum {}, not {} with the sum {}; nothing \
                     of it is kept",
                    written.rows,
                    table.name(),
                    written.amounts,
                    read.rows,
                    read.amounts
                )
                .into(),
            ));
        }
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::schema;

    /// Some rows of each table, among them texts that are empty or not of ASCII, and enough keys for two pieces.
    fn filled() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO categories (row, name, prefix, title) VALUES (1, 'tools', 'T', ''), (2, 'toys', 'Y', 'Spiel ä');
                 INSERT INTO products (row, id, category, name, rrp, info, total, opening, hidden, ordered_ms, added_seq)
                     VALUES (1, 'T1', 1, 'Saw', '', '', 8, 3, 0, 5, NULL), (2, 'T2', 2, 'Äxe', '1', 'x', 4, 4, 1, NULL, 9);
                 INSERT INTO orders (seq, at_ms, product, amount, total, key)
                     VALUES (8, 5, 1, 5, 8, 'a'), (9, 6, 2, 4, 4, NULL);
                 INSERT INTO period_sums (period, product, amount) VALUES (1, 1, -5);
                 INSERT INTO periods VALUES (2, 6, 7);
                 INSERT INTO changes VALUES (3, 6, '{}');
                 WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5001)
                     INSERT INTO keys (key, at_ms, product, amount) SELECT 'k' || n, n, 1, 1 FROM n;
                 INSERT INTO meta VALUES ('shown_after', '8');",
            )
            .unwrap();
        schema::write_runs(&connection, &RunList::parse("a:0 b:7")).unwrap();
        connection
    }

    type Alter = fn(&mut Piece);

    /// Writes other rows than it is given.
    struct Altered<'a> {
        inner: SqliteTables<'a>,
        of: Table,
        alter: Alter,
    }

    impl Read for Altered<'_> {
        fn head(&mut self) -> Result<Head, StoreError> {
            self.inner.head()
        }

        fn read(&mut self, table: Table, take: Take<'_>) -> Result<(), StoreError> {
            self.inner.read(table, take)
        }
    }

    impl Write for Altered<'_> {
        fn write(&mut self, table: Table, piece: &Piece) -> Result<(), StoreError> {
            let mut piece = piece.clone();
            if table == self.of {
                (self.alter)(&mut piece);
            }
            self.inner.write(table, &piece)
        }

        fn write_head(&mut self, head: &Head, keys: u64) -> Result<(), StoreError> {
            self.inner.write_head(head, keys)
        }
    }

    #[test]
    fn a_copy_has_every_row_and_the_head() {
        let (source, mut connection) = (filled(), Connection::open_in_memory().unwrap());
        let mut source = SqliteTables::new(&source);
        let mut destination = SqliteTables::make(&mut connection).unwrap();
        let copied = copy(&mut source, &mut destination).unwrap();
        destination.complete().unwrap();
        let rows = Table::ALL.map(|table| copied.of(table).rows);
        assert_eq!((rows, copied.log), ([2, 2, 2, 5001, 2, 1, 1], Some((8, 9))));
        let amounts = [Table::Products, Table::Orders, Table::PeriodSums].map(|table| copied.of(table).amounts);
        assert_eq!(amounts, [12, 9, -5]);
        let mut copy = SqliteTables::new(&connection);
        assert_eq!(copy.head().unwrap(), source.head().unwrap());
        let stored = schema::read(&connection).unwrap().unwrap();
        assert_eq!(stored.catalog.categories()[0].title, "Tools");
        assert!(stored.catalog.products()[1].is_hidden);
    }

    #[test]
    fn a_copy_that_differs_is_an_error() {
        let cases: [(Table, Alter); 4] = [
            (Table::Orders, |piece| add_one(piece, 1)),
            (Table::Products, |piece| add_one(piece, 9)),
            (Table::Keys, |piece| add_one(piece, 3)),
            (Table::Changes, |piece| *piece = Piece::new(Table::Changes)),
        ];
        for (of, alter) in cases {
            let (source, mut connection) = (filled(), Connection::open_in_memory().unwrap());
            let inner = SqliteTables::make(&mut connection).unwrap();
            let error = copy(&mut SqliteTables::new(&source), &mut Altered { inner, of, alter }).unwrap_err();
            assert!(error.to_string().contains(&format!(" {} with the sum", of.name())), "{error}");
        }
    }

    fn add_one(Piece(columns): &mut Piece, column: usize) {
        if let Column::Ints(values) = &mut columns[column] {
            values[0] = values[0].map(|value| value + 1);
        }
    }
}
