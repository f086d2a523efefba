//! What is asked of the ledger.

use crate::tally::catalog::ProductIndex;
use crate::tally::order::{Amount, Key};

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The product.
    pub product: ProductIndex,
    /// The amount.
    pub amount: Amount,
    /// The idempotency key: a second order with it is not counted.
    pub key: Option<Key>,
}

/// Orders that are counted together or not at all.
#[derive(Debug)]
pub enum Request {
    /// One order.
    Order(Order),
    /// Several orders.
    Batch {
        /// The orders.
        orders: Vec<Order>,
        /// The idempotency key of all of them together.
        key: Option<Key>,
    },
}
