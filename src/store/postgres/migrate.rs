//! Makes the schema, and migrates it. Owns its version; a node that finds the present one needs no right to change it.

use std::time::{Duration, Instant};

use super::error::{NO_RIGHT, PgError};
use super::load::number;
use super::session::Session;
use super::value::{Param, first};
use crate::store::StoreError;
use crate::store::retention::Retention;

/// From an empty database to the present schema. Migrations are only ever added, each with the functions that it needs.
const MIGRATIONS: &[&str] = &[concat!(include_str!("schema.sql"), include_str!("functions.sql"))];

/// The version of the present schema: the number of migrations that it has had.
pub const VERSION: i32 = MIGRATIONS.len() as i32;

/// What texts are kept in.
const ENCODING: &str = "UTF8";

/// Names the lock of those that migrate (`pg_advisory_xact_lock`): the letters `OrdC`, as in a data file.
const LOCK: i64 = 0x4f72_6443;

/// SQLSTATE of a table that does not exist.
const NO_TABLE: &str = "42P01";

/// What a role may not do that is not the owner.
const OWNER: &str =
    "may not make or change tables, nor what they keep: run `ordercast migrate` as the owner of the database";

/// Makes the present schema from an older one or none, in one transaction: on an error nothing is changed. Others that
/// migrate at the same time wait for it.
///
/// # Errors
/// [`StoreError::Unusable`] when the schema is newer, or the role has no right to make it; [`StoreError::Failed`] when the
/// database does not answer.
pub fn migrate(session: &mut Session, deadline: Instant) -> Result<(), StoreError> {
    if version(session, deadline)? == VERSION {
        return Ok(());
    }
    session.script("BEGIN", deadline)?;
    let result = migrate_locked(session, deadline);
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.script(end, deadline);
    result?;
    Ok(ended?)
}

/// What is to be kept; `None` where that stays as it is. An inner `None` removes a cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Retention time of keys.
    pub keys: Option<Duration>,
    /// Cap on keys at a time.
    pub max_keys: Option<Option<u64>>,
    /// Orders that the order log keeps at least.
    pub orders: Option<Option<u64>>,
}

/// Sets what the database keeps, for all its servers. Returns what it keeps now.
///
/// # Errors
/// [`StoreError`] when nothing was set.
pub fn keep(session: &mut Session, keep: &Keep, deadline: Instant) -> Result<Retention, StoreError> {
    let cap = |cap: Option<Option<u64>>| {
        let number = cap.flatten().map(|cap| i64::try_from(cap).unwrap_or(i64::MAX));
        [Param::Bool(cap.is_some()), Param::Int8OrNull(number)]
    };
    let keys_ms = keep.keys.map(|keys| i64::try_from(keys.as_millis()).unwrap_or(i64::MAX));
    let ([sets_keys, keys], [sets_orders, orders]) = (cap(keep.max_keys), cap(keep.orders));
    let sql = "UPDATE ordercast.settings SET keep_keys_ms = coalesce($1, keep_keys_ms),
             max_keys = CASE WHEN $2 THEN $3 ELSE max_keys END, keep_orders = CASE WHEN $4 THEN $5 ELSE keep_orders END
         RETURNING keep_keys_ms, max_keys, keep_orders";
    let params = [Param::Int8OrNull(keys_ms), sets_keys, keys, sets_orders, orders];
    let row = first(session.query(sql, &params, deadline).map_err(|error| of_role(error, OWNER))?)?;
    let cap = |column| row.int8_or_null(column).map(|cap| cap.map(number));
    let keys = Duration::from_millis(number(row.int8(0)?));
    Ok(Retention { keys, max_keys: cap(1)?, orders: cap(2)?, data_bytes: None })
}

/// Finds out whether the database has the present schema, in one round trip.
///
/// # Errors
/// [`PgError::Schema`] says what to do if it has not.
pub fn check(session: &mut Session, deadline: Instant) -> Result<(), PgError> {
    check_version(read_version(session, deadline)?)
}

/// Checks that this version of the schema is the present one.
pub(super) fn check_version(version: i32) -> Result<(), PgError> {
    check_is_known(version)?;
    if version < VERSION { Err(PgError::Schema(missing("tables of an older version"))) } else { Ok(()) }
}

fn missing(has: &str) -> String {
    format!("the database has {has} of ordercast: run `ordercast migrate --store URL` once, as their owner")
}

fn check_is_known(version: i32) -> Result<(), PgError> {
    if version <= VERSION {
        return Ok(());
    }
    Err(PgError::Schema(format!(
        "the database has schema {version}, which a newer version of ordercast has made; this one knows schemas up to \
         {VERSION}: install the newer version on every node"
    )))
}

/// The error of a statement that reads the tables.
pub(super) fn reading(error: PgError) -> PgError {
    match error {
        PgError::Server { code, .. } if code == NO_TABLE => PgError::Schema(missing("no tables")),
        error => of_role(error, "may not use the tables: grant it what docs/scaling.md lists"),
    }
}

fn migrate_locked(session: &mut Session, deadline: Instant) -> Result<(), StoreError> {
    // Another one may take longer than a wait for a lock is allowed otherwise.
    session.script("SET LOCAL lock_timeout = 0", deadline)?;
    session.query("SELECT pg_advisory_xact_lock($1)", &[Param::Int8(LOCK)], deadline)?;
    let version = version(session, deadline)?;
    let missing = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..)).unwrap_or_default();
    for migration in missing {
        session.script(migration, deadline).map_err(|error| of_role(error, OWNER))?;
    }
    if !missing.is_empty() {
        let update = "UPDATE ordercast.version SET version = $1";
        session.query(update, &[Param::Int4(VERSION)], deadline).map_err(|error| of_role(error, OWNER))?;
    }
    Ok(())
}

/// The version of the schema that is there; 0 without one. No error of it ends a transaction.
fn version(session: &mut Session, deadline: Instant) -> Result<i32, PgError> {
    // Not `to_regclass`, which may answer from what this session has cached before it waited for the lock.
    let sql = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'ordercast' AND tablename = 'version'),
         getdatabaseencoding()::text";
    let row = first(session.query(sql, &[], deadline)?)?;
    check_encoding(row.text(1)?)?;
    if !row.bool(0)? {
        return Ok(0);
    }
    let version = read_version(session, deadline)?;
    check_is_known(version).map(|()| version)
}

fn read_version(session: &mut Session, deadline: Instant) -> Result<i32, PgError> {
    let sql = "SELECT version, getdatabaseencoding()::text FROM ordercast.version";
    let row = first(session.query(sql, &[], deadline).map_err(reading)?)?;
    check_encoding(row.text(1)?)?;
    row.int4(0)
}

fn check_encoding(encoding: &str) -> Result<(), PgError> {
    if encoding == ENCODING {
        return Ok(());
    }
    Err(PgError::Schema(format!(
        "the database has the encoding {encoding}, in which not every key and name can be kept: make one with `CREATE \
         DATABASE … ENCODING '{ENCODING}' TEMPLATE template0`"
    )))
}

/// Says what the role has no right to, and what to do, if that is the error.
fn of_role(error: PgError, what: &str) -> PgError {
    match error {
        PgError::Server { code, message } if code == NO_RIGHT => {
            PgError::Schema(format!("the role of the address {what} ({message})"))
        }
        error => error,
    }
}
