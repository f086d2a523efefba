//! The filters of the order log: by time, product and category, together and page by page.

use crate::common::order_log::{Line, lines, next_page, read_from};
use crate::common::{Client, DEADLINE, Server, wait_until};

/// A server with orders for all three products, at more than one time.
fn with_orders() -> (Server, Vec<Line>) {
    let server = Server::start();
    let mut client = server.client();
    for round in 0..8 {
        for id in ["A1", "A2", "B1", "A1"] {
            client.order(id, round + 1);
        }
        let shown = read_from(server.addr(), 0).expect("the log can be read");
        let last = &shown.last().expect("an order").time;
        // The next order is of a later millisecond.
        wait_until(DEADLINE, "the clock goes on", || {
            client.order("B1", 0);
            read_from(server.addr(), 0).expect("the log can be read").last().is_some_and(|line| line.time > *last)
        });
    }
    let log = read_from(server.addr(), 0).expect("the log can be read");
    (server, log)
}

/// All lines of a filtered log, over all pages; each page but the last must link to the next one.
#[track_caller]
fn filtered(client: &mut Client, query: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut next = Some(format!("/log?{query}"));
    while let Some(path) = next {
        let page = client.get(&path);
        found.extend(lines(&page));
        next = next_page(&page);
    }
    found
}

#[test]
fn each_filter_alone_and_all_together_keep_exactly_the_lines_that_match() {
    let (server, log) = with_orders();
    let mut client = server.client();
    let (since, until) = (log[log.len() / 3].time.clone(), log[2 * log.len() / 3].time.clone());
    assert!(log[0].time < since && since < until && until < log[log.len() - 1].time);
    let is_since = |line: &Line| line.time >= since;
    let is_until = |line: &Line| line.time < until;
    let is_a = |line: &Line| line.id.starts_with('A');
    let is_a1 = |line: &Line| line.id == "A1";
    let check = |client: &mut Client, query: &str, is_wanted: &dyn Fn(&Line) -> bool| {
        let expected: Vec<Line> = log.iter().filter(|line| is_wanted(line)).cloned().collect();
        assert_eq!(filtered(client, query), expected, "{query}");
        assert_eq!(filtered(client, &format!("{query}&limit=2")), expected, "{query}, two lines a page");
        let behind: Vec<Line> = expected.iter().filter(|line| line.seq > 9).cloned().collect();
        assert_eq!(filtered(client, &format!("after=9&{query}&limit=3")), behind, "{query}, from 9 on");
    };
    check(&mut client, &format!("since={since}"), &is_since);
    check(&mut client, &format!("until={until}"), &is_until);
    check(&mut client, "id=A1", &is_a1);
    check(&mut client, "category=electronics", &is_a);
    check(&mut client, "category=confectionery", &|line| !is_a(line));
    check(&mut client, &format!("until={until}&since={since}"), &|line| is_since(line) && is_until(line));
    check(&mut client, &format!("category=electronics&since={since}&id=A1&until={until}"), &|line| {
        is_since(line) && is_until(line) && is_a1(line)
    });
    check(&mut client, "id=B1&category=electronics", &|_| false);
    check(&mut client, &format!("since={until}&until={since}"), &|_| false);
    check(&mut client, &format!("since={since}&until={since}"), &|_| false);
    check(&mut client, "since=1970-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", &|_| true);
    check(&mut client, "since=0000-01-01T00:00:00Z", &|_| true);
    check(&mut client, "until=1969-12-31T23:59:59.999Z", &|_| false);
    // The same instant in other spellings: a finer fraction, another offset, escapes.
    let hour = since[11..13].parse::<u32>().expect("an hour");
    if hour < 23 {
        let local = format!("{}{:02}{}", &since[..11], hour + 1, since[13..].replace('Z', "+01:00"));
        check(&mut client, &format!("since={local}"), &is_since);
        check(&mut client, &format!("since={}", local.replace(':', "%3A").replace('+', "%2b")), &is_since);
    }
    check(&mut client, &format!("since={}", since.replace('Z', "000z")), &is_since);
    check(&mut client, &format!("since={}", since.replace('Z', "0001Z")), &|line| line.time > since);
    check(&mut client, "id=%411", &is_a1);
}

#[test]
fn the_link_to_the_next_page_keeps_every_filter() {
    let (server, log) = with_orders();
    let mut client = server.client();
    let query =
        "/log?category=electronics&limit=1&id=A1&until=9999-01-01T01:00:00%2B01:00&since=2001-02-03t04:05:06.7z";
    let page = client.get(query);
    let kept = "limit=1&since=2001-02-03T04:05:06.700Z&until=9999-01-01T00:00:00.000Z&id=A1&category=electronics";
    let first = log.iter().find(|line| line.id == "A1").expect("an order for A1");
    assert_eq!(lines(&page), std::slice::from_ref(first));
    assert_eq!(next_page(&page), Some(format!("/log?after={}&{kept}", first.seq)));
    // The address that the link names is understood as the same.
    let page = client.get(&next_page(&page).unwrap());
    assert!(next_page(&page).unwrap().ends_with(kept), "{page:?}");
    // A page that is the last has no link, although it is not full.
    assert_eq!(next_page(&client.get("/log?id=A2")), None);
    assert_eq!(next_page(&client.get("/log?id=A2&category=confectionery&limit=1")), None);
}

#[test]
fn a_filter_that_means_nothing_is_refused_in_words() {
    let server = Server::start();
    let mut client = server.client();
    for wrong in [
        "",
        "5",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00%20Z",
        "2026-01-31+12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00%2",
        "2026-01-31T12:00:00%ff",
    ] {
        for name in ["since", "until"] {
            let detail = client.get(&format!("/log?{name}={wrong}")).problem(400);
            assert!(detail.starts_with(name), "{wrong}: {detail}");
            let hint = if wrong.ends_with(['2', 'f']) { "in UTF-8" } else { "2026-01-31T12:00:00Z" };
            assert!(detail.contains(hint), "{wrong}: {detail}");
        }
    }
    for (query, hint) in [
        ("id=A9", "no product \"A9\"; GET /{category} lists"),
        ("id=", "no product \"\""),
        ("id=electronics", "it is a category"),
        ("category=A1", "no category \"A1\"; GET /categories lists"),
        ("category=", "no category \"\""),
        ("id=A1&category=nowhere", "no category \"nowhere\""),
    ] {
        let detail = client.get(&format!("/log?{query}")).problem(404);
        assert!(detail.contains(hint), "{query}: {detail}");
    }
    let long = "%41".repeat(3_000);
    assert!(client.get(&format!("/log?id={long}")).problem(404).len() < 200);
}
