//! Chunked bodies that two parsers could split differently.

use super::{SMUGGLED, Shape, expect_all_refused};
use crate::common::Server;

const BODY: &str = "{\"amount\":1}";
const MALFORMED: &[u16] = &[400];
const TOO_LARGE: &[u16] = &[413];

/// An order with this chunked body.
fn chunks(body: &str) -> String {
    format!(
        "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{body}"
    )
}

#[test]
fn chunks_that_two_readers_could_cut_differently_are_refused() {
    let mut shapes = Vec::new();
    for size in [
        "+c",
        "-c",
        "0xc",
        "0Xc",
        "xc",
        "c.",
        "c,c",
        "1_0",
        "cx",
        "g",
        "\"c\"",
        "",
        " ",
        " c",
        "c ",
        "\tc",
        "c\t",
        "\u{b}c",
        "c\u{b}",
        "c\0",
        "c c",
        "00000000c",
        "10000000c",
        "1000000000000000c",
        "fffffffffffffff4",
        "Ｃ",
        // Malformed chunk extensions; each of these has hidden a line end from some parser.
        "c;",
        "c;;x",
        "c;x;",
        "c;x=",
        "c;=y",
        "c;x ",
        "c;x y",
        "c;x=y z",
        "c,x",
        "c x",
        "c;x=\"",
        "c;x=\"y",
        "c;x=\"\\\"",
        "c;x=\"y\"z",
        "c;x=\"\r\"",
        "c;x=\"\n\"",
        "c;x=\"\r\n\"",
        "c;x=\"\\\r\n\"",
        "c;\0",
        "c;x\r",
        "c;x\ny",
        "c;x\n",
        "c;ä",
        // The end of the line.
        "c\r",
        "c\r\r",
        "\r\nc",
        "\nc",
        "c\n",
        "c\r\n\r",
    ] {
        shapes.push(Shape::new(chunks(&format!("{size}\r\n{BODY}\r\n0\r\n\r\n")), MALFORMED));
    }
    for body in [
        format!("c\n{BODY}\r\n0\r\n\r\n"),
        format!("c\r{BODY}\r\n0\r\n\r\n"),
        format!("c\r\n{BODY}0\r\n\r\n"),
        format!("c\r\n{BODY}\n0\r\n\r\n"),
        format!("c\r\n{BODY}\r0\r\n\r\n"),
        format!("c\r\n{BODY}\r\r\n0\r\n\r\n"),
        format!("c\r\n{BODY}XX0\r\n\r\n"),
        format!("c\r\n{BODY} \r\n0\r\n\r\n"),
        format!("b\r\n{BODY}\r\n0\r\n\r\n"),
        format!("d\r\n{BODY}\r\n0\r\n\r\n"),
        format!("c\r\n{BODY}\r\n0\n\r\n"),
        format!("c\r\n{BODY}\r\n0\r\n\n"),
        format!("c\r\n{BODY}\r\n0\r\r\n"),
        format!("c\r\n{BODY}\r\n-0\r\n\r\n"),
        format!("c\r\n{BODY}\r\n0x0\r\n\r\n"),
        format!("c\r\n{BODY}\r\n0 \r\n\r\n"),
        format!("c\r\n{BODY}\r\n0;\r\n\r\n"),
        format!("c;x\n{BODY}\r\n0\r\n\r\n"),
        format!("c;x\r{BODY}\r\n0\r\n\r\n"),
        format!("c;{}\r\n{BODY}\r\n0\r\n\r\n", "x".repeat(1_100)),
        format!("c\r\n{BODY}\r\n000000000\r\n\r\n"),
        format!("c\r\n{BODY}\r\n\r\n0\r\n\r\n"),
    ] {
        shapes.push(Shape::new(chunks(&body), MALFORMED));
    }
    for size in ["ffffffff", "10001", "FFFFFFF4", "10001;x"] {
        shapes.push(Shape::new(chunks(&format!("{size}\r\n{BODY}\r\n0\r\n\r\n")), TOO_LARGE));
    }
    let extended = BODY.chars().map(|byte| format!("1;{}\r\n{byte}\r\n", "x".repeat(500))).collect::<String>();
    shapes.push(Shape::new(chunks(&format!("{extended}0\r\n\r\n")), TOO_LARGE));
    expect_all_refused("chunks", &shapes);
}

/// RFC 9112, section 7.1.1: a recipient ignores chunk extensions that it does not know.
#[test]
fn well_formed_chunk_extensions_are_ignored_and_the_next_request_is_framed_by_its_own_head() {
    let server = Server::start();
    let mut client = server.client();
    let all = [";x", ";x=y", " ; x = y", ";x=\"\"", ";x=\"; \\\"0\"", ";a;b=c;d", ";x=\"\u{fc}\""];
    for extensions in all {
        let body = format!("5{extensions}\r\n{{\"amo\r\n7\r\nunt\":1}}\r\n0{extensions}\r\n\r\n");
        client.write([&chunks(&body), SMUGGLED].concat());
        for _ in 0..2 {
            assert_eq!(client.reply().text(), "{\"ok\":true}", "{extensions}");
        }
    }
    assert_eq!(server.total("A1"), 3 + 2 * all.len() as i64);
}

#[test]
fn malformed_trailers_are_refused() {
    let mut shapes = Vec::new();
    for trailers in [
        "no colon\r\n",
        "GET / HTTP/1.1\r\n",
        ": y\r\n",
        "X : y\r\n",
        "X\t: y\r\n",
        " X: y\r\n",
        "X Y: z\r\n",
        "X: y\r\n folded\r\n",
        "X: y\r\n\tfolded\r\n",
        "X: a\0b\r\n",
        "X: a\u{1}b\r\n",
        "X: a\u{7f}b\r\n",
        "X\0: y\r\n",
        "X: a\rb\r\n",
        "X: a\r\r\n",
        "X: y\n",
        "X: y\r\nY: z\n",
        "\rX: y\r\n",
    ] {
        shapes.push(Shape::new(chunks(&format!("c\r\n{BODY}\r\n0\r\n{trailers}\r\n")), MALFORMED));
    }
    let many = "X: y\r\n".repeat(100);
    let long = format!("X: {}\r\n", "y".repeat(2_000));
    for trailers in [many, long] {
        shapes.push(Shape::new(chunks(&format!("c\r\n{BODY}\r\n0\r\n{trailers}\r\n")), &[400, 431]));
    }
    expect_all_refused("trailers", &shapes);
}

/// RFC 9110, section 6.5.1: framing headers in trailers are ignored.
#[test]
fn a_trailer_that_speaks_of_framing_is_refused_or_changes_nothing() {
    for trailer in [
        "Content-Length: 5",
        "Content-Length: 100",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Host: elsewhere",
        "Connection: close",
        "Expect: 100-continue",
        "Content-Type: text/plain",
        "Upgrade: websocket",
    ] {
        let server = Server::start();
        let mut client = server.client();
        client.write([&chunks(&format!("c\r\n{BODY}\r\n0\r\n{trailer}\r\n\r\n")), SMUGGLED].concat());
        let reply = client.reply();
        let counted = if reply.status == 400 {
            client.expect_close_after(&reply);
            0
        } else {
            assert_eq!(reply.text(), "{\"ok\":true}", "{trailer}");
            // The next request is framed by its own head.
            assert_eq!(client.reply().text(), "{\"ok\":true}", "{trailer}");
            2
        };
        assert_eq!(server.total("A1"), 3 + counted, "{trailer}");
    }
}
