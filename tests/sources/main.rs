//! The sources themselves, without a server process: the seeds of the fuzz targets, and the layers of `src/`.
//!
//! A test belongs here if it reads files of the repository, or calls the library instead of the built binary.

mod fuzz_seeds;
mod layers;
