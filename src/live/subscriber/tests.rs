//! A subscriber on a real socket that is full.

use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use super::*;

struct Watched(Mutex<mpsc::Sender<Arc<Subscriber>>>);

impl Watcher for Watched {
    fn watch(&self, subscriber: Arc<Subscriber>) {
        let _ = self.0.lock().unwrap().send(subscriber);
    }
}

/// A client, its subscriber, and the subscribers that were handed over.
fn connected() -> (TcpStream, Arc<Subscriber>, mpsc::Receiver<Arc<Subscriber>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = listener.accept().unwrap().0;
    let (sender, watched) = mpsc::channel();
    (client, Subscriber::new(Arc::new(stream), Arc::new(Watched(Mutex::new(sender)))), watched)
}

fn totals(text: String, first: u64) -> Arc<Buffer> {
    Arc::new(Buffer { bytes: text.into_bytes(), totals: 1, first, ..Buffer::default() })
}

/// Fills the socket, and returns what it will deliver before anything else.
fn fill(subscriber: &Arc<Subscriber>) -> String {
    let text = "-".repeat(16 * 1024 * 1024);
    subscriber.offer(&totals(text.clone(), 1), &mut Sent::default());
    assert!(!subscriber.is_drained());
    text
}

/// Drains whenever the client has read, until everything has left. Returns the last outcome.
fn drain(subscriber: &Arc<Subscriber>) -> Drained {
    loop {
        match subscriber.drain_blocked(&mut 0) {
            Drained::Blocked => thread::yield_now(),
            drained => return drained,
        }
    }
}

fn read_all(mut client: TcpStream) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        all
    })
}

fn buffer(bytes: usize) -> Arc<Buffer> {
    totals("x".repeat(bytes), 1)
}

#[test]
fn only_the_buffers_behind_the_first_wait() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.drained(), Drained::Done);
    for bytes in [7, 20, 3] {
        outbox.push(buffer(bytes), 5);
    }
    assert_eq!((outbox.sent, outbox.waiting_bytes, outbox.drained()), (5, 23, Drained::Blocked));
    for waiting in [3, 0, 0] {
        outbox.pop();
        assert_eq!((outbox.sent, outbox.waiting_bytes), (0, waiting));
    }
    assert_eq!((outbox.queue.capacity(), outbox.drained()), (0, Drained::Done));
    outbox.missed_from = Some(1);
    assert_eq!(outbox.drained(), Drained::MustCatchUp);
    outbox.is_closed = true;
    assert_eq!(outbox.drained(), Drained::Done);
}

#[test]
fn room_for_totals_ends_at_a_number_of_buffers_and_of_bytes() {
    assert_eq!((QUEUE_BUFFERS, RESERVED_BUFFERS, QUEUE_BYTES), (64, 8, 8 * 1024));
    let mut outbox = Outbox::default();
    assert!(outbox.has_room(1 << 30));
    outbox.push(buffer(1), 0);
    assert!(outbox.has_room(1 << 30), "a single buffer behind the first");
    outbox.push(buffer(8_000), 0);
    assert_eq!((outbox.has_room(192), outbox.has_room(193)), (true, false));
    outbox.pop();
    for behind in 1..=56 {
        assert!(outbox.has_room(1), "{behind}");
        outbox.push(buffer(1), 0);
    }
    assert!(!outbox.has_room(1));
}

#[test]
fn a_full_socket_is_overdue_when_it_has_taken_nothing_for_the_deadline() {
    let (_client, subscriber, _watched) = connected();
    let now = Instant::now();
    assert!(!subscriber.is_overdue(now + WRITE_DEADLINE));
    fill(&subscriber);
    let blocked_since = || subscriber.outbox().blocked_since.expect("it is full");
    // For a moment the kernel may move bytes to the client's buffer, which makes room for more.
    let mut since = blocked_since();
    while subscriber.drain_blocked(&mut 0) == Drained::Blocked && blocked_since() != since {
        since = blocked_since();
    }
    assert!(!subscriber.is_overdue(since + WRITE_DEADLINE.saturating_sub(Duration::from_nanos(1))));
    assert!(subscriber.is_overdue(since + WRITE_DEADLINE) && !subscriber.is_overdue(now));
    // Nothing has been taken since.
    assert_eq!((subscriber.drain_blocked(&mut 0), subscriber.outbox().blocked_since), (Drained::Blocked, Some(since)));
}

