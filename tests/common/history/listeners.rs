//! The subscribers of a run. With several servers each goes on at another one now and then, and whenever its feed ends.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{LastNumbers, PAUSE, Recorder, address};
use super::linear::{Subscriber, What};
use super::{PATIENCE, Plan};
use crate::common::load::parse_total;
use crate::common::{Client, Form, Message, Positional, Random, Step, WebSocket};

/// How long a subscriber waits for a number before it looks whether it has the last ones.
const TICK: Duration = Duration::from_millis(100);

/// How a subscriber follows its feed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ear {
    Plain,
    Positions(Form),
}

/// A feed, and how a subscriber follows it.
#[derive(Clone, Copy)]
pub struct Followed {
    pub ear: Ear,
    pub feed: (&'static str, usize),
    pub has_counts: bool,
}

/// An open feed.
enum Feed {
    Plain(WebSocket),
    Positions(Positional),
}

impl Feed {
    fn open(ear: Ear, addr: SocketAddr, path: &str, since: Option<&str>) -> io::Result<Feed> {
        Ok(match ear {
            Ear::Plain => Feed::Plain(WebSocket::try_upgrade(Client::try_connect(addr)?, path)?),
            Ear::Positions(form) => Feed::Positions(Positional::try_open(form, addr, path, since)?),
        })
    }

    /// The next number; `None` when none comes within a short time.
    fn next(&mut self) -> io::Result<Option<Step>> {
        let next = match self {
            Feed::Plain(socket) => socket.next_within(TICK).and_then(|message| match message {
                Message::Text(text) => {
                    let (id, total) = parse_total(text.as_bytes()).expect("a total");
                    Ok(Step { id: id.to_owned(), total, position: None })
                }
                // When its server stops.
                Message::Close(..) => Err(ErrorKind::UnexpectedEof.into()),
                other => panic!("{other:?}"),
            }),
            Feed::Positions(feed) => feed.next_within(TICK),
        };
        match next {
            Ok(step) => Ok(Some(step)),
            Err(error) if [ErrorKind::TimedOut, ErrorKind::WouldBlock].contains(&error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a subscriber knows.
struct Listener<'a> {
    followed: Followed,
    recorder: &'a mut Recorder,
    /// It began anew with each of them.
    subscribers: Vec<Subscriber>,
    /// The last number from which the feed can be resumed.
    position: Option<Step>,
    /// The last number of each product.
    numbers: Vec<(String, i64)>,
}

/// Follows a feed until every product has its last number. Returns a subscriber for each time that it began anew, in whose
/// order its operations number them.
pub fn listen(
    addrs: &[SocketAddr],
    followed: Followed,
    plan: &Plan,
    last: &LastNumbers,
    mut random: Random,
    recorder: &mut Recorder,
) -> Vec<Subscriber> {
    let Followed { ear, feed: (path, _), has_counts } = followed;
    let mut listener = Listener { followed, recorder, subscribers: Vec::new(), position: None, numbers: Vec::new() };
    let mut news = Instant::now();
    loop {
        let node = random.place(addrs.len());
        let invoked = listener.recorder.now();
        let since = listener.position.as_ref().and_then(|step| step.position.clone());
        let opened = Feed::open(ear, addrs[node], &address(path, has_counts), since.as_deref());
        let mut connection = Connection { node, invoked, is_joined: false, first: Vec::new(), count: 0 };
        let ended = opened.and_then(|mut feed| {
            loop {
                if !listener.subscribers.is_empty() && last.are(has_counts, &listener.numbers) {
                    return Ok(true);
                }
                match feed.next()? {
                    Some(step) => {
                        news = Instant::now();
                        listener.take(step, &mut connection);
                    }
                    None => assert!(
                        news.elapsed() < PATIENCE,
                        "the last numbers of {path} never come: {connection:?}, {:?} behind {:?}, and {:?} are due",
                        listener.numbers,
                        listener.position,
                        last.0.get(),
                    ),
                }
                // One without positions has nothing to go on from at the same server.
                let may_leave = ear != Ear::Plain || addrs.len() > 1;
                if may_leave && connection.count >= plan.numbers_a_connection {
                    return Ok(false);
                }
            }
        });
        match ended {
            Ok(true) => return listener.subscribers,
            Ok(false) => {}
            Err(_) => {
                assert!(news.elapsed() < PATIENCE, "no server has the feed {path}");
                listener.recorder.lost += 1;
                thread::sleep(PAUSE);
            }
        }
    }
}

/// What is known of one connection.
#[derive(Debug)]
struct Connection {
    node: usize,
    invoked: u64,
    /// Whether the feed has begun: with a snapshot, or behind the position.
    is_joined: bool,
    /// The numbers before that.
    first: Vec<(String, i64)>,
    /// The numbers since, from which the feed can be resumed.
    count: usize,
}

impl Listener<'_> {
    fn take(&mut self, step: Step, connection: &mut Connection) {
        let node = connection.node;
        if connection.is_joined {
            self.tell(node, step.pair());
        } else {
            connection.first.push(step.pair());
            let is_whole = connection.first.len() == self.followed.feed.1;
            match &self.position {
                None if is_whole => self.begin(connection),
                Some(position) if step.can_resume() => {
                    let seq = position.seq();
                    let counts_anew = self.followed.has_counts && step.seq() >= seq;
                    if step.seq() < seq || connection.first.len() > 1 && !counts_anew {
                        // The server has not followed up to the position.
                        assert!(is_whole, "{:?} is no snapshot", connection.first);
                        self.begin(connection);
                    } else {
                        let resumed = self.subscribers.len() - 1;
                        self.recorder.note(node, What::Resumed(resumed, seq));
                        connection.first.drain(..).for_each(|number| self.tell(node, number));
                        connection.is_joined = true;
                    }
                }
                _ => return,
            }
        }
        let can_resume = step.can_resume();
        connection.count += usize::from(can_resume || self.followed.ear == Ear::Plain);
        if can_resume {
            self.position = Some(step);
        }
    }

    /// Begins anew with the numbers that the connection has received, which are a snapshot of a moment since it was opened.
    fn begin(&mut self, connection: &mut Connection) {
        let Followed { ear, feed: (feed, _), has_counts } = self.followed;
        let snapshot = std::mem::take(&mut connection.first);
        let what = if has_counts {
            What::ReadCounts(feed, None, snapshot.clone())
        } else {
            What::Read(feed, snapshot.clone())
        };
        self.recorder.record(connection.node, connection.invoked, what);
        if let Some(former) = self.subscribers.last_mut() {
            former.has_left = true;
        }
        self.numbers.clone_from(&snapshot);
        let due_every_order = ear != Ear::Plain;
        self.subscribers.push(Subscriber { feed, has_counts, snapshot, due_every_order, has_left: false });
        connection.is_joined = true;
    }

    fn tell(&mut self, node: usize, number: (String, i64)) {
        self.numbers.retain(|(id, _)| *id != number.0);
        self.numbers.push(number.clone());
        self.recorder.note(node, What::Told(self.subscribers.len() - 1, number));
    }
}
