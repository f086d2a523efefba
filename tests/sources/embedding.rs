//! The library in this process, as a program that embeds it uses it. One test, because it looks at the threads of the
//! whole process.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ordercast::{Config, HandleError, Rejection, Server, ServerError};

use crate::common::{DEADLINE, TempDir, wait_until};

/// The names of the threads that a server starts.
const THREADS: [&str; 6] = ["ledger", "fanout", "slow-sockets", "history", "accept", "idle-sessions"];

/// The server threads of this process; `None` where the system does not tell.
fn server_threads() -> Option<Vec<String>> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Some(names.map(|name| name.trim().to_owned()).filter(|name| THREADS.contains(&name.as_str())).collect())
}

fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.data = data.to_owned();
    config
}

fn total(server: &Server) -> i64 {
    server.handle().totals("electronics").unwrap()[0].total
}

fn post(server: &str, body: &str) -> String {
    let mut client = TcpStream::connect(server).unwrap();
    let head = "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads up to the end of these bytes and no further.
fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        received.extend(byte);
    }
}

#[test]
fn a_server_in_this_process_takes_orders_and_leaves_no_thread() {
    let folder = TempDir::new();
    let data = folder.path().join("data");

    // Dropped without having run.
    let server = Server::bind(&config(&data)).unwrap();
    let handle = server.handle();
    assert_eq!(total(&server), 3);
    handle.order("A1", 10, Some("key")).unwrap();
    handle.order("A1", 10, Some("key")).unwrap();
    assert_eq!(total(&server), 13, "the repeat is not counted");
    assert_eq!(handle.order("A1", 11, Some("key")), Err(HandleError::Rejected(Rejection::KeyReused)));
    assert_eq!(handle.order("Z9", 1, None), Err(HandleError::UnknownProduct("Z9".into())));
    assert_eq!(handle.order("A1", i64::MAX, None), Err(HandleError::InvalidAmount));
    assert_eq!(handle.order("A1", 1, Some("")), Err(HandleError::InvalidKey));
    assert_eq!(handle.totals("nothing"), Err(HandleError::UnknownCategory("nothing".into())));
    handle.reload().unwrap();
    // A thread names itself a moment after it has started.
    wait_until(DEADLINE, "four threads have names", || server_threads().is_none_or(|threads| threads.len() == 4));
    let in_use = Server::bind(&config(&data)).unwrap_err();
    assert!(matches!(in_use, ServerError::Store(_)) && in_use.to_string().contains("in use"), "{in_use}");
    drop(server);
    assert_eq!(server_threads().unwrap_or_default(), Vec::<String>::new());
    assert_eq!(handle.order("A1", 1, None), Err(HandleError::Stopped));
    assert_eq!(handle.totals("electronics"), Err(HandleError::Stopped));
    let files: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!files.iter().any(|name| name.to_string_lossy().ends_with("-wal")), "{files:?}");

    // On a bound listener, with a client and a subscriber that stay until the end.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::from_listeners(&config(&data), vec![listener]).unwrap();
    assert_eq!(server.addresses()[0].to_string(), address);
    let handle = server.handle();
    let running = thread::spawn(move || server.run());
    assert!(post(&address, r#"{"amount":2}"#).ends_with(r#"{"ok":true}"#));
    let mut subscriber = TcpStream::connect(&address).unwrap();
    subscriber.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = "GET /orders/electronics HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    subscriber.write_all(head.as_bytes()).unwrap();
    read_until(&mut subscriber, b"\r\n\r\n");
    handle.order("A1", 1, None).unwrap();
    assert_eq!(handle.totals("electronics").unwrap()[0].total, 16);
    handle.shutdown();
    running.join().unwrap().unwrap();
    let mut events = String::new();
    subscriber.read_to_string(&mut events).unwrap();
    assert!(events.contains(r#"{"id":"A1","total":16}"#) && events.contains("shutting down"), "{events}");
    wait_until(DEADLINE, "every thread of the server has ended", || server_threads().is_none_or(|it| it.is_empty()));

    // On a socket in non-blocking mode, with a subscriber that never reads and has sent a close frame: it costs the end
    // no more than any other.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut crowded = config(&folder.path().join("crowded"));
    let products: Vec<String> =
        (1..=10_000).map(|number| format!(r#"{{"id":"{}{number}","name":"x"}}"#, "T".repeat(50))).collect();
    let catalog = format!(r#"{{"tools":{{"prefix":"T","products":[{}]}}}}"#, products.join(","));
    fs::write(folder.path().join("catalog.json"), catalog).unwrap();
    crowded.catalog = Some(folder.path().join("catalog.json"));
    let server = Server::from_listeners(&crowded, vec![listener]).unwrap();
    let handle = server.handle();
    let running = thread::spawn(move || server.run());
    let mut subscriber = TcpStream::connect(&address).unwrap();
    subscriber.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = "GET /orders/tools?since= HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    subscriber.write_all(head.as_bytes()).unwrap();
    // Up to the first byte of the snapshot, which is more than the sockets hold.
    read_until(&mut subscriber, b"\r\n\r\n\x81");
    assert_eq!(handle.totals("tools").unwrap().len(), 10_000);
    subscriber.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    (0..20).for_each(|_| handle.order(&format!("{}1", "T".repeat(50)), 1, None).unwrap());
    handle.shutdown();
    running.join().unwrap().unwrap();
    let soon = Duration::from_secs(2);
    wait_until(soon, "the never-reading subscriber is closed", || server_threads().is_none_or(|it| it.is_empty()));

    // A cause is kept.
    let mut broken = config(&folder.path().join("file").join("data"));
    fs::write(folder.path().join("file"), "").unwrap();
    let error = Server::bind(&broken).unwrap_err();
    assert!(error.source().is_some(), "{error:?}");
    broken.listen = vec!["192.0.2.1:1".parse().unwrap()];
    let error = Server::bind(&broken).unwrap_err();
    assert!(matches!(error, ServerError::Listen(..)) && error.source().is_some(), "{error:?}");
}
