//! The log of the server that is followed, for subscribers that resume from an order that is not in memory here.

use std::sync::PoisonError;
use std::time::Duration;

use crate::client::server::Server;
use crate::json;
use crate::store::StoreError;
use crate::store::order_log::{Filter, LogSource, Page};
use crate::store::periods::ClosedPeriod;
use crate::tally::catalog::{ProductIndex, SharedCatalog};
use crate::tally::order::{Publication, Total};
use crate::tally::period::Report;

/// How long a page may take: 2 s.
const PAGE: Duration = Duration::from_secs(2);

/// Reads orders from the log of the server that is followed. Requests for anything else are passed on.
pub struct UpstreamLog {
    server: Server,
    catalog: SharedCatalog,
}

impl UpstreamLog {
    /// The log of this server, whose products are in `catalog`.
    pub(super) fn new(server: Server, catalog: SharedCatalog) -> Self {
        Self { server, catalog }
    }
}

impl LogSource for UpstreamLog {
    fn publications(&mut self, after: u64, limit: usize) -> Result<Option<Vec<Publication>>, StoreError> {
        let failed = |why: &str| StoreError::Failed(format!("the server that this one follows: {why}").into());
        let page = self.server.get(&format!("/log?after={after}&limit={limit}"), PAGE);
        let page = page.map_err(|failure| failed(failure.why()))?;
        let lines = json::log_totals(&page).ok_or_else(|| failed("its log has another form"))?;
        // Without the first one, the log no longer has it.
        if !lines.iter().zip(after + 1..).all(|(line, seq)| line.seq == seq) {
            return Ok(None);
        }
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let known = lines.iter().map_while(|line| {
            let (product, total) = (catalog.find_product(&line.id)?, Total::new(line.total)?);
            Some(Publication { product, total, seq: line.seq })
        });
        // A product that is not known yet was added after the last order that has been followed.
        let known: Vec<Publication> = known.collect();
        if known.is_empty() && !lines.is_empty() { Err(failed("not followed so far")) } else { Ok(Some(known)) }
    }

    fn page(&mut self, _: u64, _: usize, _: &Filter, _: u64) -> Result<Page, StoreError> {
        Ok(Page::default())
    }

    fn amounts(&mut self, _: u64, _: usize, _: impl FnMut(u64, ProductIndex, u64, i64)) -> Result<(), StoreError> {
        Ok(())
    }

    fn closed_periods(&mut self, _: u64, _: u64, _: usize) -> Result<Vec<ClosedPeriod>, StoreError> {
        Ok(Vec::new())
    }

    fn report(&mut self, _: u64) -> Result<Option<Report>, StoreError> {
        Ok(None)
    }
}
