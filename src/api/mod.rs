//! From a request to its answer or to a live feed: paths, statuses, tokens and the web app.

pub mod assets;
mod authorization;
mod cors;
pub mod feed;
pub mod foreign;
mod headers;
mod periods;
pub mod product_lists;
mod route;
pub mod routes;
pub mod service;
pub mod tokens;
mod web_app;
