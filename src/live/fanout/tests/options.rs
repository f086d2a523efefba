//! Paced feeds, feeds of the period, and what becomes of groups.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::RwLock;

use super::super::*;
use super::{nothing, one};
use crate::live::history::Queries;
use crate::live::slow_sockets::SlowSockets;
use crate::live::{history, slow_sockets};
use crate::tally::catalog::{Catalog, CategoryIndex, Details};
use crate::tally::order::Publication;

/// A fan-out thread over two categories, `tools` with T1 and T2 and `toys` with Y1; nobody reads the log.
pub(super) struct Bench {
    pub(super) handle: FanoutHandle,
    pub(super) catalog: SharedCatalog,
    pub(super) log: Queries,
    listener: TcpListener,
    slow_sockets: Arc<SlowSockets>,
}

pub(super) const TOOLS: Feed = Feed::Category(CategoryIndex(0));
pub(super) const TOYS: Feed = Feed::Category(CategoryIndex(1));

pub(super) fn catalog() -> SharedCatalog {
    let mut catalog = Catalog::default();
    for (category, ids) in [("tools", &["T1", "T2"][..]), ("toys", &["Y1"])] {
        let index = catalog.add_category(category, "P").unwrap();
        for id in ids {
            catalog.add_product(index, id, details()).unwrap();
        }
    }
    Arc::new(RwLock::new(catalog))
}

pub(super) fn details() -> Details {
    Details { name: "x".into(), rrp: String::new(), info: String::new() }
}

fn runs() -> RunList {
    let mut runs = RunList::default();
    runs.begin("old".to_owned(), 0);
    runs.begin("run".to_owned(), 10);
    runs
}

pub(super) fn total(total: i64) -> Total {
    Total::new(total).unwrap()
}

impl Bench {
    /// After ten orders, with totals of 0.
    pub(super) fn new() -> Self {
        let (history, log) = history::prepare();
        let catalog = catalog();
        let (handle, _) = start(&catalog, &Start { last_seq: 10, ..nothing(&runs()) }, &history, [()]).unwrap();
        let to_fanout = handle.clone();
        let slow_sockets = slow_sockets::start(move |subscriber| to_fanout.request_catch_up(subscriber)).unwrap().0;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        crate::http::socket::bound_send_buffers(&listener);
        Self { handle, catalog, log, listener, slow_sockets }
    }

    pub(super) fn publish(&self, orders: &[(u64, u32, i64)]) {
        let publication = |&(seq, product, number): &(u64, u32, i64)| Publication {
            product: ProductIndex(product),
            total: total(number),
            seq,
        };
        self.handle.publish(&orders.iter().map(publication).collect::<Vec<_>>());
        self.handle.wake();
    }

    /// Lets everything that is published from now on wait for [`Self::settle`].
    pub(super) fn hold(&self) {
        self.settle();
        self.handle.shared.threads[0].announced.store(true, Ordering::Release);
    }

    /// Waits until the thread has done everything that it was asked for.
    pub(super) fn settle(&self) {
        assert!(self.handle.totals(Feed::All, Counts::Lifetime).is_some());
    }

    pub(super) fn subscribe(&self, feed: Feed, format: Format, options: Options, since: Option<&str>) -> Client {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let subscriber = Subscriber::new(Arc::new(self.listener.accept().unwrap().0), self.slow_sockets.clone());
        self.handle.subscribe(subscriber.clone(), Subscription { feed, format, options }, since);
        Client::new(stream, subscriber, format)
    }

    /// What this client was sent so far.
    pub(super) fn sent(&self, client: &mut Client) -> Vec<String> {
        self.settle();
        client.received()
    }
}

pub(super) struct Client {
    stream: TcpStream,
    pub(super) subscriber: Arc<Subscriber>,
    is_events: bool,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn new(stream: TcpStream, subscriber: Arc<Subscriber>, format: Format) -> Self {
        Self { stream, subscriber, is_events: format == Format::Events, buffer: Vec::new() }
    }

