//! Server-sent events: the same totals as an event stream, on the paths where a GET without `Accept: text/event-stream`
//! gets an array.

use crate::common::positions::{RETRY, events_head, parse_event};
use crate::common::{Client, DEADLINE, Form, Positional, Server, WebSocket, order_log, read, skip, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

const ELECTRONICS: &str = "/orders/electronics";

#[track_caller]
pub fn open(server: &Server, path: &str, since: Option<&str>) -> Positional {
    Positional::open(Form::Events, server.addr(), path, since)
}

/// Reads until the bytes end with `ending`.
#[track_caller]
fn read_up_to(stream: &mut TcpStream, bytes: &mut Vec<u8>, ending: &str) {
    while !bytes.ends_with(ending.as_bytes()) {
        let mut chunk = [0; 512];
        let length = read(&*stream, &mut chunk).expect("the stream goes on");
        assert_ne!(length, 0, "the stream ended");
        bytes.extend_from_slice(&chunk[..length]);
    }
}

#[test]
fn a_stream_begins_with_a_snapshot_and_goes_on_with_every_order() {
    let server = Server::start();
    let mut stream = open(&server, ELECTRONICS, None);
    let snapshot = stream.take(2);
    assert_eq!((snapshot[0].pair(), snapshot[0].can_resume()), (("A1".to_owned(), 3), false));
    assert_eq!((snapshot[1].pair(), snapshot[1].can_resume()), (("A2".to_owned(), 7), true));
    let mut client = server.client();
    client.order("A1", 10);
    client.order("B1", 1);
    client.order("A2", -7);
    let live = stream.take(2);
    assert_eq!((live[0].pair(), live[0].can_resume()), (("A1".to_owned(), 13), true));
    assert_eq!((live[1].pair(), live[1].can_resume()), (("A2".to_owned(), 0), true));
    assert_eq!(live[1].seq(), 3, "the third order in the log");

    let all = open(&server, "/orders", None).take(3);
    assert_eq!(all.iter().map(|step| step.total).collect::<Vec<_>>(), [13, 0, 102]);
    assert_eq!(all.iter().map(|step| step.can_resume()).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn the_stream_is_byte_for_byte_what_the_standard_says() {
    let server = Server::start();
    let mut client = server.client();
    let head = events_head(&mut client, "/orders/confectionery", None).unwrap();
    assert_eq!((head.version.as_str(), head.status), ("HTTP/1.1", 200));
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"), "nginx would hold events back");
    // The body ends with the connection, so it has no length.
    assert_eq!((head.header("content-length"), head.header("transfer-encoding")), (None, None));
    assert!(head.says_close());
    let (mut stream, mut bytes) = client.into_parts();
    read_up_to(&mut stream, &mut bytes, "\"total\":101}\n\n");
    server.client().order("B1", -1);
    read_up_to(&mut stream, &mut bytes, "\"total\":100}\n\n");
    let text = String::from_utf8(bytes).unwrap();
    let text = text.strip_prefix(RETRY).expect("the time after which a browser connects again");
    let file = text.strip_prefix("id: ").and_then(|rest| rest.split_once('.')).expect("an id").0.to_owned();
    assert!(file.len() == 16 && file.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
    let expected = format!(
        "id: {file}.2.0\ndata: {{\"id\":\"B1\",\"total\":101}}\n\n\
         id: {file}.2.1\ndata: {{\"id\":\"B1\",\"total\":100}}\n\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_request_that_accepts_the_type_gets_events_and_any_other_an_array() {
    let server = Server::start();
    let addr = server.addr();
    for accept in ["text/event-stream", "Text/Event-Stream;q=0.9", "application/json;q=0.5, text/event-stream , */*"] {
        let mut client = Client::connect(addr);
        client.write(format!("GET {ELECTRONICS} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"));
        let head = client.try_reply(false).unwrap();
        assert_eq!(head.header("content-type"), Some("text/event-stream"), "{accept}");
    }
    for accept in ["*/*", "text/*", "application/json", "text/event-streams", ""] {
        let reply = Client::connect(addr).request("GET", ELECTRONICS, &[("Accept", accept)], b"");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{accept}");
        assert_eq!(reply.text(), "[{\"id\":\"A1\",\"total\":3},{\"id\":\"A2\",\"total\":7}]");
    }
    // A handshake is one whatever its `Accept` says.
    WebSocket::try_open(addr, ELECTRONICS, &[("Accept", "text/event-stream")]).expect("an upgrade");
}

#[test]
fn a_path_that_is_no_feed_is_refused_with_a_problem() {
    let server = Server::start();
    let accept = [("Accept", "text/event-stream")];
    let mut client = server.client();
    client.request("GET", "/orders/nowhere", &accept, b"").problem(404);
    client.request("GET", "/orders/A1", &accept, b"").problem(405);
    let posted = [("Accept", "text/event-stream"), ("Content-Type", "application/json")];
    assert_eq!(client.request("POST", "/orders/A1", &posted, b"{\"amount\":1}").text(), "{\"ok\":true}");
    let other = [("Accept", "text/event-stream"), ("Host", "shop.example")];
    client.request("GET", ELECTRONICS, &other, b"").problem(421);
    // The connection still serves requests.
    assert_eq!(client.get("/categories").status, 200);
}

#[test]
fn the_head_of_a_stream_ends_and_the_connection_goes_on() {
    let server = Server::start();
    let mut client = server.client();
    let head = client.request("HEAD", ELECTRONICS, &[("Accept", "text/event-stream")], b"");
    assert_eq!(head.header("content-length"), None, "as for the GET: RFC 9110, section 8.6");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(client.get("/categories").status, 200);
}

#[test]
fn pages_of_allowed_origins_may_subscribe_and_others_may_not() {
    let server = Server::builder().arg("--allow-origin").arg("https://shop.example").start();
    for origin in ["https://shop.example", "http://localhost:8000"] {
        let mut client = server.client();
        client.write(format!(
            "GET {ELECTRONICS} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccept: text/event-stream\r\n\r\n"
        ));
        let head = client.try_reply(false).unwrap();
        assert_eq!((head.status, head.header("access-control-allow-origin")), (200, Some(origin)));
        assert!(head.lists("vary", "Origin"), "{head:?}");
    }
    let foreign = [("Accept", "text/event-stream"), ("Origin", "https://evil.example"), ("Host", "localhost")];
    server.client().request("GET", ELECTRONICS, &foreign, b"").problem(403);
    let headers = [
        ("Host", "localhost"),
        ("Origin", "http://localhost:8000"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "last-event-id"),
    ];
    let preflight = server.client().request("OPTIONS", ELECTRONICS, &headers, b"");
    assert!(preflight.lists("access-control-allow-headers", "Last-Event-ID"), "{preflight:?}");
}

#[test]
fn a_last_event_id_resumes_and_takes_precedence_over_the_query() {
    let server = Server::start();
    let mut stream = open(&server, ELECTRONICS, None);
    let start = stream.take(2)[1].position.clone().expect("a position");
    let mut client = server.client();
    client.order("A1", 1);
    client.order("A1", 1);
    let first = stream.take(1)[0].position.clone().expect("a position");
    let totals = |mut stream: Positional, count| stream.take(count).iter().map(|it| it.total).collect::<Vec<_>>();
    assert_eq!(totals(open(&server, ELECTRONICS, Some(&start)), 2), [4, 5]);
    assert_eq!(totals(open(&server, ELECTRONICS, Some(&first)), 1), [5]);
    // An `EventSource` cannot set the header of its first request, so a page may give a position in the URL.
    assert_eq!(totals(open(&server, &format!("{ELECTRONICS}?since={start}"), None), 2), [4, 5]);
    assert_eq!(totals(open(&server, &format!("{ELECTRONICS}?since={start}"), Some(&first)), 1), [5]);
    // Positions of event streams are valid for WebSockets.
    assert_eq!(totals(Positional::open(Form::WebSocket, server.addr(), ELECTRONICS, Some(&first)), 1), [5]);
}

#[test]
fn what_follows_the_request_of_a_stream_is_ignored() {
    let server = Server::start();
    let mut client = server.client();
    let order = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 12\r\n\r\n{\"amount\":1}";
    let events = format!("GET {ELECTRONICS} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    // The requests before it are answered.
    client.write([order, order, &events, order, order].concat());
    for _ in 0..2 {
        assert_eq!(client.reply().text(), "{\"ok\":true}");
    }
    let head = client.try_reply(false).unwrap();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    client.write(order);
    let (mut stream, mut bytes) = client.into_parts();
    read_up_to(&mut stream, &mut bytes, "{\"id\":\"A2\",\"total\":7}\n\n");
    server.client().order("A2", 1);
    read_up_to(&mut stream, &mut bytes, "{\"id\":\"A2\",\"total\":8}\n\n");
    let blocks = String::from_utf8(bytes).unwrap();
    let blocks = blocks.strip_prefix(RETRY).expect("the beginning of a stream");
    let totals: Vec<_> = blocks.split_terminator("\n\n").map(|block| parse_event(block.as_bytes()).unwrap()).collect();
    let totals: Vec<_> = totals.into_iter().flatten().map(|step| step.pair()).collect();
    let pair = |id: &str, total| (id.to_owned(), total);
    assert_eq!(totals, [pair("A1", 5), pair("A2", 7), pair("A2", 8)]);
    assert_eq!(order_log::read_whole(server.addr(), &[("A1", 3), ("A2", 7)]).len(), 3);
}

#[test]
fn a_client_that_keeps_sending_into_a_stream_is_closed() {
    let server = Server::start();
    let mut stream = open(&server, ELECTRONICS, None);
    stream.take(2);
    let start = Instant::now();
    // Until the server has closed; it must not read this.
    while stream.stream().write_all(&[b'x'; 1_024]).is_ok() {
        assert!(start.elapsed() < DEADLINE, "the server reads everything");
    }
}

#[test]
fn a_client_that_goes_leaves_nothing_behind() {
    let server = Server::start();
    let mut stays = open(&server, ELECTRONICS, None);
    stays.take(2);
    let (threads, descriptors) = (server.threads(), server.descriptors());
    for _ in 0..3 {
        let streams: Vec<Positional> = (0..30).map(|_| open(&server, "/orders", None)).collect();
        drop(streams);
        server.client().order("A1", 1);
        stays.take(1);
        wait_until(DEADLINE, "threads and descriptors are given back", || {
            server.threads() <= threads && server.descriptors() <= descriptors
        });
    }
}

#[test]
fn curl_shows_the_stream_as_it_comes() {
    let server = Server::start();
    let url = format!("http://{}/orders/confectionery", server.addr());
    let arguments = ["--silent", "--no-buffer", "--header", "Accept: text/event-stream", &url];
    let curl = Command::new("curl").args(arguments).stdout(Stdio::piped()).spawn();
    let Ok(mut curl) = curl else {
        return skip("curl is not installed (make deps)", true);
    };
    let mut output = curl.stdout.take().expect("a pipe");
    let mut read_event = || {
        let mut event = Vec::new();
        while !event.ends_with(b"\n\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).expect("curl goes on");
            event.push(byte[0]);
        }
        String::from_utf8(event).expect("text")
    };
    assert_eq!(read_event(), RETRY);
    // Each event is printed before the next order is sent.
    for total in 101..104 {
        let event = read_event();
        assert!(event.ends_with(&format!("\ndata: {{\"id\":\"B1\",\"total\":{total}}}\n\n")), "{event}");
        assert!(event.starts_with("id: "), "{event}");
        server.client().order("B1", 1);
    }
    let _ = curl.kill();
    let _ = curl.wait();
}
