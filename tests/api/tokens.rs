//! Which requests and sessions need a token, and that no token is ever shown.

use crate::common::websocket::UPGRADE;
use crate::common::{Reply, Server, WebSocket};
use crate::guarded::{Guarded, READER, WRITER, WRONG, ask, open};

const ORDER: &str = "{\"amount\":1}";

/// Checks a rejection whose challenge has this `error` (RFC 6750, section 3.1): none without a token, `invalid_token`
/// for an unknown one, `insufficient_scope` for one that may not write.
#[track_caller]
fn expect_denied(reply: &Reply, status: u16, error: &str) {
    reply.problem(status);
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer ") && challenge.contains(error), "{reply:?}");
    assert!(!error.is_empty() || !challenge.contains("error="), "{reply:?}");
}

#[test]
fn every_write_needs_a_token_that_may_write() {
    for protects_reading in [false, true] {
        let guarded = Guarded::start(protects_reading);
        let mut client = guarded.server.client();
        let details = "{\"name\":\"Lamp\",\"rrp\":\"1\",\"info\":\"\"}";
        for (path, body) in
            [("/orders/A1", ORDER), ("/electronics", details), ("/orders/nowhere", ORDER), ("/nowhere", "{}")]
        {
            expect_denied(&ask(&mut client, "POST", path, None, body), 401, "");
            expect_denied(&ask(&mut client, "POST", path, Some(WRONG), body), 401, "invalid_token");
            let reader = ask(&mut client, "POST", path, Some(READER), body);
            match protects_reading {
                true => expect_denied(&reader, 403, "insufficient_scope"),
                false => expect_denied(&reader, 401, "invalid_token"),
            }
        }
        for method in ["PUT", "DELETE", "PATCH", "FOO"] {
            expect_denied(&ask(&mut client, method, "/orders/A1", None, ORDER), 401, "");
        }
        assert_eq!(guarded.a1(), 3);
        assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(WRITER), ORDER).text(), "{\"ok\":true}");
        assert_eq!(
            ask(&mut client, "POST", "/electronics", Some(WRITER), details).json().as_array().map(Vec::len),
            Some(3)
        );
        assert_eq!(guarded.a1(), 4);
    }
}

#[test]
fn every_read_needs_a_token_when_reading_is_protected() {
    const READS: [&str; 7] =
        ["/orders", "/orders/electronics", "/electronics", "/categories", "/rates", "/orders/nowhere", "/nowhere"];
    let (open_to_read, guarded) = (Guarded::start(false), Guarded::start(true));
    let mut client = guarded.server.client();
    for path in READS {
        for method in ["GET", "HEAD"] {
            for (token, status) in [(None, 401), (Some(WRONG), 401), (Some(READER), 200), (Some(WRITER), 200)] {
                let bearer = token.map(|token| format!("Bearer {token}"));
                let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
                let reply = client.request(method, path, &headers, b"");
                // Only a client with a token learns that a path does not exist.
                let status = if path.contains("nowhere") && status == 200 { 404 } else { status };
                assert_eq!(reply.status, status, "{method} {path} {token:?}");
                assert!(status != 401 || !reply.text().contains("A1"), "{reply:?}");
            }
        }
        let reply = open_to_read.server.client().get(path);
        assert!(matches!(reply.status, 200 | 404), "{path}: {reply:?}");
    }
    // The web app is loaded before it can ask for a token, and it shows no data.
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/app.js").status, 200);
    // Another spelling of a protected path does not bypass the check.
    for path in [
        "/orders?x=.",
        "/orders/electronics?.css",
        "/orders/electronics.",
        "/./orders",
        "//orders",
        "/orders/",
        "/orders.json",
    ] {
        let reply = client.get(path);
        assert!(matches!(reply.status, 401 | 404), "{path}: {reply:?}");
        assert!(!reply.text().contains("total\""), "{path}: {reply:?}");
    }
}

#[test]
fn sessions_need_the_same_tokens_and_may_present_them_either_way() {
    let (open_to_read, guarded) = (Guarded::start(false), Guarded::start(true));
    let order = "{\"cmd\":\"add-order\",\"payload\":{\"id\":\"A1\",\"amount\":1}}";
    for in_protocols in [true, false] {
        for (server, token, status) in [
            (&open_to_read, Some(WRONG), 401),
            (&open_to_read, Some(READER), 401),
            (&guarded, None, 401),
            (&guarded, Some(WRONG), 401),
            (&guarded, Some("x"), 401),
        ] {
            let refused = open(&server.server, token, in_protocols).expect_err("a refusal");
            expect_denied(&refused, status, if token.is_none() { "" } else { "invalid_token" });
        }
        for (server, token, may_write) in [
            (&open_to_read, None, false),
            (&open_to_read, Some(WRITER), true),
            (&guarded, Some(READER), false),
            (&guarded, Some(WRITER), true),
        ] {
            let before = server.a1();
            let mut session = open(&server.server, token, in_protocols).expect("a session");
            assert_eq!(session.text(), "{\"id\":\"B1\",\"total\":101}");
            session.send(order);
            if may_write {
                assert_eq!(session.text(), "{\"ok\":true}");
            } else {
                assert!(session.error().contains("token"));
                session.expect_nothing_but_a_pong();
            }
            assert_eq!(server.a1(), before + i64::from(may_write), "{token:?}");
        }
    }
}

