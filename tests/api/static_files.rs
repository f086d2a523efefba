//! The web app's files: embedded in the binary, or from a folder.

use crate::common::{Client, Server, TempDir, ordercast};

/// The values of `src="…"` and `href="…"`.
fn references(html: &str) -> Vec<&str> {
    ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

#[test]
fn the_board_and_everything_it_refers_to_are_served_with_their_types() {
    let server = Server::start();
    let mut client = server.client();
    let page = client.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let references = references(page.text());
    assert!(!references.is_empty(), "{}", page.text());
    for reference in references {
        assert!(!reference.contains("//"), "an offline machine cannot load {reference}");
        if reference.starts_with('#') || reference.starts_with("data:") {
            continue;
        }
        let path = format!("/{}", reference.trim_start_matches("./").trim_start_matches('/'));
        let file = client.get(&path);
        assert_eq!(file.status, 200, "{path}");
        let kind = file.header("content-type").unwrap_or_default();
        let expected = match path.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("ico") => "image/",
            Some("webmanifest") => "application/manifest+json",
            _ => "text/html",
        };
        assert!(kind.starts_with(expected), "{path}: {kind}");
        assert!(!file.body.is_empty(), "{path}");
    }
}

#[test]
fn a_content_security_policy_allows_only_the_server_itself() {
    let server = Server::start();
    let page = server.client().get("/");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'self'") || policy.contains("default-src 'none'"), "{policy}");
    assert!(!policy.contains("unsafe-inline") && !policy.contains("unsafe-eval"), "{policy}");
}

#[test]
fn a_file_that_has_not_changed_is_not_sent_again() {
    let server = Server::start();
    let mut client = server.client();
    let page = client.get("/");
    let tag = page.header("etag").expect("an ETag").to_owned();
    assert!(tag.ends_with('"') && tag.len() > 4, "{tag}");
    for condition in
        [tag.clone(), format!("\"other\", {tag}"), format!("W/{}", tag.trim_start_matches("W/")), "*".to_owned()]
    {
        let reply = client.request("GET", "/", &[("If-None-Match", &condition)], b"");
        assert_eq!(reply.status, 304, "{condition}");
        assert_eq!(reply.header("etag"), Some(tag.as_str()));
        assert!(reply.body.is_empty());
    }
    let reply = client.request("GET", "/", &[("If-None-Match", "\"other\"")], b"");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, page.body);
}

#[test]
fn a_folder_replaces_the_embedded_files_and_changes_show_at_once() {
    let folder = TempDir::new();
    folder.write("index.html", "<!doctype html><title>mine</title>");
    folder.write("board.js", "export {};");
    let server = Server::builder().arg("--static-dir").arg(folder.path()).start();
    let mut client = server.client();
    let page = client.get("/");
    assert_eq!(page.text(), "<!doctype html><title>mine</title>");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let script = client.get("/board.js");
    assert_eq!(script.text(), "export {};");
    assert!(script.header("content-type").is_some_and(|kind| kind.starts_with("text/javascript")));
    client.get("/missing.js").problem(404);

    folder.write("index.html", "<!doctype html><title>newer</title>");
    let changed = client.get("/");
    assert_eq!(changed.text(), "<!doctype html><title>newer</title>");
    assert_ne!(changed.header("etag"), page.header("etag"));
    // The API's paths still work.
    assert_eq!(client.get("/categories").status, 200);
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let outer = TempDir::new();
    outer.write("secret.txt", "secret");
    let folder = outer.path().join("static");
    std::fs::create_dir(&folder).expect("a folder can be made");
    std::fs::write(folder.join("index.html"), "mine").expect("a file can be written");
    std::fs::create_dir(folder.join("sub")).expect("a folder can be made");
    let server = Server::builder().arg("--static-dir").arg(&folder).start();
    for path in [
        "/../secret.txt",
        "/./../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..\\secret.txt",
        "//secret.txt",
        "/sub",
        "/sub/",
        "/index.html%00.txt",
        &format!("{}", outer.path().join("secret.txt").display()),
        &format!("/{}", outer.path().join("secret.txt").display()),
    ] {
        let mut client = server.client();
        let reply = client.get(path);
        assert!(matches!(reply.status, 400 | 404), "{path}: {reply:?}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("\"secret\""), "{path}");
        assert_ne!(reply.body, b"secret", "{path}");
    }
}

#[test]
fn both_addresses_serve_the_board_and_the_orders() {
    let server = Server::builder().listen("127.0.0.1:0").listen("127.0.0.1:0").start();
    assert_eq!(server.addrs().len(), 2);
    for &addr in server.addrs() {
        let mut client = Client::connect(addr);
        assert_eq!(client.get("/").status, 200);
        client.order("A1", 10);
    }
    let totals = server.client().get("/orders/electronics");
    assert_eq!(totals.json()[0]["total"], 23);
}

