//! The plot of a run as SVG: panels below each other with a common time axis. Of many samples each point of a line is a
//! median, and the band around it reaches from the least to the greatest.

use std::fmt::Write as _;

use crate::chart::{self, COLORS, Scale, escape, label, round, spread, tick};
use crate::samples::{
    ANONYMOUS, COLUMNS, DATA, DELIVERIES, DELIVERY_P50, DELIVERY_P99, DESCRIPTORS, ORDERS, POST_P50, POST_P99,
    RESIDENT, Samples, TCP, THREADS, WAL,
};
use crate::trend::median;

/// Sizes in pixels.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 130.0;
const HEAD: f64 = 62.0;
const PANEL: f64 = 118.0;
const GAP: f64 = 46.0;
const FOOT: f64 = 48.0;
/// Points of a line.
const POINTS: usize = 180;

struct Panel {
    title: &'static str,
    columns: &'static [usize],
    /// A logarithmic scale, for what differs by powers of ten.
    is_logarithmic: bool,
}

const PANELS: [Panel; 6] = [
    Panel { title: "Memory, MB", columns: &[RESIDENT, ANONYMOUS, TCP], is_logarithmic: false },
    Panel { title: "Descriptors and threads", columns: &[DESCRIPTORS, THREADS], is_logarithmic: false },
    Panel {
        title: "Latency, ms (logarithmic)",
        columns: &[POST_P50, POST_P99, DELIVERY_P50, DELIVERY_P99],
        is_logarithmic: true,
    },
    Panel { title: "Orders a second", columns: &[ORDERS], is_logarithmic: false },
    Panel { title: "Deliveries a second", columns: &[DELIVERIES], is_logarithmic: false },
    Panel { title: "Files, MB", columns: &[DATA, WAL], is_logarithmic: false },
];

/// Time in the middle of a bucket, median, least and greatest value.
type Point = (f64, f64, f64, f64);

/// The samples of a column in buckets of time. Buckets without a value are left out.
fn points(samples: &Samples, column: usize) -> Vec<Point> {
    let end = samples.at.last().copied().unwrap_or(1.0);
    let count = POINTS.min(samples.at.len());
    let mut buckets: Vec<Vec<f64>> = vec![Vec::new(); count];
    for (at, value) in samples.at.iter().zip(&samples.values[column]) {
        if value.is_finite() {
            buckets[((at / end * count as f64) as usize).min(count - 1)].push(*value);
        }
    }
    let width = end / count as f64;
    let point = |(place, bucket): (usize, &Vec<f64>)| {
        let middle = median(bucket)?;
        let least = bucket.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = bucket.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(((place as f64 + 0.5) * width, middle, least, greatest))
    };
    buckets.iter().enumerate().filter_map(point).collect()
}

fn scale_of(lines: &[Vec<Point>], is_logarithmic: bool) -> Scale {
    let all = || lines.iter().flatten();
    let greatest = all().map(|point| point.3).fold(0.0, f64::max);
    if is_logarithmic {
        let least = all().map(|point| point.2).filter(|least| *least > 0.0).fold(f64::INFINITY, f64::min);
        return Scale::logarithmic(least, greatest);
    }
    Scale::linear(greatest)
}

