//! The server's log: one line a message on standard error. Owns how a line looks, and that nobody waits for whoever
//! reads it. Nothing is logged per request or per session, so that no input can fill a disk with it.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, select};

/// Lines that wait while nobody reads standard error; what comes on top is dropped.
const WAITING: usize = 64;
/// How long the end of the process waits for the last lines: 200 ms.
const FLUSH: Duration = Duration::from_millis(200);
/// The thread's stack.
const STACK_BYTES: usize = 64 * 1024;

enum Entry {
    Line(String),
    /// Everything before it has been written once this is dropped.
    Flush(#[expect(dead_code, reason = "its end is the message")] Sender<()>),
}

/// The one piece of global state: standard error is one for the whole process, and so is the thread that writes to it.
static ENTRIES: LazyLock<Option<Sender<Entry>>> = LazyLock::new(|| {
    let (sender, entries) = bounded::<Entry>(WAITING);
    let write = move || {
        for entry in entries {
            if let Entry::Line(line) = entry {
                // A log that cannot be written is no reason to stop.
                let _ = writeln!(io::stderr(), "ordercast: {line}");
            }
        }
    };
    thread::Builder::new().name("log".into()).stack_size(STACK_BYTES).spawn(write).ok().map(|_| sender)
});

/// Starts the thread that writes, so that there is one when no further thread can be had.
pub fn start() {
    LazyLock::force(&ENTRIES);
}

/// Writes one line, soon. Never waits.
pub fn line(message: &str) {
    if let Some(entries) = &*ENTRIES {
        let _ = entries.try_send(Entry::Line(message.to_owned()));
    }
}

/// Waits a moment for the lines that have been logged: for the end of the process.
pub fn flush() {
    let (done, all_written) = bounded::<()>(0);
    if let Some(entries) = &*ENTRIES
        && entries.try_send(Entry::Flush(done)).is_ok()
    {
        select! {
            recv(all_written) -> _ => {}
            default(FLUSH) => {}
        }
    }
}
