//! The subscribers: a thread each, which checks every total against the orders sent. Some stay, some come and go, some
//! read slowly.

use std::io;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::load::parse_total;
use crate::common::websocket::{PONG, frame};
use crate::common::{DEADLINE, Form, Message, Positional, Random, WebSocket};
use crate::shared::{KINDS, QUIET, Shared, count, lane_id};

/// What a subscriber asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A WebSocket without positions.
    Plain,
    /// A WebSocket with positions.
    Positions,
    /// An event stream.
    Events,
    /// At most one message a product in 100 ms, and notices.
    Paced,
}

pub const WANTS: [Wants; 4] = [Wants::Plain, Wants::Positions, Wants::Events, Wants::Paced];

/// The longest wait for a message before a subscriber looks at the state of the run.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Latencies that a subscriber collects before it takes the lock.
const COLLECT: usize = 64;
/// The longest life of one that comes and goes, and its longest absence.
const LONGEST_LIFE: Duration = Duration::from_secs(5);
const LONGEST_ABSENCE: Duration = Duration::from_secs(1);
/// A slow reader reads so many bytes at a time, every so often: a fraction of its feed.
const SIP: usize = 2 * 1024;
const SIP_EVERY: Duration = Duration::from_millis(50);
/// How long it is slow before it reads the rest quickly.
const SLOW_FOR: Duration = Duration::from_secs(4);
/// How long after the last order every subscriber must know the last totals: a slow one may be some hundred thousand
/// orders behind, which it gets from the log.
pub const CATCH_UP: Duration = Duration::from_secs(120);

enum Feed {
    Plain(WebSocket),
    Positional(Positional),
}

/// One message of a feed.
enum Event {
    /// A total, and whether a client can resume behind it.
    Total { id: String, total: u64, can_resume: bool },
    /// Status, or changed products.
    Notice,
}

/// One subscriber: what it knows, and what it may not be told.
struct Subscriber<'a> {
    shared: &'a Shared,
    wants: Wants,
    category: Option<&'static str>,
    /// The last total of each lane; `None` before the first.
    known: Vec<Option<u64>>,
    /// What was answered before the feed was opened: its first totals are not below that.
    floor: Vec<u64>,
    position: Option<String>,
    /// Whether the last total belonged to a first list and was not its end.
    in_list: bool,
    /// Orders sent before this time are not measured, because the feed was not open.
    measured_from: u64,
    latencies: Vec<u64>,
    read: u64,
    flushed: Instant,
}

