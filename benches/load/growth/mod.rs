//! How the cost of a delivery grows with subscribers, orders a second and fan-out threads: what is measured, a file of
//! figures, and a drawing of it.
//!
//! The figures are in a CSV file beside the drawing. What is measured replaces the lines of the same cells, so parts
//! may be measured one after the other.

mod drawing;

use std::fs;
use std::path::{Path, PathBuf};

use crate::figures::{self, Figure, median};
use crate::options::Options;
use crate::report::{self, Row};

const SUBSCRIBERS: [usize; 4] = [10, 100, 1_000, 10_000];
const RATES: [Option<f64>; 5] = [Some(10.0), Some(100.0), Some(1_000.0), Some(10_000.0), None];
/// Subscribers and orders a second beside fan-out threads.
const SHARED: usize = 1_000;
const SHARED_RATES: [Option<f64>; 4] = [Some(100.0), Some(1_000.0), Some(10_000.0), None];
/// Fan-out threads, as far as there are cores.
const THREADS: [usize; 3] = [1, 2, 4];

const COLUMNS: &str = "subscribers,orders offered/s,fan-out threads,orders accepted/s,deliveries/s,CPU a delivery (µs)";
/// The text of an offer without a rate.
const FLAT_OUT: &str = "max";
/// The text of the number of fan-out threads that the server chooses.
const CHOSEN: &str = "default";

/// One combination that is measured.
#[derive(Clone, Copy, PartialEq)]
pub struct Cell {
    pub subscribers: usize,
    /// Orders a second; `None` for as fast as possible.
    pub rate: Option<f64>,
    /// Fan-out threads; `None` for as many as the server chooses.
    pub threads: Option<usize>,
}

/// Orders accepted and deliveries a second, and the server's CPU microseconds a delivery.
struct Point {
    orders: f64,
    deliveries: f64,
    cost: f64,
}

/// Cells with the points of all rounds.
#[derive(Default)]
pub struct Growth {
    cells: Vec<(Cell, Vec<Point>)>,
}

/// The cells that the options ask for: with subscribers or threads given, only the panel that shows them.
pub fn cells(options: &Options) -> Vec<Cell> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let possible = || THREADS.into_iter().filter(|threads| *threads <= cores).collect();
    let (subscribers, threads) = match (&options.subscribers, &options.fanout_threads) {
        (None, None) => (SUBSCRIBERS.to_vec(), possible()),
        (subscribers, threads) => (subscribers.clone().unwrap_or_default(), threads.clone().unwrap_or_default()),
    };
    let rates = |default: &[Option<f64>]| options.rates.clone().unwrap_or_else(|| default.to_vec());
    let mut cells = Vec::new();
    for subscribers in subscribers {
        cells.extend(rates(&RATES).into_iter().map(|rate| Cell { subscribers, rate, threads: None }));
    }
    for rate in rates(&SHARED_RATES) {
        cells.extend(threads.iter().map(|threads| Cell { subscribers: SHARED, rate, threads: Some(*threads) }));
    }
    cells
}

impl Growth {
    /// Adds what a row has measured, unless it has faults.
    pub fn add(&mut self, cell: Cell, row: &Row) {
        let figures = &row.measurement.figures;
        let value = |wanted: &Figure| figures.iter().find(|(figure, _)| *figure == wanted).map(|(_, value)| *value);
        let point = || {
            Some(Point {
                orders: value(&figures::ACCEPTED)?,
                deliveries: value(&figures::DELIVERIES)?,
                cost: value(&figures::CPU_PER_MILLION)?,
            })
        };
        let Some(point) = point().filter(|_| row.measurement.faults.is_empty()) else { return };
        match self.cells.iter_mut().find(|(found, _)| *found == cell) {
            Some((_, points)) => points.push(point),
            None => self.cells.push((cell, vec![point])),
        }
    }

    /// Adds the cells to those of the file beside the drawing, and draws all of them.
    pub fn draw(self, svg: &Path) -> Result<(), String> {
        let csv = svg.with_extension("csv");
        let fail = |path: &Path, error| format!("{}: {error}", path.display());
        let (mut machine, mut lines) = match fs::read_to_string(&csv) {
            Ok(text) => read(&text).ok_or_else(|| fail(&csv, "not a file of these figures".to_owned()))?,
            Err(_) => Default::default(),
        };
        if !self.cells.is_empty() {
            machine = report::machine();
        }
        for (cell, points) in self.cells {
            let of = |value: fn(&Point) -> f64| median(points.iter().map(value).collect()).unwrap_or_default();
            let (orders, deliveries, cost) =
                (of(|point| point.orders), of(|point| point.deliveries), of(|point| point.cost));
            lines.retain(|(found, _)| *found != cell);
            lines.push((cell, Point { orders, deliveries, cost }));
        }
        if lines.is_empty() {
            return Err(format!("{}: nothing to draw was measured", svg.display()));
        }
        let order = |cell: &Cell| (cell.threads, cell.subscribers, cell.rate.unwrap_or(f64::INFINITY));
        lines
            .sort_by(|(one, _), (other, _)| order(one).partial_cmp(&order(other)).unwrap_or(std::cmp::Ordering::Equal));
        let write = |path: PathBuf, text| fs::write(&path, text).map_err(|error| fail(&path, error.to_string()));
        write(csv, text_of(&machine, &lines))?;
        write(svg.to_owned(), drawing::svg(&machine, &lines))
    }
}

/// The machine, and each cell with its point; `None` unless the text is as `text_of` writes it.
fn read(text: &str) -> Option<(String, Vec<(Cell, Point)>)> {
    let mut lines = text.lines();
    let machine = lines.next()?.strip_prefix("# ")?;
    lines.next().filter(|line| *line == COLUMNS)?;
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [subscribers, rate, threads, orders, deliveries, cost] = fields[..] else { return None };
        let cell = Cell {
            subscribers: subscribers.parse().ok()?,
            rate: if rate == FLAT_OUT { None } else { Some(rate.parse().ok()?) },
            threads: if threads == CHOSEN { None } else { Some(threads.parse().ok()?) },
        };
        let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
        Some((cell, Point { orders: number(orders)?, deliveries: number(deliveries)?, cost: number(cost)? }))
    };
    Some((machine.to_owned(), lines.map(line).collect::<Option<_>>()?))
}

fn text_of(machine: &str, lines: &[(Cell, Point)]) -> String {
    let line = |(cell, point): &(Cell, Point)| {
        let rate = cell.rate.map_or(FLAT_OUT.into(), |rate| rate.to_string());
        let threads = cell.threads.map_or(CHOSEN.into(), |threads| threads.to_string());
        let Point { orders, deliveries, cost } = point;
        format!("{},{rate},{threads},{orders:.1},{deliveries:.0},{cost:.4}\n", cell.subscribers)
    };
    format!("# {machine}\n{COLUMNS}\n{}", lines.iter().map(line).collect::<String>())
}
