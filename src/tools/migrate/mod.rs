//! `ordercast migrate`: makes the tables of a database that several servers share, and sets what it keeps; copies everything
//! from a data folder into a database, or back.

mod copy;

use std::time::{Duration, Instant};

use super::ToolError;
use crate::config::database::Migrate;
use crate::store::StoreError;
use crate::store::postgres::migrate::Keep;
use crate::store::postgres::{Session, Target, migrate};
use crate::store::retention::Retention;

/// How long it may take: a minute, for tables that are changed.
const DEADLINE: Duration = Duration::from_secs(60);

/// What was done.
pub struct Done {
    /// Lines that say what was done.
    pub text: String,
    /// What the user should know beside it.
    pub remarks: Vec<String>,
}

/// Does what the options ask for.
///
/// # Errors
/// When a database cannot be reached or changed, or its tables are of a newer version; when what is to be copied is in use
/// or damaged, or the place for it is not empty. Nothing is changed then, but for tables that were missing.
pub fn run(options: &Migrate) -> Result<Done, ToolError> {
    match options {
        Migrate::Tables { store, keep } => Ok(Done { text: make_tables(store, keep)?, remarks: Vec::new() }),
        Migrate::Copy { from, to } => copy::run(from, to),
    }
}

fn make_tables(store: &Target, keep: &Keep) -> Result<String, ToolError> {
    let deadline = Instant::now() + DEADLINE;
    let mut session = Session::connect(store, deadline).map_err(StoreError::from)?;
    migrate::migrate(&mut session, deadline)?;
    let kept = migrate::keep(&mut session, keep, deadline)?;
    let Retention { keys, max_keys, orders, .. } = kept;
    Ok(format!(
        "{store}: the tables have version {}; keys are kept for {} h, {} of them at a time, and the log keeps {} orders\n",
        migrate::VERSION,
        keys.as_secs() / 3_600,
        max_keys.map_or("any number".to_owned(), |keys| keys.to_string()),
        orders.map_or("all".to_owned(), |orders| orders.to_string()),
    ))
}
