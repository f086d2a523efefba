//! What subscribers see, over WebSockets and as server-sent events: snapshots, live totals, positions, slow
//! subscribers.
//!
//! A test belongs here if it follows a feed and checks that its totals are exact, in commit order and up to date.

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "client")]
mod edges;
#[cfg(feature = "client")]
mod edges_hostile;
#[cfg(feature = "client")]
mod edges_load;
#[cfg(feature = "client")]
mod edges_random;
mod events;
mod events_end;
mod fanout_load;
mod fanout_threads;
mod history;
mod moving;
mod paced;
mod paced_load;
mod read_after_write;
mod resume;
mod resume_far;
mod resume_load;
mod shown_again;
mod slow_subscriber;
mod status;
mod websocket;
