//! What drawings in SVG share: the frame, colours, scales and labels. The background is white and all text is dark,
//! so that they can be read on a page of any colour.

/// Told apart also without seeing red and green (Okabe and Ito).
pub const COLORS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#7b4f9d"];
/// Lines that a scale has at most, and the least distance of two names beside each other, in pixels.
const MAX_TICKS: f64 = 5.0;
const NAME_DISTANCE: f64 = 15.0;

/// The beginning of a drawing: its size, a title at `left`, and notes below that.
pub fn head(width: f64, height: f64, left: f64, title: &str, notes: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#333333\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{left}\" y=\"24\" font-size=\"17\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{left}\" y=\"43\" fill=\"#666666\">{}</text>\n",
        escape(title),
        escape(notes)
    )
}

/// A horizontal line of a scale at `y` from `left` to `right`, with its value at the left.
pub fn grid_line(left: f64, right: f64, y: f64, value: f64) -> String {
    format!(
        "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#dddddd\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{}</text>\n",
        left - 6.0,
        y + 4.0,
        label(value)
    )
}

/// The distance of the lines of a scale from 0 to `end`: 1, 2 or 5 times a power of ten.
pub fn tick(end: f64) -> f64 {
    let least = end / MAX_TICKS;
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= least * 0.999).unwrap_or(power)
}

/// A number for a scale, such as `0.1`, `25`, `1.5k` or `2M`.
pub fn label(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// A scale of values: where a value is, and where its lines are.
pub struct Scale {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// From 0 to at least `greatest`.
    pub fn linear(greatest: f64) -> Scale {
        let step = tick(greatest.max(1e-9) * 1.02);
        Scale { low: 0.0, high: (greatest.max(1e-9) * 1.02 / step).ceil() * step, is_logarithmic: false }
    }

    /// By powers of ten, for what differs by them; values below `least`, which is positive, are at its power.
    pub fn logarithmic(least: f64, greatest: f64) -> Scale {
        let low = if least.is_finite() { 10_f64.powf(least.log10().floor()) } else { 0.1 };
        let high = 10_f64.powf(greatest.max(low * 10.0).log10().ceil());
        Scale { low, high, is_logarithmic: true }
    }

    /// The share of the length at which a value is.
    pub fn share(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    pub fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let decades = (self.high / self.low).log10().round() as i32;
            return (0..=decades).map(|decade| self.low * 10_f64.powi(decade)).collect();
        }
        let step = tick(self.high);
        (0..=(self.high / step).round() as i32).map(|number| f64::from(number) * step).collect()
    }
}

/// Moves names apart that would overlap, within the panel.
pub fn spread(mut names: Vec<(f64, usize)>, top: f64, bottom: f64) -> Vec<(f64, usize)> {
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut least = top;
    for name in &mut names {
        name.0 = name.0.max(least);
        least = name.0 + NAME_DISTANCE;
    }
    let mut most = bottom;
    for name in names.iter_mut().rev() {
        name.0 = name.0.min(most);
        most = name.0 - NAME_DISTANCE;
    }
    names
}

/// Three significant digits.
pub fn round(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = 10_f64.powf(value.abs().log10().floor() - 2.0);
    (value / unit).round() * unit
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn scales_have_round_numbers_and_contain_every_value() {
    for (end, step) in [(1.0, 0.2), (9.4, 2.0), (10.0, 2.0), (23.0, 5.0), (57_000.0, 20_000.0), (0.03, 0.01)] {
        assert!((tick(end) / step - 1.0).abs() < 1e-9, "{end}: {}", tick(end));
    }
    assert_eq!([0.2, 25.0, 1500.0, 57_000.0, 2.5e6].map(label), ["0.2", "25", "1500", "57k", "2.5M"]);
    let (linear, logarithmic) = (Scale::linear(47.0), Scale::logarithmic(11.0, 47.0));
    assert_eq!(linear.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
    assert_eq!((logarithmic.low, logarithmic.high), (10.0, 100.0));
    assert!((logarithmic.share(31.622_776) - 0.5).abs() < 1e-6);
}