#[test]
fn what_a_full_socket_does_not_take_follows_in_order_and_nothing_follows_the_end() {
    let (client, subscriber, watched) = connected();
    let mut expected = fill(&subscriber);
    for (number, text) in ["a", "b", "c"].into_iter().enumerate() {
        subscriber.offer(&totals(text.into(), number as u64 + 2), &mut Sent::default());
        assert_eq!(subscriber.send(b"own".to_vec(), WRITE_DEADLINE).unwrap(), Drained::Done);
        expected += text;
        expected += "own";
    }
    assert!(Arc::ptr_eq(&watched.try_recv().unwrap(), &subscriber) && watched.try_recv().is_err());
    let _ = subscriber.finish(b"end".to_vec());
    subscriber.offer(&totals("late".into(), 9), &mut Sent::default());
    assert_eq!(subscriber.send(b"late".to_vec(), WRITE_DEADLINE).unwrap(), Drained::Done);
    assert!(!subscriber.is_drained());
    let reader = read_all(client);
    assert_eq!(drain(&subscriber), Drained::Done);
    assert!(subscriber.is_drained() && subscriber.late_bytes() > 0);
    subscriber.close();
    assert!(reader.join().unwrap() == expected + "end");
}

#[test]
fn a_subscriber_that_has_ended_gets_nothing_of_what_it_missed() {
    let (client, subscriber, _watched) = connected();
    let reader = read_all(client);
    let _ = subscriber.finish(b"end".to_vec());
    let mut sent = Sent::default();
    assert_eq!(subscriber.offer_missed(b"ab", &[1, 2], &mut sent), 2);
    assert_eq!(sent, Sent::default());
    subscriber.close();
    assert_eq!(subscriber.offer_missed(b"ab", &[1, 2], &mut sent), 2);
    assert_eq!(reader.join().unwrap(), "end");
}

#[test]
fn totals_without_room_are_skipped_until_the_queue_is_empty() {
    let (client, subscriber, _watched) = connected();
    let mut expected = fill(&subscriber);
    let line = "x".repeat(1_000);
    let mut sent = Sent::default();
    for number in 2..=9 {
        subscriber.offer(&totals(line.clone(), number), &mut sent);
        expected += &line;
    }
    for number in 10..=12 {
        subscriber.offer(&totals(line.clone(), number), &mut sent);
    }
    assert_eq!(subscriber.owed_from(), None);
    assert_eq!(sent, Sent { messages: 8, bytes: 0, skipped: 3 }, "what is queued counts, its bytes when they leave");
    let reader = read_all(client);
    assert_eq!(drain(&subscriber), Drained::MustCatchUp);
    assert_eq!(subscriber.owed_from(), Some(10));
    subscriber.resume();
    subscriber.offer(&totals("latest".into(), 13), &mut sent);
    assert!(!subscriber.is_lagging());
    assert_eq!(sent, Sent { messages: 9, bytes: 6, skipped: 3 });
    subscriber.close();
    assert!(reader.join().unwrap() == expected + "latest");
}

#[test]
fn a_lagging_subscriber_that_moves_is_owed_the_whole_snapshot() {
    let (_client, subscriber, _watched) = connected();
    assert_eq!(subscriber.lag_from(7), Drained::MustCatchUp);
    subscriber.offer(&totals("x".into(), 8), &mut Sent::default());
    assert_eq!(subscriber.lag_from(SNAPSHOT), Drained::MustCatchUp);
    assert_eq!(subscriber.owed_from(), Some(SNAPSHOT));
}

