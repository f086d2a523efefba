//! Categories and products: listing them, adding products.

use crate::common::{Server, WebSocket};

const LAMP: &str = "{\"name\":\"Desk Lamp\",\"rrp\":\"19.99\",\"info\":\"Bends.\"}";

#[test]
fn the_built_in_catalogue_is_listed() {
    let server = Server::start();
    let mut client = server.client();
    let categories = client.get("/categories");
    assert_eq!(categories.status, 200);
    assert_eq!(categories.header("content-type"), Some("application/json"));
    let (electronics, confectionery) = (
        "{\"name\":\"electronics\",\"title\":\"Electronics\",\"products\":2}",
        "{\"name\":\"confectionery\",\"title\":\"Confectionery\",\"products\":1}",
    );
    assert_eq!(categories.text(), format!("[{electronics},{confectionery}]"));

    let products = client.get("/electronics");
    assert_eq!(products.status, 200);
    assert_eq!(products.header("content-type"), Some("application/json"));
    let first = "[{\"id\":\"A1\",\"name\":\"Vacuum Cleaner\",\"rrp\":\"99.99\",\"info\":";
    assert!(products.text().starts_with(first), "{}", products.text());
    let products = products.json();
    let products = products.as_array().expect("an array");
    assert_eq!(products.len(), 2);
    assert_eq!(products[1]["id"], "A2");
    assert_eq!(products[1]["name"], "Leaf Blower");

    let sweets = client.get("/confectionery").json();
    let sweets = sweets.as_array().expect("an array");
    assert_eq!(sweets.len(), 1);
    assert_eq!(sweets[0]["id"], "B1");
    assert_eq!(sweets[0]["name"], "Chocolate Bar");
    for product in products.iter().chain(sweets) {
        let fields: Vec<&String> = product.as_object().expect("an object").keys().collect();
        assert_eq!(fields.len(), 4, "{product}");
        for field in ["id", "name", "rrp", "info"] {
            assert!(product[field].is_string(), "{product}");
        }
    }
}

#[test]
fn an_added_product_is_listed_ordered_and_counted() {
    let server = Server::start();
    let mut client = server.client();
    let reply = client.post("/electronics", LAMP);
    assert_eq!(reply.status, 200);
    let list = reply.json();
    let list = list.as_array().expect("an array");
    assert_eq!(list.len(), 3);
    let expected: serde_json::Value =
        serde_json::from_str("{\"id\":\"A3\",\"name\":\"Desk Lamp\",\"rrp\":\"19.99\",\"info\":\"Bends.\"}")
            .expect("JSON");
    assert_eq!(list[2], expected);
    assert_eq!(client.get("/electronics").text(), reply.text());
    client.order("A3", 5);
    let totals = client.get("/orders/electronics");
    assert!(totals.text().contains("{\"id\":\"A3\",\"total\":5}"), "{}", totals.text());

    // Each category numbers its own products.
    let list = client.post("/confectionery", LAMP).json();
    assert_eq!(list[1]["id"], "B2");
    let list = client.post("/electronics", LAMP).json();
    assert_eq!(list[3]["id"], "A4");
}

#[test]
fn subscribers_of_the_category_see_an_added_product_at_zero() {
    let server = Server::start();
    let mut electronics = WebSocket::open(server.addr(), "/orders/electronics");
    let mut everything = WebSocket::open(server.addr(), "/orders");
    let mut confectionery = WebSocket::open(server.addr(), "/orders/confectionery");
    electronics.texts(2);
    everything.texts(3);
    confectionery.texts(1);

    let mut client = server.client();
    client.post("/electronics", LAMP);
    client.order("A3", 2);
    for subscriber in [&mut electronics, &mut everything] {
        assert_eq!(subscriber.text(), "{\"id\":\"A3\",\"total\":0}");
        assert_eq!(subscriber.text(), "{\"id\":\"A3\",\"total\":2}");
    }
    confectionery.expect_nothing_but_a_pong();

    let mut later = WebSocket::open(server.addr(), "/orders/electronics");
    assert_eq!(later.texts(3)[2], "{\"id\":\"A3\",\"total\":2}");
}

#[test]
fn texts_of_every_script_come_back_as_they_were_sent() {
    let server = Server::start();
    let mut client = server.client();
    let name = "Crème brûlée \\\"für zwei\\\" 🍮 <b>\\u0041</b>";
    let body = format!("{{\"name\":\"{name}\",\"rrp\":\"4,50 €\",\"info\":\"日本語\"}}");
    let list = client.post("/confectionery", body).json();
    assert_eq!(list[1]["name"], "Crème brûlée \"für zwei\" 🍮 <b>A</b>");
    assert_eq!(list[1]["rrp"], "4,50 €");
    assert_eq!(list[1]["info"], "日本語");
}

#[test]
fn a_name_alone_makes_a_product() {
    let server = Server::start();
    let list = server.client().post("/confectionery", "{\"name\":\"Lamp\"}").json();
    let expected: serde_json::Value =
        serde_json::from_str("{\"id\":\"B2\",\"name\":\"Lamp\",\"rrp\":\"\",\"info\":\"\"}").expect("JSON");
    assert_eq!(list[1], expected);
}

#[test]
fn an_invalid_product_is_refused_and_nothing_is_added() {
    let server = Server::start();
    let mut client = server.client();
    let before = client.get("/electronics").body;
    let long = format!("{{\"name\":\"{}\",\"rrp\":\"1\",\"info\":\"\"}}", "x".repeat(30_000));
    for body in [
        "{}",
        "{\"rrp\":\"1\",\"info\":\"\"}",
        "{\"name\":\"\",\"rrp\":\"1\",\"info\":\"\"}",
        "{\"name\":7,\"rrp\":\"1\",\"info\":\"\"}",
        "{\"name\":null,\"rrp\":\"1\",\"info\":\"\"}",
        "{\"name\":\"Lamp\",\"rrp\":[],\"info\":\"\"}",
        &long,
    ] {
        let detail = client.post("/electronics", body).problem(422);
        assert!(detail.contains("name") || detail.contains("rrp"), "{detail} for {body:.60}");
    }
    client.post("/electronics", "{\"name\":").problem(400);
    let plain = [("Content-Type", "text/plain")];
    client.request("POST", "/electronics", &plain, LAMP.as_bytes()).problem(415);
    client.post("/nowhere", LAMP).problem(404);
    assert_eq!(client.get("/electronics").body, before);
    assert_eq!(client.post("/electronics", LAMP).json()[2]["id"], "A3");
}

#[test]
fn products_added_at_the_same_time_get_an_id_each() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..10 {
                    assert_eq!(client.post("/electronics", LAMP).status, 200);
                }
            });
        }
    });
    let list = server.client().get("/electronics").json();
    let ids: Vec<String> = (list.as_array().expect("an array").iter())
        .map(|product| product["id"].as_str().expect("a string").to_owned())
        .collect();
    let expected: Vec<String> = (1..=82).map(|number| format!("A{number}")).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_head_request_tells_the_length_of_the_list_and_sends_none_of_it() {
    let server = Server::start();
    let mut client = server.client();
    let whole = client.get("/electronics");
    client.try_write("HEAD /electronics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
    let head = client.try_reply(false).expect("the server answers");
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), whole.header("content-length"));
    assert_eq!(client.get("/electronics").body, whole.body);
}
