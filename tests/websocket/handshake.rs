//! The opening handshake (RFC 6455, section 4.2): valid ones and their responses, and invalid ones.

use crate::common::websocket::{PING, TEXT, frame};
use crate::common::{DEADLINE, Message, Reply, Server, WebSocket, exchange, wait_until};

/// Keys and their `Sec-WebSocket-Accept` by section 4.2.2; the first pair is the example of section 1.3.
const KEYS: [(&str, &str); 4] = [
    ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
    ("AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="),
    ("/////////////////////w==", "XXpj4jYzLM2yUE0C7TIgMwTQh2g="),
];
const HOST: &str = "Host: localhost";
const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const SNAPSHOT: [&str; 2] = ["{\"id\":\"A1\",\"total\":3}", "{\"id\":\"A2\",\"total\":7}"];

fn request(first: &str, lines: &[&str]) -> String {
    format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n"))
}

fn get(lines: &[&str]) -> String {
    request("GET /orders/electronics HTTP/1.1", lines)
}

/// Sends a handshake that must be accepted; returns the session and the response.
#[track_caller]
fn expect_taken(server: &Server, request: impl AsRef<[u8]>) -> (WebSocket, Reply) {
    let mut client = server.client();
    client.write(&request);
    let reply = client.reply();
    let shown = String::from_utf8_lossy(request.as_ref()).into_owned();
    assert_eq!(reply.status, 101, "{shown}{reply:?}");
    assert_eq!(reply.version, "HTTP/1.1", "{shown}");
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade")] {
        assert!(reply.header(name).is_some_and(|found| found.eq_ignore_ascii_case(value)), "{shown}{reply:?}");
    }
    // Headers that a 101 must not have here: sections 4.2.2, 9.1 and 1.9; RFC 9110, section 8.6.
    for name in ["sec-websocket-extensions", "sec-websocket-version", "content-length", "transfer-encoding"] {
        assert_eq!(reply.header(name), None, "{shown}{reply:?}");
    }
    let accepts = reply.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"));
    assert_eq!(accepts.count(), 1, "{shown}{reply:?}");
    let (stream, rest) = client.into_parts();
    (WebSocket::from_parts(stream, rest), reply)
}

/// Sends an invalid handshake and checks that it is rejected.
#[track_caller]
fn expect_refused(server: &Server, request: &str, status: u16) -> Reply {
    let reply = exchange(server.addr(), request);
    assert_eq!(reply.status, status, "{request}{reply:?}");
    reply.problem(status);
    assert_eq!(reply.header("sec-websocket-accept"), None, "{request}{reply:?}");
    reply
}

#[test]
fn the_answer_proves_that_the_key_was_read() {
    let server = Server::start();
    for (key, accept) in KEYS {
        let key = format!("Sec-WebSocket-Key: {key}");
        let (mut session, reply) = expect_taken(&server, get(&[HOST, UPGRADE, CONNECTION, VERSION, &key]));
        assert_eq!(reply.header("sec-websocket-accept"), Some(accept), "{key}");
        assert_eq!(reply.header("sec-websocket-protocol"), None);
        assert_eq!(session.texts(2), SNAPSHOT);
    }
}

#[test]
fn names_and_tokens_count_in_any_case_any_order_and_over_several_lines() {
    let server = Server::start();
    for lines in [
        vec![KEY, VERSION, CONNECTION, UPGRADE],
        vec!["UPGRADE: WEBSOCKET", "CONNECTION: UPGRADE", VERSION, KEY],
        vec!["upgrade: WebSocket", "connection: upgrade", "sec-websocket-version: 13", KEY],
        vec![UPGRADE, "Connection: keep-alive, Upgrade", VERSION, KEY],
        vec![UPGRADE, "Connection: Upgrade, keep-alive", VERSION, KEY],
        vec![UPGRADE, "Connection: keep-alive ,\tUPGRADE ,x", VERSION, KEY],
        vec![UPGRADE, "Connection: ,,upgrade,", VERSION, KEY],
        vec![UPGRADE, "Connection: keep-alive", "X: y", "Connection: upgrade", VERSION, KEY],
        vec!["Upgrade: h2c, websocket", CONNECTION, VERSION, KEY],
        vec!["Upgrade: websocket, h2c", CONNECTION, VERSION, KEY],
        vec!["Upgrade: h2c", "Upgrade: websocket", CONNECTION, VERSION, KEY],
        vec![UPGRADE, CONNECTION, "Sec-WebSocket-Version:13", "Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ=="],
        vec![UPGRADE, CONNECTION, "Sec-WebSocket-Version:   13  ", "Sec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ==  "],
        vec![UPGRADE, CONNECTION, VERSION, KEY, "Content-Length: 0"],
    ] {
        let (mut session, reply) = expect_taken(&server, get(&[&[HOST], &lines[..]].concat()));
        assert_eq!(reply.header("sec-websocket-accept"), Some(KEYS[0].1), "{lines:?}");
        assert_eq!(session.texts(2), SNAPSHOT, "{lines:?}");
    }
}

