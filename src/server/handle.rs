//! Handle to a server in this process: orders and totals without a connection, reloading, and the end.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::end::End;
use crate::api::service::OrderService;
use crate::api::tokens::{TokenFileError, Tokens};
use crate::ledger::{Order, Rejection};
use crate::live::fanout::Feed;
use crate::tally::order::{Amount, Key, MAX_KEY_BYTES, MAX_TOTAL};

/// Handle to a server; cheap to clone. It does not keep the server alive.
#[derive(Clone)]
pub struct Handle {
    pub(super) end: Sender<End>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) service: Weak<OrderService>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The total of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProductTotal {
    /// The product's id, such as `A1`.
    pub id: String,
    /// The sum of its orders, in pieces.
    pub total: i64,
}

/// Why a [`Handle`] did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// There is no product with this id: add it to the catalogue.
    UnknownProduct(String),
    /// There is no category with this name: add it to the catalogue.
    UnknownCategory(String),
    /// The amount is beyond ±(2^53 − 1).
    InvalidAmount,
    /// The key has no byte, more than 255, or a control character.
    InvalidKey,
    /// The order was rejected; the rejection says whether to repeat it.
    Rejected(Rejection),
    /// The server follows another one: order there, or over HTTP here.
    Follows,
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProduct(id) => write!(f, "there is no product {id:?}"),
            Self::UnknownCategory(name) => write!(f, "there is no category {name:?}"),
            Self::InvalidAmount => write!(f, "the amount must lie between -{MAX_TOTAL} and {MAX_TOTAL}"),
            Self::InvalidKey => write!(f, "a key has 1 to {MAX_KEY_BYTES} bytes and no control characters"),
            Self::Rejected(_) => write!(f, "the order was rejected"),
            Self::Follows => write!(f, "the server follows another one, which takes the orders"),
            Self::Stopped => write!(f, "the server has stopped"),
        }
    }
}

impl std::error::Error for HandleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

impl Handle {
    /// Adds `amount` pieces to a product's total; returns when that is on disk. A repeat with the same `key` is not
    /// counted again.
    ///
    /// # Errors
    /// [`HandleError`] says what to change, or when to repeat the order.
    pub fn order(&self, id: &str, amount: i64, key: Option<&str>) -> Result<(), HandleError> {
        let service = self.service()?;
        if service.feeds.upstream.is_some() {
            return Err(HandleError::Follows);
        }
        let catalog = &service.feeds.catalog;
        let product = catalog.read().unwrap_or_else(PoisonError::into_inner).find_product(id);
        let product = product.ok_or_else(|| HandleError::UnknownProduct(id.to_owned()))?;
        let amount = Amount::new(amount).ok_or(HandleError::InvalidAmount)?;
        let key = key.map(|key| Key::new(key).ok_or(HandleError::InvalidKey)).transpose()?;
        service.ledger.order(Order { product, amount, key }).map_err(|rejection| match rejection {
            Rejection::Stopping => HandleError::Stopped,
            rejection => HandleError::Rejected(rejection),
        })
    }

    /// The current total of each product of a category that is not hidden, in the order of the catalogue. Contains every
    /// order that was answered before the call.
    ///
    /// # Errors
    /// [`HandleError::UnknownCategory`], and [`HandleError::Stopped`].
    pub fn totals(&self, category: &str) -> Result<Vec<ProductTotal>, HandleError> {
        let service = self.service()?;
        let catalog = || service.feeds.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let index = catalog().find_category(category);
        let index = index.ok_or_else(|| HandleError::UnknownCategory(category.to_owned()))?;
        let totals = service.feeds.fanout.product_totals(Feed::Category(index)).ok_or(HandleError::Stopped)?;
        let catalog = catalog();
        let named = |(product, total): (_, crate::tally::order::Total)| ProductTotal {
            id: catalog.product(product).id.clone(),
            total: total.get(),
        };
        Ok(totals.into_iter().map(named).collect())
    }

    /// Asks the server to answer what is in flight, to close its sessions, and to return from
    /// [`Server::run`](super::Server::run).
    pub fn shutdown(&self) {
        self.shutdown_because("it was asked to");
    }

    /// Like [`Self::shutdown`], with a reason for the log, such as the name of a signal.
    pub fn shutdown_because(&self, reason: impl Into<Cow<'static, str>>) {
        // A full channel holds another reason to end.
        let _ = self.end.try_send(End::Asked(reason.into()));
    }

    /// Whether the threads that take and relay orders answer within `patience`, for a supervisor such as systemd's
    /// watchdog. One that waits for the disk counts as answering, because a new process would wait for the same disk;
    /// `GET /readyz` tells of that.
    #[must_use]
    pub fn is_responsive(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        self.service().is_ok_and(|service| {
            let has_ledger = service.feeds.upstream.is_none();
            // The ledger last: while the disk hangs, asking it lasts until the deadline.
            service.feeds.fanout.answers(deadline) && (!has_ledger || service.ledger.answers(deadline))
        })
    }

    /// Reads the token files again. Without token files it does nothing.
    ///
    /// # Errors
    /// [`TokenFileError`]; the tokens stay as they were.
    pub fn reload(&self) -> Result<(), TokenFileError> {
        self.tokens.reload()
    }

    fn service(&self) -> Result<Arc<OrderService>, HandleError> {
        self.service.upgrade().ok_or(HandleError::Stopped)
    }
}
