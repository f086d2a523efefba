//! Two servers that follow one which follows another: 10,000 subscribers stay exact when the one in the middle is killed.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::load::turn;
use crate::common::{DEADLINE, Form, Positional, Server, WebSocket, wait_until};
use crate::edges::expect_an_outage;

const SUBSCRIBERS_EACH: usize = 5_000;
const KILLS: i64 = 5;
/// Orders between two kills, at least.
const ORDERS: i64 = 20;
/// For all kills together.
const POSTING: Duration = Duration::from_secs(120);
/// For all subscribers together.
const READING: Duration = Duration::from_secs(60);

#[test]
fn ten_thousand_subscribers_at_two_edges_see_every_order_once_although_the_server_between_is_killed() {
    let _turn = turn();
    let server = Server::start();
    let mut middle = Server::builder().follow(server.addr()).start();
    let edges = [(); 2].map(|()| Server::builder().follow(middle.addr()).start());
    let open = |edge: &Server| -> Vec<Positional> {
        let feed = |_| Positional::open(Form::WebSocket, edge.addr(), "/orders/confectionery", None);
        (0..SUBSCRIBERS_EACH).map(feed).collect()
    };
    let mut feeds = thread::scope(|scope| {
        let opening = edges.each_ref().map(|edge| scope.spawn(|| open(edge)));
        opening.map(|thread| thread.join().expect("all are served"))
    });
    let path = "/orders/confectionery?status=true";
    let mut statuses = edges.each_ref().map(|edge| WebSocket::open(edge.addr(), path));
    let (posted, is_over) = (AtomicI64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.client();
            // It ends by itself too, or a failure of the others would wait for it.
            while !is_over.load(Ordering::Relaxed) && begun.elapsed() < POSTING {
                client.order("B1", 1);
                posted.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        for _ in 0..KILLS {
            let before = posted.load(Ordering::Relaxed);
            wait_until(DEADLINE, "orders are posted", || posted.load(Ordering::Relaxed) >= before + ORDERS);
            middle.restart_on_the_same_ports();
            statuses.iter_mut().for_each(expect_an_outage);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let last = 101 + posted.load(Ordering::Relaxed);
    for feed in feeds.iter_mut().flatten() {
        for total in 101..=last {
            let step = feed.next_within(READING).expect("the feed goes on");
            assert_eq!(step.pair(), ("B1".to_owned(), total));
        }
    }
    for edge in &edges {
        wait_until(DEADLINE, "it is followed", || edge.client().get("/readyz").status == 200);
        assert_eq!(edge.total("B1"), last);
        let most = 1 + begun.elapsed().as_secs() / 60;
        let lines = edge.log().matches("feeds are stale").count() as u64;
        assert!((1..=most).contains(&lines), "once a minute: {}", edge.log());
        assert!(!edge.log().contains("fresh snapshot"), "{}", edge.log());
    }
}
