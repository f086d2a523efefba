//! PostgreSQL as a store that several servers share.
//!
//! `session` and what is below it are a client of its protocol on blocking sockets: every call has a deadline, so that a
//! database that does not answer holds no thread. Orders are counted by functions of the database (`functions.sql`); the
//! other files ask for that, and read and write the rest. The client knows connections and values, not orders.

// PostgreSQL is a name, not code.
#![allow(clippy::doc_markdown)]

pub mod changes;
mod error;
mod hang_up;
mod listener;
pub mod load;
pub mod log;
pub mod migrate;
mod node;
mod page;
mod passfile;
mod session;
mod startup;
mod target;
mod tls;
mod value;
mod wire;

pub use error::{PgError, Reason};
pub use hang_up::HangUp;
pub use listener::{ASK_AFTER, EVERYTHING, Listener};
pub use load::Loaded;
pub use log::PgLogReader;
pub use node::{Batch, Commit, Node, Refusal, Verdict};
pub use page::{Line, News, Page, Place, What};
pub use session::{Notification, Session};
pub use target::Target;
pub use value::{Param, Row};
