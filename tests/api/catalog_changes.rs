//! Changing products: texts, prices, hiding and showing, and what hidden products answer.

use crate::common::{Client, Reply, Server, WebSocket, ordercast};

const MERGE_PATCH: &str = "application/merge-patch+json";

#[track_caller]
fn patch(client: &mut Client, path: &str, body: &str) -> Reply {
    client.request("PATCH", path, &[("Content-Type", MERGE_PATCH)], body.as_bytes())
}

#[track_caller]
fn hide(client: &mut Client, path: &str, is_hidden: bool) {
    let reply = patch(client, path, &format!("{{\"hidden\":{is_hidden}}}"));
    assert_eq!((reply.status, &reply.json()["hidden"]), (200, &is_hidden.into()), "{reply:?}");
}

fn ids(reply: &Reply) -> Vec<String> {
    let list = reply.json();
    let list = list.as_array().expect("an array").iter();
    list.map(|product| product["id"].as_str().expect("a string").to_owned()).collect()
}

#[test]
fn a_patch_changes_what_it_has_and_answers_the_product() {
    let server = Server::start();
    let mut client = server.client();
    let reply = patch(&mut client, "/electronics/A2", "{\"rrp\":289.50,\"info\":null}");
    assert_eq!(reply.status, 200);
    assert_eq!(
        (reply.header("content-type"), reply.header("cache-control")),
        (Some("application/json"), Some("no-store"))
    );
    let product = "{\"id\":\"A2\",\"name\":\"Leaf Blower\",\"rrp\":\"289.50\",\"info\":\"\"";
    assert_eq!(reply.text(), format!("{product},\"hidden\":false}}"));
    let list = client.get("/electronics");
    assert!(list.text().ends_with(&format!("{product}}}]")), "{}", list.text());
    // As plain JSON too, and a product of a list can be sent back with one text changed.
    let headers = [("Content-Type", "application/json; charset=utf-8")];
    let whole = "{\"id\":\"A2\",\"name\":\"Laubbläser\",\"rrp\":\"289.50\",\"info\":\"\",\"hidden\":false}";
    let reply = client.request("PATCH", "/electronics/A2/", &headers, whole.as_bytes());
    assert_eq!((reply.status, reply.text()), (200, whole));
    assert_eq!(client.get("/electronics").json()[1]["name"], "Laubbläser");
    // Neither a total nor the log has changed.
    assert_eq!(client.get("/log").text(), "");
    assert_eq!(server.total("A2"), 7);
}

#[test]
fn a_patch_that_is_not_understood_changes_nothing_and_says_why() {
    let server = Server::start();
    let mut client = server.client();
    let before = client.get("/electronics?hidden=true").body;
    let long = format!("{{\"info\":\"{}\"}}", "x".repeat(2_001));
    for (body, status, hint) in [
        ("{\"nam\":\"Saw\"}", 422, "did you mean name?"),
        ("{\"total\":3}", 422, "no member \"total\""),
        ("{\"name\":null}", 422, "name must be"),
        ("{\"name\":\" \"}", 422, "name must not be empty"),
        ("{\"hidden\":\"yes\"}", 422, "hidden must be true or false"),
        ("{\"id\":\"A7\"}", 422, "id cannot be changed"),
        ("{\"rrp\":\"a\\nb\"}", 422, "rrp must not contain"),
        ("{\"rrp\":[]}", 422, "rrp must be"),
        ("{\"name\":\"Saw\",\"rrp\":true}", 422, "rrp must be"),
        (&long, 422, "info must be at most"),
        ("[]", 422, "JSON object"),
        ("{\"name\":", 400, "not valid JSON"),
    ] {
        let detail = patch(&mut client, "/electronics/A1", body).problem(status);
        assert!(detail.contains(hint), "{body:.60}: {detail}");
    }
    for path in ["/electronics/A9", "/electronics/B1", "/nowhere/A1", "/orders/A1/x", "/electronics/A1/x"] {
        patch(&mut client, path, "{}").problem(404);
    }
    let refused = client.request("PATCH", "/electronics/A1", &[("Content-Type", "text/plain")], b"{}");
    assert!(refused.problem(415).contains(MERGE_PATCH), "{refused:?}");
    assert!(refused.lists("accept-patch", MERGE_PATCH) && refused.lists("accept-patch", "application/json"));
    assert_eq!(client.get("/electronics?hidden=true").body, before);
}

