//! Categories: creating them, their titles, which are listed, and names that have become those of routes.

use crate::common::{Client, DEADLINE, Reply, Server, TempDir, WebSocket, wait_until};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[track_caller]
fn put(client: &mut Client, path: &str, body: &str) -> Reply {
    client.request("PUT", path, &[JSON], body.as_bytes())
}

#[test]
fn a_category_is_created_retitled_and_used_at_once() {
    let server = Server::start();
    let mut client = server.client();
    let reply = put(&mut client, "/garden", "{\"title\":\"Garten & Hof\",\"prefix\":\"G\"}");
    assert_eq!((reply.status, reply.header("location")), (201, Some("/garden")));
    let garden =
        |title: &str, products: usize| format!("{{\"name\":\"garden\",\"title\":\"{title}\",\"products\":{products}}}");
    assert_eq!(reply.text(), garden("Garten & Hof", 0));
    // It has feeds, totals and a list although it is empty.
    let mut feed = WebSocket::open(server.addr(), "/orders/garden");
    assert_eq!((client.get("/orders/garden").text(), client.get("/garden").text()), ("[]", "[]"));
    assert!(client.get("/categories").text().ends_with(&format!(",{}]", garden("Garten & Hof", 0))));
    assert_eq!(client.post("/garden", "{\"name\":\"Rake\"}").json()[0]["id"], "G1");
    client.order("G1", 4);
    assert_eq!(feed.texts(2), ["{\"id\":\"G1\",\"total\":0}", "{\"id\":\"G1\",\"total\":4}"]);
    // A repeat changes nothing, and another title is taken.
    for title in ["Garten & Hof", "Garden"] {
        let reply = put(&mut client, "/garden/", &format!("{{\"title\":\"{title}\"}}"));
        assert_eq!((reply.status, reply.header("location"), reply.text()), (200, None, garden(title, 1).as_str()));
    }
    assert_eq!(put(&mut client, "/garden", "{\"prefix\":\"G\"}").text(), garden("Garden", 1));
    assert_eq!(put(&mut client, "/tools", "{\"prefix\":\"T\"}").json()["title"], "Tools");
}

#[test]
fn a_category_that_breaks_a_rule_is_refused_in_words_and_not_created() {
    let server = Server::start();
    let mut client = server.client();
    let before = client.get("/categories").body;
    let long = "x".repeat(65);
    for (path, body, status, hint) in [
        ("/tools", "{\"title\":\"Tools\"}", 422, "prefix is missing"),
        ("/tools", "{\"prefix\":\"\"}", 422, "prefix must be"),
        ("/tools", "{\"prefix\":\"T\",\"title\":\" \"}", 422, "title must have"),
        ("/tools", "{\"prefix\":\"T\",\"titl\":\"x\"}", 422, "did you mean title?"),
        ("/tools", "[]", 422, "JSON object"),
        ("/tools", "{", 400, "not valid JSON"),
        ("/Tools", "{\"prefix\":\"T\"}", 422, "small letters"),
        (&format!("/{long}"), "{\"prefix\":\"T\"}", 422, "at most 64 bytes"),
        ("/electronics", "{\"prefix\":\"X\"}", 409, "cannot be changed"),
        ("/electronics", "{\"title\":\"\"}", 422, "title must have"),
        ("/electronics", "{\"title\":null}", 422, "title must be"),
    ] {
        let detail = put(&mut client, path, body).problem(status);
        assert!(detail.contains(hint), "{path} {body}: {detail}");
    }
    put(&mut client, "/log", "{}").problem(405);
    put(&mut client, "/rates", "{}").problem(405);
    put(&mut client, "/periods", "{}").problem(405);
    let refused = client.request("PUT", "/tools", &[("Content-Type", "text/plain")], b"{}");
    refused.problem(415);
    assert!(refused.lists("accept", "application/json"), "{refused:?}");
    assert_eq!(client.get("/categories").body, before);
    client.get("/tools").problem(404);
}

#[test]
fn a_category_is_listed_unless_all_of_its_products_are_hidden() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(put(&mut client, "/tools", "{\"prefix\":\"T\"}").status, 201);
    for path in ["/electronics/A1", "/confectionery/B1"] {
        assert_eq!(client.request("PATCH", path, &[JSON], b"{\"hidden\":true}").status, 200);
    }
    let listed = |reply: Reply| -> Vec<(String, u64)> {
        let list = reply.json();
        let list = list.as_array().expect("an array").iter();
        list.map(|it| (it["name"].as_str().unwrap().to_owned(), it["products"].as_u64().unwrap())).collect()
    };
    let shown = [("electronics".to_owned(), 1), ("tools".to_owned(), 0)];
    assert_eq!(listed(client.get("/categories")), shown);
    let all = [shown[0].clone(), ("confectionery".to_owned(), 0), shown[1].clone()];
    assert_eq!(listed(client.get("/categories?hidden=true")), all);
    client.get("/categories?hidden=1").problem(400);
}

