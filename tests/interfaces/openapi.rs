//! The OpenAPI document as it is served: its header lines, its examples, and what docs/api.md says of the same things.
//! That it names every route and parameter is tested in `src/api/route/tests.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{Reply, Server, TempDir};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn document(server: &Server) -> Value {
    server.client().get("/openapi.json").json()
}

/// The value itself, or what its `$ref` names.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(value, |pointer| document.pointer(pointer).unwrap_or_else(|| panic!("there is no {pointer}")))
}

/// Method, path and the two objects of every operation: its own, and its path's.
fn operations(document: &Value) -> Vec<(String, &str, &Value, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let of = |(path, item): (&'_ String, &'_ Value)| -> Vec<String> {
        let names = item.as_object().unwrap_or_else(|| panic!("{path}")).keys().map(|name| name.to_ascii_uppercase());
        names.filter(|name| METHODS.contains(&name.as_str())).collect()
    };
    paths
        .flat_map(|(path, item)| {
            of((path, item)).into_iter().map(move |method| {
                let own = &item[method.to_ascii_lowercase()];
                (method, path.as_str(), own, item)
            })
        })
        .collect()
}

/// The path with the examples of its parameters, and the query with those of `queried` ones.
fn target(document: &Value, path: &str, own: &Value, item: &Value, queried: bool) -> String {
    // Those of the operation come first, because they replace those of its path.
    let lists = [&own["parameters"], &item["parameters"]].into_iter().filter_map(Value::as_array).flatten();
    let (mut target, mut query) = (path.to_owned(), Vec::new());
    for parameter in lists.map(|parameter| resolved(document, parameter)) {
        let name = parameter["name"].as_str().expect("a name");
        let example = parameter["example"].as_str().map_or_else(|| parameter["example"].to_string(), str::to_owned);
        match parameter["in"].as_str() {
            Some("path") => target = target.replace(&format!("{{{name}}}"), &example),
            Some("query") => query.push(format!("{name}={}", example.replace('+', "%2B"))),
            _ => {}
        }
    }
    if queried && !query.is_empty() { format!("{target}?{}", query.join("&")) } else { target }
}

/// Whether all that the example has is there. Times differ.
fn is_part(example: &Value, actual: &Value) -> bool {
    let is_time = |text: &str| text.len() == 24 && text.ends_with('Z');
    match (example, actual) {
        (Value::Object(members), Value::Object(_)) => members.iter().all(|(name, it)| is_part(it, &actual[name])),
        (Value::Array(items), Value::Array(others)) => {
            items.iter().all(|item| others.iter().any(|other| is_part(item, other)))
        }
        (Value::String(one), Value::String(other)) => one == other || (is_time(one) && is_time(other)),
        _ => example == actual,
    }
}

/// A body as JSON: NDJSON as an array, CSV as a string.
fn value_of(reply: &Reply) -> Value {
    match reply.header("content-type") {
        Some("application/json") => reply.json(),
        Some("application/x-ndjson") => {
            reply.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect()
        }
        _ => reply.text().into(),
    }
}

#[test]
fn the_document_is_served_to_everyone_with_its_tag_and_compressed() {
    let (files, folder) = (TempDir::new(), TempDir::new());
    files.write("index.html", "another web app");
    let token = folder.write("tokens", "reader-81b6e2d05f7c394a\n");
    let server = Server::builder()
        .arg("--static-dir")
        .arg(files.path())
        .arg("--token-file")
        .arg(&token)
        .arg("--read-token-file")
        .arg(&token)
        .start();
    let mut client = server.client();
    let reply = client.get("/openapi.json");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    let tag = reply.header("etag").expect("a tag").to_owned();
    assert_eq!(client.request("GET", "/openapi.json", &[("If-None-Match", &tag)], b"").status, 304);
    let compressed = client.request("GET", "/openapi.json", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert!(compressed.body.len() < 10_000 && reply.body.len() < 60_000, "{}", reply.body.len());
    assert!(!reply.text().contains(['\n', '\r']) && !reply.text().contains("\": "), "it is compact");
    let document = reply.json();
    assert_eq!(
        (&document["openapi"], &document["info"]["version"]),
        (&"3.1.0".into(), &env!("CARGO_PKG_VERSION").into())
    );
    // The client module is beside another web app too.
    for name in ["", "-backoff", "-feed", "-outbox", "-request"] {
        assert_eq!(client.get(&format!("/ordercast{name}.js")).status, 200, "{name}");
    }
    files.write("ordercast.js", "export {};");
    assert_eq!(client.get("/ordercast.js").text(), "export {};");
    assert_eq!(client.get("/").text(), "another web app");
    client.get("/app.js").problem(404);
}

#[test]
fn allowed_origins_may_read_the_document_and_import_the_client_module() {
    let server = Server::builder().arg("--allow-origin=https://shop.example").start();
    let mut client = server.client();
    for path in ["/openapi.json", "/ordercast.js", "/ordercast-feed.js"] {
        for origin in ["http://127.0.0.1:8000", "https://shop.example"] {
            let reply = client.request("GET", path, &[("Origin", origin)], b"");
            assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(origin)), "{path}");
            assert!(reply.lists("vary", "Origin"), "{reply:?}");
            let tag = reply.header("etag").expect("a tag").to_owned();
            let again = client.request("GET", path, &[("Origin", origin), ("If-None-Match", &tag)], b"");
            assert_eq!((again.status, again.header("access-control-allow-origin")), (304, Some(origin)), "{path}");
        }
        let reply = client.request("GET", path, &[("Origin", "https://other.example")], b"");
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None), "{path}");
    }
}

