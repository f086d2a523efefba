//! The output of `watch` into a pipe or a file: one line a change.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::json;

/// How often the end of the reader is looked for: ten times a second.
const LOOK: Duration = Duration::from_millis(100);

/// Writes lines, and notices when nobody reads them any more.
pub(super) struct Lines {
    /// Reports the end of a pipe's reader, also while nothing is written. `None` for a file, which has none.
    pipe: Option<(Poll, Events)>,
    is_over: bool,
    looked: Instant,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { pipe: poll_output().ok(), is_over: false, looked: Instant::now() }
    }

    /// Writes a total. Each line is one write, so that no reader sees a part of one.
    pub(super) fn total(&mut self, id: &str, total: i64) -> io::Result<()> {
        match io::stdout().lock().write_all(json::total_line(id, total).as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_over = true;
                Ok(())
            }
            written => written,
        }
    }

    /// Whether the reader of the output is gone.
    pub(super) fn is_over(&mut self) -> bool {
        if let Some((poll, events)) = &mut self.pipe
            && self.looked.elapsed() >= LOOK
            && poll.poll(events, Some(Duration::ZERO)).is_ok()
        {
            self.looked = Instant::now();
            self.is_over |= events.iter().any(|event| event.is_error() || event.is_write_closed());
        }
        self.is_over
    }
}

fn poll_output() -> io::Result<(Poll, Events)> {
    let poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&io::stdout().as_raw_fd()), Token(0), Interest::WRITABLE)?;
    Ok((poll, Events::with_capacity(8)))
}
