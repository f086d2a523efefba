//! The fan-out thread with a log that nobody reads yet.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::RwLock;

use super::*;
use crate::live::history::{PageSink as _, ReplayPage};
use crate::live::{history, slow_sockets};
use crate::tally::catalog::{Catalog, Details};

#[test]
fn one_page_of_the_log_is_under_way_for_a_subscriber_however_often_it_catches_up() {
    let mut catalog = Catalog::default();
    catalog.add_category("tools", "T").unwrap();
    let mut runs = RunList::default();
    runs.begin("run".to_owned(), 0);
    let (history, log) = history::prepare();
    let first = Start { totals: &[], last_seq: 10, runs: &runs };
    let (handle, thread) = start(Arc::new(RwLock::new(catalog)), &first, history).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets::start(|_| {}).unwrap().0);
    let subscription = Subscription { feed: Feed::All, format: Format::Positioned };
    handle.subscribe(subscriber.clone(), subscription, Some("run.0.3"));
    let pages_asked_for = || {
        (0..3).for_each(|_| handle.request_catch_up(subscriber.clone()));
        // Answered behind all of them.
        assert!(handle.totals(Feed::All).is_some());
        log.waiting()
    };
    assert_eq!(pages_asked_for(), 1);
    // One that it has not asked for changes nothing.
    handle.take_page(ReplayPage { subscriber: subscriber.clone(), after: 5, publications: None });
    assert_eq!(pages_asked_for(), 1);
    handle.move_to(subscriber.clone(), Subscription { feed: Feed::Category(CategoryIndex(0)), ..subscription });
    handle.take_page(ReplayPage { subscriber: subscriber.clone(), after: 3, publications: None });
    assert_eq!(pages_asked_for(), 1, "it got a snapshot");
    drop(client);
    handle.stop();
    drop(handle);
    thread.join().unwrap();
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
    let first = Start { totals: &[Total::default(); 4], last_seq: 0, runs: &RunList::default() };
    let (handle, _thread) = start(Arc::new(RwLock::new(catalog)), &first, history::prepare().0).unwrap();
    let publish = |numbers: &[(u32, i64)]| {
        let publication = |(index, &(product, total)): (usize, &(u32, i64))| Publication {
            product: ProductIndex(product),
            total: Total::new(total).unwrap(),
            seq: index as u64 + 1,
        };
        handle.publish(&numbers.iter().enumerate().map(publication).collect::<Vec<_>>());
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets::start(|_| {}).unwrap().0);
    handle.subscribe(subscriber.clone(), Subscription { feed: Feed::Category(tools), format: Format::Plain }, None);
    assert!(handle.totals(Feed::All).is_some());
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