#[test]
fn of_what_was_missed_a_full_socket_keeps_no_more_than_one_message() {
    let (client, subscriber, watched) = connected();
    let _ = subscriber.lag_from(SNAPSHOT);
    let (mut sent, mut number) = (String::new(), 0);
    let reader = loop {
        let messages: Vec<String> = (number..number + 1_000).map(|number| format!("<{number:06}>")).collect();
        let ends: Vec<usize> = (1..=1_000).map(|count| count * 8).collect();
        let taken = subscriber.offer_missed(messages.concat().as_bytes(), &ends, &mut Sent::default());
        assert!(taken > 0);
        sent += &messages[..taken].concat();
        number += taken;
        if taken < 1_000 {
            break read_all(client);
        }
    };
    assert!(watched.try_recv().is_ok());
    {
        let outbox = subscriber.outbox();
        assert!(outbox.queue.len() == 1 && (1..=8).contains(&outbox.queue[0].bytes.len()), "{outbox:?}");
    }
    assert_eq!(subscriber.offer_missed(b"now", &[3], &mut Sent::default()), 0);
    assert_eq!(drain(&subscriber), Drained::MustCatchUp);
    assert_eq!(subscriber.offer_missed(b"then", &[4], &mut Sent::default()), 1);
    subscriber.resume();
    subscriber.close();
    assert!(reader.join().unwrap() == sent + "then");
    assert_eq!(subscriber.offer_missed(b"late", &[4], &mut Sent::default()), 1);
}

#[test]
fn totals_leave_room_for_messages_and_a_message_without_room_waits_until_the_end() {
    let (_client, subscriber, _watched) = connected();
    fill(&subscriber);
    let mut number = 2;
    while !subscriber.is_lagging() {
        subscriber.offer(&totals("x".into(), number), &mut Sent::default());
        number += 1;
    }
    for _ in 0..RESERVED_BUFFERS {
        assert_eq!(subscriber.send(b"own".to_vec(), WRITE_DEADLINE).unwrap(), Drained::Done);
    }
    assert_eq!(subscriber.send(b"at once".to_vec(), Duration::ZERO).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let waiting = subscriber.clone();
    let sender = thread::spawn(move || waiting.send(b"one too many".to_vec(), WRITE_DEADLINE).unwrap_err().kind());
    while subscriber.outbox().queue.len() <= QUEUE_BUFFERS {
        thread::yield_now();
    }
    subscriber.close();
    assert_eq!(sender.join().unwrap(), io::ErrorKind::BrokenPipe);
}

#[test]
fn threads_that_send_at_once_lose_nothing_and_mix_no_bytes() {
    const ROUNDS: usize = 20_000;
    let (client, subscriber, watched) = connected();
    fill(&subscriber);
    let reader = read_all(client);
    let watching = thread::spawn(move || {
        for subscriber in watched {
            let _ = drain(&subscriber);
        }
    });
    let offering = subscriber.clone();
    let offerer = thread::spawn(move || {
        for number in 1..=ROUNDS {
            offering.offer(&totals(format!("<{number}>"), number as u64), &mut Sent::default());
            // Like the fan-out thread, which sends what was missed once the queue is empty.
            while offering.is_lagging() && (number == ROUNDS || offering.is_drained()) {
                if let Some(missed) = offering.owed_from() {
                    offering.resume();
                    let rest: Vec<_> = (missed..=number as u64).map(|number| format!("<{number}>")).collect();
                    offering.offer(&totals(rest.concat(), missed), &mut Sent::default());
                }
                thread::yield_now();
            }
        }
    });
    for number in 1..=ROUNDS {
        let _ = subscriber.send(format!("[{number}]").into_bytes(), WRITE_DEADLINE).unwrap();
    }
    offerer.join().unwrap();
    while !subscriber.is_drained() {
        thread::yield_now();
    }
    subscriber.close();
    drop(subscriber);
    watching.join().unwrap();
    let all = reader.join().unwrap();
    for (open, close) in [('<', '>'), ('[', ']')] {
        let numbers = all.split(open).skip(1).map(|rest| rest.split(close).next().unwrap().parse::<usize>().unwrap());
        assert!(numbers.eq(1..=ROUNDS), "{open}");
    }
    assert_eq!(all.matches(['>', ']']).count(), 2 * ROUNDS);
}
