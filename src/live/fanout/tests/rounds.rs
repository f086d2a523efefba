//! What comes while rounds are sent.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::super::*;
use super::options::{Client, TOOLS, details, total};
use super::{nothing, one};
use crate::live::history;
use crate::live::subscriber::Watcher;
use crate::tally::catalog::CategoryIndex;
use crate::tally::order::Publication;

type During = Box<dyn FnOnce(&FanoutHandle, &SharedCatalog) + Send>;

/// Does something each time that a socket is found to be full: in the middle of a round.
struct WhenFull(FanoutHandle, SharedCatalog, Mutex<VecDeque<During>>);

impl Watcher for WhenFull {
    fn watch(&self, _: Arc<Subscriber>) {
        let act = self.2.lock().unwrap().pop_front();
        act.expect("no other socket is full")(&self.0, &self.1);
    }
}

fn publish(handle: &FanoutHandle, seq: u64) {
    handle.publish(&[Publication { product: ProductIndex(0), total: total(seq as i64), seq }]);
    handle.wake();
}

/// Sends order 1 to 40 subscribers, ten of them with positions, of which some others have a full socket: `during` happens
/// then, first at the 5th and then at the 20th. Returns the others, which have been sent what one relay sends.
fn send_round<const N: usize>(during: [During; N]) -> (Fanout, FanoutHandle, Vec<Client>) {
    let mut runs = RunList::default();
    runs.begin("run".to_owned(), 0);
    let (mut fanout, handle) = one(&nothing(&runs), &history::prepare().0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let watcher = Arc::new(WhenFull(handle.clone(), fanout.catalog.clone(), Mutex::new(during.into())));
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
    let full: Vec<Client> = [20, 5].into_iter().skip(2 - N).map(|at| clients.remove(at)).collect();
    for client in &full {
        let mut stream = client.subscriber.stream();
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 4 * 1024]).map_err(|error| assert_eq!(error.kind(), ErrorKind::WouldBlock)).is_ok() {}
    }
    publish(&handle, 1);
    assert!(matches!(fanout.events.try_recv(), Ok(Event::Published)));
    fanout.relay(true);
    (fanout, handle, clients)
}

/// That each client has received these totals since the last call, with positions where it gets them.
fn assert_received(clients: &mut [Client], totals: &[u64]) {
    let plain = clients.len() - 10;
    for (number, client) in clients.iter_mut().enumerate() {
        let position = |total: &u64| if number < plain { String::new() } else { format!(" run.1.{total}") };
        let expected = totals.iter().map(|total| format!("T1 {total}{}", position(total)));
        assert_eq!(client.received(), expected.collect::<Vec<_>>(), "client {number}");
    }
}

#[test]
fn orders_that_come_during_a_round_reach_everyone_once_and_in_order() {
    let (fanout, _handle, mut clients) = send_round([Box::new(|handle, _| {
        publish(handle, 2);
        publish(handle, 3);
    })]);
    assert_received(&mut clients, &[1, 2, 3]);
    assert!(fanout.events.is_empty() && fanout.next_event.is_none());
}

#[test]
fn a_round_ends_without_later_orders_when_something_else_is_to_be_done() {
    let (sender, answered) = bounded(1);
    let (mut fanout, handle, mut clients) = send_round([Box::new(move |handle, _| {
        handle.events[0].send(Event::Ping(sender)).unwrap();
        publish(handle, 2);
    })]);
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
    let (mut fanout, _handle, mut clients) = send_round([Box::new(|handle, _| {
        publish(handle, 2);
        handle.publish_catalog(CategoryIndex(0));
        publish(handle, 3);
    })]);
    assert_received(&mut clients, &[1]);
    assert!(matches!(fanout.next_event, Some(Event::Published)));
    fanout.relay(true);
    assert_received(&mut clients, &[2, 3]);
}

#[test]
fn many_orders_at_once_wait_for_the_end_of_the_round() {
    let (mut fanout, _handle, mut clients) = send_round([Box::new(|handle, _| {
        let order = |seq: u64| Publication { product: ProductIndex(0), total: total(seq as i64), seq };
        handle.publish(&(2..=1_000).map(order).collect::<Vec<_>>());
        handle.wake();
    })]);
    assert_received(&mut clients, &[1]);
    fanout.relay(true);
    assert_received(&mut clients, &(2..=1_000).collect::<Vec<_>>());
}

