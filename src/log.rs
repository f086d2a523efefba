//! Logging: the library uses the `log` facade, and [`install`] makes the binary write its lines to standard error.
//! Nothing is logged per request or per session, so no input can fill a disk with log lines.

use std::collections::HashMap;
use std::env;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::tally::rfc3339;

/// Lines that wait while nobody reads standard error; further ones are dropped and counted.
const WAITING: usize = 64;
/// How long [`Log::flush`] waits for the last lines, which may say why the program ends: 1 s, long enough on a busy machine.
const FLUSH: Duration = Duration::from_secs(1);
/// The thread's stack.
const STACK_BYTES: usize = 64 * 1024;
/// How often a repeated failure is logged: once a minute.
pub const THROTTLE: Duration = Duration::from_secs(60);
/// The longest text of a panic that is logged, in letters.
const PANIC_LETTERS: usize = 200;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `2026-01-31T12:00:00.000Z info text`. Without the time and the level for systemd's journal, which has both.
    #[default]
    Text,
    /// One JSON object a line, with `time`, `level` and `message`.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The form of a line.
    pub format: Format,
    /// The least important level that is written.
    pub level: LevelFilter,
}

impl Default for Options {
    fn default() -> Self {
        Self { format: Format::Text, level: LevelFilter::Info }
    }
}

/// Limits the log lines about one kind of failure to one a minute.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Instant>,
}

impl Throttle {
    /// Whether a line may be logged now.
    #[must_use]
    pub fn allows(&mut self) -> bool {
        let allows = self.last.is_none_or(|last| last.elapsed() >= THROTTLE);
        if allows {
            self.last = Some(Instant::now());
        }
        allows
    }

    /// When the next line may be logged; `None` for at once.
    #[must_use]
    pub fn allows_at(&self) -> Option<Instant> {
        self.last.map(|last| last + THROTTLE)
    }
}

/// Reasons that are remembered: more than a disk has. When there are more, all are forgotten.
const MAX_REASONS: usize = 32;

/// Limits the log lines about something that fails: each reason is logged when it begins, and at most once a minute.
#[derive(Debug, Default)]
pub struct Failures {
    reasons: HashMap<String, Throttle>,
    last: String,
    /// Whether there is a line about the present failure.
    is_logged: bool,
}

impl Failures {
    /// Whether a line may be logged about what fails for this reason; `was_failing` says whether it did before.
    #[must_use]
    pub fn must_log(&mut self, reason: &str, was_failing: bool) -> bool {
        // A failure that began within a minute of one for the same reason is logged when the minute is over.
        if was_failing && self.is_logged && reason == self.last {
            return false;
        }
        if self.reasons.len() >= MAX_REASONS {
            self.reasons.clear();
        }
        reason.clone_into(&mut self.last);
        let allows = self.reasons.entry(reason.to_owned()).or_default().allows();
        self.is_logged |= allows;
        allows
    }

    /// It does not fail any more. Returns whether a line may be logged about that: there was one about the failure.
    #[must_use]
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.is_logged)
    }
}

enum Message {
    Line(String),
    /// The thread drops this when all earlier lines are written.
    Flush(#[expect(dead_code, reason = "its end is the message")] Sender<()>),
}

/// Writes lines on a thread of its own, so that no other thread waits for a reader of standard error.
struct Writer {
    lines: Sender<Message>,
    form: Form,
    level: LevelFilter,
    /// Lines that were dropped since the last one that was written.
    lost: Arc<AtomicU64>,
}

impl Log for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level && metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = self.form.line(now_ms(), record.level(), &record.args().to_string());
            if self.lines.try_send(Message::Line(line)).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn flush(&self) {
        let (done, all_written) = bounded::<()>(0);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            select! {
                recv(all_written) -> _ => {}
                default(FLUSH) => {}
            }
        }
    }
}

/// The form of a line, which also depends on who reads it.
#[derive(Debug, Clone, Copy)]
struct Form {
    format: Format,
    to_journal: bool,
}

