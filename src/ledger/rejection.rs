//! Why the ledger rejected a change, and what the requester can do. Knows no status codes.

use std::fmt;

use crate::store::StoreError;
use crate::tally::catalog::CatalogError;
use crate::tally::order::MAX_TOTAL;

/// Why a change was not made. Nothing of it is counted, unless it is [`Rejection::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The total would leave ±(2^53 − 1): order less.
    TotalOutOfRange,
    /// The catalogue holds as many products as it may, or does not take this one.
    NotInCatalog(CatalogError),
    /// A product has this id already: choose another.
    IdInUse(String),
    /// A category has this name already: change that one, or choose another name.
    CategoryExists(String),
    /// The product is hidden, and takes no new order until it is shown again.
    Hidden,
    /// Another period is the current one: close that one, if it is the one that is meant.
    NotCurrentPeriod {
        /// The number that was sent.
        number: u64,
        /// The number of the current period.
        current: u64,
    },
    /// The key was used for another order: use a new one.
    KeyReused,
    /// As many keys are stored as may be: order without a key, or try again when older keys have expired.
    KeysFull,
    /// The order at this index of a batch was rejected, and so the whole batch was.
    InBatch(usize, Box<Rejection>),
    /// No space is left for the data: try again when the operator has made room.
    StoreFull,
    /// The data file has reached `--max-data-bytes`: try again when the operator has raised that or made room.
    StoreAtCap,
    /// The disk failed: try again.
    StoreRefused,
    /// The data file may not be written: try again when the operator has acted.
    StoreForbidden,
    /// The data file was moved, replaced or damaged, as the text says: try again when the operator has acted.
    StoreUnusable(String),
    /// The disk or the database does not answer: try again.
    StoreHangs,
    /// The database cannot be reached: try again.
    StoreAway,
    /// The disk failed or hung in the middle of it: whether it counts is known once the disk works or the server is
    /// back.
    Unknown,
    /// The server is shutting down: try again when it is back.
    Stopping,
}

/// The reasons by which rejections are counted, in the order of [`Rejection::reason`].
pub(super) const REASONS: [&str; 15] = [
    "total_out_of_range",
    "not_in_catalog",
    "id_in_use",
    "category_exists",
    "hidden",
    "not_current_period",
    "key_reused",
    "keys_full",
    "store_full",
    "store_failed",
    "store_unusable",
    "store_hangs",
    "store_away",
    "unknown",
    "stopping",
];

impl Rejection {
    /// The index of its reason in [`REASONS`]; of a batch's rejection that of the order that caused it.
    pub(super) fn reason(&self) -> usize {
        match self {
            Self::InBatch(_, rejection) => rejection.reason(),
            Self::TotalOutOfRange => 0,
            Self::NotInCatalog(_) => 1,
            Self::IdInUse(_) => 2,
            Self::CategoryExists(_) => 3,
            Self::Hidden => 4,
            Self::NotCurrentPeriod { .. } => 5,
            Self::KeyReused => 6,
            Self::KeysFull => 7,
            Self::StoreFull | Self::StoreAtCap => 8,
            Self::StoreRefused => 9,
            Self::StoreUnusable(_) | Self::StoreForbidden => 10,
            Self::StoreHangs => 11,
            Self::StoreAway => 12,
            Self::Unknown => 13,
            Self::Stopping => 14,
        }
    }
}

/// What is said of [`Rejection::StoreForbidden`].
pub const FORBIDDEN: &str = "the data file cannot be written, because of its permissions or of a read-only file system; \
                             the operator finds the cause in the server's log";

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TotalOutOfRange => {
                write!(f, "the total would leave the range from -{MAX_TOTAL} to {MAX_TOTAL}; order less")
            }
            Self::NotInCatalog(error) => error.fmt(f),
            Self::IdInUse(id) => {
                write!(f, "there is a product {id:?} already; send another id, or none to get the next free one")
            }
            Self::CategoryExists(name) => write!(f, "there is a category {name:?} already"),
            Self::Hidden => write!(f, "the product is hidden and takes no orders; nothing was counted"),
            Self::NotCurrentPeriod { number, current } if number < current => {
                write!(f, "period {number} is closed already; period {current} is the current one")
            }
            Self::NotCurrentPeriod { number, current } => {
                write!(f, "there is no period {number} yet; period {current} is the current one")
            }
            Self::StoreFull => write!(f, "no space is left for the data; nothing was counted, try again later"),
            Self::StoreAtCap => write!(
                f,
                "the data file has reached --max-data-bytes; nothing was counted, try again when the operator has raised \
                 that or made room"
            ),
            Self::StoreRefused => write!(f, "the data could not be written; nothing was counted, try again"),
            Self::StoreForbidden => write!(f, "{FORBIDDEN}; nothing was counted"),
            Self::StoreUnusable(what) => write!(f, "{what}; nothing was counted"),
            Self::StoreHangs => {
                write!(f, "the disk does not answer; nothing was counted, try again later")
            }
            Self::StoreAway => write!(f, "the database cannot be reached; nothing was counted, try again later"),
            Self::Unknown => write!(
                f,
                "the disk or the database failed, or the data file was moved, in the middle of it, and whether it counts is not known yet; \
                 send it again with the same key, or compare the total first"
            ),
            Self::KeyReused => write!(f, "this key was used for another order; give every order a key of its own"),
            Self::KeysFull => write!(
                f,
                "the server stores as many keys as --max-keys allows; nothing was counted, send it without a key, or again \
                 when older keys have expired"
            ),
            Self::InBatch(place, rejection) => write!(f, "order {}: {rejection}", place + 1),
            Self::Stopping => write!(f, "the server is shutting down; nothing was counted, try again"),
        }
    }
}

impl std::error::Error for Rejection {}

impl From<CatalogError> for Rejection {
    fn from(error: CatalogError) -> Self {
        Self::NotInCatalog(error)
    }
}

impl From<&StoreError> for Rejection {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full(_) => Self::StoreFull,
            StoreError::AtCap(_) => Self::StoreAtCap,
            StoreError::Unknown(_) => Self::Unknown,
            StoreError::Away(_) => Self::StoreAway,
            StoreError::Displaced(_) => Self::StoreUnusable(error.to_string()),
            // The error's own text has the path and commands, for the log.
            StoreError::Damaged(_) => Self::StoreUnusable(
                "the data file is damaged; the operator has to repair it or to restore a backup".to_owned(),
            ),
            _ if error.forbids_writing_only() => Self::StoreForbidden,
            _ => Self::StoreRefused,
        }
    }
}
