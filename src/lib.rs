//! Ordercast keeps a durable tally of orders per product and shows every change, live, to every subscriber.
//!
//! It is a small synchronous server: one thread per connection, except for idle sessions, which share one; one ledger
//! thread; a fan-out thread for every two cores. It is not a general message broker, a shop, or a database with queries.
//!
//! A program that embeds it binds a [`Server`] to a [`Config`], runs it on a thread, and uses its [`Handle`]:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("ordercast-lib-{}", std::process::id()));
//! let mut config = ordercast::Config::default();
//! config.listen = vec!["127.0.0.1:0".parse()?];
//! config.data = folder.clone();
//! let server = ordercast::Server::bind(&config)?;
//! let handle = server.handle();
//! println!("listening on http://{}", server.addresses()[0]);
//! let running = std::thread::spawn(|| server.run());
//! handle.order("A1", 10, None)?;
//! handle.shutdown();
//! running.join().expect("the server does not panic")?;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! It logs through the `log` facade. ARCHITECTURE.md describes the inside, which has twelve layers;
//! each imports only from those below it:
//!
//! - `server`: listeners, threads, the orderly end.
//! - `edge`: follows another server instead of keeping data; only with the feature `client`.
//! - `api`: from a request to its answer, or to a live feed.
//! - `ledger`: the thread that commits.
//! - `live`: the fan-out threads, subscribers, sessions, and reading the log.
//! - `tools`: the commands for a data folder beside the server.
//! - `client`: the commands that speak to a server; without the feature of this name they are absent.
//! - `config`: flags, environment, defaults.
//! - `json`: JSON from and to our types, and ready-made frames.
//! - `store`: what makes the tally durable: `sqlite` behind the trait `Store`, and `postgres`, whose functions decide in the
//!   database. What both have in common for the ledger is its trait `Engine`.
//! - `http`: HTTP/1.1: bounded requests, deadlines, origins, handshakes; knows no orders.
//! - `tally`: amounts, totals, keys, the catalogue, positions, rates and times; pure rules.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(clippy::pedantic)]
// Casts are reviewed where they stand: indices fit their types by the bounds in `tally::catalog`.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_precision_loss)]
// The module's name is part of the path under which an item is used.
#![allow(clippy::module_name_repetitions)]
// A `match` on an Option reads well where both arms do something.
#![allow(clippy::option_if_let_else, clippy::single_match_else)]

mod api;
#[cfg(feature = "client")]
mod client;
mod config;
#[cfg(feature = "client")]
mod edge;
mod http;
mod json;
mod ledger;
mod live;
mod log;
mod server;
mod store;
mod tally;
mod tools;

pub use api::tokens::TokenFileError;
pub use config::Config;
pub use ledger::Rejection;
pub use server::{Handle, HandleError, ProductTotal, Server, ServerError};
pub use store::StoreError;
#[cfg(feature = "postgres")]
pub use store::postgres::Target as StoreTarget;
pub use store::retention::Retention;
pub use tally::catalog::CatalogError;

/// What the binary, the fuzz targets and the echo example use. It may change in every version.
#[doc(hidden)]
pub mod internal {
    pub use crate::api::routes::answer as answer_problem;
    pub use crate::log::{error_lines, install as install_log};
    pub use crate::server::Caps;
    pub use crate::server::listener::{Listeners, listen};

    #[cfg(feature = "client")]
    pub mod client {
        pub use crate::client::*;
    }
    pub mod config {
        pub use crate::config::*;
    }
    pub mod http {
        pub use crate::http::*;
    }
    pub mod json {
        pub use crate::json::*;
    }
    pub mod live {
        pub use crate::live::{slow_sockets, subscriber, websocket};
    }
    pub mod store {
        pub use crate::store::*;
    }
    pub mod tally {
        pub use crate::tally::*;
    }
    pub mod tools {
        pub use crate::tools::*;
    }
}
