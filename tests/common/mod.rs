//! Helpers of all test binaries: the server as a real process, HTTP and WebSocket clients that can break the protocol,
//! temporary folders, disk faults. They use only std, and serde_json to parse responses, so that the tests do not share
//! a library's mistake with the server. What only one binary uses is in its folder.
//!
//! A test waits for an event with a deadline, never for a fixed time.

#![allow(dead_code, unused_imports, reason = "every test binary compiles this module and uses a part of it")]

pub mod disk;
pub mod echo;
pub mod folder;
pub mod history;
pub mod http;
pub mod load;
pub mod order_log;
pub mod parcels;
pub mod periods;
pub mod positions;
pub mod postgres;
pub mod random;
pub mod rates;
pub mod relay;
pub mod server;
pub mod shared_store;
pub mod small_disk;
pub mod temp;
pub mod websocket;

pub use disk::{Disk, Fault};
pub use http::{Client, Reply, exchange};
pub use order_log::Line;
pub use positions::{Form, Positional, Step};
pub use postgres::{Cluster, Stop};
pub use random::{Random, seed};
pub use relay::Relay;
pub use server::{Builder, Finished, Server, ordercast};
pub use shared_store::SharedStore;
pub use small_disk::SmallDisk;
pub use temp::TempDir;
pub use websocket::{Message, WebSocket};

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once. Generous, because the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Waits until `condition` holds, and panics with `what` when `deadline` has passed.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Prints why a test is skipped. Where `CI` is `true`, a test that lacks something that `make deps` or the system
/// installs (`is_fault`) fails instead.
#[track_caller]
pub fn skip(why: &str, is_fault: bool) {
    assert!(!is_fault || env::var("CI").as_deref() != Ok("true"), "{why}");
    // Not `eprintln!`, whose output the test runner captures: a skipped test would look like one that passed.
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

/// Like [`Read::read`], but tries again when it was interrupted, for example by a pause of the machine.
pub fn read(mut from: impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
