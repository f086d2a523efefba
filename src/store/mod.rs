//! What makes the tally durable. Owns the trait that every store fulfils and the errors it may give; knows orders and
//! the catalogue, not who asks for them. [`sqlite`] is the store that ships.

pub mod files;
pub mod order_log;
pub mod retention;
pub mod schema;
pub mod seed;
pub mod sqlite;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::tally::catalog::{Catalog, Category, Product, ProductIndex};
use crate::tally::order::{Amount, Key, Total};
use crate::tally::position::RunList;

/// One change to the tally. A batch of changes is committed whole or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new, empty category; its place follows the last one.
    Category(Category),
    /// A new product with the total that it starts from; its place follows the last one.
    Product(Product, Total),
    /// One order, or a new product's first line: the log's next one, and the product's total after it.
    Order {
        /// The sequence number in the log, one more than the last.
        seq: u64,
        /// When it was taken, in milliseconds since 1970 (UTC).
        at_ms: u64,
        /// What was ordered.
        product: ProductIndex,
        /// How many.
        amount: Amount,
        /// The product's total with this order in it.
        total: Total,
        /// What the client calls it.
        key: Option<Key>,
    },
    /// The key of several orders that came as one.
    BatchKey {
        /// What the client calls them.
        key: Key,
        /// What tells them from others under the same key.
        digest: i64,
    },
}

impl Change {
    /// The line of a new product in the log: an order of what it starts from.
    #[must_use]
    pub fn first_line(product: ProductIndex, total: Total, seq: u64, at_ms: u64) -> Self {
        Self::Order { seq, at_ms, product, amount: total.as_amount(), total, key: None }
    }
}

/// What a key was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// One order.
    Order(ProductIndex, Amount),
    /// Several orders as one, with this digest.
    Batch(i64),
}

/// Everything that a store holds when it is opened, but for the log.
#[derive(Debug, Default)]
pub struct Stored {
    /// All categories and products.
    pub catalog: Catalog,
    /// The total of each product, by [`ProductIndex`].
    pub totals: Vec<Total>,
    /// The sequence number of the last order, 0 before the first.
    pub last_seq: u64,
    /// Which positions are of this file; its last run is the present one once a store has been opened.
    pub runs: RunList,
}

/// Keeps what the ledger commits.
pub trait Store: Send {
    /// Writes all of `changes` and syncs them to the disk. On an error nothing of them is kept, neither now nor after a
    /// crash, unless it is [`StoreError::Unknown`]. Without changes it writes and syncs something that does not matter, to
    /// find out whether it could.
    ///
    /// # Errors
    /// [`StoreError`] says whether the operator has to make room or to repair something.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// What the key was used for, unless that is too long ago.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when that cannot be read.
    fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError>;
}

/// Why a store could not be opened or did not commit.
#[derive(Debug)]
pub enum StoreError {
    /// No space is left, on the disk or below the cap: make room, then the next commit succeeds by itself.
    Full(String),
    /// The disk or the file refused: the next commit tries again.
    Refused(String),
    /// The disk failed when the changes were written already, and again when they were to be taken back. They do not count
    /// now, nor once another commit has succeeded; but if the server or the machine stops before, they may.
    Unknown(String),
    /// The folder belongs to another server that runs: stop that one, or name another folder.
    InUse(String),
    /// The file cannot be used as it is: the text says what to do.
    Unusable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why) => write!(f, "no space left for the data: {why}"),
            Self::Refused(why) | Self::Unknown(why) => write!(f, "the data could not be written: {why}"),
            Self::InUse(why) | Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

/// Milliseconds since 1970 (UTC); 0 on a clock set before that.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
