//! The commands that speak to a server: `post` and `watch`.
//!
//! A test belongs here if it runs such a command, against the built server or against a peer that misbehaves.

#[path = "../common/mod.rs"]
mod common;

mod command;
mod input;
mod peer;
mod post;
mod proxy;
mod refusals;
mod terminal;
mod watch;
