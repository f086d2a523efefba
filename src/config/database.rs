//! The options of `ordercast migrate`, and addresses of databases.

use std::ffi::OsStr;
use std::time::Duration;

use super::values::{hours, positive, text};
use crate::store::Reason;
use crate::store::postgres::Target;
use crate::store::postgres::migrate::Keep;

/// What `ordercast migrate` does: it makes or updates the tables of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrate {
    /// The database.
    pub store: Target,
    /// What it keeps from now on.
    pub keep: Keep,
}

impl Migrate {
    /// What the options ask for.
    pub(super) fn new(store: Option<Target>, keep: Keep) -> Result<Self, Reason> {
        let store = store.ok_or("migrate needs --store URL, such as postgres://ordercast@db.example/ordercast")?;
        Ok(Self { store, keep })
    }
}

/// The address of a database.
pub(super) fn database(value: &OsStr) -> Result<Target, Reason> {
    Ok(Target::parse(text(value)?)?)
}

/// A cap, or `none`.
pub(super) fn cap(value: &OsStr) -> Result<Option<u64>, Reason> {
    if value == "none" { Ok(None) } else { positive(value).map(Some) }
}

/// A retention time in hours.
pub(super) fn keep_time(value: &OsStr) -> Result<Option<Duration>, Reason> {
    hours(value).map(Some)
}
