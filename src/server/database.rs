//! Opens a database that several servers share, and adds to it what the catalogue file has beside it.

use std::mem;
use std::sync::{Arc, RwLock};

use super::ServerError;
use super::catalog_file::{self, CatalogFile};
use super::data_folder::Storage;
use super::database_watch::Watch;
use crate::config::Config;
use crate::json;
use crate::ledger::{Following, PostgresEngine, View};
use crate::store::postgres::{Listener, Loaded, Node, PgLogReader, Place, Target};
use crate::store::seed::{self, Plan};
use crate::tally::period::CurrentPeriod;

/// Opens the database at `target`; returns also what watches it.
///
/// # Errors
/// [`ServerError`] says what to change.
pub(super) fn open(
    config: &Config,
    target: &Target,
) -> Result<(Storage<PostgresEngine, PgLogReader>, Watch), ServerError> {
    let file = CatalogFile::read(config)?;
    let (mut node, loaded) = Node::open(target.clone())?;
    let mut loaded = add_catalog(&mut node, loaded, &file)?;
    catalog_file::warn_of_reserved_names(&loaded.stored.catalog);
    let stored = &mut loaded.stored;
    let catalog = Arc::new(RwLock::new(mem::take(&mut stored.catalog)));
    let period = Arc::new(CurrentPeriod { period: stored.period, openings: mem::take(&mut stored.openings) });
    let view = View::new(&loaded, period.clone(), catalog.clone());
    let following = Arc::<Following>::default();
    let (log, place) = (PgLogReader::new(target.clone()), target.to_string());
    let listener = Listener::new(target.clone(), node.id());
    let watch = Watch { listener, others: [node.hang_up(), log.hang_up()], following: following.clone() };
    let engine = Some(PostgresEngine::new(node, view, following));
    let stored = loaded.stored;
    Ok((Storage { engine, follow: None, log, catalog, period, stored, check: None, place }, watch))
}

/// Adds what the catalogue file has beside the database. Servers that start at the same time wait for each other.
fn add_catalog(node: &mut Node, mut loaded: Loaded, file: &CatalogFile) -> Result<Loaded, ServerError> {
    while file.belongs_into(&loaded.stored.catalog) {
        let page = node.begin_change(Place { seq: loaded.stored.last_seq, news: loaded.news })?;
        if page.through.news != loaded.news || Some(page.run.as_str()) != loaded.stored.runs.last_id() {
            // Another one has added something.
            node.abandon_change();
            loaded = node.load()?;
            continue;
        }
        // Orders may have come since, and new products are numbered behind them.
        loaded.stored.last_seq = page.through.seq;
        let Plan { changes, different, .. } = match seed::plan(&loaded.stored, &file.wanted, json::history_line) {
            Ok(plan) => plan,
            Err(broken) => {
                node.abandon_change();
                return Err(file.error(&broken));
            }
        };
        let former = catalog_file::names(&loaded.stored.catalog);
        if changes.is_empty() {
            node.abandon_change();
        } else {
            node.finish_change(&changes)?;
        }
        loaded = node.load()?;
        file.log_what_was_kept("database", different, &former, &loaded.stored.catalog);
        break;
    }
    Ok(loaded)
}
