//! Why a call to the database failed.

use std::{error, fmt};

use crate::store::{self, StoreError};

/// Why a call failed. Each variant says what the caller may do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgError {
    /// The database cannot be reached, or takes no changes. The session is broken: connect again.
    Away {
        /// What happened.
        reason: Reason,
        /// Whether the database may have done what was asked: something of the call was sent, and no answer came.
        may_have_run: bool,
    },
    /// The database refused the call. Nothing of the statement was kept, and the session goes on.
    Server {
        /// The SQLSTATE, five characters.
        code: String,
        /// What the server says of it.
        message: String,
    },
    /// The database has other tables than this version needs, or its role may not use them; says what to do.
    Schema(String),
    /// The server sent what this client does not expect, or something here is configured wrongly; says what. The call
    /// may have run.
    Unexpected(String),
}

/// What happened to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There was no answer in time.
    Deadline,
    /// An earlier call has broken the session.
    Broken,
    /// The connection could not be made, or has ended; says why.
    Connection(String),
    /// The server says that it shuts down, starts, has no room for a session, or is a standby.
    Server {
        /// The SQLSTATE.
        code: String,
        /// What the server says of it.
        message: String,
    },
}

/// SQLSTATE of a change that a standby refuses.
pub(super) const READ_ONLY: &str = "25006";

impl PgError {
    /// A connection that could not be made, or failed before anything of the call was sent.
    pub(super) fn unreachable(why: impl fmt::Display) -> PgError {
        PgError::Away { reason: Reason::Connection(why.to_string()), may_have_run: false }
    }

    /// What the server's error means: about the statement, or that the server is away.
    pub(super) fn of_server(code: String, message: String) -> PgError {
        // Shutdown, start, too many sessions, classes of the connection. A statement on a standby did not run.
        let is_away =
            matches!(code.as_str(), "57P01" | "57P02" | "57P03" | "53300" | READ_ONLY) || code.starts_with("08");
        if !is_away {
            return PgError::Server { code, message };
        }
        let may_have_run = code != READ_ONLY;
        PgError::Away { reason: Reason::Server { code, message }, may_have_run }
    }

    /// Whether the call may have run, though it failed.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            PgError::Away { may_have_run, .. } => *may_have_run,
            PgError::Server { .. } | PgError::Schema(_) => false,
            PgError::Unexpected(_) => true,
        }
    }
}

/// SQLSTATE of a disk that is full.
const DISK_FULL: &str = "53100";
/// SQLSTATE of a lock that somebody else has held for too long.
const LOCKED: &str = "55P03";
/// SQLSTATE of a database that does not exist.
const NO_DATABASE: &str = "3D000";
/// SQLSTATE of what the role has no right to.
pub(super) const NO_RIGHT: &str = "42501";

/// A call that cannot have changed anything, or was taken back.
impl From<PgError> for StoreError {
    fn from(error: PgError) -> Self {
        match &error {
            PgError::Away { .. } => Self::Away(store::Reason::new("the database cannot be reached", error)),
            PgError::Server { code, .. } if code == DISK_FULL => {
                Self::Full(store::Reason::new("no space is left for the database", error))
            }
            PgError::Server { code, .. } if code == NO_DATABASE => {
                Self::Failed(store::Reason::new("there is no such database: create it, or correct its name", error))
            }
            PgError::Server { code, .. } if code == LOCKED => Self::Failed(store::Reason::new(
                "a lock in the database was held for too long, by a transaction that somebody has left open (pg_locks says \
                 whose), or by a commit that waits for a standby",
                error,
            )),
            PgError::Server { code, .. } if code == NO_RIGHT => Self::Failed(store::Reason::new(
                "the role lacks a right in the database: grant it what docs/scaling.md lists",
                error,
            )),
            PgError::Schema(what) => Self::Unusable(what.clone().into()),
            _ => Self::Failed(store::Reason::new("the database refused what it was asked", error)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Deadline => write!(f, "no answer in time"),
            Reason::Broken => write!(f, "the connection has failed before"),
            Reason::Connection(why) => write!(f, "{why}"),
            Reason::Server { code, message } => write!(f, "{message} (SQLSTATE {code})"),
        }
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PgError::Away { reason, .. } => reason.fmt(f),
            PgError::Schema(what) => f.write_str(what),
            PgError::Server { code, message } => write!(f, "PostgreSQL refused: {message} (SQLSTATE {code})"),
            PgError::Unexpected(what) => write!(f, "PostgreSQL: {what}"),
        }
    }
}

impl error::Error for PgError {}
