//! What must hold for any bytes whatsoever. Each `check` panics when it does not, for the fuzz targets in `../targets` and
//! for `tests/sources/fuzz_seeds.rs`, which runs them over `../seeds` in every `cargo test`.
//!
//! Only std and the server's public API are used: `http` and `json` are readers of our own, so that no mistake of a
//! library that the server reads with can hide itself here. They are as plain and strict as they can be, not fast.

#![warn(clippy::pedantic)]

pub mod catalog;
pub mod command;
pub mod command_line;
pub mod http;
pub mod json;
pub mod request;
