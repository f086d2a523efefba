//! What threads around one subscriber may do to each other, explored by loom (`make model`): the orders in which their
//! steps may come, up to a number of preemptions, and the stale values that the memory model lets them read. The
//! subscriber is the real one; modelled are the socket, the slow-socket thread's poll, and as much of the fan-out thread as
//! decides what is offered.
//!
//! A frame is three equal bytes, so a cut or mixed one shows. Publications count from 1, and each is the latest total
//! of one of two products. What must hold at the end is in [`World::settle`].
//!
//! A model proves something only if it notices a fault. These were put into `subscriber.rs` one at a time, and
//! noticed: either fence missing, or weaker than `SeqCst`; either look again missing, or before the lock is let go, or
//! blind to the channel or to the lag; `blocked` set or cleared without the lock, or not asked under it; the lag
//! marked after the drain; a buffer cut by a full socket forgotten; `flush` without its last look; and the faults that
//! the models have found. Not noticed, because nothing is lost by them: [`Subscriber::pass`] asks twice what one look
//! under the lock at `current` tells, and the bytes may be counted late, since whoever counts drains afterwards.

use std::sync::atomic::AtomicUsize as Count;
use std::sync::{Mutex as Plain, MutexGuard as PlainGuard};
use std::time::Instant;

use loom::sync::atomic::AtomicUsize as Steps;
use loom::thread;

use super::*;

type Modelled = Subscriber<Socket, Helper>;

/// Bytes of a frame.
const FRAME: usize = 3;
/// Frames above it are the session's words.
const WORDS: u8 = 100;
/// The close frame.
const GOODBYE: u8 = 255;
/// Room for all that a model sends.
const AMPLE: usize = 1_000;

fn frame(mark: u8) -> Vec<u8> {
    vec![mark; FRAME]
}

fn plain<T>(mutex: &Plain<T>) -> PlainGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket that takes as many bytes as its client has made room for.
#[derive(Debug)]
struct Socket {
    /// Every system call is one step, which loom sees; it orders no memory.
    steps: Steps,
    state: Plain<SocketState>,
}

#[derive(Debug, Default)]
struct SocketState {
    room: usize,
    took: Vec<u8>,
    shut: bool,
    /// The server has ended its direction; whatever it sends after that is a fault.
    write_ended: bool,
    /// Whether the poll watches it, and has something to report of it.
    registered: bool,
    ready: bool,
}

impl Socket {
    fn step(&self) -> PlainGuard<'_, SocketState> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        plain(&self.state)
    }

    /// The client reads.
    fn make_room(&self, bytes: usize) {
        let mut state = self.step();
        state.room += bytes;
        state.ready = state.registered;
    }
}

impl Wire for Socket {
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.step();
        if state.shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        assert!(!state.write_ended, "sent after the end of the stream");
        let takes = state.room.min(bytes.len());
        if takes == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.room -= takes;
        state.took.extend(&bytes[..takes]);
        Ok(takes)
    }

    fn shut(&self) {
        let mut state = self.step();
        state.shut = true;
        state.ready = state.registered;
    }
}

/// Hands a subscriber over to the poll.
#[derive(Debug, Clone)]
struct Helper {
    incoming: Arc<Incoming>,
}

#[derive(Debug)]
struct Incoming {
    steps: Steps,
    subscriber: Plain<Option<Arc<Modelled>>>,
}

impl Watch<Socket> for Helper {
    fn watch(&self, subscriber: Arc<Modelled>) {
        self.incoming.steps.fetch_add(1, Ordering::AcqRel);
        let before = plain(&self.incoming.subscriber).replace(subscriber);
        assert!(before.is_none(), "handed over twice");
    }
}

/// The slow-socket thread, which waits for nothing here: it makes as many rounds as a model lets it.
struct Laggard {
    world: World,
    watched: Option<Arc<Modelled>>,
}

