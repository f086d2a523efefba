//! The drawing: two panels with one logarithmic scale of CPU a delivery, beside each other.

use std::fmt::Write as _;

use super::{Cell, Point, SHARED};
use crate::chart::{self, COLORS, Scale, escape, spread};
use crate::figures::pretty;

/// Sizes in pixels.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 450.0;
const TOP: f64 = 96.0;
const PANEL: f64 = 300.0;
/// Where the panels begin and end. The names of their lines follow at the right.
const BY_ORDERS: (f64, f64) = (70.0, 560.0);
const BY_THREADS: (f64, f64) = (680.0, 790.0);
/// Between the beginning of a panel and its first points, for their values.
const INSET: f64 = 24.0;
/// How near, across and up, another point may be to the value that stands above or below a point.
const NEAR: (f64, f64) = (26.0, 18.0);

const TITLE: &str = "CPU a delivery by subscribers, orders and fan-out threads";
const NOTE: &str = "of the whole server: requests, commits, sends";

/// A line of a panel: its name, its points by their place on the horizontal axis, and its colour.
struct Line<'a> {
    name: String,
    points: Vec<(f64, &'a (Cell, Point))>,
    color: &'static str,
}

/// The whole drawing. With subscribers alone a cell is in the first panel, with fan-out threads in the second.
pub fn svg(machine: &str, cells: &[(Cell, Point)]) -> String {
    let mut svg = chart::head(WIDTH, HEIGHT, BY_ORDERS.0, TITLE, &format!("{machine}; {NOTE}"));
    let bounds = |of: fn(&Point) -> f64| {
        let values = || cells.iter().map(|(_, point)| of(point));
        (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    };
    let ((least, greatest), (fewest, most)) = (bounds(|point| point.cost), bounds(|point| point.orders));
    let costs = Scale::logarithmic(least, greatest);
    let y = |cost: f64| TOP + PANEL * (1.0 - costs.share(cost));
    let _ = writeln!(
        svg,
        "<text transform=\"translate(22 {:.1}) rotate(-90)\" text-anchor=\"middle\">server's CPU a delivery, µs \
         (logarithmic)</text>",
        TOP + PANEL / 2.0
    );

    // A rate that is offered is not quite reached, and must not begin another power of ten.
    let orders = Scale::logarithmic(fewest * 1.1, most);
    let x = |orders_a_second: f64| {
        let left = BY_ORDERS.0 + INSET;
        left + orders.share(orders_a_second) * (BY_ORDERS.1 - left)
    };
    let mut counts: Vec<usize> = Vec::new();
    for (cell, _) in cells.iter().filter(|(cell, _)| cell.threads.is_none()) {
        if !counts.contains(&cell.subscribers) {
            counts.push(cell.subscribers);
        }
    }
    let lines = counts.iter().zip(COLORS.iter().cycle()).map(|(count, color)| {
        let of = cells.iter().filter(|(cell, _)| cell.threads.is_none() && cell.subscribers == *count);
        let name = format!("{} subscribers", whole(*count as f64));
        Line { name, points: of.map(|of| (x(of.1.orders), of)).collect(), color }
    });
    let ticks = orders.ticks().into_iter().map(|orders| (x(orders), whole(orders))).collect();
    draw_panel(&mut svg, &costs, BY_ORDERS, ticks, y, &lines.collect::<Vec<_>>());
    titles(
        &mut svg,
        BY_ORDERS,
        "By orders a second, each line so many subscribers",
        "orders accepted a second (logarithmic)",
    );

    let shared = || cells.iter().filter_map(|of| Some((of.0.threads?, of)));
    let (mut threads, mut rates): (Vec<usize>, Vec<Option<f64>>) = (Vec::new(), Vec::new());
    for (count, (cell, _)) in shared() {
        if !threads.contains(&count) {
            threads.push(count);
        }
        if !rates.contains(&cell.rate) {
            rates.push(cell.rate);
        }
    }
    let place = |place: usize| {
        let share = (place as f64 + 0.5) / threads.len() as f64;
        BY_THREADS.0 + share * (BY_THREADS.1 - BY_THREADS.0)
    };
    let x = |count: usize| place(threads.iter().position(|other| *other == count).unwrap_or_default());
    // The colour of these subscribers in the other panel.
    let color = counts.iter().position(|count| *count == SHARED).unwrap_or_default();
    let lines = rates.iter().map(|rate| {
        let of = shared().filter(|(_, (cell, _))| cell.rate == *rate);
        let name = rate.map_or("flat out".into(), |rate| format!("{} orders/s", whole(rate)));
        Line { name, points: of.map(|(count, of)| (x(count), of)).collect(), color: COLORS[color % COLORS.len()] }
    });
    let ticks = threads.iter().map(|count| (x(*count), count.to_string())).collect();
    draw_panel(&mut svg, &costs, BY_THREADS, ticks, y, &lines.collect::<Vec<_>>());
    let axis = format!("fan-out threads, {} subscribers", whole(SHARED as f64));
    titles(&mut svg, BY_THREADS, "By fan-out threads", &axis);
    svg + "</svg>\n"
}

/// The title of a panel and that of its horizontal axis.
fn titles(svg: &mut String, (left, right): (f64, f64), title: &str, axis: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        TOP - 16.0,
        escape(title),
        f64::midpoint(left, right),
        TOP + PANEL + 38.0,
        escape(axis)
    );
}