    fn read(&mut self) -> bool {
        let mut chunk = [0; 4 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                read > 0
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                false
            }
        }
    }

    /// What it has received so far.
    pub(super) fn received(&mut self) -> Vec<String> {
        self.stream.set_nonblocking(true).unwrap();
        while self.read() {}
        self.stream.set_nonblocking(false).unwrap();
        self.messages()
    }

    /// Reads until one message has come.
    pub(super) fn wait(&mut self) -> Vec<String> {
        self.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut messages = self.messages();
        while messages.is_empty() {
            assert!(self.read(), "nothing more came");
            messages = self.messages();
        }
        messages
    }

    /// Takes the whole messages that have been read, short as `T1 5 run.1.17`.
    fn messages(&mut self) -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            let (message, end) = if self.is_events {
                let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") else { break };
                (self.buffer[..end].to_vec(), end + 2)
            } else {
                let [0x81, length, payload @ ..] = &self.buffer[..] else { break };
                let Some(payload) = payload.get(..usize::from(*length)) else { break };
                (payload.to_vec(), 2 + payload.len())
            };
            self.buffer.drain(..end);
            let message = String::from_utf8(message).unwrap();
            let short =
                message.replace("{\"id\":\"", "").replace("\",\"total\":", " ").replace(",\"position\":\"", " ");
            messages.push(if short == message { message } else { short.replace(['"', '}'], "") });
        }
        messages
    }
}

pub(super) fn every(ms: u32) -> Options {
    Options { every: Interval::from_ms(ms), ..Options::default() }
}

fn of_period() -> Options {
    Options { counts: Counts::Period, ..Options::default() }
}

#[test]
fn a_paced_feed_has_the_first_change_at_once_and_then_the_latest_after_the_interval() {
    let bench = Bench::new();
    let mut client = bench.subscribe(TOOLS, Format::Plain, every(1_000), None);
    assert_eq!(bench.sent(&mut client), ["T1 0", "T2 0"]);
    let begun = Instant::now();
    bench.publish(&[(11, 0, 1)]);
    assert_eq!(bench.sent(&mut client), ["T1 1"]);
    bench.publish(&[(12, 0, 2), (13, 2, 9), (14, 0, 3)]);
    bench.publish(&[(15, 1, 7), (16, 0, 4)]);
    assert_eq!(bench.sent(&mut client), ["T2 7"]);
    assert_eq!(client.wait(), ["T1 4"]);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // Nothing waits any more.
    bench.publish(&[(17, 2, 10)]);
    assert_eq!(bench.sent(&mut client), [""; 0]);
}

#[test]
fn orders_that_follow_closely_reach_paced_feeds_and_those_without_an_interval() {
    let bench = Bench::new();
    let mut client = bench.subscribe(Feed::All, Format::Plain, every(60_000), None);
    assert_eq!(bench.sent(&mut client).len(), 3);
    bench.publish(&[(11, 0, 1)]);
    assert_eq!(client.wait(), ["T1 1"]);
    // Whether or not the thread rests, nothing but these wakes it.
    bench.publish(&[(12, 1, 2)]);
    assert_eq!(client.wait(), ["T2 2"]);
    bench.publish(&[(13, 2, 3)]);
    let mut plain = bench.subscribe(Feed::All, Format::Plain, Options::default(), None);
    assert_eq!(bench.sent(&mut plain), ["T1 1", "T2 2", "Y1 3"]);
    bench.publish(&[(14, 0, 4)]);
    assert_eq!(plain.wait(), ["T1 4"]);
}

#[test]
fn orders_do_not_wake_a_thread_that_has_just_taken_some_while_every_feed_has_an_interval() {
    let bench = Bench::new();
    let (mut fanout, handle) = one(&nothing(&runs()), &history::prepare().0);
    let subscriber = || {
        let client = TcpStream::connect(bench.listener.local_addr().unwrap()).unwrap();
        (Subscriber::new(Arc::new(bench.listener.accept().unwrap().0), bench.slow_sockets.clone()), client)
    };
    let subscription = |options| Subscription { feed: Feed::All, format: Format::Plain, options };
    let wanted = || handle.shared.threads[0].wanted.load(Ordering::Acquire);
    let (first, _client) = subscriber();
    fanout.act(Event::Subscribe(first, subscription(every(60_000)), None));
    fanout.rest(false);
    assert!(wanted());
    fanout.rest(true);
    assert!(!wanted() && fanout.next_due() == fanout.rests_until);
    // Its end.
    fanout.rests_until = Some(0);
    fanout.rest(false);
    assert!(wanted() && fanout.next_due().is_none());
    fanout.rest(true);
    let (second, _other) = subscriber();
    fanout.act(Event::Subscribe(second, subscription(Options::default()), None));
    fanout.rest(true);
    assert!(wanted() && fanout.rests_until.is_none());
}

