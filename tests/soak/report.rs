//! The results of a soak in words: counts, medians, slopes and the verdict on each.

use std::fmt::Write as _;

use crate::figures::pretty;
use crate::figures_of_load::machine;
use crate::plan::Plan;
use crate::samples::{
    ANONYMOUS, COLUMNS, Column, DATA, DELIVERIES, DELIVERY_P50, DELIVERY_P99, DESCRIPTORS, ORDERS, POST_P50, POST_P99,
    RESIDENT, Samples, TCP, THREADS, WAL,
};
use crate::shared::{KINDS, Shared, value};
use crate::trend::{MIN_SECONDS, Trend, Verdict, median};

/// What must be flat, and the share of its mean by which it may grow over the run. Memory, descriptors and threads
/// follow the load closely; latencies and TCP buffers follow what else the machine does.
const JUDGED: [(usize, f64); 7] = [
    (RESIDENT, 0.05),
    (ANONYMOUS, 0.05),
    (TCP, 0.25),
    (DESCRIPTORS, 0.05),
    (THREADS, 0.05),
    (POST_P99, 0.25),
    (DELIVERY_P99, 0.25),
];
/// What is only stated.
const STATED: [usize; 6] = [POST_P50, DELIVERY_P50, ORDERS, DELIVERIES, DATA, WAL];

/// The text, and what grows.
pub struct Report {
    pub text: String,
    pub growing: Vec<String>,
}

/// One line that says what ran where.
pub fn notes(plan: &Plan, peak: f64) -> String {
    format!(
        "ordercast {}, {} at {} of the peak rate of {} orders/s, {}",
        env!("CARGO_PKG_VERSION"),
        length(plan.steady.as_secs_f64()),
        percent(plan.share),
        pretty(peak),
        machine()
    )
}

/// The whole summary. `peaks` are the orders a second of each kind of lane at the peak.
pub fn report(
    plan: &Plan,
    shared: &Shared,
    samples: &Samples,
    peaks: &[f64; KINDS.len()],
    connections: usize,
) -> Report {
    let warm_up = plan.warm_up.as_secs_f64();
    let mut text = notes(plan, peaks.iter().sum()) + "\n";
    let kinds = KINDS.iter().zip(peaks).filter(|(_, peak)| **peak > 0.0);
    let kinds: Vec<String> = kinds.map(|((kind, ..), peak)| format!("{kind:?} {}", pretty(*peak))).collect();
    let _ = writeln!(text, "peak, orders/s by lane: {}", kinds.join(", "));
    let counts = &shared.counts;
    let of = |counter| whole(value(counter));
    let _ = writeln!(
        text,
        "{} orders answered, {} keys repeated, {} rejected; {} totals delivered to {connections} subscribers at a time\n\
         {} lives of subscribers, {} resumed; {} slow readers closed; {} clients killed; {} bad requests; {} reads\n\
         {} reloads, {} backups, {} periods closed, {} changes of products; {} lines of the log read",
        whole(shared.answered().iter().sum()),
        of(&counts.repeats),
        of(&counts.rejected),
        of(&counts.deliveries),
        of(&counts.lives),
        of(&counts.resumes),
        of(&counts.slow_ends),
        of(&counts.kills),
        of(&counts.bad_requests),
        of(&counts.reads),
        of(&counts.reloads),
        of(&counts.backups),
        of(&counts.closes),
        of(&counts.product_changes),
        of(&counts.log_lines),
    );
    let _ = writeln!(
        text,
        "\nbehind a warm-up of {}, medians of seconds and slopes with their 95 % error:\n",
        length(warm_up)
    );
    text += "| | median | slope an hour | growth over the run | allowed | |\n|---|---:|---:|---:|---:|---|\n";
    let mut growing = Vec::new();
    let judged = JUDGED.map(|(column, share)| (column, Some(share)));
    for (column, share) in judged.into_iter().chain(STATED.map(|column| (column, None))) {
        let Column { name, unit } = COLUMNS[column];
        let unit = if unit.is_empty() || unit.starts_with('/') { unit.to_owned() } else { format!(" {unit}") };
        let steady = samples.at.iter().zip(&samples.values[column]).filter(|(at, _)| **at >= warm_up);
        let steady: Vec<f64> = steady.map(|(_, value)| *value).collect();
        let middle = median(&steady).map_or_else(|| "–".into(), |value| format!("{}{unit}", pretty(value)));
        let Some(trend) = Trend::of(&samples.at, &samples.values[column], warm_up) else {
            let _ = writeln!(text, "| {name} | {middle} | – | – | – | too few samples |");
            continue;
        };
        let verdict = share.map(|share| trend.verdict(share));
        let words = match verdict {
            None => "stated only".to_owned(),
            Some(Verdict::Flat) => "flat".to_owned(),
            Some(Verdict::NotDistinguishable) => "flat: not distinguishable from 0".to_owned(),
            Some(Verdict::Grows) => "**grows**".to_owned(),
            Some(Verdict::TooShort) => format!("not judged below {}", length(MIN_SECONDS)),
        };
        let allowed = share.map_or_else(|| "–".into(), percent);
        let _ = writeln!(
            text,
            "| {name} | {middle} | {} ± {} | {} | {allowed} | {words} |",
            signed(trend.slope),
            pretty(trend.error),
            signed_percent(trend.growth)
        );
        if verdict == Some(Verdict::Grows) {
            growing.push(format!("{name} grows by {} an hour on {middle}", signed(trend.slope)));
        }
    }
    Report { text, growing }
}

/// A count, with commas between thousands.
fn whole(count: u64) -> String {
    if count < 100 { count.to_string() } else { pretty(count as f64) }
}

fn signed(value: f64) -> String {
    // What is constant has a slope of a rounding error, of either sign.
    let value = if value.abs() < 1e-6 { 0.0 } else { value };
    if value < 0.0 { format!("−{}", pretty(-value)) } else { format!("+{}", pretty(value)) }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn signed_percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0).replace('-', "−").replace("−0.0 %", "+0.0 %")
}

/// A length of time in the unit that suits it.
fn length(seconds: f64) -> String {
    if seconds >= 180.0 { format!("{} min", pretty(seconds / 60.0)) } else { format!("{} s", pretty(seconds)) }
}
