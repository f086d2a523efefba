//! Logging: the library uses the `log` facade, and [`install`] makes the binary write its lines to standard error.
//! Nothing is logged per request or per session, so no input can fill a disk with log lines.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, select};
use log::{LevelFilter, Log, Metadata, Record};

/// Lines that wait while nobody reads standard error; further ones are dropped.
const WAITING: usize = 64;
/// How long [`Log::flush`] waits for the last lines: 200 ms.
const FLUSH: Duration = Duration::from_millis(200);
/// The thread's stack.
const STACK_BYTES: usize = 64 * 1024;
/// How often a repeated failure is logged: once a minute.
const THROTTLE: Duration = Duration::from_secs(60);

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
}

enum Message {
    Line(String),
    /// The thread drops this when all earlier lines are written.
    Flush(#[expect(dead_code, reason = "its end is the message")] Sender<()>),
}

/// Writes lines on a thread of its own, so that no other thread waits for a reader of standard error.
struct Writer(Sender<Message>);

impl Log for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = self.0.try_send(Message::Line(record.args().to_string()));
        }
    }

    fn flush(&self) {
        let (done, all_written) = bounded::<()>(0);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            select! {
                recv(all_written) -> _ => {}
                default(FLUSH) => {}
            }
        }
    }
}

/// Makes this process write its log lines to standard error. Does nothing when another logger is installed.
///
/// # Errors
/// When the system refuses a thread.
pub fn install() -> io::Result<()> {
    let (sender, entries) = bounded(WAITING);
    let write = move || {
        for entry in entries {
            if let Message::Line(line) = entry {
                // A line that cannot be written is no reason to stop.
                let _ = writeln!(io::stderr(), "ordercast: {line}");
            }
        }
    };
    thread::Builder::new().name("log".into()).stack_size(STACK_BYTES).spawn(write)?;
    if log::set_boxed_logger(Box::new(Writer(sender))).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    Ok(())
}