#[test]
fn of_two_that_create_the_same_category_one_does() {
    let server = Server::start();
    for round in 0..10 {
        let path = &format!("/tools-{round}");
        let statuses = std::thread::scope(|scope| {
            let put = || scope.spawn(|| put(&mut server.client(), path, "{\"title\":\"T\",\"prefix\":\"T\"}").status);
            let mut statuses = [put(), put(), put()].map(|request| request.join().expect("an answer"));
            statuses.sort_unstable();
            statuses
        });
        assert_eq!(statuses, [200, 200, 201]);
    }
    assert_eq!(server.client().get("/categories").json().as_array().map(Vec::len), Some(12));
}

#[test]
fn preflights_allow_what_changes_products_and_categories() {
    let server = Server::start();
    let mut client = server.client();
    let mut methods = |path: &str, method: &str| {
        let headers = [("Origin", "http://localhost:8000"), ("Access-Control-Request-Method", method)];
        let reply = client.request("OPTIONS", path, &headers, b"");
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("allow"), reply.header("access-control-allow-methods"));
        reply.header("allow").unwrap_or_default().to_owned()
    };
    assert_eq!(methods("/electronics/A1", "PATCH"), "PATCH, OPTIONS");
    assert_eq!(methods("/electronics", "PUT"), "GET, HEAD, POST, PUT, OPTIONS");
    assert_eq!(methods("/new-category", "PUT"), "PUT, OPTIONS");
    let all = client.request("OPTIONS", "*", &[], b"");
    assert_eq!(all.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, OPTIONS"));
    client.request("OPTIONS", "/new-category", &[], b"").problem(404);
    let headers = [("Origin", "http://evil.example"), JSON];
    client.request("PUT", "/tools", &headers, b"{\"prefix\":\"T\"}").problem(403);
    client.request("PATCH", "/electronics/A1", &headers, b"{\"hidden\":true}").problem(403);
}

/// A file of a version in which `rates` and `periods` were names like any other.
#[test]
fn a_category_with_the_name_of_a_route_keeps_its_totals_and_its_file_opens() {
    let mut server = Server::start();
    server.client().order("B1", 1);
    server.terminate();
    let file = rusqlite::Connection::open(server.data().join("ordercast.sqlite3")).expect("a data file");
    file.execute("UPDATE categories SET name = 'rates' WHERE name = 'confectionery'", []).expect("a table");
    drop(file);
    server.restart();
    let line = "category \"rates\" has the name of a route";
    wait_until(DEADLINE, line, || server.log().contains(line));
    let mut client = server.client();
    assert_eq!(client.get("/orders/rates").text(), "[{\"id\":\"B1\",\"total\":102}]");
    assert_eq!(WebSocket::open(server.addr(), "/orders/rates").text(), "{\"id\":\"B1\",\"total\":102}");
    client.order("B1", 1);
    assert!(client.get("/categories").text().contains("\"rates\""));
}

#[test]
fn a_catalogue_file_gives_titles_to_new_categories_and_changes_none() {
    let file =
        "{\"garden\":{\"prefix\":\"G\",\"title\":\"Garten & Hof\",\"products\":[{\"id\":\"G1\",\"name\":\"Rake\"}]}}";
    let mut server = Server::builder().catalog(file).start();
    let mut client = server.client();
    assert_eq!(client.get("/categories").json()[0]["title"], "Garten & Hof");
    assert_eq!(put(&mut client, "/garden", "{\"title\":\"Garden\"}").status, 200);
    assert_eq!(client.request("PATCH", "/garden/G1", &[JSON], b"{\"name\":\"Harke\"}").status, 200);
    server.restart();
    let mut client = server.client();
    assert_eq!(client.get("/categories").json()[0]["title"], "Garden");
    assert_eq!(client.get("/garden").json()[0]["name"], "Harke");
    let line = "2 entries are in the data folder with other texts, which were kept; change them at the board";
    wait_until(DEADLINE, line, || server.log().contains(line));
}

#[test]
fn a_catalogue_file_for_a_folder_that_has_the_sample_is_added_to_it_and_the_log_says_so() {
    let data = TempDir::new();
    let mut sample = Server::builder().data(data.path()).start();
    sample.terminate();
    let start = || Server::builder().data(data.path()).catalog("{\"garden\":{\"prefix\":\"G\"}}").start();
    let line = "its new categories were added to those of the data folder, which were kept: electronics, confectionery";
    let mut server = start();
    wait_until(DEADLINE, line, || server.log().contains(line));
    server.terminate();
    assert!(!start().log().contains("which were kept"));
}

#[test]
fn a_thousand_categories_are_the_most() {
    let categories: Vec<String> = (1..1_000).map(|number| format!("\"c{number}\":{{\"prefix\":\"C\"}}")).collect();
    let server = Server::builder().catalog(&format!("{{{}}}", categories.join(","))).start();
    let mut client = server.client();
    let body = "{\"prefix\":\"T\"}";
    assert_eq!(put(&mut client, "/the-last", body).status, 201);
    assert!(put(&mut client, "/one-more", body).problem(422).contains("1000 categories"));
    assert_eq!(client.get("/categories").json().as_array().map(Vec::len), Some(1_000));
    assert_eq!(put(&mut client, "/the-last", "{\"title\":\"The Last\"}").status, 200);
    assert_eq!(client.get("/orders/the-last").text(), "[]");
}
