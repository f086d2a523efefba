//! What every integration test stands on: the server as a real process, an HTTP client that can misbehave, a WebSocket
//! client that can misbehave, a folder that goes away. It uses std alone (and serde_json to look into answers), so that
//! no mistake of a library the server uses can hide itself here.
//!
//! Nothing in the tests sleeps and hopes: everything waits for an event, with a deadline.

#![allow(
    dead_code,
    unused_imports,
    reason = "each integration test compiles this module for itself and uses a part of it"
)]

pub mod disk;
pub mod echo;
pub mod folder;
pub mod http;
pub mod load;
pub mod order_log;
pub mod positions;
pub mod random;
pub mod server;
pub mod temp;
pub mod websocket;

pub use disk::{Disk, Fault};
pub use http::{Client, Reply, exchange};
pub use order_log::Line;
pub use positions::{Form, Positional, Step};
pub use random::{Random, seed};
pub use server::{Builder, Finished, Server, ordercast};
pub use temp::TempDir;
pub use websocket::{Message, WebSocket};

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once, in seconds. Generous, because the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Waits until `condition` holds, and panics with `what` when `deadline` has passed.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells why a test cannot run here. Where `CI` is `true` that is a failure, if it is for want of something that
/// `make deps` or the system brings.
#[track_caller]
pub fn skip(why: &str, is_fault: bool) {
    assert!(!is_fault || env::var("CI").as_deref() != Ok("true"), "{why}");
    // Not `eprintln!`: the test runner captures it, and a skipped test would look like one that has passed.
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

/// Reads as [`Read::read`] does, and begins anew when that was interrupted, as by a pause of the whole machine.
pub fn read(mut from: impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
