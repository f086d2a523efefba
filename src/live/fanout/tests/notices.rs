//! The status, changes of the catalogue, and hidden products.

use super::super::*;
use super::options::{Bench, Client, TOOLS, TOYS, details, every};
use crate::live::history::{Orders, PageSink as _, ReplayPage};
use crate::tally::catalog::CategoryIndex;

const FORMATS: [Format; 3] = [Format::Plain, Format::Positioned, Format::Events];
const TOLD: &str = "{\"catalog\":\"tools\"}";

fn told(notices: Notices) -> Options {
    Options { notices, ..Options::default() }
}

fn told_of_catalog() -> Options {
    told(Notices { catalog: true, ..Notices::default() })
}

/// Hides or shows a product, as the ledger does.
fn hide(bench: &Bench, product: u32, is_hidden: bool) {
    let category = {
        let mut catalog = bench.catalog.write().unwrap();
        catalog.change_product(ProductIndex(product), details(), is_hidden).unwrap();
        catalog.product(ProductIndex(product)).category
    };
    bench.handle.publish_catalog(category);
}

/// Without positions.
fn totals(messages: &[String]) -> Vec<String> {
    let total = |message: &String| {
        let total = message.rsplit("data: ").next().unwrap_or_default();
        total.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    messages.iter().map(total).collect()
}

#[test]
fn the_status_comes_first_and_is_an_event_of_its_own() {
    let bench = Bench::new();
    let expected = format!("{{\"status\":\"live\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"));
    for format in FORMATS {
        let mut client = bench.subscribe(TOYS, format, told(Notices { status: true, catalog: false }), None);
        let sent = bench.sent(&mut client);
        let is_events = format == Format::Events;
        assert_eq!(sent[0], if is_events { format!("event: status\ndata: {expected}") } else { expected.clone() });
        assert_eq!(totals(&sent[1..]), ["Y1 0"]);
        // A move is no new connection.
        if !is_events {
            let subscription =
                Subscription { feed: TOOLS, format, options: told(Notices { status: true, catalog: false }) };
            bench.handle.move_to(client.subscriber.clone(), subscription);
            assert_eq!(totals(&bench.sent(&mut client)), ["T1 0", "T2 0"]);
        }
    }
}

#[test]
fn that_totals_are_stale_is_told_when_it_changes_and_to_new_subscribers() {
    let bench = Bench::new();
    let status = |status| format!("{{\"status\":\"{status}\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"));
    let options = told(Notices { status: true, catalog: false });
    let mut client = bench.subscribe(TOYS, Format::Plain, options, None);
    let mut other = bench.subscribe(TOYS, Format::Plain, Options::default(), None);
    assert_eq!(bench.sent(&mut client), [status("live"), "Y1 0".to_owned()]);
    for is_stale in [true, true, false] {
        bench.handle.set_stale(is_stale);
    }
    assert_eq!(bench.sent(&mut client), [status("stale"), status("live")]);
    bench.handle.set_stale(true);
    let mut late = bench.subscribe(TOYS, Format::Plain, options, None);
    assert_eq!(bench.sent(&mut late), [status("stale"), "Y1 0".to_owned()]);
    assert_eq!(bench.sent(&mut client), [status("stale")]);
    assert_eq!(bench.sent(&mut other), ["Y1 0"]);
}

#[test]
fn a_change_of_the_catalogue_is_told_to_those_that_follow_the_category_and_asked_for_it() {
    let bench = Bench::new();
    let mut clients: Vec<Client> =
        [TOOLS, Feed::All, TOYS].map(|feed| bench.subscribe(feed, Format::Plain, told_of_catalog(), None)).into();
    clients.push(bench.subscribe(TOOLS, Format::Plain, Options::default(), None));
    let mut events = bench.subscribe(Feed::All, Format::Events, told_of_catalog(), None);
    for client in &mut clients {
        assert!(totals(&bench.sent(client)).iter().all(|text| text.ends_with(" 0")));
    }
    assert_eq!(bench.sent(&mut events).len(), 3);
    bench.hold();
    bench.publish(&[(11, 0, 1)]);
    bench.handle.publish_catalog(CategoryIndex(0));
    bench.publish(&[(12, 0, 2)]);
    let mut expect = |expected: [&[&str]; 4]| {
        for (client, expected) in clients.iter_mut().zip(expected) {
            assert_eq!(bench.sent(client), expected);
        }
    };
    let totals = ["T1 1", "T1 2"];
    expect([&["T1 1", "T1 2", TOLD], &["T1 1", "T1 2", TOLD], &[], &totals]);
    assert_eq!(bench.sent(&mut events)[2], format!("event: catalog\ndata: {TOLD}"));
    // A new product, and a new category, of which once is enough.
    bench.hold();
    {
        let mut catalog = bench.catalog.write().unwrap();
        catalog.add_product(CategoryIndex(0), "T3", details()).unwrap();
        catalog.add_category("games", "G").unwrap();
    }
    bench.publish(&[(13, 3, 0)]);
    bench.handle.publish_catalog(CategoryIndex(2));
    bench.handle.publish_catalog(CategoryIndex(2));
    let games = "{\"catalog\":\"games\"}";
    expect([&["T3 0", TOLD], &["T3 0", TOLD, games], &[], &["T3 0"]]);
    assert!(bench.handle.totals(Feed::Category(CategoryIndex(2)), Counts::Lifetime).is_some());
    // One that a client knows before anybody has told of it.
    bench.catalog.write().unwrap().add_category("plants", "N").unwrap();
    let plants = Feed::Category(CategoryIndex(3));
    let mut client = bench.subscribe(plants, Format::Plain, Options::default(), None);
    assert!(bench.sent(&mut client).is_empty());
    assert!(bench.handle.totals(plants, Counts::Lifetime).is_some());
    bench.catalog.write().unwrap().add_category("herbs", "H").unwrap();
    assert!(bench.handle.totals(Feed::Category(CategoryIndex(4)), Counts::Lifetime).is_some());
}

