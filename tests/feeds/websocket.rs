//! The live feed over WebSockets: the snapshot, live totals, and the commands of a client.

use crate::common::websocket::{PING, close_frame, frame};
use crate::common::{DEADLINE, Message, Server, WebSocket, wait_until};

#[track_caller]
fn electronics(server: &Server) -> WebSocket {
    let mut subscriber = WebSocket::open(server.addr(), "/orders/electronics");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":3}");
    assert_eq!(subscriber.text(), "{\"id\":\"A2\",\"total\":7}");
    subscriber
}

#[test]
fn a_subscriber_gets_the_totals_of_the_category_and_then_every_new_one() {
    let server = Server::start();
    let mut subscriber = electronics(&server);
    subscriber.expect_nothing_but_a_pong();
    let mut client = server.client();
    client.order("A1", 10);
    client.order("B1", 1);
    client.order("A2", -7);
    client.order("A1", 10);
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":13}");
    assert_eq!(subscriber.text(), "{\"id\":\"A2\",\"total\":0}");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":23}");
    subscriber.expect_nothing_but_a_pong();
}

#[test]
fn every_subscriber_gets_every_total() {
    let server = Server::start();
    let mut subscribers: Vec<WebSocket> = (0..20).map(|_| electronics(&server)).collect();
    let mut client = server.client();
    for round in 1..=5 {
        client.order("A2", 1);
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.text(), format!("{{\"id\":\"A2\",\"total\":{}}}", 7 + round));
        }
    }
}

#[test]
fn the_feed_without_a_category_has_them_all() {
    let server = Server::start();
    let mut subscriber = WebSocket::open(server.addr(), "/orders");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":3}");
    assert_eq!(subscriber.text(), "{\"id\":\"A2\",\"total\":7}");
    assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":101}");
    let mut client = server.client();
    client.order("B1", 1);
    client.order("A1", 1);
    assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":102}");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":4}");
}

#[test]
fn an_order_of_zero_is_published_like_any_other() {
    let server = Server::start();
    let mut subscriber = electronics(&server);
    server.client().order("A1", 0);
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":3}");
}

#[test]
fn a_refused_order_is_not_published() {
    let server = Server::start();
    let mut subscriber = electronics(&server);
    let mut client = server.client();
    client.post("/orders/A1", "{\"amount\":1.5}").problem(422);
    client.post("/orders/A9", "{\"amount\":1}").problem(404);
    client.post("/orders/A1", "{\"amount\":9007199254740991}").problem(422);
    subscriber.expect_nothing_but_a_pong();
}

#[test]
fn a_subscription_moves_to_another_category() {
    let server = Server::start();
    let mut subscriber = electronics(&server);
    subscriber.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"confectionery\"}}");
    assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":101}");
    let mut client = server.client();
    client.order("A1", 1);
    client.order("B1", 1);
    assert_eq!(subscriber.text(), "{\"id\":\"B1\",\"total\":102}");
    subscriber.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"electronics\"}}");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":4}");
    assert_eq!(subscriber.text(), "{\"id\":\"A2\",\"total\":7}");
    client.order("B1", 1);
    client.order("A2", 1);
    assert_eq!(subscriber.text(), "{\"id\":\"A2\",\"total\":8}");
}

#[test]
fn moving_to_the_same_category_again_gets_its_snapshot_again() {
    let server = Server::start();
    let mut subscriber = electronics(&server);
    server.client().order("A1", 1);
    subscriber.send("{\"cmd\":\"update-category\",\"payload\":{\"category\":\"electronics\"}}");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":4}");
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":4}");
    assert_eq!(subscriber.text(), "{\"id\":\"A2\",\"total\":7}");
    server.client().order("A1", 1);
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":5}");
    subscriber.expect_nothing_but_a_pong();
}

#[test]
fn an_order_over_the_socket_is_answered_with_its_key_and_published() {
    let server = Server::start();
    let mut sender = electronics(&server);
    let mut other = electronics(&server);
    sender.send("{\"cmd\":\"add-order\",\"payload\":{\"id\":\"A1\",\"amount\":2,\"key\":\"k-1\"}}");
    // The answer and the total may come in either order.
    let mut texts = sender.texts(2);
    texts.sort();
    assert_eq!(texts, ["{\"id\":\"A1\",\"total\":5}", "{\"ok\":true,\"key\":\"k-1\"}"]);
    assert_eq!(other.text(), "{\"id\":\"A1\",\"total\":5}");

    // A product of another category: the sender gets only the answer.
    sender.send("{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B1\",\"amount\":-1.0,\"key\":\"k-2\"}}");
    assert_eq!(sender.text(), "{\"ok\":true,\"key\":\"k-2\"}");
    let totals = server.client().get("/orders/confectionery");
    assert_eq!(totals.text(), "[{\"id\":\"B1\",\"total\":100}]");
}

