//! The server's log: one line a message on standard error. Owns how a line looks; imports nothing of ours. Nothing is
//! logged per request, so that no input can fill a disk with it.

use std::io::{self, Write};

/// Writes one line. A log that cannot be written is no reason to stop, so errors are dropped.
pub fn line(message: &str) {
    let _ = writeln!(io::stderr().lock(), "ordercast: {message}");
}