#[test]
fn a_client_loses_nothing_when_it_resumes_a_paced_feed_from_any_position() {
    let bench = Bench::new();
    let mut client = bench.subscribe(Feed::All, Format::Positioned, every(2_000), None);
    assert_eq!(bench.sent(&mut client), ["T1 0 run.0.snapshot", "T2 0 run.0.snapshot", "Y1 0 run.0.10"]);
    bench.publish(&[(11, 0, 1)]);
    assert_eq!(bench.sent(&mut client), ["T1 1 run.0.11"]);
    bench.publish(&[(12, 0, 2), (13, 1, 5), (14, 0, 3), (15, 2, 6)]);
    // T1 waits since order 12.
    assert_eq!(bench.sent(&mut client), ["T2 5 run.0.11", "Y1 6 run.0.11"]);
    let resumed = |since: &str| {
        let mut client = bench.subscribe(Feed::All, Format::Positioned, every(10_000), Some(since));
        bench.sent(&mut client)
    };
    assert_eq!(resumed("run.0.11"), ["T2 5 run.0.snapshot", "T1 3 run.0.snapshot", "Y1 6 run.0.15"]);
    assert_eq!(resumed("run.0.13"), ["T1 3 run.0.snapshot", "Y1 6 run.0.15"]);
    assert_eq!(resumed("run.0.15"), [""; 0]);
    // Orders of an earlier run are not known by product.
    for since in ["old.0.9", "run.0.9", "run.0.16", "run.0p.15", "run.1.15"] {
        assert_eq!(resumed(since).len(), 3, "{since}");
    }
    assert_eq!(bench.log.waiting(), 0);
    assert_eq!(client.wait(), ["T1 3 run.0.15"]);
}

#[test]
fn a_lagging_subscriber_of_a_paced_feed_gets_what_it_missed_and_what_was_held_back() {
    let bench = Bench::new();
    for format in [Format::Plain, Format::Events] {
        let mut client = bench.subscribe(TOOLS, format, every(1_000), None);
        assert_eq!(bench.sent(&mut client).len(), 2);
        bench.publish(&[(11, 0, 1)]);
        assert_eq!(bench.sent(&mut client).len(), 1);
        bench.publish(&[(12, 0, 2)]);
        bench.settle();
        // From behind that change on, which waits, as if a later one had found no room.
        let _ = client.subscriber.lag_from(u64::MAX);
        let catch_up = || {
            bench.handle.request_catch_up(client.subscriber.clone());
            bench.settle();
        };
        while client.subscriber.is_lagging() {
            thread::sleep(Duration::from_millis(5));
            if client.subscriber.owed_from() != Some(u64::MAX) {
                catch_up();
            }
        }
        let event = ["T1 2", "id: run.1.12\ndata: T1 2"][usize::from(format == Format::Events)];
        assert_eq!(bench.sent(&mut client), [event]);
        client.subscriber.close();
        bench.handle.leave(client.subscriber.clone());
    }
}

#[test]
fn what_waits_in_a_paced_feed_is_sent_before_the_end() {
    let bench = Bench::new();
    let mut clients = [Format::Plain, Format::Events].map(|form| bench.subscribe(TOOLS, form, every(60_000), None));
    bench.settle();
    bench.publish(&[(11, 0, 1)]);
    bench.settle();
    bench.publish(&[(12, 0, 2)]);
    bench.settle();
    bench.handle.finish();
    assert_eq!(bench.sent(&mut clients[0]), ["T1 0", "T2 0", "T1 1", "T1 2"]);
    assert_eq!(clients[0].buffer[0], json::CLOSE_FRAME);
    let events = bench.sent(&mut clients[1]);
    assert_eq!(events[3..], ["id: run.1.12\ndata: T1 2", ": the server is shutting down"]);
}

