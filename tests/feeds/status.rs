//! `status=true`: a feed says that it is live, so that a page can tell a quiet one from a stuck one.

use crate::common::positions::events_head;
use crate::common::{Form, Message, Positional, Server, WebSocket, read};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(15);
/// More than [`EVERY`].
const SOON: Duration = Duration::from_secs(20);

fn status() -> String {
    format!("{{\"status\":\"live\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"))
}

#[test]
fn the_status_comes_before_the_first_totals_and_then_every_15_seconds() {
    let server = Server::start();
    let begun = Instant::now();
    let mut told = WebSocket::open(server.addr(), "/orders/confectionery?status=true&catalog=true");
    let mut paced = WebSocket::open(server.addr(), "/orders/confectionery?every=100&status=true");
    let mut untold = WebSocket::open(server.addr(), "/orders/confectionery?status=false");
    let mut client = server.client();
    assert_eq!(events_head(&mut client, "/orders/confectionery?status=true", None).unwrap().status, 200);
    let (stream, mut events) = client.into_parts();
    let total = "{\"id\":\"B1\",\"total\":101}";
    assert_eq!((told.texts(2), paced.texts(2)), (vec![status(), total.into()], vec![status(), total.into()]));
    assert_eq!(untold.text(), total);
    // A move is no new connection, and keeps the options.
    paced.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"electronics\"}}");
    assert_eq!(paced.texts(2), ["{\"id\":\"A1\",\"total\":3}", "{\"id\":\"A2\",\"total\":7}"]);

    for subscriber in [&mut told, &mut paced] {
        let message = subscriber.next_within(SOON).expect("the status");
        assert_eq!(message, Message::Text(status()));
        assert!(begun.elapsed() + Duration::from_secs(1) >= EVERY, "after {:?}", begun.elapsed());
    }
    untold.expect_nothing_but_a_pong();
    let event = format!("event: status\ndata: {}\n\n", status());
    stream.set_read_timeout(Some(SOON)).unwrap();
    while events.windows(event.len()).filter(|text| *text == event.as_bytes()).count() < 2 {
        let mut chunk = [0; 512];
        let length = read(&stream, &mut chunk).expect("the stream goes on");
        assert_ne!(length, 0, "the stream ended");
        events.extend_from_slice(&chunk[..length]);
    }
    let events = String::from_utf8(events).unwrap();
    assert!(events.starts_with(&format!("retry: 1000\n\n{event}id: ")), "{events}");
    assert!(events.ends_with(&format!("\ndata: {total}\n\n{event}")), "{events}");
}

#[test]
fn a_client_that_resumes_gets_the_status_before_what_it_missed() {
    let server = Server::start();
    let position =
        Positional::open(Form::Events, server.addr(), "/orders/confectionery", None).next().position.unwrap();
    server.client().order("B1", 1);
    let mut told = WebSocket::open(server.addr(), &format!("/orders/confectionery?since={position}&status=true"));
    assert_eq!(told.text(), status());
    assert!(told.text().starts_with("{\"id\":\"B1\",\"total\":102,\"position\":"));
}

#[test]
fn a_product_that_is_added_is_told_to_sessions_that_asked_for_it() {
    let server = Server::start();
    let mut told = WebSocket::open(server.addr(), "/orders?catalog=true");
    let mut untold = WebSocket::open(server.addr(), "/orders");
    told.texts(3);
    untold.texts(3);
    assert_eq!(server.client().post("/confectionery", "{\"name\":\"Toffee\"}").status, 200);
    assert_eq!(told.texts(2), ["{\"id\":\"B2\",\"total\":0}", "{\"catalog\":\"confectionery\"}"]);
    assert_eq!(untold.text(), "{\"id\":\"B2\",\"total\":0}");
    untold.expect_nothing_but_a_pong();
}