#[test]
fn a_subscriber_whose_socket_is_full_is_told_of_the_catalogue_when_it_reads_again() {
    let bench = Bench::new();
    for format in FORMATS {
        let mut client = bench.subscribe(TOYS, format, told_of_catalog(), None);
        let mut seq = bench.handle.shared.published.load(Ordering::Acquire);
        let mut publish = || {
            let orders: Vec<_> = (seq + 1..=seq + 500).map(|seq| (seq, 2, seq as i64)).collect();
            bench.publish(&orders);
            bench.settle();
            seq += 500;
        };
        while client.subscriber.is_drained() {
            publish();
        }
        bench.handle.publish_catalog(CategoryIndex(1));
        bench.handle.publish_catalog(CategoryIndex(1));
        bench.settle();
        let mut notices = 0;
        while notices == 0 || client.subscriber.is_lagging() {
            notices += client.wait().iter().filter(|text| text.contains("{\"catalog\":\"toys\"}")).count();
        }
        publish();
        notices += bench.sent(&mut client).iter().filter(|text| text.contains("catalog")).count();
        assert_eq!(notices, 1, "{format:?}");
        client.subscriber.close();
    }
}

#[test]
fn a_hidden_product_is_absent_and_its_total_comes_when_it_is_shown_again() {
    let bench = Bench::new();
    bench.publish(&[(11, 0, 1), (12, 1, 2)]);
    let array = |feed| String::from_utf8(bench.handle.totals(feed, Counts::Lifetime).unwrap().to_vec()).unwrap();
    assert_eq!(array(TOOLS), r#"[{"id":"T1","total":1},{"id":"T2","total":2}]"#);
    hide(&bench, 0, true);
    assert_eq!(array(TOOLS), r#"[{"id":"T2","total":2}]"#);
    assert!(!array(Feed::All).contains("T1"));
    assert_eq!(bench.handle.product_totals(TOOLS).unwrap().len(), 1);
    let mut clients = Vec::new();
    for format in FORMATS {
        for options in [Options::default(), every(100), told_of_catalog()] {
            for feed in [TOOLS, Feed::All] {
                let mut client = bench.subscribe(feed, format, options, None);
                assert!(!totals(&bench.sent(&mut client)).contains(&"T1 1".to_owned()));
                clients.push((client, options.notices.catalog));
            }
        }
    }
    // Resumes skip it too.
    let resumed = |since: &str, options: Options| {
        let mut client = bench.subscribe(TOOLS, Format::Positioned, options, Some(since));
        bench.sent(&mut client)
    };
    assert_eq!(resumed("run.1.10", Options::default()), ["T2 2 run.1.12"]);
    assert_eq!(resumed("run.1.10", every(100)), ["T2 2 run.1.12"]);
    // A text that is changed shows nothing.
    hide(&bench, 0, true);
    bench.settle();
    hide(&bench, 0, false);
    for (client, is_told) in &mut clients {
        let (notices, sent): (Vec<_>, Vec<_>) =
            bench.sent(client).into_iter().partition(|text| text.contains("catalog"));
        assert_eq!(totals(&sent), ["T1 1"]);
        assert_eq!(notices.len(), if *is_told { 2 } else { 0 }, "{notices:?}");
    }
    // A client that was away does not know it, so it gets all.
    assert_eq!(totals(&resumed("run.1.12", Options::default())), ["T1 1", "T2 2"]);
    assert_eq!(totals(&resumed("run.1.12", every(100))), ["T1 1", "T2 2"]);
    bench.publish(&[(13, 1, 3)]);
    bench.settle();
    assert_eq!(totals(&resumed("run.1.13", Options::default())), [""; 0]);
    assert_eq!(array(TOOLS), r#"[{"id":"T1","total":1},{"id":"T2","total":3}]"#);
}

#[test]
fn a_subscriber_that_waits_for_the_log_gets_a_snapshot_when_a_product_is_shown_again() {
    let bench = Bench::new();
    hide(&bench, 0, true);
    let mut client = bench.subscribe(TOOLS, Format::Positioned, Options::default(), None);
    assert_eq!(totals(&bench.sent(&mut client)), ["T2 0"]);
    bench.publish(&[(11, 1, 1)]);
    bench.settle();
    let _ = client.subscriber.lag_from(3);
    bench.handle.request_catch_up(client.subscriber.clone());
    assert_eq!((bench.sent(&mut client).len(), bench.log.waiting()), (1, 1));
    hide(&bench, 0, false);
    assert_eq!(totals(&bench.sent(&mut client)), ["T1 0", "T2 1"]);
    // The page comes too late.
    bench.handle.take_page(ReplayPage { subscriber: client.subscriber.clone(), after: 2, orders: Orders::Lost });
    assert_eq!(bench.sent(&mut client), [""; 0]);
}
