//! Ordercast keeps a durable tally of orders per product and shows every change, live, to everyone who is watching.
//!
//! It is a small synchronous server: one thread per connection, one that writes, one that fans out. It is not a general
//! message broker, a shop, or a database with queries.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ordercast::Server::bind(&ordercast::Config::default())?;
//! println!("listening on http://{}", server.addresses()[0]);
//! server.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! The layers, from the bottom up; each imports only from those below it:
//!
//! - [`tally`]: amounts, totals, keys, the catalogue and positions; pure rules.
//! - [`http`]: HTTP/1.1: bounded requests, deadlines, origins, handshakes; knows no orders.
//! - [`store`]: what makes the tally durable; SQLite behind a small trait.
//! - [`json`]: JSON from and to our types, and ready-made frames.
//! - [`config`]: flags, environment, defaults.
//! - [`tools`]: the commands for a data folder beside the server.
//! - [`live`]: the fan-out thread, subscribers, sessions, and reading the log.
//! - [`ledger`]: the thread that commits.
//! - [`api`]: from a request to its answer.
//! - [`server`]: listeners, threads, the orderly end.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(clippy::pedantic)]
// Casts are reviewed where they stand: indices fit their types by the bounds in `catalog`.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_precision_loss)]
// The module's name is part of the path under which an item is used.
#![allow(clippy::module_name_repetitions)]
// A `match` on an Option reads well where both arms have something to say.
#![allow(clippy::option_if_let_else, clippy::single_match_else)]

pub mod api;
pub mod config;
pub mod http;
pub mod json;
pub mod ledger;
pub mod live;
pub mod log;
pub mod server;
pub mod store;
pub mod tally;
pub mod tools;

pub use config::Config;
pub use server::Server;
