//! The fan-out thread with a log that nobody reads yet.

use std::net::{TcpListener, TcpStream};
use std::sync::RwLock;

use super::*;
use crate::live::history::{Feed as _, Page};
use crate::live::{history, slow_sockets};
use crate::tally::catalog::Catalog;

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
    let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets::prepare().unwrap().0);
    let subscription = Subscription { feed: Feed::All, format: Format::Positioned };
    handle.subscribe(subscriber.clone(), subscription, Some("run.0.3"));
    let pages_asked_for = || {
        (0..3).for_each(|_| handle.caught_up(subscriber.clone()));
        // Answered behind all of them.
        assert!(handle.totals(Feed::All).is_some());
        log.waiting()
    };
    assert_eq!(pages_asked_for(), 1);
    // One that it has not asked for changes nothing.
    handle.take_page(Page { subscriber: subscriber.clone(), after: 5, steps: None });
    assert_eq!(pages_asked_for(), 1);
    handle.move_to(subscriber.clone(), Subscription { feed: Feed::Category(CategoryIndex(0)), ..subscription });
    handle.take_page(Page { subscriber: subscriber.clone(), after: 3, steps: None });
    assert_eq!(pages_asked_for(), 1, "it was given a snapshot");
    drop(client);
    handle.stop();
    drop(handle);
    thread.join().unwrap();
}