impl Laggard {
    fn round(&mut self) {
        let incoming = &self.world.incoming;
        incoming.steps.fetch_add(1, Ordering::AcqRel);
        let handed_over = plain(&incoming.subscriber).take();
        if let Some(subscriber) = handed_over {
            let mut state = subscriber.stream().step();
            // The system would refuse it, and the session would be closed.
            assert!(!state.registered, "registered twice");
            state.registered = true;
            state.ready = state.room > 0 || state.shut;
            drop(state);
            self.watched = Some(subscriber);
        }
        let Some(subscriber) = &self.watched else { return };
        if !std::mem::take(&mut subscriber.stream().step().ready) {
            return;
        }
        let mut freed = false;
        let drained = subscriber.drain_blocked(|| {
            subscriber.stream().step().registered = false;
            freed = true;
        });
        self.world.report(drained);
        if freed {
            self.watched = None;
        }
    }
}

/// The fan-out thread, with the one subscriber.
struct Fanout {
    world: World,
    /// The number of the last publication.
    published: u8,
    /// The latest total of each product; 0 is none.
    latest: [u8; 2],
    finishing: bool,
}

impl Fanout {
    /// One round with one total.
    fn publish(&mut self) {
        self.published += 1;
        self.round(self.published, 0);
    }

    /// One round in which the total is the latest of two of its product.
    fn publish_merged(&mut self) {
        self.published += 2;
        self.round(self.published - 1, 1);
    }

    fn round(&mut self, first: u8, merged: u64) {
        self.latest[usize::from(self.published % 2)] = self.published;
        let round = self.buffer(u64::from(first), &[self.published], merged);
        self.offer(&round);
    }

    /// A round, or the snapshot of another feed.
    fn offer(&mut self, round: &Arc<Buffer>) {
        if !self.world.subscriber.is_closed() && self.world.subscriber.offer(round) == Drained::CaughtUp {
            self.catch_up();
        }
    }

    /// What is published is not offered, because the subscriber is due more than that.
    fn withhold(&mut self) {
        self.published += 1;
        self.latest[usize::from(self.published % 2)] = self.published;
        if self.world.subscriber.lag_from(u64::from(self.published)) == Drained::CaughtUp {
            self.catch_up();
        }
    }

    /// What the subscriber gets when it has moved.
    fn offer_snapshot(&mut self) {
        let snapshot = self.latest_since(0).expect("something was published");
        self.offer(&snapshot);
    }

    fn buffer(&self, first: u64, marks: &[u8], merged: u64) -> Arc<Buffer> {
        let totals = marks.len() as u64;
        self.world.offered.fetch_add((totals + merged) as usize, Ordering::Relaxed);
        Arc::new(Buffer { bytes: marks.iter().flat_map(|mark| frame(*mark)).collect(), totals, merged, first })
    }

    fn latest_since(&self, since: u64) -> Option<Arc<Buffer>> {
        let mut marks: Vec<u8> =
            self.latest.into_iter().filter(|mark| *mark > 0 && u64::from(*mark) >= since).collect();
        marks.sort_unstable();
        (!marks.is_empty()).then(|| self.buffer(since, &marks, 0))
    }

    /// As the real one does it.
    fn catch_up(&mut self) {
        while let Some(missed) = self.world.subscriber.missed() {
            self.world.seen.lagged.fetch_add(1, Ordering::Relaxed);
            let offered = self.latest_since(missed);
            let _ = self.world.subscriber.resume();
            if offered.is_none_or(|buffer| self.world.subscriber.offer(&buffer) != Drained::CaughtUp) {
                break;
            }
        }
        if self.finishing {
            self.finish();
        }
    }

    /// Says goodbye, but to a lagging subscriber only after its last totals.
    fn finish(&mut self) {
        self.finishing = true;
        if !self.world.subscriber.is_lagging() {
            let _ = self.world.subscriber.finish(&Arc::new(Buffer::words(frame(GOODBYE))));
        }
    }

    /// Does what others have asked for.
    fn hear(&mut self) {
        if self.world.reports.swap(0, Ordering::AcqRel) > 0 {
            self.catch_up();
        }
    }
}

/// What the threads share.
#[derive(Clone)]
struct World {
    subscriber: Arc<Modelled>,
    incoming: Arc<Incoming>,
    /// How often the fan-out thread was told that the subscriber has caught up.
    reports: Arc<Steps>,
    /// Totals that were offered, merged ones included.
    offered: Arc<Count>,
    seen: Arc<Seen>,
}

