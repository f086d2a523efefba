//! Resuming from far behind: what a client gets depends on the orders of its own feed, and on whether the log can be
//! read.

use crate::common::load::{pipeline_orders, turn};
use crate::common::{DEADLINE, Form, Positional, Server, WebSocket};
use std::fs;

const ELECTRONICS: &str = "/orders/electronics";
const CONFECTIONERY: &str = "/orders/confectionery";
const FORMS: [Form; 2] = [Form::WebSocket, Form::Events];
/// The most lines of the log that a client gets one by one.
const MOST: usize = 10_000;

/// The position at the end of a fresh snapshot of so many products.
#[track_caller]
fn start_of(server: &Server, form: Form, path: &str, products: usize) -> String {
    let mut feed = Positional::open(form, server.addr(), path, None);
    feed.take(products).pop().and_then(|last| last.position).expect("a position")
}

/// The same position, `behind` lines of the log later.
fn later(position: &str, behind: u64) -> String {
    let (feed, seq) = position.rsplit_once('.').expect("a number");
    format!("{feed}.{}", seq.parse::<u64>().expect("a number") + behind)
}

/// Clients of a quiet feed come back behind the orders of another one. The first thing that each gets is the next order
/// of its own feed, and no snapshot.
#[test]
fn a_position_of_a_quiet_feed_stays_valid_behind_any_number_of_orders() {
    const CLIENTS: usize = 50;
    let _turn = turn();
    let server = Server::start();
    for (form, total) in FORMS.into_iter().zip(102..) {
        let start = start_of(&server, form, CONFECTIONERY, 1);
        pipeline_orders(server.addr(), 20, 5_000);
        let open = || Positional::open(form, server.addr(), CONFECTIONERY, Some(&start));
        let mut feeds: Vec<Positional> = (0..CLIENTS).map(|_| open()).collect();
        server.client().order("B1", 1);
        for feed in &mut feeds {
            let next = feed.next();
            assert_eq!((next.pair(), next.can_resume()), (("B1".to_owned(), total), true), "{form:?}");
        }
    }
}

#[test]
fn a_client_too_far_behind_gets_a_snapshot_and_a_nearer_one_every_order() {
    let _turn = turn();
    let mut server = Server::start();
    let starts = FORMS.map(|form| (form, start_of(&server, form, ELECTRONICS, 2)));
    pipeline_orders(server.addr(), 20, 550);
    let orders = 11_000;
    for is_restarted in [false, true] {
        for (form, start) in &starts {
            let mut far =
                Positional::open(*form, server.addr(), ELECTRONICS, Some(&later(start, orders - MOST as u64 - 1)));
            let steps = far.take(2);
            assert_eq!(steps[0].pair(), ("A1".to_owned(), 3 + orders as i64), "{form:?}");
            assert_eq!((steps[1].pair(), steps[1].seq()), (("A2".to_owned(), 7), orders));
            assert!(!steps[0].can_resume());
            let mut near =
                Positional::open(*form, server.addr(), ELECTRONICS, Some(&later(start, orders - MOST as u64)));
            for (step, number) in near.take(MOST).iter().zip(orders - MOST as u64 + 1..) {
                assert_eq!((step.pair(), step.seq()), (("A1".to_owned(), 3 + number as i64), number));
            }
        }
        if !is_restarted {
            server.restart();
        }
    }
}

/// The data file is away while clients resume. They are told to come again, and get every order when it is back.
#[test]
fn a_client_whose_orders_cannot_be_read_now_resumes_later_without_a_loss() {
    let server = Server::start();
    let starts = FORMS.map(|form| (form, start_of(&server, form, ELECTRONICS, 2)));
    // More than memory keeps.
    let orders = 5_000;
    pipeline_orders(server.addr(), 10, orders / 10);
    let file = server.data().join("ordercast.sqlite3");
    let away = server.data().join("away");
    fs::rename(&file, &away).expect("the file can be moved");
    for (form, start) in &starts {
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(start));
        assert_eq!(feed.rest(), [], "{form:?}: no snapshot");
    }
    let mut session = WebSocket::open(server.addr(), &format!("{ELECTRONICS}?since={}", starts[0].1));
    assert_eq!(session.close_code(), Some(1013));
    fs::rename(&away, &file).expect("the file can be moved back");
    for (form, start) in &starts {
        let mut feed = Positional::open(*form, server.addr(), ELECTRONICS, Some(start));
        for number in 1..=orders as i64 {
            assert_eq!(feed.next_within(DEADLINE).expect("an order").pair(), ("A1".to_owned(), 3 + number));
        }
    }
}
