//! What requests mean: orders, batches, keys, the order log, products, origins, tokens and the web app's files.
//!
//! A test belongs here if it sends valid HTTP and checks what the server makes of it: the status, the body, the totals.

#[path = "../common/mod.rs"]
mod common;

mod admin_tokens;
mod batches;
mod busy;
mod catalog_changes;
mod categories;
mod clients;
mod guarded;
mod keys;
mod log_filters;
mod order_log;
mod orders;
mod origins;
mod parameters;
mod periods;
mod products;
mod rates;
mod static_files;
mod token_files;
mod tokens;