/// What happened in any of the interleavings, so that a model shows that it reaches what it is about.
#[derive(Debug, Default)]
struct Seen {
    interleavings: Count,
    /// Lags that ended.
    lagged: Count,
    /// Those whose end the fan-out thread was told by somebody else.
    told: Count,
    /// Interleavings that ended with the socket full.
    left_blocked: Count,
}

impl World {
    fn new(seen: &Arc<Seen>, room: usize) -> (Self, Fanout, Laggard) {
        let socket = Socket { steps: Steps::new(0), state: Plain::new(SocketState { room, ..SocketState::default() }) };
        let incoming = Arc::new(Incoming { steps: Steps::new(0), subscriber: Plain::new(None) });
        let subscriber = Subscriber::new(Arc::new(socket), Helper { incoming: incoming.clone() });
        let reports = Arc::new(Steps::new(0));
        let world = Self { subscriber, incoming, reports, offered: Arc::new(Count::new(0)), seen: seen.clone() };
        let fanout = Fanout { world: world.clone(), published: 0, latest: [0; 2], finishing: false };
        let laggard = Laggard { world: world.clone(), watched: None };
        (world, fanout, laggard)
    }

    fn socket(&self) -> &Socket {
        self.subscriber.stream()
    }

    /// What a session and the slow-socket thread do with what a drain has ended with.
    fn report(&self, drained: Drained) {
        if drained == Drained::CaughtUp {
            self.seen.told.fetch_add(1, Ordering::Relaxed);
            self.reports.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The session says its word number `n`.
    fn say(&self, n: u8) {
        let drained = self.subscriber.say(frame(WORDS + n)).expect("the subscriber is open");
        self.report(drained);
    }

    fn frames(&self) -> Vec<u8> {
        let took = &plain(&self.socket().state).took;
        let frames: Vec<u8> = took.chunks(FRAME).map(|frame| frame[0]).collect();
        let whole = took.chunks(FRAME).all(|frame| frame.iter().all(|byte| *byte == frame[0]));
        assert!(whole, "a frame in another: {took:?}");
        frames
    }

    /// After the threads have ended: the client reads all, everybody does what is left to do, and then nothing may be
    /// missing.
    fn settle(&self, fanout: &mut Fanout, laggard: &mut Laggard, words: &[u8], last_words: bool) {
        if laggard.watched.is_some() || plain(&self.incoming.subscriber).is_some() {
            self.seen.left_blocked.fetch_add(1, Ordering::Relaxed);
        }
        self.socket().make_room(AMPLE);
        for _ in 0..4 {
            fanout.hear();
            laggard.round();
        }
        let frames = self.frames();
        assert_eq!(plain(&self.socket().state).took.len() % FRAME, 0, "a frame is cut: {frames:?}");
        let said: Vec<u8> = frames.iter().filter(|mark| (WORDS..GOODBYE).contains(*mark)).map(|w| w - WORDS).collect();
        if last_words {
            assert_eq!(frames.last(), Some(&GOODBYE), "the last words were lost: {frames:?}");
            let goodbyes = frames.iter().filter(|mark| **mark == GOODBYE).count();
            assert_eq!(goodbyes, 1, "said goodbye more than once, or went on after it: {frames:?}");
            assert!(words.starts_with(&said), "words are missing or in another order: {frames:?}");
        } else {
            assert_eq!(said, words, "words are missing or in another order: {frames:?}");
        }
        let totals: Vec<u8> = frames.iter().copied().filter(|mark| *mark < WORDS).collect();
        for (product, latest) in fanout.latest.into_iter().enumerate() {
            let of_product: Vec<u8> = totals.iter().copied().filter(|mark| usize::from(mark % 2) == product).collect();
            assert!(of_product.is_sorted(), "an older total came after a newer one: {frames:?}");
            if !last_words || fanout.finishing {
                let last = of_product.last().copied().unwrap_or(0);
                assert_eq!(last, latest, "the latest total was lost: {frames:?}");
            }
        }
        if !last_words {
            let skipped = self.subscriber.take_skipped() as usize;
            let offered = self.offered.load(Ordering::Relaxed);
            assert_eq!(totals.len() + skipped, offered, "the count of what was skipped is wrong: {frames:?}");
        }
        assert!(!self.subscriber.is_closed() && !self.subscriber.is_lagging());
        assert!(!self.subscriber.blocked.load(Ordering::Relaxed), "nobody has freed it");
        assert_eq!(self.subscriber.channel.bytes(), 0, "somebody has left a buffer behind");
    }
}

/// Explores a model with so many preemptions, or with `LOOM_MAX_PREEMPTIONS` (99: any number), and tells how much that
/// was.
fn explore(preemptions: usize, model: impl Fn(&Arc<Seen>) + Send + Sync + 'static) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 5_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions)).filter(|bound| *bound < 99);
    let begun = Instant::now();
    let counted = seen.clone();
    builder.check(move || {
        counted.interleavings.fetch_add(1, Ordering::Relaxed);
        model(&counted);
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{name}: {seen:?} in {:.1} s", begun.elapsed().as_secs_f64());
    seen
}

fn happened(count: &Count) -> bool {
    count.load(Ordering::Relaxed) > 0
}

#[test]
fn totals_and_words_reach_a_socket_with_room_whoever_sends_them() {
    explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, AMPLE);
        let session = thread::spawn({
            let world = world.clone();
            move || world.say(0)
        });
        fanout.publish();
        fanout.publish_merged();
        session.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], false);
    });
}

