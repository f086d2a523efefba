//! What a terminal shows while orders are sent: orders, rate, failed attempts. Without a terminal nothing but the first of
//! several failures in a row.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::text::grouped;
use crate::log::error_lines;

/// How often the bar moves while nothing happens: ten times a second.
const TICK: Duration = Duration::from_millis(100);
/// The time over which the rate is the mean: 3 s.
const RATE_SPAN: Duration = Duration::from_secs(3);
/// With the share of a file that is done.
const FILE: &str = "{bar:24} {percent:>3}%  {wide_msg}";
/// For a pipe, whose length is not known.
const PIPE: &str = "{spinner}  {wide_msg}";

/// Progress of sending.
pub(super) struct Progress {
    /// `None` without a terminal.
    bar: Option<ProgressBar>,
    counted: u64,
    failures: u64,
    /// Why the last attempt failed, while it is the last.
    trouble: Option<String>,
    /// When so many orders were counted, over [`RATE_SPAN`].
    marks: VecDeque<(Instant, u64)>,
    start: Instant,
}

impl Progress {
    /// Shows progress if standard error is a terminal. `bytes` is the length of the input, if it is known.
    pub(super) fn start(bytes: Option<u64>) -> Self {
        let is_terminal = console::Term::stderr().features().is_attended() && !super::screen::is_dumb();
        let bar = is_terminal.then(|| {
            let (bar, template) = match bytes {
                Some(bytes) => (ProgressBar::new(bytes), FILE),
                None => (ProgressBar::new_spinner(), PIPE),
            };
            // The templates are constants, and a test parses them.
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
            bar.set_style(style.progress_chars("=> "));
            bar.enable_steady_tick(TICK);
            bar
        });
        let mut progress =
            Self { bar, counted: 0, failures: 0, trouble: None, marks: VecDeque::new(), start: Instant::now() };
        progress.show();
        progress
    }

    /// These orders are counted, and with them the input up to this byte.
    pub(super) fn counted(&mut self, orders: usize, end: u64) {
        self.counted += orders as u64;
        if self.trouble.take().is_some() && self.bar.is_none() {
            self.say("the server answers again");
        }
        if let Some(bar) = &self.bar {
            bar.set_position(end);
        }
        let now = Instant::now();
        self.marks.push_back((now, self.counted));
        while self.marks.len() > 2 && now - self.marks[0].0 > RATE_SPAN {
            self.marks.pop_front();
        }
        self.show();
    }

    /// An attempt has failed and will be repeated.
    pub(super) fn failed(&mut self, why: &str) {
        self.failures += 1;
        if self.trouble.is_none() && self.bar.is_none() {
            self.say(&format!("{why}; trying again"));
        }
        self.trouble = Some(why.to_owned());
        self.show();
    }

    /// A line on standard error, above the bar.
    pub(super) fn say(&self, text: &str) {
        say(self.bar.as_ref(), text);
    }

    /// The same for another thread.
    pub(super) fn speaker(&self) -> impl Fn(&str) + Send + Clone + 'static {
        let bar = self.bar.clone();
        move |text: &str| say(bar.as_ref(), text)
    }

    /// Removes the bar; on a terminal the sum takes its place.
    pub(super) fn finish(&mut self) {
        let Some(bar) = self.bar.take() else { return };
        bar.finish_and_clear();
        let seconds = self.start.elapsed().as_secs_f64().max(0.001);
        let rate = grouped((self.counted as f64 / seconds) as i64);
        let orders = self.orders_text();
        say(None, &format!("{orders} counted in {seconds:.1} s, {rate}/s{}", self.failures_text()));
    }

    fn orders_text(&self) -> String {
        match self.counted {
            1 => "1 order".to_owned(),
            many => format!("{} orders", grouped(many as i64)),
        }
    }

    fn failures_text(&self) -> String {
        match self.failures {
            0 => String::new(),
            1 => ", 1 failed attempt".to_owned(),
            many => format!(", {} failed attempts", grouped(many as i64)),
        }
    }

    fn show(&mut self) {
        let Some(bar) = &self.bar else { return };
        let rate = match (self.marks.front(), self.marks.back()) {
            (Some((from, before)), Some((to, now))) if to > from => (now - before) as f64 / (*to - *from).as_secs_f64(),
            _ => 0.0,
        };
        let orders = self.orders_text() + " counted";
        bar.set_message(match &self.trouble {
            Some(why) => format!("{orders}{}; trying again: {why}", self.failures_text()),
            None => format!("{orders}, {}/s{}", grouped(rate as i64), self.failures_text()),
        });
    }
}

fn say(bar: Option<&ProgressBar>, text: &str) {
    let write = || drop(io::stderr().write_all(error_lines(text).as_bytes()));
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        assert!(ProgressStyle::with_template(FILE).is_ok() && ProgressStyle::with_template(PIPE).is_ok());
    }
}