#[test]
fn a_folder_without_a_page_is_refused_at_the_start() {
    let folder = TempDir::new();
    let page = folder.path().join("web");
    std::fs::create_dir(&page).expect("a folder can be made");
    std::fs::write(page.join("board.js"), "export {};").expect("a file can be written");
    let run = ordercast(folder.path(), &["--listen", "127.0.0.1:0", "--static-dir", "web"], &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("web") && run.stderr.contains("index.html"), "{run:?}");
    assert!(!run.stdout.contains("listening"), "{run:?}");
}

#[test]
fn files_are_compressed_for_clients_that_take_gzip_and_for_no_others() {
    let server = Server::start();
    let mut client = server.client();
    let plain = client.get("/app.js");
    assert_eq!((plain.status, plain.header("content-encoding")), (200, None));
    assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
    for (accepted, is_compressed) in [
        ("gzip", true),
        ("br, GZIP;q=0.5, *;q=0", true),
        ("x-gzip", true),
        ("*", true),
        ("gzip;q=0", false),
        ("gzip ; Q=0", false),
        ("gzip;q=x", false),
        ("gzip;q=0.000, *", false),
        ("*;q=0", false),
        ("br, deflate", false),
        ("identity", false),
        ("", false),
    ] {
        let reply = client.request("GET", "/app.js", &[("Accept-Encoding", accepted)], b"");
        let encoding = is_compressed.then_some("gzip");
        assert_eq!((reply.status, reply.header("content-encoding")), (200, encoding), "{accepted}");
        assert_eq!(reply.body == plain.body, !is_compressed, "{accepted}");
        assert_eq!(reply.header("etag") == plain.header("etag"), !is_compressed, "{accepted}");
        if is_compressed {
            assert!(reply.body.starts_with(&[0x1f, 0x8b, 8]) && 2 * reply.body.len() < plain.body.len());
            let tag = reply.header("etag").expect("an ETag");
            let again = [("Accept-Encoding", accepted), ("If-None-Match", tag)];
            assert_eq!(client.request("GET", "/app.js", &again, b"").status, 304);
        }
    }
}

#[test]
fn the_page_is_asked_for_each_time_and_its_files_are_kept_under_their_version() {
    let server = Server::start();
    let mut client = server.client();
    let page = client.get("/");
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let text = String::from_utf8(page.body).expect("a page in UTF-8");
    let (before, _) = text.split_once("/app.js\"").expect("the page names its script");
    let version = before.rsplit('"').next().unwrap_or_default();
    let script = client.get(&format!("/{version}/app.js"));
    assert_eq!(script.status, 200);
    assert_eq!(script.header("cache-control"), Some("public, max-age=31536000, immutable"));
    for other in ["/app.js", "/0000000000000000/app.js"] {
        let reply = client.get(other);
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-cache")), "{other}");
        assert_eq!(reply.body, script.body, "{other}");
    }
}

#[test]
fn the_web_app_is_small() {
    let server = Server::start();
    let mut client = server.client();
    let page = String::from_utf8(client.get("/").body).expect("a page in UTF-8");
    let mut names: Vec<&str> = references(&page).into_iter().filter(|name| name.contains('.')).collect();
    names.sort_unstable();
    names.dedup();
    let size = |client: &mut crate::common::Client, encoding: &str| {
        let paths = names.iter().map(|name| format!("/{name}")).chain(["/".to_owned()]);
        let bytes = paths.map(|path| client.request("GET", &path, &[("Accept-Encoding", encoding)], b"").body.len());
        bytes.sum::<usize>()
    };
    let (plain, compressed) = (size(&mut client, "identity"), size(&mut client, "gzip"));
    assert!((50_000..150_000).contains(&plain), "{plain} bytes");
    assert!((10_000..45_000).contains(&compressed), "{compressed} bytes");
}

#[test]
fn only_named_pages_may_show_the_web_app_in_a_frame() {
    let policy = |server: &Server| server.client().get("/").header("content-security-policy").map(str::to_owned);
    let ends = |server: &Server, end: &str| policy(server).is_some_and(|policy| policy.ends_with(end));
    assert!(ends(&Server::start(), "frame-ancestors 'none'"));
    let server = Server::builder()
        .arg("--allow-frame=https://signage.example/")
        .arg("--allow-frame=http://10.0.0.7:8080")
        .start();
    assert!(ends(&server, "frame-ancestors https://signage.example http://10.0.0.7:8080"), "{:?}", policy(&server));
    for wrong in ["signage.example", "https://a.example; script-src *", "https://a.example/page", "https://"] {
        let error = Server::builder().arg(format!("--allow-frame={wrong}")).try_start().expect_err(wrong);
        assert!(error.contains("--allow-frame"), "{error}");
    }
}