/// The lines of the scales, then lines with a name, and with the value at each point.
fn draw_panel(
    svg: &mut String,
    costs: &Scale,
    (left, right): (f64, f64),
    ticks: Vec<(f64, String)>,
    y: impl Fn(f64) -> f64,
    lines: &[Line],
) {
    for cost in costs.ticks() {
        *svg += &chart::grid_line(left, right, y(cost), cost);
    }
    for (x, text) in ticks {
        let bottom = TOP + PANEL;
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{:.1}\" stroke=\"#eeeeee\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">{text}</text>",
            bottom + 4.0,
            bottom + 18.0
        );
    }
    let all = || lines.iter().flat_map(|line| line.points.iter().map(|(x, of)| (*x, y(of.1.cost))));
    let mut names = Vec::new();
    for Line { points, color, .. } in lines {
        let places: Vec<String> = points.iter().map(|(x, of)| format!("{x:.1},{:.1}", y(of.1.cost))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>",
            places.join(" ")
        );
    }
    // After all lines, so that none of them crosses a value.
    for (number, Line { points, color, .. }) in lines.iter().enumerate() {
        for (x, (cell, point)) in points {
            let (y, cost) = (y(point.cost), pretty(point.cost));
            let near = |up: f64| {
                all().any(|other| (other.0 - x).abs() < NEAR.0 && (0.1..NEAR.1).contains(&(up * (y - other.1))))
            };
            let (across, beside) = match (near(1.0), near(-1.0)) {
                (false, _) => (0.0, y - 7.0),
                (true, false) => (0.0, y + 14.0),
                // Between two others: at the right.
                (true, true) => (20.0, y + 4.0),
            };
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{color}\"><title>{} subscribers, {} orders and \
                 {} deliveries a second: {cost} µs</title></circle>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"{color}\" \
                 stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">{cost}</text>",
                whole(cell.subscribers as f64),
                whole(point.orders),
                whole(point.deliveries),
                x + across,
                beside
            );
        }
        names.extend(points.last().map(|(_, of)| (y(of.1.cost), number)));
    }
    for (at, number) in spread(names, TOP, TOP + PANEL) {
        let Line { name, color, points } = &lines[number];
        let own = points.last().map_or(right, |(x, _)| *x);
        // Behind the points of other lines at that height.
        let end = all().filter(|(_, y)| (y - at).abs() < NEAR.1).map(|(x, _)| x).fold(own, f64::max);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{}</text>",
            end + 18.0,
            at + 4.0,
            escape(name)
        );
    }
}

/// A number without a fraction.
fn whole(number: f64) -> String {
    if number < 100.0 { format!("{number:.0}") } else { pretty(number) }
}
