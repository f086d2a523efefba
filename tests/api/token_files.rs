//! Token files that change while the server runs: what applies to later requests and to open sessions.

use crate::common::websocket::{PING, PONG, TEXT, frame};
use crate::common::{Message, TempDir, WebSocket, ordercast};
use crate::guarded::{Guarded, READER, WRITER, ask, open};
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

const NEW: &str = "newcomer-5d1e7b3c90fa2846";
const ORDER: &str = "{\"amount\":1}";
const AGAIN: &str = "have been read again";
const KEPT: &str = "the tokens stay as they were";
/// A silent session is checked after 25 s (`PING_AFTER`); 10 s more for a busy machine.
const LOOKED_AT: Duration = Duration::from_secs(25 + 10);

#[test]
fn a_changed_file_holds_from_the_next_request_on_and_connections_stay_open() {
    let guarded = Guarded::start(true);
    let mut client = guarded.server.client();
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(NEW), ORDER).status, 401);
    guarded.change("write", &format!("{NEW}\n{WRITER}\n"), AGAIN);
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(NEW), ORDER).status, 200);
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(WRITER), ORDER).status, 200);
    guarded.change("write", &format!("{NEW}\n"), AGAIN);
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(WRITER), ORDER).status, 401);
    assert_eq!(ask(&mut client, "GET", "/orders/electronics", Some(NEW), "").json()[0]["total"], 5);
    // The token that could write is now one that may only read.
    guarded.change("read", &format!("{READER}\n{WRITER}\n"), AGAIN);
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(WRITER), ORDER).status, 403);
    assert_eq!(ask(&mut client, "GET", "/orders", Some(WRITER), "").status, 200);
    guarded.expect_silence(&[]);
}

#[test]
fn an_invalid_file_changes_nothing_and_is_logged_without_its_content() {
    let guarded = Guarded::start(true);
    let mut session = open(&guarded.server, Some(WRITER), true).expect("a session");
    session.text();
    let long = format!("{}\n", "y".repeat(2 * 1024 * 1024));
    let many: String = (0..1_001).map(|number| format!("token-number-{number:08}\n")).collect();
    for broken in ["", "# nobody\n", "short\n", "two words-of-a-token-1\n", "umlaut-ä-0123456789abcdef\n", &long, &many]
    {
        for name in ["write", "read"] {
            guarded.change(name, broken, KEPT);
            let mut client = guarded.server.client();
            assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(WRITER), ORDER).status, 200);
            assert_eq!(ask(&mut client, "GET", "/orders", Some(READER), "").status, 200);
            assert_eq!(ask(&mut client, "POST", "/orders/A1", None, ORDER).status, 401);
            guarded.change(name, if name == "write" { WRITER } else { READER }, AGAIN);
        }
    }
    // One invalid file of two leaves both lists unchanged.
    guarded.change("read", "short", KEPT);
    guarded.change("write", NEW, KEPT);
    let mut client = guarded.server.client();
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(NEW), ORDER).status, 401);
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(WRITER), ORDER).status, 200);
    session.expect_nothing_but_a_pong();
    guarded.expect_silence(&[]);
    for secret in ["two words", "words-of", "token-number", "yyyy", "umlaut"] {
        assert!(!guarded.server.log().contains(secret), "{}", guarded.server.log());
    }
}

#[test]
fn a_missing_file_changes_nothing() {
    let guarded = Guarded::start(false);
    guarded.remove("write", KEPT);
    let mut client = guarded.server.client();
    assert_eq!(ask(&mut client, "POST", "/orders/A1", None, ORDER).status, 401);
    assert_eq!(ask(&mut client, "POST", "/orders/A1", Some(WRITER), ORDER).status, 200);
}

#[test]
fn a_server_does_not_start_with_tokens_that_it_cannot_read_and_shows_none() {
    let folder = TempDir::new();
    let broken = folder.write("tokens", format!("{WRITER}\n{WRITER} and more\n"));
    let good = folder.write("good", WRITER);
    let (broken, good) = (broken.to_str().expect("a path"), good.to_str().expect("a path"));
    for args in [
        &["--token-file", broken][..],
        &["--token-file", "nowhere"],
        &["--token-file", good, "--read-token-file", broken],
        &["--token-file", "/"],
        &["--read-token-file", good],
    ] {
        let run = ordercast(folder.path(), &[args, &["--listen", "127.0.0.1:0"]].concat(), &[]);
        assert!(matches!(run.code, Some(1 | 2)), "{args:?}: {run:?}");
        assert!(run.stderr.contains("token"), "{args:?}: {run:?}");
        assert!(!run.stderr.contains(WRITER) && !run.stdout.contains(WRITER), "{args:?}: {run:?}");
    }
}

#[test]
fn sessions_whose_token_stays_notice_nothing_and_one_that_is_removed_cannot_order() {
    let guarded = Guarded::start(true);
    let session = |token| {
        let mut session = open(&guarded.server, Some(token), true).expect("a session");
        assert_eq!(session.text(), "{\"id\":\"B1\",\"total\":101}");
        session
    };
    let (mut reader, mut writer) = (session(READER), session(WRITER));
    guarded.change("write", NEW, AGAIN);
    writer.send("{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B1\",\"amount\":1}}");
    assert_eq!(writer.close_code(), Some(1008));
    let mut client = guarded.server.client();
    assert_eq!(ask(&mut client, "POST", "/orders/B1", Some(NEW), ORDER).status, 200);
    assert_eq!(reader.text(), "{\"id\":\"B1\",\"total\":102}");
    reader.expect_nothing_but_a_pong();
}

/// A session ends soon after its token was removed: a silent one, one that pings, one that sends a frame slowly.
#[test]
fn the_session_of_a_removed_token_ends_whatever_its_client_does() {
    type Habit = fn(&mut WebSocket);
    let habits: [(&str, Habit); 4] = [
        ("is silent", |_| {}),
        ("pings", |session| session.try_send_raw(&frame(PING, true, b"x"))),
        ("pongs", |session| session.try_send_raw(&frame(PONG, true, b"x"))),
        ("drips", |session| session.try_send_raw(b"a")),
    ];
    let guarded = Guarded::start(true);
    thread::scope(|scope| {
        let sessions = habits.map(|(name, habit)| {
            let mut session = open(&guarded.server, Some(READER), true).expect("a session");
            assert_eq!(session.text(), "{\"id\":\"B1\",\"total\":101}");
            if name == "drips" {
                // The head of a message of 12 KiB.
                session.send_raw(&[TEXT | 0x80, 0x80 | 126, 0x30, 0, 0, 0, 0, 0]);
            }
            (name, session, habit)
        });
        guarded.change("read", NEW, AGAIN);
        let start = Instant::now();
        for (name, mut session, habit) in sessions {
            scope.spawn(move || {
                while start.elapsed() < LOOKED_AT {
                    habit(&mut session);
                    // Once a second, because more would be closed as a flood.
                    let next = Instant::now() + Duration::from_secs(1);
                    loop {
                        match session.next_within(next.saturating_duration_since(Instant::now())) {
                            Ok(Message::Close(code, reason)) => {
                                assert!(code == Some(1008) && reason.contains("token"), "{name}: {code:?} {reason}");
                                return;
                            }
                            Err(error) if error.kind() == ErrorKind::TimedOut => break,
                            // A client that sends after the close frame may get a reset instead of it.
                            Err(_) => return,
                            Ok(_) => {}
                        }
                    }
                }
                panic!("the session whose client {name} is still open after {LOOKED_AT:?}");
            });
        }
    });
}