#[test]
fn every_version_but_13_is_answered_426_with_the_supported_one() {
    let server = Server::start();
    for version in [
        "0",
        "8",
        "12",
        "14",
        "25",
        "255",
        "13, 8",
        "8, 13",
        "13.0",
        "013",
        "+13",
        "0x0d",
        "xiii",
        "",
        "13\r\nSec-WebSocket-Version: 8",
        "8\r\nSec-WebSocket-Version: 13",
        "13\r\nSec-WebSocket-Version: 13",
    ] {
        let version = format!("Sec-WebSocket-Version: {version}");
        let reply = expect_refused(&server, &get(&[HOST, UPGRADE, CONNECTION, &version, KEY]), 426);
        assert_eq!(reply.header("sec-websocket-version"), Some("13"), "{reply:?}");
        // RFC 9110, section 15.5.22: a 426 has an `Upgrade` header.
        assert!(reply.lists("upgrade", "websocket"), "{reply:?}");
    }
    let reply = expect_refused(&server, &get(&[HOST, UPGRADE, CONNECTION, KEY]), 426);
    assert_eq!(reply.header("sec-websocket-version"), Some("13"), "{reply:?}");
}

#[test]
fn a_key_that_is_not_16_bytes_in_base64_there_once_is_refused() {
    let server = Server::start();
    expect_refused(&server, &get(&[HOST, UPGRADE, CONNECTION, VERSION]), 400);
    expect_refused(&server, &get(&[HOST, UPGRADE, CONNECTION, VERSION, KEY, KEY]), 400);
    let other = "sec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==";
    expect_refused(&server, &get(&[HOST, UPGRADE, CONNECTION, VERSION, KEY, other]), 400);
    for key in [
        "",
        "=",
        "==",
        "short",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        // 15, 17 and 32 bytes, and a number of characters that is not valid base64.
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZQA=",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "dGhlIHNhbXBsZSBub25jZQAA==",
        "dGhlIHNhbXBsZSBub25jZ===",
        // The base64url alphabet, spaces, quotes, a list, bits beyond the last byte.
        "dGhlIHNhbXBsZSBub25-ZQ==",
        "dGhlIHNhbXBsZSBub25_ZQ==",
        "dGhlIHNhb XBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub2 jZQ==",
        "\"dGhlIHNhbXBsZSBub25jZQ==\"",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZR==",
        "==dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jé==",
    ] {
        let key = format!("Sec-WebSocket-Key: {key}");
        expect_refused(&server, &get(&[HOST, UPGRADE, CONNECTION, VERSION, &key]), 400);
    }
}

#[test]
fn a_request_that_is_no_get_of_http_1_1_with_a_host_is_no_handshake() {
    let server = Server::start();
    let lines = [HOST, UPGRADE, CONNECTION, VERSION, KEY];
    for method in ["POST", "PUT", "HEAD", "OPTIONS", "DELETE", "get", "CONNECT"] {
        let mut client = server.client();
        client.write(request(&format!("{method} /orders/electronics HTTP/1.1"), &lines));
        let reply = client.try_reply(method != "HEAD").expect("the server answers");
        assert!(reply.status != 101 && reply.header("sec-websocket-accept").is_none(), "{method}: {reply:?}");
        assert_eq!(reply.header("upgrade"), None, "{method}: {reply:?}");
    }
    expect_refused(&server, &request("GET /orders/electronics HTTP/1.0", &lines), 400);
    expect_refused(&server, &request("GET /orders/electronics HTTP/1.0", &lines[1..]), 400);
    expect_refused(&server, &get(&lines[1..]), 400);
    expect_refused(&server, &get(&[HOST, HOST, UPGRADE, CONNECTION, VERSION, KEY]), 400);
    for connection in
        ["Connection: keep-alive", "Connection: close", "Connection: xupgrade", "Connection: up grade", "X: y"]
    {
        expect_refused(&server, &get(&[HOST, UPGRADE, connection, VERSION, KEY]), 400);
    }
    // Not a request for a WebSocket: the response is the list of totals.
    for upgrade in
        ["Upgrade: h2c", "Upgrade: websockets", "Upgrade: web socket", "Upgrade: xwebsocket", "Upgrade: ", "X: y"]
    {
        let reply = exchange(server.addr(), get(&[HOST, upgrade, CONNECTION, VERSION, KEY]));
        assert_eq!(reply.status, 200, "{upgrade}: {reply:?}");
        assert_eq!(reply.json()[0]["total"], 3, "{upgrade}");
    }
    expect_refused(&server, &request("GET /orders/nowhere HTTP/1.1", &lines), 404);
}