impl<'a> Subscriber<'a> {
    /// The `number` chooses what it asks for.
    fn new(shared: &'a Shared, number: usize) -> Subscriber<'a> {
        let categories = [None, Some("counter"), Some("tills"), Some("offline")];
        Subscriber {
            shared,
            wants: WANTS[number % WANTS.len()],
            category: categories[number / WANTS.len() % categories.len()],
            known: vec![None; shared.lanes.len()],
            floor: vec![0; shared.lanes.len()],
            position: None,
            in_list: false,
            measured_from: u64::MAX,
            latencies: Vec::with_capacity(COLLECT),
            read: 0,
            flushed: Instant::now(),
        }
    }

    fn path(&self) -> String {
        let path = self.category.map_or("/orders".to_owned(), |category| format!("/orders/{category}"));
        if self.wants == Wants::Paced { path + "?every=100&status=true&catalog=true" } else { path }
    }

    /// Opens the feed, from the last position if there is one.
    fn open(&mut self, addr: SocketAddr) -> io::Result<Feed> {
        let answered = self.shared.lanes.iter().map(|lane| lane.answered.load(Ordering::Acquire));
        self.floor = answered.collect();
        self.in_list = false;
        self.measured_from = self.shared.now();
        let form = match self.wants {
            Wants::Events => Form::Events,
            Wants::Positions => Form::WebSocket,
            Wants::Plain | Wants::Paced => {
                self.known.fill(None);
                let client = crate::common::Client::try_connect(addr)?;
                return WebSocket::try_upgrade(client, &self.path()).map(Feed::Plain);
            }
        };
        match &self.position {
            Some(_) => count(&self.shared.counts.resumes),
            None => self.known.fill(None),
        }
        Positional::try_open(form, addr, &self.path(), self.position.as_deref()).map(Feed::Positional)
    }

    /// Checks a total. With positions every order must come, in sequence.
    fn take(&mut self, event: Event) {
        let Event::Total { id, total, can_resume } = event else { return };
        let Some(index) = self.shared.lane_of(&id) else { return };
        let lane = &self.shared.lanes[index];
        let now = self.shared.now();
        let sent = lane.sent.load(Ordering::Acquire);
        if total > sent || self.category.is_some_and(|category| category != lane.category) {
            self.shared.fault(format!("{self} got {id}: {total}, and {sent} orders were sent"));
        }
        let has_positions = matches!(self.wants, Wants::Positions | Wants::Events);
        let in_list = has_positions && (std::mem::replace(&mut self.in_list, !can_resume) || !can_resume);
        match self.known[index] {
            Some(known) if has_positions && !in_list && total != known + 1 => {
                self.shared.fault(format!("{self} got {id}: {total} behind {known}"));
            }
            Some(known) if total < known => self.shared.fault(format!("{self} got {id}: {total} behind {known}")),
            None if total < self.floor[index] => {
                self.shared.fault(format!("{self} began with {id}: {total}, below {}", self.floor[index]));
            }
            Some(_) if self.wants != Wants::Paced => {
                if let Some(at) = lane.sent_at(total).filter(|at| *at >= self.measured_from) {
                    self.latencies.push(now.saturating_sub(at));
                }
            }
            _ => {}
        }
        self.known[index] = Some(total);
        self.read += 1;
    }

    /// Adds what was collected to the counts of all.
    fn flush(&mut self) {
        if self.latencies.len() < COLLECT && self.flushed.elapsed() < LOOK_EVERY {
            return;
        }
        self.flushed = Instant::now();
        self.shared.counts.deliveries.fetch_add(std::mem::take(&mut self.read), Ordering::Relaxed);
        let mut histogram = self.shared.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        self.latencies.drain(..).for_each(|nanos| histogram.record(nanos));
    }

    /// Reads one message, if one comes; an error is the end of the feed.
    fn step(&mut self, feed: &mut Feed) -> io::Result<()> {
        let event = match feed.next_within(LOOK_EVERY) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
            Err(error) => return Err(error),
            Ok((event, position)) => {
                self.position = position.or(self.position.take());
                Some(event)
            }
        };
        event.into_iter().for_each(|event| self.take(event));
        self.flush();
        Ok(())
    }

    /// The first lane of the feed that has not its last total.
    fn first_wrong(&self, finals: &[u64]) -> Option<usize> {
        let lanes = self.shared.lanes.iter().enumerate();
        let own = lanes.filter(|(_, lane)| self.category.is_none_or(|category| category == lane.category));
        own.map(|(index, _)| index).find(|index| self.known[*index] != Some(finals[*index]))
    }

    /// Reads to the last totals of all.
    fn finish(&mut self, feed: &mut Feed) {
        let mut since = None;
        loop {
            if !self.shared.is_running() {
                let is_late = since.get_or_insert_with(Instant::now).elapsed() > CATCH_UP;
                match self.shared.finals().map(|finals| (finals, self.first_wrong(finals))) {
                    Some((_, None)) => return,
                    Some((finals, Some(index))) if is_late => {
                        let known = self.known[index];
                        return self.shared.fault(format!("{self} knows {known:?} at the end, not {}", finals[index]));
                    }
                    None if is_late => return,
                    _ => {}
                }
            }
            if let Err(error) = self.step(feed) {
                return self.shared.fault(format!("{self} ended: {error}"));
            }
        }
    }
}

impl std::fmt::Display for Subscriber<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the subscriber {:?} of {}", self.wants, self.category.unwrap_or("all"))
    }
}

