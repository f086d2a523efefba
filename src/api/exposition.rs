//! The text of metrics (Prometheus, text format 0.0.4). Owns its grammar; knows no metric. Names, labels and help texts are
//! constants of the callers without quotes, backslashes and line ends, so nothing is escaped.

use std::fmt::{Display, Write};

use crate::tally::metric::Recorded;

/// The media type of the text.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text so far.
#[derive(Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// A number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }

    /// Numbers that only grow, one for each value of a label.
    pub(super) fn counters<T: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (T, u64)>,
    ) {
        self.family(name, "counter", help);
        self.labelled(name, label, values);
    }

    /// A number that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    /// The same for one that may be unknown: then there is no line.
    pub(super) fn gauge_if_known(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.gauge(name, help, value);
        }
    }

    /// Numbers that go up and down, one for each value of a label.
    pub(super) fn gauges<T: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (T, u64)>,
    ) {
        self.family(name, "gauge", help);
        self.labelled(name, label, values);
    }

    /// A histogram of values that are counted in so many parts of the metric's unit.
    pub(super) fn histogram(&mut self, name: &str, help: &str, recorded: &Recorded, parts: f64) {
        self.family(name, "histogram", help);
        let Recorded { buckets, count, sum } = recorded;
        for (bound, up_to) in buckets {
            self.sample(name, &format!("_bucket{{le=\"{}\"}}", *bound as f64 / parts), up_to);
        }
        self.sample(name, "_bucket{le=\"+Inf\"}", count);
        self.sample(name, "_sum", *sum as f64 / parts);
        self.sample(name, "_count", count);
    }

    /// The text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail; neither does it below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn labelled<T: Display>(&mut self, name: &str, label: &str, values: impl IntoIterator<Item = (T, u64)>) {
        for (of, value) in values {
            self.sample(name, &format!("{{{label}=\"{of}\"}}"), value);
        }
    }

    /// A line. `rest` is what follows the family's name in that of the sample, and its labels.
    fn sample(&mut self, name: &str, rest: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{rest} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_lines() {
        let mut text = Exposition::default();
        text.counter("x_total", "Things.", 7);
        text.gauges("x", "Now.", "of", [("a", 1), ("b", 0)]);
        text.gauge_if_known("y", "Unknown.", None::<u64>);
        text.gauge_if_known("z_seconds", "Age.", Some(0.5));
        let recorded = Recorded { buckets: vec![(100_000, 1), (2_500_000_000, 2)], count: 3, sum: 12_500_000_000 };
        text.histogram("t_seconds", "Times.", &recorded, 1e9);
        let expected = "\
# HELP x_total Things.
# TYPE x_total counter
x_total 7
# HELP x Now.
# TYPE x gauge
x{of=\"a\"} 1
x{of=\"b\"} 0
# HELP z_seconds Age.
# TYPE z_seconds gauge
z_seconds 0.5
# HELP t_seconds Times.
# TYPE t_seconds histogram
t_seconds_bucket{le=\"0.0001\"} 1
t_seconds_bucket{le=\"2.5\"} 2
t_seconds_bucket{le=\"+Inf\"} 3
t_seconds_sum 12.5
t_seconds_count 3
";
        assert_eq!(text.into_text(), expected);
    }
}
