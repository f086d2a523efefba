//! What needs no server process: the library as other programs embed it, the seeds of the fuzz targets, the layers of
//! `src/`, and what the documents say of the source.
//!
//! A test belongs here if it reads files of the repository, or calls the library instead of the built binary.

#[path = "../common/mod.rs"]
mod common;

mod bare_server;
mod capacity;
mod documents;
mod embedding;
mod fuzz_seeds;
mod layers;
mod statuses;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The Rust files below a folder of the repository with their texts, by their path in that folder.
fn rust_files(folder: &str) -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut folders, mut files) = (vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.insert(path.strip_prefix(&root).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}
