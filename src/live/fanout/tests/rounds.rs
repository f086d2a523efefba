//! What comes while rounds are sent.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::super::*;
use super::options::{Client, TOOLS, total};
use super::{nothing, one};
use crate::live::history;
use crate::live::subscriber::Watcher;
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::Publication;

/// Does something as soon as a socket is found to be full: in the middle of a round.
struct WhenFull(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Watcher for WhenFull {
    fn watch(&self, _: Arc<Subscriber>) {
        let act = self.0.lock().unwrap().take();
        act.expect("one socket is full")();
    }
}

fn publish(handle: &FanoutHandle, seq: u64) {
    handle.publish(&[Publication { product: ProductIndex(0), total: total(seq as i64), seq }]);
    handle.wake();
}

/// Sends order 1 to 40 subscribers, of which the 20th has a full socket, at which `during` happens. Returns the fan-out
/// and the others, half of them with positions; all have been sent what a first relay sends.
fn send_round(during: impl FnOnce(&FanoutHandle) + Send + 'static) -> (Fanout, FanoutHandle, Vec<Client>) {
    let mut runs = RunList::default();
    runs.begin("run".to_owned(), 0);
    let (mut fanout, handle) = one(&nothing(&runs), &history::prepare().0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_round = handle.clone();
    let watcher = Arc::new(WhenFull(Mutex::new(Some(Box::new(move || during(&in_round))))));
    let mut clients: Vec<Client> = (0..40)
        .map(|number| {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), watcher.clone());
            let format = if number < 30 { Format::Plain } else { Format::Positioned };
            fanout.subscribe(&subscriber, Subscription { feed: TOOLS, format, options: Options::default() }, None);
            Client::new(stream, subscriber, format)
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.received().len(), 2);
    }
    let full = clients.remove(20);
    let mut stream = full.subscriber.stream();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 4 * 1024]).map_err(|error| assert_eq!(error.kind(), ErrorKind::WouldBlock)).is_ok() {}
    publish(&handle, 1);
    assert!(matches!(fanout.events.try_recv(), Ok(Event::Published)));
    fanout.relay(true);
    (fanout, handle, clients)
}

/// That each client has received these totals since the last call, with positions where it gets them.
fn assert_received(clients: &mut [Client], totals: &[u64]) {
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = totals.iter().map(|total| match number {
            ..29 => format!("T1 {total}"),
            _ => format!("T1 {total} run.1.{total}"),
        });
        assert_eq!(client.received(), expected.collect::<Vec<_>>(), "client {number}");
    }
}

#[test]
fn orders_that_come_during_a_round_reach_everyone_once_and_in_order() {
    let (fanout, _handle, mut clients) = send_round(|handle| {
        publish(handle, 2);
        publish(handle, 3);
    });
    assert_received(&mut clients, &[1, 2, 3]);
    assert!(fanout.events.is_empty() && fanout.next_event.is_none());
}

#[test]
fn a_round_ends_without_later_orders_when_something_else_is_to_be_done() {
    let (sender, answered) = bounded(1);
    let (mut fanout, handle, mut clients) = send_round(move |handle| {
        handle.events[0].send(Event::Ping(sender)).unwrap();
        publish(handle, 2);
    });
    assert_received(&mut clients, &[1]);
    let event = fanout.next_event.take().unwrap();
    fanout.relay(false);
    fanout.act(event);
    assert!(answered.try_recv().is_ok());
    assert_received(&mut clients, &[2]);
    publish(&handle, 3);
    fanout.relay(true);
    assert_received(&mut clients, &[3]);
}

#[test]
fn a_change_of_the_catalogue_waits_for_the_end_of_the_round_and_orders_behind_it_too() {
    let (mut fanout, _handle, mut clients) = send_round(|handle| {
        publish(handle, 2);
        handle.publish_catalog(CategoryIndex(0));
        publish(handle, 3);
    });
    assert_received(&mut clients, &[1]);
    assert!(matches!(fanout.next_event, Some(Event::Published)));
    fanout.relay(true);
    assert_received(&mut clients, &[2, 3]);
}

#[test]
fn many_orders_at_once_wait_for_the_end_of_the_round() {
    let (mut fanout, _handle, mut clients) = send_round(|handle| {
        let order = |seq: u64| Publication { product: ProductIndex(0), total: total(seq as i64), seq };
        handle.publish(&(2..=1_000).map(order).collect::<Vec<_>>());
        handle.wake();
    });
    assert_received(&mut clients, &[1]);
    fanout.relay(true);
    assert_received(&mut clients, &(2..=1_000).collect::<Vec<_>>());
}
