//! What needs no server process: the library as other programs embed it, the seeds of the fuzz targets, and the layers
//! of `src/`.
//!
//! A test belongs here if it reads files of the repository, or calls the library instead of the built binary.

#[path = "../common/mod.rs"]
mod common;
mod documents;
mod embedding;
mod fuzz_seeds;
mod layers;