/// The bodies that an operation's examples send, with their media types; one without a body if it takes none.
fn bodies(own: &Value) -> Vec<(String, String)> {
    let Some(content) = own["requestBody"]["content"].as_object() else { return vec![Default::default()] };
    let body = |(media_type, described): (&String, &Value)| {
        let body = match &described["example"] {
            Value::Array(lines) if media_type != "application/json" => {
                lines.iter().map(|it| format!("{it}\n")).collect()
            }
            body => body.to_string(),
        };
        (media_type.clone(), body)
    };
    content.iter().map(body).collect()
}

/// Status, media type and example of the answers of an operation. An event stream has no end, so that it is tested elsewhere.
fn answers<'a>(document: &'a Value, own: &'a Value) -> Vec<(&'a str, &'a str, Option<&'a Value>)> {
    let mut found = Vec::new();
    for (status, answer) in
        own["responses"].as_object().expect("responses").iter().filter(|(it, _)| it.starts_with('2'))
    {
        for (media_type, described) in resolved(document, answer)["content"].as_object().expect("content") {
            if media_type != "text/event-stream" {
                found.push((status.as_str(), media_type.as_str(), described.get("example")));
            }
        }
    }
    found
}

#[test]
fn every_example_of_the_document_is_true() {
    let described = document(&Server::start());
    let (mut confirmed, mut examples) = (BTreeSet::new(), BTreeSet::new());
    for (method, path, own, item) in operations(&described) {
        for (status, accepted, example) in answers(&described, own) {
            let label = format!("{method} {path} {status} {accepted}");
            examples.extend(example.map(|_| label.clone()));
            for (media_type, body) in bodies(own) {
                // Each to a server of its own, with the order that the example of the log has.
                let server = Server::start();
                let mut client = server.client();
                let first = [("Content-Type", "application/json"), ("Idempotency-Key", "\"till-7-0041\"")];
                assert_eq!(client.request("POST", "/orders/A1", &first, b"{\"amount\":10}").text(), "{\"ok\":true}");
                let target = |queried| target(&described, path, own, item, queried);
                let headers = [("Accept", accepted), ("Content-Type", media_type.as_str())];
                let reply = client.request(&method, &target(false), &headers, body.as_bytes());
                assert!(own["responses"].get(reply.status.to_string()).is_some(), "{label}: {reply:?}");
                assert!((200..300).contains(&reply.status), "{label}: {reply:?}");
                let is_described = reply.header("content-type").is_some_and(|it| it.starts_with(accepted));
                let is_described = is_described && reply.status.to_string() == status;
                if is_described && example.is_some_and(|example| is_part(example, &value_of(&reply))) {
                    confirmed.insert(label.clone());
                }
                if method == "GET" {
                    let reply = client.request(&method, &target(true), &headers, b"");
                    assert_eq!(reply.status, 200, "{label} with all parameters: {reply:?}");
                }
            }
        }
    }
    assert_eq!(confirmed, examples, "each is the answer to one of the operation's requests");
    assert!(confirmed.len() > 15, "{confirmed:?}");
}

/// The first cells of the rows of a document's table, which begins with a header whose first cell is `name`.
fn cells(document: &str, name: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(document)).expect("the page");
    let rows = page.lines().skip_while(|line| !line.starts_with(&format!("| {name} |"))).skip(2);
    let found: Vec<_> = rows.map_while(|line| Some(line.strip_prefix("| ")?.split('|').next()?.to_owned())).collect();
    assert!(!found.is_empty(), "{document} has no table of that name: {name}");
    found
}

#[test]
fn the_document_and_the_page_of_the_api_have_the_same_routes() {
    let document = document(&Server::start());
    let named: BTreeSet<String> =
        operations(&document).iter().map(|(method, path, ..)| format!("{method} {path}")).collect();
    let rows = cells("api.md", "request");
    let written = rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2));
    let written = written.filter(|code| METHODS.iter().any(|method| code.starts_with(&format!("{method} /"))));
    let route = |code: &str| {
        let path = code.split('?').next().unwrap_or_default();
        // The document cannot have both of these: they differ in the name of the parameter alone.
        let path = path.replace("/orders/{id}", "/orders/{name}").replace("/orders/{category}", "/orders/{name}");
        path.replace("/periods/current", "/periods/{number}")
    };
    assert_eq!(named, written.map(route).collect());
}

#[test]
fn the_document_and_the_table_of_statuses_have_the_same_ones() {
    let document = document(&Server::start());
    let statuses = |own: &Value| -> Vec<u16> {
        let statuses = own["responses"].as_object().expect("responses").keys();
        statuses.map(|status| status.parse().expect("a status")).collect()
    };
    let answered: BTreeSet<u16> = operations(&document).into_iter().flat_map(|(_, _, own, _)| statuses(own)).collect();
    let rows = cells("service.md", "status");
    let mut written: BTreeSet<u16> =
        rows.iter().flat_map(|row| row.split(',')).map(|status| status.trim().parse().expect("a status")).collect();
    // An interim answer, which OpenAPI does not describe.
    assert!(written.remove(&100));
    assert_eq!(answered, written);
    // What describes a problem is used.
    let described = document["components"]["responses"].as_object().expect("responses").keys();
    let described: BTreeSet<u16> = described.filter_map(|name| name.parse().ok()).collect();
    assert_eq!(described, answered.into_iter().filter(|status| *status >= 400).collect());
}
