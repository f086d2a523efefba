//! WebSockets on the wire (RFC 6455): the opening handshake, frames, fragments, UTF-8, sizes, the closing handshake.
//!
//! A test belongs here if it is about frames, not about what the messages in them mean: that is `feeds`.

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod close;
mod fragments;
mod frames;
mod handshake;
mod heads;
mod rules;
mod sizes;
mod utf8;
