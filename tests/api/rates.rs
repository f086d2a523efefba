//! Rates: what was ordered in each of the last 60 minutes, compared with the log.

use crate::common::load::spawn;
use crate::common::order_log::{Line, is_of, read_from};
use crate::common::rates::{Rates, rates};
use crate::common::{Client, Server};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

const LAMP: &str = "{\"name\":\"Desk Lamp\",\"rrp\":\"19.99\",\"info\":\"Bends.\"}";

fn whole_log(server: &Server) -> Vec<Line> {
    read_from(server.addr(), 0).expect("the log can be read")
}

#[test]
fn starting_totals_and_new_products_are_no_orders() {
    let server = Server::start();
    let mut client = server.client();
    client.post("/electronics", LAMP);
    let read = rates(&mut client, "/rates");
    let ids: Vec<&str> = read.products.iter().map(|product| product.id.as_str()).collect();
    assert_eq!(ids, ["A1", "A2", "B1", "A3"]);
    for product in &read.products {
        assert_eq!((product.amounts.as_slice(), &product.ordered), ([0; 60].as_slice(), &None), "{product:?}");
    }
    assert!(read.is_complete);
}

#[test]
fn each_product_has_the_sums_that_the_log_shows_and_the_time_of_its_last_order() {
    let server = Server::start();
    let mut client = server.client();
    let minute = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs() / 60;
    let before = minute();
    for (id, amount) in [("A1", 10), ("B1", 3), ("A1", -4), ("A1", 0), ("B1", 9_007_199_254_740_000)] {
        client.order(id, amount);
    }
    client.post("/orders", "[{\"id\":\"A1\",\"amount\":7},{\"id\":\"B1\",\"amount\":-1}]");
    // None of these counts.
    client.post("/orders/A1", "{\"amount\":1.5}").problem(422);
    client.post("/orders/B1", "{\"amount\":9007199254740991}").problem(422);
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
    for _ in 0..2 {
        assert_eq!(client.request("POST", "/orders/A1", &headers, b"{\"amount\":100}").status, 200);
    }
    let log = whole_log(&server);
    for feed in ["/orders", "/orders/electronics", "/orders/confectionery"] {
        let read = rates(&mut client, &feed.replace("/orders", "/rates"));
        let expected: Vec<&str> = ["A1", "A2", "B1"].into_iter().filter(|id| is_of(id, feed)).collect();
        assert_eq!(read.products.iter().map(|product| product.id.as_str()).collect::<Vec<_>>(), expected);
        read.check(&log);
        assert!((before..=minute()).contains(&read.minute()), "{}", read.minute);
    }
    let read = rates(&mut client, "/rates/electronics");
    assert_eq!(read.products[0].amounts.iter().sum::<i64>(), 10 - 4 + 7 + 100);
    assert_eq!((read.products[1].amounts.iter().sum::<i64>(), &read.products[1].ordered), (0, &None));
}

#[test]
fn an_order_is_in_the_rates_as_soon_as_it_is_answered_or_in_the_log() {
    const POSTERS: usize = 4;
    const ORDERS: i64 = 100;
    let server = Server::start();
    let addr = server.addr();
    let sum = |read: &Rates| read.products[0].amounts.iter().sum::<i64>();
    thread::scope(|scope| {
        for _ in 0..POSTERS {
            spawn(scope, move || {
                let mut client = Client::connect(addr);
                let mut last = 0;
                for own in 1..=ORDERS {
                    client.order("A1", 1);
                    let shown = read_from(addr, last).expect("the log can be read");
                    last = shown.last().map_or(last, |line| line.seq);
                    let counted = sum(&rates(&mut client, "/rates/electronics"));
                    assert!(counted >= own && counted >= last as i64, "{counted} of {own} and {last}");
                }
            });
        }
    });
    let read = rates(&mut server.client(), "/rates");
    assert_eq!(sum(&read), POSTERS as i64 * ORDERS);
    read.check(&whole_log(&server));
}

#[test]
fn rates_are_read_like_totals_and_nothing_else_is_at_their_address() {
    let server = Server::start();
    let mut client = server.client();
    for path in ["/rates", "/rates/", "/rates/electronics", "/rates/electronics/"] {
        let whole = client.get(path);
        assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/json")), "{path}");
        assert_eq!(whole.header("cache-control"), Some("no-store"));
        let head = client.request("HEAD", path, &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, whole.header("content-length")), "{path}");
        let refused = client.post(path, "{}");
        refused.problem(405);
        assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"), "{path}");
        assert!(client.get(&format!("{path}?minutes=5")).problem(400).contains("takes none"), "{path}");
    }
    for path in ["/rates/nowhere", "/rates/A1", "/rates//", "/rates/electronics/A1"] {
        assert!(client.get(path).problem(404).contains("/categories"), "{path}");
    }
}