#[test]
fn a_new_product_ends_the_round_so_that_it_can_be_told_of() {
    let (mut fanout, _handle, mut clients) = send_round([
        Box::new(|handle, catalog| {
            let product = catalog.write().unwrap().add_product(CategoryIndex(1), "Y2", details()).unwrap();
            handle.publish(&[Publication { product, total: total(0), seq: 2 }]);
            handle.wake();
        }),
        Box::new(|handle, _| publish(handle, 3)),
    ]);
    assert!(!fanout.has_news && fanout.products.len() == 4);
    assert_received(&mut clients, &[1]);
    fanout.relay(true);
    assert_received(&mut clients, &[3]);
}

/// Whether orders do not wake the thread.
fn is_announced(handle: &FanoutHandle) -> bool {
    handle.shared.threads[0].announced.load(Ordering::Acquire)
}

#[test]
fn orders_do_not_end_a_pause_between_turns_and_are_added_at_its_end() {
    let (mut fanout, handle, mut clients) = send_round([Box::new(|handle, _| publish(handle, 2))]);
    assert_received(&mut clients, &[1, 2]);
    publish(&handle, 3);
    let (begun, pause) = (Instant::now(), Duration::from_millis(20));
    assert!(fanout.pause(pause) && begun.elapsed() >= pause);
    assert!(fanout.events.is_empty() && fanout.next_event.is_none() && !is_announced(&handle));
    // From now on orders wake the thread again.
    publish(&handle, 4);
    assert!(matches!(fanout.events.try_recv(), Ok(Event::Published)));
    fanout.send_rounds(true);
    assert_received(&mut clients, &[3]);
    fanout.relay(true);
    assert_received(&mut clients, &[4]);
}

#[test]
fn everything_else_ends_a_pause_between_turns_at_once() {
    let (mut fanout, handle, mut clients) = send_round([Box::new(|handle, _| publish(handle, 2))]);
    assert_received(&mut clients, &[1, 2]);
    let (sender, answered) = bounded(1);
    let asking = thread::spawn(move || {
        let begun = Instant::now();
        while !is_announced(&handle) {
            assert!(begun.elapsed() < Duration::from_secs(10), "the pause has not begun");
            thread::yield_now();
        }
        publish(&handle, 3);
        handle.events[0].send(Event::Ping(sender)).unwrap();
    });
    assert!(!fanout.pause(Duration::from_secs(60)));
    asking.join().unwrap();
    // Order 3 has sent no event.
    assert!(matches!(fanout.next_event, Some(Event::Ping(_))) && fanout.events.is_empty());
    let event = fanout.next_event.take().unwrap();
    fanout.relay(false);
    fanout.act(event);
    assert!(answered.try_recv().is_ok());
    assert_received(&mut clients, &[3]);
}

#[test]
fn a_pause_between_turns_ends_when_something_is_due() {
    let (mut fanout, _handle, _clients) = send_round([Box::new(|handle, _| publish(handle, 2))]);
    fanout.rests_until = Some(fanout.now() + 1_000);
    assert!(!fanout.pause(Duration::from_secs(60)));
    assert!(matches!(fanout.next_event, Some(Event::Published)));
}

#[test]
fn turns_in_which_several_orders_came_are_followed_by_a_pause() {
    let came = Arc::new(Mutex::new(None));
    let note = came.clone();
    let (_fanout, _handle, mut clients) = send_round([Box::new(move |handle, _| {
        // So long that the pause after these turns is the longest.
        thread::sleep(Duration::from_millis(60));
        for seq in 2..=4 {
            publish(handle, seq);
        }
        *note.lock().unwrap() = Some(Instant::now());
    })]);
    assert!(came.lock().unwrap().unwrap().elapsed() >= Duration::from_millis(5));
    assert_received(&mut clients, &[1, 2, 3, 4]);
}
