//! The terminal of `watch`: its second screen, drawn line by line and left as it was found, also by a signal.

use std::env;
use std::io::{self, Write};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use console::Term;
use signal_hook::consts::{SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::exit_code_of;

/// Second screen on, cursor off, no wrapping (xterm's control sequences: DECSET 1049, DECTCEM, DECAWM).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Whether the terminal cannot move its cursor.
pub(super) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// Whether standard output is a terminal that can be redrawn.
pub(super) fn is_terminal() -> bool {
    Term::stdout().is_term() && !is_dumb()
}

/// The second screen. Dropping it goes back to the first.
pub(super) struct Screen {
    term: Term,
    /// The terminal has another size than what was drawn, or shows something else.
    is_stale: Arc<AtomicBool>,
}

impl Screen {
    /// Enters it. From now on a signal leaves it before the process ends or stops: 0 is the exit code after Ctrl-C, which
    /// is how a person ends a table.
    pub(super) fn enter() -> io::Result<Self> {
        let screen = Self { term: Term::stdout(), is_stale: Arc::new(AtomicBool::new(true)) };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGTSTP, SIGWINCH])?;
        let is_stale = screen.is_stale.clone();
        let watch = move || {
            for signal in signals.forever() {
                if signal != SIGWINCH {
                    // While it is locked, nothing is drawn.
                    let mut output = io::stdout().lock();
                    let _ = write(&mut output, LEAVE);
                    if signal != SIGTSTP {
                        process::exit(if signal == SIGINT { 0 } else { i32::from(exit_code_of(signal)) });
                    }
                    // Returns when the process goes on.
                    let _ = emulate_default_handler(SIGTSTP);
                    let _ = write(&mut output, ENTER);
                }
                is_stale.store(true, Ordering::Relaxed);
            }
        };
        thread::Builder::new().name("signals".into()).spawn(watch)?;
        write(&mut io::stdout().lock(), ENTER)?;
        Ok(screen)
    }

    /// Whether it has to be drawn again; true once.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.swap(false, Ordering::Relaxed)
    }

    /// Width and height, in cells.
    pub(super) fn size(&self) -> (usize, usize) {
        let (height, width) = self.term.size();
        (usize::from(width), usize::from(height))
    }
}

/// Draws these lines, which fit. Each of them, so that what the user typed meanwhile is gone.
pub(super) fn draw(lines: &[String]) -> io::Result<()> {
    let mut text = String::from("\x1b[H");
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push_str("\r\n");
        }
        text.push_str(line);
        text.push_str("\x1b[K");
    }
    text.push_str("\x1b[J");
    write(&mut io::stdout().lock(), &text)
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(&mut io::stdout().lock(), LEAVE);
    }
}

fn write(output: &mut impl Write, text: &str) -> io::Result<()> {
    output.write_all(text.as_bytes())?;
    output.flush()
}
