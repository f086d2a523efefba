//! Request lines and `Host` headers that two parsers could understand differently.

use super::{Shape, expect_all_refused};
use crate::common::{Client, Server};

const MALFORMED: &[u16] = &[400];
/// A valid version that is not supported.
const NO_VERSION: &[u16] = &[505];

fn all(statuses: &'static [u16], requests: impl IntoIterator<Item = String>) -> Vec<Shape> {
    requests.into_iter().map(|request| Shape::new(request, statuses)).collect()
}

fn with_target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn a_missing_or_repeated_host_is_refused() {
    let mut shapes = all(
        MALFORMED,
        ["".to_owned(), "X: Host: localhost\r\n".to_owned(), "Hosts: localhost\r\n".to_owned()]
            .map(|lines| format!("GET /categories HTTP/1.1\r\n{lines}\r\n")),
    );
    for second in ["Host: localhost", "host: localhost", "HOST: elsewhere", "Host: ", "X: y\r\nHost: elsewhere"] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            shapes.push(Shape::new(
                format!("GET /categories {version}\r\nHost: localhost\r\n{second}\r\n\r\n"),
                MALFORMED,
            ));
            shapes.push(Shape::new(
                format!("GET /categories {version}\r\n{second}\r\nHost: localhost\r\n\r\n"),
                MALFORMED,
            ));
        }
    }
    expect_all_refused("hosts", &shapes);
}

/// RFC 9112, section 3.2: an invalid `Host` is answered with 400.
#[test]
fn a_malformed_host_is_refused() {
    let hosts = [
        "",
        " ",
        "user@localhost",
        "user:secret@localhost",
        "@localhost",
        "localhost@",
        "localhost, localhost",
        "localhost,elsewhere",
        "localhost localhost",
        "local host",
        "localhost;",
        "localhost/",
        "localhost/x",
        "localhost?x",
        "localhost#x",
        "localhost\\",
        "http://localhost",
        "//localhost",
        "localhost:3000:3000",
        "localhost:x",
        "localhost:-1",
        "localhost:+80",
        "localhost: 80",
        "localhost :80",
        ":80",
        ":",
        "[::1",
        "::1",
        "[localhost]",
        "[::1]x",
        "[]",
        "\"localhost\"",
        "<localhost>",
        "localhost%00",
        "lo\tcalhost",
        "ｌocalhost",
    ];
    let shapes = all(MALFORMED, hosts.map(|host| format!("GET /categories HTTP/1.1\r\nHost: {host}\r\n\r\n")));
    expect_all_refused("malformed hosts", &shapes);
}

#[test]
fn targets_that_are_no_plain_path_are_refused() {
    let targets = [
        // The absolute form, unless it names the host of the `Host` line.
        "http://localhost:3000/",
        "http://localhost:80/categories",
        "http://localhost.elsewhere/",
        "http://localhost@elsewhere/",
        "http://localhost,elsewhere/",
        "http://localhost\\elsewhere/",
        "http://LOCALHOST./",
        "http:///categories",
        "http://?localhost",
        "http://localhost#/",
        "http://localhost%2fcategories",
        "http://localhost/%2e%2e/categories",
        "https://localhost/categories",
        "http://user@localhost/",
        "http:/categories",
        "http:categories",
        "ws://localhost/orders",
        "file:///etc/passwd",
        "http://elsewhere/categories",
        "localhost:80",
        "localhost",
        "127.0.0.1:80",
        "[::1]:80",
        "categories",
        "categories/",
        "?x",
        "*x",
        ".",
        "..",
        "./categories",
        "../x",
        "\\categories",
        "@localhost/categories",
        ";x",
        ":80",
        "~",
        "/#",
        "/categories#",
        "/categories#x",
        "/categories?x#y",
        "#",
        "#/categories",
    ];
    let mut shapes = all(MALFORMED, targets.map(with_target));
    for authority in ["localhost:80", "elsewhere:443", "localhost", "http://localhost/"] {
        shapes.push(Shape::new(format!("CONNECT {authority} HTTP/1.1\r\nHost: localhost\r\n\r\n"), MALFORMED));
    }
    expect_all_refused("targets", &shapes);
}

/// RFC 9112, section 3.2.2: a server accepts the absolute form. It is taken when both hosts are the same.
#[test]
fn an_absolute_target_that_names_the_host_is_its_path() {
    let server = Server::start();
    let mut client = server.client();
    let ask = |client: &mut Client, target: &str, host: &str| {
        client.request("GET", target, &[("Host", host)], b"").text().to_owned()
    };
    let categories = ask(&mut client, "/categories", "localhost");
    for (target, host) in [
        ("http://localhost/categories", "localhost"),
        ("HTTP://LocalHost:3000/categories", "localhost:3000"),
        ("http://[::1]:1/categories", "[::1]:1"),
    ] {
        assert_eq!(ask(&mut client, target, host), categories, "{target}");
    }
    let log = "{\"seq\":1";
    client.order("A1", 1);
    assert!(ask(&mut client, "http://localhost/log?after=0", "localhost").starts_with(log));
    let page = ask(&mut client, "/", "localhost");
    for target in ["http://localhost", "http://localhost/", "http://localhost?x"] {
        assert_eq!(ask(&mut client, target, "localhost"), page, "{target}");
    }
    // The check of the `Host` line applies.
    let elsewhere = [("Host", "elsewhere.example")];
    client.request("GET", "http://elsewhere.example/categories", &elsewhere, b"").problem(421);
}

