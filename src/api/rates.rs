//! `GET /rates/{category}`: what was ordered in each of the last 60 minutes.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::http::problem::{Problem, RETRY_AFTER_SECONDS};
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
/// How long a request waits for those before it: 2 s, more than a hundred answers of 10,000 products.
const TURN_DEADLINE: Duration = Duration::from_secs(2);
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
    pub turn: Turn,
}

/// One request at a time has it. A channel, because waiting for a lock has no deadline.
pub struct Turn(Sender<()>, Receiver<()>);

impl Default for Turn {
    fn default() -> Self {
        let (sender, receiver) = bounded(1);
        let turn = Self(sender, receiver);
        turn.give_back();
        turn
    }
}

impl Turn {
    /// Waits up to `deadline`; dropping what is returned gives the turn back.
    fn take(&self, deadline: Duration) -> Option<Taken<'_>> {
        self.1.recv_timeout(deadline).ok().map(|()| Taken(self))
    }

    fn give_back(&self) {
        // There is one turn, so there is room for it.
        let _ = self.0.try_send(());
    }
}

struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl RateAnswers {
    /// The rates of a feed's products that are not hidden.
    ///
    /// # Errors
    /// 503 when too many requests wait for rates.
    pub(super) fn answer(&self, feed: Feed) -> Result<Answer, Problem> {
        // Begins again when the log could not be read before.
        self.history.read_rates(&self.rates);
        let is_complete = self.rates.is_complete(READING_DEADLINE);
        let _taken = self.turn.take(TURN_DEADLINE).ok_or_else(|| {
            Problem::new(503, "too many requests wait for rates; try again").with("Retry-After", RETRY_AFTER_SECONDS)
        })?;
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
        Ok(Answer::json(json::rates_object(last, is_complete, rates)))
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
    fn one_request_at_a_time_has_the_turn_and_others_wait_no_longer_than_their_deadline() {
        let turn = Turn::default();
        let taken = turn.take(Duration::ZERO).expect("it is free");
        assert!(turn.take(Duration::from_millis(1)).is_none());
        drop(taken);
        assert!(turn.take(Duration::ZERO).is_some());
        assert!(turn.take(Duration::ZERO).is_some(), "it is given back");
    }

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
        let answers = RateAnswers { catalog: Arc::new(RwLock::new(catalog)), history, rates, turn: Turn::default() };
        let text = |feed| String::from_utf8(answers.answer(feed).unwrap().body().bytes().to_vec()).unwrap();
        for (feed, shown) in [(Feed::Category(tools), &["T2"][..]), (Feed::All, &["T2", "Y1"])] {
            let text = text(feed);
            assert!(text.contains(r#""complete":false"#), "{text}");
            for id in ["T1", "T2", "Y1"] {
                let is_there = text.contains(&format!(r#""id":"{id}""#));
                assert_eq!(is_there, shown.contains(&id), "{id} in {text}");
            }
            assert_eq!(text.matches(",7").count(), shown.len(), "{text}");
        }
    }
}
