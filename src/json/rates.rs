//! Rates as JSON.

use super::quoted;
use crate::tally::rates::{Minute, Rate};
use crate::tally::rfc3339;

/// `{"minute":"…","complete":true,"products":[{"id":"A1","amounts":[…],"ordered":"…"},…]}` with the last minute of all
/// amounts, whether they have the orders from before the server's start, and the rate of each product. `ordered` is null
/// before the first order.
pub fn rates_object<'a>(last: Minute, is_complete: bool, rates: impl Iterator<Item = (&'a str, Rate)>) -> Vec<u8> {
    let minute = rfc3339::format(last.start_ms());
    let mut json = format!(r#"{{"minute":"{minute}","complete":{is_complete},"products":["#).into_bytes();
    let mut digits = itoa::Buffer::new();
    let mut separator = "";
    for (id, Rate { amounts, ordered_ms }) in rates {
        json.extend_from_slice(format!(r#"{separator}{{"id":{},"amounts":["#, quoted(id)).as_bytes());
        separator = ",";
        for (index, amount) in amounts.into_iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.extend_from_slice(digits.format(amount).as_bytes());
        }
        let ordered = ordered_ms.map_or_else(|| "null".to_owned(), |ms| quoted(&rfc3339::format(ms)));
        json.extend_from_slice(format!(r#"],"ordered":{ordered}}}"#).as_bytes());
    }
    json.extend_from_slice(b"]}");
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::rates::MINUTES;

    #[test]
    fn rates_name_their_last_minute_and_every_product() {
        let mut amounts = [0; MINUTES];
        (amounts[0], amounts[MINUTES - 2], amounts[MINUTES - 1]) = (7, i64::MIN, -2);
        let of = |ordered_ms| Rate { amounts, ordered_ms };
        let rates = [("A1", of(Some(1_769_860_801_007))), ("A2", of(None))];
        let json = String::from_utf8(rates_object(Minute::of(1_769_860_859_999), false, rates.into_iter())).unwrap();
        let amounts = format!("7,{}{},-2", "0,".repeat(57), i64::MIN);
        let expected = format!(
            concat!(
                r#"{{"minute":"2026-01-31T12:00:00.000Z","complete":false,"products":["#,
                r#"{{"id":"A1","amounts":[{amounts}],"ordered":"2026-01-31T12:00:01.007Z"}},"#,
                r#"{{"id":"A2","amounts":[{amounts}],"ordered":null}}]}}"#
            ),
            amounts = amounts
        );
        assert_eq!(json, expected);
        let none = String::from_utf8(rates_object(Minute::of(0), true, std::iter::empty())).unwrap();
        assert_eq!(none, r#"{"minute":"1970-01-01T00:00:00.000Z","complete":true,"products":[]}"#);
    }
}