#[test]
fn groups_are_shared_and_removed_with_their_last_subscriber() {
    let (mut fanout, _handle) = one(&nothing(&runs()), &history::prepare().0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow_sockets = slow_sockets::start(|_| {}).unwrap().0;
    let subscriber = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets.clone()), client)
    };
    let plain = Subscription { feed: TOOLS, format: Format::Plain, options: Options::default() };
    let notices = Notices { status: true, catalog: true };
    let subscriptions = [
        plain,
        Subscription { options: Options { notices, ..Options::default() }, ..plain },
        Subscription { options: every(100), ..plain },
        Subscription { options: Options { notices, ..every(90) }, ..plain },
        Subscription { options: of_period(), ..plain },
        Subscription { feed: Feed::All, ..plain },
    ];
    for _ in 0..3 {
        let listed = subscriptions.map(|subscription| {
            let (subscriber, client) = subscriber();
            fanout.subscribe(&subscriber, subscription, None);
            (subscriber, client)
        });
        assert_eq!((fanout.groups.len(), fanout.vacant.len(), fanout.paced.len()), (4, 0, 1));
        assert_eq!((fanout.feeds[0].groups.len(), fanout.feeds[1].groups.len()), (1, 3));
        assert!(fanout.status_subscribers == 2 && fanout.next_due().is_some());
        for (subscriber, _) in &listed {
            fanout.unlist(subscriber);
        }
        assert_eq!((fanout.groups.len(), fanout.vacant.len(), fanout.paced.len()), (4, 4, 0));
        assert!(fanout.places.is_empty() && fanout.feeds.iter().all(|feed| feed.groups.is_empty()));
        assert_eq!((fanout.status_subscribers, fanout.next_due()), (0, None));
    }
}

