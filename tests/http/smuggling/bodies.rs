//! Framing headers for which two parsers could find different ends of the body.

use super::{Shape, expect_all_refused};

const BODY: &str = "{\"amount\":1}";
const CHUNKED_BODY: &str = "c\r\n{\"amount\":1}\r\n0\r\n\r\n";
const MALFORMED: &[u16] = &[400];
const TOO_LARGE: &[u16] = &[413];
/// An invalid transfer coding is malformed, an unsupported one is not implemented.
const NO_CODING: &[u16] = &[400, 501];

fn order(version: &str, framing: &str, body: &str) -> String {
    format!("POST /orders/A1 {version}\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n{body}")
}

#[test]
fn a_request_with_both_framings_is_refused() {
    let mut shapes = Vec::new();
    for (length, encoding) in [
        ("Content-Length: 12", "Transfer-Encoding: chunked"),
        ("Content-Length: 0", "Transfer-Encoding: chunked"),
        ("Content-Length: 22", "Transfer-Encoding: chunked"),
        ("content-length: 12", "TRANSFER-ENCODING: chunked"),
        ("Content-Length: 12", "Transfer-Encoding: identity"),
        ("Content-Length: 12", "Transfer-Encoding: gzip"),
        ("Content-Length: 12", "Transfer-Encoding: "),
        ("Content-Length: 12", "X: y\r\nTransfer-Encoding: chunked\r\nY: z"),
    ] {
        for framing in [format!("{length}\r\n{encoding}"), format!("{encoding}\r\n{length}")] {
            for body in [BODY, CHUNKED_BODY, "0\r\n\r\n"] {
                shapes.push(Shape::new(order("HTTP/1.1", &framing, body), MALFORMED));
                shapes.push(Shape::new(order("HTTP/1.0", &framing, body), MALFORMED));
            }
            let get = format!("GET /categories HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
            shapes.push(Shape::new(get, MALFORMED));
        }
    }
    expect_all_refused("both framings", &shapes);
}

#[test]
fn a_length_that_is_not_one_plain_number_is_refused() {
    let mut shapes = Vec::new();
    for lengths in [
        "12\r\nContent-Length: 12",
        "12\r\nContent-Length: 13",
        "12\r\ncontent-length: 0",
        "0\r\nContent-Length: 12\r\nContent-Length: 12",
        "12\r\nContent-Length: ",
        "\r\nContent-Length: 12",
        "12\r\nX: y\r\nCONTENT-LENGTH: 11",
        "+12",
        "-12",
        "-0",
        "0x0c",
        "0Xc",
        "c",
        "1e1",
        "12.0",
        "1_2",
        "1'2",
        "0b1100",
        "12, 12",
        "12,12",
        "12, 13",
        ",12",
        "12,",
        "",
        " ",
        "1 2",
        "12 12",
        "1\t2",
        "- 12",
        "12;",
        "12;q=1",
        "\"12\"",
        "(12)",
        "12#",
        "12\u{b}",
        "\u{b}12",
        "12\u{c}",
        "12\0",
        "１２",
        "twelve",
        "NaN",
    ] {
        shapes.push(Shape::new(order("HTTP/1.1", &format!("Content-Length: {lengths}"), BODY), MALFORMED));
        shapes.push(Shape::new(order("HTTP/1.0", &format!("Content-Length: {lengths}"), BODY), MALFORMED));
    }
    // Each of these is 12 to a parser whose numbers wrap around at 32, 63, 64 or 128 bits, or is a limit of such
    // numbers.
    for length in [
        "4294967308",
        "2147483660",
        "9223372036854775820",
        "18446744073709551628",
        "18446744073709551615",
        "340282366920938463463374607431768211468",
        "65537",
    ] {
        shapes.push(Shape::new(order("HTTP/1.1", &format!("Content-Length: {length}"), BODY), TOO_LARGE));
    }
    let endless = "9".repeat(4_000);
    shapes.push(Shape::new(order("HTTP/1.1", &format!("Content-Length: {endless}"), BODY), TOO_LARGE));
    expect_all_refused("lengths", &shapes);
}

#[test]
fn an_encoding_that_is_not_plain_chunked_is_refused() {
    let mut shapes = Vec::new();
    for encoding in [
        "gzip",
        "deflate",
        "compress",
        "identity",
        "chunked, gzip",
        "gzip, chunked",
        "gzip,chunked",
        "identity, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "xchunked",
        "chunkedx",
        "x-chunked",
        "chunk",
        "chunk ed",
        "\"chunked\"",
        "'chunked'",
        "[chunked]",
        "chunked;",
        "chunked;q=1",
        "chunked chunked",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\u{c}",
        "chunked\0",
        "\0chunked",
        "\u{85}chunked",
        "\u{a0}chunked",
        "ｃｈｕｎｋｅｄ",
        "",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
        "chunked\r\ntransfer-encoding: gzip",
        "\r\nTransfer-Encoding: chunked",
        "\r\n chunked",
        "\r\n\tchunked",
        "chunked\r\n , gzip",
    ] {
        let framing = format!("Transfer-Encoding: {encoding}");
        shapes.push(Shape::new(order("HTTP/1.1", &framing, CHUNKED_BODY), NO_CODING));
        shapes.push(Shape::new(order("HTTP/1.1", &framing, BODY), NO_CODING));
    }
    for name in [
        "Transfer-Encoding ",
        "Transfer-Encoding\t",
        " Transfer-Encoding",
        "\tTransfer-Encoding",
        "Transfer-Encoding\0",
        "Transfer-Encoding\u{b}",
        "Transfer Encoding",
        "Transfer-Encoding\r\n",
        "X: y\rTransfer-Encoding",
        "X: y\nTransfer-Encoding",
        "Transfer-\r\n Encoding",
    ] {
        shapes.push(Shape::new(order("HTTP/1.1", &format!("{name}: chunked"), CHUNKED_BODY), NO_CODING));
    }
    // HTTP/1.0 has no transfer codings: an HTTP/1.0 proxy would see no body.
    shapes.push(Shape::new(order("HTTP/1.0", "Transfer-Encoding: chunked", CHUNKED_BODY), MALFORMED));
    let kept = "Connection: keep-alive\r\nTransfer-Encoding: chunked";
    shapes.push(Shape::new(order("HTTP/1.0", kept, CHUNKED_BODY), MALFORMED));
    expect_all_refused("encodings", &shapes);
}

/// A tab is white space in RFC 9110, section 5.6.3, and part of the value to some servers: this server rejects it.
#[test]
fn a_tab_around_the_value_of_a_framing_line_is_refused() {
    let mut shapes = Vec::new();
    for encoding in ["\tchunked", " \tchunked", "chunked\t", "\tchunked\t "] {
        shapes.push(Shape::new(order("HTTP/1.1", &format!("Transfer-Encoding:{encoding}"), CHUNKED_BODY), NO_CODING));
    }
    for length in ["\t12", " \t12", "12\t", "\t12\t "] {
        shapes.push(Shape::new(order("HTTP/1.1", &format!("Content-Length:{length}"), BODY), MALFORMED));
    }
    expect_all_refused("tabs", &shapes);
}
