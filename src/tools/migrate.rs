//! `ordercast migrate`: makes the tables of a database that several servers share, and sets what it keeps.

use std::time::{Duration, Instant};

use super::ToolError;
use crate::config::database::Migrate;
use crate::store::StoreError;
use crate::store::postgres::{Session, migrate};
use crate::store::retention::Retention;

/// How long it may take: a minute, for tables that are changed.
const DEADLINE: Duration = Duration::from_secs(60);

/// Does what the options ask for. Returns a line that says what was done.
///
/// # Errors
/// When the database cannot be reached or changed, or its tables are of a newer version. Nothing is changed then.
pub fn run(options: &Migrate) -> Result<String, ToolError> {
    let Migrate { store, keep } = options;
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
