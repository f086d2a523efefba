//! What requests mean: from a request to its answer, or to a live feed. Owns the paths, statuses, tokens and the web app.

pub mod assets;
pub mod feed;
mod headers;
pub mod routes;
pub mod service;
pub mod tokens;
