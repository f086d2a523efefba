//! Servers that follow another one: they show what it shows, and pass on what they do not decide.

use std::time::{Duration, Instant};

use crate::common::server::own_address;
use crate::common::{DEADLINE, Form, Message, Positional, Server, TempDir, WebSocket, periods, wait_until};

const ELECTRONICS: &str = "/orders/electronics";
const FORMS: [Form; 2] = [Form::WebSocket, Form::Events];
const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

/// A server that follows this one.
#[track_caller]
fn edge_of(server: &Server) -> Server {
    Server::builder().follow(server.addr()).start()
}

#[track_caller]
fn hide(server: &Server, id: &str, is_hidden: bool) {
    let body = format!("{{\"hidden\":{is_hidden}}}");
    let reply = server.client().request("PATCH", &format!("/electronics/{id}"), &JSON, body.as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Reads a feed with `status=true` until it says `stale`, and then until it says `live`.
#[track_caller]
pub fn expect_an_outage(feed: &mut WebSocket) {
    for status in ["stale", "live"] {
        while !feed.text().starts_with(&format!("{{\"status\":\"{status}\"")) {}
    }
}

/// Waits until a server says that it is ready, or that it is not.
#[track_caller]
fn wait_until_ready(server: &Server, is_ready: bool) {
    let status = if is_ready { 200 } else { 503 };
    wait_until(DEADLINE, "readiness", || server.client().get("/readyz").status == status);
}

/// Reads a fresh snapshot of electronics; returns its position.
#[track_caller]
fn snapshot(feed: &mut Positional) -> String {
    let steps = feed.take(2);
    assert!(!steps[0].can_resume() && steps[1].can_resume(), "{steps:?}");
    steps[1].position.clone().expect("a position")
}

/// Reads the orders of A1 up to this total: each is the next one.
#[track_caller]
fn expect_orders(feed: &mut Positional, totals: std::ops::RangeInclusive<i64>) -> String {
    let mut position = String::new();
    for total in totals {
        let step = feed.next();
        assert_eq!(step.pair(), ("A1".to_owned(), total));
        position = step.position.expect("a position");
    }
    position
}

#[test]
fn an_edge_shows_the_totals_and_orders_of_the_server_that_it_follows_and_keeps_nothing() {
    let server = Server::start();
    server.client().order("A1", 2);
    let edge = edge_of(&server);
    assert!(!edge.data().exists());
    assert_eq!(edge.totals(), server.totals());
    let mut feed = WebSocket::open(edge.addr(), ELECTRONICS);
    assert_eq!(feed.texts(2), ["{\"id\":\"A1\",\"total\":5}", "{\"id\":\"A2\",\"total\":7}"]);
    for total in 6..20 {
        server.client().order("A1", 1);
        assert_eq!(feed.text(), format!("{{\"id\":\"A1\",\"total\":{total}}}"));
    }
    for path in ["/categories", "/electronics", "/electronics?hidden=true", "/log", "/rates/electronics", "/periods"] {
        let (here, there) = (edge.client().get(path), server.client().get(path));
        assert_eq!((here.status, here.text()), (200, there.text()), "{path}");
    }
    assert_eq!(edge.client().get("/readyz").status, 200);
}

#[test]
fn a_request_that_was_passed_on_is_answered_after_its_effect_is_known_at_the_edge() {
    let server = Server::start();
    let (near, middle) = (edge_of(&server), edge_of(&server));
    let far = edge_of(&middle);
    for edge in [&near, &far] {
        for _ in 0..50 {
            let before = edge.total("A1");
            edge.client().order("A1", 1);
            assert_eq!(edge.total("A1"), before + 1);
        }
        let mut client = edge.client();
        let added = client.post("/electronics", "{\"name\":\"Lamp\"}");
        assert_eq!(added.status, 200, "{}", added.text());
        assert_eq!(client.get("/electronics").text(), added.text());
        let id = added.json().as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(client.total(&id), 0);
        client.order(&id, 3);
        assert_eq!(client.total(&id), 3);
        hide(edge, &id, true);
        assert!(client.totals().iter().all(|(one, _)| *one != id));
        assert_eq!(client.request("PUT", "/toys", &JSON, b"{\"title\":\"T\",\"prefix\":\"T\"}").status / 100, 2);
        assert_eq!(client.get("/orders/toys").text(), "[]");
    }
    assert_eq!(server.total("A1"), 103);
    let refused = |server: &Server| server.client().post("/orders/NONE", "{\"amount\":1}").problem(404);
    assert_eq!(refused(&far), refused(&server));
}

#[test]
fn orders_over_a_websocket_of_an_edge_are_passed_on() {
    let server = Server::start();
    let edge = edge_of(&server);
    let mut feed = WebSocket::open(edge.addr(), "/orders/confectionery");
    assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":101}");
    let order =
        |id: &str| format!("{{\"cmd\":\"add-order\",\"payload\":{{\"id\":\"{id}\",\"amount\":2,\"key\":\"k\"}}}}");
    feed.send(&order("B1"));
    let mut answers = feed.texts(2);
    answers.sort_unstable();
    assert_eq!(answers, ["{\"id\":\"B1\",\"total\":103}", "{\"ok\":true,\"key\":\"k\"}"]);
    feed.send(&order("NONE"));
    assert!(feed.text().contains("there is no product"), "an error");
    assert_eq!(server.total("B1"), 103);
}

#[test]
fn a_subscriber_resumes_on_another_server_than_it_left() {
    let server = Server::start();
    let near = edge_of(&server);
    let far = edge_of(&near);
    let servers = [&server, &near, &far];
    let mut total = 3;
    for form in FORMS {
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1), (1, 2)] {
            let mut feed = Positional::open(form, servers[from].addr(), ELECTRONICS, None);
            let position = snapshot(&mut feed);
            drop(feed);
            for _ in 0..10 {
                server.client().order("A1", 1);
            }
            wait_until(DEADLINE, "it has followed", || servers[to].total("A1") == total + 10);
            let mut feed = Positional::open(form, servers[to].addr(), ELECTRONICS, Some(&position));
            expect_orders(&mut feed, total + 1..=total + 10);
            total += 10;
        }
    }
    // From before an edge has started: the orders come from the log of the other server.
    let mut feed = Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, None);
    let position = snapshot(&mut feed);
    server.client().order("A1", 1);
    let late = edge_of(&edge_of(&server));
    wait_until_ready(&late, false);
    drop(late);
    let late = edge_of(&near);
    let mut feed = Positional::open(Form::WebSocket, late.addr(), ELECTRONICS, Some(&position));
    expect_orders(&mut feed, total + 1..=total + 1);
}

