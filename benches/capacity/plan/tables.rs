//! The tables of docs/scaling.md.

use super::measured::{ALL, CHECKS};
use super::{Feed, LOAD, MAX_CONNECTIONS, back_in, busy, orders_a_commit};

const MILLION: f64 = 1e6;
const SUBSCRIBERS: [f64; 4] = [1e4, 1e5, 1e6, 1e7];
const FEEDS: [Feed; 6] = [
    Feed { orders: 10.0, every: None },
    Feed { orders: 200.0, every: None },
    Feed { orders: 200.0, every: Some(1_000.0) },
    Feed { orders: 2_000.0, every: None },
    Feed { orders: 2_000.0, every: Some(100.0) },
    Feed { orders: 2_000.0, every: Some(1_000.0) },
];
/// Orders a second of all categories together.
const ORDERS: [f64; 5] = [10.0, 200.0, 1_000.0, 2_000.0, 10_000.0];

/// Every table, as Markdown.
pub fn all() -> Vec<String> {
    vec![inputs(), checks(), a_million(), edges(), database()]
}

/// What was measured.
fn inputs() -> String {
    let row = |input: &super::measured::Measured| {
        format!("| {} | {} {} | {} |\n", input.what, number(input.value), input.unit, input.row)
    };
    "| measured | | from |\n|---|---:|---|\n".to_owned() + &ALL.iter().map(row).collect::<String>()
}

/// What the model says of rows that it does not use.
fn checks() -> String {
    let row = |(subscribers, feed, measured): &(f64, Feed, f64)| {
        let computed = feed.edge_cores(*subscribers) * 100.0;
        let columns = [number(computed), number(*measured), format!("{:.2}", computed / measured)];
        format!("| {}, {} | {} % | {} % | {} |\n", number(*subscribers), name(*feed), columns[0], columns[1], columns[2])
    };
    "| subscribers, orders/s | CPU of the edge, computed | measured | ratio |\n|---|---:|---:|---:|\n".to_owned()
        + &CHECKS.iter().map(row).collect::<String>()
}

/// What a million subscribers need.
fn a_million() -> String {
    let row = |feed: &Feed| {
        let layout = feed.layout(MILLION);
        let bound = if feed.per_edge() < MAX_CONNECTIONS { "CPU" } else { "connections" };
        format!(
            "| {} | {} | {}, {bound} | {} | {} | {} | {} | {} ms | {} s |\n",
            name(*feed),
            number(feed.messages()),
            number(feed.per_edge()),
            number(layout.levels.iter().sum()),
            number(layout.cores),
            number(layout.gib),
            number(layout.gigabits),
            number(feed.round_ms()),
            number(back_in(feed.per_edge())),
        )
    };
    "| orders/s, feed | messages/s each | subscribers an edge, bound by | edges | cores | GiB | Gbit/s | a round | back in \
     |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned()
        + &FEEDS.iter().map(row).collect::<String>()
}

/// How the edges grow with the subscribers.
fn edges() -> String {
    let head = SUBSCRIBERS.map(|subscribers| format!(" {} |", number(subscribers))).concat();
    let row = |feed: &Feed| {
        let cell = |subscribers: f64| {
            let levels = feed.layout(subscribers).levels.into_iter().rev().map(number).collect::<Vec<_>>();
            format!(" {} |", levels.join(" → "))
        };
        format!("| {} |{}\n", name(*feed), SUBSCRIBERS.map(cell).concat())
    };
    format!("| orders/s, feed |{head}\n|---|---:|---:|---:|---:|\n") + &FEEDS.iter().map(row).collect::<String>()
}

/// How busy the database is.
fn database() -> String {
    let row = |orders: &f64| {
        let needed = orders_a_commit(*orders).map_or("past its limit".into(), number);
        format!("| {} | {:.0} % | {needed} |\n", number(*orders), busy(*orders) * 100.0)
    };
    format!(
        "| orders/s of all categories | busy, an order a commit | orders a commit at {:.0} % |\n|---|---:|---:|\n",
        LOAD * 100.0
    ) + &ORDERS.iter().map(row).collect::<String>()
}

fn name(feed: Feed) -> String {
    let every = feed.every.map_or("plain".into(), |every| format!("`every={every}`"));
    format!("{}, {every}", number(feed.orders))
}

/// Three digits, with commas between thousands.
fn number(value: f64) -> String {
    let digits = match value {
        _ if value >= 100.0 || value.fract() == 0.0 => 0,
        _ if value >= 10.0 => 1,
        _ => 2,
    };
    let unit = 10_f64.powf((value.max(1.0).log10().floor() - 2.0).max(0.0));
    let rounded = if digits == 0 { (value / unit).round() * unit } else { value };
    let text = format!("{rounded:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_commas() {
        let texts = [0.054, 2.0, 2.345, 23.45, 234.5, 1_234.0, 12_345.0, 10_000_000.0].map(number);
        assert_eq!(texts, ["0.05", "2", "2.35", "23.4", "234", "1,230", "12,300", "10,000,000"]);
    }
}