#[test]
fn a_feed_of_the_period_counts_from_its_opening_and_begins_anew_with_the_next() {
    let bench = Bench::new();
    bench.publish(&[(11, 0, 5), (12, 1, 7)]);
    bench.handle.publish_period([5, 7, 0].map(total).into(), 12);
    bench.publish(&[(13, 0, 6)]);
    let mut clients = [Format::Plain, Format::Positioned].map(|form| bench.subscribe(TOOLS, form, of_period(), None));
    let mut lifetime = bench.subscribe(TOOLS, Format::Plain, Options::default(), None);
    assert_eq!(bench.sent(&mut clients[0]), ["T1 1", "T2 0"]);
    assert_eq!(bench.sent(&mut clients[1]), ["T1 1 run.1p.snapshot", "T2 0 run.1p.13"]);
    assert_eq!(bench.sent(&mut lifetime), ["T1 6", "T2 7"]);
    let array = |counts| String::from_utf8(bench.handle.totals(TOOLS, counts).unwrap().to_vec()).unwrap();
    assert_eq!(array(Counts::Period), r#"[{"id":"T1","total":1},{"id":"T2","total":0}]"#);
    assert_eq!(array(Counts::Lifetime), r#"[{"id":"T1","total":6},{"id":"T2","total":7}]"#);
    // The orders on both sides of a close are in one round.
    bench.hold();
    bench.publish(&[(14, 1, 4), (15, 0, 9)]);
    bench.handle.publish_period([9, 4, 0].map(total).into(), 15);
    bench.publish(&[(16, 0, 8)]);
    assert_eq!(bench.sent(&mut clients[0]), ["T2 -3", "T1 4", "T1 -1", "T2 0"]);
    let expected = ["T2 -3 run.1p.14", "T1 4 run.1p.15", "T1 -1 run.1p.snapshot", "T2 0 run.1p.16"];
    assert_eq!(bench.sent(&mut clients[1]), expected);
    assert_eq!(bench.sent(&mut lifetime), ["T2 4", "T1 9", "T1 8"]);
    assert_eq!(array(Counts::Period), r#"[{"id":"T1","total":-1},{"id":"T2","total":0}]"#);
    bench.publish(&[(17, 1, 5)]);
    assert_eq!(bench.sent(&mut clients[0]), ["T2 1"]);
    let resumed = |since: &str, options: Options| {
        let mut client = bench.subscribe(TOOLS, Format::Positioned, options, Some(since));
        bench.sent(&mut client)
    };
    assert_eq!(resumed("run.1p.16", of_period()), ["T2 1 run.1p.17"]);
    assert_eq!(resumed("run.1p.17", of_period()), [""; 0]);
    assert_eq!(resumed("run.1.16", Options::default()), ["T2 5 run.1.17"]);
    // From before the opening, or of numbers of the other kind.
    for (since, options) in [
        ("run.1p.15", of_period()),
        ("run.1p.12", of_period()),
        ("run.1.16", of_period()),
        ("run.1p.16", Options::default()),
        ("run.1p.15", Options { every: Interval::from_ms(100), ..of_period() }),
    ] {
        let sent = resumed(since, options);
        assert_eq!(sent.len(), 2, "{since}: {sent:?}");
    }
}

#[test]
fn a_close_replaces_what_a_subscriber_was_owed_of_the_period_before() {
    let bench = Bench::new();
    let mut client = bench.subscribe(TOOLS, Format::Positioned, of_period(), None);
    assert_eq!(bench.sent(&mut client).len(), 2);
    bench.publish(&[(11, 0, 5), (12, 0, 6)]);
    assert_eq!(bench.sent(&mut client).len(), 2);
    // It waits for a page of the log, from before the close.
    let _ = client.subscriber.lag_from(3);
    bench.handle.request_catch_up(client.subscriber.clone());
    bench.settle();
    assert_eq!(bench.log.waiting(), 1);
    bench.handle.publish_period([6, 0, 0].map(total).into(), 12);
    assert_eq!(bench.sent(&mut client), ["T1 0 run.1p.snapshot", "T2 0 run.1p.12"]);
    assert!(!client.subscriber.is_lagging());
}

#[test]
fn the_openings_of_a_period_do_not_wait_for_a_subscriber() {
    let (history, _log) = history::prepare();
    let (fanout, handle) = one(&nothing(&runs()), &history);
    handle.publish(&[Publication { product: ProductIndex(0), total: total(1), seq: 1 }]);
    assert!(fanout.events.is_empty(), "nobody waits for an order");
    for _ in 0..2 {
        handle.publish_period([1, 0, 0].map(total).into(), 1);
    }
    assert_eq!(fanout.events.len(), 1);
}

/// The thread is behind: it gets the latest total of each product, and the marker comes first.
#[test]
fn a_close_among_merged_publications_shows_no_count_that_there_never_was() {
    let (history, _log) = history::prepare();
    let (mut fanout, handle) = one(&nothing(&runs()), &history);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow_sockets = slow_sockets::start(|_| {}).unwrap().0;
    let mut clients = [Format::Plain, Format::Positioned].map(|format| {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let subscriber = Subscriber::new(Arc::new(listener.accept().unwrap().0), slow_sockets.clone());
        fanout.subscribe(&subscriber, Subscription { feed: TOOLS, format, options: of_period() }, None);
        Client::new(stream, subscriber, format)
    });
    let order = |seq: u64| Publication { product: ProductIndex(0), total: total(seq as i64), seq };
    handle.publish(&(1..=3_000).map(order).collect::<Vec<_>>());
    handle.publish_period([3_000, 0, 0].map(total).into(), 3_000);
    handle.publish(&(3_001..=5_000).map(order).collect::<Vec<_>>());
    fanout.relay(false);
    let sent = clients.each_mut().map(Client::received);
    assert_eq!(sent[0], ["T1 0", "T2 0", "T1 2000", "T2 0"]);
    assert_eq!(sent[1][2..], ["T1 2000 run.1p.snapshot", "T2 0 run.1p.5000"]);
    assert!(clients.iter().all(|client| !client.subscriber.is_lagging()));
}