#[test]
fn a_handshake_with_a_body_is_refused_and_the_body_is_not_read_as_anything() {
    let server = Server::start();
    let order = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 12\r\n\r\n{\"amount\":1}";
    for (framing, body) in [
        (format!("Content-Length: {}", order.len()), order.to_owned()),
        ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{order}\r\n0\r\n\r\n", order.len())),
        ("Content-Length: 5".to_owned(), "hello".to_owned()),
    ] {
        let handshake = get(&[HOST, UPGRADE, CONNECTION, VERSION, KEY, &framing]);
        expect_refused(&server, &format!("{handshake}{body}"), 400);
    }
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn unknown_subprotocols_and_extensions_are_not_selected() {
    let server = Server::start();
    for offer in [
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Protocol: chat, superchat, v1.json",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: graphql-ws",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
        "Sec-WebSocket-Extensions: x-unheard-of; a=\"b\"\r\nSec-WebSocket-Extensions: permessage-deflate",
    ] {
        let (mut session, reply) = expect_taken(&server, get(&[HOST, UPGRADE, CONNECTION, VERSION, KEY, offer]));
        assert_eq!(reply.header("sec-websocket-protocol"), None, "{offer}");
        assert_eq!(session.texts(2), SNAPSHOT, "{offer}");
        // The reserved bit of a compressed frame (RFC 7692) is invalid here.
        session.send_raw(&frame(TEXT | 0x40, true, b"{}"));
        assert_eq!(session.close_code(), Some(1002), "{offer}");
    }
}

#[test]
fn what_comes_directly_after_the_handshake_is_received_however_the_bytes_are_cut() {
    const ORDER: &[u8] = b"{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B1\",\"amount\":1,\"key\":\"k\"}}";
    let server = Server::start();
    let handshake = get(&[HOST, UPGRADE, CONNECTION, VERSION, KEY]).into_bytes();
    let order = frame(TEXT, true, ORDER);
    let whole = [&handshake[..], &order, &frame(PING, true, b"still there?")].concat();
    for end in
        [whole.len(), handshake.len() + order.len(), handshake.len() + 1, handshake.len(), handshake.len() - 1, 1]
    {
        let mut client = server.client();
        client.write(&whole[..end]);
        if end >= handshake.len() {
            // The rest is sent after the server has answered, so it is in another segment.
            client.stream().peek(&mut [0]).expect("the server answers");
        }
        client.write(&whole[end..]);
        assert_eq!(client.reply().status, 101, "cut at {end}");
        let (stream, rest) = client.into_parts();
        let mut session = WebSocket::from_parts(stream, rest);
        let (mut answered, mut ponged, mut totals) = (false, false, 0);
        while !(answered && ponged && totals == 2) {
            match session.next() {
                Message::Text(text) if text == "{\"ok\":true,\"key\":\"k\"}" => answered = true,
                Message::Text(text) => {
                    assert!(text.starts_with("{\"id\":\"A"), "cut at {end}: {text}");
                    totals += 1;
                }
                Message::Pong(payload) => {
                    assert_eq!(payload, b"still there?", "cut at {end}");
                    ponged = true;
                }
                other => panic!("cut at {end}: {other:?}"),
            }
        }
    }
    let b1 = || server.client().get("/orders/confectionery").json()[0]["total"].as_i64();
    wait_until(DEADLINE, "the order is counted, once for its one key", || b1() == Some(102));
}