#[test]
fn nothing_is_lost_or_repeated_when_the_server_or_an_edge_is_killed_and_comes_back() {
    let mut server = Server::start();
    let mut middle = edge_of(&server);
    let last = edge_of(&middle);
    let mut feeds = FORMS.map(|form| Positional::open(form, last.addr(), ELECTRONICS, None));
    feeds.iter_mut().for_each(|feed| drop(snapshot(feed)));
    let mut status = WebSocket::open(last.addr(), "/orders/confectionery?status=true");
    let mut total = 3;
    for round in 0..4 {
        let is_first = round % 2 == 0;
        let victim = if is_first { &mut server } else { &mut middle };
        victim.restart_on_the_same_ports();
        expect_an_outage(&mut status);
        for _ in 0..20 {
            server.client().order("A1", 1);
        }
        for feed in &mut feeds {
            expect_orders(feed, total + 1..=total + 20);
        }
        total += 20;
        wait_until_ready(&last, true);
        last.client().order("A1", 1);
        total += 1;
        assert_eq!(last.total("A1"), total);
        for feed in &mut feeds {
            let position = expect_orders(feed, total..=total);
            let mut other = Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, Some(&position));
            drop(other.try_send("{}"));
        }
    }
}

#[test]
fn a_period_that_was_closed_begins_at_the_edge_behind_the_same_order() {
    let server = Server::start();
    let near = edge_of(&server);
    let far = edge_of(&near);
    let path = "/orders/confectionery?period=current";
    let open = |server: &Server| Positional::open(Form::WebSocket, server.addr(), path, None);
    let mut feeds = [open(&server), open(&near), open(&far)];
    let mut client = server.client();
    for number in 1..=10 {
        for _ in 0..20 {
            client.order("B1", 1);
        }
        periods::close(&mut client, number);
    }
    client.order("B1", 1);
    let mut seen = feeds.each_mut().map(|feed| {
        let mut steps = vec![feed.next()];
        while steps.last().unwrap().seq() < 201 {
            steps.push(feed.next());
        }
        steps
    });
    for steps in &seen {
        for step in steps {
            // An order, or the snapshot behind the last one before the period.
            let within = step.seq() as i64 % 20;
            assert!(step.total == within || (within == 0 && step.total == 20), "{step:?}");
        }
    }
    assert_eq!(seen[2].pop(), seen[0].pop());
    // At the end of a chain too, an answer comes when the period has begun there.
    periods::close(&mut far.client(), 11);
    assert_eq!(far.client().get(path).json()[0]["total"], 0);
    assert_eq!(near.client().get(path).json()[0]["total"], 0);
}

