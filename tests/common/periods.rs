//! Periods, as `/periods` and the addresses below it answer them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use super::{Client, Reply};

/// Amounts by product id.
pub type Amounts = BTreeMap<String, i64>;

/// Asks to close a period.
pub fn try_close(client: &mut Client, number: u64) -> io::Result<Reply> {
    client.try_post("/periods", format!("{{\"number\":{number}}}"))
}

/// Closes a period and returns its report.
#[track_caller]
pub fn close(client: &mut Client, number: u64) -> Value {
    let reply = try_close(client, number).expect("the server answers");
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// The report of a period: its number, or `current`.
#[track_caller]
pub fn report(client: &mut Client, period: &str) -> Value {
    let reply = client.get(&format!("/periods/{period}"));
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// The amounts of a report, none of which is 0.
#[track_caller]
pub fn amounts(report: &Value) -> Amounts {
    let products = report["products"].as_array().expect("an array").iter();
    let amounts: Amounts = products
        .map(|it| (it["id"].as_str().expect("an id").to_owned(), it["amount"].as_i64().expect("an integer")))
        .collect();
    assert!(amounts.values().all(|amount| *amount != 0), "{report}");
    amounts
}

/// The list of periods, over all pages.
#[track_caller]
pub fn list(addr: SocketAddr) -> Vec<Value> {
    let (mut client, mut periods) = (Client::connect(addr), Vec::new());
    let mut next = Some("/periods".to_owned());
    while let Some(path) = next {
        let page = client.get(&path);
        assert_eq!(page.status, 200, "{page:?}");
        periods.extend(page.json().as_array().expect("an array").iter().cloned());
        next = super::order_log::next_page(&page);
    }
    periods
}

/// The reports of all periods, the current one included, oldest first. Their numbers follow each other, each begins when
/// the one before ends, and only the last one is open.
#[track_caller]
pub fn all_reports(addr: SocketAddr) -> Vec<Value> {
    let (mut client, periods) = (Client::connect(addr), list(addr));
    for (number, pair) in (1_u64..).zip(periods.windows(2)) {
        assert_eq!((&pair[0]["number"], &pair[0]["closed"]), (&number.into(), &pair[1]["opened"]), "{pair:?}");
        assert!(pair[0]["opened"].as_str() <= pair[0]["closed"].as_str(), "{pair:?}");
    }
    let last = periods.last().expect("a period");
    assert_eq!((&last["number"], last.get("closed")), (&periods.len().into(), None), "{last}");
    let reports: Vec<Value> = periods.iter().map(|it| report(&mut client, &it["number"].to_string())).collect();
    for (listed, report) in periods.iter().zip(&reports) {
        for name in ["number", "opened", "closed"] {
            assert_eq!(listed.get(name), report.get(name), "{listed} {report}");
        }
    }
    reports
}

/// The sums of several reports.
#[track_caller]
pub fn sums<'a>(reports: impl IntoIterator<Item = &'a Value>) -> Amounts {
    let mut sums = Amounts::new();
    for (id, amount) in reports.into_iter().flat_map(amounts) {
        *sums.entry(id).or_default() += amount;
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}
