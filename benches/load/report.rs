//! What was measured: figures by server, work and round; as lines, a Markdown table of medians, and JSON.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

/// Which way a figure is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// Stated beside the others, but no measure of who is ahead.
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
    /// Name and unit.
    fn label(&self) -> String {
        match self.unit {
            "" => self.name.into(),
            unit if unit.starts_with('/') => format!("{}{unit}", self.name),
            unit => format!("{}, {unit}", self.name),
        }
    }
}

const fn figure(name: &'static str, unit: &'static str, better: Better) -> Figure {
    Figure { name, unit, better }
}

pub const ORDERS: Figure = figure("orders", "/s", Better::Higher);
pub const POST_P50: Figure = figure("POST p50", "ms", Better::Lower);
pub const POST_P99: Figure = figure("POST p99", "ms", Better::Lower);
pub const CPU_PER_ORDER: Figure = figure("CPU per order", "µs", Better::Lower);
pub const DELIVERIES: Figure = figure("deliveries", "/s", Better::Higher);
pub const ACCEPTED: Figure = figure("orders accepted", "/s", Better::Neither);
pub const REFUSED: Figure = figure("orders refused", "", Better::Neither);
pub const DELIVERY_P50: Figure = figure("delivery p50", "ms", Better::Lower);
pub const DELIVERY_P99: Figure = figure("delivery p99", "ms", Better::Lower);
pub const DELIVERY_MAX: Figure = figure("delivery max", "ms", Better::Neither);
pub const CPU_PER_MILLION: Figure = figure("CPU per million deliveries", "s", Better::Lower);
pub const GENERATOR_CPU: Figure = figure("generator's CPU", "%", Better::Neither);
pub const OTHERS_CPU: Figure = figure("others' CPU", "%", Better::Neither);
pub const SKIPPED: Figure = figure("skipped", "% of totals", Better::Neither);
pub const SETTLED: Figure = figure("exact after the last answer", "ms", Better::Neither);
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
pub const CONNECTS: Figure = figure("connects", "/s", Better::Higher);
pub const CPU_PER_CONNECT: Figure = figure("CPU per connect", "µs", Better::Lower);
pub const START: Figure = figure("start to first answer", "ms", Better::Lower);
pub const FIRST_START: Figure = figure("the same in an empty folder", "ms", Better::Neither);
pub const IDLE: Figure = figure("idle resident", "MB", Better::Lower);
pub const FOOTPRINT: Figure = figure("executable and its files", "MB", Better::Lower);

/// One server's result of one piece of work in one round.
pub struct Row {
    pub server: String,
    pub round: u32,
    pub work: String,
    pub figures: Vec<(&'static Figure, f64)>,
    /// What was wrong; the figures of such a row say nothing good.
    pub faults: Vec<String>,
}

/// All rows of one invocation.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row and prints it.
    pub fn add(&mut self, row: Row) {
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// Whether the server was wrong anywhere.
    pub fn is_wrong(&self, server: &str) -> bool {
        self.rows.iter().any(|row| row.server == server && !row.faults.is_empty())
    }

    /// Medians of what can be better or worse, per work and figure, one column per server; where the first of several servers is compared with
    /// the rest, the last column says how far ahead of the best of them it is (below 1: behind).
    pub fn markdown(&self) -> String {
        let servers = in_order(self.rows.iter().map(|row| row.server.as_str()));
        let mut text = String::from("| work | figure |");
        for server in &servers {
            let _ = write!(text, " {server} |");
        }
        let compared = servers.len() > 1;
        text += if compared { " ahead of the best peer |\n" } else { "\n" };
        text += "|---|---|";
        text += &"---:|".repeat(servers.len() + usize::from(compared));
        text.push('\n');
        for work in in_order(self.rows.iter().map(|row| row.work.as_str())) {
            let rows = || self.rows.iter().filter(|row| row.work == work);
            let measures = rows().flat_map(|row| row.figures.iter().map(|(figure, _)| *figure));
            let mut done = Vec::new();
            for figure in measures.filter(|figure| figure.better != Better::Neither) {
                if !done.contains(&figure) {
                    self.markdown_line(&mut text, &servers, work, figure);
                    done.push(figure);
                }
            }
        }
        let mut notes: Vec<String> = Vec::new();
        for row in self.rows.iter().filter(|row| !row.faults.is_empty()) {
            let Row { server, round, work, faults, .. } = row;
            notes.push(format!("† {server}, {work}, round {round}: {}.", faults.join("; ")));
        }
        if !notes.is_empty() {
            let _ = write!(text, "\n{}\n", notes.join("\n"));
        }
        text
    }

    fn markdown_line(&self, text: &mut String, servers: &[&str], work: &str, figure: &Figure) {
        let cells: Vec<Cell> = servers.iter().map(|server| self.cell(server, work, figure)).collect();
        let _ = write!(text, "| {work} | {} |", figure.label());
        for cell in &cells {
            let value = cell.median.map_or_else(|| "–".into(), pretty);
            let _ = write!(text, " {value}{} |", if cell.faulty { " †" } else { "" });
        }
        if let [own, peers @ ..] = &cells[..]
            && !peers.is_empty()
        {
            let ahead = own.median.and_then(|own| ahead(own, peers, figure.better));
            let _ = write!(text, " {} |", ahead.map_or_else(String::new, |by| format!("{by:.2} ×")));
        }
        text.push('\n');
    }

    fn cell(&self, server: &str, work: &str, figure: &Figure) -> Cell {
        let rows = || self.rows.iter().filter(|row| row.server == server && row.work == work);
        let values = rows().flat_map(|row| &row.figures).filter(|(found, _)| *found == figure);
        Cell {
            median: median(values.map(|(_, value)| *value).collect()),
            faulty: rows().any(|row| !row.faults.is_empty()),
        }
    }

    /// Everything, round by round.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({ "machine": machine(), "rows": rows })
    }
}

struct Cell {
    median: Option<f64>,
    faulty: bool,
}

impl Row {
    fn line(&self) -> String {
        let mut text = format!("{:9} {:44}", self.server, self.work);
        for (figure, value) in &self.figures {
            let space = if figure.unit.starts_with(['/', '%']) { "" } else { " " };
            let _ = write!(text, " | {} {}{space}{}", figure.name, pretty(*value), figure.unit);
        }
        for fault in &self.faults {
            let _ = write!(text, "\n  WRONG: {fault}");
        }
        text
    }

    fn json(&self) -> Value {
        let figures: serde_json::Map<String, Value> =
            self.figures.iter().map(|(figure, value)| (figure.label(), json!(value))).collect();
        json!({
            "server": self.server, "work": self.work, "round": self.round,
            "figures": figures, "faults": self.faults,
        })
    }
}

/// How many times better than the best of the peers that did the work.
fn ahead(own: f64, peers: &[Cell], better: Better) -> Option<f64> {
    let values = peers.iter().filter(|cell| !cell.faulty).filter_map(|cell| cell.median);
    let ratio = match better {
        Better::Higher => values.reduce(f64::max).map(|best| own / best),
        Better::Lower => values.reduce(f64::min).map(|best| best / own),
        Better::Neither => None,
    };
    // Where either is zero, there is nothing to compare.
    ratio.filter(|ratio| ratio.is_finite() && *ratio > 0.0)
}

/// The machine in one line, without its name.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let version = kernel.trim().split('-').next().unwrap_or_default();
    let model = model.map_or("unknown processor", |(_, model)| model);
    format!("{cores} cores of {model}, Linux {version}, all on loopback")
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// Three significant digits, thousands set apart.
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