#[test]
fn products_that_are_added_hidden_and_shown_are_so_at_the_edge() {
    let server = Server::start();
    let near = edge_of(&server);
    let far = edge_of(&near);
    let mut feed = WebSocket::open(far.addr(), &format!("{ELECTRONICS}?catalog=true"));
    feed.texts(2);
    let position = snapshot(&mut Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, None));
    assert_eq!(server.client().post("/electronics", "{\"id\":\"NEW\",\"name\":\"Lamp\"}").status, 200);
    server.client().order("NEW", 4);
    let mut got = feed.texts(3);
    got.sort_unstable();
    assert_eq!(got[1..], ["{\"id\":\"NEW\",\"total\":0}", "{\"id\":\"NEW\",\"total\":4}"]);
    assert_eq!(got[0], "{\"catalog\":\"electronics\"}");
    hide(&server, "NEW", true);
    assert_eq!(feed.text(), "{\"catalog\":\"electronics\"}");
    assert_eq!(far.totals().len(), 3);
    server.client().order("A1", 1);
    assert_eq!(feed.text(), "{\"id\":\"A1\",\"total\":4}");
    hide(&server, "NEW", false);
    let mut got = feed.texts(2);
    got.sort_unstable();
    assert_eq!(got, ["{\"catalog\":\"electronics\"}", "{\"id\":\"NEW\",\"total\":4}"]);
    // A client that comes from before it was shown gets its total.
    let mut feed = Positional::open(Form::WebSocket, far.addr(), ELECTRONICS, Some(&position));
    while feed.next().pair() != ("NEW".to_owned(), 4) {}
}

#[test]
fn a_server_that_is_away_is_said_to_be_stale_within_two_seconds_and_live_again_when_it_is_back() {
    let server = Server::start();
    let near = edge_of(&server);
    let far = edge_of(&near);
    let status = |what: &str| format!("{{\"status\":\"{what}\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"));
    let mut feeds = [&near, &far].map(|edge| {
        let mut feed = WebSocket::open(edge.addr(), "/orders/confectionery?status=true");
        assert_eq!(feed.texts(2), [status("live"), "{\"id\":\"B1\",\"total\":101}".to_owned()]);
        feed
    });
    server.signal("STOP");
    let begun = Instant::now();
    for feed in &mut feeds {
        let message = feed.next_within(DEADLINE).expect("the status");
        assert_eq!(message, Message::Text(status("stale")));
        // A fifth more on a busy machine.
        assert!(begun.elapsed() < Duration::from_millis(2_400), "after {:?}", begun.elapsed());
    }
    for edge in [&near, &far] {
        let why = edge.client().get("/readyz").problem(503);
        assert!(why.starts_with("http://127.0.0.1:") && why.contains("orders are rejected until"), "{why}");
        let reply = edge.client().post("/orders/B1", "{\"amount\":1}");
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
        assert_eq!(edge.client().get("/periods").status, 503);
        // What is known is served.
        assert_eq!(edge.total("B1"), 101);
        let mut late = WebSocket::open(edge.addr(), "/orders/confectionery?status=true");
        assert_eq!(late.texts(2), [status("stale"), "{\"id\":\"B1\",\"total\":101}".to_owned()]);
    }
    server.signal("CONT");
    for feed in &mut feeds {
        assert_eq!(feed.text(), status("live"));
    }
    far.client().order("B1", 1);
    for feed in &mut feeds {
        assert_eq!(feed.text(), "{\"id\":\"B1\",\"total\":102}");
    }
}

#[test]
fn another_tally_behind_the_same_address_gives_every_subscriber_a_fresh_snapshot() {
    let mut server = Server::start();
    for _ in 0..5 {
        server.client().order("A1", 1);
    }
    let near = edge_of(&server);
    let far = edge_of(&near);
    let mut feeds = [&near, &far].map(|edge| Positional::open(Form::WebSocket, edge.addr(), ELECTRONICS, None));
    feeds.iter_mut().for_each(|feed| drop(snapshot(feed)));
    let addr = server.addr();
    server.kill();
    let other = Server::builder().listen(&addr.to_string()).start();
    for feed in &mut feeds {
        let steps = feed.take(2);
        assert_eq!(steps.iter().map(|step| step.total).collect::<Vec<_>>(), [3, 7], "{steps:?}");
    }
    wait_until_ready(&far, true);
    far.client().order("A1", 1);
    for feed in &mut feeds {
        expect_orders(feed, 4..=4);
    }
    assert_eq!(other.total("A1"), 4);
    assert!(near.log().contains("does not know the last order that was followed"), "{}", near.log());
}

