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
//! From the bottom up:
//!
//! - [`order`]: amounts and totals, pure integer rules. [`catalog`]: categories, products, ids.
//! - [`store`]: what makes the tally durable; SQLite behind a small trait.
//! - [`wire`]: JSON and ready-made frames. [`assets`]: the web app's files.
//! - [`subscriber`]: a bounded channel and an outbox. [`laggards`]: the thread that waits for slow sockets.
//! - [`fanout`]: the thread that relays each committed order. [`ledger`]: the thread that commits.
//! - [`http`]: bounded requests, deadlines, origins. [`routes`]: from a request to its answer. [`session`]: one live
//!   feed's life.
//! - [`server`]: listeners, threads, the orderly end. [`config`]: flags, environment, defaults.
//! - [`tools`]: the commands for a data folder beside the server.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(clippy::pedantic)]
// Casts are reviewed where they stand: indices fit their types by the bounds in `catalog`.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_precision_loss)]
// The module's name is part of the path under which an item is used.
#![allow(clippy::module_name_repetitions)]
// A `match` on an Option reads well where both arms have something to say.
#![allow(clippy::option_if_let_else, clippy::single_match_else)]

pub mod assets;
pub mod catalog;
pub mod config;
pub mod events;
pub mod fanout;
pub mod feed;
mod guard;
pub mod history;
pub mod http;
pub mod laggards;
pub mod ledger;
mod limits;
pub mod log;
mod net;
pub mod order;
pub mod orders;
pub mod position;
pub mod routes;
pub mod server;
pub mod service;
pub mod session;
pub mod store;
pub mod subscriber;
mod sync;
pub mod tokens;
pub mod tools;
mod turnaway;
pub mod wire;

pub use config::Config;
pub use server::Server;
