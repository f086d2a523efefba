//! The fan-out thread with a log that nobody reads yet.

mod edges;
mod notices;
mod options;
mod replaced;
mod rounds;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::RwLock;

use super::*;
use crate::live::history::{Orders, PageSink as _, ReplayPage};
use crate::live::{history, slow_sockets};
use crate::tally::catalog::{Catalog, CategoryIndex, Details};
use crate::tally::order::Publication;

/// The start on a store without orders, whose products have totals of 0.
fn nothing(runs: &RunList) -> Start<'_> {
    Start { totals: &[], openings: &[], opened_after: 0, opened_before: &[], last_seq: 0, shown_after: None, runs }
}

/// A fan-out that no thread runs.
fn one(start: &Start<'_>, history: &History) -> (Fanout, FanoutHandle) {
    let (mut fanouts, handle) = prepare(&options::catalog(), start, history, 1);
    (fanouts.remove(0), handle)
}

#[test]
fn one_page_of_the_log_is_under_way_for_a_subscriber_however_often_it_catches_up() {
    let mut catalog = Catalog::default();
    catalog.add_category("tools", "T").unwrap();
    let mut runs = RunList::default();
    runs.begin("run".to_owned(), 0);
    let (history, log) = history::prepare();
    let first = Start { last_seq: 10, ..nothing(&runs) };
    let (handle, threads) = start(&Arc::new(RwLock::new(catalog)), &first, &history, [()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets::start(|_| {}).unwrap().0);
    let subscription = Subscription { feed: Feed::All, format: Format::Positioned, options: Options::default() };
    handle.subscribe(subscriber.clone(), subscription, Some("run.0.3"));
    let pages_asked_for = || {
        (0..3).for_each(|_| handle.request_catch_up(subscriber.clone()));
        // Answered behind all of them.
        assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
        log.waiting()
    };
    assert_eq!(pages_asked_for(), 1);
    // One that it has not asked for changes nothing.
    handle.take_page(ReplayPage { subscriber: subscriber.clone(), after: 5, orders: Orders::Lost });
    assert_eq!(pages_asked_for(), 1);
    handle.move_to(subscriber.clone(), Subscription { feed: Feed::Category(CategoryIndex(0)), ..subscription });
    handle.take_page(ReplayPage { subscriber: subscriber.clone(), after: 3, orders: Orders::Lost });
    assert_eq!(pages_asked_for(), 1, "it got a snapshot");
    drop(client);
    handle.stop();
    drop(handle);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_lagging_subscriber_gets_what_it_missed_in_the_order_of_the_last_changes() {
    let mut catalog = Catalog::default();
    let tools = catalog.add_category("tools", "T").unwrap();
    let toys = catalog.add_category("toys", "Y").unwrap();
    for (category, id) in [(tools, "T1"), (toys, "Y1"), (tools, "T2"), (tools, "T3")] {
        let details = Details { name: id.into(), rrp: String::new(), info: String::new() };
        catalog.add_product(category, id, details).unwrap();
    }
    let runs = RunList::default();
    let first = nothing(&runs);
    let (handle, _thread) = start(&Arc::new(RwLock::new(catalog)), &first, &history::prepare().0, [()]).unwrap();
    let publish = |numbers: &[(u32, i64)]| {
        let publication = |(index, &(product, total)): (usize, &(u32, i64))| Publication {
            product: ProductIndex(product),
            total: Total::new(total).unwrap(),
            seq: index as u64 + 1,
        };
        handle.publish(&numbers.iter().enumerate().map(publication).collect::<Vec<_>>());
        handle.wake();
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets::start(|_| {}).unwrap().0);
    handle.subscribe(
        subscriber.clone(),
        Subscription { feed: Feed::Category(tools), format: Format::Plain, options: Options::default() },
        None,
    );
    assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
    // Publications 1 to 5; the subscriber misses everything from the second on.
    let _ = subscriber.lag_from(2);
    publish(&[(3, 1), (2, 5), (1, 7), (0, 2), (2, 6)]);
    handle.request_catch_up(subscriber.clone());
    handle.finish();
    handle.stop();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    let text = String::from_utf8_lossy(&received);
    let totals: Vec<&str> = text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    let snapshot = [r#""id":"T1","total":0"#, r#""id":"T2","total":0"#, r#""id":"T3","total":0"#];
    assert_eq!(totals, [&snapshot[..], &[r#""id":"T1","total":2"#, r#""id":"T2","total":6"#]].concat());
}

/// Two categories with one product each, after ten orders; nobody reads the log.
#[test]
fn the_log_is_read_only_for_a_feed_that_has_had_orders_since_and_not_too_many() {
    let mut catalog = Catalog::default();
    for (name, prefix) in [("tools", "T"), ("toys", "Y")] {
        let category = catalog.add_category(name, prefix).unwrap();
        let details = Details { name: name.into(), rrp: String::new(), info: String::new() };
        catalog.add_product(category, &format!("{prefix}1"), details).unwrap();
    }
    let mut runs = RunList::default();
    runs.begin("run".to_owned(), 0);
    let (history, log) = history::prepare();
    let first = Start { last_seq: 10, ..nothing(&runs) };
    let (handle, _thread) = start(&Arc::new(RwLock::new(catalog)), &first, &history, [()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow_sockets = slow_sockets::start(|_| {}).unwrap().0;
    let mut clients = Vec::new();
    let mut pages_asked_for = |category: u32, since: u64| {
        clients.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets.clone());
        let subscription = Subscription {
            feed: Feed::Category(CategoryIndex(category)),
            format: Format::Positioned,
            options: Options::default(),
        };
        let before = log.waiting();
        handle.subscribe(subscriber, subscription, Some(&format!("run.{}.{since}", category + 1)));
        assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
        log.waiting() - before
    };
    let publish = |seqs: std::ops::RangeInclusive<u64>| {
        let total = Total::default();
        let orders: Vec<_> = seqs.map(|seq| Publication { product: ProductIndex(0), total, seq }).collect();
        orders.chunks(1_000).for_each(|orders| {
            handle.publish(orders);
            assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
        });
    };
    // Before this run a feed may have had orders up to the last one.
    assert_eq!(
        [(0, 9), (0, 10), (1, 9), (1, 10)].map(|(category, since)| pages_asked_for(category, since)),
        [1, 0, 1, 0]
    );
    publish(11..=10_011);
    let quiet = [0, 9, 10, 5_000, 10_011].map(|since| pages_asked_for(1, since));
    assert_eq!(quiet, [1, 1, 0, 0, 0]);
    // From the log, or a snapshot, or from memory.
    let busy = [10, 11, 12, 9_000, 10_011].map(|since| pages_asked_for(0, since));
    assert_eq!(busy, [0, 1, 1, 0, 0]);
}

/// The catalogue is larger than the socket's buffers: the first part of the snapshot is sent, and the rest when the
/// client reads. Meanwhile a product of the first part and two of the rest change.
#[test]
fn a_snapshot_in_parts_has_each_product_once_and_then_what_has_changed_since() {
    const PRODUCTS: u32 = 10_000;
    let mut catalog = Catalog::default();
    let tools = catalog.add_category("tools", "T").unwrap();
    let ids: Vec<String> = (0..PRODUCTS).map(|number| format!("T{number:063}")).collect();
    for id in &ids {
        let details = Details { name: "x".into(), rrp: String::new(), info: String::new() };
        catalog.add_product(tools, id, details).unwrap();
    }
    let mut runs = RunList::default();
    runs.begin("run".to_owned(), 0);
    for format in [Format::Plain, Format::Positioned, Format::Events] {
        let first = nothing(&runs);
        let catalog = Arc::new(RwLock::new(catalog.clone()));
        let (handle, _thread) = start(&catalog, &first, &history::prepare().0, [()]).unwrap();
        let publish = |seq: u64, product: u32, total: i64| {
            let (product, total) = (ProductIndex(product), Total::new(total).unwrap());
            handle.publish(&[Publication { product, total, seq }]);
            assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        crate::http::socket::bound_send_buffers(&listener);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let to_fanout = handle.clone();
        let slow_sockets = slow_sockets::start(move |subscriber| to_fanout.request_catch_up(subscriber)).unwrap().0;
        let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets);
        handle.subscribe(
            subscriber.clone(),
            Subscription { feed: Feed::Category(tools), format, options: Options::default() },
            None,
        );
        // Answered behind the subscription.
        assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
        publish(1, 0, 5);
        publish(2, PRODUCTS - 1, 6);
        publish(3, PRODUCTS - 2, 7);
        publish(4, 0, 8);
        assert!(subscriber.is_lagging());
        let mut received = Vec::new();
        let mut chunk = [0; 16 * 1024];
        let mut read_until = |end: &str| {
            while !String::from_utf8_lossy(&received).contains(end) {
                let read = client.read(&mut chunk).unwrap();
                received.extend_from_slice(&chunk[..read]);
            }
        };
        read_until("\"total\":8");
        while subscriber.is_lagging() {
            thread::yield_now();
        }
        publish(5, 1, 9);
        read_until("\"total\":9");
        let text = String::from_utf8_lossy(&received);
        let totals = text.split("{\"id\":\"").skip(1).map(|rest| {
            let (id, rest) = rest.split_once("\",\"total\":").unwrap();
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap();
            (id, rest[..digits].parse::<u64>().unwrap())
        });
        let in_snapshot = |index: u32| match PRODUCTS - index {
            1 => 6,
            2 => 7,
            _ => 0,
        };
        let expected = (0..PRODUCTS).map(|index| (ids[index as usize].as_str(), in_snapshot(index)));
        let expected = expected.chain([(ids[0].as_str(), 8), (ids[1].as_str(), 9)]);
        assert!(totals.eq(expected), "{format:?}: {} bytes end with {}", text.len(), &text[text.len() - 500..]);
        let positions = text.split("run.1.").skip(1).map(|rest| &rest[..1]).filter(|digit| *digit != "s");
        let positions: Vec<&str> = positions.collect();
        assert_eq!(positions, if format == Format::Plain { vec![] } else { vec!["4", "5"] });
        subscriber.close();
    }
}

#[test]
fn orders_that_exceed_one_round_are_all_sent_in_order() {
    const ORDERS: u64 = 2_000;
    let mut catalog = Catalog::default();
    let tools = catalog.add_category("tools", "T").unwrap();
    let details = Details { name: "x".into(), rrp: String::new(), info: String::new() };
    catalog.add_product(tools, "T1", details).unwrap();
    let mut runs = RunList::default();
    runs.begin("run".to_owned(), 0);
    for format in [Format::Plain, Format::Positioned, Format::Events] {
        let first = nothing(&runs);
        let catalog = Arc::new(RwLock::new(catalog.clone()));
        let (handle, _thread) = start(&catalog, &first, &history::prepare().0, [()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        // So that it takes all of them.
        socket2::SockRef::from(&stream).set_send_buffer_size(1 << 20).unwrap();
        let subscriber = Subscriber::new(Arc::new(stream), slow_sockets::start(|_| {}).unwrap().0);
        handle.subscribe(subscriber, Subscription { feed: Feed::All, format, options: Options::default() }, None);
        assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
        let order = |seq: u64| Publication { product: ProductIndex(0), total: Total::new(seq as i64).unwrap(), seq };
        handle.publish(&(1..=ORDERS).map(order).collect::<Vec<_>>());
        handle.finish();
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            String::from_utf8_lossy(&received).into_owned()
        });
        assert!(handle.totals(Feed::All, Counts::Lifetime).is_some());
        handle.stop();
        let text = reader.join().unwrap();
        let totals = text.split("\"total\":").skip(1).map(|rest| {
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap();
            rest[..digits].parse::<u64>().unwrap()
        });
        assert!(totals.eq(0..=ORDERS), "{format:?}");
    }
}