#[test]
fn a_hidden_product_is_listed_only_where_hidden_ones_are_asked_for() {
    let server = Server::start();
    let mut client = server.client();
    hide(&mut client, "/electronics/A1", true);
    assert_eq!(ids(&client.get("/electronics")), ["A2"]);
    let all = client.get("/electronics?hidden=true");
    assert_eq!(ids(&all), ["A1", "A2"]);
    assert_eq!((&all.json()[0]["hidden"], &all.json()[1]["hidden"]), (&true.into(), &false.into()));
    assert_eq!(client.get("/electronics?hidden=false").body, client.get("/electronics").body);
    client.get("/electronics?hidden=yes").problem(400);
    // Its texts can be changed while it is hidden, and its id stays taken.
    let reply = patch(&mut client, "/electronics/A1", "{\"name\":\"Vacuum\"}");
    assert_eq!(reply.json()["hidden"], true);
    client.post("/electronics", "{\"name\":\"x\",\"id\":\"A1\"}").problem(409);
    assert_eq!(ids(&client.post("/electronics", "{\"name\":\"x\"}")), ["A2", "A3"]);
    hide(&mut client, "/electronics/A1", false);
    assert_eq!(ids(&client.get("/electronics")), ["A1", "A2", "A3"]);
    assert_eq!(client.get("/electronics").json()[0]["name"], "Vacuum");
}

#[test]
fn a_new_order_of_a_hidden_product_gets_410_and_a_repeat_its_first_answer() {
    let server = Server::start();
    let mut client = server.client();
    let mut session = WebSocket::open(server.addr(), "/orders/confectionery");
    session.text();
    let keyed = "{\"amount\":2,\"key\":\"k\"}";
    let add =
        |key: &str| format!("{{\"cmd\":\"add-order\",\"payload\":{{\"id\":\"A1\",\"amount\":2,\"key\":\"{key}\"}}}}");
    let batch = "[{\"id\":\"A2\",\"amount\":1,\"key\":\"b\"},{\"id\":\"A1\",\"amount\":1,\"key\":\"c\"}]";
    assert_eq!(client.post("/orders/A1", keyed).text(), "{\"ok\":true}");
    assert_eq!(client.post("/orders", batch).status, 200);
    hide(&mut client, "/electronics/A1", true);
    let log = client.get("/log").body;

    for _ in 0..2 {
        assert!(client.post("/orders/A1", "{\"amount\":1}").problem(410).contains("hidden"));
        assert!(client.post("/orders/A1", "{\"amount\":1,\"key\":\"new\"}").problem(410).contains("hidden"));
        let refused = client.post("/orders", "[{\"id\":\"A2\",\"amount\":1},{\"id\":\"A1\",\"amount\":1}]");
        assert!(refused.problem(410).contains("order 2"), "{refused:?}");
        assert_eq!(refused.json()["results"][1]["ok"], false);
        session.send(&add("other"));
        assert!(session.error().contains("hidden"));

        assert_eq!(client.post("/orders/A1", keyed).text(), "{\"ok\":true}");
        assert_eq!(client.post("/orders", batch).status, 200);
        session.send(&add("k"));
        assert_eq!(session.text(), "{\"ok\":true,\"key\":\"k\"}");
        // The key with another amount is still a mistake of the client, and is called so.
        client.post("/orders/A1", "{\"amount\":3,\"key\":\"k\"}").problem(422);
    }
    assert_eq!(client.get("/log").body, log);
    // A key of a rejected order was not used.
    hide(&mut client, "/electronics/A1", false);
    assert_eq!(client.post("/orders/A1", "{\"amount\":1,\"key\":\"new\"}").status, 200);
    assert_eq!((server.total("A1"), server.total("A2")), (3 + 2 + 1 + 1, 7 + 1));
}