#[test]
fn tokens_are_those_of_the_server_that_is_followed() {
    const WRITER: &str = "writer-0123456789";
    const READER: &str = "reader-0123456789";
    let files = TempDir::new();
    let path = |name: &str, token: &str| files.write(name, format!("{token}\n")).into_os_string();
    let (write, read) = (path("write", WRITER), path("read", READER));
    let with_files = Server::builder().arg("--token-file").arg(&write).arg("--read-token-file").arg(&read);
    let server = with_files.start();
    let near = Server::builder().follow(server.addr()).arg("--follow-token-file").arg(&read).start();
    let far = Server::builder().follow(near.addr()).arg("--follow-token-file").arg(&read).start();
    for edge in [&near, &far] {
        let mut client = edge.client();
        let mut status = |method: &str, path: &str, token: Option<&str>| {
            let authorization = token.map(|token| format!("Bearer {token}"));
            let headers = authorization.iter().map(|value| ("Authorization", value.as_str()));
            let headers: Vec<_> = headers.chain(JSON).collect();
            let body: &[u8] = if method == "POST" { b"{\"amount\":1}" } else { b"" };
            let reply = client.request(method, path, &headers, body);
            assert_eq!(reply.status > 400, reply.header("www-authenticate").is_some(), "{reply:?}");
            reply.status
        };
        for path in ["/orders", "/electronics", "/categories", "/log", "/metrics"] {
            for (token, expected) in [(None, 401), (Some("unknown-0123456789"), 401), (Some(READER), 200)] {
                assert_eq!(status("GET", path, token), expected, "{path} {token:?}");
            }
        }
        for (token, expected) in [(None, 401), (Some(READER), 403), (Some(WRITER), 200)] {
            assert_eq!(status("POST", "/orders/A1", token), expected, "{token:?}");
        }
        assert_eq!((status("GET", "/healthz", None), status("GET", "/", None)), (200, 200));
        let open = |headers: &[(&str, &str)]| WebSocket::try_open(edge.addr(), "/orders/confectionery", headers);
        assert_eq!(open(&[]).err().map(|reply| reply.status), Some(401));
        let mut feed = open(&[("Authorization", &format!("Bearer {READER}"))]).expect("it may read");
        feed.text();
        feed.send("{\"cmd\":\"add-order\",\"payload\":{\"id\":\"B1\",\"amount\":2}}");
        assert!(feed.error().contains("may read and not write"), "an error");
    }
    let unknown = Server::builder().follow(server.addr()).start();
    wait_until_ready(&unknown, false);
    assert!(unknown.log().contains("--follow-token-file names a file with one"), "{}", unknown.log());
}

#[test]
fn an_edge_starts_without_the_server_that_it_follows_and_serves_once_that_is_there() {
    let mut server = Server::builder().listen(&own_address(0).to_string()).start();
    server.client().order("A1", 1);
    server.kill();
    // It waits for ten seconds.
    let mut edge = edge_of(&server);
    let reply = edge.client().get(ELECTRONICS);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
    assert_eq!(edge.client().get("/").status, 200);
    server.restart_on_the_same_ports();
    wait_until_ready(&edge, true);
    assert_eq!(edge.totals(), server.totals());
    let mut feed = WebSocket::open(edge.addr(), ELECTRONICS);
    feed.texts(2);
    let begun = Instant::now();
    let log = edge.log();
    assert!(log.contains("; it is tried again\n") && !log.contains("feeds are stale"), "nothing was served yet: {log}");
    assert!(edge.terminate().success(), "{}", edge.log());
    assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
    assert_eq!(feed.close_code(), Some(1001));
}

#[test]
fn methods_and_paths_are_answered_at_an_edge_as_at_the_server() {
    let server = Server::start();
    let edge = edge_of(&server);
    let requests = [
        ("DELETE", "/electronics"),
        ("TRACE", "/orders/A1"),
        ("BREW", "/orders/A1"),
        ("QUERY", "/orders"),
        ("PUT", "/orders"),
        ("GET", "/orders/A1"),
        ("GET", "/orders/none"),
        ("GET", "/nothing/at/all"),
        ("GET", "/log?after=x"),
        ("GET", "/log?id=%zz"),
        ("GET", "/orders?what=1"),
        ("GET", "/periods/9"),
        ("HEAD", "/log"),
        ("HEAD", "/orders"),
        ("POST", "/orders/A1"),
        ("PATCH", "/electronics/A1"),
        ("GET", "*"),
        ("HEAD", "*"),
        ("POST", "*"),
        ("PUT", "*"),
        ("TRACE", "*"),
        ("CONNECT", "*"),
        ("BREW", "*"),
        ("QUERY", "*"),
        ("OPTIONS", "*"),
    ];
    for (method, path) in requests {
        let ask = |server: &Server| {
            let reply = server.client().request(method, path, &[], b"");
            let header = |name| reply.header(name).map(str::to_owned);
            (reply.status, reply.text().to_owned(), header("allow"), header("content-length"), header("content-type"))
        };
        assert_eq!(ask(&edge), ask(&server), "{method} {path}");
    }
}
