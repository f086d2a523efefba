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

/// The digest of a batch, with which a repeat under the same key is recognized: FNV-1a over products, amounts and keys.
/// It is stored on disk, so it must stay the same in every version; the standard library's hashers do not promise that.
pub(super) fn digest(orders: &[Order]) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = OFFSET;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for Order { product, amount, key } in orders {
        take(&product.0.to_le_bytes());
        take(&amount.get().to_le_bytes());
        // No key holds a line feed.
        take(key.as_ref().map_or("", Key::as_str).as_bytes());
        take(b"\n");
    }
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::catalog::ProductIndex;
    use crate::tally::order::Amount;

    /// FNV-1a, computed by another program. A file keeps digests, so they are the same for ever.
    #[test]
    fn the_digest_of_a_batch_depends_on_every_product_amount_and_key_and_never_changes() {
        let order = |product, amount, key| Order {
            product: ProductIndex(product),
            amount: Amount::new(amount).unwrap(),
            key: Key::new(key),
        };
        assert_eq!(digest(&[order(0, 1, ""), order(258, -2, "k")]), 5_412_283_417_534_817_387);
    }
}