/// Between the change and a rejected order there is no order that counts: each answer is before or after the change.
#[test]
fn no_order_counts_after_the_answer_to_the_change_that_hid_its_product() {
    let server = Server::start();
    let counted: i64 = std::thread::scope(|scope| {
        let posters: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.client();
                    let mut counted = 0;
                    loop {
                        let reply = client.post("/orders/A1", "{\"amount\":1}");
                        if reply.status != 200 {
                            reply.problem(410);
                            return counted;
                        }
                        counted += 1;
                    }
                })
            })
            .collect();
        let mut client = server.client();
        while server.total("A1") < 20 {
            client.order("A2", 1);
        }
        hide(&mut client, "/electronics/A1", true);
        client.post("/orders/A1", "{\"amount\":1}").problem(410);
        posters.into_iter().map(|poster| poster.join().expect("a rejection in the end")).sum()
    });
    let mut client = server.client();
    hide(&mut client, "/electronics/A1", false);
    assert_eq!(server.total("A1"), 3 + counted);
}

#[test]
fn a_patch_that_changes_nothing_writes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let reply = patch(&mut client, "/electronics/A1", "{\"rrp\":\"1\"}");
    let lines = history(&server);
    assert_eq!(lines.len(), 1);
    for body in ["{}", "{\"rrp\":\"1\"}", "{\"rrp\":1,\"hidden\":false}", reply.text()] {
        assert_eq!(patch(&mut client, "/electronics/A1", body).text(), reply.text(), "{body}");
    }
    assert_eq!(history(&server), lines);
}

#[test]
fn every_change_is_a_line_of_the_history_and_none_of_the_order_log() {
    let server = Server::start();
    let mut client = server.client();
    let json = [("Content-Type", "application/json")];
    assert_eq!(patch(&mut client, "/electronics/A1", "{\"rrp\":89.99,\"hidden\":true}").status, 200);
    assert_eq!(client.request("PUT", "/tools", &json, b"{\"title\":\"Tools\",\"prefix\":\"T\"}").status, 201);
    assert_eq!(client.request("PUT", "/tools", &json, b"{\"title\":\"All Tools\"}").status, 200);
    assert_eq!(client.post("/tools", "{\"name\":\"Saw\"}").status, 200);
    let expected = [
        "{\"product\":\"A1\",\"category\":\"electronics\",\"before\":{\"rrp\":\"99.99\",\"hidden\":false},\"after\":{\"rrp\":\"89.99\",\"hidden\":true}}",
        "{\"category\":\"tools\",\"before\":null,\"after\":{\"title\":\"Tools\",\"prefix\":\"T\"}}",
        "{\"category\":\"tools\",\"before\":{\"title\":\"Tools\"},\"after\":{\"title\":\"All Tools\"}}",
        "{\"product\":\"T1\",\"category\":\"tools\",\"before\":null,\"after\":{\"name\":\"Saw\",\"rrp\":\"\",\"info\":\"\",\"hidden\":false}}",
    ];
    assert_eq!(history(&server), expected);
    // The new product alone has its entry there, as ever.
    let log = client.get("/log");
    assert!(log.text().lines().count() == 1 && log.text().contains("\"id\":\"T1\""), "{}", log.text());
    let exported = ordercast(&server.data(), &["export", "--data", "."], &[]);
    assert_eq!(exported.stdout.lines().count(), 1);
}

#[test]
fn the_history_keeps_its_last_ten_thousand_lines() {
    let mut server = Server::start();
    server.terminate();
    let lines = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 10000)
                 INSERT INTO changes SELECT n, 1, n FROM number";
    data_file(&server).execute_batch(lines).expect("a table");
    server.restart();
    let mut client = server.client();
    for price in 1..=3 {
        assert_eq!(patch(&mut client, "/electronics/A1", &format!("{{\"rrp\":{price}}}")).status, 200);
    }
    let kept = history(&server);
    assert_eq!((kept.len(), kept[0].as_str(), kept[9_996].as_str()), (10_000, "4", "10000"));
    assert!(kept[9_999].contains("\"after\":{\"rrp\":\"3\"}"), "{}", kept[9_999]);
}

fn data_file(server: &Server) -> rusqlite::Connection {
    rusqlite::Connection::open(server.data().join("ordercast.sqlite3")).expect("a data file")
}

fn history(server: &Server) -> Vec<String> {
    let file = data_file(server);
    let mut lines = file.prepare("SELECT line FROM changes ORDER BY n").expect("a table");
    let lines = lines.query_map([], |row| row.get(0)).expect("rows");
    lines.collect::<Result<_, _>>().expect("texts")
}
