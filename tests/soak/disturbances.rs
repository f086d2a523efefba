//! What goes on beside the load: clients that are killed, bad requests, reloads, backups, closes of periods, changes of
//! products, and reads of everything that can be read. Each is a thread of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::periods::Amounts;
use crate::common::server::{binary, without_environment_twins};
use crate::common::websocket::{PING, frame};
use crate::common::{Client, DEADLINE, Message, Random, Server, TempDir, WebSocket, exchange, periods};
use crate::posters::{AUTHORIZATION, JSON, OFFER, TOKEN};
use crate::shared::{Kind, QUIET, Shared, count, lane_id};

/// Between two killed clients, two bad requests, two changes of products, and two rounds of reads.
const KILL_EVERY: Duration = Duration::from_millis(50);
const BAD_EVERY: Duration = Duration::from_millis(100);
const CHANGE_EVERY: Duration = Duration::from_millis(250);
const READ_EVERY: Duration = Duration::from_millis(200);
/// Between two pings of a session whose token has been removed: fewer than 20 a second.
const PING_EVERY: Duration = Duration::from_millis(100);
/// Products that are added. Without a bound the catalogue would grow, and memory with it.
const ADDED_PRODUCTS: u64 = 20;

/// Clients that end in the middle of something. To the server it is the same whether a process was killed or only its
/// socket closed: the kernel closes it.
pub fn kill_clients(shared: &Shared, addr: SocketAddr, mut random: Random) {
    let index_of = |kind| shared.lanes.iter().position(|lane| lane.kind == kind).expect("a lane of each kind");
    let (plain, keyed) = (index_of(Kind::Killed), index_of(Kind::KilledKeyed));
    while shared.pause(KILL_EVERY) {
        count(&shared.counts.kills);
        let mut client = Client::connect(addr);
        let request = |index: usize, body: &str| {
            let (id, (name, value)) = (lane_id(index), AUTHORIZATION);
            format!(
                "POST /orders/{id} HTTP/1.1\r\nHost: {addr}\r\n{name}: {value}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        match random.below(5) {
            // In the middle of the request: it never counts.
            0 | 1 => {
                let whole = request(plain, "{\"amount\":1}");
                client.write(&whole[..random.place(whole.len())]);
            }
            // Before the answer: it may count.
            2 => {
                shared.lanes[plain].sending(1, shared.now());
                client.write(request(plain, "{\"amount\":1}"));
            }
            // The same under a key, and then again under the key until it is answered.
            3 => {
                let lane = &shared.lanes[keyed];
                lane.sending(1, shared.now());
                let key = format!("{}-{}", lane_id(keyed), lane.sent.load(Ordering::Relaxed));
                let whole = request(keyed, &format!("{{\"amount\":1,\"key\":\"{key}\"}}"));
                client.write(&whole);
                drop(client);
                let reply = exchange(addr, &whole);
                if reply.status == 200 {
                    lane.answered.fetch_add(1, Ordering::Release);
                } else {
                    shared.fault(format!("the repeat of {key} got {reply:?}"));
                }
            }
            // In the middle of a frame of a session.
            _ => match WebSocket::try_open(addr, "/orders", &[OFFER]) {
                Ok(session) => {
                    let (stream, _) = session.into_parts();
                    let _ = (&stream).write_all(&[0x81, 0xFE, 0x01]);
                }
                Err(reply) => shared.fault(format!("a handshake got {reply:?}")),
            },
        }
    }
}

/// Requests that must be rejected, each with its status.
pub fn send_bad_requests(shared: &Shared, addr: SocketAddr, mut random: Random) {
    let post = |path: &str, headers: &str, body: &str| {
        let (name, value) = AUTHORIZATION;
        format!(
            "POST {path} HTTP/1.1\r\nHost: {addr}\r\n{name}: {value}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let json = "Content-Type: application/json\r\n";
    let bad = [
        (400, post("/orders/S1", json, "{\"amount\":")),
        (404, post("/orders/S999", json, "{\"amount\":1}")),
        (415, post("/orders/S1", "Content-Type: text/plain\r\n", "1")),
        (422, post("/orders/S1", json, "{\"amount\":1.5}")),
        (422, post("/orders", json, "[{\"id\":\"S1\",\"amount\":1},{\"id\":\"S999\",\"amount\":1}]")),
        (413, format!("POST /orders HTTP/1.1\r\nHost: {addr}\r\n{json}Content-Length: 70000\r\n\r\n")),
        (401, format!("POST /orders/S1 HTTP/1.1\r\nHost: {addr}\r\n{json}Content-Length: 12\r\n\r\n{{\"amount\":1}}")),
        (404, format!("GET /hats HTTP/1.1\r\nHost: {addr}\r\n\r\n")),
        (400, format!("GET /log?limit=x HTTP/1.1\r\nHost: {addr}\r\n\r\n")),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (421, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned()),
        (403, format!("GET /orders HTTP/1.1\r\nHost: {addr}\r\nOrigin: http://evil.example\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: {addr}\r\nX: {}\r\n\r\n", "x".repeat(17_000))),
        (501, post("/orders/S1", json, "{}").replacen("POST", "BREW", 1)),
    ];
    while shared.pause(BAD_EVERY) {
        let (status, request) = random.pick(&bad);
        let reply = exchange(addr, request);
        if reply.status != *status {
            shared.fault(format!("a bad request got {} and not {status}: {request:.80}", reply.status));
        }
        count(&shared.counts.bad_requests);
    }
}

/// The token that is valid between two reloads.
fn passing_token(number: u64) -> String {
    format!("soak-passing-{number:010}")
}

/// Writes the file of tokens in one step, as an operator should.
pub fn write_tokens(folder: &Path, number: u64) {
    let (path, new) = (folder.join("tokens"), folder.join("tokens.new"));
    fs::write(&new, format!("{TOKEN}\n{}\n", passing_token(number))).expect("the tokens can be written");
    fs::rename(&new, &path).expect("the file can be replaced");
}

/// Replaces a token again and again: the session that uses the old one is closed, every other one goes on.
pub fn reload(shared: &Shared, server: &Server, folder: &Path, every: Duration) {
    for number in 0.. {
        let offer = format!("bearer, {}", passing_token(number));
        let headers = [("Sec-WebSocket-Protocol", offer.as_str())];
        let mut session = match WebSocket::try_open(server.addr(), &format!("/orders/{QUIET}"), &headers) {
            Ok(session) => session,
            Err(reply) => return shared.fault(format!("a new token got {reply:?}")),
        };
        if !shared.pause(every) {
            return;
        }
        write_tokens(folder, number + 1);
        server.signal("HUP");
        match close_code_of(&mut session) {
            Some(1008) => count(&shared.counts.reloads),
            code => shared.fault(format!("a session without a valid token ended with {code:?}")),
        }
    }
}

/// Sends pings until the server closes the session, and returns the code: a token is looked at when its client sends.
fn close_code_of(session: &mut WebSocket) -> Option<u16> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        session.try_send_raw(&frame(PING, true, b""));
        loop {
            match session.next_within(PING_EVERY) {
                Ok(Message::Close(code, _)) => return code,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(_) => return None,
            }
        }
    }
    None
}

/// Runs `ordercast backup`; false after an error.
pub fn back_up(shared: &Shared, data: &Path, to: &Path) -> bool {
    let mut command = Command::new(binary());
    without_environment_twins(&mut command);
    let run = command.arg("backup").arg(to).arg("--data").arg(data).output().expect("the binary runs");
    if !run.status.success() {
        shared.fault(format!("the backup failed: {}", String::from_utf8_lossy(&run.stderr)));
    }
    run.status.success()
}

/// Makes backups beside the load.
pub fn back_up_often(shared: &Shared, data: &Path, every: Duration) {
    let folder = TempDir::new();
    while shared.pause(every) {
        let file = folder.path().join("copy.sqlite3");
        if back_up(shared, data, &file) {
            fs::remove_file(file).expect("the copy can be removed");
            count(&shared.counts.backups);
        }
    }
}

/// Closes periods. Returns the amounts of their reports, by number.
pub fn close_periods(shared: &Shared, addr: SocketAddr, every: Duration) -> BTreeMap<u64, Amounts> {
    let mut reports = BTreeMap::new();
    let mut client = Client::connect(addr);
    for number in 1.. {
        if !shared.pause(every) {
            break;
        }
        let body = format!("{{\"number\":{number}}}");
        let reply = client.request("POST", "/periods", &[JSON, AUTHORIZATION], body.as_bytes());
        if reply.status != 200 {
            shared.fault(format!("the close of period {number} got {reply:?}"));
            break;
        }
        reports.insert(number, periods::amounts(&reply.json()));
        count(&shared.counts.closes);
    }
    reports
}

/// Adds products, changes them, hides them and shows them again.
pub fn change_products(shared: &Shared, addr: SocketAddr, mut random: Random) {
    let mut client = Client::connect(addr);
    let mut added = 0;
    while shared.pause(CHANGE_EVERY) {
        let id = format!("Q{}", 1 + random.below(5));
        let mut request = |method: &str, path: &str, body: &str| {
            let reply = client.request(method, path, &[JSON, AUTHORIZATION], body.as_bytes());
            if reply.status != 200 {
                shared.fault(format!("{method} {path} {body} got {reply:?}"));
            }
        };
        match random.below(4) {
            0 if added < ADDED_PRODUCTS => {
                added += 1;
                request("POST", &format!("/{QUIET}"), &format!("{{\"name\":\"Added {added}\"}}"));
            }
            1 => {
                request("PATCH", &format!("/{QUIET}/{id}"), "{\"hidden\":true}");
                request("PATCH", &format!("/{QUIET}/{id}"), "{\"hidden\":false}");
            }
            _ => {
                let price = random.below(10_000);
                request("PATCH", &format!("/{QUIET}/{id}"), &format!("{{\"rrp\":\"{price}\"}}"));
            }
        }
        count(&shared.counts.product_changes);
    }
}

/// Reads what can be read, over connections that stay open for some rounds.
pub fn read_everything(shared: &Shared, addr: SocketAddr) {
    let paths = [
        "/",
        "/categories",
        "/counter",
        "/quiet?hidden=true",
        "/orders",
        "/orders/tills",
        "/rates",
        "/rates/offline",
        "/periods?limit=10",
        "/periods/current",
        "/healthz",
        "/readyz",
    ];
    while shared.is_running() {
        let mut client = Client::connect(addr);
        for path in paths {
            let reply = client.get(path);
            if reply.status != 200 {
                shared.fault(format!("GET {path} got {reply:?}"));
            }
            count(&shared.counts.reads);
        }
        shared.pause(READ_EVERY);
    }
}
