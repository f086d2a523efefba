//! Opens the data folder, and adds to it what the catalogue file has beside it. Owns what the server's threads are given
//! of a store.

use std::io;
use std::mem;
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use super::ServerError;
use super::catalog_file::{self, CatalogFile};
use super::data_check;
use super::end::Sentinel;
use crate::api::upstream::Upstream;
use crate::config::Config;
use crate::json;
use crate::ledger::LocalEngine;
use crate::live::fanout::FanoutHandle;
use crate::store::files::data_file;
use crate::store::order_log::LogReader;
use crate::store::sqlite::{IntegrityCheck, SqliteStore};
use crate::store::{StoreError, Stored, seed};
use crate::tally::catalog::SharedCatalog;
use crate::tally::period::CurrentPeriod;

/// Begins to follow another server, with a sentinel for its thread.
pub(super) type Follow =
    Box<dyn FnOnce(FanoutHandle, Sentinel) -> io::Result<(Arc<dyn Upstream>, JoinHandle<()>)> + Send>;

/// An open store, or another server in its place.
pub(super) struct Storage<E, L> {
    /// Counts and keeps orders, on the ledger thread; `None` on a server that follows another one.
    pub(super) engine: Option<E>,
    /// Begins to follow another server.
    pub(super) follow: Option<Follow>,
    /// Reads the log, on the history thread.
    pub(super) log: L,
    /// The catalogue that it held, which the engine changes.
    pub(super) catalog: SharedCatalog,
    /// The current period that it held.
    pub(super) period: Arc<CurrentPeriod>,
    /// What else it held. The catalogue and the openings are in the two fields above.
    pub(super) stored: Stored,
    /// The check of its data, if it needs one.
    pub(super) check: Option<IntegrityCheck>,
    /// Where it is, for the log.
    pub(super) place: String,
}

/// Opens the data folder of the configuration.
///
/// # Errors
/// [`ServerError`] says what to change.
pub(super) fn open(config: &Config) -> Result<Storage<LocalEngine<SqliteStore>, LogReader>, ServerError> {
    let (store, mut stored) = open_store(config)?;
    // A relative path begins where the server was started, which the reader of a log does not see.
    let path = std::path::absolute(store.path()).unwrap_or_else(|_| store.path().to_owned());
    let (place, check) = (path.display().to_string(), store.integrity_check().filter(|_| !store.is_sound()));
    let catalog = Arc::new(RwLock::new(mem::take(&mut stored.catalog)));
    let period = Arc::new(CurrentPeriod { period: stored.period, openings: mem::take(&mut stored.openings) });
    let engine = LocalEngine::new(store, stored.totals.clone(), stored.last_seq, period.clone(), catalog.clone());
    Ok(Storage {
        engine: Some(engine),
        follow: None,
        log: LogReader::new(&path),
        catalog,
        period,
        stored,
        check,
        place,
    })
}

fn open_store(config: &Config) -> Result<(SqliteStore, Stored), ServerError> {
    let file = CatalogFile::read(config)?;
    if data_file(&config.data).is_ok_and(|path| !path.exists()) {
        seed::check(&file.wanted).map_err(|broken| file.error(&broken))?;
    }
    let (mut store, mut stored) = SqliteStore::open(&config.data, config.retention)?;
    if let Some(check) = store.integrity_check().filter(|_| config.check) {
        data_check::check_first(&check)?;
    }
    catalog_file::warn_of_reserved_names(&stored.catalog);
    if file.belongs_into(&stored.catalog) {
        let former = catalog_file::names(&stored.catalog);
        let different = match seed::apply(&mut store, &mut stored, &file.wanted, json::history_line) {
            Ok(different) => different.map_err(|broken| file.error(&broken))?,
            Err(error @ (StoreError::Full(_) | StoreError::Failed(_) | StoreError::Forbidden(_)))
                if !former.is_empty() =>
            {
                file.log_failure(&error);
                0
            }
            Err(error) => return Err(error.into()),
        };
        file.log_what_was_kept("data folder", different, &former, &stored.catalog);
    }
    Ok((store, stored))
}
