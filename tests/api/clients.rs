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
    for path in
        ["/categories", "/electronics", "/orders", "/orders/electronics", "/log", "/rates", "/healthz", "/readyz"]
    {
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

#[test]
fn a_price_may_be_sent_as_a_number_and_is_answered_as_the_same_text() {
    let mut server = Server::start();
    let mut client = server.client();
    for (place, (sent, kept)) in
        [("99.99", "99.99"), ("5.10", "5.10"), ("7", "7"), ("1e2", "1e2"), ("\"4,50 €\"", "4,50 €")].iter().enumerate()
    {
        let body = format!("{{\"name\":\"Lamp\",\"rrp\":{sent},\"info\":\"Bends.\"}}");
        let reply = add(&mut client, "electronics", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json()[2 + place]["rrp"], *kept);
    }
    for wrong in ["true", "null", "[1]", "{}"] {
        let body = format!("{{\"name\":\"Lamp\",\"rrp\":{wrong}}}");
        assert!(add(&mut client, "electronics", &body).problem(422).contains("rrp"), "{wrong}");
    }
    let list = client.get("/electronics/").body;
    server.restart();
    assert_eq!(server.client().get("/electronics/").body, list);
}

#[test]
fn a_product_gets_the_id_that_its_client_sends_if_it_is_free_everywhere() {
    let mut server = Server::start();
    let mut client = server.client();
    let body = |id: &str| format!("{{\"id\":{id},\"name\":\"Lamp\",\"rrp\":19.99,\"info\":\"\"}}");
    let last = |reply: &Reply| {
        let list = reply.json();
        let list = list.as_array().expect("an array");
        list[list.len() - 1]["id"].as_str().expect("a string").to_owned()
    };
    // Of the category's prefix, of another one's, and of none.
    for id in ["A7", "B9", "my-lamp_7"] {
        assert_eq!(last(&add(&mut client, "electronics", &body(&format!("\"{id}\"")))), id);
        assert_eq!(client.post(&format!("/orders/{id}"), "{\"amount\":2}").text(), "{\"ok\":true}");
    }
    // Without an id the number follows the highest in use, and no id is given twice.
    for (category, id) in [("electronics", "A8"), ("confectionery", "B2")] {
        for none in ["null", "\"\""] {
            let reply = add(&mut client, category, &body(none));
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        let list = client.get(&format!("/{category}")).text().to_owned();
        assert!(list.contains(&format!("\"id\":\"{id}\"")), "{list}");
    }
    let before = client.get("/orders").body;
    for (category, id) in [("electronics", "A1"), ("confectionery", "A1"), ("electronics", "B1"), ("electronics", "A7")]
    {
        let detail = add(&mut client, category, &body(&format!("\"{id}\""))).problem(409);
        assert!(detail.contains(id), "{detail}");
    }
    let long = format!("\"{}\"", "x".repeat(65));
    for malformed in ["7", "\" \"", "\"a b\"", "\"a/b\"", "\"a.b\"", "\"ä\"", "[]", "true", &long] {
        let detail = add(&mut client, "electronics", &body(malformed)).problem(422);
        assert!(detail.contains("id must be"), "{malformed}: {detail}");
    }
    assert_eq!(client.get("/orders").body, before);
    server.restart();
    assert_eq!(server.client().get("/orders").body, before);
}

#[test]
fn of_clients_that_want_the_same_id_at_the_same_time_one_gets_it() {
    let server = Server::start();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let category = if number % 2 == 0 { "electronics" } else { "confectionery" };
                let mut client = server.client();
                scope.spawn(move || add(&mut client, category, "{\"id\":\"shared\",\"name\":\"Lamp\"}").status)
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("an answer")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}
