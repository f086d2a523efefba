//! Connections on real sockets.

use super::*;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use crate::http::request::MAX_BODY_BYTES;

#[test]
fn input_and_the_end_of_input_are_received_and_silence_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = Arc::new(listener.accept().unwrap().0);
    let mut connection = Connection::new(stream, Arc::default(), Arc::default());
    let (tick, deadline) = (Duration::from_millis(1), Duration::from_secs(10));
    assert!(!connection.receives_within(tick));
    client.write_all(b"GET").unwrap();
    assert!(connection.receives_within(deadline));
    let begun = Instant::now();
    assert!(connection.receives_within(deadline), "what was received before counts");
    assert!(begun.elapsed() < deadline);
    assert_eq!(connection.input.unread(), b"GET");
    let mut ended = Connection::new(connection.stream.clone(), Arc::default(), Arc::default());
    drop(client);
    assert!(ended.receives_within(deadline));
}

#[test]
fn without_waiting_whole_requests_are_found_and_everything_else_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = Arc::new(listener.accept().unwrap().0);
    let mut connection = Connection::new(stream.clone(), Arc::default(), Arc::default());
    connection.set_lent(true).unwrap();
    assert_eq!(connection.read_now(), Received::Nothing);
    let request = |padding: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nPadding: {}\r\n\r\n", "-".repeat(padding));
    let exact = READ_BYTES - request(0).len();
    for (sent, expected) in [
        (request(0), Received::Request),
        (request(exact - 1), Received::Request),
        // The second one would wait in the kernel, and nobody would be told of it.
        (request(exact) + &request(0), Received::Other),
        (request(0) + &request(0), Received::Other),
        (request(0)[..20].to_owned(), Received::Other),
        (request(0).replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"), Received::Other),
        ("no request\r\n\r\n".to_owned(), Received::Other),
    ] {
        let mut connection = Connection::new(stream.clone(), Arc::default(), Arc::default());
        client.write_all(sent.as_bytes()).unwrap();
        assert_eq!(connection.read_now(), expected, "{sent}");
        assert_eq!(connection.request().is_some(), expected == Received::Request);
        connection.put_back();
        assert!(sent.as_bytes().starts_with(connection.input.unread()) && !connection.input.unread().is_empty());
        // The rest of what was sent.
        while connection.input.read(&stream).is_ok() {}
    }
}

#[test]
fn a_client_that_sends_ahead_does_not_make_the_buffer_grow() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut connection = Connection::new(Arc::new(listener.accept().unwrap().0), Arc::default(), Arc::default());
    let longest = MAX_BODY_BYTES;
    let large = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {longest}\r\n\r\n") + &"-".repeat(longest);
    let requests = large + &"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    let sending = thread::spawn(move || (0..50).try_for_each(|_| client.write_all(requests.as_bytes())));
    for _ in 0..50 * 1_001 {
        connection.read_head().unwrap();
        connection.read_body().unwrap();
        // A vector's capacity doubles.
        assert!(connection.input.capacity() <= 2 * (MAX_HEAD_BYTES + longest + READ_BYTES));
    }
    sending.join().unwrap().unwrap();
}
