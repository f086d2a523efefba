//! The server as a process: flags and environment, standard streams, limits and deadlines, exhausted descriptors and
//! threads, hostile peers, signals and shutdown.
//!
//! A test belongs here if it is about what the operator starts and stops, or about how much a peer can take of it.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod command_line;
mod deadlines;
mod hostile;
mod idle;
mod limits;
mod log;
mod per_address;
mod service;
mod shutdown;
mod signals;
mod standard_streams;
mod starvation;
mod system_limits;
mod terminal;
mod threads;
mod unit;
mod unread;
