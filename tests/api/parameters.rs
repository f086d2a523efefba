//! Query parameters: one that has no meaning is an error, because a client relies on what it asked for.

use crate::common::websocket::UPGRADE;
use crate::common::{Server, WebSocket};

#[test]
fn an_unknown_parameter_is_refused_on_every_route_and_a_misspelt_one_is_named() {
    let server = Server::start();
    let mut client = server.client();
    for path in [
        "/log?sort=5&id=A1",
        "/log?after=0&x",
        "/log?AFTER=0",
        "/log?%61fter=0",
        "/log?=1",
        "/categories?x=1",
        "/electronics?page=2",
        "/electronics/?page=2",
        "/orders?after=7",
        "/orders/electronics?x=1&since=",
        "/healthz?x",
        "/readyz?x",
    ] {
        for method in ["GET", "HEAD"] {
            let reply = client.request(method, path, &[], b"");
            assert_eq!(reply.status, 400, "{method} {path}: {reply:?}");
        }
        assert!(client.get(path).problem(400).contains("parameter"), "{path}");
    }
    for (path, hint) in [
        ("/log?afer=5", "(did you mean after?)"),
        ("/log?after=5&limits=7", "(did you mean limit?)"),
        ("/orders/electronics?sinse=", "(did you mean since?)"),
        ("/log?sort=5", "known here: after, limit, since, until, id, category"),
        ("/categories?x=1", "known here: hidden"),
        ("/electronics?hiden=true", "(did you mean hidden?)"),
        ("/healthz?x=1", "takes none"),
    ] {
        let detail = client.get(path).problem(400);
        assert!(detail.contains(hint), "{path}: {detail}");
    }
    let long = "x".repeat(10_000);
    assert!(client.get(&format!("/log?{long}=1")).problem(400).len() < 200);

    for path in ["/orders/A1?since=", "/orders?x=1", "/electronics?x=1", "/electronics?hidden=true"] {
        client.post(path, "{\"amount\":1}").problem(400);
    }
    let answered = client.request("GET", "/orders?sinse=", &UPGRADE, b"");
    assert!(answered.problem(400).contains("since"), "{answered:?}");
    assert_eq!(server.total("A1"), 3);
}

#[test]
fn an_option_of_a_feed_with_another_value_is_refused_in_all_three_forms() {
    let server = Server::start();
    let mut client = server.client();
    for (option, words) in [
        ("every=49", "from 50 to 60000"),
        ("every=60001", "from 50 to 60000"),
        ("every=", "milliseconds"),
        ("every=0.5", "milliseconds"),
        ("every=99999999999", "milliseconds"),
        ("period=7", "\"current\""),
        ("period=", "\"current\""),
        ("status=1", "status must be true or false"),
        ("catalog", "catalog must be true or false"),
    ] {
        let path = format!("/orders/electronics?since=&{option}");
        for headers in [&[][..], &UPGRADE, &[("Accept", "text/event-stream")]] {
            let detail = client.request("GET", &path, headers, b"").problem(400);
            assert!(detail.contains(words), "{option}: {detail}");
        }
    }
    let all = "/orders?since=&every=100&period=current&catalog=true&status=true";
    let counts = "[{\"id\":\"A1\",\"total\":0},{\"id\":\"A2\",\"total\":0},{\"id\":\"B1\",\"total\":0}]";
    assert_eq!(client.get(all).text(), counts, "starting totals belong to no period");
    assert!(WebSocket::open(server.addr(), all).text().starts_with("{\"status\":"));
}

#[test]
fn known_parameters_are_taken_and_the_queries_of_files_are_left_to_the_page() {
    let server = Server::start();
    let mut client = server.client();
    for path in [
        "/categories?hidden=true",
        "/electronics?hidden=false",
        "/log?after=0&limit=5",
        "/log?&limit=5&",
        "/?kiosk=1",
        "/app.js?v=7",
    ] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    WebSocket::open(server.addr(), "/orders?since=").texts(3);
}

#[test]
fn a_method_that_is_not_allowed_is_refused_before_the_parameters_are_read() {
    let server = Server::start();
    let mut client = server.client();
    for (method, path, allow) in [
        ("TRACE", "/categories?hidden=true", "GET, HEAD, OPTIONS"),
        ("DELETE", "/log?sort=5", "GET, HEAD, OPTIONS"),
        ("PUT", "/orders?x=1", "GET, HEAD, POST, OPTIONS"),
        ("GET", "/orders/A1?x=1", "POST, OPTIONS"),
        // Known, and newer than the other methods.
        ("QUERY", "/orders?x=1", "GET, HEAD, POST, OPTIONS"),
        ("QUERY", "/", "GET, HEAD, OPTIONS"),
    ] {
        let reply = client.request(method, path, &[], b"");
        reply.problem(405);
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
}