#[test]
fn of_the_offered_subprotocols_bearer_is_selected_and_never_the_token() {
    let guarded = Guarded::start(true);
    let handshake = |offered: &str| {
        let mut client = guarded.server.client();
        let headers = [&UPGRADE[..], &[("Sec-WebSocket-Protocol", offered)]].concat();
        client.request("GET", "/orders", &headers, b"")
    };
    let reply = handshake(&format!("bearer, {READER}"));
    assert_eq!((reply.status, reply.header("sec-websocket-protocol")), (101, Some("bearer")), "{reply:?}");
    let mut said = vec![format!("{reply:?}")];
    for offered in [
        READER.to_owned(),
        format!("{READER}, bearer"),
        format!("bearer, {READER}, {READER}"),
        format!("bearer, {WRONG}, {READER}"),
        format!("chat, bearer, {READER}"),
        "bearer".to_owned(),
    ] {
        let reply = handshake(&offered);
        assert_eq!(reply.status, 401, "{offered}: {reply:?}");
        said.push(format!("{reply:?}"));
    }
    guarded.expect_silence(&said);
}

#[test]
fn what_only_resembles_a_token_is_refused_and_a_prefix_reveals_nothing() {
    let guarded = Guarded::start(true);
    let mut client = guarded.server.client();
    let mut said = Vec::new();
    let mut denied = Vec::new();
    let bodies =
        |reply: &Reply| (reply.status, reply.header("www-authenticate").map(str::to_owned), reply.body.clone());
    for end in 1..WRITER.len() {
        let reply = ask(&mut client, "POST", "/orders/A1", Some(&WRITER[..end]), ORDER);
        assert_eq!(reply.status, 401, "{end}: {reply:?}");
        denied.push(bodies(&reply));
        said.push(format!("{reply:?}"));
    }
    for token in
        [format!("{WRITER}x"), WRITER.repeat(2), WRITER.to_uppercase(), format!("x{WRITER}"), "x".repeat(8_000)]
    {
        let reply = ask(&mut client, "POST", "/orders/A1", Some(&token), ORDER);
        assert_eq!(reply.status, 401, "{token}: {reply:?}");
        denied.push(bodies(&reply));
    }
    denied.dedup();
    assert_eq!(denied.len(), 1, "the answers tell how much of a token was right: {denied:?}");
    for line in [
        WRITER.to_owned(),
        format!("Basic {WRITER}"),
        format!("Token {WRITER}"),
        format!("Bearer{WRITER}"),
        format!("Bearer={WRITER}"),
        format!("Bearer \"{WRITER}\""),
        format!("Bearer {WRITER}, Bearer {WRITER}"),
        format!("Bearer {WRITER} x"),
        format!("Bearer token={WRITER}"),
    ] {
        let headers = [("Content-Type", "application/json"), ("Authorization", line.as_str())];
        let reply = client.request("POST", "/orders/A1", &headers, ORDER.as_bytes());
        assert_eq!(reply.status, 401, "{line}: {reply:?}");
        said.push(format!("{reply:?}"));
    }
    for query in ["token", "access_token", "bearer"] {
        let reply = ask(&mut client, "POST", &format!("/orders/A1?{query}={WRITER}"), None, ORDER);
        assert_eq!(reply.status, 401, "{query}: {reply:?}");
        said.push(format!("{reply:?}"));
    }
    let (good, bad) = (format!("Bearer {WRITER}"), format!("Bearer {WRONG}"));
    for (first, second) in [(&good, &bad), (&bad, &good), (&good, &good)] {
        let headers =
            [("Authorization", first.as_str()), ("Authorization", second), ("Content-Type", "application/json")];
        client.request("POST", "/orders/A1", &headers, ORDER.as_bytes()).problem(400);
    }
    assert_eq!(guarded.a1(), 3);
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let line = format!("{scheme} {WRITER}");
        let headers = [("Content-Type", "application/json"), ("Authorization", line.as_str())];
        assert_eq!(client.request("POST", "/orders/A1", &headers, ORDER.as_bytes()).text(), "{\"ok\":true}", "{line}");
    }
    guarded.expect_silence(&said);
}

/// Without token files no token is checked, so a client may send any header value.
#[test]
fn a_token_that_is_not_needed_is_not_kept() {
    const SESSIONS: usize = 200;
    const TOKEN_BYTES: usize = 15 * 1024;
    let server = Server::start();
    let bearer = format!("Bearer {}", "x".repeat(TOKEN_BYTES));
    let grown = |headers: &[(&str, &str)]| {
        let before = server.memory_kib();
        let sessions: Vec<WebSocket> = (0..SESSIONS)
            .map(|_| {
                let mut session = WebSocket::try_open(server.addr(), "/orders", headers).expect("an upgrade");
                session.texts(3);
                session
            })
            .collect();
        (server.memory_kib().saturating_sub(before), sessions)
    };
    let (without, _sessions) = grown(&[]);
    let (with, _more_sessions) = grown(&[("Authorization", &bearer)]);
    let tokens = (SESSIONS * TOKEN_BYTES / 1024) as u64;
    assert!(with < without + tokens / 2, "{without} KiB without, {with} with {tokens} KiB of tokens");
}