#[test]
fn a_lag_beside_a_sending_session_is_always_noticed() {
    let seen = explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, AMPLE);
        let session = thread::spawn({
            let world = world.clone();
            move || world.say(0)
        });
        for _ in 0..4 {
            fanout.publish();
        }
        fanout.hear();
        session.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], false);
    });
    assert!(happened(&seen.lagged) && happened(&seen.told));
}

#[test]
fn a_lag_that_the_fan_out_thread_begins_is_always_noticed() {
    let seen = explore(3, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, AMPLE);
        let session = thread::spawn({
            let world = world.clone();
            move || world.say(0)
        });
        fanout.withhold();
        fanout.hear();
        session.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], false);
    });
    assert!(happened(&seen.lagged) && happened(&seen.told));
}

#[test]
fn a_large_snapshot_beside_words_is_not_refused_again_and_again() {
    explore(3, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, AMPLE);
        fanout.publish();
        fanout.publish();
        let session = thread::spawn({
            let world = world.clone();
            move || world.say(0)
        });
        fanout.offer_snapshot();
        fanout.hear();
        session.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], false);
    });
}

#[test]
fn nothing_is_lost_while_the_laggard_thread_frees_a_full_socket() {
    let seen = explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 1);
        fanout.publish();
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                // Enough for what waits, and not for all that comes.
                world.socket().make_room(4);
                laggard.round();
                laggard.round();
                laggard
            }
        });
        fanout.publish();
        fanout.publish();
        let mut laggard = helping.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[], false);
    });
    assert!(happened(&seen.left_blocked));
}

#[test]
fn a_lag_beside_the_laggard_thread_is_always_noticed() {
    let seen = explore(3, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 1);
        for _ in 0..3 {
            fanout.publish();
        }
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                world.socket().make_room(AMPLE);
                laggard.round();
                laggard
            }
        });
        // Finds the channel full, unless it has been emptied.
        fanout.publish();
        fanout.offer_snapshot();
        fanout.hear();
        let mut laggard = helping.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[], false);
        let threes = world.frames().iter().filter(|mark| **mark == 3).count();
        assert!(threes > 1, "what the snapshot repeats has not been repeated");
    });
    assert!(happened(&seen.lagged) && happened(&seen.told));
}

#[test]
fn three_drainers_hand_over_to_each_other() {
    explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 1);
        fanout.publish();
        let session = thread::spawn({
            let world = world.clone();
            move || world.say(0)
        });
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                world.socket().make_room(AMPLE);
                laggard.round();
                laggard
            }
        });
        fanout.publish();
        session.join().unwrap();
        let mut laggard = helping.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], false);
    });
}

#[test]
fn three_drainers_hand_over_to_each_other_again_and_again() {
    let seen = explore(1, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 1);
        fanout.publish();
        let session = thread::spawn({
            let world = world.clone();
            move || world.say(0)
        });
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                world.socket().make_room(4);
                laggard.round();
                world.socket().make_room(4);
                laggard.round();
                laggard
            }
        });
        fanout.publish();
        fanout.publish();
        fanout.hear();
        session.join().unwrap();
        let mut laggard = helping.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], false);
    });
    assert!(happened(&seen.lagged) && happened(&seen.told) && happened(&seen.left_blocked));
}

