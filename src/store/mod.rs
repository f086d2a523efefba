//! Durability: the trait of every store, the changes that it commits, and what it holds when it is opened. Knows orders
//! and the catalogue, not the threads that use them. [`sqlite`] is the store that ships.

pub(crate) mod access;
mod error;
mod figures;
pub(crate) mod files;
pub(crate) mod open;
mod open_files;
pub mod order_log;
mod paths;
pub mod periods;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod retention;
pub(crate) mod schema;
pub mod seed;
pub mod sqlite;
#[cfg(feature = "postgres")]
pub mod transfer;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::tally::catalog::{Catalog, Category, CategoryIndex, Product, ProductIndex};
use crate::tally::order::{Amount, Key, Total};
use crate::tally::period::Period;
use crate::tally::position::RunList;

pub use error::{Reason, StoreError};
pub use figures::Figures;

/// What is left to do after a step of putting the data in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Done,
    /// The next step, at once unless orders come.
    Unfinished,
    /// The next step, after a while: something holds it up, or it is done little by little.
    Later,
}

/// One change to the tally. A batch of changes is committed whole or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new category without products, after the last one.
    Category(Category),
    /// A new product with its starting total, after the last one.
    Product(Product, Total),
    /// A product with other texts, or hidden or shown.
    ChangedProduct {
        /// The product.
        product: ProductIndex,
        /// The product before the change.
        before: Box<Product>,
        /// The product after it.
        after: Box<Product>,
    },
    /// Another title of a category.
    Title {
        /// The category.
        category: CategoryIndex,
        /// The title before the change.
        before: String,
        /// The title after it.
        after: String,
    },
    /// The next line of the history of products and categories.
    History {
        /// The time of the change, in milliseconds since 1970 (UTC).
        at_ms: u64,
        /// What was changed, as one JSON object.
        line: String,
    },
    /// The next entry of the order log for a new product: its starting total, which is no order.
    FirstLine {
        /// The sequence number, one more than the last.
        seq: u64,
        /// The time of the entry, in milliseconds since 1970 (UTC).
        at_ms: u64,
        /// The new product.
        product: ProductIndex,
        /// Its starting total.
        total: Total,
    },
    /// The next entry of the order log: an order, and the product's total after it.
    Order {
        /// The sequence number, one more than the last.
        seq: u64,
        /// The time of the order, in milliseconds since 1970 (UTC).
        at_ms: u64,
        /// The product that was ordered.
        product: ProductIndex,
        /// The amount, in pieces.
        amount: Amount,
        /// The product's total, this order included.
        total: Total,
        /// The client's key.
        key: Option<Key>,
    },
    /// The current period is closed, its report is stored, and this one follows it. In a commit of its own.
    Period(Period),
    /// The key of several orders in one request.
    BatchKey {
        /// The client's key.
        key: Key,
        /// The digest of the orders: other orders under the same key differ in it.
        digest: i64,
    },
}

/// The use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// One order.
    Order(ProductIndex, Amount),
    /// Several orders in one request, with this digest.
    Batch(i64),
}

/// The content of a store when it is opened, without the order log.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// All categories and products.
    pub catalog: Catalog,
    /// The total of each product, by [`ProductIndex`].
    pub totals: Vec<Total>,
    /// The total of each product when the current period was opened; of one that was added later, its starting total.
    pub openings: Vec<Total>,
    /// The time of each product's last order, in milliseconds since 1970 (UTC).
    pub ordered_ms: Vec<Option<u64>>,
    /// The current period.
    pub period: Period,
    /// The sequence number of the last order, 0 before the first.
    pub last_seq: u64,
    /// How many of the sequence numbers are those of first lines of products, which are no orders.
    pub first_lines: u64,
    /// The sequence number of the last order before a product was last shown again.
    pub shown_after: Option<u64>,
    /// The runs whose positions are valid for this file; once a store has been opened, the last one is the present run.
    pub runs: RunList,
}

impl Stored {
    /// The number of orders that were ever counted.
    #[must_use]
    pub fn orders(&self) -> u64 {
        self.last_seq.saturating_sub(self.first_lines)
    }
}

/// Makes changes durable.
pub trait Store: Send {
    /// Writes all of `changes` and syncs them to the disk. On an error none of them is kept, neither now nor after a
    /// crash, unless it is [`StoreError::Unknown`]. Without changes it writes and syncs a probe, to find out whether a
    /// commit would succeed.
    ///
    /// # Errors
    /// [`StoreError`] says whether the operator has to make room or to repair something.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// The use of a key within the retention time.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when it cannot be read.
    fn find_key(&mut self, key: &Key) -> Result<Option<KeyUse>, StoreError>;

    /// How long the last step of the last commit took, which ends with the sync; `None` when it is not known.
    fn sync_time(&self) -> Option<Duration> {
        None
    }

    /// How much it holds.
    fn measure(&mut self) -> Figures {
        Figures::default()
    }

    /// Whether what was committed is still where the next start will look for it.
    ///
    /// # Errors
    /// [`StoreError::Displaced`] says what happened to it.
    fn inspect(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Puts the data in order while no orders come, for some milliseconds. May fail without consequences.
    fn rest(&mut self) -> Rest {
        Rest::Done
    }

    /// Ends in order. Nothing is called after it.
    fn close(&mut self) {}

    /// Whether the next commit may store one more new key beside `pending` others.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the number of keys cannot be read.
    fn has_room_for_key(&mut self, pending: usize) -> Result<bool, StoreError>;
}

/// Milliseconds since 1970 (UTC); 0 on a clock set before that.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