impl Form {
    /// A line with its end. A message has no line end of its own: control characters are escaped.
    fn line(self, at_ms: u64, level: Level, message: &str) -> String {
        let mut line = String::with_capacity(message.len() + 64);
        if self.to_journal {
            line.push_str(priority(level));
        }
        let name = level.as_str().to_ascii_lowercase();
        match self.format {
            Format::Json => {
                let _ = write!(line, "{{\"time\":\"{}\",\"level\":\"{name}\",\"message\":\"", rfc3339::format(at_ms));
                push_json(&mut line, message);
                line.push_str("\"}");
            }
            Format::Text => {
                if !self.to_journal {
                    let _ = write!(line, "{} {name} ", rfc3339::format(at_ms));
                }
                push_text(&mut line, message);
            }
        }
        line.push('\n');
        line
    }
}

/// The priority of a line for systemd's journal (sd-daemon(3)): a level of syslog in angle brackets.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Adds the content of a JSON string (RFC 8259, section 7).
fn push_json(line: &mut String, message: &str) {
    for letter in message.chars() {
        match letter {
            '"' | '\\' => line.extend(['\\', letter]),
            // The other controls of Unicode need no escape in JSON, but a terminal acts on them.
            control if control.is_control() => drop(write!(line, "\\u{:04x}", control as u32)),
            letter => line.push(letter),
        }
    }
}

fn push_text(line: &mut String, message: &str) {
    for letter in message.chars() {
        match letter {
            control if control.is_control() => line.extend(control.escape_debug()),
            letter => line.push(letter),
        }
    }
}

/// Whether standard error leads to systemd's journal: `JOURNAL_STREAM` has its device and inode (systemd.exec(5)).
#[must_use]
pub fn is_journal() -> bool {
    let Ok(named) = env::var("JOURNAL_STREAM") else { return false };
    let Some((device, inode)) = named.split_once(':') else { return false };
    let Ok(file) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else { return false };
    file.metadata().is_ok_and(|found| device == found.dev().to_string() && inode == found.ino().to_string())
}

/// The lines of a text on standard error while no logger is installed. Other control characters than line ends are escaped.
#[must_use]
pub fn error_lines(text: &str) -> String {
    let prefix = if is_journal() { priority(Level::Error) } else { "ordercast: " };
    let mut lines = String::new();
    for line in text.split('\n') {
        lines.push_str(prefix);
        push_text(&mut lines, line);
        lines.push('\n');
    }
    lines
}

/// Makes this process write its log lines to standard error, panics too. Does nothing when another logger is installed.
///
/// # Errors
/// When the system refuses a thread.
pub fn install(options: Options) -> io::Result<()> {
    let (sender, entries) = bounded(WAITING);
    let form = Form { format: options.format, to_journal: is_journal() };
    let lost = Arc::<AtomicU64>::default();
    let dropped = lost.clone();
    let write = move || write_lines(&entries, &mut io::stderr(), form, &dropped);
    thread::Builder::new().name("log".into()).stack_size(STACK_BYTES).spawn(write)?;
    if log::set_boxed_logger(Box::new(Writer { lines: sender, form, level: options.level, lost })).is_ok() {
        log::set_max_level(options.level);
        let unlogged = Mutex::<Panics>::default();
        panic::set_hook(Box::new(move |info| log_panic(&unlogged, info)));
    }
    Ok(())
}

/// Writes the lines as they come, and how many were lost before one.
fn write_lines(entries: &Receiver<Message>, to: &mut impl Write, form: Form, lost: &AtomicU64) {
    for entry in entries {
        if let Message::Line(line) = entry {
            // A line that cannot be written is no reason to stop.
            let _ = to.write_all(line.as_bytes());
            let lost = lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let lines = if lost == 1 { "1 line was" } else { &format!("{lost} lines were") };
                let message = format!("{lines} lost about here: nothing read standard error");
                let _ = to.write_all(form.line(now_ms(), Level::Warn, &message).as_bytes());
            }
        }
    }
}

/// Panics since the last line about one: a client that finds one must not fill a disk with lines.
#[derive(Default)]
struct Panics {
    count: u64,
    throttle: Throttle,
}