#[test]
fn words_that_fill_the_channel_cost_no_total_and_get_their_place() {
    explore(1, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 1);
        fanout.publish();
        world.say(0);
        let session = thread::spawn({
            let world = world.clone();
            move || (1..3).for_each(|n| world.say(n))
        });
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                world.socket().make_room(AMPLE);
                laggard.round();
                laggard
            }
        });
        fanout.publish();
        session.join().unwrap();
        let mut laggard = helping.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0, 1, 2], false);
    });
}

#[test]
fn nothing_is_sent_after_a_close_and_nobody_waits_for_ever() {
    explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 4);
        let session = thread::spawn({
            let world = world.clone();
            move || {
                let _ = world.subscriber.flush();
                world.subscriber.close();
                let took = plain(&world.socket().state).took.len();
                let said = world.subscriber.say(frame(WORDS)).map_err(|error| error.kind());
                assert_eq!(said, Err(io::ErrorKind::BrokenPipe));
                took
            }
        });
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                world.socket().make_room(1);
                laggard.round();
                laggard
            }
        });
        fanout.publish();
        fanout.publish();
        let took = session.join().unwrap();
        fanout.publish();
        let mut laggard = helping.join().unwrap();
        world.socket().make_room(AMPLE);
        laggard.round();
        laggard.round();
        assert!(laggard.watched.is_none(), "the slow-socket thread keeps a closed subscriber");
        world.frames();
        assert_eq!(plain(&world.socket().state).took.len(), took, "something was sent after the close");
        assert!(world.subscriber.is_closed());
    });
}

#[test]
fn nothing_follows_the_fan_outs_goodbye() {
    explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, AMPLE);
        let session = thread::spawn({
            let world = world.clone();
            move || world.say(0)
        });
        fanout.publish();
        fanout.finish();
        session.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], true);
    });
}

#[test]
fn a_lagging_subscriber_gets_its_last_totals_before_the_goodbye() {
    let seen = explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 1);
        for _ in 0..3 {
            fanout.publish();
        }
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                world.socket().make_room(AMPLE);
                laggard.round();
                laggard
            }
        });
        fanout.publish();
        fanout.finish();
        fanout.hear();
        let mut laggard = helping.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[], true);
    });
    assert!(happened(&seen.lagged) && happened(&seen.told));
}

#[test]
fn a_goodbye_that_finds_the_channel_full_is_said_when_it_is_empty() {
    let seen = explore(3, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 1);
        fanout.publish();
        (0..3).for_each(|n| world.say(n));
        let helping = thread::spawn({
            let world = world.clone();
            move || {
                world.socket().make_room(AMPLE);
                laggard.round();
                laggard
            }
        });
        fanout.finish();
        fanout.hear();
        let mut laggard = helping.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0, 1, 2], true);
    });
    assert!(happened(&seen.told));
}

#[test]
fn nothing_follows_the_sessions_last_words() {
    explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, AMPLE);
        let session = thread::spawn({
            let world = world.clone();
            move || {
                world.subscriber.say_last(frame(GOODBYE)).unwrap();
                if world.subscriber.flush() {
                    assert_eq!(world.frames().last(), Some(&GOODBYE), "flushed means sent");
                    world.socket().step().write_ended = true;
                }
            }
        });
        fanout.publish();
        fanout.publish();
        session.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[], true);
    });
}

#[test]
fn a_flush_leaves_nothing_behind_when_the_socket_is_full() {
    let seen = explore(2, |seen| {
        let (world, mut fanout, mut laggard) = World::new(seen, 4);
        let session = thread::spawn({
            let world = world.clone();
            move || {
                world.say(0);
                if world.subscriber.flush() {
                    assert!(world.frames().contains(&WORDS), "flushed means sent");
                }
            }
        });
        fanout.publish();
        fanout.publish();
        session.join().unwrap();
        world.settle(&mut fanout, &mut laggard, &[0], false);
    });
    assert!(happened(&seen.left_blocked));
}
