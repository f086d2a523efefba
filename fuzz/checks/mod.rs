//! Properties that hold for any input. Each `check` panics when one does not. The fuzz targets in `../targets` call
//! them, and so does every `cargo test`, with the inputs in `../seeds`.
//!
//! They use std and the server's API only. `http` and `json` are independent readers, so that an error in a library
//! that the server uses is found. They are simple and strict, not fast.

#![warn(clippy::pedantic)]

pub mod catalog;
pub mod command;
pub mod command_line;
pub mod http;
pub mod json;
pub mod request;
