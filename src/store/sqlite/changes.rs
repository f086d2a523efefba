//! How changes become rows.

use rusqlite::{Transaction, params};

use crate::store::retention::MAX_HISTORY;
use crate::store::{Change, periods, schema};
use crate::tally::catalog::{CategoryIndex, Details, Product, ProductIndex};
use crate::tally::order::{Key, Total};

/// Writes changes whose keys are used at `key_ms` of the keys' clock, but for the keys of batches, and for the totals
/// after orders, which are in the log. Without changes it writes a probe.
pub fn write_changes(transaction: &Transaction<'_>, changes: &[Change], key_ms: u64) -> rusqlite::Result<()> {
    if changes.is_empty() {
        // A text of two pages, replaced at once: a file at its cap would accept a write that needs no new page.
        transaction.execute_batch(
            "UPDATE meta SET value = hex(zeroblob(4096)) WHERE key = 'probe';
             UPDATE meta SET value = lower(hex(randomblob(4))) WHERE key = 'probe';",
        )?;
    }
    let mut insert = transaction.prepare_cached("INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut insert_line =
        |seq: u64, at_ms: u64, product: ProductIndex, amount: i64, total: Total, key: Option<&Key>| {
            insert.execute(params![
                seq.cast_signed(),
                at_ms.cast_signed(),
                product.0 + 1,
                amount,
                total.get(),
                key.map(Key::as_str),
                key.map(|_| key_ms.cast_signed())
            ])
        };
    for change in changes {
        match change {
            Change::Category(category) => {
                transaction
                    .prepare_cached("INSERT INTO categories (name, prefix, title) VALUES (?1, ?2, ?3)")?
                    .execute(params![category.name, category.prefix, category.title])?;
            }
            Change::Product(product, total) => {
                let Details { name, rrp, info } = &product.details;
                transaction
                    .prepare_cached(
                        "INSERT INTO products (id, category, name, rrp, info, total, opening)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                    )?
                    .execute(params![product.id, product.category.0 + 1, name, rrp, info, total.get()])?;
            }
            Change::ChangedProduct { product, before, after } => {
                update_product(transaction, *product, after)?;
                if before.is_hidden && !after.is_hidden {
                    schema::record_show(transaction)?;
                }
            }
            Change::Title { category, after, .. } => update_title(transaction, *category, after)?,
            Change::History { at_ms, line } => {
                transaction
                    .prepare_cached("INSERT INTO changes (at_ms, line) VALUES (?1, ?2)")?
                    .execute(params![at_ms.cast_signed(), line])?;
                transaction
                    .prepare_cached("DELETE FROM changes WHERE n <= ?1")?
                    .execute([transaction.last_insert_rowid() - MAX_HISTORY])?;
            }
            Change::FirstLine { seq, at_ms, product, total } => {
                insert_line(*seq, *at_ms, *product, total.get(), *total, None)?;
                transaction
                    .prepare_cached("UPDATE products SET added_seq = ?2 WHERE row = ?1")?
                    .execute(params![product.0 + 1, seq.cast_signed()])?;
            }
            Change::Order { seq, at_ms, product, amount, total, key } => {
                insert_line(*seq, *at_ms, *product, amount.get(), *total, key.as_ref())?;
            }
            // Not cached: a close is rare, and would push out the statements of orders.
            Change::Period(period) => {
                let number = period.number.cast_signed();
                transaction.execute(
                    "INSERT INTO period_sums (period, product, amount)
                     SELECT ?1, row, total - opening FROM products WHERE total <> opening ORDER BY row",
                    [number - 1],
                )?;
                transaction.execute("UPDATE products SET opening = total WHERE opening <> total", [])?;
                transaction.execute(
                    "INSERT INTO periods VALUES (?1, ?2, ?3)",
                    [number, period.opened_ms.cast_signed(), period.opened_after.cast_signed()],
                )?;
            }
            Change::BatchKey { .. } => {}
        }
    }
    Ok(())
}

fn update_product(transaction: &Transaction<'_>, index: ProductIndex, product: &Product) -> rusqlite::Result<()> {
    let Details { name, rrp, info } = &product.details;
    transaction
        .prepare_cached("UPDATE products SET name = ?2, rrp = ?3, info = ?4, hidden = ?5 WHERE row = ?1")?
        .execute(params![index.0 + 1, name, rrp, info, product.is_hidden])
        .map(drop)
}

fn update_title(transaction: &Transaction<'_>, index: CategoryIndex, title: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE categories SET title = ?2 WHERE row = ?1")?
        .execute(params![index.0 + 1, title])
        .map(drop)
}

/// Undoes changes that [`write_changes`] has made, and after which nothing else was changed, with the keys of
/// batches, whose rows begin with the number `first_key`. Old rows that were deleted to make room stay deleted.
pub fn take_back(transaction: &Transaction<'_>, changes: &[Change], first_key: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM keys WHERE n >= ?1")?.execute([first_key])?;
    let delete_line =
        |seq: u64| transaction.prepare_cached("DELETE FROM orders WHERE seq = ?1")?.execute([seq.cast_signed()]);
    for change in changes.iter().rev() {
        match change {
            Change::Category(category) => {
                transaction.prepare_cached("DELETE FROM categories WHERE name = ?1")?.execute([&category.name])?;
            }
            Change::Product(product, _) => {
                transaction.prepare_cached("DELETE FROM products WHERE id = ?1")?.execute([&product.id])?;
            }
            Change::ChangedProduct { product, before, .. } => update_product(transaction, *product, before)?,
            Change::Title { category, before, .. } => update_title(transaction, *category, before)?,
            Change::History { .. } => {
                transaction.prepare_cached("DELETE FROM changes WHERE n = (SELECT max(n) FROM changes)")?.execute([])?;
            }
            Change::FirstLine { seq, product, .. } => {
                delete_line(*seq)?;
                transaction
                    .prepare_cached("UPDATE products SET added_seq = NULL WHERE row = ?1")?
                    .execute([product.0 + 1])?;
            }
            Change::Order { seq, .. } => {
                delete_line(*seq)?;
            }
            Change::Period(period) => {
                let first = periods::first_sum(transaction, period.number - 1)?;
                transaction.execute(
                    "UPDATE products SET opening = opening - sums.amount
                     FROM (SELECT product, amount FROM period_sums WHERE n >= ?1) AS sums
                     WHERE sums.product = products.row",
                    [first],
                )?;
                transaction.execute("DELETE FROM period_sums WHERE n >= ?1", [first])?;
                transaction.execute("DELETE FROM periods WHERE number = ?1", [period.number.cast_signed()])?;
            }
            Change::BatchKey { .. } => {}
        }
    }
    Ok(())
}
