//! How changes become rows.

use rusqlite::{Transaction, params};

use crate::store::Change;
use crate::tally::catalog::Details;
use crate::tally::order::{Key, Total};

/// Writes changes whose keys are used at `key_ms` of the keys' clock. Without changes it writes a probe.
pub fn write_changes(transaction: &Transaction<'_>, changes: &[Change], key_ms: u64) -> rusqlite::Result<()> {
    if changes.is_empty() {
        // A text of two pages, replaced at once: a file at its cap would accept a write that needs no new page.
        transaction.execute_batch(
            "UPDATE meta SET value = hex(zeroblob(4096)) WHERE key = 'probe';
             UPDATE meta SET value = lower(hex(randomblob(4))) WHERE key = 'probe';",
        )?;
    }
    // Only the last total of each product is written: its orders in one batch share one row update.
    let mut last_totals: Vec<(u32, Total)> = Vec::new();
    let keep_key = |key: &Key, product: u32, amount: i64| {
        let sql = "INSERT OR REPLACE INTO keys (key, at_ms, product, amount) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = transaction.prepare_cached(sql)?;
        insert.execute(params![key.as_str(), key_ms.cast_signed(), product, amount])
    };
    for change in changes {
        match change {
            Change::Category(category) => {
                transaction
                    .prepare_cached("INSERT INTO categories (name, prefix) VALUES (?1, ?2)")?
                    .execute(params![category.name, category.prefix])?;
            }
            Change::Product(product, total) => {
                let Details { name, rrp, info } = &product.details;
                transaction
                    .prepare_cached(
                        "INSERT INTO products (id, category, name, rrp, info, total) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![product.id, product.category.0 + 1, name, rrp, info, total.get()])?;
            }
            Change::Order { seq, at_ms, product, amount, total, key } => {
                transaction.prepare_cached("INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                    seq.cast_signed(),
                    at_ms.cast_signed(),
                    product.0 + 1,
                    amount.get(),
                    total.get(),
                    key.as_ref().map(Key::as_str)
                ])?;
                match last_totals.iter_mut().find(|(index, _)| *index == product.0) {
                    Some((_, last)) => *last = *total,
                    None => last_totals.push((product.0, *total)),
                }
                if let Some(key) = key {
                    keep_key(key, product.0 + 1, amount.get())?;
                }
            }
            Change::BatchKey { key, digest } => {
                keep_key(key, 0, *digest)?;
            }
        }
    }
    let mut update_total = transaction.prepare_cached("UPDATE products SET total = ?2 WHERE row = ?1")?;
    for (product, total) in last_totals {
        update_total.execute(params![product + 1, total.get()])?;
    }
    Ok(())
}

/// Undoes changes that [`write_changes`] has made, and after which nothing else was changed.
pub fn take_back(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    let forget_key = |key: &Key| transaction.prepare_cached("DELETE FROM keys WHERE key = ?1")?.execute([key.as_str()]);
    for change in changes.iter().rev() {
        match change {
            Change::Category(category) => {
                transaction.prepare_cached("DELETE FROM categories WHERE name = ?1")?.execute([&category.name])?;
            }
            Change::Product(product, _) => {
                transaction.prepare_cached("DELETE FROM products WHERE id = ?1")?.execute([&product.id])?;
            }
            Change::Order { seq, product, amount, key, .. } => {
                transaction.prepare_cached("DELETE FROM orders WHERE seq = ?1")?.execute([seq.cast_signed()])?;
                transaction
                    .prepare_cached("UPDATE products SET total = total - ?2 WHERE row = ?1")?
                    .execute(params![product.0 + 1, amount.get()])?;
                if let Some(key) = key {
                    forget_key(key)?;
                }
            }
            Change::BatchKey { key, .. } => {
                forget_key(key)?;
            }
        }
    }
    Ok(())
}
