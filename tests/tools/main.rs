//! The commands beside the server: `export`, `check`, `backup` and `repair`, and data files of other versions.
//!
//! A test belongs here if it runs such a command on a data folder.

#[path = "../common/mod.rs"]
mod common;

mod backup;
mod completions;
mod export;
mod man;
mod odd_files;
mod periods;
mod repair;
mod schema;