/// The whole picture. `notes` stand below the title; samples before `warm_up` seconds are marked.
pub fn svg(samples: &Samples, title: &str, notes: &str, warm_up: f64) -> String {
    let height = HEAD + PANELS.len() as f64 * (PANEL + GAP) + FOOT - GAP / 2.0;
    let end = samples.at.last().copied().unwrap_or(1.0);
    let x = |at: f64| LEFT + at / end * (WIDTH - LEFT - RIGHT);
    let mut svg = chart::head(WIDTH, height, LEFT, title, notes);
    for (number, panel) in PANELS.iter().enumerate() {
        let top = HEAD + number as f64 * (PANEL + GAP) + GAP / 2.0;
        draw_panel(&mut svg, samples, panel, top, (end, warm_up.min(end)), x);
    }
    let (unit, per) = if end >= 240.0 { ("minutes", 60.0) } else { ("seconds", 1.0) };
    let bottom = height - 12.0;
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#666666\">{unit}; a band reaches from the least to the greatest second of a \
         point, grey is warm-up</text>",
        bottom
    );
    let step = tick(end / per * 0.7);
    for number in 0..=(end / per / step) as i32 {
        let value = f64::from(number) * step;
        for panel in 0..PANELS.len() {
            let y = HEAD + panel as f64 * (PANEL + GAP) + GAP / 2.0 + PANEL;
            let at = x(value * per);
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {y:.1}v4\" stroke=\"#999999\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">{}</text>",
                y + 16.0,
                label(value)
            );
        }
    }
    svg + "</svg>\n"
}

fn draw_panel(svg: &mut String, samples: &Samples, panel: &Panel, top: f64, time: (f64, f64), x: impl Fn(f64) -> f64) {
    let lines: Vec<Vec<Point>> = panel.columns.iter().map(|column| points(samples, *column)).collect();
    let scale = scale_of(&lines, panel.is_logarithmic);
    let y = |value: f64| top + PANEL * (1.0 - scale.share(value));
    let (left, right) = (x(0.0), x(time.0));
    let _ = writeln!(
        svg,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{PANEL}\" fill=\"#f0f0f0\"/>\
         <text x=\"{left:.1}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        x(time.1) - left,
        top - 7.0,
        escape(panel.title)
    );
    for tick in scale.ticks() {
        *svg += &chart::grid_line(left, right, y(tick), tick);
    }
    let mut names: Vec<(f64, usize)> = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let color = COLORS[place % COLORS.len()];
        let join = |points: &mut dyn Iterator<Item = (f64, f64)>| {
            let points: Vec<String> = points.map(|(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
            points.join(" ")
        };
        let mut band =
            line.iter().map(|point| (point.0, point.2)).chain(line.iter().rev().map(|point| (point.0, point.3)));
        let mut middle = line.iter().map(|point| (point.0, point.1));
        let _ = writeln!(
            svg,
            "<polygon points=\"{}\" fill=\"{color}\" opacity=\"0.18\"/>\
             <polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>",
            join(&mut band),
            join(&mut middle)
        );
        if let Some(last) = line.last() {
            names.push((y(last.1), place));
        }
    }
    for (at, place) in spread(names, top, top + PANEL) {
        let (column, color) = (&COLUMNS[panel.columns[place]], COLORS[place % COLORS.len()]);
        let last = lines[place].last().map_or(0.0, |point| point.1);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{} {}</text>",
            right + 8.0,
            at + 4.0,
            escape(column.name),
            label(round(last))
        );
    }
}

#[test]
fn a_plot_has_all_its_lines_within_its_bounds() {
    let mut samples = Samples { at: (1..=600).map(f64::from).collect(), ..Samples::default() };
    for (column, values) in samples.values.iter_mut().enumerate() {
        let value = |second: u32| if second % 90 == 7 { f64::NAN } else { f64::from(second % 50) + column as f64 };
        *values = (1..=600).map(value).collect();
    }
    let svg = svg(&samples, "A <soak> & more", "notes", 100.0);
    assert!(svg.contains("A &lt;soak&gt; &amp; more"));
    assert_eq!(svg.matches("<polyline").count(), COLUMNS.len());
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    for points in svg.split("points=\"").skip(1).map(|rest| rest.split('"').next().expect("an end")) {
        for (x, y) in points.split(' ').map(|point| point.split_once(',').expect("a pair")) {
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            assert!((LEFT..=WIDTH - RIGHT + 0.1).contains(&x) && (HEAD..2_000.0).contains(&y), "{x},{y}");
        }
    }
    for column in COLUMNS {
        assert!(svg.contains(&format!(">{} ", column.name)), "{} has a name at its line", column.name);
    }
}
