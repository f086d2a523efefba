//! The kinds of figures, and the result of one piece of work.

use std::time::Duration;

use crate::histogram::Histogram;

/// Which values of a figure are better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// Reported, but not compared.
    Neither,
}

/// A kind of figure.
#[derive(PartialEq, Eq)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub better: Better,
}

impl Figure {
    /// Name and unit: the key in the JSON file.
    pub fn label(&self) -> String {
        match self.unit {
            "" => self.name.into(),
            unit if unit.starts_with('/') => format!("{}{unit}", self.name),
            unit => format!("{}, {unit}", self.name),
        }
    }
}

/// A kind of figure, such as one of a single piece of work.
pub const fn figure(name: &'static str, unit: &'static str, better: Better) -> Figure {
    Figure { name, unit, better }
}

// Names and units stay as they are: JSON files of different builds are compared by them.
pub const ORDERS: Figure = figure("orders", "/s", Better::Higher);
pub const POST_P50: Figure = figure("POST p50", "ms", Better::Lower);
pub const POST_P99: Figure = figure("POST p99", "ms", Better::Lower);
pub const CPU_PER_ORDER: Figure = figure("CPU per order", "µs", Better::Lower);
pub const APPEND_P50: Figure = figure("bare append p50", "ms", Better::Neither);
pub const APPEND_P99: Figure = figure("bare append p99", "ms", Better::Neither);
pub const WRITE_OVER_P50: Figure = figure("bare write over p50", "ms", Better::Neither);
pub const WRITE_OVER_P99: Figure = figure("bare write over p99", "ms", Better::Neither);
pub const BESIDE_APPEND: Figure = figure("POST p50 beside bare append", "×", Better::Lower);
pub const BESIDE_WRITE_OVER: Figure = figure("POST p50 beside bare write over", "×", Better::Lower);
pub const DELIVERIES: Figure = figure("deliveries", "/s", Better::Higher);
pub const ACCEPTED: Figure = figure("orders accepted", "/s", Better::Neither);
pub const REJECTED: Figure = figure("orders refused", "", Better::Neither);
pub const DELIVERY_P50: Figure = figure("delivery p50", "ms", Better::Lower);
pub const DELIVERY_P99: Figure = figure("delivery p99", "ms", Better::Lower);
pub const DELIVERY_MAX: Figure = figure("delivery max", "ms", Better::Neither);
pub const CPU_PER_MILLION: Figure = figure("CPU per million deliveries", "s", Better::Lower);
pub const BARE_PER_MILLION: Figure = figure("CPU per million in bare sends", "s", Better::Neither);
pub const BESIDE_BARE: Figure = figure("CPU beside bare sends", "×", Better::Lower);
pub const SERVER_CPU: Figure = figure("server's CPU", "%", Better::Neither);
pub const FOLLOWED_CPU: Figure = figure("followed server's CPU", "%", Better::Lower);
pub const GENERATOR_CPU: Figure = figure("generator's CPU", "%", Better::Neither);
pub const OTHERS_CPU: Figure = figure("others' CPU", "%", Better::Neither);
pub const SKIPPED: Figure = figure("skipped", "% of totals", Better::Neither);
pub const EXACT_AFTER: Figure = figure("exact after the last answer", "ms", Better::Neither);
pub const RESIDENT_MAX: Figure = figure("resident max", "MB", Better::Lower);
pub const RESIDENT_END: Figure = figure("resident at the end", "MB", Better::Neither);
pub const TCP_MAX: Figure = figure("kernel TCP max", "MB", Better::Neither);
pub const TCP_END: Figure = figure("kernel TCP at the end", "MB", Better::Neither);
pub const THREADS: Figure = figure("threads", "", Better::Neither);
pub const RATE: Figure = figure("highest rate", "orders/s", Better::Neither);
pub const CARRIED: Figure = figure("carried", "deliveries/s", Better::Higher);
pub const P50_THERE: Figure = figure("delivery p50 there", "ms", Better::Neither);
pub const P99_THERE: Figure = figure("delivery p99 there", "ms", Better::Neither);
pub const CPU_THERE: Figure = figure("CPU per million there", "s", Better::Neither);
pub const RESIDENT_EACH: Figure = figure("resident each", "KB", Better::Lower);
pub const STACKS_EACH: Figure = figure("kernel stacks each", "KB", Better::Neither);
pub const SLAB_EACH: Figure = figure("kernel slab each, both ends", "KB", Better::Neither);
pub const PAGE_TABLES_EACH: Figure = figure("page tables each", "KB", Better::Neither);
pub const BACK: Figure = figure("start to the last snapshot", "ms", Better::Lower);
pub const CONNECTS: Figure = figure("connects", "/s", Better::Higher);
pub const CPU_PER_CONNECT: Figure = figure("CPU per connect", "µs", Better::Lower);
pub const START: Figure = figure("start to first answer", "ms", Better::Lower);
pub const FIRST_START: Figure = figure("the same in an empty folder", "ms", Better::Neither);
pub const IDLE: Figure = figure("idle resident", "MB", Better::Lower);
pub const FOOTPRINT: Figure = figure("executable and its files", "MB", Better::Lower);

/// Figures of one piece of work, and what was wrong while they were taken.
#[derive(Default)]
pub struct Measurement {
    pub figures: Vec<(&'static Figure, f64)>,
    /// With any fault the figures do not count.
    pub faults: Vec<String>,
}

impl Measurement {
    /// Adds a figure.
    pub fn push(&mut self, figure: &'static Figure, value: f64) {
        self.figures.push((figure, value));
    }

    /// Adds quantiles, in milliseconds, unless the histogram is empty.
    pub fn quantiles(&mut self, histogram: &Histogram, wanted: &[(&'static Figure, f64)]) {
        for (figure, share) in wanted {
            if let Some(value) = histogram.quantile(*share) {
                self.push(figure, milliseconds(value));
            }
        }
    }
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The middle of the values, or the mean of the two in the middle; `None` without values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Three significant digits, with commas between thousands.
pub fn pretty(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left % 3 == 0 && digit.is_ascii_digit() && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}