impl Feed {
    /// The next message, and the position if a client can resume from it.
    fn next_within(&mut self, deadline: Duration) -> io::Result<(Event, Option<String>)> {
        match self {
            Feed::Positional(feed) => {
                let step = feed.next_within(deadline)?;
                let can_resume = step.can_resume();
                let total = u64::try_from(step.total).map_err(|_| broken(&step.id))?;
                let event = Event::Total { id: step.id, total, can_resume };
                Ok((event, step.position.filter(|_| can_resume)))
            }
            Feed::Plain(feed) => loop {
                match feed.next_within(deadline)? {
                    Message::Text(text) => {
                        let total =
                            parse_total(text.as_bytes()).and_then(|(id, total)| Some((id, total.try_into().ok()?)));
                        let event = match total {
                            Some((id, total)) => Event::Total { id: id.to_owned(), total, can_resume: false },
                            None if text.starts_with("{\"status\":\"live\"") || text.starts_with("{\"catalog\":") => {
                                Event::Notice
                            }
                            None => return Err(broken(&text)),
                        };
                        return Ok((event, None));
                    }
                    Message::Ping(payload) => feed.try_send_raw(&frame(PONG, true, &payload)),
                    Message::Pong(_) => {}
                    Message::Close(code, reason) => return Err(broken(&format!("closed with {code:?} {reason}"))),
                }
            },
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A subscriber that stays to the end.
pub fn stay(shared: &Shared, addr: SocketAddr, number: usize) {
    let mut subscriber = Subscriber::new(shared, number);
    match subscriber.open(addr) {
        Ok(mut feed) => subscriber.finish(&mut feed),
        Err(error) => shared.fault(format!("{subscriber} cannot subscribe: {error}")),
    }
}

/// A subscriber that comes and goes. With positions it resumes where it was.
pub fn come_and_go(shared: &Shared, addr: SocketAddr, number: usize, mut random: Random) {
    let mut subscriber = Subscriber::new(shared, number);
    loop {
        let mut feed = match subscriber.open(addr) {
            Ok(feed) => feed,
            Err(error) => return shared.fault(format!("{subscriber} cannot subscribe: {error}")),
        };
        count(&shared.counts.lives);
        let until = Instant::now() + LONGEST_LIFE.mul_f64(random.below(1000) as f64 / 1000.0);
        while shared.is_running() && Instant::now() < until {
            if let Err(error) = subscriber.step(&mut feed) {
                return shared.fault(format!("{subscriber} ended: {error}"));
            }
        }
        if !shared.is_running() {
            return subscriber.finish(&mut feed);
        }
        drop(feed);
        shared.pause(LONGEST_ABSENCE.mul_f64(random.below(1000) as f64 / 1000.0));
    }
}

/// A subscriber that reads a little at a time for some seconds, then all that it is owed, and begins again.
pub fn read_slowly(shared: &Shared, addr: SocketAddr, number: usize) {
    // Only feeds with positions are owed every order; one without skips what it is too slow for.
    let mut subscriber = Subscriber::new(shared, number);
    subscriber.wants = if number.is_multiple_of(2) { Wants::Events } else { Wants::Positions };
    let open = |subscriber: &mut Subscriber| {
        subscriber.position = None;
        let opened = subscriber.open(addr);
        // What it reads late says nothing of the server.
        subscriber.measured_from = u64::MAX;
        opened.map_err(|error| shared.fault(format!("{subscriber} cannot subscribe: {error}"))).ok()
    };
    while let Some(mut feed) = open(&mut subscriber) {
        let slow_until = Instant::now() + SLOW_FOR;
        let Feed::Positional(reader) = &mut feed else { return };
        while shared.is_running() && Instant::now() < slow_until {
            let sip = reader.read_some(SIP, DEADLINE);
            if let Err(error) =
                sip.or_else(|error| if error.kind() == io::ErrorKind::TimedOut { Ok(()) } else { Err(error) })
            {
                return shared.fault(format!("{subscriber}, a slow one, ended: {error}"));
            }
            shared.pause(SIP_EVERY);
        }
        // It must get the total of every order, however late, up to what is answered now.
        let answered: Vec<u64> = shared.lanes.iter().map(|lane| lane.answered.load(Ordering::Acquire)).collect();
        let is_behind = |subscriber: &Subscriber| {
            let mut lanes = shared.lanes.iter().enumerate();
            lanes.any(|(index, lane)| {
                subscriber.category.is_none_or(|own| own == lane.category)
                    && subscriber.known[index].is_none_or(|known| known < answered[index])
            })
        };
        let since = Instant::now();
        while shared.is_running() && is_behind(&subscriber) {
            if let Err(error) = subscriber.step(&mut feed) {
                return shared.fault(format!("{subscriber}, a slow one, ended: {error}"));
            }
            if since.elapsed() > CATCH_UP {
                return shared.fault(format!("{subscriber}, a slow one, does not catch up in {CATCH_UP:?}"));
            }
        }
        if !shared.is_running() {
            return subscriber.finish(&mut feed);
        }
    }
}

/// Subscribers that read nothing at all: the server ends each after ten seconds without progress.
pub fn read_nothing(shared: &Shared, addr: SocketAddr) {
    while shared.is_running() {
        let (_, lanes, category) = KINDS[0];
        assert!(lanes > 0);
        let feed = match Positional::try_open(Form::Events, addr, &format!("/orders/{category}"), None) {
            Ok(feed) => feed,
            Err(error) => return shared.fault(format!("a reader of nothing cannot subscribe: {error}")),
        };
        let since = Instant::now();
        // Buffers of the kernel hold seconds of the feed before the server notices.
        while shared.pause(Duration::from_millis(200)) && since.elapsed() < CATCH_UP {
            if has_been_reset(&feed) {
                count(&shared.counts.slow_ends);
                break;
            }
        }
    }
}

/// Whether the server has reset the connection. Nothing is read, so that the buffers stay full.
fn has_been_reset(feed: &Positional) -> bool {
    feed.stream().take_error().is_ok_and(|error| error.is_some())
}

/// Many subscribers of products that nobody orders, on one thread, which answers their pings.
pub fn wait_quietly(shared: &Shared, addr: SocketAddr, subscribers: usize) {
    let open = |_| WebSocket::open(addr, &format!("/orders/{QUIET}"));
    let mut feeds: Vec<WebSocket> = (0..subscribers).map(open).collect();
    while shared.is_running() {
        for feed in &mut feeds {
            match feed.next_within(Duration::from_millis(2)) {
                Ok(Message::Ping(payload)) => feed.try_send_raw(&frame(PONG, true, &payload)),
                Ok(Message::Text(text)) if text.starts_with("{\"id\":\"Q") => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                other => return shared.fault(format!("a quiet subscriber got {other:?}")),
            }
        }
        shared.pause(Duration::from_millis(100));
    }
}

#[test]
fn a_subscriber_finds_totals_that_are_wrong_in_each_way() {
    let faults_of = |wants, totals: &[u64]| {
        let shared = Shared::new();
        shared.lanes[0].sending(5, shared.now());
        let mut subscriber = Subscriber { wants, ..Subscriber::new(&shared, 0) };
        subscriber.floor[0] = 1;
        for total in totals {
            subscriber.take(Event::Total { id: lane_id(0), total: *total, can_resume: true });
        }
        shared.faults().1
    };
    assert_eq!(faults_of(Wants::Plain, &[1, 3, 3, 5]), 0);
    assert_eq!(faults_of(Wants::Plain, &[0]), 1, "below what was answered before");
    assert_eq!(faults_of(Wants::Plain, &[3, 2]), 1, "down");
    assert_eq!(faults_of(Wants::Plain, &[6]), 1, "never ordered");
    assert_eq!(faults_of(Wants::Events, &[3, 4, 5]), 0);
    assert_eq!(faults_of(Wants::Events, &[3, 5]), 1, "a gap");
    assert_eq!(faults_of(Wants::Positions, &[3, 3]), 1, "a repeat");
}
