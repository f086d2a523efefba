//! The options of `ordercast migrate`, and addresses of databases.

use std::ffi::OsStr;
use std::time::Duration;

use super::Place;
use super::values::{hours, number, text};
use crate::store::Reason;
use crate::store::postgres::Target;
use crate::store::postgres::migrate::Keep;

/// What `ordercast migrate` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migrate {
    /// Makes or updates the tables of a database.
    Tables {
        /// The database.
        store: Target,
        /// What it keeps from now on.
        keep: Keep,
    },
    /// Copies everything into a place that is empty.
    Copy {
        /// Where it is.
        from: Place,
        /// Where it goes.
        to: Place,
    },
}

impl Migrate {
    /// What the options ask for.
    pub(super) fn new(
        store: Option<Target>,
        keep: Keep,
        from: Option<Place>,
        to: Option<Place>,
    ) -> Result<Self, Reason> {
        match (store, from, to) {
            (Some(store), None, None) => Ok(Self::Tables { store, keep }),
            (None, Some(Place::Folder(from)), Some(Place::Folder(_))) => Err(format!(
                "migrate: one of --from and --to must be a URL; `ordercast backup --data {}` copies a folder",
                from.display()
            )
            .into()),
            (None, Some(from), Some(to)) if keep == Keep::default() => Ok(Self::Copy { from, to }),
            (None, Some(_), Some(_)) => {
                Err("migrate: --from and --to do not set what is kept; copy first, and then set it with --store URL, \
                     --keep-keys, --max-keys and --keep-orders"
                    .into())
            }
            (Some(_), _, _) => {
                Err("migrate: ORDERCAST_STORE makes tables, ORDERCAST_FROM and ORDERCAST_TO copy into them; leave one out".into())
            }
            (None, _, _) => Err("migrate needs --store URL to make tables, such as \
                                 postgres://ordercast@db.example/ordercast, or --from and --to, each with a data folder \
                                 or a URL, to copy"
                .into()),
        }
    }
}

/// What does for a database what this command does for a data folder.
pub(super) fn instead_of(command: &str) -> Option<&'static str> {
    match command {
        "check" => Some("PostgreSQL has pg_amcheck, and `ordercast migrate --from URL --to DIR` makes a checked copy"),
        "backup" => Some("use pg_dump --schema=ordercast, or PostgreSQL's continuous archiving"),
        "compact" => Some("PostgreSQL does that by itself (autovacuum); VACUUM FULL gives room back to the disk"),
        "repair" => Some("restore a backup with pg_restore"),
        _ => None,
    }
}

/// The address of a database.
pub(super) fn database(value: &OsStr) -> Result<Target, Reason> {
    Ok(Target::parse(text(value)?)?)
}

/// A data folder, or a database.
pub(super) fn place(value: &OsStr) -> Result<Place, Reason> {
    let is_url = value.to_str().is_some_and(|text| text.contains("://"));
    if is_url { database(value).map(Place::Database) } else { Ok(Place::Folder(value.into())) }
}

/// A cap, or `none`.
pub(super) fn cap(value: &OsStr) -> Result<Option<u64>, Reason> {
    if value == "none" { Ok(None) } else { number(value, 1.., "from 1 on, or none").map(Some) }
}

/// A retention time in hours.
pub(super) fn keep_time(value: &OsStr) -> Result<Option<Duration>, Reason> {
    hours(value).map(Some)
}
