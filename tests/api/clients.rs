//! Requests as public clients of this protocol send them, which were not written for this server.

use crate::common::{Client, Reply, Server, WebSocket};

/// The header lines of a command-line client that is written in JavaScript.
const HEADERS: [(&str, &str); 4] = [
    ("User-Agent", "got (https://github.com/sindresorhus/got)"),
    ("Accept", "application/json"),
    ("Content-Type", "application/json"),
    ("Accept-Encoding", "gzip, deflate, br"),
];

#[track_caller]
fn add(client: &mut Client, category: &str, body: &str) -> Reply {
    client.request("POST", &format!("/{category}/"), &HEADERS, body.as_bytes())
}

#[test]
fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    for path in ["/categories", "/electronics", "/orders", "/orders/electronics", "/log", "/healthz", "/readyz"] {
        let (plain, with_slash) = (client.get(path), client.get(&format!("{path}/")));
        assert_eq!((with_slash.status, &with_slash.body), (plain.status, &plain.body), "{path}");
        client.get(&format!("{path}//")).problem(404);
    }
    assert_eq!(client.post("/orders/A1/", "{\"amount\":10}").text(), "{\"ok\":true}");
    assert_eq!(client.total("A1"), 13);
    let lamp = "{\"name\":\"Desk Lamp\",\"rrp\":\"19.99\",\"info\":\"Bends.\"}";
    assert_eq!(add(&mut client, "electronics", lamp).json()[2]["id"], "A3");
    WebSocket::open(server.addr(), "/orders/electronics/").texts(3);
    for path in ["//", "/nowhere/", "/app.js/", "/orders/A9/"] {
        client.get(path).problem(404);
    }
}
