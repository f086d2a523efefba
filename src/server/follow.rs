//! Begins to follow another server, which takes the place of a store.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use super::ServerError;
use super::data_folder::Storage;
use crate::config::Config;
use crate::config::client::Access;
use crate::edge::{Edge, UpstreamLog};
use crate::ledger::LocalEngine;
use crate::store::Stored;
use crate::store::sqlite::SqliteStore;
use crate::tally::catalog::SharedCatalog;

/// How long the start waits for the other server: 10 s. Then it serves without products, and says that it is stale, until
/// that server answers.
const BEGIN: Duration = Duration::from_secs(10);

/// Prepares to follow the server that the configuration names.
///
/// # Errors
/// [`ServerError::FollowToken`].
pub(super) fn open(config: &Config) -> Result<Storage<LocalEngine<SqliteStore>, UpstreamLog>, ServerError> {
    let url = config.follow.clone().unwrap_or_default();
    let access = Access { server: url.clone(), token_file: config.follow_token_file.clone(), timeout: None };
    let catalog = SharedCatalog::new(RwLock::default());
    let edge = Edge::new(access, catalog.clone());
    let (edge, log) = edge.map_err(|error| ServerError::FollowToken(error.to_string().into()))?;
    Ok(Storage {
        engine: None,
        follow: Some(Box::new(move |fanout, sentinel| {
            let (following, thread) = edge.start(fanout, sentinel)?;
            if !following.wait(Instant::now() + BEGIN) {
                log::warn!("nothing is known yet of the server to follow; it is tried again and again");
            }
            Ok((Arc::new(following), thread))
        })),
        log,
        catalog,
        period: Arc::default(),
        stored: Stored::default(),
        check: None,
        place: url,
    })
}
