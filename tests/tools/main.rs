//! The commands beside the server: `export`, `report`, `check`, `backup`, `compact` and `repair`, completions and the man
//! page, and data files of other versions.
//!
//! A test belongs here if it runs such a command on a data folder.

#[path = "../common/mod.rs"]
mod common;

mod backup;
mod backup_folder;
mod compact;
mod completions;
mod export;
mod man;
mod odd_files;
mod output;
mod periods;
mod repair;
mod report;
mod schema;
