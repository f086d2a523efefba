//! Clients that do not read: what the kernel and the server hold for them, and that nothing of it stays.

use crate::common::load::turn;
use crate::common::{Server, wait_until};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// The smallest receive buffer of Linux, in bytes, so that answers stay at the server's side.
const RECEIVE_BUFFER: usize = 2_304;
const HANDSHAKE: &str = "GET /orders/tools HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Sends a request over a connection that is never read.
fn ask(addr: SocketAddr, request: &str) -> TcpStream {
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
    const AT_MOST_KIB: u64 = 16 * 1024;
    /// The kernel counts a megabyte for each CPU in advance, and the clients' own buffers stay.
    const TOLERANCE_KIB: u64 = 4 * 1024;
    const PATIENCE: Duration = Duration::from_secs(15);
    let _turn = turn();
    let server = Server::start();
    let port = server.addr().port();
    let batch = vec!["{\"id\":\"A1\",\"amount\":1}"; 1_000].join(",");
    assert_eq!(server.client().post("/orders", format!("[{batch}]")).status, 200);
    let before = tcp_memory_kib();
    let begun = Instant::now();
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| ask(server.addr(), &gets("/log", 40))).collect();
    wait_until(PATIENCE, "answers wait for their readers", || unsent_bytes(port) > 0);
    let mut at_most = 0;
    while unsent_bytes(port) > 0 || tcp_memory_kib() > before + TOLERANCE_KIB {
        at_most = at_most.max(tcp_memory_kib().saturating_sub(before));
        assert!(at_most <= AT_MOST_KIB, "{CLIENTS} clients take {at_most} KiB");
        let (unsent, memory) = (unsent_bytes(port), tcp_memory_kib());
        assert!(begun.elapsed() < PATIENCE, "{unsent} bytes still wait; TCP takes {memory} KiB, {before} before");
        thread::sleep(Duration::from_millis(50));
    }
    println!(
        "TCP memory: {before} KiB before, {at_most} more at most, {} after {:?}",
        tcp_memory_kib(),
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
    // The kernel answers the close of each connection a moment later.
    wait_until(Duration::from_secs(2), "nothing is left in the kernel", || unsent_bytes(port) == 0);
    drop(clients);
}
