//! Opens the data folder, and adds to it what the catalogue file has beside it. Owns what the server's threads are given
//! of a store.

use std::borrow::Cow;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use super::ServerError;
use super::data_check;
use crate::config::{BUILT_IN_CATALOG, Config};
use crate::json;
use crate::ledger::LocalEngine;
use crate::store::files::data_file;
use crate::store::order_log::LogReader;
use crate::store::sqlite::{IntegrityCheck, SqliteStore};
use crate::store::{Reason, StoreError, Stored, seed};
use crate::tally::catalog::{Category, RESERVED_NAMES, SharedCatalog};
use crate::tally::period::CurrentPeriod;

/// An open store.
pub(super) struct Storage<E, L> {
    /// Counts and keeps orders, on the ledger thread.
    pub(super) engine: E,
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
    /// Its data file.
    pub(super) path: PathBuf,
}

/// Opens the data folder of the configuration.
///
/// # Errors
/// [`ServerError`] says what to change.
pub(super) fn open(config: &Config) -> Result<Storage<LocalEngine<SqliteStore>, LogReader>, ServerError> {
    let (store, mut stored) = open_store(config)?;
    let (path, check) = (store.path().to_owned(), store.integrity_check().filter(|_| !store.is_sound()));
    let catalog = Arc::new(RwLock::new(mem::take(&mut stored.catalog)));
    let period = Arc::new(CurrentPeriod { period: stored.period, openings: mem::take(&mut stored.openings) });
    let engine = LocalEngine::new(store, stored.totals.clone(), stored.last_seq, period.clone(), catalog.clone());
    Ok(Storage { engine, log: LogReader::new(&path), catalog, period, stored, check, path })
}

fn open_store(config: &Config) -> Result<(SqliteStore, Stored), ServerError> {
    let (name, file) = match &config.catalog {
        None => ("the built-in catalogue".to_owned(), BUILT_IN_CATALOG.into()),
        Some(path) => {
            let name = path.display().to_string();
            let file = std::fs::read(path)
                .map_err(|error| ServerError::Catalog(Reason::new(format!("{name} cannot be read"), error)))?;
            (name, Cow::Owned(file))
        }
    };
    let named = |why: String| ServerError::Catalog(format!("{name}: {why}").into());
    let wanted = json::parse_catalog(&file).map_err(named)?;
    if data_file(&config.data).is_ok_and(|path| !path.exists()) {
        seed::check(&wanted).map_err(|error| named(error.to_string()))?;
    }
    let (mut store, mut stored) = SqliteStore::open(&config.data, config.retention)?;
    if let Some(check) = store.integrity_check().filter(|_| config.check) {
        data_check::check_first(&check)?;
    }
    for Category { name, .. } in stored.catalog.categories() {
        if RESERVED_NAMES.contains(&name.as_str()) {
            log::warn!(
                "category {name:?} has the name of a route of this version: its totals and feeds stay at /orders/{name}, \
                 and its products are neither listed nor changed"
            );
        }
    }
    // The built-in catalogue is an example: it is only added to an empty folder.
    if config.catalog.is_some() || stored.catalog.categories().is_empty() {
        let former: Vec<String> = stored.catalog.categories().iter().map(|category| category.name.clone()).collect();
        let different = match seed::apply(&mut store, &mut stored, &wanted, json::history_line) {
            Ok(different) => different.map_err(|error| named(error.to_string()))?,
            // What is stored is served all the same.
            Err(error @ (StoreError::Full(_) | StoreError::Failed(_))) if !stored.catalog.categories().is_empty() => {
                log::error!("{name}: its new products could not be added, restart the server later: {error:#}");
                0
            }
            Err(error) => return Err(error.into()),
        };
        if different > 0 {
            let entries = if different == 1 { "1 entry is" } else { &format!("{different} entries are") };
            log::info!(
                "{name}: {entries} in the data folder with other texts, which were kept; change them at the board"
            );
        }
        // A folder that was begun with the sample, for example.
        if !former.is_empty() && stored.catalog.categories().len() > former.len() {
            let former = former.join(", ");
            log::info!("{name}: its new categories were added to those of the data folder, which were kept: {former}");
        }
    }
    Ok((store, stored))
}
