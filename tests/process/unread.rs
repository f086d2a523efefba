//! Clients that do not read: what the kernel and the server hold for them, and that nothing of it stays.

use crate::common::load::turn;
use crate::common::{Server, skip, wait_until};
use crate::system_limits::may_open;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// The smallest receive buffer of Linux, in bytes, so that answers stay at the server's side.
const RECEIVE_BUFFER: usize = 2_304;
pub const HANDSHAKE: &str = "GET /orders/tools HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Sends a request over a connection that is never read.
pub fn ask(addr: SocketAddr, request: &str) -> TcpStream {
    // The standard library cannot set a receive buffer, which has to be set before the connection is made.
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a receive buffer");
    socket.connect(&addr.into()).expect("the server accepts");
    let mut stream = TcpStream::from(socket);
    stream.write_all(request.as_bytes()).expect("the server reads");
    stream
}

/// A request that pipelines `times` reads of `path`.
fn gets(path: &str, times: usize) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(times)
}

/// A catalogue of one category, `tools`, with ids of the greatest length, 64 bytes.
fn catalog(products: usize) -> String {
    let products: Vec<String> =
        (0..products).map(|number| format!("{{\"id\":\"T{number:063}\",\"name\":\"x\"}}")).collect();
    format!("{{\"tools\":{{\"prefix\":\"T\",\"products\":[{}]}}}}", products.join(","))
}

/// The memory of all TCP sockets of the system, in KiB.
fn tcp_memory_kib() -> u64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").expect("Linux");
    let pages = sockstat.lines().find(|line| line.starts_with("TCP:")).and_then(|line| line.split(' ').next_back());
    pages.and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages") * 4
}

/// Bytes that sockets of this port hold and their peers have not acknowledged, those of closed connections included.
fn unsent_bytes(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let local = format!(":{port:04X}");
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = sockets.filter(|fields| fields[1].ends_with(&local));
    own.map(|fields| u64::from_str_radix(fields[4].split(':').next().expect("a queue"), 16).expect("a number")).sum()
}

#[test]
fn unread_answers_take_little_kernel_memory_and_none_after_their_deadline() {
    const CLIENTS: usize = 100;
    /// What the kernel holds for all of them. Counted by the sockets of this server, because the memory of all TCP
    /// sockets, which is printed, has those of other programs too.
    const AT_MOST: u64 = 16 << 20;
    const PATIENCE: Duration = Duration::from_secs(15);
    let _turn = turn();
    let server = Server::start();
    let port = server.addr().port();
    let batch = vec!["{\"id\":\"A1\",\"amount\":1}"; 1_000].join(",");
    assert_eq!(server.client().post("/orders", format!("[{batch}]")).status, 200);
    let (before, begun) = (tcp_memory_kib(), Instant::now());
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| ask(server.addr(), &gets("/log", 40))).collect();
    wait_until(PATIENCE, "answers wait for their readers", || unsent_bytes(port) > 0);
    let (mut most, mut most_kib) = (0, 0);
    while unsent_bytes(port) > 0 {
        (most, most_kib) = (most.max(unsent_bytes(port)), most_kib.max(tcp_memory_kib()));
        assert!(most <= AT_MOST, "{most} bytes for {CLIENTS} clients");
        assert!(begun.elapsed() < PATIENCE, "{} bytes still wait", unsent_bytes(port));
        thread::sleep(Duration::from_millis(50));
    }
    let after = tcp_memory_kib();
    println!(
        "at most {most} bytes, none after {:?}; TCP memory {before} KiB before, {most_kib} at most, {after} after",
        begun.elapsed()
    );
    drop(clients);
}

/// Answers, snapshots and totals: whatever waits when the server is stopped.
#[test]
fn a_stopped_server_leaves_nothing_unread_in_the_kernel() {
    const CLIENTS: usize = 20;
    let _turn = turn();
    let mut server = Server::builder().catalog(&catalog(2_000)).start();
    let port = server.addr().port();
    let events = HANDSHAKE.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", "Accept: text/event-stream\r\n");
    let clients: Vec<TcpStream> = [HANDSHAKE, &events, &gets("/tools", 1), &gets("/orders", 40)]
        .iter()
        .flat_map(|request| (0..CLIENTS).map(|_| ask(server.addr(), request)))
        .collect();
    wait_until(Duration::from_secs(5), "answers wait for their readers", || unsent_bytes(port) > 200_000);
    assert_eq!(server.terminate().code(), Some(0));
    // What was complete when its connection was closed may still be taken for 10 s; everything else is discarded at once.
    let begun = Instant::now();
    wait_until(Duration::from_secs(15), "nothing is left in the kernel", || unsent_bytes(port) == 0);
    println!("nothing is left after {:?}", begun.elapsed());
    drop(clients);
}

/// The number of subscribers, as the metrics tell it.
fn subscribers(server: &Server) -> usize {
    let metrics = server.client().get("/metrics");
    let text = metrics.text();
    let lines = text.lines().filter(|line| line.starts_with("ordercast_subscribers{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// Each client gets another snapshot of the largest catalogue, because an order comes between two of them. `start` is
/// taken after as many clients of a small feed, so that the memory that the system's allocator keeps for each thread is
/// not counted. ORDERCAST_UNREAD sets the number of clients.
#[test]
fn snapshots_that_are_not_read_are_not_kept() {
    /// The resident memory of an idle subscriber, and 64 KiB.
    const EACH_KIB: u64 = if cfg!(debug_assertions) { 20 } else { 12 } + 64;
    const PATIENCE: Duration = Duration::from_secs(15);
    let _turn = turn();
    let clients = std::env::var("ORDERCAST_UNREAD").map_or(200, |number| number.parse().expect("a number"));
    if !may_open(clients as u64 + 100) {
        return skip("too few descriptors (ulimit -n)", true);
    }
    let small = "{\"toys\":{\"prefix\":\"Y\",\"products\":[{\"id\":\"Y1\",\"name\":\"x\"}]},";
    let server = Server::builder().catalog(&catalog(9_999).replacen('{', small, 1)).start();
    let mut poster = server.client();
    poster.order("Y1", 1);
    let threads = server.threads();
    let events = HANDSHAKE.replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", "Accept: text/event-stream\r\n");
    let mut run = |feed: &str, events: &str| {
        let connected: Vec<TcpStream> = (0..clients)
            .map(|number| {
                let form = if number % 2 == 0 { HANDSHAKE } else { events };
                let client = ask(server.addr(), &form.replace("/orders/tools", feed));
                poster.order(&format!("T{number:063}"), 1);
                client
            })
            .collect();
        wait_until(PATIENCE, "every client is subscribed", || subscribers(&server) == clients);
        // Answered behind the subscriptions.
        server.client().total("Y1");
        let full = server.memory_kib();
        drop(connected);
        wait_until(PATIENCE, "every thread has ended", || server.threads() <= threads);
        (full, server.memory_kib())
    };
    run("/orders/toys", &events);
    let (_, start) = run("/orders/toys", &events);
    let before = server.memory_kib();
    let (full, after) = run("/orders/tools", &events);
    let each = full.saturating_sub(before) / clients as u64;
    println!("{clients} clients: {start} KiB at first, {full} with all of them, {each} each, {after} after them");
    assert!(each <= EACH_KIB, "{each} KiB for each client that does not read");
    assert!(after <= start + start / 5, "{after} KiB after the clients, {start} before them");
}
