//! `GET /rates/{category}`: what was ordered in each of the last 60 minutes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::response::Answer;
use crate::json;
use crate::live::fanout::Feed;
use crate::live::history::History;
use crate::live::rates::Rates;
use crate::store::now_ms;
use crate::tally::catalog::{ProductIndex, SharedCatalog};

/// How long an answer waits for the orders from before the start that are being read: 1 s, some two million lines of the
/// log.
const READING_DEADLINE: Duration = Duration::from_secs(1);
/// Products that are read at a time: 64, so that the ledger thread waits for some 20 µs at most.
const PRODUCTS_AT_A_TIME: usize = 64;

/// Answers rates.
pub struct RateAnswers {
    /// The products.
    pub catalog: SharedCatalog,
    /// Reads the log.
    pub history: History,
    /// The rates.
    pub rates: Arc<Rates>,
    /// Held while an answer is made: of many requests only one competes with the ledger thread at a time.
    pub turn: Mutex<()>,
}

impl RateAnswers {
    /// The rates of a feed's products that are not hidden.
    pub(super) fn answer(&self, feed: Feed) -> Answer {
        // Begins again when the log could not be read before.
        self.history.read_rates(&self.rates);
        let is_complete = self.rates.is_complete(READING_DEADLINE);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.rates.last_minute(now_ms());
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        let products: Vec<ProductIndex> = match feed {
            Feed::All => (0..catalog.products().len() as u32).map(ProductIndex).collect(),
            Feed::Category(category) => catalog.category(category).products.clone(),
        };
        let shown: Vec<_> = products.into_iter().filter(|index| !catalog.product(*index).is_hidden).collect();
        let rates = shown.chunks(PRODUCTS_AT_A_TIME).flat_map(|products| {
            let ids = products.iter().map(|index| catalog.product(*index).id.as_str());
            ids.zip(self.rates.read(products, last))
        });
        Answer::json(json::rates_object(last, is_complete, rates))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use super::*;
    use crate::live::history;
    use crate::tally::catalog::{Catalog, Details};
    use crate::tally::order::Amount;

    #[test]
    fn hidden_products_are_absent_and_an_answer_without_the_log_says_so() {
        let mut catalog = Catalog::default();
        let (tools, toys) = (catalog.add_category("tools", "T").unwrap(), catalog.add_category("toys", "Y").unwrap());
        let details = Details { name: "x".into(), rrp: String::new(), info: String::new() };
        for (category, id) in [(tools, "T1"), (tools, "T2"), (toys, "Y1")] {
            catalog.add_product(category, id, details.clone()).unwrap();
        }
        catalog.change_product(ProductIndex(0), details, true).unwrap();
        // Nothing reads the log.
        let (history, _queries) = history::prepare();
        let rates = Rates::new(vec![None; 3], 5);
        let now = now_ms();
        rates.count((0..3).map(|index| (ProductIndex(index), now, Amount::new(7).unwrap())));
        let answers = RateAnswers { catalog: Arc::new(RwLock::new(catalog)), history, rates, turn: Mutex::default() };
        let text = |feed| String::from_utf8(answers.answer(feed).body().bytes().to_vec()).unwrap();
        for (feed, shown) in [(Feed::Category(tools), &["T2"][..]), (Feed::All, &["T2", "Y1"])] {
            let text = text(feed);
            assert!(text.contains(r#""complete":false"#), "{text}");
            for id in ["T1", "T2", "Y1"] {
                assert_eq!(text.contains(id), shown.contains(&id), "{id} in {text}");
            }
            assert_eq!(text.matches(",7").count(), shown.len(), "{text}");
        }
    }
}