fn log_panic(unlogged: &Mutex<Panics>, info: &PanicHookInfo<'_>) {
    let mut panics = unlogged.lock().unwrap_or_else(PoisonError::into_inner);
    panics.count += 1;
    if !panics.throttle.allows() {
        return;
    }
    let count = std::mem::take(&mut panics.count);
    drop(panics);
    let more = if count > 1 { &format!(" ({count} panics since the last line about one)") } else { "" };
    let name = thread::current().name().unwrap_or("connection").to_owned();
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text: String = text.unwrap_or_default().chars().take(PANIC_LETTERS).collect();
    let place = info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    log::error!("the {name} thread panicked{place}: {text}; this is a bug{more}");
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_769_860_800_000;

    fn line(format: Format, to_journal: bool, level: Level, message: &str) -> String {
        Form { format, to_journal }.line(NOON, level, message)
    }

    #[test]
    fn a_line_has_the_time_and_level_that_its_reader_does_not_add() {
        for (format, to_journal, expected) in [
            (Format::Text, false, "2026-01-31T12:00:00.000Z warn text\n"),
            (Format::Text, true, "<4>text\n"),
            (Format::Json, false, "{\"time\":\"2026-01-31T12:00:00.000Z\",\"level\":\"warn\",\"message\":\"text\"}\n"),
            (
                Format::Json,
                true,
                "<4>{\"time\":\"2026-01-31T12:00:00.000Z\",\"level\":\"warn\",\"message\":\"text\"}\n",
            ),
        ] {
            assert_eq!(line(format, to_journal, Level::Warn, "text"), expected);
        }
        for (level, expected) in [(Level::Error, "<3>x\n"), (Level::Info, "<6>x\n")] {
            assert_eq!(line(Format::Text, true, level, "x"), expected);
        }
    }

    #[test]
    fn a_message_stays_one_line_and_a_json_string() {
        let message = "a \"quoted\" back\\slash\r\n\t\u{0}\u{1b}[2J\u{7f}\u{85} é €";
        let json = line(Format::Json, false, Level::Info, message);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["message"], message);
        let text = line(Format::Text, false, Level::Info, message);
        for line in [json, text] {
            assert_eq!(line.chars().filter(|letter| letter.is_control()).collect::<String>(), "\n", "{line:?}");
        }
    }

    #[test]
    fn lines_for_which_there_is_no_room_are_counted() {
        let (lines, entries) = bounded(1);
        let form = Form { format: Format::Text, to_journal: true };
        let writer = Writer { lines, form, level: LevelFilter::Info, lost: Arc::default() };
        let log = |text: &str| {
            let target = env!("CARGO_PKG_NAME");
            writer.log(&Record::builder().target(target).level(Level::Info).args(format_args!("{text}")).build());
        };
        ["first", "second", "third"].into_iter().for_each(log);
        let lost = writer.lost.clone();
        drop(writer);
        let mut written = Vec::new();
        write_lines(&entries, &mut written, form, &lost);
        let expected = "<6>first\n<4>2 lines were lost about here: nothing read standard error\n";
        assert_eq!(String::from_utf8_lossy(&written), expected);
    }

    /// Whether there is a line about the present failure after each step: a reason, or `None` for the end.
    fn logged(steps: &[Option<&str>]) -> Vec<bool> {
        let (mut failures, mut is_failing) = (Failures::default(), false);
        let mut step = |step: Option<&str>| {
            let _ = match step {
                Some(reason) => failures.must_log(reason, is_failing),
                None => failures.end(),
            };
            is_failing = step.is_some();
            failures.is_logged
        };
        steps.iter().copied().map(&mut step).collect()
    }

    #[test]
    fn each_reason_is_logged_when_it_begins_and_not_again_within_a_minute() {
        assert_eq!(logged(&[Some("full"), Some("full"), Some("moved"), None]), [true, true, true, false]);
        assert_eq!(logged(&[Some("full"), None, Some("full"), Some("moved")]), [true, false, false, true]);
    }

    #[test]
    fn the_memory_of_reasons_is_bounded() {
        let mut failures = Failures::default();
        for number in 0..10 * MAX_REASONS {
            let _ = failures.must_log(&number.to_string(), true);
        }
        assert!(failures.reasons.len() <= MAX_REASONS);
    }

    #[test]
    fn a_throttle_allows_one_line_a_minute() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.allows_at(), None);
        assert!(throttle.allows() && !throttle.allows());
        assert!(throttle.allows_at().is_some_and(|at| at <= Instant::now() + THROTTLE));
        throttle.last = Instant::now().checked_sub(THROTTLE);
        assert!(throttle.allows());
    }
}
