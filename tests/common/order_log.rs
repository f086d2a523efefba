//! The order log, as `GET /log` returns it.

use std::io;
use std::net::SocketAddr;

use super::{Client, Reply};

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub seq: u64,
    pub time: String,
    pub id: String,
    pub amount: i64,
    pub total: i64,
    pub key: Option<String>,
}

impl Line {
    /// Whether the line's product is part of the feed at this path; see [`is_of`].
    pub fn is_of(&self, feed: &str) -> bool {
        is_of(&self.id, feed)
    }
}

/// Whether a product of the built-in catalogue is part of the feed at this path, by the prefix of its id.
pub fn is_of(id: &str, feed: &str) -> bool {
    match feed {
        "/orders" => true,
        "/orders/electronics" => id.starts_with('A'),
        "/orders/confectionery" => id.starts_with('B'),
        _ => panic!("no feed of the built-in catalogue: {feed}"),
    }
}

/// The lines of one page. Members must be complete and in the documented order.
#[track_caller]
pub fn lines(page: &Reply) -> Vec<Line> {
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.header("content-type"), Some("application/x-ndjson"));
    let text = page.text();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut off");
    text.lines().map(line).collect()
}

#[track_caller]
fn line(text: &str) -> Line {
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let string = |name: &str| json[name].as_str().map(str::to_owned);
    let line = Line {
        seq: json["seq"].as_u64().expect("seq"),
        time: string("time").expect("time"),
        id: string("id").expect("id"),
        amount: json["amount"].as_i64().expect("amount"),
        total: json["total"].as_i64().expect("total"),
        key: string("key"),
    };
    let Line { seq, time, id, amount, total, key } = &line;
    let key = key.as_ref().map_or(String::new(), |key| format!(",\"key\":{}", serde_json::json!(key)));
    let expected =
        format!("{{\"seq\":{seq},\"time\":\"{time}\",\"id\":\"{id}\",\"amount\":{amount},\"total\":{total}{key}}}");
    assert_eq!(text, expected);
    line
}

/// The path of the next page, if the page links to one.
pub fn next_page(page: &Reply) -> Option<String> {
    let link = page.header("link")?;
    let path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(path.unwrap_or_else(|| panic!("not a link to the next page: {link}")).to_owned())
}

/// Every order behind `after`, over all pages.
pub fn read_from(addr: SocketAddr, after: u64) -> io::Result<Vec<Line>> {
    let mut client = Client::try_connect(addr)?;
    let mut next = Some(format!("/log?after={after}"));
    let mut log = Vec::new();
    while let Some(path) = next {
        let page = client.try_request("GET", &path, &[], b"")?;
        log.extend(lines(&page));
        next = next_page(&page);
    }
    Ok(log)
}

/// The whole log, after [`check`].
#[track_caller]
pub fn read_whole(addr: SocketAddr, starts: &[(&str, i64)]) -> Vec<Line> {
    let log = read_from(addr, 0).expect("the log can be read");
    check(&log, starts);
    log
}

/// Checks that the sequence numbers begin at 1 and have no gaps, and that every total is the one before it plus the
/// amount.
#[track_caller]
pub fn check(log: &[Line], starts: &[(&str, i64)]) {
    let mut totals: std::collections::HashMap<&str, i64> = starts.iter().copied().collect();
    for (place, line) in log.iter().enumerate() {
        assert_eq!(line.seq, place as u64 + 1, "a gap or a repeat in the log");
        let total = totals.entry(line.id.as_str()).or_default();
        *total += line.amount;
        assert_eq!(line.total, *total, "{line:?} does not follow from what is before it");
    }
}
