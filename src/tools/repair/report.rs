//! The report of a repair: what was read, lost, replaced and saved.

use super::super::counted;
use super::periods::SavedPeriods;
use super::rebuild::{LastOrders, Rebuilt};
use super::salvage::Readable;

/// Lines about single losses of one kind.
const MAX_LINES: usize = 50;

/// The report of a repair that has saved `keys` keys.
pub fn report(
    readable: &Readable,
    rebuilt: &Rebuilt,
    last_orders: &LastOrders,
    keys: u64,
    periods: &SavedPeriods,
) -> String {
    let mut lines = vec![format!("read: {}", readable.summary())];
    let is_damaged = readable.damaged_pages > 0 || readable.damaged_rows > 0;
    if is_damaged {
        let pages = counted(readable.damaged_pages.into(), "page");
        let rows = counted(readable.damaged_rows, "row");
        lines.push(format!("damaged: {pages} of {}, and {rows} elsewhere", readable.pages));
    }
    let gaps = readable.orders.windows(2).map(|pair| (pair[0].1 + 1, pair[1].0 - 1));
    let moved_seq = readable.moved_seq.unwrap_or(0);
    push_limited(
        &mut lines,
        gaps.map(|(first, last)| {
            let lost = counted((last - first + 1).cast_unsigned(), "order");
            let but = if last > moved_seq { ", but for those of a product without a later one" } else { "" };
            format!("lost: {lost} from {first} to {last}; the totals include them{but}")
        }),
    );
    let is_behind = readable.orders.last().is_some_and(|(_, last)| readable.moved_seq.is_some_and(|seq| seq < *last));
    if is_damaged && is_behind {
        lines.push(
            "the server did not stop in order: the totals lack the last orders of the log if its last page is lost"
                .to_owned(),
        );
    }
    if let Some((first, _)) = readable.orders.first().filter(|(first, _)| *first > 1) {
        lines.push(format!("the log begins with order {first}: earlier ones were deleted (--keep-orders) or lost"));
    }
    push_limited(&mut lines, rebuilt.replacements.iter().cloned());
    let products = rebuilt.catalog.products().iter().zip(&rebuilt.totals).zip(1..);
    push_limited(
        &mut lines,
        products.filter_map(|((product, total), row)| {
            let seq = last_orders.get(&row).filter(|last| last.total != *total)?.seq;
            let (id, total) = (&product.id, total.get());
            Some(format!("lost: the last orders of {id}, after order {seq}; its total of {total} includes them"))
        }),
    );
    if periods.lost_lines > 0 {
        let lost = counted(periods.lost_lines, "line");
        lines.push(format!("lost: {lost} of the reports of periods, each the amount of a product"));
    }
    if periods.replaced > 0 {
        let replaced = counted(periods.replaced, "period");
        lines.push(format!("lost: when {replaced} began; each is written as begun with the one before it, or in 1970"));
    }
    let products = counted(rebuilt.totals.len() as u64, "product");
    let categories = counted(rebuilt.catalog.categories().len() as u64, "category");
    let orders = counted(readable.order_count(), "order");
    let from_log = match keys.saturating_sub(readable.keys) {
        0 => String::new(),
        number => format!(" ({number} of them from the log)"),
    };
    let (keys, periods) = (counted(keys, "key"), counted(periods.count, "period"));
    lines.push(format!("saved: {categories}, {products} with their totals, {orders}, {keys}{from_log}, {periods}"));
    if is_damaged {
        lines.push("an order that is sent again under a lost key counts again".to_owned());
    }
    lines.join("\n") + "\n"
}

fn push_limited(lines: &mut Vec<String>, mut new: impl Iterator<Item = String>) {
    lines.extend(new.by_ref().take(MAX_LINES));
    let omitted = new.count();
    if omitted > 0 {
        lines.push(format!("and {omitted} more of these"));
    }
}
