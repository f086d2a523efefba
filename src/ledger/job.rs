//! What the ledger thread is asked for.

use crossbeam_channel::Sender;

use super::catalog_changes::CatalogChange;
use super::rejection::Rejection;
use super::reply::Reply;
use super::request::Request;
use crate::store::Figures;
use crate::tally::period::Report;

/// One thing that it is asked for.
pub(super) enum Job {
    Count {
        request: Request,
        reply: Reply,
    },
    Catalog {
        change: CatalogChange,
        reply: Reply,
    },
    ClosePeriod {
        number: u64,
        /// Gets the report before `reply` gets its outcome.
        report: Sender<Report>,
        reply: Reply,
    },
    /// Answered at once.
    Ping(Sender<()>),
    /// Disconnected once the store has been inspected.
    Inspect(Sender<()>),
    /// Gets what the store holds.
    Measure(Sender<Figures>),
    /// Disconnected once the store is closed.
    Stop(Sender<()>),
}

impl Job {
    /// Rejects it, if it waits for an outcome.
    pub(super) fn reject(self, rejection: Rejection) {
        match self {
            Self::Count { reply, .. } | Self::Catalog { reply, .. } | Self::ClosePeriod { reply, .. } => {
                reply.send(Err(rejection));
            }
            Self::Ping(_) | Self::Inspect(_) | Self::Measure(_) | Self::Stop(_) => {}
        }
    }
}
