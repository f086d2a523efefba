//! What a server knows of a database that it shares: totals, catalogue and period, as they were up to one place. Pure: it
//! asks nobody.

use std::sync::{Arc, PoisonError, RwLockReadGuard};

use crate::ledger::engine::Update;
use crate::live::fanout::Replacement;
use crate::store::postgres::{Line, Loaded, News, Page, Place, What};
use crate::tally::catalog::{Catalog, CatalogError, SharedCatalog};
use crate::tally::order::{Amount, Publication, Total};
use crate::tally::period::{CurrentPeriod, Report};

/// What a server knows.
pub struct View {
    place: Place,
    /// The id of the run whose lines it has followed.
    run: String,
    totals: Vec<Total>,
    period: Arc<CurrentPeriod>,
    /// Changed by the ledger's thread only.
    catalog: SharedCatalog,
}

/// A page does not continue what is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch;

impl From<CatalogError> for Mismatch {
    fn from(_: CatalogError) -> Self {
        Self
    }
}

impl View {
    /// What was loaded. Its catalogue has been moved to `catalog`.
    pub fn new(loaded: &Loaded, period: Arc<CurrentPeriod>, catalog: SharedCatalog) -> Self {
        let Loaded { stored, news } = loaded;
        Self {
            place: Place { seq: stored.last_seq, news: *news },
            run: stored.runs.last_id().unwrap_or_default().to_owned(),
            totals: stored.totals.clone(),
            period,
            catalog,
        }
    }

    /// Up to where it knows everything.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether it knows everything up to this place.
    pub(super) fn has(&self, place: Place) -> bool {
        self.place.seq >= place.seq && self.place.news >= place.news
    }

    pub(super) fn period(&self) -> &CurrentPeriod {
        &self.period
    }

    pub(super) fn report(&self) -> Report {
        self.period.report(&self.totals)
    }

    pub(super) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a page, and adds an update for everything on it. After an error it knows a part, and has to be replaced.
    pub(super) fn apply(&mut self, page: Page, updates: &mut Vec<Update>) -> Result<(), Mismatch> {
        let Page { through, has_more: _, can_be_followed, run, lines, news } = page;
        if !can_be_followed || run != self.run {
            return Err(Mismatch);
        }
        let mut news = news.into_iter().peekable();
        for line in lines {
            while let Some(one) = news.next_if(|one| one.after < line.seq) {
                self.apply_news(one, updates)?;
            }
            self.apply_line(line, updates)?;
        }
        for one in news {
            self.apply_news(one, updates)?;
        }
        self.place = through;
        // A product without a line has a starting total that only loading tells.
        let products = self.catalog().products().len();
        (products == self.totals.len()).then_some(()).ok_or(Mismatch)
    }

    fn apply_line(&mut self, line: Line, updates: &mut Vec<Update>) -> Result<(), Mismatch> {
        let Line { seq, product, amount, total, at_ms } = line;
        let publication = Publication { product, total, seq };
        let index = product.0 as usize;
        if let Some(former) = self.totals.get_mut(index) {
            *former = total;
            let amount = Amount::new(amount).ok_or(Mismatch)?;
            updates.push(Update::Order { publication, at_ms, amount });
            return Ok(());
        }
        // The first line of a new product, of which the news before it tell.
        if index != self.totals.len() || index >= self.catalog().products().len() {
            return Err(Mismatch);
        }
        self.totals.push(total);
        updates.push(Update::Product(publication));
        Ok(())
    }

    fn apply_news(&mut self, News { what, .. }: News, updates: &mut Vec<Update>) -> Result<(), Mismatch> {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        match what {
            What::Category { index, name, prefix, title } => {
                match catalog.categories().get(index.0 as usize) {
                    Some(known) if known.name != name => return Err(Mismatch),
                    Some(_) => {}
                    None if index.0 as usize != catalog.categories().len() => return Err(Mismatch),
                    None => drop(catalog.add_category(&name, &prefix)?),
                }
                catalog.set_title(index, &title)?;
                updates.push(Update::Catalog(index));
            }
            What::Product { index, id, category, details, is_hidden } => {
                let known = catalog.products().len();
                if index.0 as usize > known || category.0 as usize >= catalog.categories().len() {
                    return Err(Mismatch);
                }
                if index.0 as usize == known {
                    catalog.add_product(category, &id, details.clone())?;
                } else if catalog.product(index).id != id {
                    return Err(Mismatch);
                } else {
                    updates.push(Update::Catalog(category));
                }
                catalog.change_product(index, details, is_hidden)?;
            }
            What::Period(period) => {
                self.period = Arc::new(CurrentPeriod { period, openings: self.totals.clone() });
                updates.push(Update::Period(self.period.clone()));
            }
        }
        Ok(())
    }

    /// Knows what was loaded instead of what it knew.
    pub(super) fn replace(&mut self, loaded: Loaded) -> Update {
        let Loaded { mut stored, news } = loaded;
        let (former_seq, former_run) = (self.place.seq, std::mem::take(&mut self.run));
        self.place = Place { seq: stored.last_seq, news };
        stored.runs.last_id().unwrap_or_default().clone_into(&mut self.run);
        if stored.last_seq < former_seq {
            log::error!(
                "the database has lost the orders from number {} to {former_seq}, although they were answered: another \
                 primary took over without them, or it was restored; every subscriber gets the totals as they are now",
                stored.last_seq + 1
            );
        } else if self.run != former_run {
            log::warn!("another primary has taken over; every subscriber gets the totals as they are now");
        } else {
            log::warn!(
                "too much was committed to follow it one by one; every subscriber gets the totals as they are now"
            );
        }
        self.period = Arc::new(CurrentPeriod { period: stored.period, openings: std::mem::take(&mut stored.openings) });
        self.totals = stored.totals;
        let keeps_categories = {
            let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
            let former = std::mem::replace(&mut *catalog, stored.catalog);
            let mut names = catalog.categories().iter().map(|category| &category.name);
            former.categories().iter().all(|category| names.next() == Some(&category.name))
        };
        let replacement = Replacement {
            totals: self.totals.clone(),
            openings: self.period.openings.clone(),
            opened_after: self.period.period.opened_after,
            opened_before: Vec::new(),
            last_seq: stored.last_seq,
            // A position up to it may lack a product that was shown again since.
            shown_after: Some(stored.last_seq),
            runs: stored.runs,
            keeps_categories,
        };
        Update::Replaced(self.period.clone(), Box::new(replacement))
    }
}
