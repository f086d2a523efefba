//! A client that has posted an order sees it in its next read, however busy the server is.

use crate::common::Server;
use crate::common::load::{spawn, turn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const ORDER: &str = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 12\r\n\r\n{\"amount\":1}";
const TOTALS: &str = "GET /orders/electronics HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POSTERS: usize = 4;
const ROUNDS: i64 = 100;

#[test]
fn a_get_after_a_post_on_one_connection_shows_the_order_also_while_others_post() {
    let _turn = turn();
    let server = Server::start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..POSTERS {
            spawn(scope, || {
                let mut client = server.client();
                while !done.load(Ordering::Relaxed) {
                    client.order("A2", 1);
                }
            });
        }
        let mut client = server.client();
        let mut stale = 0;
        for round in 1..=ROUNDS {
            client.write(ORDER);
            // The GET arrives while the order waits for the disk: at once, or a little later.
            thread::sleep(Duration::from_micros(300 * (round as u64 % 3)));
            client.write(TOTALS);
            assert_eq!(client.reply().text(), "{\"ok\":true}");
            let total = client.reply().json()[0]["total"].as_i64().expect("an integer");
            stale += i64::from(total != 3 + round);
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(stale, 0, "of {ROUNDS} answers");
    });
}
