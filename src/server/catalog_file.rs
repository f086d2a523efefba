//! The catalogue that a server is given at its start. Owns which products of it are added to a store, and what is said of
//! it.

use std::borrow::Cow;

use super::ServerError;
use crate::config::{BUILT_IN_CATALOG, Config};
use crate::json;
use crate::store::Reason;
use crate::store::seed::SeedCategory;
use crate::tally::catalog::{Catalog, CatalogError, Category, RESERVED_NAMES};

/// The catalogue file, or the built-in catalogue.
pub(super) struct CatalogFile {
    name: String,
    /// Its categories and products.
    pub(super) wanted: Vec<SeedCategory>,
    is_built_in: bool,
}

impl CatalogFile {
    /// Reads the one of the configuration.
    ///
    /// # Errors
    /// [`ServerError::Catalog`] says where it is wrong.
    pub(super) fn read(config: &Config) -> Result<Self, ServerError> {
        let (name, file) = match &config.catalog {
            None => ("the built-in catalogue".to_owned(), BUILT_IN_CATALOG.into()),
            Some(path) => {
                let name = path.display().to_string();
                let file = std::fs::read(path)
                    .map_err(|error| ServerError::Catalog(Reason::new(format!("{name} cannot be read"), error)))?;
                (name, Cow::Owned(file))
            }
        };
        let wanted = json::parse_catalog(&file).map_err(|why| ServerError::Catalog(format!("{name}: {why}").into()))?;
        Ok(Self { name, wanted, is_built_in: config.catalog.is_none() })
    }

    /// The error about a rule that it breaks.
    pub(super) fn error(&self, broken: &CatalogError) -> ServerError {
        ServerError::Catalog(format!("{}: {broken}", self.name).into())
    }

    /// Whether it is added to a store with this catalogue: the built-in one, an example, only to an empty one.
    pub(super) fn belongs_into(&self, stored: &Catalog) -> bool {
        !self.is_built_in || stored.categories().is_empty()
    }

    /// Logs that its new products could not be added; what is stored is served all the same.
    pub(super) fn log_failure(&self, error: &dyn std::fmt::Display) {
        log::error!("{}: its new products could not be added, restart the server later: {error:#}", self.name);
    }

    /// Logs what a user may not expect: `different` entries whose other texts were kept, and new categories beside the
    /// `former` ones of this place.
    pub(super) fn log_what_was_kept(&self, place: &str, different: usize, former: &[String], stored: &Catalog) {
        let name = &self.name;
        if different > 0 {
            let entries = if different == 1 { "1 entry is" } else { &format!("{different} entries are") };
            log::info!("{name}: {entries} in the {place} with other texts, which were kept; change them at the board");
        }
        // A folder that was begun with the sample, for example.
        if !former.is_empty() && stored.categories().len() > former.len() {
            let former = former.join(", ");
            log::info!("{name}: its new categories were added to those of the {place}, which were kept: {former}");
        }
    }
}

/// The names of the categories.
pub(super) fn names(catalog: &Catalog) -> Vec<String> {
    catalog.categories().iter().map(|category| category.name.clone()).collect()
}

/// Warns of categories that an older version could have and this one cannot show.
pub(super) fn warn_of_reserved_names(catalog: &Catalog) {
    for Category { name, .. } in catalog.categories() {
        if RESERVED_NAMES.contains(&name.as_str()) {
            log::warn!(
                "category {name:?} has the name of a route of this version: its totals and feeds stay at /orders/{name}, \
                 and its products are neither listed nor changed"
            );
        }
    }
}
