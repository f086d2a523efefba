//! The tables of docs/scaling.md.

use super::measured::{ALL, CHECKS, Measured};
use super::{Feed, LOAD, Layout, back_in, busy, orders_a_commit};

const MILLION: f64 = 1e6;
const SUBSCRIBERS: [f64; 4] = [1e4, 1e5, 1e6, 1e7];
/// Rounds of 5 and of 50 ms at most, in seconds.
const SHORT: f64 = 0.005;
const LONG: f64 = 0.05;
const DESIGNS: [(Feed, f64); 8] = [
    (Feed { orders: 10.0, every: None }, SHORT),
    (Feed { orders: 10.0, every: None }, LONG),
    (Feed { orders: 200.0, every: None }, SHORT),
    (Feed { orders: 200.0, every: None }, LONG),
    (Feed { orders: 2_000.0, every: None }, SHORT),
    (Feed { orders: 2_000.0, every: None }, LONG),
    (Feed { orders: 2_000.0, every: Some(100.0) }, LONG),
    (Feed { orders: 2_000.0, every: Some(1_000.0) }, LONG),
];
/// Orders a second of all categories together.
const ORDERS: [f64; 5] = [10.0, 200.0, 1_000.0, 2_000.0, 10_000.0];

/// Every table, as Markdown.
pub fn all() -> Vec<String> {
    vec![inputs(), checks(), a_million(), edges(), database()]
}

/// What was measured.
fn inputs() -> String {
    let row =
        |input: &Measured| format!("| {} | {} {} | {} |\n", input.what, number(input.value), input.unit, input.row);
    "| measured | | from |\n|---|---:|---|\n".to_owned() + &ALL.iter().map(row).collect::<String>()
}

/// What the model says of rows that it does not use.
fn checks() -> String {
    let row = |(subscribers, feed, measured): &(f64, Feed, f64)| {
        let edge = feed.edge(*subscribers);
        let computed = (edge.fanout + edge.follow) * 100.0;
        let columns = [number(computed), number(*measured), format!("{:.2}", computed / measured)];
        format!(
            "| {}, {} | {} % | {} % | {} |\n",
            number(*subscribers),
            name(*feed),
            columns[0],
            columns[1],
            columns[2]
        )
    };
    "| subscribers; orders/s, feed | CPU of the edge, computed | measured | ratio |\n|---|---:|---:|---:|\n".to_owned()
        + &CHECKS.iter().map(row).collect::<String>()
}

/// What a million subscribers need.
fn a_million() -> String {
    let row = |(feed, round): &(Feed, f64)| {
        let layout = feed.layout(MILLION, *round);
        let edge = &layout.edge;
        format!(
            "| {} | {} ms | {} | {} | {} | {} | {} | {} | {} |\n",
            name(*feed),
            number(edge.round * 1e3),
            number(edge.subscribers),
            number(feed.messages() / edge.sends),
            levels(&layout),
            number(layout.cores),
            number(layout.gib),
            number(layout.gigabits),
            number(back_in(edge.subscribers)),
        )
    };
    "| orders/s, feed | a round | subscribers an edge | messages a send | edges | cores | GiB | Gbit/s | back in, s \
     |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned()
        + &DESIGNS.iter().map(row).collect::<String>()
}

/// How the edges grow with the subscribers.
fn edges() -> String {
    let head = SUBSCRIBERS.map(|subscribers| format!(" {} |", number(subscribers))).concat();
    let row = |(feed, round): &(Feed, f64)| {
        let cells = SUBSCRIBERS.map(|subscribers| format!(" {} |", levels(&feed.layout(subscribers, *round))));
        format!("| {}, {} ms |{}\n", name(*feed), number(round * 1e3), cells.concat())
    };
    format!("| orders/s, feed, longest round |{head}\n|---|---:|---:|---:|---:|\n")
        + &DESIGNS.iter().map(row).collect::<String>()
}

/// Edges of each level, those that follow nodes first.
fn levels(layout: &Layout) -> String {
    layout.levels.iter().rev().map(|edges| number(*edges)).collect::<Vec<_>>().join(" → ")
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

/// Up to three digits, with commas between thousands.
pub fn number(value: f64) -> String {
    let unit = 10_f64.powf((value.log10().floor() - 2.0).max(-3.0));
    let text = format!("{:.3}", (value / unit).round() * unit);
    let text = text.trim_end_matches('0').trim_end_matches('.');
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