#[test]
fn an_order_over_the_socket_is_on_disk_when_it_is_answered() {
    let mut server = Server::start();
    let mut sender = electronics(&server);
    sender.send("{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B1\",\"amount\":9,\"key\":\"k\"}}");
    assert_eq!(sender.text(), "{\"ok\":true,\"key\":\"k\"}");
    server.restart();
    let totals = server.client().get("/orders/confectionery");
    assert_eq!(totals.text(), "[{\"id\":\"B1\",\"total\":110}]");
}

#[test]
fn an_invalid_message_is_answered_with_an_error_and_the_session_goes_on() {
    let server = Server::start();
    let mut subscriber = electronics(&server);
    for message in [
        "{",
        "",
        "hello there",
        "[]",
        "7",
        "{}",
        "{\"cmd\":\"dance\"}",
        "{\"cmd\":\"update-category\"}",
        "{\"cmd\":\"update-category\",\"payload\":{\"category\":\"nowhere\"}}",
        "{\"cmd\":\"update-category\",\"payload\":{\"category\":7}}",
        "{\"cmd\":\"add-order\",\"payload\":{}}",
        "{\"cmd\":\"add-order\",\"payload\":{\"id\":\"A9\",\"amount\":1}}",
        "{\"cmd\":\"add-order\",\"payload\":{\"id\":\"A1\",\"amount\":1.5}}",
        "{\"cmd\":\"add-order\",\"payload\":{\"id\":\"A1\",\"amount\":\"1\"}}",
        "{\"cmd\":\"add-order\",\"payload\":{\"id\":\"A1\",\"amount\":9007199254740991}}",
    ] {
        subscriber.send(message);
        subscriber.error();
    }
    server.client().order("A1", 10);
    assert_eq!(subscriber.text(), "{\"id\":\"A1\",\"total\":13}");
    subscriber.expect_nothing_but_a_pong();
}

#[test]
fn an_unknown_category_is_refused_before_the_upgrade() {
    let server = Server::start();
    let reply = WebSocket::try_open(server.addr(), "/orders/nowhere", &[]);
    reply.expect_err("a refusal").problem(404);
}

#[test]
fn leaving_subscribers_leave_nothing_behind() {
    let server = Server::start();
    let mut stays = electronics(&server);
    let mut client = server.client();
    client.order("A1", 1);
    stays.text();
    let threads = server.threads();
    let descriptors = server.descriptors();
    for round in 0..3 {
        let mut subscribers: Vec<WebSocket> =
            (0..30).map(|_| WebSocket::open(server.addr(), "/orders/electronics")).collect();
        for subscriber in &mut subscribers {
            subscriber.texts(2);
            // Some send a close frame, some only disconnect.
            if round == 1 {
                subscriber.send_raw(&close_frame(1000));
                assert_eq!(subscriber.close_code(), Some(1000));
            }
        }
        drop(subscribers);
        client.order("A1", 1);
        stays.text();
        wait_until(DEADLINE, "threads and descriptors are given back", || {
            server.threads() <= threads && server.descriptors() <= descriptors
        });
    }
    stays.expect_nothing_but_a_pong();
}

#[test]
fn the_handshake_may_come_in_pieces_and_with_a_frame_after_it() {
    let server = Server::start();
    let mut client = server.client();
    let mut request = b"GET /orders/confectionery HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    request.extend(frame(PING, true, b"early"));
    let (first, second) = request.split_at(100);
    client.write(first);
    client.write(second);
    let reply = client.reply();
    assert_eq!(reply.status, 101);
    let (stream, rest) = client.into_parts();
    let mut subscriber = WebSocket::from_parts(stream, rest);
    // The pong and the snapshot may come in either order.
    let mut messages = [subscriber.next(), subscriber.next()];
    messages.sort_by_key(|message| matches!(message, Message::Pong(_)));
    let text = Message::Text("{\"id\":\"B1\",\"total\":101}".to_owned());
    assert_eq!(messages, [text, Message::Pong(b"early".to_vec())]);
}
