//! Rates, as `GET /rates` returns them.

use std::collections::BTreeMap;

use super::{Client, Line};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// The last minute, as it was sent.
    pub minute: String,
    pub is_complete: bool,
    pub products: Vec<Rate>,
}

/// The rate of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    pub id: String,
    pub amounts: Vec<i64>,
    pub ordered: Option<String>,
}

/// The rates at this path. Members must be complete and in the documented order.
#[track_caller]
pub fn rates(client: &mut Client, path: &str) -> Rates {
    let reply = client.get(path);
    assert_eq!(reply.status, 200, "{reply:?}");
    let json = reply.json();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let products = json["products"].as_array().expect("products").iter().map(|product| {
        let amounts = product["amounts"].as_array().expect("amounts");
        let amounts: Vec<i64> = amounts.iter().map(|amount| amount.as_i64().expect("an integer")).collect();
        assert_eq!(amounts.len(), 60);
        Rate { id: text(&product["id"]).expect("id"), amounts, ordered: text(&product["ordered"]) }
    });
    let rates = Rates {
        minute: text(&json["minute"]).expect("minute"),
        is_complete: json["complete"].as_bool().expect("complete"),
        products: products.collect(),
    };
    let products = rates.products.iter().map(|Rate { id, amounts, ordered }| {
        let ordered = ordered.as_ref().map_or("null".to_owned(), |time| format!("\"{time}\""));
        let amounts = amounts.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        format!("{{\"id\":\"{id}\",\"amounts\":[{amounts}],\"ordered\":{ordered}}}")
    });
    let (minute, products) = (&rates.minute, products.collect::<Vec<_>>().join(","));
    let complete = rates.is_complete;
    assert_eq!(reply.text(), format!("{{\"minute\":\"{minute}\",\"complete\":{complete},\"products\":[{products}]}}"));
    rates
}

impl Rates {
    /// The last minute, as the number of minutes since 1970.
    pub fn minute(&self) -> u64 {
        minute_of(&self.minute)
    }

    /// Checks that the rates are complete, and what this log makes them.
    #[track_caller]
    pub fn check(&self, log: &[Line]) {
        assert!(self.is_complete, "the log has not been read");
        assert!(self.minute.ends_with(":00.000Z"), "{} is no whole minute", self.minute);
        for product in &self.products {
            let mut amounts: BTreeMap<u64, i64> = BTreeMap::new();
            let lines = log.iter().filter(|line| line.id == product.id);
            lines.clone().for_each(|line| *amounts.entry(minute_of(&line.time)).or_default() += line.amount);
            let last = self.minute();
            let expected: Vec<i64> = (last - 59..=last).map(|minute| amounts.remove(&minute).unwrap_or(0)).collect();
            assert_eq!(product.amounts, expected, "{} up to {}", product.id, self.minute);
            assert_eq!(product.ordered.as_ref(), lines.map(|line| &line.time).next_back(), "{}", product.id);
        }
    }
}

/// The minutes from 1970 to a time such as `2026-01-31T12:00:00.000Z`.
fn minute_of(time: &str) -> u64 {
    let number = |from: usize, to: usize| time[from..to].parse::<u64>().expect("digits");
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = years + lengths[..month as usize - 1].iter().sum::<u64>() + day - 1;
    days * 1_440 + number(11, 13) * 60 + number(14, 16)
}