/// RFC 9110, section 6.2: a server answers a later minor version as it does the latest that it knows.
#[test]
fn a_later_minor_version_is_answered_as_1_1() {
    let server = Server::start();
    let mut client = server.client();
    for version in ["HTTP/1.2", "HTTP/1.9", "HTTP/1.1"] {
        client.write(format!("GET /categories {version}\r\nHost: localhost\r\n\r\n"));
        let reply = client.reply();
        assert_eq!((reply.status, reply.version.as_str(), reply.says_close()), (200, "HTTP/1.1", false), "{version}");
    }
    client.write(
        "POST /orders/A1 HTTP/1.2\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.reply().status, 100);
    client.write("c\r\n{\"amount\":1}\r\n0\r\n\r\n");
    assert_eq!(client.reply().text(), "{\"ok\":true}");
}

/// RFC 9110, section 9.1: 501 for a method that is not recognized, 405 for one that is not allowed.
#[test]
fn a_method_that_is_not_recognized_is_answered_501_and_the_connection_goes_on() {
    let server = Server::start();
    let mut client = server.client();
    for method in ["FOO", "get", "PROPFIND", "G", "M-SEARCH"] {
        for path in ["/", "/categories", "/orders/A1", "/nowhere"] {
            client.request(method, path, &[], b"").problem(501);
        }
        client.request(method, "/orders/A1", &[("Content-Type", "application/json")], b"{\"amount\":1}").problem(501);
    }
    for method in ["PUT", "DELETE", "PATCH", "TRACE"] {
        assert!(client.request(method, "/categories", &[], b"").header("allow").is_some(), "{method}");
    }
    assert_eq!(client.total("A1"), 3);
}

#[test]
fn escapes_that_another_reader_could_decode_to_another_path_are_refused() {
    let paths = [
        "/orders%2felectronics",
        "/orders%2Felectronics",
        "/%2f",
        "/%2F%2F",
        "%2fcategories",
        "/%2e",
        "/%2E",
        "/%2e%2e/categories",
        "/%2E%2e%2fcategories",
        "/.%2e/categories",
        "/x/%2e./categories",
        "/orders%5celectronics",
        "/%5C",
        "/..%5c",
        "/categories%00",
        "/%00",
        "/%00/categories",
        "/categories%0d",
        "/categories%0a",
        "/categories%0D%0A",
        "/%0d%0aHost:%20x",
        "/categories%09",
        "/categories%0b",
        "/categories%1f",
        "/categories%7F",
        "/categories%252f",
        "/%252e%252e/",
        "/%255c",
        "/%2500",
        "/%25",
        "/%25%32%66",
        "/%%32%66",
        "/%",
        "/%4",
        "/%zz",
        "/%2",
        "/%g0",
        "/% 20",
        "/%u002f",
        "/%+2",
        "/%-2",
        "/categories%",
        "/%%",
    ];
    expect_all_refused("escapes", &all(MALFORMED, paths.map(with_target)));
}

#[test]
fn malformed_request_lines_are_refused() {
    let mut shapes = all(
        MALFORMED,
        [
            "GET  /categories HTTP/1.1",
            "GET /categories  HTTP/1.1",
            "GET   /categories   HTTP/1.1",
            "GET\t/categories HTTP/1.1",
            "GET /categories\tHTTP/1.1",
            "GET\t/categories\tHTTP/1.1",
            " GET /categories HTTP/1.1",
            "\tGET /categories HTTP/1.1",
            "GET /categories HTTP/1.1 ",
            "GET /categories HTTP/1.1\t",
            "GET /cate gories HTTP/1.1",
            "GET /categories HTTP/1.1 HTTP/1.1",
            "GET /categories",
            "GET /categories ",
            "GET",
            "GET ",
            "GET  HTTP/1.1",
            "/categories HTTP/1.1",
            " ",
            "x",
            "/categories",
            "HTTP/1.1",
            "HTTP/1.1 200 OK",
            "G ET /categories HTTP/1.1",
            "GET, /categories HTTP/1.1",
            "G(ET /categories HTTP/1.1",
            "\"GET\" /categories HTTP/1.1",
            "GET: /categories HTTP/1.1",
            "GET/ /categories HTTP/1.1",
            "GÉT /categories HTTP/1.1",
            "GET /catégories HTTP/1.1",
            "GET /categories http/1.1",
            "GET /categories Http/1.1",
            "GET /categories HTTP/1,1",
            "GET /categories HTTP/1.1.1",
            "GET /categories HTTP/ 1.1",
            "GET /categories HTTP /1.1",
            "GET /categories HTTP/1.",
            "GET /categories HTTP/.1",
            "GET /categories HTTP/1",
            "GET /categories HTTP/",
            "GET /categories HTTP",
            "GET /categories HTTP1.1",
            "GET /categories HTTP/1.10",
            "GET /categories HTTP/11.1",
            "GET /categories HTTP/01.1",
            "GET /categories HTTP/1.01",
            "GET /categories HTTP/+1.1",
            "GET /categories HTTP/-1.1",
            "GET /categories HTTP/1.x",
            "GET /categories HTTP/1.1;",
            "GET /categories HTTPS/1.1",
            "GET /categories ICY/1.1",
            "GET /categories FTP/1.1",
            "GET /categories SHTTP/1.1",
            "GET /categories HTTP/0x1.1",
            "GET /categories HTTP/１.1",
            "GET /categories HTTP\\1.1",
            "GET /categories \"HTTP/1.1\"",
        ]
        .map(|line| format!("{line}\r\nHost: localhost\r\n\r\n")),
    );
    for version in ["HTTP/0.9", "HTTP/2.0", "HTTP/2.1", "HTTP/3.0", "HTTP/9.9", "HTTP/0.0"] {
        shapes.push(Shape::new(format!("GET /categories {version}\r\nHost: localhost\r\n\r\n"), NO_VERSION));
    }
    shapes.push(Shape::new("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NO_VERSION));
    expect_all_refused("request lines", &shapes);
}
