//! All measurements by server, work and round: as lines, a Markdown table of medians, and JSON.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use crate::figures::{Better, Figure, Measurement, median, pretty};

/// One server's result of one piece of work in one round.
pub struct Row {
    pub server: String,
    pub round: u32,
    pub work: String,
    pub measurement: Measurement,
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

    /// Whether any row of the server has a fault.
    pub fn has_faults(&self, server: &str) -> bool {
        self.rows.iter().any(|row| row.server == server && !row.measurement.faults.is_empty())
    }

    /// Medians of the figures that have a better direction, one column per server. With several servers, the last
    /// column is the ratio of the first server to the best of the others; below 1 the first is worse.
    pub fn markdown(&self) -> String {
        let servers = distinct(self.rows.iter().map(|row| row.server.as_str()));
        let mut text = String::from("| work | figure |");
        for server in &servers {
            let _ = write!(text, " {server} |");
        }
        let compared = servers.len() > 1;
        text += if compared { " ahead of the best peer |\n" } else { "\n" };
        text += "|---|---|";
        text += &"---:|".repeat(servers.len() + usize::from(compared));
        text.push('\n');
        for work in distinct(self.rows.iter().map(|row| row.work.as_str())) {
            let rows = || self.rows.iter().filter(|row| row.work == work);
            let measures = rows().flat_map(|row| row.measurement.figures.iter().map(|(figure, _)| *figure));
            let mut done = Vec::new();
            for figure in measures.filter(|figure| figure.better != Better::Neither) {
                if !done.contains(&figure) {
                    self.markdown_line(&mut text, &servers, work, figure);
                    done.push(figure);
                }
            }
        }
        let mut notes: Vec<String> = Vec::new();
        for Row { server, round, work, measurement } in &self.rows {
            if !measurement.faults.is_empty() {
                notes.push(format!("† {server}, {work}, round {round}: {}.", measurement.faults.join("; ")));
            }
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
            let _ = write!(text, " {value}{} |", if cell.has_faults { " †" } else { "" });
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
        let values = rows().flat_map(|row| &row.measurement.figures).filter(|(found, _)| *found == figure);
        Cell {
            median: median(values.map(|(_, value)| *value).collect()),
            has_faults: rows().any(|row| !row.measurement.faults.is_empty()),
        }
    }

    /// Every row.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({ "machine": machine(), "rows": rows })
    }
}

struct Cell {
    median: Option<f64>,
    has_faults: bool,
}

impl Row {
    fn line(&self) -> String {
        let mut text = format!("{:9} {:44}", self.server, self.work);
        for (figure, value) in &self.measurement.figures {
            let space = if figure.unit.starts_with(['/', '%']) { "" } else { " " };
            let _ = write!(text, " | {} {}{space}{}", figure.name, pretty(*value), figure.unit);
        }
        for fault in &self.measurement.faults {
            let _ = write!(text, "\n  WRONG: {fault}");
        }
        text
    }

    fn json(&self) -> Value {
        let Measurement { figures, faults } = &self.measurement;
        let figures: serde_json::Map<String, Value> =
            figures.iter().map(|(figure, value)| (figure.label(), json!(value))).collect();
        json!({
            "server": self.server, "work": self.work, "round": self.round,
            "figures": figures, "faults": faults,
        })
    }
}

/// The ratio to the best peer without faults, above 1 when `own` is better.
fn ahead(own: f64, peers: &[Cell], better: Better) -> Option<f64> {
    let values = peers.iter().filter(|cell| !cell.has_faults).filter_map(|cell| cell.median);
    let ratio = match better {
        Better::Higher => values.reduce(f64::max).map(|best| own / best),
        Better::Lower => values.reduce(f64::min).map(|best| best / own),
        Better::Neither => None,
    };
    // A zero on either side cannot be compared.
    ratio.filter(|ratio| ratio.is_finite() && *ratio > 0.0)
}

/// Processor and kernel of the machine in one line.
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

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
