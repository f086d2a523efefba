//! From a request to its answer or to a live feed: paths, statuses, tokens and the web app.

pub mod assets;
mod authorization;
mod catalog_changes;
mod cors;
mod exposition;
pub mod feed;
mod feed_options;
pub mod foreign;
mod headers;
pub mod large_answers;
pub mod metrics;
pub mod metrics_address;
mod order_log;
mod page;
mod passing;
mod periods;
pub mod product_lists;
pub mod rates;
mod route;
pub mod routes;
pub mod service;
pub mod tokens;
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "for servers that follow others"))]
pub mod upstream;
mod web_app;
