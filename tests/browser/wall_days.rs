//! A wall that nobody touches while orders come, the server is restarted three times, and a new version takes its place.
//!
//! `ORDERCAST_WALL_MINUTES=30` makes it long enough to see a heap that grows (`make wall`).

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::board::{state_is, total_is};
use crate::common::load::spawn;
use crate::common::{Client, DEADLINE, Random, Server, seed};
use crate::webdriver::Browser;

/// Orders a second.
const RATE: u32 = 50;
/// The length of a usual test run.
const SHORT: Duration = Duration::from_secs(25);
/// How much larger the heap may be at the end than at its first look, in bytes and as a part of it: rates fill up in the
/// first hour, and the compiler's code and caches come and go.
const GROWTH: (u64, u64) = (512 * 1024, 5);

/// What feeds say of the version, and the same of another one.
const VERSION: &[u8] = concat!(r#""version":""#, env!("CARGO_PKG_VERSION"), '"').as_bytes();
/// A letter, so that it is not a version of ours; as long, so that frames stay whole.
const OTHER: u8 = b'x';

/// Passes connections on to a server, and as soon as `is_newer` lets it say that it is another version.
fn relay(server: SocketAddr, is_newer: &'static AtomicBool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it has an address");
    thread::spawn(move || {
        for browser in listener.incoming().map_while(Result::ok) {
            // While the server is down, the connection is closed.
            let Ok(upstream) = TcpStream::connect(server) else { continue };
            let (to_server, to_browser) = (upstream.try_clone(), browser.try_clone());
            let (Ok(to_server), Ok(to_browser)) = (to_server, to_browser) else { continue };
            thread::spawn(move || pass(&browser, &to_server, |_| {}));
            thread::spawn(move || {
                pass(&upstream, &to_browser, |bytes| {
                    let found = bytes.windows(VERSION.len()).position(|part| part == VERSION);
                    if let Some(at) = found.filter(|_| is_newer.load(Ordering::Relaxed)) {
                        bytes[at + VERSION.len() - 2] = OTHER;
                    }
                });
            });
        }
    });
    addr
}

/// Copies until one end closes, and then closes both.
fn pass(mut from: &TcpStream, mut to: &TcpStream, change: impl Fn(&mut [u8])) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        change(&mut bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Posts orders of both products at a steady rate until `done`, each under its key until it is answered. Returns their sums.
fn post(server: SocketAddr, done: &AtomicBool) -> [i64; 2] {
    let (mut client, mut random, mut sums) = (None, Random::new(seed(), 0), [0; 2]);
    let begun = Instant::now();
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let due = Duration::from_secs(1) * number / RATE;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let product = random.place(2);
        let body = format!("{{\"amount\":1,\"key\":\"{number}\"}}");
        while !done.load(Ordering::Relaxed) {
            let connection = client.take().map_or_else(|| Client::try_connect(server), Ok);
            let reply = connection.and_then(|mut connection: Client| {
                let reply = connection.try_post(&format!("/orders/A{}", product + 1), &body)?;
                client = Some(connection);
                Ok(reply)
            });
            match reply {
                Ok(reply) if reply.status == 200 => {
                    sums[product] += 1;
                    break;
                }
                // The server is down or not ready.
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    sums
}

/// Ends the poster, also when the test fails: it waits for its end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_wall_stays_exact_and_its_heap_flat_through_restarts_and_an_upgrade() {
    let Some(browser) = Browser::start() else { return };
    let minutes: Option<f64> = env::var("ORDERCAST_WALL_MINUTES").ok().and_then(|text| text.parse().ok());
    let length = minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0));
    static IS_NEWER: AtomicBool = AtomicBool::new(false);
    let mut server = Server::start();
    let (addr, done) = (server.addr(), AtomicBool::new(false));
    browser.open(&format!("http://{}/#electronics?wall", relay(addr, &IS_NEWER)));
    browser.until(DEADLINE, &state_is("live"));
    browser.run("window.isFirst = true");
    let (mut heaps, sums) = thread::scope(|scope| {
        let poster = spawn(scope, || post(addr, &done));
        let ends = Ends(&done);
        let mut heaps = Vec::new();
        for stop in 0..5 {
            thread::sleep(length / 5);
            if stop == 4 {
                break;
            }
            if stop == 0 {
                IS_NEWER.store(true, Ordering::Relaxed);
            } else {
                heaps.push(browser.heap());
            }
            server.terminate();
            server.restart_on_the_same_ports();
            if stop == 0 {
                browser.until(3 * DEADLINE, "window.isFirst === undefined && document.readyState === 'complete'");
                browser.run("window.isSecond = true");
            }
            browser.until(3 * DEADLINE, &state_is("live"));
        }
        drop(ends);
        (heaps, poster.join().expect("every order is answered"))
    });
    heaps.push(browser.heap());
    for (id, total) in [("A1", 3 + sums[0]), ("A2", 7 + sums[1])] {
        assert_eq!(server.total(id), total);
        browser.until(DEADLINE, &total_is(id, total));
    }
    assert_eq!(browser.run("return window.isSecond"), true, "the page was loaded once more than for the upgrade");
    assert_eq!(browser.run("return document.body.dataset.view"), "wall");
    let unexpected: Vec<String> = browser
        .console()
        .into_iter()
        .filter(|line| !line.contains("ERR_CONNECTION") && !line.contains("ERR_EMPTY"))
        .collect();
    assert_eq!(unexpected, Vec::<String>::new());
    println!("{} orders in {length:?}; bytes of the heap: {heaps:?}", sums.iter().sum::<i64>());
    let (first, last) = (heaps[0], heaps[heaps.len() - 1]);
    assert!(last <= first + GROWTH.0 + first / GROWTH.1, "{heaps:?}");
}
